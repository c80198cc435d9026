"""PostgreSQL that dies, freezes or comes back: clear errors, no lost slot, the pool whole again.

These clusters are the test's own, because they are hurt.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from checks import assert_pool_is_whole, backends, begin
from harness import descendants, send_signal, wait_until
from pgwire import build as b
from pgwire.client import ServerError, Wire, errors_of, retry
from postgres import Cluster, create_application
from target import Endpoint

POOL = 3
# What a client may be told when its server has gone: PostgreSQL's own word, or the proxy's.
GONE = {"57P01", "57P02", "57P03", "08006", "08000", "08003", "08004", "08001", "58000"}


@pytest.fixture(scope="module")
def victim() -> Iterator[Cluster]:
    made = Cluster("victim", {"max_connections": "60"})
    create_application(made)
    yield made
    made.stop()


@pytest.fixture
def endpoint(victim: Cluster, start) -> Endpoint:  # noqa: ANN001
    return start(victim, default_pool_size=POOL, connect_timeout=2000, healthcheck_interval=1000)


def server_pid(wire: Wire) -> int:
    return int(wire.value("SELECT pg_backend_pid()") or 0)


def outcome(wire: Wire) -> str:
    """SQLSTATE of what came back; '' for success, 'closed' if the connection ended without a word."""
    try:
        messages = wire.until("Z")
    except OSError:
        codes = list(errors_of(wire.transcript))
        return codes[-1] if codes else "closed"
    codes = list(errors_of(messages))
    return codes[-1] if codes else ""


def assert_clear(found: str, direct: bool) -> None:
    assert found in GONE | ({"closed"} if direct else set()), f"no clear error: {found!r}"


# ------------------------------------------------------------------ one backend


@pytest.mark.parametrize("how", ["terminate", "kill_in_query", "kill_in_transaction", "kill_in_copy"])
def test_a_backend_dies_under_its_client(how: str, endpoint: Endpoint, victim: Cluster) -> None:
    wire = endpoint.connect()
    pid = server_pid(wire)
    wire.ask("BEGIN")
    pid = server_pid(wire)
    wire.clear()
    if how == "kill_in_query":
        wire.send(b.query("SELECT pg_sleep(30)"))
    elif how == "kill_in_copy":
        wire.ask("CREATE TABLE gone (n int)")
        wire.send(b.query("COPY gone FROM STDIN"))
        wire.until("G")
    time.sleep(0.1)
    if how == "terminate":
        victim.sql(f"SELECT pg_terminate_backend({pid})")
    else:
        os.kill(pid, signal.SIGKILL)  # PostgreSQL restarts all its backends
    time.sleep(0.1)
    try:
        if how == "kill_in_copy":
            wire.send(b.copy_data(b"1\n"), b.copy_done())
        elif how != "kill_in_query":
            wire.send(b.query("SELECT 1"))
    except OSError:
        pass
    assert_clear(outcome(wire), endpoint.is_direct)
    wire.socket.close()
    wait_until(victim._answers, 20, "PostgreSQL recovers")
    assert_pool_is_whole(endpoint, victim, POOL)


@pytest.mark.pooled
def test_idle_servers_are_killed(endpoint: Endpoint, victim: Cluster) -> None:
    """Nobody was using them, so nobody should notice for long."""
    clients = [endpoint.connect() for _ in range(POOL)]
    for client in clients:
        begin(client)
    for client in clients:
        client.ask("COMMIT")
    victim.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    wait_until(lambda: backends(victim, "usename = 'app'") == 0, 5, "the servers end")
    time.sleep(0.2)
    for client in clients:
        assert client.value("SELECT 'undisturbed'") == "undisturbed"
        client.close()
    assert_pool_is_whole(endpoint, victim, POOL)


@pytest.mark.pooled
def test_waiting_clients_outlive_the_death_of_a_server(endpoint: Endpoint, victim: Cluster) -> None:
    holders = [endpoint.connect() for _ in range(POOL)]
    for holder in holders:
        holder.ask("BEGIN")
    crowd = [endpoint.connect() for _ in range(6)]
    for wire in crowd:
        wire.send(b.query("SELECT 'served'"))
    time.sleep(0.1)
    victim.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    for wire in crowd:
        assert [m.row() for m in wire.until("Z") if m.kind == "D"] == [("served",)]
        wire.close()
    for holder in holders:
        holder.socket.close()
    assert_pool_is_whole(endpoint, victim, POOL)


@pytest.mark.pgdog
@pytest.mark.parametrize("mode", ["recover", "drop"])
def test_what_the_client_of_a_dead_server_is_told(mode: str, victim: Cluster, start) -> None:  # noqa: ANN001
    """drop: FATAL and closed. Otherwise: ERROR and ReadyForQuery, and the session goes on."""
    endpoint = start(victim, default_pool_size=POOL, client_connection_recovery=mode)
    with endpoint.connect() as wire:
        wire.ask("BEGIN")
        pid = server_pid(wire)
        wire.send(b.query("SELECT pg_sleep(30)"))
        time.sleep(0.1)
        wire.clear()
        victim.sql(f"SELECT pg_terminate_backend({pid})")
        if mode == "drop":
            messages = wire.until_closed()
            assert messages and messages[-1].kind == "E", messages
            fields = messages[-1].fields()
            assert fields["V"] == "FATAL" and fields["C"] in GONE, fields
        else:
            messages = wire.until("Z")
            fields = next(m.fields() for m in messages if m.kind == "E")
            assert fields["V"] == "ERROR" and fields["C"] in GONE, fields
            wire.ask("ROLLBACK")
            assert wire.value("SELECT 'on'") == "on"
    assert_pool_is_whole(endpoint, victim, POOL)


# ------------------------------------------------------------------ all of PostgreSQL


@pytest.mark.parametrize("how", ["crash", "immediate", "fast"])
def test_postgresql_ends_and_comes_back(how: str, endpoint: Endpoint, victim: Cluster) -> None:
    idle = endpoint.connect()
    idle.value("SELECT 1")
    busy = endpoint.connect()
    busy.ask("BEGIN")
    busy.clear()
    busy.send(b.query("SELECT pg_sleep(30)"))
    time.sleep(0.1)
    if how == "crash":
        victim.crash()
    else:
        victim.stop(signal.SIGQUIT if how == "immediate" else signal.SIGINT)
    try:
        assert_clear(outcome(busy), endpoint.is_direct)
        busy.socket.close()
        if not endpoint.is_direct:
            # Without a server: an error within a bounded time, not a hang.
            began = time.monotonic()
            idle.clear()
            idle.send(b.query("SELECT 1"))
            found = outcome(idle)
            assert found != "", "an answer from a server that is not there"
            assert time.monotonic() - began < 15
        idle.socket.close()
    finally:
        victim.start()
    retry(lambda: endpoint.connect().close(), attempts=100)
    assert_pool_is_whole(endpoint, victim, POOL)


@pytest.mark.pgdog
def test_postgresql_is_not_there_at_start(start) -> None:  # noqa: ANN001
    """A login waits up to connect_timeout, then 08006; when PostgreSQL comes, everything works."""
    cluster = Cluster("late", {"max_connections": "40"})
    create_application(cluster)
    cluster.stop()
    endpoint = start(cluster, default_pool_size=POOL, connect_timeout=1000)
    began = time.monotonic()
    with pytest.raises(ServerError) as caught:
        endpoint.connect()
    assert (caught.value.severity, caught.value.sqlstate) == ("FATAL", "08006")
    assert time.monotonic() - began < 6
    with pytest.raises(ServerError) as caught:
        endpoint.connect(password="wrong")
    assert caught.value.sqlstate == "28P01"
    cluster.start()
    retry(lambda: endpoint.connect().close(), attempts=100)
    assert_pool_is_whole(endpoint, cluster, POOL)
    cluster.stop()


# ------------------------------------------------------------------ frozen


def test_a_frozen_backend_and_back(endpoint: Endpoint, victim: Cluster) -> None:
    """SIGSTOP of one backend: its client waits, others are served by the other servers, then it goes on."""
    frozen = endpoint.connect()
    frozen.ask("BEGIN")
    pid = server_pid(frozen)
    os.kill(pid, signal.SIGSTOP)
    try:
        frozen.send(b.query("SELECT 'thawed'"))
        with endpoint.connect() as other:
            for _ in range(20):
                assert other.value("SELECT 1") == "1"
        assert frozen.quiet(0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [m.row() for m in frozen.until("Z") if m.kind == "D"] == [("thawed",)]
    frozen.ask("COMMIT")
    frozen.close()
    assert_pool_is_whole(endpoint, victim, POOL)


@pytest.mark.pooled
def test_a_client_leaves_a_frozen_backend(endpoint: Endpoint, victim: Cluster) -> None:
    """The cleanup ROLLBACK gets no answer: the connection is given up after rollback_timeout, the slot comes back."""
    wire = endpoint.connect()
    wire.ask("BEGIN")
    pid = server_pid(wire)
    os.kill(pid, signal.SIGSTOP)
    try:
        wire.socket.close()
        with endpoint.connect() as other:
            assert other.value("SELECT 1") == "1"
        time.sleep(6)  # rollback_timeout is 5 s
    finally:
        send_signal(pid, signal.SIGCONT)
    assert_pool_is_whole(endpoint, victim, POOL)


def test_frozen_postmaster_and_back(endpoint: Endpoint, victim: Cluster) -> None:
    """No new connections for a while. The ones that exist serve on."""
    with endpoint.connect() as wire:
        wire.ask("BEGIN")
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            for _ in range(5):
                assert wire.value("SELECT 1") == "1"
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        wire.ask("COMMIT")
    assert_pool_is_whole(endpoint, victim, POOL)


@pytest.mark.pooled
def test_everything_frozen_and_back(endpoint: Endpoint, victim: Cluster) -> None:
    """SIGSTOP of PostgreSQL and all its backends, with clients that run, wait and leave."""
    clients = [endpoint.connect() for _ in range(8)]
    for client in clients[:2]:
        client.ask("BEGIN")
    family = [victim.pid, *descendants(victim.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    try:
        for client in clients:
            client.send(b.query("SELECT 'after'"))
        time.sleep(1)
        clients.pop().reset()
        clients.pop().socket.close()
    finally:
        for pid in family:
            send_signal(pid, signal.SIGCONT)
    for client in clients:
        found = outcome(client)
        assert found == "" or found in GONE, found
        if found == "" and client.status != "I":
            client.ask("ROLLBACK")
        client.socket.close()
    assert_pool_is_whole(endpoint, victim, POOL)


# ------------------------------------------------------------------ PostgreSQL refuses


@pytest.mark.pooled
def test_too_many_connections_at_postgresql(start) -> None:  # noqa: ANN001
    """PostgreSQL refuses (53300): clients get an error or wait, and nothing is lost when there is room again."""
    cluster = Cluster("full", {"max_connections": "6", "superuser_reserved_connections": "3"})
    create_application(cluster)
    hogs = [cluster_connection(cluster) for _ in range(3)]
    endpoint = start(cluster, default_pool_size=POOL, connect_timeout=1000, checkout_timeout=2000)
    with pytest.raises((ServerError, OSError)):
        endpoint.connect().value("SELECT 1")
    for hog in hogs:
        hog.close()
    retry(lambda: endpoint.connect().close(), attempts=100)
    assert_pool_is_whole(endpoint, cluster, POOL)
    cluster.stop()


def cluster_connection(cluster: Cluster) -> Wire:
    return Wire.connect(("127.0.0.1", cluster.port), "app", "app", "secret")


@pytest.mark.pooled
def test_the_server_password_is_wrong(victim: Cluster, start) -> None:  # noqa: ANN001
    from target import User

    wrong = {"server_password": "not this"}
    endpoint = start(victim, users=[User(options=wrong)], default_pool_size=POOL, connect_timeout=1000, checkout_timeout=2000)
    if endpoint.kind != "pgdog":
        pytest.skip("pgdog's configuration")
    with pytest.raises(ServerError) as caught:
        endpoint.connect().value("SELECT 1")
    assert "not this" not in str(caught.value)
    assert "not this" not in endpoint.log_text()
    assert backends(victim, "usename = 'app'") == 0
