"""Clients that never become any: the others do not notice, and memory stays within bounds."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import threading
import time

import pytest
from certificates import LOCAL, Pki
from harness import memory, wait_until
from pgwire import build as b
from pgwire.client import Wire
from postgres import Cluster
from target import Pgdog

pytestmark = pytest.mark.pgdog

HOSTILE = 5000
LOGIN_TIMEOUT = 12
# A client hello of 16 KiB, of which half comes.
HALF_A_RECORD = b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + b"x" * 8000

FIRST_WORDS = [
    b"",
    b"\0\0",
    struct.pack("!I", 10_001) + b"x" * 9_000,  # a startup packet that is too long
    struct.pack("!I", 0x7FFFFFFF),
    struct.pack("!II", 9_999, 196608) + b"user\0" + b"x" * 9_000,  # one that never ends
    b.ssl_request() + b"before the handshake",
    b.ssl_request(),
    HALF_A_RECORD,
    b.startup({"user": "app", "database": "app"}),  # and never a password
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(range(256)),
]


class Witness(threading.Thread):
    """A client that works all the time, and remembers how long its answers took."""

    def __init__(self, pgdog: Pgdog, number: int) -> None:
        super().__init__()
        self.wire = pgdog.connect()
        self.number = number
        self.stop = threading.Event()
        self.done = 0
        self.slowest = 0.0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                began = time.monotonic()
                assert self.wire.value(f"SELECT {self.number} * {self.done}") == str(self.number * self.done)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done += 1
                time.sleep(0.01)
            self.wire.close()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error


def test_five_thousand_that_never_log_in(cluster: Cluster, start) -> None:  # noqa: ANN001
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Pki("hostile").make("server", "localhost", extensions=LOCAL)
    pgdog = start(
        cluster,
        client_login_timeout=LOGIN_TIMEOUT * 1000,
        max_client_conn=50,
        tls_certificate=server.crt,
        tls_private_key=server.key,
        log_level="error",
    )
    witnesses = [Witness(pgdog, number) for number in range(4)]
    for witness in witnesses:
        witness.start()
    before = memory(pgdog.pid)
    crowd: list[socket.socket] = []
    try:
        for number in range(HOSTILE):
            sock = socket.create_connection(pgdog.address, timeout=20)
            crowd.append(sock)
            with contextlib.suppress(OSError):
                sock.sendall(FIRST_WORDS[number % len(FIRST_WORDS)])
        # Whoever has a password gets in: what has proved nothing counts for no limit.
        for _ in range(20):
            began = time.monotonic()
            with pgdog.connect() as wire:
                assert wire.value("SELECT 1") == "1"
            assert time.monotonic() - began < 3
        grown = memory(pgdog.pid) - before
        # 8 KiB each, where what has been sent is not more.
        assert grown < 80, f"{grown} MiB"
        wait_until(lambda: len(pgdog.show("CLIENTS")) <= 6, LOGIN_TIMEOUT + 20, "the others are sent away in time", 1)
        for witness in witnesses:
            witness.stop.set()
            witness.join()
            assert witness.error is None, witness.error
            assert witness.done > 100 and witness.slowest < 2, (witness.done, witness.slowest)
    finally:
        for witness in witnesses:
            witness.stop.set()
        for sock in crowd:
            sock.close()
    wait_until(lambda: memory(pgdog.pid) - before < 30, 20, "what they took is given back", 0.5)
    with pgdog.connect() as wire:
        assert wire.value("SELECT 1") == "1"


def test_half_a_record_each_is_bounded_together(cluster: Cluster, start) -> None:  # noqa: ANN001
    """Together they would take more than all incomplete messages may: those who have not logged in go first."""
    server = Pki("crowd").make("server", "localhost", extensions=LOCAL)
    pgdog = start(cluster, tls_certificate=server.crt, tls_private_key=server.key, workers=1, log_level="error")
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + b"x" * 16_000
    before = memory(pgdog.pid)
    with pgdog.connect() as half:
        # In the middle of a message, as a slow client is.
        whole = b.query("SELECT 1 /*" + "x" * 100_000 + "*/")
        half.send(whole[:60_000])
        crowd = []
        for _ in range(4000):
            sock = socket.create_connection(pgdog.address, timeout=20)
            crowd.append(sock)
            with contextlib.suppress(OSError):
                sock.sendall(record)
        with pgdog.connect() as wire:
            assert wire.value("SELECT 1") == "1"
        grown = memory(pgdog.pid) - before
        assert grown < 64, f"{grown} MiB"
        half.send(whole[60_000:])
        assert [message.kind for message in half.until("Z")] == ["T", "D", "C", "Z"]
        for sock in crowd:
            sock.close()
