"""The phases of the benchmark. Each measures one subject once and returns readings by name."""

from __future__ import annotations

import resource
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import measure
import stub
from harness import temporary_directory
from pgwire import build
from pgwire.client import Wire
from subjects import USER, Subject

Readings = dict[str, dict[str, float]]

STREAMS = {
    "COPY out, 100-byte rows": ("COPY (SELECT g, repeat('x', 90) FROM generate_series(1, {n}) g) TO STDOUT", 4_000_000),
    "COPY out, 8 KB rows": ("COPY (SELECT repeat('x', 8100) FROM generate_series(1, {n})) TO STDOUT", 60_000),
    "SELECT, rows of one int": ("SELECT * FROM generate_series(1, {n})", 5_000_000),
}


@dataclass
class Options:
    seconds: int
    modes: list[str]
    clients: list[int]
    idle: int
    stream_scale: float
    # Transactions per second of the latency phase; found by its first run.
    rate: int = 0

    def script(self) -> list[str]:
        """A statement that the stub understands, and no look at pgbench's tables."""
        if not self._script:
            self._script = temporary_directory("pgdog-script-") / "select.sql"
            self._script.write_text("SELECT 1;\n")
        return ["-f", str(self._script)]

    _script: Path | None = None


def transactions(subject: Subject, options: Options) -> Readings:
    """pgbench -S in every mode, with every number of clients."""
    found: Readings = {}
    for mode in options.modes:
        for clients in options.clients:
            arguments = ["-S", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(options.seconds)]
            try:
                load = measure.pgbench(subject.endpoint, subject.pid, arguments, {"p99 ms": 0.99})
            except RuntimeError:
                # Older pgbouncer has no prepared statements in transaction mode.
                continue
            found[f"{mode}, {clients} clients"] = {
                "tps": load.tps,
                "mean ms": load.mean_ms,
                **load.latencies_ms,
                "CPU µs/tx": load.cpu_us,
            }
    return found


def streams(subject: Subject, options: Options) -> Readings:
    found: Readings = {}
    for name, (sql, rows) in STREAMS.items():
        with connect(subject) as wire:
            before, began = measure.cpu_seconds(subject.pid), time.monotonic()
            size = measure.drain(wire, sql.format(n=max(1, int(rows * options.stream_scale))))
            seconds = time.monotonic() - began
            used = measure.cpu_seconds(subject.pid) - before
        found[name] = {"MB/s": size / seconds / 1e6, "CPU s/GB": used / size * 1e9}
    return found


def churn(subject: Subject, options: Options) -> Readings:
    """A connection for each transaction."""
    arguments = ["-C", "-S", "-c", "16", "-j", "2", "-T", str(options.seconds)]
    load = measure.pgbench(subject.endpoint, subject.pid, arguments)
    return {"connect, select, close; 16 clients": {"connections/s": load.tps, "CPU µs/connection": load.cpu_us}}


def logins(subject: Subject, options: Options) -> Readings:
    """1,000 clients that prove the same user's password by SCRAM, 50 at a time, and leave."""

    def log_in(_: int) -> None:
        Wire.connect(subject.endpoint.address, "app", "app", "secret", timeout=60).close()

    def reading(count: int) -> dict[str, float]:
        before, helper, began = measure.cpu_seconds(subject.pid), measure.helper_seconds(subject.pid), time.monotonic()
        with ThreadPoolExecutor(50) as threads:
            list(threads.map(log_in, range(count)))
        seconds = time.monotonic() - began
        used, helped = measure.cpu_seconds(subject.pid) - before, measure.helper_seconds(subject.pid) - helper
        return {"logins/s": count / seconds, "CPU µs/login": used / count * 1e6, "of them helper": helped / count * 1e6}

    return {"the first login": reading(1), "1,000 more": reading(1000)}


def memory(subject: Subject, options: Options) -> Readings:
    """Idle clients, then all of them with a query at once, then none."""
    if subject.pid is None:
        return {}
    allow_files(options.idle + 500)
    base = measure.memory_bytes(subject.pid)
    clients: list[Wire] = []
    readings: Readings = {}

    def note(name: str) -> None:
        time.sleep(0.5)
        resident = measure.memory_bytes(subject.pid or 0)
        readings[name] = {"RSS MB": resident / 1e6, "bytes/client": (resident - base) / options.idle}

    try:
        for n in range(options.idle):
            clients.append(connect(subject, source=f"127.0.0.{2 + n // 5000}"))
        note(f"{options.idle} idle clients")
        for client in clients:
            client.send(build.query("SELECT 1"))
        for client in clients:
            client.until("Z")
        note("after a query of each, all at once")
        before = measure.cpu_seconds(subject.pid)
        time.sleep(3)
        readings[f"{options.idle} idle clients"]["idle CPU %"] = (measure.cpu_seconds(subject.pid) - before) / 3 * 100
    finally:
        for client in clients:
            client.socket.close()
    time.sleep(1)
    note("after all have left")
    return readings


def encrypted(subject: Subject, options: Options) -> Readings:
    """With TLS on both sides."""
    few = replace(options, clients=[number for number in options.clients if number > 1] or options.clients)
    return transactions(subject, few) | streams(subject, options) | churn(subject, options)


def encrypted_memory(subject: Subject, options: Options) -> Readings:
    return memory(subject, replace(options, idle=min(options.idle, ENCRYPTED_IDLE_MAX)))


# A client's end costs this program fifty times what it costs the proxy.
ENCRYPTED_IDLE_MAX = 3000


def system_calls(subject: Subject, options: Options) -> Readings:
    if subject.pid is None:
        return {}
    found: Readings = {}
    for mode in options.modes:
        for clients, each in ((1, 2000), (16, 400)):
            try:
                calls = measure.system_calls(subject.endpoint, subject.pid, mode, clients, each)
            except RuntimeError:
                continue
            shown = {name: value for name, value in calls.items() if value >= 0.02}
            found[f"{mode}, {clients} clients"] = {"total/tx": sum(calls.values()), **shown}
    return found


def latency(subject: Subject, options: Options) -> Readings:
    """Before a server that answers at once: at a rate that every subject carries easily; then with a client that reads
    1 GB slowly and one that streams as fast as it can beside."""
    clients = ["-c", "64", "-j", "2"]
    if not options.rate:
        # The first subject, in the first round, says what the rate is: 40 % of what it can carry.
        options.rate = int(0.4 * measure.pgbench(subject.endpoint, None, [*clients, "-T", "3", *options.script()]).tps)
    arguments = [*clients, "-R", str(options.rate), "-T", str(options.seconds), *options.script()]
    found = {}
    quiet = measure.pgbench(subject.endpoint, subject.pid, arguments, shares=LATENCIES)
    found["64 clients, 40 % load"] = {"tps": quiet.tps, **quiet.latencies_ms, "CPU µs/tx": quiet.cpu_us}
    with noise(subject):
        noisy = measure.pgbench(subject.endpoint, subject.pid, arguments, shares=LATENCIES)
    times = noisy.latencies_ms["p99 ms"] / quiet.latencies_ms["p99 ms"]
    found["… beside a slow reader of 1 GB and a fast stream"] = {"tps": noisy.tps, **noisy.latencies_ms, "times p99": times}
    return found


LATENCIES = {"p50 ms": 0.5, "p99 ms": 0.99, "p99.9 ms": 0.999}


@contextmanager
def noise(subject: Subject) -> Iterator[None]:
    """One client that reads 1 GB at some 5 MB/s, and one that streams without end."""
    assert subject.pid is not None
    port = subject.endpoint.port
    fast = subprocess.Popen(stub.asking(port, "pages=120000", 1000), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    slow = subprocess.Popen(stub.asking(port, "slowly=120000", 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield
        if fast.poll() is not None or slow.poll() is not None:
            raise RuntimeError("the noise has ended before the measurement")
    finally:
        for process in (fast, slow):
            process.kill()
            process.wait()


def connect(subject: Subject, source: str | None = None) -> Wire:
    tls = None
    if subject.endpoint.sslmode != "disable":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return Wire.connect(subject.endpoint.address, USER, "app", timeout=120, source=source, tls=tls)


def allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard) if hard != resource.RLIM_INFINITY else count, hard))


PHASES: dict[str, Callable[[Subject, Options], Readings]] = {
    "transactions": transactions,
    "streams": streams,
    "churn": churn,
    "logins": logins,
    "memory": memory,
    "syscalls": system_calls,
    "tls": encrypted,
    "tls-memory": encrypted_memory,
    "latency": latency,
}
# Counts and sizes hardly differ between rounds: one round is enough.
ONCE = ("memory", "syscalls", "tls-memory")
# Measured from a process that has done nothing before.
FRESH = ("logins", "memory", "tls-memory")
# Measured with TLS on both sides.
ENCRYPTED = ("tls", "tls-memory")
# Measured with clients that prove a password.
PROVING = ("logins",)
# Measured before a server that answers at once.
STUBBED = ("latency",)
