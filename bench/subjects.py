"""What is measured: each with the same PostgreSQL behind it, trust authentication, a pool of ten, no TLS or TLS on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certificates import LOCAL, Certificate, Pki
from harness import LOOPBACK
from postgres import Cluster
from stub import Stub
from target import Database, Endpoint, Pgbouncer, Pgdog, User, pgbouncer_version

POOL = 10
USER = "app_trust"


@dataclass
class Keys:
    """TLS on both sides: what signs, and what proxies and server show."""

    ca: Certificate
    own: Certificate

    @staticmethod
    def make() -> Keys:
        pki = Pki()
        return Keys(pki.ca, pki.make("own", "localhost", LOCAL))

    def of_cluster(self) -> dict[str, str]:
        return {"ssl": "on", "ssl_cert_file": f"'{self.own.crt}'", "ssl_key_file": f"'{self.own.key}'"}

    def of_pgbouncer(self) -> dict[str, object]:
        clients = {"client_tls_sslmode": "require", "client_tls_cert_file": self.own.crt, "client_tls_key_file": self.own.key}
        return clients | {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": self.ca.crt}

    def of_pgdog(self) -> dict[str, object]:
        clients = {"tls_client_required": True, "tls_certificate": self.own.crt, "tls_private_key": self.own.key}
        return clients | {"tls_verify": "verify_ca", "tls_server_ca_certificate": self.ca.crt}


@dataclass
class Subject:
    """A running proxy, or none."""

    name: str
    endpoint: Endpoint
    pid: int | None
    description: str

    def stop(self) -> None:
        self.endpoint.stop()


def start(name: str, cluster: Cluster | Stub, binaries: dict[str, Path], workers: int, keys: Keys | None = None, proves: bool = False) -> Subject:
    """`pgdog@N` is pgdog with N workers. With `keys`, TLS on both sides. If a client `proves` itself, that is by SCRAM."""
    subject = _start(name, cluster, binaries, workers, keys, proves)
    subject.endpoint.sslmode = "require" if keys else "disable"
    return subject


def _start(name: str, cluster: Cluster | Stub, binaries: dict[str, Path], workers: int, keys: Keys | None, proves: bool) -> Subject:
    kind, _, number = name.partition("@")
    workers = int(number or workers)
    databases, users = [Database(cluster)], [User() if proves else User(USER, password="")]
    if name == "direct":
        return Subject(name, Endpoint(LOOPBACK, cluster.port), None, "no proxy")
    if name == "pgbouncer":
        made = Pgbouncer(databases, users, {"default_pool_size": POOL}, auth_type="scram-sha-256" if proves else "trust", more=keys and keys.of_pgbouncer())
        version = ".".join(map(str, pgbouncer_version()))
        return Subject(name, made, made.pid, f"pgbouncer {version}, of the distribution")
    general = {"auth_type": "scram" if proves else "trust", "default_pool_size": POOL, "workers": workers} | (keys.of_pgdog() if keys else {})
    pgdog = Pgdog(databases, users, general, binary=binaries[kind])
    return Subject(name, pgdog, pgdog.pid, f"{workers} workers")
