"""Limits of clients and of servers: who is kept out and how, and that the numbers are exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from checks import Sampler, backends
from harness import memory, wait_until
from pgwire import build as b
from pgwire.client import ServerError, Wire, retry
from pgwire.decode import Message
from postgres import Cluster
from target import Database, User

pytestmark = pytest.mark.pgdog


def refusal(connect: Callable[[], Wire]) -> tuple[str, str]:
    """SQLSTATE and text of a login that must fail."""
    with pytest.raises(ServerError) as caught:
        connect().close()
    return caught.value.sqlstate, caught.value.fields["M"]


# ------------------------------------------------------------------ clients


def test_max_client_conn_is_exact_over_all_workers(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, max_client_conn=7, workers=3)
    results: list[Wire | ServerError] = []

    def come() -> None:
        try:
            results.append(pgdog.connect())
        except ServerError as error:
            results.append(error)

    threads = [threading.Thread(target=come) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inside = [result for result in results if isinstance(result, Wire)]
    errors = [result for result in results if isinstance(result, ServerError)]
    assert len(inside) == 7
    assert {(error.sqlstate, error.fields["M"]) for error in errors} == {("53300", "sorry, too many clients already")}
    assert len(pgdog.show("CLIENTS")) == 7 + 1, "the console counts for nothing, and gets in"
    assert inside[0].value("SELECT 1") == "1"
    inside.pop().close()
    inside.append(retry(pgdog.connect))
    assert refusal(pgdog.connect)[0] == "53300"
    for wire in inside:
        wire.close()


def test_a_wrong_password_takes_no_place(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, max_client_conn=1)
    for _ in range(3):
        assert refusal(lambda: pgdog.connect(password="wrong"))[0] == "28P01"
    with pgdog.connect() as wire:
        assert wire.value("SELECT 1") == "1"
        assert refusal(lambda: pgdog.connect(password="wrong"))[0] == "28P01", "who knows no password learns nothing"


def test_clients_of_one_user_and_of_one_database(cluster: Cluster, start) -> None:  # noqa: ANN001
    databases = [Database(cluster), Database(cluster, "app2", {"max_db_client_connections": 2})]
    both = {"database": "app", "databases": ["app2"]}
    users = [User(options=both | {"max_user_client_connections": 3}), User("app_md5", options=both)]
    pgdog = start(cluster, databases, users, max_user_client_connections=0)
    with ExitStack() as stack:
        for database in ("app", "app", "app2"):
            stack.enter_context(pgdog.connect(database=database))
        assert refusal(lambda: pgdog.connect(database="app2")) == ("53300", 'too many connections for role "app"')
        stack.enter_context(pgdog.connect("app_md5", "app2"))
        assert refusal(lambda: pgdog.connect("app_md5", "app2")) == (
            "53300",
            'too many connections for database "app2"',
        )
        for _ in range(5):
            stack.enter_context(pgdog.connect("app_md5"))
    retry(lambda: pgdog.connect(database="app2").close())


def test_a_reload_changes_the_limit(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, max_client_conn=1)
    with pgdog.connect() as first:
        assert refusal(pgdog.connect)[0] == "53300"
        pgdog.general["max_client_conn"] = 2
        pgdog.write_configuration()
        pgdog.reload()
        retry(lambda: pgdog.connect().close())
        assert first.value("SELECT 1") == "1"


# ------------------------------------------------------------------ servers


def test_max_db_connections_bounds_all_pools_of_a_database(cluster: Cluster, start) -> None:  # noqa: ANN001
    users = [User(), User("app_md5")]
    pgdog = start(cluster, users=users, max_db_connections=3, default_pool_size=5)
    wrong = []

    def work(user: str) -> None:
        with pgdog.connect(user) as wire:
            for number in range(60):
                value = wire.value(f"SELECT current_user || {number} FROM pg_sleep(0.002)")
                if value != f"{user}{number}":
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(user,)) for user in ("app", "app_md5") for _ in range(6)]
    with Sampler(cluster) as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert 2 <= sampler.most <= 3, f"{sampler.most} servers"
    assert sum(int(row["sv_total"]) for row in pgdog.show("POOLS")) <= 3


def test_an_idle_server_of_another_user_makes_room_at_once(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, users=[User(), User("app_md5")], max_db_connections=2)
    with pgdog.connect() as one, pgdog.connect() as other, pgdog.connect("app_md5") as late:
        one.ask("BEGIN")
        held = one.value("SELECT pg_backend_pid()")
        assert other.value("SELECT pg_backend_pid()") != held
        assert backends(cluster) == 2
        began = time.monotonic()
        assert late.value("SELECT current_user") == "app_md5"
        assert time.monotonic() - began < 2
        assert backends(cluster) == 2 and backends(cluster, "usename = 'app'") == 1
        assert one.value("SELECT pg_backend_pid()") == held, "the one that nobody used has gone"
        one.ask("COMMIT")


def test_who_waits_under_a_shared_limit_is_served_before_late_comers(cluster: Cluster, start) -> None:  # noqa: ANN001
    """One slot, a user who is never idle: the other one's client gets its turn nevertheless."""
    pgdog = start(cluster, users=[User(), User("app_md5")], max_db_connections=1, checkout_timeout=10000)
    stop = threading.Event()

    def load() -> None:
        with pgdog.connect() as wire:
            while not stop.is_set():
                wire.value("SELECT 1 FROM pg_sleep(0.01)")

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with pgdog.connect("app_md5") as late:
            for _ in range(3):
                began = time.monotonic()
                assert late.value("SELECT current_user") == "app_md5"
                assert time.monotonic() - began < 5
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_max_user_connections_over_databases(cluster: Cluster, start) -> None:  # noqa: ANN001
    databases = [Database(cluster), Database(cluster, "app2")]
    user = User(options={"databases": ["app2"], "max_user_connections": 1})
    pgdog = start(cluster, databases, [user], checkout_timeout=1000)
    with pgdog.connect() as one, pgdog.connect(database="app2") as other:
        for _ in range(5):
            assert one.value("SELECT current_database()") == "app"
            assert other.value("SELECT current_database()") == "app2"
            assert backends(cluster) <= 1
        one.ask("BEGIN")
        answer = other.ask("SELECT 1")
        errors = [message.decoded() for message in answer if message.kind == "E"]
        assert errors and "53300" in str(errors), answer
        one.ask("COMMIT")
        wait_until(lambda: other.value("SELECT 1") == "1", 5, "the other database is served")


# ------------------------------------------------------------------ reserve


def test_the_reserve_opens_for_who_has_waited_and_closes_behind_it(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=1, reserve_pool_size=1, reserve_pool_timeout=600, checkout_timeout=2500)
    with pgdog.connect() as one, pgdog.connect() as two, pgdog.connect() as three:
        one.ask("BEGIN")
        began = time.monotonic()
        two.ask("BEGIN")
        waited = time.monotonic() - began
        assert 0.6 <= waited < 2, f"waited {waited} s"
        (row,) = pgdog.show("POOLS")
        assert (row["pool_size"], row["reserve_pool_size"], row["sv_reserve"], row["sv_total"]) == ("1", "1", "1", "2")
        answer = three.ask("SELECT 1")
        assert any("53300" in str(message.decoded()) for message in answer if message.kind == "E"), "two is all there is"
        assert backends(cluster) == 2
        one.ask("COMMIT")
        two.ask("COMMIT")
        wait_until(lambda: backends(cluster) == 1, 5, "the reserve is closed when nobody waits")
        wait_until(lambda: pgdog.show("POOLS")[0]["sv_reserve"] == "0", 5, "and counted as gone")
        assert three.value("SELECT 1") == "1"


# ------------------------------------------------------------------ query_size_limit


def batch(wire: Wire, *messages: bytes) -> list[Message]:
    wire.send(*messages)
    return wire.until("Z")


def long_query(length: int) -> bytes:
    return b.query("SELECT 1 /* " + "x" * (length - 16) + " */")


def test_a_statement_above_query_size_limit_is_refused_and_the_session_goes_on(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, query_size_limit=1000, query_size_limit_action="block", default_pool_size=1)
    with pgdog.connect() as wire:

        def refused(*messages: bytes) -> list[str]:
            answer = batch(wire, *messages)
            (error,) = [message for message in answer if message.kind == "E"]
            assert (error.fields()["C"], error.fields()["V"]) == ("54000", "ERROR"), error.fields()
            return [message.kind for message in answer]

        assert wire.value("SELECT 1 /*" + " " * 900 + "*/") == "1"
        assert refused(long_query(1001)) == ["E", "Z"]
        assert refused(long_query(60_000_000)) == ["E", "Z"], "skipped, not gathered"
        assert wire.value("SELECT 2") == "2"
        # In a transaction it fails that, as any statement that cannot be run.
        wire.ask("BEGIN")
        assert refused(long_query(5000)) == ["E", "Z"]
        assert wire.status == "E"
        wire.ask("ROLLBACK")
        long = "SELECT 1 /*" + "x" * 2000 + "*/"
        for name in ("", "named"):
            kinds = refused(b.parse(long, name), b.bind((), name), b.execute(), b.sync())
            assert kinds == ["E", "Z"]
        assert wire.status == "I"
        answer = batch(wire, b.parse("SELECT 5"), b.bind(), b.execute(), b.sync())
        assert [message.kind for message in answer] == ["1", "2", "D", "C", "Z"]
        # A pipeline: what is ahead of it is answered, what is behind it up to the Sync is not run.
        kinds = refused(b.parse("SELECT 6"), b.bind(), b.execute(), b.parse(long), b.bind(), b.execute(), b.sync())
        assert kinds == ["1", "2", "D", "C", "E", "Z"]
    assert memory(pgdog.pid) < 60, "MiB"


def test_query_size_limit_warns_by_default(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, query_size_limit=1000)
    with pgdog.connect() as wire:
        assert [message.kind for message in batch(wire, long_query(200_000))] == ["T", "D", "C", "Z"]
        long = "SELECT 1 /*" + "secret" * 2000 + "*/"
        for name in ("", "named"):
            answer = batch(wire, b.parse(long, name), b.bind((), name), b.execute(), b.sync())
            assert [message.kind for message in answer] == ["1", "2", "D", "C", "Z"]
    log = pgdog.log_text()
    assert log.count("above query_size_limit") == 3, log
    assert "secretsecret" not in log
