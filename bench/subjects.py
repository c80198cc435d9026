"""What is measured: each with the same PostgreSQL behind it, trust authentication, a pool of ten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import LOOPBACK
from postgres import Cluster
from stub import Stub
from target import Database, Endpoint, Pgbouncer, Pgdog, User, pgbouncer_version

POOL = 10
USER = "app_trust"


@dataclass
class Subject:
    """A running proxy, or none."""

    name: str
    endpoint: Endpoint
    pid: int | None
    description: str

    def stop(self) -> None:
        self.endpoint.stop()


def start(name: str, cluster: Cluster | Stub, binaries: dict[str, Path], workers: int) -> Subject:
    """`pgdog@N` is pgdog with N workers."""
    kind, _, number = name.partition("@")
    workers = int(number or workers)
    databases, users = [Database(cluster)], [User(USER, password="")]
    if name == "direct":
        return Subject(name, Endpoint(LOOPBACK, cluster.port), None, "no proxy")
    if name == "pgbouncer":
        made = Pgbouncer(databases, users, {"default_pool_size": POOL}, auth_type="trust")
        version = ".".join(map(str, pgbouncer_version()))
        return Subject(name, made, made.pid, f"pgbouncer {version}, of the distribution")
    general = {"auth_type": "trust", "default_pool_size": POOL, "workers": workers}
    pgdog = Pgdog(databases, users, general, binary=binaries[kind])
    return Subject(name, pgdog, pgdog.pid, f"{workers} workers")
