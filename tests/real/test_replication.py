"""Replication connections: each has a server of its own, logged in as the client asks."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from checks import backends
from harness import Child, spawn, temporary_directory, wait_until
from pgwire import build as b
from pgwire.client import ServerError, Wire
from postgres import Cluster, create_application
from target import Database, Pgdog, User

pytestmark = pytest.mark.pgdog


@pytest.fixture(scope="module")
def source() -> Iterator[Cluster]:
    """A cluster that can be replicated from, by `copier`."""
    hba = (
        "local all postgres trust\nhost all postgres all trust\n"
        "host all all all scram-sha-256\nhost replication copier all scram-sha-256\n"
    )
    made = Cluster("source", hba=hba, settings={"wal_level": "logical", "max_wal_senders": "8"})
    create_application(made)
    made.sql("CREATE ROLE copier LOGIN REPLICATION PASSWORD 'secret'")
    made.sql("CREATE TABLE events (id int)", "GRANT ALL ON events TO public", database="app")
    yield made
    made.stop()


@pytest.fixture
def pgdog(source: Cluster, start) -> Pgdog:  # noqa: ANN001
    copier = User("copier", options={"replication_mode": True})
    return start(source, users=[User(), copier], max_user_connections=2, query_timeout=2000, client_idle_timeout=3000, checkout_timeout=2000)


def senders(source: Cluster) -> list[tuple[str | None, ...]]:
    return source.sql("SELECT application_name, state FROM pg_stat_replication ORDER BY pid")


def environment(pgdog: Pgdog) -> dict[str, str]:
    return pgdog.environment("copier") | {"PGPASSWORD": "secret"}


def program(pgdog: Pgdog, *argv: str) -> Child:
    return spawn(argv, name=argv[0], env=environment(pgdog), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize("replication", ["database", "true"])
def test_psql_identifies_the_system(replication: str, source: Cluster, pgdog: Pgdog) -> None:
    conninfo = f"host={pgdog.host} port={pgdog.port} user=copier dbname=app replication={replication}"
    done = subprocess.run(
        ["psql", "-XAtq", conninfo, "-c", "IDENTIFY_SYSTEM", "-c", "SHOW port"],
        env=environment(pgdog),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    identity, port = done.stdout.strip().splitlines()
    assert identity.split("|")[0] == source.sql("SELECT system_identifier FROM pg_control_system()")[0][0]
    assert identity.split("|")[3] == ("app" if replication == "database" else "")
    assert port == str(source.port)


def test_login_settings_and_the_console(source: Cluster, pgdog: Pgdog) -> None:
    with pgdog.connect("copier", replication="database", application_name="copy", options="-c work_mem=1234kB") as wire:
        assert wire.value("SHOW work_mem") == "1234kB"
        assert wire.value("SHOW application_name") == "copy"
        pid = wire.value("SELECT pg_backend_pid()")
        wire.ask("CREATE TEMPORARY TABLE mine (id int)")
        assert wire.value("SELECT count(*) FROM mine") == "0" and wire.value("SELECT pg_backend_pid()") == pid
        (row,) = [row for row in pgdog.show("CLIENTS") if row["user"] == "copier"]
        assert (row["replication"], row["application_name"], row["locked"]) == ("logical", "copy", "t")
        (row,) = [row for row in pgdog.show("POOLS") if row["user"] == "copier" and row["sv_total"] != "0"]
        assert (row["pool_size"], row["sv_total"], row["pool_mode"]) == ("1", "1", "session")
        # Nobody else gets it, and it counts for max_user_connections.
        with pgdog.connect("copier") as other:
            other.ask("BEGIN")
            assert other.value("SELECT pg_backend_pid()") != pid
            assert backends(source, "usename = 'copier'") + len(senders(source)) == 2
            with pytest.raises(ServerError, match="53300"):
                pgdog.connect("copier", replication="database")
    wait_until(lambda: source.sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")[0][0] == "0", 5, "its server has gone")
    wait_until(lambda: all(row["pool_size"] != "1" for row in pgdog.show("POOLS")), 5, "and its pool")


def test_pg_receivewal(source: Cluster, pgdog: Pgdog) -> None:
    directory = temporary_directory("pgdog-wal-")
    child = program(pgdog, "pg_receivewal", "-D", str(directory), "--synchronous", "-s", "1")
    try:
        wait_until(lambda: senders(source) == [("pg_receivewal", "streaming")], 10, "it streams")
        source.sql("INSERT INTO events SELECT generate_series(1, 20000)", database="app")
        end = source.sql("SELECT pg_current_wal_flush_lsn()")[0][0]
        reached = f"SELECT flush_lsn >= '{end}' FROM pg_stat_replication"
        wait_until(lambda: source.sql(reached)[0][0] == "t", 20, "everything has arrived, and the server knows")
        # Longer than query_timeout and client_idle_timeout: those are for clients of another kind.
        time.sleep(3.5)
        assert child.running() and list(directory.glob("*.partial"))
    finally:
        child.stop()
    wait_until(lambda: senders(source) == [], 5, "its server has gone")


def test_pg_recvlogical(source: Cluster, pgdog: Pgdog) -> None:
    file = temporary_directory("pgdog-logical-") / "out"
    common = ("pg_recvlogical", "-d", "app", "--slot", "s1")
    made = subprocess.run([*common, "--create-slot", "-P", "test_decoding"], env=environment(pgdog), timeout=30, check=False)
    assert made.returncode == 0
    child = program(pgdog, *common, "--start", "-f", str(file), "-F", "1", "-s", "1")
    try:
        wait_until(lambda: senders(source) == [("pg_recvlogical", "streaming")], 10, "it streams")
        source.sql("INSERT INTO events VALUES (4711)", database="app")
        wait_until(lambda: file.exists() and "4711" in file.read_text(), 10, "the change arrives")
        assert child.running()
    finally:
        child.stop()
    wait_until(lambda: senders(source) == [], 5, "its server has gone")
    dropped = subprocess.run([*common, "--drop-slot"], env=environment(pgdog), timeout=30, check=False)
    assert dropped.returncode == 0


def test_a_client_that_ends_the_copy_goes_on(source: Cluster, pgdog: Pgdog) -> None:
    with pgdog.connect("copier", replication="true") as wire:
        wire.ask("CREATE_REPLICATION_SLOT s2 TEMPORARY PHYSICAL RESERVE_WAL")
        position = wire.rows("IDENTIFY_SYSTEM")[0][2]
        wire.send(b.query(f"START_REPLICATION SLOT s2 PHYSICAL {position}"))
        wire.until("W")
        source.sql("INSERT INTO events VALUES (1)", database="app")
        wire.until("d")
        wire.send(b.copy_done())
        kinds = [message.kind for message in wire.until("Z")]
        assert "c" in kinds and "C" in kinds
        assert wire.rows("IDENTIFY_SYSTEM")
        assert wire.status == "I"


def test_who_may_not(source: Cluster, pgdog: Pgdog) -> None:
    with pytest.raises(ServerError, match="0A000.*replication_mode"):
        pgdog.connect("app", replication="database")
    with pytest.raises(ServerError, match="28P01"):
        pgdog.connect("copier", password="wrong", replication="database")
    with pytest.raises(ServerError, match="22023"):
        pgdog.connect("copier", replication="perhaps")
    with pgdog.connect("app", replication="off") as wire:
        assert wire.value("SELECT 1") == "1"


def test_a_lost_server_is_told(source: Cluster, pgdog: Pgdog) -> None:
    with pgdog.connect("copier", replication="database") as wire:
        pid = wire.value("SELECT pg_backend_pid()")
        source.sql(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises((ServerError, OSError)):
            wire.value("SELECT 1")
            wire.value("SELECT 1")


def test_whoever_leaves_at_any_moment_leaves_nothing(source: Cluster, pgdog: Pgdog) -> None:
    for number in range(40):
        wire = Wire.dial(pgdog.address)
        wire.send(b.startup({"user": "copier", "database": "app", "replication": "database"}))
        wire.log_in("copier", "secret")
        time.sleep(0.001 * (number % 20))
        wire.socket.close()
    wait_until(lambda: source.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'copier'")[0][0] == "0", 10, "no server is left")
    wait_until(lambda: all(row["pool_size"] != "1" for row in pgdog.show("POOLS")), 10, "nor a pool")
    with pgdog.connect("copier", replication="database") as wire:
        assert wire.value("SELECT 1") == "1"
