"""Readings of one process and of pgbench: CPU, memory, system calls, latencies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pgwire import build
from pgwire.client import Wire
from postgres import binary_directory
from target import Endpoint


def cpu_seconds(pid: int | None) -> float:
    """CPU time of all threads, to the nanosecond, from schedstat."""
    if pid is None:
        return 0.0
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def helper_seconds(pid: int | None) -> float:
    """CPU time of pgdog's helper thread, which runs PBKDF2; nothing of another process."""
    if pid is None:
        return 0.0
    tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == "pgdog-helper"]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory_bytes(pid: int, key: str = "VmRSS") -> int:
    """VmRSS or VmHWM (the most there ever was)."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{key}:\s+(\d+) kB", status, re.M)
    assert found
    return int(found.group(1)) * 1024


def forget_high_water(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass
class Load:
    """What one run of pgbench showed."""

    transactions: int
    tps: float
    mean_ms: float
    latencies_ms: dict[str, float]
    cpu_us: float


def pgbench_program() -> str:
    found = binary_directory() / "pgbench"
    return str(found) if found.exists() else "pgbench"


def initialize(endpoint: Endpoint, scale: int) -> None:
    """pgbench's tables."""
    command = [pgbench_program(), "-i", "-q", "-s", str(scale)]
    subprocess.run(command, env=endpoint.environment("app_trust"), check=True, capture_output=True)


def pgbench(endpoint: Endpoint, pid: int | None, arguments: list[str], shares: dict[str, float] | None = None) -> Load:
    """`shares` asks for latencies: those that so large a part of all transactions did not exceed, by name."""
    with tempfile.TemporaryDirectory(prefix="pgdog-bench-") as logs:
        command = [pgbench_program(), "-n", *arguments]
        if shares:
            sample = [] if "-R" in arguments else ["--sampling-rate=0.1"]
            command += ["--log", *sample, f"--log-prefix={logs}/log"]
        before = cpu_seconds(pid)
        done = subprocess.run(command, env=endpoint.environment("app_trust"), capture_output=True, text=True, timeout=300)
        used = cpu_seconds(pid) - before
        if done.returncode != 0:
            raise RuntimeError(f"pgbench {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1:]}")
        transactions = int(number(r"transactions actually processed: (\d+)", done.stdout))
        return Load(
            transactions=transactions,
            tps=number(r"tps = ([\d.]+)", done.stdout),
            mean_ms=number(r"latency average = ([\d.]+)", done.stdout),
            latencies_ms=percentiles(Path(logs), shares or {}),
            cpu_us=used / transactions * 1e6,
        )


def percentiles(logs: Path, shares: dict[str, float]) -> dict[str, float]:
    """Of the latencies in pgbench's logs, in milliseconds."""
    values = []
    for path in logs.iterdir():
        for line in path.read_text().splitlines():
            fields = line.split()
            if len(fields) >= 6 and fields[2].isdigit():
                values.append(int(fields[2]))
    values.sort()
    return {name: values[min(len(values) - 1, int(len(values) * share))] / 1000 for name, share in shares.items() if values}


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise RuntimeError(f"pgbench did not say '{pattern}':\n{text}")
    return float(found.group(1))


def drain(wire: Wire, sql: str) -> int:
    """Run a query and throw its answer away as fast as Python can; bytes received."""
    wire.send(build.query(sql))
    buffer = memoryview(bytearray(1 << 20))
    total, tail, head = 0, b"", b""
    while True:
        size = wire.socket.recv_into(buffer)
        if size == 0:
            raise OSError("the connection was closed in mid answer")
        if total == 0:
            head = bytes(buffer[: min(size, 200)])
        total += size
        tail = (tail + bytes(buffer[max(0, size - 6) : size]))[-6:]
        if tail == b"Z\0\0\0\x05I":
            if head[:1] == b"E":
                raise RuntimeError(repr(head))
            return total


def system_calls(endpoint: Endpoint, pid: int, mode: str, clients: int, each: int) -> dict[str, float]:
    """System calls of the process per transaction, by name."""
    with tempfile.NamedTemporaryFile(prefix="pgdog-strace-") as file:
        command = ["strace", "-c", "-f", "-o", file.name, "-p", str(pid)]
        tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.8)
            load = pgbench(endpoint, None, ["-S", "-M", mode, "-c", str(clients), "-j", "1", "-t", str(each)])
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        calls = {}
        for line in Path(file.name).read_text().splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[0][0].isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3]) / load.transactions
    if not calls:
        raise RuntimeError("strace saw nothing: is it allowed to trace here?")
    return dict(sorted(calls.items(), key=lambda item: -item[1]))
