"""Who may log in, how it is proved, and what serves the login to the server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from certificates import LOCAL, Pki
from harness import wait_until
from pgwire import build
from pgwire.client import ServerError, Wire
from pgwire.scram import ScramClient
from postgres import HBA, Cluster, create_application
from target import ADMIN_PASSWORD, Database, Pgdog, User, toml_lines

pytestmark = pytest.mark.pgdog

ROLES = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of its own: its roles change all the time."""
    made = Cluster("auth")
    create_application(made)
    made.sql("CREATE ROLE finder LOGIN SUPERUSER PASSWORD 'finderpw'")
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def roles(server: Cluster) -> None:
    for role in ROLES:
        server.sql(f"DROP ROLE IF EXISTS {role}", f"CREATE ROLE {role} LOGIN PASSWORD 'of {role}'")


def verifier(server: Cluster, role: str) -> str:
    return server.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")[0][0]


def fails(pgdog: Pgdog, user: str, password: str, database: str = "app") -> tuple[str, str]:
    """SQLSTATE and text of a login that fails."""
    with pytest.raises(ServerError) as caught:
        pgdog.connect(user, database, password).close()
    return caught.value.sqlstate, caught.value.fields["M"]


def wrong(user: str) -> tuple[str, str]:
    return "28P01", f'password authentication failed for user "{user}"'


def works(pgdog: Pgdog, user: str, password: str, database: str = "app") -> None:
    with pgdog.connect(user, database, password) as wire:
        assert wire.value("SELECT current_user") == user
        assert wire.value("SELECT current_database()") == database


def lookups(server: Cluster) -> int:
    """How often the server has been asked for a user."""
    text = server.log.read_text(errors="replace")
    return text.count("LOG:  execute <unnamed>: SELECT usename")


FINDER = User("finder", "app", "finderpw")


# ---- what is configured


@pytest.mark.parametrize("method", ["scram", "md5", "plain"])
def test_each_password_of_a_rotation(method: str, server: Cluster, start) -> None:  # noqa: ANN001
    user = User(options={"passwords": ["old one", "older one"]})
    pgdog = start(server, users=[user], auth_type=method)
    for password in ("secret", "old one", "older one"):
        works(pgdog, "app", password)
    assert fails(pgdog, "app", "oldest one") == wrong("app")


@pytest.mark.parametrize("method", ["scram", "plain"])
def test_a_verifier_and_passwords_at_once(method: str, server: Cluster, start) -> None:  # noqa: ANN001
    hashed = {"password_hash": verifier(server, "alice"), "passwords": ["another"], "server_password": "of alice"}
    pgdog = start(server, users=[User("alice", password="", options=hashed)], auth_type=method)
    works(pgdog, "alice", "of alice")
    works(pgdog, "alice", "another")
    assert fails(pgdog, "alice", "something else") == wrong("alice")


@pytest.mark.parametrize("method", ["md5", "plain"])
def test_an_md5_hash_serves_both_sides(method: str, server: Cluster, start) -> None:  # noqa: ANN001
    user = User("app_md5", password="", options={"password_hash": verifier(server, "app_md5")})
    pgdog = start(server, users=[user], auth_type=method)
    works(pgdog, "app_md5", "secret")
    assert fails(pgdog, "app_md5", "secret ") == wrong("app_md5")


def test_databases_of_a_user(server: Cluster, start) -> None:  # noqa: ANN001
    databases = [Database(server, name, {"database_name": "app"}) for name in ("one", "two", "three")]
    users = [
        User("app", "", options={"databases": ["one", "two"]}),
        User("app", "three", "only here", options={"server_password": "secret"}),
        User("alice", "", "of alice", options={"all_databases": True}),
        User("alice", "two", "for two", options={"server_password": "of alice"}),
    ]
    pgdog = start(server, databases, users)
    for user, database, password in [
        ("app", "one", "secret"),
        ("app", "two", "secret"),
        ("app", "three", "only here"),
        ("alice", "one", "of alice"),
        ("alice", "three", "of alice"),
        ("alice", "two", "for two"),
    ]:
        with pgdog.connect(user, database, password) as wire:
            assert wire.value("SELECT current_user") == user
    assert fails(pgdog, "app", "secret", "three") == wrong("app")
    assert fails(pgdog, "alice", "of alice", "two") == wrong("alice")
    assert fails(pgdog, "app", "secret", "four")[0] == "3D000"
    assert fails(pgdog, "app", "wrong", "four") == wrong("app")


# ---- verifiers are enough


def test_keys_that_a_client_shows_serve_the_login_to_the_server(server: Cluster, start) -> None:  # noqa: ANN001
    user = User("alice", password="", options={"password_hash": verifier(server, "alice"), "min_pool_size": 2})
    pgdog = start(server, users=[user])
    assert fails(pgdog, "alice", "wrong") == wrong("alice")
    time.sleep(0.7)
    assert "cannot open" not in pgdog.log_text() and "login to" not in pgdog.log_text(), "it waits for a client"
    works(pgdog, "alice", "of alice")
    (pool,) = pgdog.show("POOLS")
    wait_until(lambda: pgdog.show("POOLS")[0]["sv_idle"] == "2", 5, "min_pool_size is kept from then on")
    assert pool["healthy"] == "t"
    # A reload forgets nothing of it.
    pgdog.reload()
    wait_until(lambda: "read again" in pgdog.log_text(), 5, "the reload")
    before = server.sql("SELECT pg_terminate_backend(pid), pid FROM pg_stat_activity WHERE usename = 'alice'")
    assert before
    wait_until(lambda: pgdog.show("STATS")[0]["total_connect_count"] >= str(2 * len(before)), 5, "new connections")
    works(pgdog, "alice", "of alice")


def test_the_server_has_another_verifier_of_the_same_password(server: Cluster, start) -> None:  # noqa: ANN001
    user = User("alice", password="", options={"password_hash": verifier(server, "alice")})
    server.sql("ALTER ROLE alice PASSWORD 'of alice'")
    pgdog = start(server, users=[user])
    state, text = fails(pgdog, "alice", "of alice")
    assert state == "08006" and "salt or iteration count" in text


def test_a_password_in_clear_serves_any_server(server: Cluster, start) -> None:  # noqa: ANN001
    user = User("alice", password="", options={"password_hash": verifier(server, "alice")})
    server.sql("ALTER ROLE alice PASSWORD 'of alice'")
    works(start(server, users=[user], auth_type="plain"), "alice", "of alice")


# ---- auth_query


@pytest.mark.parametrize("method", ["scram", "md5", "plain"])
def test_users_are_looked_up(method: str, server: Cluster, start) -> None:  # noqa: ANN001
    server.sql("CREATE ROLE nologin PASSWORD 'secret'", "CREATE ROLE \"o'brien \\ x\" LOGIN PASSWORD 'secret'")
    server.sql("CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2020-01-01'", "CREATE ROLE empty LOGIN")
    pgdog = start(server, users=[FINDER], auth_user="finder", auth_type=method)
    for role in ("alice", "bob"):
        assert fails(pgdog, role, "wrong") == wrong(role)
        works(pgdog, role, f"of {role}")
    works(pgdog, "o'brien \\ x", "secret")
    for nobody in ("nologin", "expired", "empty", "app_trust", "nobody at all", "o'brien", "x" * 5000):
        assert fails(pgdog, nobody, "secret") == wrong(nobody), nobody
    assert fails(pgdog, "alice", "of alice", "nowhere") == wrong("alice")
    works(pgdog, "finder", "finderpw")
    assert {row["user"] for row in pgdog.show("POOLS")} == {"finder", "alice", "bob", "o'brien \\ x"}
    server.sql("DROP ROLE nologin", "DROP ROLE expired", "DROP ROLE empty", "DROP ROLE \"o'brien \\ x\"")


def test_md5_roles_are_looked_up(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(server, users=[FINDER], auth_user="finder", auth_type="md5")
    works(pgdog, "app_md5", "secret")
    works(pgdog, "alice", "of alice")
    assert fails(pgdog, "app_md5", "wrong") == wrong("app_md5")


def test_what_was_found_counts_for_its_time(server: Cluster, start) -> None:  # noqa: ANN001
    server.sql("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
    pgdog = start(server, users=[FINDER], auth_user="finder", auth_query_ttl=60000, auth_query_negative_ttl=60000)
    before = lookups(server)
    for _ in range(3):
        works(pgdog, "alice", "of alice")
        assert fails(pgdog, "nobody", "secret") == wrong("nobody")
    assert lookups(server) == before + 2
    # A wrong password may be a new one.
    server.sql("ALTER ROLE alice PASSWORD 'new'")
    assert fails(pgdog, "alice", "new") == wrong("alice")
    works(pgdog, "alice", "new")
    # A reload forgets all.
    server.sql("CREATE ROLE nobody LOGIN PASSWORD 'secret'")
    assert fails(pgdog, "nobody", "secret") == wrong("nobody")
    works(pgdog, "alice", "new")
    pgdog.reload()
    wait_until(lambda: "read again" in pgdog.log_text(), 5, "the reload")
    asked = lookups(server)
    works(pgdog, "alice", "new")
    works(pgdog, "nobody", "secret")
    assert lookups(server) == asked + 2
    server.sql("DROP ROLE nobody", "ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")


def test_a_query_and_a_database_of_ones_own(server: Cluster, start) -> None:  # noqa: ANN001
    server.sql("DROP DATABASE IF EXISTS directory", "CREATE DATABASE directory")
    server.sql(
        "CREATE TABLE people (name text, secret text, note text)",
        f"INSERT INTO people VALUES ('alice', '{verifier(server, 'alice')}', ''), ('bob', 'of bob', ''),"
        " ('twice', 'a', ''), ('twice', 'b', '')",
        "CREATE ROLE reader LOGIN PASSWORD 'readerpw'",
        "GRANT SELECT ON people TO reader",
        database="directory",
    )
    databases = [Database(server), Database(server, "directory")]
    databases[0].options = {
        "auth_user": "reader",
        "auth_dbname": "directory",
        "auth_query": "SELECT name, secret, note FROM public.people WHERE name = $1",
    }
    pgdog = start(server, databases, [User("reader", "directory", "readerpw")])
    works(pgdog, "alice", "of alice")
    works(pgdog, "bob", "of bob")
    assert fails(pgdog, "carol", "of carol") == wrong("carol")
    assert fails(pgdog, "twice", "a")[0] == "58000"
    assert fails(pgdog, "alice", "of alice", "directory") == wrong("alice")
    pgdog.stop()
    server.sql("DROP DATABASE directory", "DROP ROLE reader")


def test_a_lookup_meets_the_servers_own_settings(server: Cluster, start) -> None:  # noqa: ANN001
    """What a client of auth_user has set on the only connection must not change what is asked."""
    pgdog = start(server, users=[FINDER], auth_user="finder", auth_query_ttl=0, default_pool_size=1)
    with pgdog.connect("finder", "app", "finderpw") as wire:
        for setting in ("search_path = nowhere", "client_encoding = LATIN1", "statement_timeout = 1", "ROLE = app"):
            wire.ask(f"SET {setting}")
        works(pgdog, "alice", "of alice")
        assert wire.value("SHOW search_path") == "nowhere"
        assert wire.value("SELECT current_user") == "app"


def test_lookups_that_fail_tell_nothing_and_hold_nobody_up(server: Cluster, start) -> None:  # noqa: ANN001
    queries = {
        "app": "SELECT no_such_column FROM pg_shadow WHERE usename = $1",
        "narrow": "SELECT usename FROM pg_shadow WHERE usename = $1",
        "dies": "SELECT $1, pg_terminate_backend(pg_backend_pid())::text",
        "slow": "SELECT $1, 'x' FROM pg_sleep(20)",
        "other": "SELECT 'somebody else', 'x' WHERE $1 = $1",
        "large": "SELECT $1, repeat('x', 1000000)",
        "many": "SELECT $1, 'x' FROM generate_series(1, 10000000)",
    }
    databases = [
        Database(server, name, {"database_name": "app", "auth_user": "finder", "auth_query": query})
        for name, query in queries.items()
    ]
    users = [User("finder", "", "finderpw", options={"all_databases": True}), User("app", "app")]
    pgdog = start(server, databases, users, checkout_timeout=1500, default_pool_size=2)
    with ThreadPoolExecutor(20) as threads:
        slow = [threads.submit(fails, pgdog, f"user {n}", "x", "slow") for n in range(8)]
        for name in queries:
            if name == "slow":
                continue
            for user in ("alice", "nobody"):
                state, text = fails(pgdog, user, "of alice", name)
                assert state in ("58000", "08006") and user not in text, (name, state, text)
        began = time.monotonic()
        works(pgdog, "app", "secret")
        assert time.monotonic() - began < 1
        for outcome in slow:
            assert outcome.result()[0] == "58000"
    works(pgdog, "finder", "finderpw")


def test_the_server_is_away(server: Cluster, start) -> None:  # noqa: ANN001
    away = Cluster("away", hba=HBA)
    away.sql("CREATE ROLE finder LOGIN SUPERUSER PASSWORD 'finderpw'", "CREATE DATABASE app")
    pgdog = start(away, users=[FINDER], auth_user="finder", checkout_timeout=2000)
    away.stop()
    assert fails(pgdog, "alice", "of alice") == fails(pgdog, "nobody", "x")
    assert "Connection refused" in pgdog.log_text()


def test_pools_of_users_who_were_found(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(
        server,
        users=[FINDER],
        auth_user="finder",
        dynamic_pools_max=2,
        dynamic_pool_timeout=300,
        idle_timeout=300,
        min_pool_size=1,
    )
    with pgdog.connect("alice", "app", "of alice") as alice, pgdog.connect("bob", "app", "of bob"):
        assert fails(pgdog, "carol", "of carol")[0] == "53300"
        assert fails(pgdog, "carol", "wrong") == wrong("carol")
        time.sleep(1.2)
        assert alice.value("SELECT current_user") == "alice", "its pool is there as long as it is"
        pgdog.reload()
        wait_until(lambda: "read again" in pgdog.log_text(), 5, "the reload")
        assert alice.value("SELECT current_user") == "alice", "and after a reload"
    wait_until(lambda: len(pgdog.show("POOLS")) == 1, 10, "pools that nobody uses go")
    works(pgdog, "carol", "of carol")
    assert not server.sql("SELECT 1 FROM pg_stat_activity WHERE usename IN ('alice', 'bob')")


def test_a_configured_user_without_a_password_is_looked_up(server: Cluster, start) -> None:  # noqa: ANN001
    users = [FINDER, User("alice", password="", options={"pool_size": 3})]
    pgdog = start(server, users=users, auth_user="finder")
    works(pgdog, "alice", "of alice")
    assert fails(pgdog, "alice", "wrong") == wrong("alice")
    assert [row["user"] for row in pgdog.show("POOLS")] == ["finder", "alice"]


# ---- passthrough


def connections_of(server: Cluster, role: str) -> int:
    return int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")[0][0])


def test_a_password_is_right_when_the_server_takes_it(server: Cluster, start) -> None:  # noqa: ANN001
    users = [User(), User("bob", password="", options={"pool_size": 2})]
    pgdog = start(server, users=users, passthrough_auth="enabled_plain", idle_timeout=60000)
    assert fails(pgdog, "alice", "wrong") == wrong("alice")
    assert fails(pgdog, "nobody", "wrong") == wrong("nobody")
    assert fails(pgdog, "alice", "of alice", "nowhere") == wrong("alice")
    assert [row["user"] for row in pgdog.show("POOLS")] == ["app", "bob"], "nothing is made for who has proved nothing"
    for _ in range(2):
        works(pgdog, "alice", "of alice")
        works(pgdog, "bob", "of bob")
        assert fails(pgdog, "alice", "wrong") == wrong("alice")
    works(pgdog, "app", "secret")
    assert fails(pgdog, "admin", ADMIN_PASSWORD, "app") == wrong("admin")
    assert fails(pgdog, "alice", "of alice", "admin") == wrong("alice")
    wait_until(lambda: connections_of(server, "alice") == 1, 5, "the pool's connection alone is left")
    # Without _allow_change another password counts only after a reload.
    server.sql("ALTER ROLE alice PASSWORD 'new'")
    assert fails(pgdog, "alice", "new") == wrong("alice")
    pgdog.reload()
    wait_until(lambda: "read again" in pgdog.log_text(), 5, "the reload")
    assert fails(pgdog, "alice", "of alice") == wrong("alice")
    works(pgdog, "alice", "new")


def test_a_password_that_changes(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(server, passthrough_auth="enabled_plain_allow_change", auth_query_ttl=500)
    with pgdog.connect("alice", "app", "of alice") as early:
        server.sql("ALTER ROLE alice PASSWORD 'new'")
        assert fails(pgdog, "alice", "wrong") == wrong("alice")
        works(pgdog, "alice", "new")
        assert fails(pgdog, "alice", "of alice") == wrong("alice"), "the old one is over"
        assert early.value("SELECT current_user") == "alice"
        # One that has been withdrawn counts for auth_query_ttl at most.
        server.sql("ALTER ROLE alice PASSWORD 'newer'")
        time.sleep(0.6)
        assert fails(pgdog, "alice", "new") == wrong("alice")
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'")
        works(pgdog, "alice", "newer")


def test_a_server_that_asks_for_no_password_proves_nothing(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(server, passthrough_auth="enabled_plain")
    assert fails(pgdog, "app_trust", "anything") == wrong("app_trust")
    assert "that proves nothing" in pgdog.log_text()
    for role in ("app_md5", "app_plain"):
        works(pgdog, role, "secret")


def test_many_at_once_try_few_logins_at_a_time(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(server, passthrough_auth="enabled_plain")
    with ThreadPoolExecutor(60) as threads:
        bad = [threads.submit(fails, pgdog, f"nobody {n}", "x") for n in range(40)]
        good = [threads.submit(works, pgdog, "alice", "of alice") for _ in range(20)]
        most = 0
        while not all(future.done() for future in bad + good):
            most = max(most, len(server.sql("SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")))
        assert [future.result()[0] for future in bad] == ["28P01"] * 40
        assert all(future.result() is None for future in good)
    assert most <= 8 + 10 + 2
    wait_until(lambda: connections_of(server, "alice") <= 10, 5, "trials are closed")


def test_passwords_are_taken_with_tls_only(server: Cluster, start) -> None:  # noqa: ANN001
    own = Pki().make("own", "localhost", LOCAL)
    tls = {"tls_certificate": own.crt, "tls_private_key": own.key}
    pgdog = start(server, passthrough_auth="enabled", **tls)
    assert fails(pgdog, "alice", "of alice")[0] == "08004"
    works(pgdog, "app", "secret")
    environment = pgdog.environment("alice") | {"PGSSLMODE": "require", "PGPASSWORD": "of alice"}
    ran = subprocess.run(
        [server.bin / "psql", "-Atc", "SELECT current_user"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert ran.stdout == "alice\n", ran.stderr


# ---- rules by address


def rules(*entries: dict[str, object]) -> str:
    return "".join("[[hba]]\n" + "\n".join(toml_lines(entry)) + "\n" for entry in entries)


def asked_by(pgdog: Pgdog, source: str, user: str, database: str = "app") -> int | str:
    """The code of the authentication request that a client gets first, or the SQLSTATE of its refusal."""
    wire = Wire.dial(pgdog.address, source=source)
    wire.send(build.startup({"user": user, "database": database}, build.PROTOCOL_3_0))
    message = wire.until("R", "E")[-1]
    wire.socket.close()
    return int.from_bytes(message.body[:4], "big") if message.kind == "R" else message.fields()["C"]


def test_the_first_rule_that_fits_counts(server: Cluster) -> None:
    text = rules(
        {"address": ["127.0.0.9"], "method": "reject"},
        {"type": "hostssl", "method": "trust"},
        {"user": ["app_trust"], "database": ["app"], "address": ["127.0.0.0/30"], "method": "trust"},
        {"user": ["alice"], "address": ["127.0.0.1"], "method": "md5"},
        {"user": ["alice", "bob"], "address": ["127.0.0.0/8"], "method": "password"},
        {"user": ["admin"], "database": ["admin"], "address": ["127.0.0.1"], "method": "trust"},
        {"database": ["sameuser"], "method": "scram-sha-256"},
    )
    users = [User("app_trust", password=""), User("alice", password="of alice"), FINDER]
    databases = [Database(server, options={"auth_user": "finder"})]
    pgdog = Pgdog(databases, users, sections=text)
    try:
        trust, clear, md5, scram = 0, 3, 5, 10
        assert asked_by(pgdog, "127.0.0.2", "app_trust") == trust
        assert asked_by(pgdog, "127.0.0.4", "app_trust") == "28000"
        assert asked_by(pgdog, "127.0.0.9", "app_trust") == "28000"
        assert asked_by(pgdog, "127.0.0.1", "alice") == md5
        assert asked_by(pgdog, "127.0.0.2", "alice") == clear
        assert asked_by(pgdog, "127.0.0.2", "bob") == clear
        assert asked_by(pgdog, "127.0.0.1", "carol") == "28000"
        assert asked_by(pgdog, "127.0.0.1", "app", "app") == scram
        assert asked_by(pgdog, "127.0.0.1", "admin", "admin") == scram, "the console is never open to everybody"
        assert asked_by(pgdog, "127.0.0.2", "admin", "admin") == scram, "it is a database of its user's name"
        assert asked_by(pgdog, "127.0.0.9", "admin", "admin") == "28000"
        works(pgdog, "alice", "of alice")
        works(pgdog, "bob", "of bob")
        state, message = fails(pgdog, "carol", "of carol")
        assert message == 'no rule of [[hba]] for host "127.0.0.1", user "carol", database "app", no encryption'
        # A reload changes them.
        pgdog.sections = rules({"method": "reject"})
        pgdog.write_configuration()
        pgdog.reload()
        wait_until(lambda: asked_by(pgdog, "127.0.0.2", "app_trust") == "28000", 5, "the reload")
        state, message = fails(pgdog, "alice", "of alice")
        assert (state, message.split(" for ")[0]) == ("28000", "a rule of [[hba]] rejects the connection")
    finally:
        pgdog.stop()


# ---- guessing


def test_guessing_is_slow_and_locks_nobody_else_out(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(server, users=[User(), User("alice", password="of alice")])

    def guess(number: int, source: str = "127.0.0.66") -> str:
        try:
            Wire.connect(pgdog.address, "alice", "app", f"guess {number}", source=source).close()
        except ServerError as error:
            return error.sqlstate
        raise AssertionError("a wrong password")

    began = time.monotonic()
    with ThreadPoolExecutor(40) as threads:
        first = [guess(number) for number in range(8)]
        assert first == ["28P01"] * 8 and time.monotonic() - began > 0.2
        outcomes = threads.map(guess, range(40))
        works(pgdog, "alice", "of alice")
        works(pgdog, "app", "secret")
        with Wire.connect(pgdog.address, "app", "app", "secret", source="127.0.0.66") as neighbour:
            assert neighbour.value("SELECT 1") == "1"
        assert time.monotonic() - began < 8
        states = list(outcomes)
    assert set(states) == {"28P01", "28000"}, "once the line is long, it is refused"
    assert 5 <= states.count("28P01") < 25


@pytest.mark.parametrize("method", ["plain", "md5"])
def test_guesses_that_come_together_stand_in_line(method: str, server: Cluster, start) -> None:  # noqa: ANN001
    """All have been asked for a password before the first of them is wrong."""
    pgdog = start(server, users=[User(), User("alice", password="of alice")], auth_type=method)
    wires = [Wire.dial(pgdog.address) for _ in range(40)]
    for wire in wires:
        wire.send(build.startup({"user": "alice", "database": "app"}, build.PROTOCOL_3_0))
    for wire in wires:
        wire.until("R")
    began = time.monotonic()
    for wire in wires:
        wire.send(build.password("guess"))

    def end_of(wire: Wire) -> tuple[str, float]:
        (error,) = [message for message in wire.until_closed() if message.kind == "E"]
        return error.fields()["C"], time.monotonic() - began

    with ThreadPoolExecutor(40) as threads:
        ends = list(threads.map(end_of, wires))
    quick = [state for state, after in ends if state == "28P01" and after < 0.05]
    assert len(quick) <= 7, "five are free, the line begins with the next, and two workers may look at one each at a time"
    states = [state for state, _ in ends]
    assert set(states) == {"28P01", "28000"} and 5 < states.count("28P01") < 20
    works(pgdog, "app", "secret")


# ---- hostile SCRAM


def scram_login(pgdog: Pgdog, user: str) -> tuple[Wire, ScramClient]:
    wire = Wire.dial(pgdog.address)
    wire.send(build.startup({"user": user, "database": "app"}, build.PROTOCOL_3_0))
    wire.until("R")
    return wire, ScramClient("secret")


def ends_with(wire: Wire, states: set[str]) -> None:
    (error,) = [message for message in wire.until_closed() if message.kind == "E"]
    assert error.fields()["C"] in states and error.fields()["V"] == "FATAL"
    wire.socket.close()


FIRST = {
    "empty": b"",
    "no header": b"n=,r=abc",
    "bad flag": b"x,,n=,r=abc",
    "binding without PLUS": b"p=tls-server-end-point,,n=,r=abc",
    "authorization identity": b"n,a=root,n=,r=abc",
    "no user": b"n,,r=abc",
    "no nonce": b"n,,n=,",
    "empty nonce": b"n,,n=,r=",
    "control characters": b"n,,n=,r=a\x01b",
    "not ASCII": b"n,,n=,r=\xff\xfe",
    "a zero byte": b"n,,n=,r=a\0b",
    "a mandatory extension": b"n,,m=x,n=,r=abc",
    "a long nonce": b"n,,n=,r=" + b"x" * 2000,
    "commas": b"," * 500,
}


@pytest.mark.parametrize("what", FIRST)
@pytest.mark.parametrize("user", ["app", "nobody"])
def test_first_messages_that_are_wrong(what: str, user: str, endpoint) -> None:  # noqa: ANN001
    wire, _ = scram_login(endpoint, user)
    wire.send(build.sasl_initial("SCRAM-SHA-256", FIRST[what]))
    ends_with(wire, {"08P01"})


@pytest.mark.parametrize("user", ["app", "nobody"])
def test_final_messages_that_are_wrong(user: str, cluster: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(cluster)

    def change(final: bytes, key: bytes, value: bytes) -> bytes:
        parts = [part.split(b"=", 1) for part in final.split(b",")]
        return b",".join(name + b"=" + (value if name == key else old) for name, old in parts)

    changes = [
        lambda final: change(final, b"c", b"eSws"),
        lambda final: change(final, b"c", b"!!!!"),
        lambda final: change(final, b"c", b""),
        lambda final: change(final, b"r", b"abc"),
        lambda final: change(final, b"r", b""),
        lambda final: change(final, b"p", b""),
        lambda final: change(final, b"p", b"AAAA"),
        lambda final: change(final, b"p", b"*" * 44),
        lambda final: change(final, b"p", b"A" * 43 + b"="),
        lambda final: b"",
        lambda final: b"p=",
        lambda final: final.rsplit(b",", 1)[0],
        lambda final: b",".join(reversed(final.split(b","))),
        lambda final: final + b",x=y",
        lambda final: final + b"x" * 3000,
    ]
    for spoil in changes:
        wire, scram = scram_login(pgdog, user)
        wire.send(build.sasl_initial("SCRAM-SHA-256", scram.first()))
        challenge = wire.until("R", "E")[-1]
        if challenge.kind == "E":
            # The line of those who failed too often.
            assert challenge.fields()["C"] == "28000"
            continue
        wire.send(build.sasl_response(spoil(scram.final(challenge.body[4:]))))
        ends_with(wire, {"28P01", "08P01"})
    for body in (b"", b"SCRAM-SHA-256", b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff", b"SCRAM-SHA-1\0\0\0\0\x01n"):
        wire, _ = scram_login(pgdog, f"fresh {len(body)}")
        wire.send(b"p" + (len(body) + 4).to_bytes(4, "big") + body)
        ends_with(wire, {"08P01"})
    with pgdog.connect("app") as wire:
        assert wire.value("SELECT 1") == "1", "others are untouched"


def test_the_mock_exchange_looks_like_a_real_one(server: Cluster, start) -> None:  # noqa: ANN001
    """The same mechanisms, iterations and length of salt, and the same salt each time, whoever asks."""
    pgdog = start(server, users=[FINDER, User("app", password="secret")], auth_user="finder")

    def challenge(user: str) -> tuple[str, int, str]:
        wire, scram = scram_login(pgdog, user)
        wire.send(build.sasl_initial("SCRAM-SHA-256", scram.first()))
        parts = dict(item.split("=", 1) for item in wire.until("R")[-1].body[4:].decode().split(","))
        wire.socket.close()
        return parts["s"], len(parts["r"]), parts["i"]

    shapes = {user: challenge(user) for user in ("app", "alice", "nobody", "nobody else")}
    assert all(challenge(user) == shape for user, shape in shapes.items())
    assert len({(len(salt), nonce, iterations) for salt, nonce, iterations in shapes.values()}) == 1
    assert len({salt for salt, _, _ in shapes.values()}) == 4
