"""Unix sockets, for clients and for servers."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks import backends
from harness import temporary_directory, wait_until
from pgwire import build as b
from pgwire.client import Wire, cancel
from postgres import Cluster, create_application
from target import ADMIN_PASSWORD, Database, Pgdog, table

pytestmark = pytest.mark.pgdog


def socket_of(pgdog: Pgdog, directory: Path | str) -> str:
    return f"{directory}/.s.PGSQL.{pgdog.port}"


def psql(pgdog: Pgdog, host: Path | str, sql: str, **environment: str) -> str:
    done = subprocess.run(
        ["psql", "-h", str(host), "-XAtqc", sql],
        env=pgdog.environment() | {"PGHOST": str(host)} | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_clients_come_over_a_unix_socket(cluster: Cluster, start) -> None:  # noqa: ANN001
    directory = temporary_directory("pgdog-unix-")
    pgdog = start(cluster, unix_socket_dir=directory, unix_socket_mode="0750")
    path = socket_of(pgdog, directory)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    assert psql(pgdog, directory, "SELECT current_user, 6 * 7") == "app|42"
    # libpq asks for encryption over TCP only; whoever asks here gets what PostgreSQL says.
    wire = Wire.dial(path)
    wire.send(b.ssl_request())
    assert wire.receive_byte() == b"N"
    wire.close()
    with Wire.connect(path, "app", "app", "secret") as one, Wire.connect(path, "admin", "admin", ADMIN_PASSWORD) as admin:
        one.value("SELECT 1")
        addresses = {(row["user"], row["addr"], row["port"]) for row in table(admin, "SHOW CLIENTS")}
        assert addresses == {("app", "unix", "0"), ("admin", "unix", "0")}
        with pgdog.connect() as tcp:
            assert tcp.value("SELECT 1") == "1"
    assert "client unix of user" in pgdog.log_text()


def test_a_cancel_request_over_a_unix_socket(cluster: Cluster, start) -> None:  # noqa: ANN001
    directory = temporary_directory("pgdog-unix-")
    pgdog = start(cluster, unix_socket_dir=directory)
    path = socket_of(pgdog, directory)
    with Wire.connect(path, "app", "app", "secret") as wire:
        wire.send(b.query("SELECT pg_sleep(20)"))
        wait_until(lambda: backends(cluster, "query LIKE '%pg_sleep(20)%' AND state = 'active'") == 1, 5, "it runs")
        began = time.monotonic()
        cancel(path, wire.pid, wire.secret)
        answer = wire.until("Z")
        assert any(message.kind == "E" and message.fields()["C"] == "57014" for message in answer)
        assert time.monotonic() - began < 10


def test_the_socket_goes_with_its_process(cluster: Cluster, start) -> None:  # noqa: ANN001
    directory = temporary_directory("pgdog-unix-")
    pgdog = start(cluster, unix_socket_dir=directory)
    path = socket_of(pgdog, directory)
    # Killed: the file stays, and is in nobody's way.
    pgdog.child.signal(signal.SIGKILL)
    pgdog.child.wait(10)
    assert os.path.exists(path)
    pgdog._start([pgdog.binary, "-c", pgdog.config, "-u", pgdog.users_file])
    Wire.connect(path, "app", "app", "secret").close()
    # Another process does not take it away.
    other = Path(pgdog.config).with_name("other.toml")
    other.write_text(pgdog.config.read_text().replace('host = "127.0.0.1"', 'host = "127.0.0.2"', 1))
    done = subprocess.run(
        [pgdog.binary, "-c", other, "-u", pgdog.users_file], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0 and ".s.PGSQL" in done.stderr, done.stderr
    Wire.connect(path, "app", "app", "secret").close()
    pgdog.child.signal(signal.SIGTERM)
    pgdog.child.wait(20)
    assert not os.path.exists(path)


def test_an_abstract_name(cluster: Cluster, start) -> None:  # noqa: ANN001
    name = f"@pgdog-test-{os.getpid()}"
    pgdog = start(cluster, unix_socket_dir=name)
    with Wire.connect("\0" + socket_of(pgdog, name)[1:], "app", "app", "secret") as wire:
        assert wire.value("SELECT current_user") == "app"


@pytest.fixture(scope="module")
def local() -> Iterator[Cluster]:
    """A cluster whose users may log in over its Unix socket only."""
    made = Cluster("local", hba="local all postgres trust\nlocal all all scram-sha-256\nhost all postgres all trust\n")
    create_application(made)
    yield made
    made.stop()


@pytest.mark.parametrize("tls_verify", ["prefer", "verify_full"])
def test_servers_over_a_unix_socket(tls_verify: str, local: Cluster, start) -> None:  # noqa: ANN001
    """As libpq: no encryption is asked for there, whatever is demanded elsewhere."""
    cluster = local
    pgdog = start(cluster, [Database(cluster, options={"host": str(cluster.directory)})], tls_verify=tls_verify)
    with pgdog.connect() as wire:
        assert wire.value("SELECT coalesce(client_addr::text, 'local') FROM pg_stat_activity WHERE pid = pg_backend_pid()") == "local"
        big = wire.value("SELECT repeat('x', 3000000)")
        assert big == "x" * 3_000_000
        (row,) = pgdog.show("SERVERS")
        assert row["addr"] == str(cluster.directory)
        # Cancel requests take the same way.
        threading.Timer(0.5, cancel, (pgdog.address, wire.pid, wire.secret)).start()
        answer = wire.ask("SELECT pg_sleep(20)")
        assert any(message.kind == "E" and message.fields()["C"] == "57014" for message in answer)
        assert wire.value("SELECT 1") == "1"


def test_a_server_that_is_not_there(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, [Database(cluster, options={"host": "/nonexistent"})], checkout_timeout=3000)
    with pytest.raises(Exception, match="08006"):
        pgdog.connect()
