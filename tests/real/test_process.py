"""The process: command line, reload, drain, file limit, what it logs."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from checks import assert_pool_is_whole, backends
from harness import wait_until
from pgwire import build as b
from pgwire.client import ServerError, Wire, retry
from postgres import Cluster
from target import ADMIN_PASSWORD, Database, Pgdog, User, pgdog_binary, replace_file

pytestmark = pytest.mark.pgdog


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [pgdog_binary(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, cwd=cwd
    )


def refused(pgdog: Pgdog) -> bool:
    """True when no new connection is accepted."""
    try:
        pgdog.connect(timeout=2).close()
        return False
    except (OSError, ServerError):
        return True


# ------------------------------------------------------------------ command line


def test_version_and_help() -> None:
    assert command("--version").stdout.lower().startswith("pgdog ")
    said = command("--help")
    assert said.returncode == 0
    for word in ("--config", "--users", "--database-url", "configcheck", "hash", "run"):
        assert word in said.stdout
    assert command("no-such-command").returncode != 0
    assert command("--no-such-option").returncode != 0


def test_hash_makes_a_verifier() -> None:
    said = command("hash", "secret")
    assert said.returncode == 0
    assert said.stdout.strip().startswith("SCRAM-SHA-256$")


def test_a_verifier_lets_its_user_in(cluster: Cluster, start) -> None:  # noqa: ANN001
    verifier = command("hash", "other secret").stdout.strip()
    user = User(password="", options={"password_hash": verifier, "server_password": "secret"})
    pgdog = start(cluster, users=[user])
    with pgdog.connect(password="other secret") as wire:
        assert wire.value("SELECT current_user") == "app"
    with pytest.raises(ServerError) as caught:
        pgdog.connect(password="secret")
    assert caught.value.sqlstate == "28P01"


def test_configcheck_names_every_problem(tmp_path: Path) -> None:
    config, users = tmp_path / "pgdog.toml", tmp_path / "users.toml"
    config.write_text('[general]\nport = 6543\n\n[[databases]]\nname = "a"\nhost = "127.0.0.1"\n')
    users.write_text('[[users]]\nname = "a"\ndatabase = "a"\npassword = "hush"\n')
    good = command("-c", config, "-u", users, "configcheck")
    assert good.returncode == 0, good.stdout
    config.write_text('[general]\nprot = 6543\npooler_mode = "sometimes"\n\n[[databases]]\nname = "a"\nhost = "127.0.0.1"\n')
    users.write_text('[[users]]\nname = "a"\ndatabase = "a"\npassword = "hush"\npool_syze = 3\n')
    bad = command("-c", config, "-u", users, "configcheck")
    assert bad.returncode != 0
    for word in ("pgdog.toml", "prot", "port", "sometimes", "users.toml", "pool_syze", "pool_size"):
        assert word in bad.stdout, bad.stdout
    assert ":2" in bad.stdout and ":3" in bad.stdout and ":5" in bad.stdout, f"lines are missing:\n{bad.stdout}"
    assert "hush" not in bad.stdout


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    config, users = tmp_path / "pgdog.toml", tmp_path / "users.toml"
    entry = '[[databases]]\nname = "a"\nhost = "127.0.0.1"\n'
    users.write_text('[[users]]\nname = "a"\ndatabase = "a"\npassword = "x"\n')
    for more in ('shard = 1\n', 'role = "replica"\n', '[[sharded_tables]]\ndatabase = "a"\ncolumn = "id"\n'):
        config.write_text(entry + (more if more.startswith("[[") else entry + more))
        said = command("-c", config, "-u", users, "configcheck")
        assert said.returncode != 0, f"{more}: {said.stdout}"


def test_a_used_port_is_an_error(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster)
    done = command("-c", pgdog.config, "-u", pgdog.users_file)
    assert done.returncode != 0
    assert str(pgdog.port) in done.stdout


# ------------------------------------------------------------------ reload


def reloaded(pgdog: Pgdog, how: str) -> None:
    if how == "signal":
        pgdog.reload()
    else:
        with pgdog.admin() as wire:
            wire.ask("RELOAD")


@pytest.mark.parametrize("how", ["signal", "console"])
def test_reload_changes_users_pool_size_and_passwords(how: str, cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=2)
    session = pgdog.connect()
    session.ask("BEGIN")
    pgdog.general["default_pool_size"] = 4
    pgdog.users = [User(), User("app_md5")]
    pgdog.write_configuration()
    reloaded(pgdog, how)
    retry(lambda: pgdog.connect("app_md5").close())
    assert session.value("SELECT 'still here'") == "still here"
    session.ask("COMMIT")
    assert session.value("SELECT 'and now'") == "and now"
    session.close()
    assert_pool_is_whole(pgdog, cluster, 4)
    pgdog.users = [User()]
    pgdog.write_configuration()
    reloaded(pgdog, how)
    wait_until(lambda: login_fails(pgdog, "app_md5"), 5, "the user is gone")


def login_fails(pgdog: Pgdog, user: str) -> bool:
    try:
        pgdog.connect(user).close()
        return False
    except ServerError as error:
        return error.sqlstate == "28P01"


@pytest.mark.parametrize("broken", ["syntax", "unknown_key", "users_syntax", "missing"])
def test_a_faulty_file_is_refused_and_the_old_one_stays(broken: str, cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=2)
    session = pgdog.connect()
    text = pgdog.config.read_text()
    # The good half of the change must not come into force either.
    pgdog.users = [User(), User("app_md5")]
    pgdog.write_configuration()
    if broken == "syntax":
        replace_file(pgdog.config, text + "\n[general\n")
    elif broken == "unknown_key":
        replace_file(pgdog.config, text.replace("[general]", "[general]\nno_such_key = 1"))
    elif broken == "users_syntax":
        replace_file(pgdog.users_file, pgdog.users_file.read_text() + "\n[[users]\n")
    else:
        pgdog.config.unlink()
    logged = len(pgdog.log_text())
    pgdog.reload()
    wait_until(lambda: "pgdog.toml" in pgdog.log_text()[logged:] or "users.toml" in pgdog.log_text()[logged:], 5, "a line in the log")
    assert login_fails(pgdog, "app_md5")
    assert session.value("SELECT 1") == "1"
    session.close()
    with pgdog.admin() as wire:
        answer = wire.ask("RELOAD")
        assert any(m.kind == "E" for m in answer), "the console says nothing of the faulty file"
    pgdog.write_configuration()
    pgdog.reload()
    retry(lambda: pgdog.connect("app_md5").close())
    assert_pool_is_whole(pgdog, cluster, 2)


def test_reload_under_load(cluster: Cluster, start) -> None:  # noqa: ANN001
    from noise import Noise

    pgdog = start(cluster, default_pool_size=3)
    with Noise(pgdog.host, pgdog.port):
        for size in (4, 2, 5, 3, 2):
            pgdog.general["default_pool_size"] = size
            pgdog.write_configuration()
            pgdog.reload()
            time.sleep(0.3)
    wait_until(lambda: backends(cluster, "usename = 'app'") <= 2, 5, "the old pools are gone")
    assert_pool_is_whole(pgdog, cluster, 2)


# ------------------------------------------------------------------ the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_drain_lets_transactions_finish(number: int, cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=3, shutdown_timeout=20000)
    busy, idle = pgdog.connect(), pgdog.connect()
    busy.ask("BEGIN")
    pgdog.child.signal(number)
    wait_until(lambda: refused(pgdog), 5, "no new clients")
    assert busy.value("SELECT 'finishing'") == "finishing"
    assert pgdog.running()
    busy.ask("COMMIT")
    assert busy.status == "I"
    assert pgdog.child.wait(10) == 0
    messages = busy.until_closed() + idle.until_closed()
    assert all(m.kind in "EN" for m in messages)
    assert {m.fields()["C"] for m in messages} <= {"57P01"}
    wait_until(lambda: backends(cluster, "usename = 'app'") == 0, 5, "its servers are closed")


def test_the_shutdown_timeout_ends_the_drain(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, shutdown_timeout=700)
    busy = pgdog.connect()
    busy.ask("BEGIN")
    began = time.monotonic()
    pgdog.child.signal(signal.SIGTERM)
    pgdog.child.wait(10)
    assert 0.5 < time.monotonic() - began < 5
    wait_until(lambda: backends(cluster, "usename = 'app'") == 0, 5, "its servers are closed")


def test_running_queries_are_cancelled_after_the_grace(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, shutdown_timeout=500, shutdown_termination_timeout=1000)
    busy = pgdog.connect()
    busy.send(b.query("SELECT pg_sleep(77)"))
    time.sleep(0.2)
    pgdog.child.signal(signal.SIGTERM)
    pgdog.child.wait(10)
    wait_until(lambda: backends(cluster, "query LIKE '%pg_sleep(77)%' AND state = 'active'") == 0, 3, "the query is cancelled")


def test_a_second_signal_ends_at_once(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, shutdown_timeout=60000)
    busy = pgdog.connect()
    busy.ask("BEGIN")
    pgdog.child.signal(signal.SIGTERM)
    time.sleep(0.5)
    assert pgdog.running()
    began = time.monotonic()
    pgdog.child.signal(signal.SIGTERM)
    pgdog.child.wait(5)
    assert time.monotonic() - began < 2


def test_the_console_can_end_it(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster)
    wire = pgdog.admin()
    wire.send(b.query("SHUTDOWN"))
    assert pgdog.child.wait(10) == 0
    wire.socket.close()


# ------------------------------------------------------------------ timeouts


def expect_error(wire: Wire, sqlstate: str | set[str]) -> None:
    wanted = {sqlstate} if isinstance(sqlstate, str) else sqlstate
    found = [m.fields()["C"] for m in wire.until_closed() if m.kind == "E"]
    assert found and set(found) <= wanted, found


def test_checkout_timeout(cluster: Cluster, start) -> None:  # noqa: ANN001
    """An error to the one that waited; it stays connected, and the pool stays in service."""
    pgdog = start(cluster, default_pool_size=1, checkout_timeout=400)
    holder, waiter = pgdog.connect(), pgdog.connect()
    holder.ask("BEGIN")
    began = time.monotonic()
    codes = [m.fields() for m in waiter.ask("SELECT 1") if m.kind == "E"]
    assert 0.3 < time.monotonic() - began < 3
    assert len(codes) == 1 and codes[0]["V"] == "ERROR", codes
    holder.ask("COMMIT")
    assert waiter.value("SELECT 'served'") == "served"
    holder.close()
    waiter.close()
    assert_pool_is_whole(pgdog, cluster, 1)


def test_client_idle_timeout(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, client_idle_timeout=500)
    wire = pgdog.connect(timeout=5)
    assert wire.value("SELECT 1") == "1"
    expect_error(wire, {"57P05", "08006"})


@pytest.mark.parametrize("how", ["in_transaction", "batch_without_sync"])
def test_client_idle_in_transaction_timeout(how: str, cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=2, client_idle_in_transaction_timeout=500)
    wire = pgdog.connect(timeout=5)
    if how == "in_transaction":
        wire.ask("BEGIN")
    else:
        wire.send(b.parse("SELECT 1"), b.bind(), b.execute(), b.flush())
        wire.until("C")
    wire.clear()
    expect_error(wire, "25P03")
    assert_pool_is_whole(pgdog, cluster, 2)


def test_query_timeout(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=2, query_timeout=500)
    wire = pgdog.connect(timeout=8)
    began = time.monotonic()
    wire.send(b.query("SELECT pg_sleep(66)"))
    try:
        messages = wire.until("Z")
    except OSError:
        messages = wire.transcript
    assert any(m.kind == "E" for m in messages)
    assert time.monotonic() - began < 5
    wire.socket.close()
    wait_until(lambda: backends(cluster, "query LIKE '%pg_sleep(66)%' AND state = 'active'") == 0, 5, "PostgreSQL has stopped it")
    assert_pool_is_whole(pgdog, cluster, 2)


def test_idle_servers_are_closed_down_to_the_minimum(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=5, min_pool_size=2, idle_timeout=700)
    clients = [pgdog.connect() for _ in range(5)]
    for client in clients:
        client.ask("BEGIN")
        client.ask("SELECT 1")
    assert backends(cluster, "usename = 'app'") == 5
    for client in clients:
        client.close()
    wait_until(lambda: backends(cluster, "usename = 'app'") == 2, 10, "three are closed")
    time.sleep(1.5)
    assert backends(cluster, "usename = 'app'") == 2


def test_old_servers_are_replaced(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, default_pool_size=1, server_lifetime=500)
    with pgdog.connect() as wire:
        first = wire.value("SELECT pg_backend_pid()")
        time.sleep(1)
        wire.value("SELECT 1")
        wait_until(lambda: wire.value("SELECT pg_backend_pid()") != first, 5, "another server")


# ------------------------------------------------------------------ logs and limits


def test_no_secret_is_logged(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, log_level="trace")
    pgdog.connect().close()
    with pytest.raises(ServerError):
        pgdog.connect(password="a wrong secret of mine")
    with pgdog.admin() as wire:
        config = wire.ask("SHOW CONFIG")
    said = pgdog.log_text() + repr(config)
    for secret in ("a wrong secret of mine", ADMIN_PASSWORD, "'secret'", '"secret"'):
        assert secret not in said


def test_logs_can_be_json(cluster: Cluster, start) -> None:  # noqa: ANN001
    import json

    pgdog = start(cluster, log_format="json")
    pgdog.connect().close()
    lines = [line for line in pgdog.log_text().splitlines() if line.strip()]
    assert lines
    for line in lines:
        json.loads(line)


def test_it_says_what_file_limit_it_got(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster)
    limits = Path(f"/proc/{pgdog.pid}/limits").read_text()
    soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
    assert soft == hard
    assert soft in pgdog.log_text()


def test_databases_can_have_other_names_and_settings(cluster: Cluster, start) -> None:  # noqa: ANN001
    databases = [Database(cluster, "renamed", {"database_name": "app", "pool_size": 1})]
    users = [User(database="renamed", options={"pooler_mode": "session"}), User("alias", "renamed", "word", {"server_user": "app", "server_password": "secret"})]
    pgdog = start(cluster, databases, users)
    with pgdog.connect(database="renamed") as wire:
        assert wire.value("SELECT current_database()") == "app"
        wire.ask("CREATE TEMP TABLE kept (n int)")
        assert wire.value("SELECT count(*) FROM kept") == "0"
    with pgdog.connect("alias", "renamed", "word") as wire:
        assert wire.value("SELECT current_user") == "app"


def test_statement_mode_refuses_transactions(cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster, pooler_mode="statement", default_pool_size=2)
    with pgdog.connect() as wire:
        assert wire.value("SELECT 1") == "1"
        wire.clear()
        wire.send(b.query("BEGIN"))
        try:
            wire.until("Z")
        except OSError:
            pass  # pgbouncer closes the connection after the error; that is as good
        assert any(m.kind == "E" for m in wire.transcript)
    assert_statement_pool(pgdog, cluster)


def assert_statement_pool(pgdog: Pgdog, cluster: Cluster) -> None:
    with pgdog.connect() as wire:
        assert wire.value("SELECT 2") == "2"
    assert backends(cluster, "state LIKE 'idle in transaction%'") == 0
