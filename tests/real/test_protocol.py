"""Whole conversations, byte by byte: what PostgreSQL answers directly must come through the proxy unchanged.

Each scenario runs once directly and several times through the target beside noise. Transcripts are compared message
by message, bodies decoded; only process ids and cancel keys are left out.
"""

from __future__ import annotations

import threading

import pytest
from pgwire import build as b
from pgwire.client import Wire
from pgwire.decode import Message
from postgres import Cluster
from scenarios import Scenario, assert_same, record
from target import Endpoint

SCENARIOS: list[Scenario] = []
REPEATS = 3

INT4PL, INT4DIV, UPPER = 177, 154, 871  # pg_proc


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def ready(wire: Wire, times: int = 1) -> None:
    for _ in range(times):
        wire.until("Z")


def batch(sql: str, *values: str | None) -> bytes:
    """A complete extended-protocol statement."""
    return b.parse(sql) + b.bind(values) + b.describe_portal() + b.execute() + b.sync()


# ------------------------------------------------------------------ simple queries


@scenario
def simple_queries(wire: Wire) -> None:
    wire.ask("SELECT 1 AS one, 'two' AS two, NULL::int AS three")
    wire.ask("")
    wire.ask(" ;; ")
    wire.ask("SELECT 1; SELECT 2, 3; SELECT FROM items")
    wire.ask("SELECT 1; SELECT 1/0; SELECT 2")
    wire.ask("SELEKT 1")
    wire.ask("INSERT INTO items VALUES (1, 'one'), (2, 'two'); UPDATE items SET name = 'x'; DELETE FROM items")
    wire.ask("SELECT * FROM no_such_table")


@scenario
def several_simple_queries_at_once(wire: Wire) -> None:
    wire.send(*(b.query(f"SELECT {n}" if n % 5 else "SELECT 1/0") for n in range(30)))
    ready(wire, 30)


@scenario
def transactions(wire: Wire) -> None:
    wire.ask("BEGIN")
    wire.ask("INSERT INTO items VALUES (1, 'a')")
    wire.ask("SAVEPOINT s")
    wire.ask("INSERT INTO items VALUES (1, 'a')")
    wire.ask("SELECT 1")
    wire.ask("ROLLBACK TO s")
    wire.ask("SELECT count(*) FROM items")
    wire.ask("COMMIT")
    wire.ask("COMMIT")
    wire.ask("BEGIN; SELECT 1/0")
    wire.ask("SELECT 1")
    wire.ask("COMMIT")
    wire.ask("BEGIN; INSERT INTO items VALUES (2, 'b'); COMMIT; SELECT * FROM items; BEGIN")
    wire.ask("ROLLBACK AND CHAIN")
    wire.ask("SELECT 1")
    wire.ask("ROLLBACK")


@scenario
def notices(wire: Wire) -> None:
    wire.ask("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01007'; END $$")
    wire.ask("BEGIN; BEGIN; ROLLBACK; ROLLBACK")
    wire.send(batch("DROP TABLE IF EXISTS never_there"), batch("SELECT 1"))
    ready(wire, 2)


@scenario
def cursors_and_prepared_statements_of_sql(wire: Wire) -> None:
    wire.ask("BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 5)")
    wire.ask("FETCH 2 FROM c; MOVE 1 FROM c")
    wire.ask("FETCH ALL FROM c")
    wire.ask("PREPARE p(int) AS SELECT $1 * 2; EXECUTE p(21); DEALLOCATE p")
    wire.ask("EXECUTE p(1)")
    wire.ask("ROLLBACK")


@scenario
def parameters_follow_the_client(wire: Wire) -> None:
    wire.ask("SET application_name TO 'first'")
    wire.ask("SET DateStyle TO 'German'")
    wire.ask("SELECT current_setting('application_name'), '2020-02-01'::date")
    wire.ask("BEGIN; SET TimeZone TO 'Asia/Tokyo'; SET application_name TO 'second'")
    wire.ask("SHOW TimeZone")
    wire.ask("ROLLBACK")
    wire.ask("SHOW TimeZone; SHOW application_name")
    wire.ask("BEGIN; SET LOCAL IntervalStyle TO 'iso_8601'; SELECT '1 day'::interval; COMMIT; SELECT '1 day'::interval")
    wire.send(batch("SET application_name TO 'third'"), batch("SELECT current_setting('application_name')"))
    ready(wire, 2)
    wire.ask("SET client_encoding TO 'LATIN1'")
    wire.send(b.query(b"SELECT '\xe9', length('\xe9')"))
    ready(wire)
    wire.ask("RESET client_encoding; RESET DateStyle")
    wire.ask("SELECT current_setting('application_name'), '2020-02-01'::date")


# ------------------------------------------------------------------ extended queries


@scenario
def extended_queries(wire: Wire) -> None:
    wire.send(batch("SELECT $1::int + 1 AS n, $2::text", "41", None))
    ready(wire)
    wire.send(b.parse("SELECT $1, $2::numeric", types=(23,)), b.describe_statement(), b.sync())
    ready(wire)
    wire.send(b.bind((b"\0\0\0\x07", "1.5"), formats=(1, 0), results=(1, 0)), b.describe_portal(), b.execute(), b.sync())
    ready(wire)
    wire.send(batch(""))
    ready(wire)
    wire.send(batch("INSERT INTO items VALUES ($1, $2)", "1", "one"), batch("SELECT * FROM items"))
    ready(wire, 2)
    wire.send(b.sync(), b.sync(), b.sync())
    ready(wire, 3)


@scenario
def many_syncs_in_flight(wire: Wire) -> None:
    for n in range(100):
        wire.send(batch("SELECT 10 / $1::int, repeat('x', $2::int)", str(n % 7), str(n)))
    ready(wire, 100)


@scenario
def one_batch_with_many_statements(wire: Wire) -> None:
    for n in range(100):
        wire.send(b.parse("INSERT INTO items VALUES ($1, $2)"), b.bind((str(n), f"name {n}")), b.execute())
    wire.send(b.parse("SELECT count(*) FROM items"), b.bind(), b.execute(), b.sync())
    ready(wire)


@scenario
def an_error_skips_to_sync(wire: Wire) -> None:
    wire.send(b.parse("SELEKT"), b.bind(), b.execute(), b.query("SELECT 'skipped'"), b.parse("SELECT 1", "skipped"), b.sync())
    ready(wire)
    wire.send(b.bind((), "skipped"), b.execute(), b.sync())
    ready(wire)
    wire.send(b.parse("SELECT 2", "skipped"), b.sync(), b.bind((), "skipped"), b.execute(), b.sync())
    ready(wire, 2)
    wire.send(b.parse("SELECT 1"), b.bind(), b.execute(), b.parse("SELECT 1/0"), b.bind(), b.execute(), b.describe_portal(), b.sync())
    wire.send(batch("SELECT 'after'"))
    ready(wire, 2)
    wire.send(b.bind(("1",), "never parsed"), b.execute(), b.close_statement("never parsed"), b.sync(), batch("SELECT 3"))
    ready(wire, 2)


@scenario
def a_batch_is_a_transaction(wire: Wire) -> None:
    insert = b.parse("INSERT INTO items VALUES ($1, 'x')", "insert")
    one = b.bind(("1",), "insert") + b.execute()
    wire.send(insert, one, one, b.sync(), batch("SELECT count(*) FROM items"))
    ready(wire, 2)
    wire.send(insert, b.sync())
    ready(wire)
    wire.send(one, b.sync(), batch("SELECT count(*) FROM items"))
    ready(wire, 2)


@scenario
def flush(wire: Wire) -> None:
    wire.send(b.parse("SELECT generate_series(1, $1::int)", "flushed"), b.describe_statement("flushed"), b.flush())
    wire.until("T")
    wire.send(b.bind(("3",), "flushed"), b.execute(), b.flush())
    wire.until("C")
    wire.send(b.bind(("x",), "flushed"), b.execute(), b.flush())
    wire.until("E")
    wire.send(b.bind(("1",), "flushed"), b.execute(), b.flush(), b.sync())
    ready(wire)
    wire.send(b.flush(), b.flush(), batch("SELECT 1"), b.flush())
    ready(wire)


@scenario
def describe_in_mid_pipeline(wire: Wire) -> None:
    for n in range(10):
        wire.send(b.parse(f"SELECT $1::int4 AS a{n}, $2::date", f"d{n}"), b.describe_statement(f"d{n}"))
        wire.send(b.bind(("1", "2020-01-01"), f"d{n}"), b.describe_portal(), b.execute(), b.describe_statement(f"d{n}"))
    wire.send(b.describe_statement("nothing"), b.execute(), b.sync())
    wire.send(b.parse("INSERT INTO items VALUES (1, '')"), b.describe_statement(), b.bind(), b.describe_portal(), b.sync())
    wire.send(b.describe_portal("nothing"), b.sync())
    ready(wire, 3)


@scenario
def simple_between_extended(wire: Wire) -> None:
    wire.send(b.parse("SELECT 1", "kept"), b.bind((), "kept"), b.execute(), b.query("SELECT 'simple'"), b.bind((), "kept"), b.execute(), b.sync())
    ready(wire, 2)
    wire.send(batch("SELECT 1"), b.query("SELECT 2"), batch("SELECT 3"), b.query("SELECT 1/0"), batch("SELECT 4"))
    ready(wire, 5)


@scenario
def the_unnamed_statement(wire: Wire) -> None:
    wire.send(b.parse("SELECT 'unnamed ' || $1"), b.sync())
    ready(wire)
    for word in ("a", "b"):
        wire.send(b.bind((word,)), b.execute(), b.sync())
        ready(wire)
    wire.send(b.describe_statement(), b.sync())
    ready(wire)
    wire.ask("SELECT 'a simple query drops it'")
    wire.send(b.bind(("c",)), b.execute(), b.sync())
    ready(wire)
    wire.send(b.parse("SELECT 'new'"), b.parse("SELEKT"), b.sync(), b.bind(), b.execute(), b.sync())
    ready(wire, 2)


@scenario
def named_statements(wire: Wire) -> None:
    wire.send(b.parse("SELECT $1::int * 2", "twice"), b.parse("SELECT $1::int * 3", "thrice"), b.sync())
    ready(wire)
    for n in range(5):
        wire.send(b.bind((str(n),), "twice"), b.execute(), b.sync(), b.bind((str(n),), "thrice"), b.execute(), b.sync())
    ready(wire, 10)
    wire.send(b.parse("SELECT 'again'", "twice"), b.sync())
    ready(wire)
    wire.send(b.close_statement("twice"), b.close_statement("twice"), b.close_statement("never"), b.sync())
    ready(wire)
    wire.send(b.bind(("1",), "twice"), b.execute(), b.sync())
    ready(wire)
    wire.send(b.parse("SELECT 'other text'", "twice"), b.bind((), "twice"), b.execute(), b.sync())
    ready(wire)
    wire.send(b.parse("SELECT $1::no_such_type", "broken"), b.sync(), b.parse("SELECT 'mended'", "broken"), b.bind((), "broken"), b.execute(), b.sync())
    ready(wire, 2)


@scenario
def a_statement_closed_and_parsed_in_one_batch(wire: Wire) -> None:
    for n in range(5):
        wire.send(b.parse(f"SELECT {n}", "s"), b.bind((), "s"), b.execute(), b.close_statement("s"))
    wire.send(b.sync())
    ready(wire)
    wire.send(b.parse("SELECT 1", "s"), b.sync(), b.parse("SELEKT"), b.close_statement("s"), b.sync())
    ready(wire, 2)
    wire.send(b.bind((), "s"), b.execute(), b.sync())  # the Close was skipped
    ready(wire)


@scenario
def portals_with_row_limits(wire: Wire) -> None:
    wire.send(b.query("BEGIN"), b.parse("SELECT generate_series(1, $1::int)", "series"), b.sync())
    ready(wire, 2)
    wire.send(b.bind(("5",), "series", "p1"), b.bind(("3",), "series", "p2"), b.sync())
    ready(wire)
    for portal in ("p1", "p2", "p1", "p2", "p1", "p1"):
        wire.send(b.execute(portal, 2), b.sync())
        ready(wire)
    wire.send(b.close_portal("p1"), b.execute("p2", 1), b.execute("p1", 1), b.sync())
    ready(wire)
    wire.ask("ROLLBACK")
    wire.send(b.bind(("5",), "series", "p3"), b.execute("p3", 2), b.execute("p3", 2), b.sync(), b.execute("p3", 2), b.sync())
    ready(wire, 2)
    wire.send(b.bind(("4",), "series"), b.execute("", 4), b.sync(), b.bind(("4",), "series"), b.execute("", 5), b.sync())
    ready(wire, 2)


@scenario
def transactions_by_extended_protocol(wire: Wire) -> None:
    wire.send(batch("BEGIN"), batch("INSERT INTO items VALUES (1, 'x')"), batch("SELECT 1/0"), batch("SELECT 1"), batch("ROLLBACK"))
    ready(wire, 5)
    wire.send(batch("BEGIN"), batch("INSERT INTO items VALUES (2, 'y')"), batch("COMMIT"), batch("SELECT * FROM items"))
    ready(wire, 4)
    wire.send(b.parse("BEGIN"), b.bind(), b.execute(), b.parse("SELECT 1"), b.bind(), b.execute(), b.parse("COMMIT"), b.bind(), b.execute(), b.sync())
    ready(wire)


# ------------------------------------------------------------------ COPY

ROWS = [f"{n}\tname {n}\n".encode() for n in range(1000)]
BAD = b"not a number\tx\n"


@scenario
def copy_in(wire: Wire) -> None:
    wire.send(b.query("COPY items FROM STDIN"))
    wire.until("G")
    wire.send(*(b.copy_data(row) for row in ROWS), b.copy_done())
    ready(wire)
    wire.send(b.query("COPY items FROM STDIN"), b.copy_data(b"5000\ta\n5001"), b.copy_data(b"\tb\n"), b.copy_done(), b.query("SELECT count(*) FROM items"))
    ready(wire, 2)
    wire.send(b.query("COPY items FROM STDIN"), b.copy_fail("changed my mind"), b.query("SELECT 1"))
    ready(wire, 2)
    wire.send(b.query("COPY items FROM STDIN"), b.copy_done())
    ready(wire)


@scenario
def copy_in_that_fails(wire: Wire) -> None:
    wire.send(b.query("COPY items FROM STDIN"), b.copy_data(BAD), *(b.copy_data(row) for row in ROWS), b.copy_done())
    ready(wire)
    wire.send(b.query("COPY no_such_table FROM STDIN"), *(b.copy_data(row) for row in ROWS), b.copy_done(), b.query("SELECT 1"))
    ready(wire, 2)
    wire.send(b.query("COPY items FROM STDIN"), b.copy_data(BAD), b.copy_fail("anyway"), b.query("SELECT count(*) FROM items"))
    ready(wire, 2)


@scenario
def a_message_that_ends_the_session_during_copy(wire: Wire) -> None:
    wire.send(b.query("COPY items FROM STDIN"), b.parse("SELECT 1"), b.sync(), b.query("SELECT 2"))
    wire.until_closed()


@scenario
def copy_within_several_statements(wire: Wire) -> None:
    wire.send(b.query("SELECT 1; COPY items FROM STDIN; SELECT count(*) FROM items; COPY items TO STDOUT"))
    wire.until("G")
    wire.send(b.copy_data(b"1\ta\n2\tb\n"), b.copy_done())
    ready(wire)
    wire.send(b.query("BEGIN"), b.query("COPY items FROM STDIN"), b.copy_data(b"3\tc\n"), b.copy_done(), b.query("COPY items TO STDOUT"), b.query("ROLLBACK"))
    ready(wire, 4)


@scenario
def copy_out(wire: Wire) -> None:
    wire.ask("COPY (SELECT generate_series(1, 1000)) TO STDOUT")
    wire.ask("COPY (SELECT 1, 'a') TO STDOUT (FORMAT binary)")
    wire.ask("COPY (SELECT 1 / (3 - n) FROM generate_series(1, 5) n) TO STDOUT")
    wire.ask("COPY (SELECT repeat('x', 100000) FROM generate_series(1, 20)) TO STDOUT")
    wire.send(batch("COPY (SELECT 1) TO STDOUT"), batch("SELECT 2"), batch("COPY (SELECT 1/0) TO STDOUT"), batch("SELECT 3"))
    ready(wire, 4)


@scenario
def extended_copy_in(wire: Wire) -> None:
    begin = b.parse("COPY items FROM STDIN") + b.bind() + b.execute()
    rows = b"".join(b.copy_data(row) for row in ROWS)
    # All at once.
    wire.send(begin, rows, b.copy_done(), b.sync())
    ready(wire)
    # libpq's way: a Sync right behind the Execute, which COPY ignores, and another at the end.
    wire.ask("TRUNCATE items")
    wire.send(begin, b.sync())
    wire.until("G")
    wire.send(rows, b.copy_done(), b.sync())
    ready(wire)
    # Flush and wait.
    wire.send(b.parse("COPY items FROM STDIN", "c"), b.describe_statement("c"), b.bind((), "c"), b.describe_portal(), b.execute(), b.flush())
    wire.until("G")
    wire.send(b.copy_data(b"9001\tx\n"), b.flush(), b.sync(), b.copy_data(b"9002\ty\n"), b.copy_done(), b.sync())
    ready(wire)
    # Statements before and behind, in one batch.
    wire.send(b.parse("SELECT 1"), b.bind(), b.execute(), begin, b.copy_data(b"9003\tz\n"), b.copy_done())
    wire.send(b.parse("SELECT count(*) FROM items"), b.bind(), b.execute(), b.sync())
    ready(wire)


@scenario
def extended_copy_in_that_fails(wire: Wire) -> None:
    begin = b.parse("COPY items FROM STDIN") + b.bind() + b.execute()
    rows = b"".join(b.copy_data(row) for row in ROWS)
    after = batch("SELECT count(*) FROM items")
    wire.send(begin, b.copy_data(BAD), rows, b.copy_done(), b.sync(), after)
    ready(wire, 2)
    wire.send(begin, rows, b.copy_fail("no"), b.sync(), after)
    ready(wire, 2)
    wire.send(b.parse("COPY no_such_table FROM STDIN"), b.bind(), b.execute(), rows, b.copy_done(), b.sync(), after)
    ready(wire, 2)
    wire.send(b.parse("COPY items FROM"), b.bind(), b.execute(), rows, b.copy_done(), b.sync(), after)
    ready(wire, 2)
    # The Sync that COPY swallows, then an error while data still comes.
    wire.send(begin, b.sync())
    wire.until("G")
    wire.send(b.copy_data(BAD), rows, b.copy_done(), b.sync(), after)
    ready(wire, 2)
    # In a transaction.
    wire.send(b.query("BEGIN"), begin, b.copy_data(BAD), b.copy_done(), b.sync(), b.query("SELECT 1"), b.query("ROLLBACK"), after)
    ready(wire, 5)


# ------------------------------------------------------------------ the rest


@scenario
def function_calls(wire: Wire) -> None:
    wire.send(b.function_call(INT4PL, (b"\0\0\0\x02", b"\0\0\0\x03")))
    ready(wire)
    wire.send(b.function_call(INT4DIV, (b"\0\0\0\x02", b"\0\0\0\0")))
    ready(wire)
    wire.send(b.function_call(UPPER, (b"abc",), arguments_format=0, result_format=0), b.function_call(UPPER, (None,)), b.function_call(99999, ()))
    ready(wire, 3)
    wire.ask("BEGIN")
    wire.send(b.function_call(INT4PL, (b"\0\0\0\x02", b"\0\0\0\x03")))
    ready(wire)
    wire.ask("ROLLBACK")


@scenario
def large_messages(wire: Wire) -> None:
    wire.ask(f"SELECT length('{'q' * 3_000_000}')")
    wire.ask("SELECT repeat('r', 5_000_000) FROM generate_series(1, 3)".replace("_", ""))
    wire.send(batch("SELECT length($1), $1", "p" * 2_000_000))
    ready(wire)
    wire.send(batch(f"SELECT 1 /* {'c' * 1_000_000} */"))
    ready(wire)
    wire.send(batch("SELECT " + ", ".join(f"${n}::text" for n in range(1, 1001)), *(str(n) for n in range(1000))))
    ready(wire)
    wire.ask("SELECT " + ", ".join(f"{n} AS c{n}" for n in range(1600)))
    wire.ask("DO $$ BEGIN RAISE NOTICE '%', repeat('n', 1000000); RAISE EXCEPTION '%', repeat('e', 1000000); END $$")
    wire.send(b.query("COPY items FROM STDIN"), b.copy_data(b"1\t" + b"d" * 3_000_000 + b"\n"), b.copy_done())
    ready(wire)
    wire.ask("COPY items TO STDOUT")


@scenario
def one_byte_at_a_time(wire: Wire) -> None:
    data = batch("SELECT $1::int", "1") + b.query("SELECT 2") + b.query("COPY items FROM STDIN") + b.copy_data(b"1\ta\n") + b.copy_done()
    for at in range(len(data)):
        wire.send(data[at : at + 1])
    ready(wire, 3)


@scenario
def one_message_per_segment(wire: Wire) -> None:
    for part in (b.parse("SELECT $1::int", "seg"), b.bind(("1",), "seg"), b.execute(), b.sync()):
        wire.send(part)
    ready(wire)


@scenario
def much_sent_before_anything_is_read(wire: Wire) -> None:
    sender = threading.Thread(
        target=lambda: [wire.send(batch("SELECT $1::int, repeat('y', 20000)", str(n)), b.query(f"SELECT {n}")) for n in range(500)]
    )
    sender.start()
    ready(wire, 1000)
    sender.join()


# ------------------------------------------------------------------ running them


@pytest.fixture(scope="module", autouse=True)
def items(cluster: Cluster) -> None:
    cluster.sql("CREATE TABLE items (id int PRIMARY KEY, name text)", "ALTER TABLE items OWNER TO app", database="app")


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_transcript(run: Scenario, cluster: Cluster, endpoint: Endpoint, noise: object) -> None:
    direct = Endpoint(endpoint.host, cluster.port)

    def play(at: Endpoint) -> list[tuple]:
        cluster.sql("TRUNCATE items", database="app")
        return record(lambda: at.connect(timeout=60), run)

    wanted = play(direct)
    for _ in range(REPEATS):
        assert_same(wanted, play(endpoint))


def test_servers_change_under_the_tests(endpoint: Endpoint, noise: object) -> None:
    """What the scenarios rest on: with the noise there, one client meets several servers."""
    with endpoint.connect() as wire:
        pids = {wire.value("SELECT pg_backend_pid()") for _ in range(200)}
    assert len(pids) == 1 if endpoint.is_direct else len(pids) > 1


def login(endpoint: Endpoint, **parameters: str) -> tuple[dict[str, str], list[Message]]:
    wire = Wire.dial(endpoint.address)
    wire.send(b.startup({"user": "app", "database": "app", **parameters}))
    wire.log_in("app", "secret")
    messages = wire.until_ready()
    wire.close()
    return wire.parameters, messages


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"application_name": "an app", "client_encoding": "UTF8"},
        {"options": "-c DateStyle=German -c application_name=by_options"},
        {"TimeZone": "Europe/Berlin", "DateStyle": "SQL"},
    ],
    ids=["none", "names", "options", "settings"],
)
def test_login(parameters: dict[str, str], cluster: Cluster, endpoint: Endpoint) -> None:
    wanted, _ = login(Endpoint(endpoint.host, cluster.port), **parameters)
    found, messages = login(endpoint, **parameters)
    assert found == wanted
    assert [m.kind for m in messages if m.kind not in "S"] == ["K", "Z"]


@pytest.mark.parametrize("parameters", [{"work_mem": "1234kB"}, {"options": "-c work_mem=1234kB"}, {"search_path": "pg_catalog"}], ids=str)
def test_startup_parameters_that_are_not_reported(parameters: dict[str, str], endpoint: Endpoint, noise: object) -> None:
    with endpoint.connect(**parameters) as wire:
        name = "search_path" if "search_path" in parameters else "work_mem"
        for _ in range(20):
            assert wire.value(f"SHOW {name}") == ("pg_catalog" if name == "search_path" else "1234kB")


@pytest.mark.parametrize("parameters", [{"no_such_parameter": "x"}, {"options": "-c no_such_parameter=x"}, {"options": "--nonsense"}], ids=str)
def test_startup_parameters_that_do_not_exist(parameters: dict[str, str], cluster: Cluster, endpoint: Endpoint) -> None:
    """As PostgreSQL treats them: a FATAL with the same SQLSTATE."""

    def outcome(of: Endpoint) -> tuple[str, str]:
        wire = Wire.dial(of.address)
        wire.send(b.startup({"user": "app", "database": "app", **parameters}))
        try:
            wire.log_in("app", "secret")
            wire.until_ready()
        except Exception as error:
            return getattr(error, "severity", repr(error)), getattr(error, "sqlstate", "")
        finally:
            wire.socket.close()
        return "ready", ""

    assert outcome(endpoint) == outcome(Endpoint(endpoint.host, cluster.port))


def test_newer_minor_version_and_unknown_protocol_options_are_negotiated(endpoint: Endpoint) -> None:
    wire = Wire.dial(endpoint.address)
    wire.send(b.startup({"user": "app", "database": "app", "_pq_.no_such_option": "1"}, protocol=0x0003_0009))
    first = wire.receive()
    assert first.kind == "v"
    assert first.body[8:] == b"_pq_.no_such_option\0"
    wire.log_in("app", "secret")
    wire.until_ready()
    assert wire.value("SELECT 1") == "1"
    wire.close()


@pytest.mark.parametrize("request_name", ["ssl", "gss"])
def test_encryption_requests_are_declined_and_the_login_goes_on(request_name: str, endpoint: Endpoint) -> None:
    if request_name == "gss" and endpoint.is_direct:
        pytest.skip("PostgreSQL may have GSSAPI")
    wire = Wire.dial(endpoint.address)
    wire.send(b.ssl_request() if request_name == "ssl" else b.gss_request())
    assert wire.receive_byte() == b"N"
    wire.send(b.startup({"user": "app", "database": "app"}))
    wire.log_in("app", "secret")
    wire.until_ready()
    assert wire.value("SELECT 1") == "1"
    wire.close()
