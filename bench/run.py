#!/usr/bin/env python3
"""`make bench`: pgdog beside pgbouncer and no proxy, in interleaved rounds; writes bench/RESULTS.md.

Examples:
  make bench
  make bench ARGS='--rounds 3 --seconds 5 --phases transactions --clients 16'
  make bench ARGS='--old /tmp/pgdog-before --subjects pgdog,old --phases transactions,syscalls --output /tmp/compare.md'
  make bench ARGS='--phases big'
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/real"))

import big  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import stub  # noqa: E402
import subjects  # noqa: E402
from harness import LOOPBACK, end_everything  # noqa: E402
from phases import ENCRYPTED, FRESH, ONCE, PHASES, PROVING, STUBBED, Options  # noqa: E402
from postgres import Cluster, create_application  # noqa: E402
from target import Endpoint, pgdog_binary  # noqa: E402


def main() -> None:
    arguments = parse()
    options = Options(
        seconds=arguments.seconds,
        modes=arguments.modes.split(","),
        clients=[int(part) for part in arguments.clients.split(",")],
        idle=arguments.idle,
        stream_scale=arguments.stream_scale,
    )
    names = arguments.subjects.split(",")
    if arguments.old and "old" not in names:
        names.append("old")
    binaries = {"pgdog": pgdog_binary()} if any(name.startswith("pgdog") for name in names) else {}
    if arguments.old:
        binaries["old"] = arguments.old.resolve()
    wanted = arguments.phases.split(",")

    cluster = prepared_cluster()
    server: Cluster | stub.Stub = cluster
    results: report.Results = {}
    running: list[subjects.Subject] = []
    keys = setting = None
    for phase in (name for name in PHASES if name in wanted):
        if setting != (setting := "stub" if phase in STUBBED else "tls" if phase in ENCRYPTED else "scram" if phase in PROVING else "plain"):
            for subject in running:
                subject.stop()
            keys = subjects.Keys.make() if setting == "tls" else None
            server = stub.Stub() if setting == "stub" else prepared_cluster(keys) if keys else cluster
            chosen = [name for name in names if setting != "stub" or name != "direct"]
            running = [subjects.start(name, server, binaries, arguments.workers, keys, setting == "scram") for name in chosen]
        rounds = 1 if phase in ONCE else arguments.rounds
        results[phase] = {subject.name: [] for subject in running}
        for number in range(rounds):
            for subject in running if number % 2 == 0 else reversed(running):
                if phase in FRESH and subject.pid is not None:
                    subject.stop()
                    fresh = subjects.start(subject.name, server, binaries, arguments.workers, keys, setting == "scram")
                    subject.endpoint, subject.pid = fresh.endpoint, fresh.pid
                time.sleep(0.3)
                readings = PHASES[phase](subject, options)
                results[phase][subject.name].append(readings)
                show(phase, number + 1, subject.name, readings)
        command = "make bench" + (f" ARGS={shlex.quote(' '.join(sys.argv[1:]))}" if sys.argv[1:] else "")
        report.write(arguments.output, results, running, command, arguments.rounds)
    for subject in running:
        subject.stop()
    if "big" in wanted and "pgdog" in binaries:
        big.run(cluster, binaries["pgdog"], arguments.workers, arguments.idle)
    if results:
        print(f"\nwritten: {arguments.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", default="direct,pgbouncer,pgdog", help="in this order; also: old; pgdog@1 is pgdog with one worker")
    parser.add_argument("--old", type=Path, help="a second pgdog binary, measured as 'old'")
    parser.add_argument("--phases", default=",".join(PHASES), help=f"of {', '.join(PHASES)}, big; default: all but big")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=7, help="of each pgbench run")
    parser.add_argument("--modes", default="simple,extended,prepared")
    parser.add_argument("--clients", default="1,16,64")
    parser.add_argument("--workers", type=int, default=2, help="of pgdog")
    parser.add_argument("--idle", type=int, default=9000, help="idle clients of the memory phase")
    parser.add_argument("--stream-scale", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    return parser.parse_args()


def prepared_cluster(keys: subjects.Keys | None = None) -> Cluster:
    """A cluster with pgbench's tables."""
    cluster = Cluster("bench", {"shared_buffers": "256MB"} | (keys.of_cluster() if keys else {}))
    create_application(cluster)
    measure.initialize(Endpoint(LOOPBACK, cluster.port), scale=10)
    return cluster


def show(phase: str, number: int, name: str, readings: dict[str, dict[str, float]]) -> None:
    for case, values in readings.items():
        shown = "  ".join(f"{key} {report.figure(value)}" for key, value in values.items())
        print(f"{phase:<13} {number}  {name:<10} {case:<36} {shown}", flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        end_everything()
