"""`name = "*"`: databases that nobody has configured, with pools made on demand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checks import backends
from harness import wait_until
from pgwire.client import ServerError
from postgres import Cluster, create_application
from target import Database, Pgdog, User

pytestmark = pytest.mark.pgdog

TENANTS = [f"tenant{number}" for number in range(6)]


@pytest.fixture(scope="module")
def tenants() -> Iterator[Cluster]:
    made = Cluster("tenants")
    create_application(made, ("app", *TENANTS))
    yield made
    made.stop()


def test_every_database_is_there(tenants: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(tenants, [Database(tenants, "*")], [User(database="*")], min_pool_size=1)
    for name in ("app", *TENANTS, "tenant0"):
        with pgdog.connect(database=name) as wire:
            assert wire.value("SELECT current_database() || ' ' || current_user") == f"{name} app"
    pools = {(row["database"], row["user"]) for row in pgdog.show("POOLS")}
    assert pools == {(name, "app") for name in ("app", *TENANTS)}
    with pgdog.connect(database="tenant1") as one, pgdog.connect(database="tenant2") as two:
        for wire, name in ((one, "tenant1"), (two, "tenant2"), (one, "tenant1")):
            assert wire.value("SELECT current_database()") == name
    with pytest.raises(ServerError, match="08004.*3D000"):
        pgdog.connect(database="nowhere")


def test_who_has_no_password_makes_no_pool(tenants: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(tenants, [Database(tenants, "*")], [User(database="*")])
    for user, password in (("app", "wrong"), ("nobody", "secret"), ("app_md5", "secret")):
        with pytest.raises(ServerError, match="28P01"):
            pgdog.connect(user, "tenant1", password)
    assert pgdog.show("POOLS") == []


def test_configured_databases_and_users_come_first(tenants: Cluster, start) -> None:  # noqa: ANN001
    databases = [Database(tenants, "*", {"pool_size": 2}), Database(tenants, "named", {"database_name": "tenant3", "pool_size": 7})]
    users = [
        User(database="named", password="only there", options={"server_password": "secret"}),
        User(database="*", password="secret"),
        User("app_md5", database="named"),
    ]
    pgdog = start(tenants, databases, users)
    with pgdog.connect(database="named", password="only there") as wire:
        assert wire.value("SELECT current_database()") == "tenant3"
    with pytest.raises(ServerError, match="28P01"):
        pgdog.connect(database="named", password="secret")
    with pytest.raises(ServerError, match="28P01"):
        pgdog.connect(database="tenant4", password="only there")
    with pgdog.connect(database="tenant4") as wire:
        assert wire.value("SELECT current_database()") == "tenant4"
    # Of one database only.
    with pytest.raises(ServerError, match="3D000"):
        pgdog.connect("app_md5", "tenant4")
    sizes = {row["database"]: row["pool_size"] for row in pgdog.show("POOLS") if row["user"] == "app"}
    assert sizes == {"named": "7", "tenant4": "2"}


def test_pools_are_bounded_and_removed(tenants: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(
        tenants,
        [Database(tenants, "*")],
        [User(database="*")],
        dynamic_pools_max=2,
        dynamic_pool_timeout=1000,
        idle_timeout=500,
    )
    with pgdog.connect(database="tenant0") as zero, pgdog.connect(database="tenant1") as one:
        assert zero.value("SELECT 1") == one.value("SELECT 1") == "1"
        with pytest.raises(ServerError, match="53"):
            pgdog.connect(database="tenant2")
        assert zero.value("SELECT current_database()") == "tenant0"
    wait_until(lambda: pgdog.show("POOLS") == [], 10, "nobody needs them")
    wait_until(lambda: backends(tenants) == 0, 5, "nor their servers")
    with pgdog.connect(database="tenant2") as wire:
        assert wire.value("SELECT current_database()") == "tenant2"


def test_a_reload_keeps_clients_and_may_take_the_wildcard_away(tenants: Cluster, start) -> None:  # noqa: ANN001
    pgdog: Pgdog = start(tenants, [Database(tenants, "*"), Database(tenants, "app")], [User(options={"databases": ["*"]})])
    with pgdog.connect(database="tenant0") as wire:
        assert wire.value("SELECT 1") == "1"
        pgdog.general["query_timeout"] = 60000
        pgdog.write_configuration()
        with pgdog.admin() as admin:
            admin.ask("RELOAD")
        assert wire.value("SELECT current_database()") == "tenant0"
        pgdog.databases = [Database(tenants, "app")]
        pgdog.users = [User()]
        pgdog.write_configuration()
        with pgdog.admin() as admin:
            admin.ask("RELOAD")
        with pytest.raises((ServerError, OSError)):
            wire.value("SELECT 1")
    with pytest.raises(ServerError, match="3D000"):
        pgdog.connect(database="tenant0")


def test_limits_of_each_database(tenants: Cluster, start) -> None:  # noqa: ANN001
    wild = Database(tenants, "*", {"max_db_connections": 1, "max_db_client_connections": 2})
    pgdog = start(tenants, [wild], [User(database="*")], checkout_timeout=1000)
    with pgdog.connect(database="tenant0") as one, pgdog.connect(database="tenant0") as two:
        with pytest.raises(ServerError, match="53300.*tenant0"):
            pgdog.connect(database="tenant0")
        pgdog.connect(database="tenant1").close()
        one.ask("BEGIN")
        assert any(message.kind == "E" for message in two.ask("SELECT 1"))
        one.ask("COMMIT")
        assert two.value("SELECT 1") == "1"
