"""The phases of the benchmark. Each measures one subject once and returns readings by name."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import measure
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


def transactions(subject: Subject, options: Options) -> Readings:
    """pgbench -S in every mode, with every number of clients."""
    found: Readings = {}
    for mode in options.modes:
        for clients in options.clients:
            arguments = ["-S", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(options.seconds)]
            try:
                load = measure.pgbench(subject.endpoint, subject.pid, arguments)
            except RuntimeError:
                # Older pgbouncer has no prepared statements in transaction mode.
                continue
            found[f"{mode}, {clients} clients"] = {
                "tps": load.tps,
                "mean ms": load.mean_ms,
                "p99 ms": load.p99_ms,
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
    load = measure.pgbench(subject.endpoint, subject.pid, arguments, latencies=False)
    return {"connect, select, close; 16 clients": {"connections/s": load.tps, "CPU µs/connection": load.cpu_us}}


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


def connect(subject: Subject, source: str | None = None) -> Wire:
    return Wire.connect(subject.endpoint.address, USER, "app", timeout=120, source=source)


def allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard) if hard != resource.RLIM_INFINITY else count, hard))


PHASES: dict[str, Callable[[Subject, Options], Readings]] = {
    "transactions": transactions,
    "streams": streams,
    "churn": churn,
    "memory": memory,
    "syscalls": system_calls,
}
# Counts and sizes hardly differ between rounds: one round is enough.
ONCE = ("memory", "syscalls")
