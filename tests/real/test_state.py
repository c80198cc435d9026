"""Session state in transaction mode: what PostgreSQL does with one connection per client, message by message.

The table in README.md names these scenarios.
"""

from __future__ import annotations

import pytest
from pgwire import build as b
from pgwire.client import Wire, errors_of
from postgres import Cluster
from scenarios import Scenario, assert_same, record
from target import Endpoint

SCENARIOS: list[Scenario] = []
REPEATS = 3


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def batch(sql: str, *values: str | None) -> bytes:
    """A complete extended-protocol statement."""
    return b.parse(sql) + b.bind(values) + b.describe_portal() + b.execute() + b.sync()


def both(wire: Wire, *statements: str) -> None:
    """Each statement as a simple query, then all of them as one pipeline."""
    for sql in statements:
        wire.ask(sql)
    wire.send(*(batch(sql) for sql in statements))
    for _ in statements:
        wire.until("Z")


# ------------------------------------------------------------------ parameters


@scenario
def set_and_reset(wire: Wire) -> None:
    both(
        wire,
        "SET work_mem = '1234kB'",
        "SHOW work_mem",
        "SET statement_timeout TO 54321; SET lock_timeout = '7min'",
        "SHOW statement_timeout",
        "SHOW lock_timeout",
        "SELECT current_setting('work_mem')",
        "RESET work_mem",
        "SHOW work_mem",
        "SET lock_timeout TO DEFAULT",
        "SHOW lock_timeout",
        "SET search_path = pg_catalog, \"$user\", public",
        "SHOW search_path",
        "RESET ALL",
        "SHOW search_path",
        "SHOW statement_timeout",
    )


@scenario
def settings_in_transactions(wire: Wire) -> None:
    both(
        wire,
        "BEGIN",
        "SET work_mem = '2MB'",
        "SAVEPOINT s",
        "SET work_mem = '3MB'",
        "SHOW work_mem",
        "ROLLBACK TO s",
        "SHOW work_mem",
        "COMMIT",
        "SHOW work_mem",
        "BEGIN",
        "SET work_mem = '4MB'",
        "ROLLBACK",
        "SHOW work_mem",
        "BEGIN; SET LOCAL work_mem = '5MB'; SHOW work_mem; COMMIT; SHOW work_mem",
        "BEGIN",
        "SET LOCAL work_mem = '6MB'",
        "SET work_mem = '7MB'",
        "SET LOCAL work_mem = '8MB'",
        "COMMIT",
        "SHOW work_mem",
        "RESET work_mem",
    )


@scenario
def settings_of_failed_statements(wire: Wire) -> None:
    both(
        wire,
        "SET work_mem = 'banana'",
        "SHOW work_mem",
        "SET work_mem = '9MB'; SELECT 1/0",
        "SHOW work_mem",
        "BEGIN",
        "SET work_mem = '9MB'",
        "SELECT 1/0",
        "COMMIT",
        "SHOW work_mem",
        "SET no_such_parameter = 1",
        "SET LOCAL work_mem = '1MB'",
    )


@scenario
def set_config_inside_and_outside(wire: Wire) -> None:
    both(
        wire,
        "SELECT set_config('work_mem', '1111kB', false)",
        "SHOW work_mem",
        "SELECT set_config('work_mem', '2222kB', true)",
        "SHOW work_mem",
        "SELECT pg_catalog.set_config('app.tenant', 'it''s 5', false)",
        "SELECT current_setting('app.tenant')",
        "BEGIN",
        "SELECT set_config('app.tenant', '6', false)",
        "ROLLBACK",
        "SELECT current_setting('app.tenant')",
        "RESET work_mem",
    )
    wire.extended("SELECT set_config('app.tenant', $1, false)", ("\\'\"$$ü",))
    wire.ask("SELECT current_setting('app.tenant')")


@scenario
def custom_settings(wire: Wire) -> None:
    both(
        wire,
        "SET app.tenant = 'a'",
        "SHOW app.tenant",
        'SET "App.Tenant" = \'b\'',
        "SELECT current_setting('app.tenant'), current_setting('APP.TENANT')",
        "SET app.a.b = 'c'",
        "SHOW app.a.b",
    )


@scenario
def roles(wire: Wire) -> None:
    both(
        wire,
        "SET ROLE app_reader",
        "SELECT current_user, session_user",
        "SHOW role",
        "BEGIN",
        "RESET ROLE",
        "SELECT current_user",
        "ROLLBACK",
        "SELECT current_user",
        "SET ROLE NONE",
        "SELECT current_user",
        "SET ROLE no_such_role",
        "SET SESSION AUTHORIZATION app",
        "SELECT current_user, session_user",
        "RESET SESSION AUTHORIZATION",
    )


@scenario
def characteristics(wire: Wire) -> None:
    both(
        wire,
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "SHOW transaction_isolation",
        "SHOW default_transaction_read_only",
        "CREATE TABLE never_made ()",
        "SET default_transaction_read_only TO off",
        "RESET default_transaction_isolation",
        "SHOW transaction_isolation",
        "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SHOW transaction_isolation; COMMIT",
    )


@scenario
def special_forms(wire: Wire) -> None:
    both(
        wire,
        "SET TIME ZONE 'Asia/Tokyo'",
        "SHOW TimeZone",
        "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
        "SHOW TimeZone",
        "SET TIME ZONE DEFAULT",
        "SET SCHEMA 'pg_catalog'",
        "SHOW search_path",
        "RESET search_path",
        "SET XML OPTION DOCUMENT",
        "SHOW xmloption",
        "RESET xmloption",
        "SET SEED TO 0.5",
        "UPDATE pg_settings SET setting = '1MB' WHERE name = 'temp_buffers'",
        "SELECT setting FROM pg_settings WHERE name = 'temp_buffers'",
    )


@scenario
def short_timeouts_do_not_end_the_proxys_own_queries(wire: Wire) -> None:
    wire.ask("SET statement_timeout = '5ms'; SET app.x = '1'")
    for n in range(20):
        wire.ask(f"SET app.x = '{n}'")
        wire.ask("SHOW app.x")


@scenario
def text_read_under_other_settings(wire: Wire) -> None:
    wire.ask("SET standard_conforming_strings = off; SET escape_string_warning = off")
    wire.ask(r"SET app.path = 'a\\b\'c'")
    wire.ask("SHOW app.path")
    wire.ask(r"SELECT 'x\'; SET app.path = ''never''; --'")
    wire.ask("SHOW app.path")
    wire.ask("SET standard_conforming_strings = on")
    wire.ask("SHOW app.path")


# ------------------------------------------------------------------ what stays on the server


@scenario
def temporary_tables(wire: Wire) -> None:
    both(
        wire,
        "CREATE TEMP TABLE t_temp (id int)",
        "INSERT INTO t_temp VALUES (1), (2)",
        "SELECT id + 0 FROM t_temp",
        "BEGIN",
        "DROP TABLE t_temp",
        "ROLLBACK",
        "SELECT count(*) FROM t_temp",
        "DROP TABLE t_temp",
        "SELECT id + 0 FROM t_temp",
        "BEGIN; CREATE TEMP TABLE gone (id int) ON COMMIT DROP; INSERT INTO gone VALUES (1); COMMIT",
        "SELECT * FROM gone",
        "SELECT 1 AS id INTO TEMP t_into",
        "SELECT id + 0 FROM t_into",
        "CREATE TABLE pg_temp.t_schema AS SELECT 2 AS id",
        "SELECT id + 0 FROM t_schema",
        "CREATE TEMP VIEW v_temp AS SELECT 3 AS id",
        "SELECT id + 0 FROM v_temp",
        "DISCARD TEMP",
        "SELECT id + 0 FROM v_temp",
        "SET search_path = pg_temp, public",
        "CREATE TABLE t_path (id int)",
        "INSERT INTO t_path VALUES (1)",
        "SELECT id + 0 FROM t_path",
        "DROP TABLE t_path",
        "RESET search_path",
    )


@scenario
def cursors_with_hold(wire: Wire) -> None:
    both(
        wire,
        "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 5)",
        "FETCH 2 FROM c",
        "FETCH 2 FROM c",
        "CLOSE c",
        "FETCH 1 FROM c",
        "BEGIN; DECLARE d CURSOR WITH HOLD FOR SELECT 1; ROLLBACK",
        "FETCH 1 FROM d",
        "BEGIN; DECLARE e CURSOR WITH HOLD FOR SELECT 7; COMMIT",
        "FETCH 1 FROM e",
        "CLOSE ALL",
        "FETCH 1 FROM e",
    )


@scenario
def session_locks(wire: Wire) -> None:
    both(
        wire,
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        "SELECT pg_try_advisory_lock(4711, 1)",
        "SELECT pg_advisory_unlock(4711)",
        "SELECT pg_advisory_unlock(4711)",
        "SELECT pg_advisory_unlock(4711, 1)",
        "BEGIN",
        "SELECT pg_advisory_lock(4712)",
        "ROLLBACK",
        "SELECT pg_advisory_unlock(4712)",
        "SELECT pg_advisory_lock(1), pg_advisory_lock(2)",
        "SELECT pg_advisory_unlock_all()",
        "SELECT pg_advisory_unlock(1)",
        "BEGIN; SELECT pg_advisory_xact_lock(3); COMMIT",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    )


@scenario
def prepare_in_sql(wire: Wire) -> None:
    wire.ask("PREPARE p_sql (int) AS SELECT $1 * 2")
    wire.ask("EXECUTE p_sql(21)")
    wire.ask("EXECUTE p_sql(22)")
    wire.ask("PREPARE p_sql AS SELECT 1")
    wire.ask("DEALLOCATE p_sql")
    wire.ask("EXECUTE p_sql(1)")
    wire.ask("DEALLOCATE p_sql")
    wire.ask("BEGIN; PREPARE p_two AS SELECT 2; ROLLBACK")
    wire.ask("EXECUTE p_two")
    wire.ask("DEALLOCATE PREPARE p_two")
    wire.ask("PREPARE p_set AS SELECT set_config('work_mem', '1919kB', false)")
    wire.ask("EXECUTE p_set")
    wire.ask("DEALLOCATE p_set")
    wire.ask("SHOW work_mem")


@scenario
def one_name_space_for_prepared_statements(wire: Wire) -> None:
    wire.extended("SELECT 'named'", (), "n_one")
    wire.ask("EXECUTE n_one")
    wire.ask("DEALLOCATE n_one")
    wire.send(b.bind((), "n_one"), b.execute(), b.sync())
    wire.until("Z")
    wire.ask("PREPARE n_two AS SELECT 'sql'")
    wire.send(b.bind((), "n_two"), b.execute(), b.sync())
    wire.until("Z")
    wire.send(b.close_statement("n_two"), b.sync())
    wire.until("Z")
    wire.ask("EXECUTE n_two")
    wire.extended("SELECT 'again'", (), "n_three")
    wire.ask("DEALLOCATE ALL")
    wire.send(b.bind((), "n_three"), b.execute(), b.sync())
    wire.until("Z")
    wire.ask("BEGIN")
    wire.extended("SELECT 'in a transaction'", (), "n_four")
    wire.ask("DEALLOCATE n_four; SELECT 1")
    wire.send(b.bind((), "n_four"), b.execute(), b.sync())
    wire.until("Z")
    wire.ask("DEALLOCATE n_four")
    wire.ask("ROLLBACK")


@scenario
def discard(wire: Wire) -> None:
    wire.ask("SET work_mem = '1MB'; SET app.x = '1'")
    wire.ask("CREATE TEMP TABLE t_discard ()")
    wire.ask("DECLARE c_discard CURSOR WITH HOLD FOR SELECT 1")
    wire.ask("SELECT pg_advisory_lock(99)")
    wire.extended("SELECT 1", (), "s_discard")
    wire.ask("DISCARD ALL")
    wire.ask("SHOW work_mem")
    wire.ask("SELECT * FROM t_discard")
    wire.ask("FETCH c_discard")
    wire.ask("SELECT pg_advisory_unlock(99)")
    wire.send(b.bind((), "s_discard"), b.execute(), b.sync())
    wire.until("Z")
    wire.ask("BEGIN; DISCARD ALL")
    wire.ask("ROLLBACK")
    wire.ask("DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP")


# ------------------------------------------------------------------ running them


@pytest.fixture(scope="module", autouse=True)
def roles_to_take(cluster: Cluster) -> None:
    cluster.sql("CREATE ROLE app_reader", "GRANT app_reader TO app", "GRANT CREATE ON SCHEMA public TO app", database="app")


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_state(run: Scenario, cluster: Cluster, endpoint: Endpoint, noise: object) -> None:
    direct = Endpoint(endpoint.host, cluster.port)
    wanted = record(lambda: direct.connect(timeout=60), run)
    for _ in range(REPEATS):
        assert_same(wanted, record(lambda: endpoint.connect(timeout=60), run))


@pytest.mark.pooled
def test_a_long_unnamed_statement_is_lost_with_its_server(cluster: Cluster, start) -> None:  # noqa: ANN001
    """Beyond 1 MiB it is not kept for another server: an error of its own, and the session goes on."""
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire, endpoint.connect() as other:
        wire.send(b.parse("SELECT 1 /*" + "x" * 2_000_000 + "*/"), b.sync())
        wire.until("Z")
        other.ask("SELECT 1")
        wire.send(b.bind(), b.execute(), b.sync())
        assert list(errors_of(wire.until("Z"))) == ["26000"]
        assert wire.value("SELECT 2") == "2"


@pytest.mark.pooled
@pytest.mark.parametrize(
    "code",
    [
        "DO $$ BEGIN PERFORM set_config('app.tenant', 'secret', false); END $$",
        "SELECT leave_something()",
        "SELECT count(*) FROM (SELECT leave_something()) AS inside",
        "CALL leave_something_too()",
    ],
)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_what_code_does_unseen_reaches_nobody(cluster: Cluster, start, code: str, extended: bool) -> None:  # noqa: ANN001
    """A row security setting that a function makes must never reach the next client."""
    cluster.sql(
        "CREATE OR REPLACE FUNCTION leave_something() RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM set_config('app.tenant', 'secret', false); SET work_mem = '3MB'; END $$",
        "CREATE OR REPLACE PROCEDURE leave_something_too() LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM set_config('app.tenant', 'secret', false); END $$",
        database="app",
    )
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire, endpoint.connect() as other:
        if extended:
            wire.extended(code)
        else:
            wire.ask(code)
        assert other.rows("SELECT current_setting('app.tenant', true), current_setting('work_mem')") in ([("", "4MB")], [(None, "4MB")])


@pytest.mark.pooled
@pytest.mark.parametrize("how", ["simple", "unnamed", "named", "prepared in SQL"])
def test_functions_of_extensions_do_not_cost_a_reset(cluster: Cluster, start, how: str) -> None:  # noqa: ANN001
    """A parallel safe member of an extension leaves the server as it was, once the database has said that it is one."""
    if not cluster.sql("SELECT FROM pg_available_extensions WHERE name = 'pg_trgm'"):
        pytest.skip("this PostgreSQL comes without pg_trgm")
    cluster.sql(
        "DROP EXTENSION IF EXISTS pg_trgm CASCADE",
        "CREATE EXTENSION pg_trgm",
        "CREATE OR REPLACE FUNCTION of_nobody(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1'",
        "DROP FUNCTION IF EXISTS similarity(int, int)",
        database="app",
    )
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire, endpoint.connect() as other:
        wire.send(b.parse("SELECT 'kept'", "kept") + b.sync())
        wire.until("Z")

        def is_reset_by(sql: str) -> bool:
            """Whether the next client finds the server without the statement that ours has prepared."""
            wire.send(b.bind(statement="kept") + b.execute() + b.sync())
            wire.until("Z")
            match how:
                case "simple":
                    messages = wire.ask(sql)
                case "unnamed":
                    wire.send(batch(sql))
                    messages = wire.until("Z")
                case "named":
                    wire.send(b.parse(sql, "it") + b.bind(statement="it") + b.execute() + b.close_statement("it") + b.sync())
                    messages = wire.until("Z")
                case _:
                    wire.ask("BEGIN")
                    wire.ask(f"PREPARE it AS {sql}")
                    messages = wire.ask("EXECUTE it")
                    wire.ask("DEALLOCATE it")
                    wire.ask("COMMIT")
            assert not list(errors_of(messages))
            other.ask("SELECT 1")
            kept = other.value("SELECT count(*) FROM pg_prepared_statements WHERE statement = $$SELECT 'kept'$$")
            return kept == "0"

        harmless = "SELECT similarity('word', 'words'), lower(public.Similarity('a', 'b')::text)"
        assert is_reset_by(harmless), "nobody has asked yet"
        assert not is_reset_by(harmless)
        for unknown in ("SELECT of_nobody('x')", "SELECT set_limit(0.4)", "SELECT similarity(of_nobody('x'), 'y')"):
            for _ in range(2):
                assert is_reset_by(unknown), unknown
        assert not is_reset_by(harmless)
        # Another function of that name, made by a client of ours.
        body = "SELECT length(set_config('app.tenant', 'secret', false))"
        other.ask(f"CREATE FUNCTION similarity(int, int) RETURNS int LANGUAGE sql AS $${body}$$")
        for _ in range(2):
            assert is_reset_by(harmless)
        other.ask("DROP FUNCTION similarity(int, int)")


@pytest.mark.pooled
def test_what_code_makes_keeps_its_client(cluster: Cluster, start) -> None:  # noqa: ANN001
    """A temporary table and a lock made out of sight: the client finds them again, and another waits for its own server."""
    endpoint = start(cluster, default_pool_size=2)
    with endpoint.connect() as wire, endpoint.connect() as other:
        wire.ask("DO $$ BEGIN CREATE TEMP TABLE unseen (id int); PERFORM pg_advisory_lock(5511); END $$")
        for _ in range(5):
            other.ask("SELECT 1")
            assert wire.value("SELECT count(*) FROM unseen") == "0"
            assert other.value("SELECT pg_try_advisory_lock(5511)") == "f"
        wire.ask("DROP TABLE unseen")
        wire.ask("SELECT pg_advisory_unlock(5511)")
        assert other.value("SELECT pg_try_advisory_lock(5511)") == "t"


@pytest.mark.pooled
def test_what_a_client_leaves_behind_goes_with_it(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    wire = endpoint.connect()
    wire.ask("SELECT pg_advisory_lock(5512)")
    wire.ask("CREATE TEMP TABLE left_behind (id int)")
    wire.ask("SET work_mem = '5MB'")
    wire.socket.close()
    with endpoint.connect() as other:
        assert other.value("SELECT pg_try_advisory_lock(5512)") == "t"
        assert other.value("SELECT to_regclass('pg_temp.left_behind')") is None
        assert other.value("SHOW work_mem") == "4MB"
