"""Big values and big crowds: the proxy's memory with a row of 1,000,000,000 bytes, 300 MB of COPY each way, idle clients.

Prints figures beside their targets; not a test with a time limit. Run by `make bench ARGS='--phases big'`.
"""

from __future__ import annotations

import time
from pathlib import Path

import measure
import subjects
from pgwire import build
from phases import Options, connect, memory
from postgres import Cluster
from subjects import Subject

ROW = 1_000_000_000
COPY = 300_000_000
LIMIT_MIB = 64
LIMIT_CLIENT = 2048
MIB = 1 << 20


def run(cluster: Cluster, binary: Path, workers: int, idle: int) -> None:
    for name, work in (("row of 1,000,000,000 bytes", big_row), ("COPY out, 300 MB", copy_out), ("COPY in, 300 MB", copy_in)):
        subject = subjects.start("pgdog", cluster, {"pgdog": binary}, workers)
        assert subject.pid is not None
        measure.forget_high_water(subject.pid)
        began, before = time.monotonic(), measure.cpu_seconds(subject.pid)
        size = work(subject)
        seconds = time.monotonic() - began
        used = measure.cpu_seconds(subject.pid) - before
        most = measure.memory_bytes(subject.pid, "VmHWM") / MIB
        verdict = "ok" if most < LIMIT_MIB else "TOO MUCH"
        print(f"{name:<28} {size / seconds / 1e6:7.0f} MB/s  CPU {used:6.2f} s  VmHWM {most:6.1f} MiB (limit {LIMIT_MIB}): {verdict}")
        subject.stop()
    subject = subjects.start("pgdog", cluster, {"pgdog": binary}, workers)
    readings = memory(subject, Options(0, [], [], idle, 1.0))
    for name, values in readings.items():
        print(f"{name:<40} RSS {values['RSS MB']:7.1f} MB  {values['bytes/client']:7.0f} bytes/client")
    each = readings[f"{idle} idle clients"]["bytes/client"]
    print(f"an idle client: {each:.0f} bytes (limit {LIMIT_CLIENT}): {'ok' if each < LIMIT_CLIENT else 'TOO MUCH'}")
    subject.stop()


def big_row(subject: Subject) -> int:
    with connect(subject) as wire:
        size = measure.drain(wire, f"SELECT repeat('x', {ROW})")
    assert size > ROW
    return size


def copy_out(subject: Subject) -> int:
    with connect(subject) as wire:
        size = measure.drain(wire, f"COPY (SELECT repeat('x', 999) FROM generate_series(1, {COPY // 1000})) TO STDOUT")
    assert size > COPY
    return size


def copy_in(subject: Subject) -> int:
    chunk = build.copy_data((b"x" * 999 + b"\n") * 64)
    count = COPY // 64_000
    with connect(subject) as wire:
        wire.rows("DROP TABLE IF EXISTS big_copy")
        wire.rows("CREATE UNLOGGED TABLE big_copy (filler text)")
        wire.send(build.query("COPY big_copy FROM STDIN"))
        wire.until("G")
        for _ in range(count):
            wire.send(chunk)
        wire.send(build.copy_done())
        wire.until("Z")
        assert wire.value("SELECT count(*) FROM big_copy") == str(count * 64)
        wire.rows("DROP TABLE big_copy")
    return count * 64_000
