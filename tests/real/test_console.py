"""The console: database `admin`, commands and columns as PgDog's users know them."""

from __future__ import annotations

import subprocess
import time

import pytest
from harness import wait_until
from pgwire import build as b
from pgwire.client import ServerError, Wire
from postgres import Cluster
from target import ADMIN_PASSWORD, Pgdog, table

pytestmark = pytest.mark.pgdog

CLIENTS = (
    "id user database addr port state replication connect_time last_request queries transactions transactions_2pc wait_time"
    " query_time transaction_time bytes_received bytes_sent errors application_name locked prepared_statements"
).split()
SERVERS = (
    "pool_id database user addr port state connect_time request_time remote_pid client_id transactions queries rollbacks"
    " prepared_statements healthchecks errors bytes_received bytes_sent last_sent last_received age application_name"
).split()
POOLS = (
    "id database user addr port shard role cl_waiting sv_idle sv_active sv_idle_xact sv_total maxwait maxwait_us pool_mode paused"
    " banned healthy errors re_synced out_of_sync force_closed online schema_admin"
).split()
COUNTERS = (
    "xact_count xact_2pc_count query_count server_assignment_count received sent xact_time idle_xact_time query_time wait_time"
    " server_parse_count bind_count close_count errors cleaned rollbacks connect_time connect_count reads writes auth_attempts"
    " rows_inserted rows_updated rows_deleted"
).split()
STATS = "database user addr port shard role".split() + [f"total_{name}" for name in COUNTERS] + [f"avg_{name}" for name in COUNTERS]


@pytest.fixture(scope="module")
def pgdog(cluster: Cluster, target_kind: str):  # noqa: ANN201
    from target import Database, start_target

    made = start_target(target_kind, [Database(cluster)], None, {"default_pool_size": 2})
    yield made
    made.stop()


@pytest.fixture
def admin(pgdog: Pgdog):  # noqa: ANN201
    with pgdog.admin() as wire:
        yield wire


def column_names(wire: Wire, sql: str) -> list[str]:
    messages = wire.ask(sql)
    for message in messages:
        if message.kind == "E":
            raise ServerError(message)
    return [column[0] for message in messages if message.kind == "T" for column in message.decoded()[1:]]


@pytest.mark.parametrize(
    ("what", "wanted"),
    [("VERSION", ["version"]), ("LISTENERS", "database user shard channel listeners received dropped".split()), ("CLIENTS", CLIENTS), ("SERVERS", SERVERS), ("POOLS", POOLS), ("STATS", STATS), ("CONFIG", ["name", "value"])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns(what: str, wanted: list[str], admin: Wire) -> None:
    found = column_names(admin, f"SHOW {what}")
    assert [name for name in found if name in wanted] == wanted, sorted(set(wanted) - set(found))
    assert column_names(admin, f"show {what.lower()};") == found


def test_show_clients(pgdog: Pgdog, admin: Wire) -> None:
    with pgdog.connect(application_name="watched") as wire:
        wire.value("SELECT 1")
        wire.ask("BEGIN")
        row = next(row for row in pgdog.show("CLIENTS") if row["application_name"] == "watched")
        assert (row["user"], row["database"]) == ("app", "app")
        assert int(row["queries"] or 0) >= 1 and int(row["bytes_sent"] or 0) > 0
        assert row["port"] == str(wire.socket.getsockname()[1])
        server = next(row for row in pgdog.show("SERVERS") if row["remote_pid"] == wire.value("SELECT pg_backend_pid()"))
        assert server["client_id"] == row["id"]
        wire.ask("ROLLBACK")
    wait_until(lambda: all(row["application_name"] != "watched" for row in pgdog.show("CLIENTS")), 5, "the client is gone")


def test_show_selected_columns(admin: Wire) -> None:
    assert column_names(admin, "SHOW CLIENTS id, user") == ["id", "user"]


def test_show_pools_counts(pgdog: Pgdog) -> None:
    clients = [pgdog.connect() for _ in range(3)]
    for client in clients[:2]:
        client.ask("BEGIN")
    clients[2].send(b.query("SELECT 1"))
    row = wait_until(lambda: next((row for row in pgdog.show("POOLS") if row["user"] == "app" and row["cl_waiting"] == "1"), None), 5, "one waits")
    assert int(row["sv_total"]) == 2 and int(row["sv_idle"]) == 0
    assert row["pool_mode"] == "transaction"
    time.sleep(0.2)
    row = next(row for row in pgdog.show("POOLS") if row["user"] == "app")
    assert int(row["maxwait"]) * 1_000_000 + int(row["maxwait_us"]) > 100_000
    for client in clients[:2]:
        client.ask("COMMIT")
    clients[2].until("Z")
    for client in clients:
        client.close()
    wait_until(lambda: next(r for r in pgdog.show("POOLS") if r["user"] == "app")["sv_idle"] == "2", 5, "both are idle again")


def test_show_stats_counts(pgdog: Pgdog) -> None:
    def totals() -> dict[str, int]:
        rows = [row for row in pgdog.show("STATS") if row["user"] == "app"]
        return {key: sum(int(float(row[key] or 0)) for row in rows) for key in rows[0] if key.startswith("total_")}

    before = totals()
    with pgdog.connect() as wire:
        for n in range(10):
            wire.value("SELECT 1")
            wire.extended("SELECT $1", (str(n),))
    wait_until(lambda: totals()["total_query_count"] - before["total_query_count"] >= 20, 5, "twenty queries are counted")
    after = totals()
    assert after["total_xact_count"] - before["total_xact_count"] == 20
    assert after["total_bind_count"] - before["total_bind_count"] == 10
    assert after["total_sent"] > before["total_sent"] and after["total_received"] > before["total_received"]


def test_show_config_and_version(pgdog: Pgdog) -> None:
    config = {row["name"]: row["value"] for row in pgdog.show("CONFIG")}
    assert config["default_pool_size"] == "2"
    assert config["pooler_mode"] == "transaction"
    assert ADMIN_PASSWORD not in repr(config)
    assert pgdog.show("VERSION")[0]["version"]


def test_psql_can_use_it(pgdog: Pgdog) -> None:
    environment = pgdog.environment("admin", "admin") | {"PGPASSWORD": ADMIN_PASSWORD}
    done = subprocess.run(["psql", "-X", "-At", "-c", "SHOW VERSION"], env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_who_may_enter(pgdog: Pgdog) -> None:
    for user, password in (("admin", "wrong"), ("app", "secret"), ("nobody", ADMIN_PASSWORD)):
        with pytest.raises(ServerError) as caught:
            Wire.connect(pgdog.address, user, "admin", password)
        assert caught.value.sqlstate == "28P01"


def test_mistakes_are_errors_and_the_console_goes_on(admin: Wire) -> None:
    for text in ("NONSENSE", "SELECT 1/0 FROM", "PAUSE no_such_database", "SHOW CLIENTS no_such_column"):
        messages = admin.ask(text)
        assert any(m.kind == "E" for m in messages), text
    assert table(admin, "SHOW VERSION")


def test_garbage_on_the_console(pgdog: Pgdog) -> None:
    for data in (b.message(b"!", b"x"), b"\xff" * 100, b.query("SHOW VERSION")[:9], b.message(b"B", b"\0")):
        wire = pgdog.admin()
        wire.send(data)
        wire.half_close()
        wire.until_closed()
        wire.socket.close()
    assert pgdog.show("VERSION")


@pytest.mark.parametrize("scope", ["", " app"], ids=["all", "one"])
def test_pause_holds_clients_and_resume_lets_them_go(scope: str, pgdog: Pgdog, admin: Wire) -> None:
    clients = [pgdog.connect() for _ in range(4)]
    inside = pgdog.connect()
    inside.ask("BEGIN")
    # A pause may wait until transactions have ended: it is not waited for here.
    admin.send(b.query(f"PAUSE{scope}"))
    time.sleep(0.3)
    assert inside.value("SELECT 'goes on'") == "goes on"
    inside.ask("COMMIT")
    admin.until("Z")
    for client in clients:
        client.send(b.query("SELECT 'released'"))
    for client in clients:
        assert client.quiet(0.1), "a paused pool gave out a server"
    admin.ask(f"RESUME{scope}")
    for client in clients:
        assert [m.row() for m in client.until("Z") if m.kind == "D"] == [("released",)]
        client.close()
    inside.close()


def test_new_clients_during_a_pause_wait_too(pgdog: Pgdog, admin: Wire) -> None:
    admin.ask("PAUSE")
    try:
        client = pgdog.connect()
        client.send(b.query("SELECT 1"))
        assert client.quiet(0.2)
        assert next(row for row in pgdog.show("POOLS") if row["user"] == "app")["paused"] in ("t", "true", "1", "yes")
    finally:
        admin.ask("RESUME")
    client.until("Z")
    client.close()


def test_reconnect_replaces_all_servers(pgdog: Pgdog, admin: Wire) -> None:
    with pgdog.connect() as wire, pgdog.connect() as busy:
        old = wire.value("SELECT pg_backend_pid()")
        busy.ask("BEGIN")
        held = busy.value("SELECT pg_backend_pid()")
        admin.send(b.query("RECONNECT"))
        time.sleep(0.2)
        assert busy.value("SELECT pg_backend_pid()") == held
        busy.ask("COMMIT")
        admin.until("Z")
        wait_until(lambda: wire.value("SELECT pg_backend_pid()") not in (old, held), 5, "a new server")
        assert busy.value("SELECT pg_backend_pid()") not in (old, held)
