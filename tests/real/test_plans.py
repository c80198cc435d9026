"""Prepared statements whose tables change: no answer in a shape that the client was not told of, and no error because of
what others had prepared.
"""

from __future__ import annotations

import pytest
from pgwire import build as b
from pgwire.client import Message, Wire, errors_of, rows_or_errors
from postgres import Cluster
from scenarios import Scenario, assert_same, record
from target import Endpoint

CHANGED = ["0A000"]


@pytest.fixture(autouse=True)
def table(cluster: Cluster) -> None:
    cluster.sql(
        "DROP TABLE IF EXISTS plans CASCADE",
        "CREATE TABLE plans (id int)",
        "INSERT INTO plans VALUES (1)",
        "ALTER TABLE plans OWNER TO app",
        "GRANT CREATE ON SCHEMA public TO app",
        database="app",
    )


def use(wire: Wire, name: str = "s", values: tuple[str | None, ...] = ()) -> list[Message]:
    wire.send(b.bind(values, name), b.describe_portal(), b.execute(), b.sync())
    return wire.until("Z")


def prepare(wire: Wire, sql: str = "SELECT * FROM plans", name: str = "s") -> list[Message]:
    wire.send(b.parse(sql, name), b.describe_statement(name), b.sync())
    return wire.until("Z")


def change(cluster: Cluster, column: str = "more text DEFAULT 'x'") -> None:
    cluster.sql(f"ALTER TABLE plans ADD {column}", database="app")


OLD, NEW = [("1",)], [("1", "x")]


@pytest.mark.pooled
def test_who_prepares_after_the_change_gets_no_error_of_others(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as before, endpoint.connect() as after, endpoint.connect() as late:
        prepare(before)
        assert rows_or_errors(use(before)) == OLD
        change(cluster)
        late.send(b.parse("SELECT * FROM plans", "mine"), b.sync())
        assert not list(errors_of(late.until("Z")))
        for _ in range(3):
            prepare(after)
            assert rows_or_errors(use(after)) == NEW
            after.send(b.close_statement("s"), b.sync())
            after.until("Z")
        # Prepared by name only, and used for the first time inside a transaction.
        late.ask("BEGIN")
        assert rows_or_errors(use(late, "mine")) == NEW
        late.ask("COMMIT")
        # The error that it would have got from a server of its own; then it goes on.
        assert rows_or_errors(use(before)) == CHANGED
        assert rows_or_errors(use(before)) == NEW
        assert rows_or_errors(use(after, "none")) == ["26000"]
        assert rows_or_errors(use(late, "mine")) == NEW


@pytest.mark.pooled
def test_rows_never_come_in_another_shape(cluster: Cluster, start) -> None:  # noqa: ANN001
    """A server that first reads the statement after the change must not run it for who was told of the old columns."""
    endpoint = start(cluster, default_pool_size=2)
    cluster.sql("CREATE TABLE IF NOT EXISTS plans_log (id int)", "ALTER TABLE plans_log OWNER TO app", "TRUNCATE plans_log", database="app")
    with endpoint.connect() as wire, endpoint.connect() as other:
        prepare(wire)
        prepare(wire, "INSERT INTO plans_log SELECT 7 RETURNING id", "log")
        assert rows_or_errors(use(wire)) == OLD
        pid = wire.value("SELECT pg_backend_pid()")
        other.ask("BEGIN")
        while other.value("SELECT pg_backend_pid()") != pid:
            other.ask("COMMIT")
            wire.ask("BEGIN")
            other.ask("BEGIN")
            wire.ask("COMMIT")
        change(cluster)
        cluster.sql("ALTER TABLE plans_log ALTER id TYPE bigint", database="app")
        assert wire.value("SELECT pg_backend_pid()") != pid
        # Bind, and Describe; the rest of the batch is ignored.
        assert rows_or_errors(use(wire)) == CHANGED
        assert rows_or_errors(use(wire)) == NEW
        wire.send(b.describe_statement("log"), b.bind((), "log"), b.execute(), b.sync())
        messages = wire.until("Z")
        assert list(errors_of(messages)) == CHANGED and [m.kind for m in messages] == ["E", "Z"]
        assert wire.value("SELECT count(*) FROM plans_log") == "0", "an error, and it was done"
        assert rows_or_errors(use(wire, "log")) == [("7",)]
        other.ask("COMMIT")
        assert wire.value("SELECT count(*) FROM plans_log") == "1"


@pytest.mark.pooled
def test_in_transactions(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire:
        prepare(wire)
        change(cluster)
        wire.ask("BEGIN")
        assert rows_or_errors(use(wire)) == CHANGED
        assert rows_or_errors(use(wire)) == ["25P02"]
        assert list(errors_of(wire.ask("SELECT 1"))) == ["25P02"]
        wire.ask("ROLLBACK")
        assert rows_or_errors(use(wire)) == NEW
        # A change of its own, and undone.
        wire.ask("BEGIN")
        wire.ask("ALTER TABLE plans ADD third int")
        assert rows_or_errors(use(wire)) == CHANGED
        wire.ask("ROLLBACK")
        wire.ask("BEGIN")
        wire.ask("ALTER TABLE plans ADD third int")
        assert rows_or_errors(prepare(wire, name="inside")) == []
        assert rows_or_errors(use(wire, "inside")) == [("1", "x", None)]
        wire.ask("ROLLBACK")
        assert rows_or_errors(use(wire, "inside")) == CHANGED
        assert rows_or_errors(use(wire, "inside")) == NEW
        assert rows_or_errors(use(wire)) == NEW


@pytest.mark.pooled
def test_in_a_pipeline(cluster: Cluster, start) -> None:  # noqa: ANN001
    """Each batch of a pipeline is done or fails as a whole, in its place."""
    endpoint = start(cluster, default_pool_size=1)
    one = b.bind((), "s") + b.execute() + b.sync()
    with endpoint.connect() as wire:
        prepare(wire)
        prepare(wire, "INSERT INTO plans (id) VALUES (2)", "insert")
        use(wire)
        change(cluster)
        wire.send(b.bind((), "insert"), b.execute(), b.sync(), one, one, b.bind((), "insert"), b.execute(), one, one)
        found = [rows_or_errors(wire.until("Z")) for _ in range(5)]
        both = [("1", "x"), ("2", "x")]
        # Whether the second was sent before the first failed is a matter of time.
        assert found[0] == [] and found[1] == CHANGED
        assert found[2] in (CHANGED, both)
        assert found[4] in (CHANGED, [*both, ("2", "x")], both)
        done = wire.value("SELECT count(*) FROM plans")
        assert done == ("2" if found[3] == CHANGED else "3")
        assert rows_or_errors(use(wire)) in (CHANGED, [*both, ("2", "x")][: int(done or 0)])
        assert rows_or_errors(use(wire)) == [*both, ("2", "x")][: int(done or 0)]


@pytest.mark.pooled
def test_parameters_too(cluster: Cluster, start) -> None:  # noqa: ANN001
    """Another type of a parameter: a client may send it in binary form."""
    endpoint = start(cluster, default_pool_size=2)
    with endpoint.connect() as wire, endpoint.connect() as other:
        prepare(wire, "INSERT INTO plans (id) VALUES ($1)")
        pid = wire.value("SELECT pg_backend_pid()")
        other.ask("BEGIN")
        while other.value("SELECT pg_backend_pid()") != pid:
            other.ask("COMMIT")
            wire.ask("BEGIN")
            other.ask("BEGIN")
            wire.ask("COMMIT")
        cluster.sql("ALTER TABLE plans ALTER id TYPE text", database="app")
        assert rows_or_errors(use(wire, values=("5",))) == CHANGED
        assert rows_or_errors(use(wire, values=("five",))) == []
        other.ask("COMMIT")


@pytest.mark.pooled
def test_one_text_under_several_paths(cluster: Cluster, start) -> None:  # noqa: ANN001
    """Statements are shared by their text; what it means is each client's own."""
    cluster.sql(
        "DROP SCHEMA IF EXISTS plans_a CASCADE",
        "DROP SCHEMA IF EXISTS plans_b CASCADE",
        "CREATE SCHEMA plans_a AUTHORIZATION app",
        "CREATE SCHEMA plans_b AUTHORIZATION app",
        "CREATE TABLE plans_a.t AS SELECT 1 AS a",
        "CREATE TABLE plans_b.t AS SELECT 'b' AS b, 2 AS c",
        "GRANT SELECT ON plans_a.t, plans_b.t TO app",
        database="app",
    )
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as a, endpoint.connect() as c, endpoint.connect() as temporary:
        a.ask("SET search_path = plans_a")
        c.ask("SET search_path = plans_b")
        for _ in range(4):
            for wire, want in ((a, [("1",)]), (c, [("b", "2")])):
                prepare(wire, "SELECT * FROM t", "p")
                assert rows_or_errors(use(wire, "p")) == want
                assert rows_or_errors(use(wire, "p")) == want
                wire.send(b.close_statement("p"), b.sync())
                wire.until("Z")
        for wire in (a, c):
            prepare(wire, "SELECT * FROM t", "p")
        for _ in range(4):
            assert rows_or_errors(use(a, "p")) == [("1",)]
            assert rows_or_errors(use(c, "p")) == [("b", "2")]
        temporary.ask("CREATE TEMP TABLE t AS SELECT 3.5 AS d")
        prepare(temporary, "SELECT * FROM t", "p")
        assert rows_or_errors(use(temporary, "p")) == [("3.5",)]
        temporary.ask("DROP TABLE t")
        assert rows_or_errors(use(a, "p")) == [("1",)]
        assert rows_or_errors(use(c, "p")) == [("b", "2")]


@pytest.mark.pooled
def test_execute_in_sql(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire:
        prepare(wire)
        assert wire.rows("EXECUTE s") == OLD
        change(cluster)
        assert rows_or_errors(wire.ask("EXECUTE s")) == CHANGED
        assert rows_or_errors(wire.ask("EXECUTE s")) == NEW
        # It was told of other columns, in the protocol that needs to be told.
        assert rows_or_errors(use(wire)) == CHANGED
        assert rows_or_errors(use(wire)) == NEW
        assert rows_or_errors(wire.ask("EXECUTE s")) == NEW


# Its columns are of no table, whose number would not be the same twice.
OWN = "SELECT * FROM own UNION ALL SELECT * FROM own WHERE false"


def changes_and_prepares_anew(wire: Wire) -> None:
    """What drivers do after the error."""
    wire.ask("CREATE TEMP TABLE own (id int)")
    prepare(wire, OWN, "o")
    use(wire, "o")
    wire.ask("ALTER TABLE own ADD more int")
    wire.send(b.describe_statement("o"), b.sync())
    wire.until("Z")
    wire.send(b.close_statement("o"), b.sync())
    wire.until("Z")
    prepare(wire, OWN, "o")
    use(wire, "o")
    wire.ask("ALTER TABLE own ALTER id TYPE text")
    use(wire, "o")
    wire.ask("DEALLOCATE o")
    prepare(wire, OWN, "o")
    use(wire, "o")
    wire.ask("BEGIN")
    wire.ask("ALTER TABLE own DROP more")
    use(wire, "o")
    wire.ask("ROLLBACK")
    # A copy has no columns that could change.
    prepare(wire, f"COPY ({OWN}) TO STDOUT", "c")
    wire.ask("ALTER TABLE own ADD last int")
    use(wire, "c")
    wire.ask("DROP TABLE own")


@pytest.mark.parametrize("run", [changes_and_prepares_anew], ids=lambda run: run.__name__)
def test_as_without_a_proxy(run: Scenario, cluster: Cluster, endpoint: Endpoint, noise: object) -> None:
    direct = Endpoint(endpoint.host, cluster.port)
    wanted = record(lambda: direct.connect(timeout=60), run)
    for _ in range(3):
        assert_same(wanted, record(lambda: endpoint.connect(timeout=60), run))
