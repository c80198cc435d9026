"""currval and lastval in transaction mode: never another client's value."""

from __future__ import annotations

import pytest
from pgwire import build as b
from pgwire.client import Wire, rows_or_errors
from postgres import Cluster

UNDEFINED, REFUSED = ["55000"], ["0A000"]


@pytest.fixture(autouse=True)
def table(cluster: Cluster) -> None:
    cluster.sql(
        "DROP TABLE IF EXISTS numbered",
        "CREATE TABLE numbered (id serial, x int)",
        "ALTER TABLE numbered OWNER TO app",
        "CREATE OR REPLACE FUNCTION last_number() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN lastval(); END $$",
        database="app",
    )


def ask(wire: Wire, sql: str, extended: bool, name: str = "") -> object:
    if not extended:
        return rows_or_errors(wire.ask(sql))
    wire.send(b.parse(sql, name), b.bind((), name), b.describe_portal(), b.execute(), b.sync())
    return rows_or_errors(wire.until("Z"))


ASKS = ["SELECT lastval()", "SELECT currval('numbered_id_seq')", "SELECT pg_catalog.lastval() WHERE true", "SELECT last_number()"]


@pytest.mark.pooled
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("sql", ASKS)
def test_never_anothers_value(cluster: Cluster, start, sql: str, extended: bool) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire, endpoint.connect() as other:
        for _ in range(3):
            other.ask("INSERT INTO numbered (x) VALUES (1)")
            assert ask(wire, sql, extended) == UNDEFINED
            wire.ask("DISCARD SEQUENCES")
        other.ask("INSERT INTO numbered (x) VALUES (1)")
        wire.ask("BEGIN")
        assert ask(wire, sql, extended) == UNDEFINED
        wire.ask("ROLLBACK")


@pytest.mark.pooled
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_the_first_call_inside_a_transaction(cluster: Cluster, start, extended: bool) -> None:  # noqa: ANN001
    """The server may remember what another client took before: refused once. Then all servers forget in time."""
    endpoint = start(cluster, default_pool_size=1)
    with endpoint.connect() as wire, endpoint.connect() as other:
        other.ask("INSERT INTO numbered (x) VALUES (1)")
        wire.ask("BEGIN")
        ask(wire, "INSERT INTO numbered (x) VALUES (2)", extended)
        assert ask(wire, "SELECT lastval()", extended) == REFUSED
        assert ask(wire, "SELECT lastval()", extended) == ["25P02"]
        wire.ask("ROLLBACK")
        for at in range(3, 9):
            who = (wire, other)[at % 2]
            who.ask("BEGIN")
            ask(who, "INSERT INTO numbered (x) VALUES (3)", extended)
            assert ask(who, "SELECT lastval(), currval('numbered_id_seq')", extended) == [(str(at), str(at))]
            who.ask("COMMIT")
            # It keeps nobody out: only who asks outside of transactions keeps its server.
            assert (wire, other)[(at + 1) % 2].value("SELECT 1") == "1"


@pytest.mark.pooled
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_who_asks_outside_of_transactions_keeps_its_server(cluster: Cluster, start, extended: bool) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=2)
    with endpoint.connect() as wire, endpoint.connect() as other:
        assert ask(wire, "SELECT lastval()", extended) == UNDEFINED
        for _ in range(5):
            ask(wire, "INSERT INTO numbered (x) VALUES (1)", extended)
            mine = wire.value("SELECT last_value FROM numbered_id_seq")
            ask(other, "INSERT INTO numbered (x) VALUES (2)", extended)
            assert ask(wire, "SELECT lastval()", extended) == [(mine,)]
            with endpoint.admin() as console:
                assert ("t",) in console.rows("SHOW CLIENTS locked")
        wire.ask("DISCARD SEQUENCES")
        with endpoint.admin() as console:
            assert ("t",) not in console.rows("SHOW CLIENTS locked")
        assert ask(wire, "SELECT lastval()", extended) == UNDEFINED


@pytest.mark.pooled
def test_prepared_and_pipelined(cluster: Cluster, start) -> None:  # noqa: ANN001
    endpoint = start(cluster, default_pool_size=1)
    run = b.bind((), "l") + b.execute() + b.sync()
    with endpoint.connect() as wire, endpoint.connect() as other:
        wire.send(b.parse("SELECT lastval()", "l"), b.describe_statement("l"), b.sync())
        wire.until("Z")
        other.ask("INSERT INTO numbered (x) VALUES (1)")
        wire.send(run, run)
        assert [rows_or_errors(wire.until("Z")) for _ in range(2)] == [UNDEFINED, UNDEFINED]
        wire.ask("DISCARD SEQUENCES")
        other.ask("INSERT INTO numbered (x) VALUES (1)")
        assert rows_or_errors(wire.ask("EXECUTE l")) == UNDEFINED
        wire.ask("DISCARD ALL")
        other.ask("INSERT INTO numbered (x) VALUES (1)")
        insert = b.parse("INSERT INTO numbered (x) VALUES (1)") + b.bind() + b.execute()
        wire.send(insert, b.parse("SELECT lastval()"), b.bind(), b.execute(), b.sync())
        assert rows_or_errors(wire.until("Z")) == [("4",)]
