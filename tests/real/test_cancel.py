"""Cancel requests: they end the query of their own client, running or waiting, and nobody else's."""

from __future__ import annotations

import time

import pytest
from checks import assert_pool_is_whole
from pgwire import build as b
from pgwire.client import Wire, cancel, errors_of, rows_of
from postgres import Cluster
from target import Endpoint


@pytest.fixture
def pool(cluster: Cluster, start) -> Endpoint:  # noqa: ANN001
    return start(cluster, default_pool_size=2)


def test_a_running_query_is_cancelled(pool: Endpoint, cluster: Cluster) -> None:
    with pool.connect() as wire:
        wire.send(b.query("SELECT pg_sleep(60)"))
        time.sleep(0.2)
        began = time.monotonic()
        cancel(pool.address, wire.pid, wire.secret)
        assert list(errors_of(wire.until("Z"))) == ["57014"]
        assert time.monotonic() - began < 3
        assert wire.value("SELECT 1") == "1"
    assert_pool_is_whole(pool, cluster, 2)


def test_a_running_query_in_a_transaction_is_cancelled(pool: Endpoint) -> None:
    with pool.connect() as wire:
        wire.ask("BEGIN")
        wire.send(b.parse("SELECT pg_sleep(60)"), b.bind(), b.execute(), b.sync())
        time.sleep(0.2)
        cancel(pool.address, wire.pid, wire.secret)
        assert list(errors_of(wire.until("Z"))) == ["57014"]
        assert wire.status == "E"
        wire.ask("ROLLBACK")
        assert wire.status == "I"


@pytest.mark.pooled
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_a_waiting_client_is_cancelled(pool: Endpoint, cluster: Cluster, extended: bool) -> None:
    """A client that waits for a server gets 57014 at once and can go on."""
    holders = [pool.connect() for _ in range(2)]
    for holder in holders:
        holder.ask("BEGIN")
    with pool.connect() as wire:
        if extended:
            wire.send(b.parse("SELECT 1"), b.bind(), b.execute(), b.sync())
        else:
            wire.send(b.query("SELECT 1"))
        assert wire.quiet(0.2)
        began = time.monotonic()
        cancel(pool.address, wire.pid, wire.secret)
        assert list(errors_of(wire.until("Z"))) == ["57014"]
        assert time.monotonic() - began < 2
        for holder in holders:
            assert holder.value("SELECT 1") == "1"
            holder.ask("COMMIT")
            holder.close()
        assert wire.value("SELECT 2") == "2"
    assert_pool_is_whole(pool, cluster, 2)


def test_wrong_keys_cancel_nothing(pool: Endpoint) -> None:
    with pool.connect() as wire:
        wire.send(b.query("SELECT pg_sleep(0.5), 'done'"))
        time.sleep(0.1)
        cancel(pool.address, wire.pid, bytes(byte ^ 0x55 for byte in wire.secret))
        cancel(pool.address, wire.pid ^ 0x3FFF, wire.secret)
        cancel(pool.address, wire.pid, wire.secret[:2])
        assert rows_of(wire.until("Z")) == [("", "done")]


def test_a_late_cancel_hits_nobody(pool: Endpoint, noise_of_pool) -> None:  # noqa: ANN001
    """The client is idle, or in its next query: that one may be hit, another client's never (the noise checks that)."""
    with pool.connect() as wire:
        for round_number in range(150):
            wire.send(b.query("SELECT 1"))
            if round_number % 2:
                wire.until("Z")
                cancel(pool.address, wire.pid, wire.secret)
            else:
                cancel(pool.address, wire.pid, wire.secret)
                assert set(errors_of(wire.until("Z"))) <= {"57014"}


@pytest.fixture
def noise_of_pool(pool: Endpoint):  # noqa: ANN201
    from noise import Noise

    with Noise(pool.host, pool.port) as running:
        yield running


def test_many_cancels_at_once(pool: Endpoint, cluster: Cluster) -> None:
    clients = [pool.connect() for _ in range(8)]
    for client in clients:
        client.send(b.query("SELECT pg_sleep(30)"))
    time.sleep(0.3)
    for client in clients:
        cancel(pool.address, client.pid, client.secret)
    for client in clients:
        assert list(errors_of(client.until("Z"))) == ["57014"]
        client.close()
    assert_pool_is_whole(pool, cluster, 2)


def test_a_cancel_connection_that_stays_open_holds_nothing(pool: Endpoint, cluster: Cluster) -> None:
    with pool.connect() as wire:
        half = [Wire.dial(pool.address) for _ in range(3)]
        half[0].send(b.cancel_request(wire.pid, wire.secret)[:8])
        half[1].send(b.cancel_request(wire.pid, wire.secret))
        assert wire.value("SELECT 1") == "1"
        for connection in half:
            connection.socket.close()
    assert_pool_is_whole(pool, cluster, 2)
