"""pgbench in every protocol and with every number of clients: no error, and never a server more than the pool's size.

The quick form takes the combinations that have broken poolers before; --full takes all of them, longer.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from checks import Sampler, assert_pool_is_whole, backends
from harness import LOOPBACK, wait_until
from postgres import Cluster, binary_directory, create_application
from target import Database, Endpoint, start_target

POOL = 10
SCALE = 10
MODES = ("simple", "extended", "prepared")
CLIENTS = (1, 16, 64, 500)
EndpointOf = Callable[[int], Endpoint]
SCRIPTS = ("tpcb", "select")
WORKERS = (2, 1)


@dataclass(frozen=True)
class Run:
    workers: int
    mode: str
    clients: int
    script: str

    def __str__(self) -> str:
        return f"{self.mode}-{self.clients}-{self.script}-workers{self.workers}"


QUICK = {Run(2, mode, clients, script) for mode in MODES for clients in (16, 64) for script in SCRIPTS}
QUICK |= {Run(2, "prepared", 1, "tpcb"), Run(2, "simple", 500, "select"), Run(2, "prepared", 500, "tpcb")}
QUICK |= {Run(1, "prepared", 64, "tpcb"), Run(1, "extended", 500, "select"), Run(1, "simple", 16, "tpcb")}
EVERY = [Run(w, mode, clients, script) for w in WORKERS for mode in MODES for clients in CLIENTS for script in SCRIPTS]


@pytest.fixture(scope="module")
def bench_cluster() -> Iterator[Cluster]:
    made = Cluster("pgbench", {"shared_buffers": "256MB"})
    create_application(made)
    pgbench(Endpoint(LOOPBACK, made.port), "-i", "-q", "-s", str(SCALE))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def endpoint_of(bench_cluster: Cluster, target_kind: str) -> Iterator[Callable[[int], Endpoint]]:
    """The endpoint with so many workers. Only one runs at a time: the sampler counts every backend of the cluster."""
    current: dict[int, Endpoint] = {}

    def stop_all() -> None:
        while current:
            current.popitem()[1].stop()
        wait_until(lambda: backends(bench_cluster) == 0, 10, "the servers of the last proxy have ended")

    def of(workers: int) -> Endpoint:
        if workers not in current:
            stop_all()
            general = {"workers": workers, "default_pool_size": POOL}
            current[workers] = start_target(target_kind, [Database(bench_cluster)], None, general)
        return current[workers]

    yield of
    stop_all()


def pgbench(endpoint: Endpoint, *arguments: str, timeout: float = 110) -> str:
    found = binary_directory() / "pgbench"
    program = found if found.exists() else Path("pgbench")
    done = subprocess.run(
        [program, *arguments], env=endpoint.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"pgbench ended with {done.returncode}:\n{done.stdout[-3000:]}"
    return done.stdout


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, f"no '{pattern}' in\n{text}"
    return float(found.group(1))


def case(run: Run) -> object:
    marks = [] if run in QUICK else [pytest.mark.full]
    if run.workers == 1:
        marks.append(pytest.mark.pooled)
    return pytest.param(run, id=str(run), marks=marks)


@pytest.mark.parametrize("run", [case(run) for run in EVERY])
def test_pgbench(run: Run, endpoint_of: EndpointOf, bench_cluster: Cluster, full: bool) -> None:
    endpoint = endpoint_of(run.workers)
    arguments = ["-n", "-M", run.mode, "-c", str(run.clients), "-j", str(min(run.clients, 2))]
    if run.clients > 100:
        # A time limit may be over before so many have connected.
        arguments += ["-t", "100" if full else "10"]
    else:
        arguments += ["-T", "8" if full else "2"]
    if run.script == "select":
        arguments.append("-S")
    with Sampler(bench_cluster) as sampler:
        said = pgbench(endpoint, *arguments)
    transactions = number(r"transactions actually processed: (\d+)", said)
    assert number(r"number of failed transactions: (\d+)", said) == 0
    assert "aborted" not in said and "ERROR" not in said.upper(), said
    assert transactions >= run.clients, f"only {transactions} transactions"
    if not endpoint.is_direct:
        assert sampler.most <= POOL, f"{sampler.most} client backends for a pool of {POOL}"
        if run.clients >= 16:
            assert sampler.most > 1, "one server for all of them: the sampler or the pool is wrong"
        assert backends(bench_cluster, "state LIKE 'idle in transaction%'") == 0


@pytest.mark.parametrize("workers", WORKERS)
def test_pgbench_with_a_connection_per_transaction(workers: int, endpoint_of: EndpointOf, bench_cluster: Cluster) -> None:
    endpoint = endpoint_of(workers)
    with Sampler(bench_cluster) as sampler:
        said = pgbench(endpoint, "-n", "-C", "-S", "-c", "16", "-j", "2", "-T", "2")
    assert number(r"number of failed transactions: (\d+)", said) == 0
    if not endpoint.is_direct:
        assert sampler.most <= POOL


@pytest.mark.parametrize("workers", WORKERS)
def test_money_is_neither_made_nor_lost(workers: int, endpoint_of: EndpointOf, bench_cluster: Cluster) -> None:
    """TPC-B keeps three sums equal, if every transaction is whole."""
    pgbench(endpoint_of(workers), "-n", "-M", "prepared", "-c", "32", "-j", "2", "-t", "30")
    sums = bench_cluster.sql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
        " (SELECT sum(bbalance) FROM pgbench_branches)",
        database="app",
    )[0]
    assert len(set(sums)) == 1, sums


@pytest.mark.parametrize("workers", WORKERS)
def test_the_pool_is_whole_afterwards(workers: int, endpoint_of: EndpointOf, bench_cluster: Cluster) -> None:
    assert_pool_is_whole(endpoint_of(workers), bench_cluster, POOL)
