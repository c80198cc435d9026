"""PROXY protocol, version 2: from listed addresses it has to come, from others it must not; and application_name_add_host."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from harness import temporary_directory
from pgwire import build as b
from pgwire.client import ServerError, Wire
from postgres import Cluster
from target import ADMIN_PASSWORD, Pgdog, table

pytestmark = pytest.mark.pgdog

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4711, 5432)
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack("!HH", 4712, 5432)


def header(addresses: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


def log_in(address: str | tuple[str, int], first: bytes, slowly: bool = False, user: str = "app", **parameters: str) -> Wire:
    wire = Wire.dial(address)
    database, password = ("admin", ADMIN_PASSWORD) if user == "admin" else ("app", "secret")
    data = first + b.startup({"user": user, "database": database, **parameters})
    if slowly:
        for at in range(len(data)):
            wire.send(data[at : at + 1])
            time.sleep(0.001)
    else:
        wire.send(data)
    wire.log_in(user, password)
    wire.until_ready()
    wire.clear()
    return wire


def addresses(pgdog: Pgdog, admin: Wire) -> set[tuple[str | None, str | None]]:
    return {(row["addr"], row["port"]) for row in table(admin, "SHOW CLIENTS") if row["user"] == "app"}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (header(TCP4), ("203.0.113.7", "4711")),
        (header(TCP4 + b"\x04\x00\x03abc"), ("203.0.113.7", "4711")),
        (header(TCP6, 0x21), ("2001:db8::7", "4712")),
        (header(b"/a".ljust(108, b"\0") + bytes(108), 0x31), ("unix", "0")),
        (header(b"", 0x00, 0x20), ("127.0.0.1", None)),
        (header(TCP4, command=0x20), ("127.0.0.1", None)),
    ],
    ids=["tcp4", "tcp4 and more", "tcp6", "unix", "local", "local with addresses"],
)
def test_the_header_says_where_the_client_is(first: bytes, expected: tuple[str, str | None], cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, proxy_protocol_from=["10.0.0.0/8", "127.0.0.0/8"])
    for slowly in (False, True):
        with log_in(pgdog.address, first, slowly) as wire, log_in(pgdog.address, first, user="admin") as admin:
            assert wire.value("SELECT 1") == "1"
            ((address, port),) = addresses(pgdog, admin)
            assert address == expected[0]
            assert expected[1] is None or port == expected[1]


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 5432\r\n",
        header(TCP4, command=0x31),
        header(TCP4, family=0x12),
        header(TCP4[:11]),
        header(bytes(60000)),
        b"\r\n\r\n\0\r\nQUIX\n",
    ],
    ids=["none", "version 1", "version 3", "datagrams", "cut short", "too long", "garbage"],
)
def test_a_listed_address_has_to_send_a_header(first: bytes, cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, proxy_protocol_from=["127.0.0.1"])
    with pytest.raises((ServerError, OSError)) as caught:
        log_in(pgdog.address, first)
    if isinstance(caught.value, ServerError):
        assert (caught.value.sqlstate, caught.value.severity) == ("08P01", "FATAL")
    log_in(pgdog.address, header(TCP4)).close()


def test_other_addresses_must_not_send_one(cluster: Cluster, start) -> None:  # noqa: ANN001
    directory = temporary_directory("pgdog-proxy-")
    pgdog = start(cluster, proxy_protocol_from=["192.0.2.0/24", "unix"], unix_socket_dir=directory)
    with pytest.raises((ServerError, OSError)):
        log_in(pgdog.address, header(TCP4))
    with pgdog.connect() as wire:
        assert wire.value("SELECT 1") == "1"
    with log_in(f"{directory}/.s.PGSQL.{pgdog.port}", header(TCP4)) as wire, pgdog.admin() as admin:
        assert wire.value("SELECT 1") == "1"
        assert addresses(pgdog, admin) == {("203.0.113.7", "4711")}


def test_the_address_behind_the_application_name(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, proxy_protocol_from=["127.0.0.1"], application_name_add_host=True, default_pool_size=1)
    with log_in(pgdog.address, header(TCP4), application_name="reports") as one, log_in(pgdog.address, header(TCP6, 0x21)) as two:
        for _ in range(2):
            assert one.value("SHOW application_name") == "reports - 203.0.113.7:4711"
            assert two.value("SHOW application_name") == "app - [2001:db8::7]:4712"
        one.ask("SET application_name = 'mine'")
        assert one.value("SHOW application_name") == "mine"
        one.ask("RESET application_name")
        assert one.value("SHOW application_name") == "reports - 203.0.113.7:4711"
