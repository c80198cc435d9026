"""Fixtures shared by the suites, and the plain line at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from noise import Noise  # noqa: E402
from postgres import Cluster, create_application  # noqa: E402
from target import Database, Endpoint, User, start_target  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--target", default=os.environ.get("PGDOG_TEST_TARGET", "pgdog"), help="pgdog, pgbouncer or direct")
    parser.addoption("--direct", action="store_true", help="the same as --target direct: proves the tests themselves")
    parser.addoption("--full", action="store_true", help="the long forms too")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--direct"):
        config.option.target = "direct"
    config.addinivalue_line("markers", "pooled: needs a pooler: skipped when connecting directly")
    config.addinivalue_line("markers", "pgdog: what only pgdog promises: skipped on other targets")
    config.addinivalue_line("markers", "full: only with --full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    target = config.getoption("--target")
    for item in items:
        if item.get_closest_marker("full") and not config.getoption("--full"):
            item.add_marker(pytest.mark.skip(reason="only with --full"))
        if item.get_closest_marker("pgdog") and target != "pgdog":
            item.add_marker(pytest.mark.skip(reason="pgdog only"))
        if item.get_closest_marker("pooled") and target == "direct":
            item.add_marker(pytest.mark.skip(reason="needs a pooler"))


def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    count = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed, {count['skipped']} skipped")


@pytest.fixture(scope="session")
def target_kind(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--target")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--full")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster that most tests share. Tests that hurt PostgreSQL make their own."""
    made = Cluster("shared")
    create_application(made, ("app", "app2"))
    yield made
    made.stop()


Start = Callable[..., Endpoint]


@pytest.fixture
def start(target_kind: str) -> Iterator[Start]:
    """start(cluster, databases=…, users=…, **general) → an endpoint of the chosen kind, stopped after the test."""
    started: list[Endpoint] = []

    def begin(
        cluster: Cluster,
        databases: list[Database] | None = None,
        users: list[User] | None = None,
        **general: Any,
    ) -> Endpoint:
        endpoint = start_target(target_kind, databases or [Database(cluster)], users, general)
        started.append(endpoint)
        return endpoint

    yield begin
    for endpoint in started:
        endpoint.stop()


class Keeper:
    """Keeps one endpoint for the tests of a module, and replaces it after a test that failed: its faults end there."""

    def __init__(self, make: Callable[[], Endpoint]) -> None:
        self.make = make
        self.current: Endpoint | None = None

    def lend(self) -> Endpoint:
        if self.current is None:
            self.current = self.make()
        return self.current

    def drop(self) -> None:
        if self.current is not None:
            self.current.stop()
            self.current = None


@pytest.fixture(scope="module")
def keeper(cluster: Cluster, target_kind: str) -> Iterator[Keeper]:
    """Transaction mode, a pool of 3: with the noise of six sessions beside it, servers change all the time."""
    made = Keeper(lambda: start_target(target_kind, [Database(cluster)], None, {"default_pool_size": 3, "pub_sub_channel_size": 1000}))
    yield made
    made.drop()


@pytest.fixture
def endpoint(keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    yield keeper.lend()
    if getattr(request.node, "has_failed", False):
        keeper.drop()


@pytest.fixture
def noise(endpoint: Endpoint) -> Iterator[Noise]:
    with Noise(endpoint.host, endpoint.port) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[Any]:
    """Show the end of the proxy's log with a failure."""
    report = yield
    if report.failed:
        item.has_failed = True  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if not isinstance(value, Endpoint):
                continue
            log = getattr(value, "log", None)
            if isinstance(log, Path) and log.exists():
                report.sections.append((f"log of {name}", log.read_text(errors="replace")[-3000:]))
    return report
