"""Turns readings into bench/RESULTS.md."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from pathlib import Path

from phases import Readings
from postgres import binary_directory
from subjects import Subject

# phase → subject → one Readings per round
Results = dict[str, dict[str, list[Readings]]]

TITLES = {
    "transactions": "Transactions: pgbench -S",
    "streams": "Streams",
    "churn": "Churn: a connection per transaction",
    "logins": "A storm of SCRAM logins",
    "memory": "Memory",
    "syscalls": "System calls per transaction",
    "tls": "TLS on both sides",
    "tls-memory": "Memory of TLS clients",
    "latency": "Latency before a server that answers at once, 64 clients",
}
LOWER_IS_BETTER = ("CPU µs/tx", "CPU s/GB", "CPU µs/connection", "CPU µs/login", "bytes/client", "total/tx", "p50 ms", "p99 ms", "p99.9 ms")


def write(path: Path, results: Results, subjects: list[Subject], command: str, rounds: int) -> None:
    lines = [
        "# Results",
        "",
        f"Made by `{command}`. Every round measures each subject in turn, the order reversed in every second round; figures",
        f"are medians of {rounds} rounds. Ratios are medians of the ratios within a round (in brackets: smallest to largest).",
        "PostgreSQL, pgbench and the proxy share the machine: CPU per transaction says more than transactions per second.",
        "",
        *machine(),
        "",
        *(f"- **{subject.name}**: {subject.description}" for subject in subjects),
        "",
    ]
    for phase, by_subject in results.items():
        lines += [f"## {TITLES[phase]}", "", *tables(by_subject, details=phase == "syscalls"), ""]
        ratios = list(ratio_lines(by_subject))
        if ratios:
            lines += ["| ratio | what | of | median | spread |", "|---|---|---|--:|--:|", *ratios, ""]
    path.write_text("\n".join(lines))


def machine() -> list[str]:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    postgres = subprocess.run([binary_directory() / "postgres", "--version"], capture_output=True, text=True).stdout.strip()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return [
        f"Machine: {os.cpu_count()} cores ({model}), {memory:.0f} GiB, {system}, Linux {platform.release()}; {postgres};",
        f"load average at the end {os.getloadavg()[0]:.1f}. Loopback TCP, no TLS but where it says so, trust authentication, transaction mode, pool of 10.",
    ]


def tables(by_subject: dict[str, list[Readings]], details: bool) -> list[str]:
    cases = ordered(case for rounds in by_subject.values() for readings in rounds for case in readings)
    lines = []
    if details:
        lines += ["| case | subject | total | calls |", "|---|---|--:|---|"]
        for case in cases:
            for subject, rounds in by_subject.items():
                values = rounds[-1].get(case)
                if values:
                    calls = ", ".join(f"{name} {value:.2f}" for name, value in values.items() if name != "total/tx")
                    lines.append(f"| {case} | {subject} | {values['total/tx']:.2f} | {calls} |")
        return lines
    columns = ordered(name for rounds in by_subject.values() for readings in rounds for values in readings.values() for name in values)
    lines += ["| case | subject | " + " | ".join(columns) + " |", "|---|---|" + "--:|" * len(columns)]
    for case in cases:
        for subject, rounds in by_subject.items():
            cells = [middle(rounds, case, column) for column in columns]
            if any(cell is not None for cell in cells):
                shown = ["–" if cell is None or (subject == "direct" and "CPU" in column) else figure(cell) for cell, column in zip(cells, columns)]
                lines.append(f"| {case} | {subject} | " + " | ".join(shown) + " |")
    return lines


def ratio_lines(by_subject: dict[str, list[Readings]]):  # noqa: ANN201
    """pgdog beside pgbouncer, and beside the older build. Where pgbouncer lacks prepared statements: its extended figure."""
    for other in ("pgbouncer", "old", "pgdog@1"):
        if "pgdog" not in by_subject or other not in by_subject:
            continue
        ours, theirs = by_subject["pgdog"], by_subject[other]
        cases = ordered(case for readings in ours for case in readings)
        for case in cases:
            beside = case
            if not any(case in readings for readings in theirs):
                beside = case.replace("prepared", "extended")
            for column in LOWER_IS_BETTER:
                pairs = [
                    mine[case][column] / its[beside][column]
                    for mine, its in zip(ours, theirs)
                    if column in mine.get(case, {}) and its.get(beside, {}).get(column)
                ]
                if pairs:
                    name = case if beside == case else f"{case} (beside {beside})"
                    spread = f"{min(pairs):.2f}–{max(pairs):.2f}"
                    yield f"| pgdog / {other} | {column} | {name} | **{statistics.median(pairs):.2f}** | {spread} |"


def middle(rounds: list[Readings], case: str, column: str) -> float | None:
    values = [readings[case][column] for readings in rounds if column in readings.get(case, {})]
    return statistics.median(values) if values else None


def figure(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def ordered(items) -> list[str]:  # noqa: ANN001
    return list(dict.fromkeys(items))
