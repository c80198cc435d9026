"""Statements about the state of a pool that several suites make."""

from __future__ import annotations

import threading
import time

from harness import wait_until
from pgwire.client import Wire, retry
from postgres import Cluster
from target import Endpoint

FROM_PROXY = "backend_type = 'client backend' AND application_name <> 'harness' AND pid <> pg_backend_pid()"


def backends(cluster: Cluster, condition: str = "true") -> int:
    """Client backends of the cluster, those of this harness left out."""
    return int(cluster.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {FROM_PROXY} AND ({condition})")[0][0] or 0)


def assert_pool_is_whole(endpoint: Endpoint, cluster: Cluster, size: int, user: str = "app") -> None:
    """`size` transactions can be open at once, one more has to wait, and afterwards nobody holds anything."""

    def idle_in_transaction() -> int:
        return backends(cluster, "state LIKE 'idle in transaction%' OR state = 'active'")

    wait_until(lambda: idle_in_transaction() == 0, 10, "abandoned transactions are rolled back")
    clients = [retry(lambda: endpoint.connect(user)) for _ in range(size)]
    try:
        pids = set()
        for client in clients:
            retry(lambda client=client: begin(client))
            pids.add(client.value("SELECT pg_backend_pid()"))
        assert len(pids) == size, f"{len(pids)} servers for {size} transactions"
        if not endpoint.is_direct:
            with endpoint.connect(user) as waiting:
                waiting.send(b"Q\0\0\0\x0dSELECT 1\0")
                assert waiting.quiet(0.15), "the pool gave out more servers than its size"
                clients[0].ask("COMMIT")
                waiting.until("Z")
                clients[0].ask("BEGIN")
        for client in clients:
            client.ask("COMMIT")
            assert client.status == "I"
    finally:
        for client in clients:
            client.close()
    if not endpoint.is_direct:
        assert backends(cluster, f"usename = '{user}'") <= size
    wait_until(lambda: idle_in_transaction() == 0, 5, "no transaction is left open")


def begin(client: Wire) -> None:
    """Open a transaction on a server that is alive; used with retry() right after servers were killed."""
    client.rows("BEGIN")
    client.rows("SELECT 1")


class Sampler(threading.Thread):
    """Watches pg_stat_activity until stopped and remembers the most client backends it saw."""

    def __init__(self, cluster: Cluster, condition: str = "true", interval: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.query = f"SELECT count(*) FROM pg_stat_activity WHERE {FROM_PROXY} AND ({condition})"
        self.interval = interval
        self.most = 0
        self.samples = 0
        self.error: BaseException | None = None
        self._stop_request = threading.Event()
        self._wire = cluster.superuser()

    def run(self) -> None:
        try:
            while not self._stop_request.is_set():
                self.most = max(self.most, int(self._wire.value(self.query) or 0))
                self.samples += 1
                time.sleep(self.interval)
            self._wire.close()
        except BaseException as error:  # noqa: BLE001 - shown by __exit__
            self.error = error

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop_request.set()
        self.join()
        if kind is None:
            assert self.error is None, f"the sampler failed: {self.error!r}"
            assert self.samples > 2, "the sampler saw too little"
