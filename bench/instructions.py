#!/usr/bin/env python3
"""`make bench-check`: instructions in user space, counted by callgrind: they do not depend on the machine's mood.

Each case runs twice with different counts; the difference, divided, is what one more costs: startup does not count.
pgdog runs with one worker between the two sides of bench/stub.rs; the micro-benchmarks run alone. Fails if a count has
grown by more than 3 % over bench/instructions.json; `--record` writes that file, with pgbouncer's counts beside ours.

How much one read of a stream brings depends on what else the machine does: the smallest of a few counts is taken.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/real"))

import stub  # noqa: E402
import target  # noqa: E402
from harness import end_everything, temporary_directory  # noqa: E402
from pgwire.client import Wire  # noqa: E402
from target import Database, Pgbouncer, Pgdog, User  # noqa: E402

RECORD = HERE / "instructions.json"
GROWTH_MAX = 1.03
TRIES = 3
USER = "app_trust"


@dataclass
class Case:
    """What is counted: with `kind`, `few` and then `many` times; one is `units` of what the figure is given in."""

    name: str
    kind: str
    few: int
    many: int
    units: int = 1


PROXY = [
    Case("simple transaction", "simple", 500, 2500),
    Case("extended transaction", "extended", 500, 2500),
    Case("prepared transaction", "prepared", 500, 2500),
    Case("connection with login by trust", "connect", 200, 800),
    Case("1000 rows of one int", "rows=1000000", 2, 6, 1000),
    Case("1000 COPY rows of 100 bytes", "copy=200000", 2, 6, 200),
]
# What one run of a micro-benchmark does: bench/micro.rs.
MICRO = [
    Case("scan of 128 KiB of rows of one int", "scan-ints", 100, 600),
    Case("scan of 128 KiB of rows of 100 bytes", "scan-100-bytes", 100, 600),
    Case("scan of 128 KiB of rows of mixed sizes", "scan-mixed", 100, 600),
    Case("exchange queue, simple query", "exchange-simple", 1000, 11000),
    Case("exchange queue, extended query", "exchange-extended", 1000, 11000),
    Case("checkout and check-in", "checkout-checkin", 1000, 11000),
    Case("checkout after a wait", "checkout-wait", 1000, 11000),
    Case("outbox, answer in four pieces", "outbox", 1000, 11000),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the counts instead of comparing them")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    wanted = [case for case in PROXY + MICRO if arguments.only in case.name]
    server = stub.Stub()
    recorded = {} if arguments.record or not RECORD.exists() else json.loads(RECORD.read_text())["pgdog"]
    found = {}
    for case in wanted:
        found[case.name] = smallest(case, "pgdog", server, recorded.get(case.name, 0) * GROWTH_MAX)
        print(f"{case.name:<40} {found[case.name]:>10,.0f}", flush=True)
    if arguments.record:
        return record(found, wanted, server)
    return compare(found, recorded)


def smallest(case: Case, subject: str, server: stub.Stub, enough: float) -> float:
    """Of a few counts, or the first that is small enough."""
    found: list[float] = []
    while len(found) < (1 if case in MICRO else TRIES):
        count = (lambda n: count_micro(case, n)) if case in MICRO else (lambda n: count_proxy(subject, case, server, n))
        found.append((count(case.many) - count(case.few)) / (case.many - case.few) / case.units)
        if found[-1] <= enough:
            break
    return min(found)


def record(found: dict[str, float], wanted: list[Case], server: stub.Stub) -> int:
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {"pgdog": {}, "pgbouncer": {}}
    kept["pgdog"].update({name: round(value, 1) for name, value in found.items()})
    for case in (case for case in wanted if case in PROXY):
        if case.kind == "prepared" and target.pgbouncer_version() < (1, 21):
            continue
        kept["pgbouncer"][case.name] = round(smallest(case, "pgbouncer", server, 0), 1)
    RECORD.write_text(json.dumps(kept, indent=2) + "\n")
    return 0


def compare(found: dict[str, float], recorded: dict[str, float]) -> int:
    worse = {name: value for name, value in found.items() if value > recorded[name] * GROWTH_MAX}
    for name, value in worse.items():
        print(f"GROWN: {name}: {value:,.0f} instructions, {value / recorded[name] - 1:.1%} over the recorded {recorded[name]:,.0f}")
    for name, value in found.items():
        if value < recorded[name] / GROWTH_MAX:
            print(f"smaller: {name}: {value:,.0f} instructions, {value / recorded[name] - 1:.1%}: `make bench-check ARGS=--record`")
    return 1 if worse else 0


def count_micro(case: Case, count: int) -> int:
    command = callgrind(stub.program("micro")) + [case.kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=temporary_directory("pgdog-count-"), check=True)
    return total(done.stderr)


def count_proxy(name: str, case: Case, server: stub.Stub, count: int) -> int:
    databases, users = [Database(server)], [User(USER, password="")]  # type: ignore[arg-type]
    if name == "pgdog":
        general = {"auth_type": "trust", "default_pool_size": 1, "workers": 1}
        proxy: target.Proxy = Counted(databases, users, general)
    else:
        proxy = CountedPgbouncer(databases, users, {"default_pool_size": 1}, auth_type="trust")
    wire = Wire.connect(proxy.address, USER, "app", timeout=60)
    wire.rows("SELECT 1")
    wire.socket.close()
    stub.ask(proxy.port, case.kind, count)
    assert proxy.child is not None
    # Both end in good order, and callgrind tells its total.
    proxy.child.signal(signal.SIGINT)
    proxy.child.wait(60)
    return total(proxy.log_text())


class Counted(Pgdog):
    """pgdog under callgrind."""

    def _start(self, argv: list[str | Path], unprivileged: bool = False) -> None:
        super()._start(callgrind(*argv), unprivileged)


class CountedPgbouncer(Pgbouncer):
    """pgbouncer under callgrind."""

    def _start(self, argv: list[str | Path], unprivileged: bool = False) -> None:
        super()._start(callgrind(*argv), unprivileged)


def callgrind(*argv: str | Path) -> list[str | Path]:
    return ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *argv]


def total(log: str) -> int:
    found = re.findall(r"Collected : (\d+)", log)
    if not found:
        raise RuntimeError(f"callgrind told nothing:\n{log[-2000:]}")
    return int(found[-1])


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        end_everything()
