"""Session state in transaction mode: what PostgreSQL does with one connection per client, message by message.

The table in README.md names these scenarios.
"""

from __future__ import annotations

import time

import pytest
from harness import wait_until
from pgwire import build as b
from pgwire.client import Wire, errors_of, rows_of
from postgres import Cluster
from scenarios import Scenario, assert_same, record
from target import Endpoint, User

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


@scenario
def settings_around_savepoints_and_chains(wire: Wire) -> None:
    both(
        wire,
        "BEGIN",
        "SET LOCAL work_mem = '1MB'",
        "SAVEPOINT s",
        "SET LOCAL work_mem = '2MB'",
        "SET LOCAL role = app_reader",
        "ROLLBACK TO s",
        "SHOW work_mem",
        "SELECT current_user",
        "SET work_mem = '3MB'",
        "RELEASE s",
        "SHOW work_mem",
        "COMMIT AND CHAIN",
        "SHOW work_mem",
        "SET LOCAL work_mem = '4MB'",
        "SET app.chained = 'x'",
        "ROLLBACK AND CHAIN",
        "SHOW work_mem",
        "SELECT coalesce(current_setting('app.chained', true), '')",
        "COMMIT",
        "SHOW work_mem",
        "BEGIN",
        "SAVEPOINT a",
        "SET work_mem = '5MB'",
        "SAVEPOINT b",
        "RESET work_mem",
        "SELECT 1/0",
        "ROLLBACK TO b",
        "COMMIT",
        "SHOW work_mem",
        "RESET work_mem",
    )


@scenario
def settings_in_strings_of_statements(wire: Wire) -> None:
    for sql in (
        "SELECT set_config('work_mem', '2MB', true); SHOW work_mem",
        "SHOW work_mem",
        "SELECT set_config('work_mem', '3MB', false); SELECT set_config('work_mem', '4MB', true); SHOW work_mem",
        "SHOW work_mem",
        "SET LOCAL work_mem = '5MB'; SHOW work_mem; RESET work_mem; SHOW work_mem",
        "SHOW work_mem",
        "SET work_mem = '6MB'; ROLLBACK; SHOW work_mem",
        "BEGIN; SET work_mem = '7MB'; COMMIT; SET work_mem = '8MB'; SELECT 1/0",
        "SHOW work_mem",
        "SET work_mem = '9MB'; BEGIN; SET work_mem = '10MB'; ROLLBACK; SHOW work_mem",
        "SHOW work_mem",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SHOW transaction_isolation",
        "SHOW transaction_isolation",
        "SET CONSTRAINTS ALL DEFERRED",
        "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SET TRANSACTION READ ONLY; SHOW transaction_read_only; COMMIT",
        "SHOW transaction_read_only",
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE; SHOW transaction_deferrable; COMMIT",
        "RESET work_mem",
    ):
        wire.ask(sql)


@scenario
def sessions_of_other_users(wire: Wire) -> None:
    both(
        wire,
        "SET SESSION AUTHORIZATION app_reader",
        "SELECT current_user, session_user",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET LOCAL ROLE app_reader",
        "SELECT current_user",
        "BEGIN",
        "SET ROLE app_reader",
        "SAVEPOINT s",
        "SET ROLE NONE",
        "ROLLBACK TO s",
        "SELECT current_user, current_setting('role')",
        "COMMIT",
        "SELECT current_user, current_setting('role')",
        "RESET ALL",
        "SELECT current_user",
        "SET SESSION ROLE NONE",
        "SELECT current_user",
    )


@scenario
def what_transactions_undo(wire: Wire) -> None:
    both(
        wire,
        "BEGIN",
        "CREATE TEMP TABLE undone (id int)",
        "ROLLBACK",
        "SELECT count(*) FROM undone",
        "BEGIN",
        "SAVEPOINT s",
        "CREATE TEMP TABLE undone (id int)",
        "ROLLBACK TO s",
        "COMMIT",
        "SELECT count(*) FROM undone",
        "CREATE TEMP TABLE emptied (id int) ON COMMIT DELETE ROWS",
        "INSERT INTO emptied VALUES (1)",
        "SELECT count(*) FROM emptied",
        "DROP TABLE emptied",
        "BEGIN",
        "CREATE TEMP TABLE dropped (id int) ON COMMIT DROP",
        "INSERT INTO dropped VALUES (1)",
        "SELECT count(*) FROM dropped",
        "COMMIT",
        "SELECT count(*) FROM dropped",
        "BEGIN",
        "DECLARE lost CURSOR WITH HOLD FOR SELECT 1",
        "SELECT 1/0",
        "COMMIT",
        "FETCH 1 FROM lost",
        "BEGIN",
        "DECLARE broken CURSOR WITH HOLD FOR SELECT 1 / (x - 3) FROM generate_series(1, 5) x",
        "FETCH 1 FROM broken",
        "COMMIT",
        "FETCH 1 FROM broken",
        "DECLARE kept CURSOR WITH HOLD FOR SELECT generate_series(1, 4)",
        "BEGIN",
        "FETCH 1 FROM kept",
        "CLOSE kept",
        "ROLLBACK",
        "FETCH 1 FROM kept",
        "BEGIN",
        "SELECT pg_advisory_lock(8080)",
        "SAVEPOINT s",
        "SELECT pg_advisory_lock(8081), pg_advisory_xact_lock(8082)",
        "ROLLBACK TO s",
        "ROLLBACK",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        "SELECT pg_advisory_unlock_all()",
    )


@scenario
def prepared_in_transactions_that_are_undone(wire: Wire) -> None:
    wire.ask("BEGIN")
    wire.extended("SELECT 'kept'", (), "u_one")
    wire.ask("ROLLBACK")
    wire.send(b.bind((), "u_one"), b.execute(), b.sync())
    wire.until("Z")
    wire.ask("BEGIN")
    wire.send(b.close_statement("u_one"), b.sync())
    wire.until("Z")
    wire.ask("ROLLBACK")
    wire.send(b.bind((), "u_one"), b.execute(), b.sync())
    wire.until("Z")
    # The one behind the error is not prepared, the one before it is.
    wire.send(b.parse("SELECT 'before'", "u_two"), b.parse("SELECT 1/0"), b.bind(), b.execute(), b.parse("SELECT 'behind'", "u_three"), b.sync())
    wire.until("Z")
    for name in ("u_two", "u_three"):
        wire.send(b.bind((), name), b.execute(), b.sync())
        wire.until("Z")
    wire.ask("BEGIN")
    wire.ask("PREPARE u_four AS SELECT 4")
    wire.ask("SELECT 1/0")
    wire.ask("EXECUTE u_four")
    wire.ask("ROLLBACK")
    wire.ask("EXECUTE u_four")
    wire.ask("EXPLAIN (COSTS OFF) EXECUTE u_four")
    wire.ask("CREATE TEMP TABLE u_made AS EXECUTE u_four")
    wire.ask("SELECT count(*) FROM u_made")
    wire.ask("DEALLOCATE ALL")
    wire.ask("DROP TABLE u_made")
    wire.ask("EXECUTE u_four")


@scenario
def parts_of_discard(wire: Wire) -> None:
    wire.ask("SET work_mem = '1MB'")
    wire.ask("CREATE TEMP TABLE d_temp (id int)")
    wire.extended("SELECT 'prepared'", (), "d_one")
    for part in ("PLANS", "SEQUENCES", "TEMP", "TEMPORARY"):
        wire.ask(f"DISCARD {part}")
        wire.ask("SELECT count(*) FROM d_temp")
        wire.ask("SHOW work_mem")
        wire.send(b.bind((), "d_one"), b.execute(), b.sync())
        wire.until("Z")
    wire.ask("BEGIN")
    wire.ask("CREATE TEMP TABLE d_temp (id int)")
    wire.ask("DISCARD TEMP")
    wire.ask("ROLLBACK")
    wire.ask("RESET work_mem")


@scenario
def functions_with_settings_of_their_own(wire: Wire) -> None:
    wire.ask(
        "CREATE OR REPLACE FUNCTION pg_temp.with_settings() RETURNS text LANGUAGE plpgsql SET work_mem = '7MB' AS "
        "$$ BEGIN RETURN current_setting('work_mem'); END $$"
    )
    both(wire, "SELECT pg_temp.with_settings()", "SHOW work_mem")
    wire.ask("DROP FUNCTION pg_temp.with_settings()")


@scenario
def what_stays_after_an_error(wire: Wire) -> None:
    both(
        wire,
        "SELECT pg_advisory_lock(6060), 1 / (length('') + 0)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        "SELECT pg_advisory_lock(6061); SELECT 1/0",
        "SELECT pg_advisory_unlock_all()",
        "CREATE TEMP TABLE stays (id int); COMMIT; SELECT 1/0",
        "SELECT count(*) FROM stays",
        "DROP TABLE stays",
        "PREPARE stays AS SELECT 1; SELECT 1/0",
        "EXECUTE stays",
        "DEALLOCATE stays",
    )


@scenario
def random_numbers_from_a_seed(wire: Wire) -> None:
    wire.ask("SELECT setseed(0.25)")
    for _ in range(3):
        wire.ask("SELECT random()")
    wire.ask("SET SEED TO 0.25")
    for _ in range(3):
        wire.ask("SELECT random()")


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


@pytest.mark.pooled
def test_code_keeps_its_client_if_it_is_to(cluster: Cluster, start) -> None:  # noqa: ANN001
    """`session_taint = "pin"`: what a function has set is there the next time, and nobody else gets the server."""
    cluster.sql(
        "CREATE OR REPLACE FUNCTION set_unseen(value text) RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM set_config('app.unseen', value, false); END $$",
        database="app",
    )
    endpoint = start(cluster, default_pool_size=2, session_taint="pin")
    seen = "SELECT coalesce(current_setting('app.unseen', true), '')"

    def locked() -> int:
        return sum(client["locked"] == "t" for client in endpoint.show("CLIENTS"))

    with endpoint.connect() as wire, endpoint.connect() as other:
        for value in ("one", "two"):
            wire.ask(f"SELECT set_unseen('{value}')")
            for _ in range(5):
                assert other.value(seen) == ""
                assert wire.value(seen) == value
        assert locked() == 1
        other.ask("DO $$ BEGIN PERFORM set_config('app.unseen', 'other', false); END $$")
        assert (wire.value(seen), other.value(seen), locked()) == ("two", "other", 2)
        wire.ask("DISCARD ALL")
        assert (wire.value(seen), other.value(seen), locked()) == ("", "other", 1)
    with endpoint.connect() as late:
        assert late.value(seen) == ""


@pytest.mark.pooled
def test_statements_that_are_not_used_expire(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1, prepared_statements_ttl=1500, prepared_statements_ttl_jitter=0)
    with endpoint.connect() as wire:
        for name in ("kept", "unused"):
            assert wire.extended(f"SELECT '{name}'", (), name) == [(name,)]
        deadline = time.monotonic() + 20
        while (left := wire.rows("SELECT statement FROM pg_prepared_statements ORDER BY 1")) != [("SELECT 'kept'",)]:
            assert time.monotonic() < deadline, left
            wire.send(b.bind((), "kept"), b.execute(), b.sync())
            assert not list(errors_of(wire.until("Z")))
            time.sleep(0.1)
        for name in ("unused", "kept"):
            wire.send(b.bind((), name), b.describe_portal(), b.execute(), b.sync())
            assert rows_of(wire.until("Z")) == [(name,)]


@pytest.mark.pooled
def test_no_client_meets_what_scenarios_leave(cluster: Cluster, start) -> None:  # noqa: ANN001
    """On a pool of one, whatever a client did and however it ended, the next one finds a fresh session."""
    endpoint = start(cluster, default_pool_size=1)
    fresh = (
        "SELECT current_user, session_user, current_setting('role'), pg_my_temp_schema() IN (SELECT refobjid FROM pg_depend), "
        "(SELECT count(*) FROM pg_cursors WHERE name <> ''), "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), "
        "(SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE '\\_\\_pgdog%'), "
        "(SELECT count(*) FROM pg_listening_channels()), "
        "(SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings "
        " WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND name NOT IN ('application_name', 'client_encoding'))"
    )
    with endpoint.connect() as first:
        wanted = first.rows(fresh)
    for run in SCENARIOS:
        wire = endpoint.connect(timeout=60)
        run(wire)
        wire.socket.close()
        with endpoint.connect(timeout=60) as other:
            assert other.rows(fresh) == wanted, run.__name__


@pytest.mark.pooled
def test_a_try_that_failed_keeps_nobody(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    with cluster.superuser("app") as holder, endpoint.connect() as wire, endpoint.connect() as other:
        holder.ask("SELECT pg_advisory_lock(31)")
        assert wire.value("SELECT pg_try_advisory_lock(31)") == "f"
        assert other.value("SELECT pg_try_advisory_lock(31)") == "f"
        holder.ask("SELECT pg_advisory_unlock(31)")
        assert wire.value("SELECT pg_try_advisory_lock(31)") == "t"
        # What is left of a transaction is known when the server has been asked.
        wait_until(lambda: [client["locked"] for client in endpoint.show("CLIENTS")].count("t") == 1, 5, "the client keeps its server")
        wire.ask("SELECT pg_advisory_unlock(31)")
        assert other.value("SELECT pg_try_advisory_lock(31)") == "t"


@pytest.mark.pooled
def test_two_clients_prepare_the_same_name(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=2)
    with endpoint.connect() as wire, endpoint.connect() as other:
        for _ in range(3):
            wire.extended("SELECT 'mine'", (), "same")
            other.extended("SELECT 'theirs'", (), "same")
            assert (wire.rows("EXECUTE same"), other.rows("EXECUTE same")) == ([("mine",)], [("theirs",)])
            wire.ask("DEALLOCATE same")
            assert other.rows("EXECUTE same") == [("theirs",)]
            assert list(errors_of(wire.ask("EXECUTE same"))) == ["26000"]
            wire.ask("PREPARE same AS SELECT 'of sql'")
            assert (wire.rows("EXECUTE same"), other.rows("EXECUTE same")) == ([("of sql",)], [("theirs",)])
            wire.ask("DEALLOCATE same")
            other.send(b.close_statement("same"), b.sync())
            other.until("Z")


@pytest.mark.pooled
def test_a_session_of_another_user_stays_with_its_client(cluster: Cluster, start) -> None:  # noqa: ANN001
    """SET SESSION AUTHORIZATION by a superuser: visible to nobody else, whether the client resets it or leaves."""
    cluster.sql(
        "DO $$ BEGIN CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss'; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    endpoint = start(cluster, users=[User("boss", password="boss")], default_pool_size=2)
    who = "SELECT session_user, current_user"

    def connect() -> Wire:
        return endpoint.connect("boss", "app", "boss")

    with connect() as wire, connect() as other:
        for end in ("RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT", "DISCARD ALL"):
            wire.ask("SET SESSION AUTHORIZATION app")
            for _ in range(4):
                assert wire.rows(who) == [("app", "app")]
                assert other.rows(who) == [("boss", "boss")]
            wire.ask(end)
            assert wire.rows(who) == [("boss", "boss")]
        wire.ask("BEGIN; SET SESSION AUTHORIZATION app; ROLLBACK")
        assert (wire.rows(who), other.rows(who)) == ([("boss", "boss")], [("boss", "boss")])
        wire.ask("SET SESSION AUTHORIZATION app")
        wire.socket.close()
        for _ in range(4):
            with connect() as late:
                late.ask("BEGIN")
                assert late.rows(who) == [("boss", "boss")]
                assert other.rows(who) == [("boss", "boss")]
                late.ask("COMMIT")
