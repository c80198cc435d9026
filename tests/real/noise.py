"""Another client of the same pool, so that servers change under the client being tested.

Run as a program it is the noise itself: several sessions in one process, each doing short transactions of every kind,
with prepared statements under the very names that drivers give theirs, and with session settings of its own. Each
session checks every answer; when its standard input ends the program prints one line of JSON with what it did and what went wrong.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from harness import Child, spawn
from pgwire import build
from pgwire.client import Wire, rows_of

# Names that psycopg, asyncpg, node-postgres, tokio-postgres and pgbench use.
NAMES = ("_pg3_0", "_pg3_1", "__asyncpg_stmt_1__", "__asyncpg_stmt_2__", "s0", "s1", "P_0", "P_1", "", "item")
# Only settings that PostgreSQL reports: a pooler can follow them.
DATE_STYLES = ("ISO, MDY", "SQL, DMY", "German, DMY", "Postgres, MDY")


class Noise:
    """The program below as a context manager; leaving it fails if any of its sessions saw a wrong answer."""

    def __init__(self, host: str, port: int, user: str = "app", database: str = "app", password: str = "secret", sessions: int = 6) -> None:
        arguments = [host, str(port), user, database, password, str(sessions)]
        self.child: Child = spawn(
            [sys.executable, Path(__file__), *arguments],
            name="noise",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.child.process.stdout.readline()
        if line != "running\n":
            rest = self.child.process.stdout.read()
            self.child.stop()
            raise RuntimeError(f"the noise did not start: {line}{rest}")

    def finish(self) -> dict:
        self.child.process.stdin.close()
        answer = self.child.process.stdout.readline()
        self.child.stop()
        return json.loads(answer) if answer else {"transactions": 0, "errors": ["the noise ended early"]}

    def __enter__(self) -> Noise:
        return self

    def __exit__(self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None) -> None:
        report = self.finish()
        if kind is None:
            assert not report["errors"], f"the noise saw wrong answers: {report['errors'][:3]}"
            assert report["transactions"] > 0, "the noise did nothing"


class Session(threading.Thread):
    """One noisy session."""

    def __init__(self, number: int, address: tuple[str, int], user: str, database: str, password: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.stop = stop
        self.random = random.Random(number)
        self.transactions = 0
        self.errors: list[str] = []
        self.label = f"noise{number}"
        self.style = DATE_STYLES[number % len(DATE_STYLES)]
        self.wire = Wire.connect(address, user, database, password, timeout=90, application_name=self.label, DateStyle=self.style)
        self.prepared: dict[str, int] = {}

    def run(self) -> None:
        steps = (self.simple, self.transaction, self.extended, self.pipeline, self.failing, self.settings)
        try:
            while not self.stop.is_set():
                self.random.choice(steps)()
                self.transactions += 1
                time.sleep(self.random.uniform(0, 0.004))
            self.wire.close()
        except Exception as error:  # noqa: BLE001 - every kind of failure is reported
            self.errors.append(f"{self.label}: {type(error).__name__}: {error}")

    def expect(self, found: object, wanted: object) -> None:
        if found != wanted:
            raise AssertionError(f"got {found!r} instead of {wanted!r}")

    def simple(self) -> None:
        token = f"{self.label}-{self.transactions}"
        self.expect(self.wire.rows(f"SELECT '{token}'"), [(token,)])

    def transaction(self) -> None:
        self.expect(rows_of(self.wire.ask("BEGIN")), [])
        pid = self.wire.value("SELECT pg_backend_pid()")
        time.sleep(self.random.uniform(0, 0.003))
        self.expect(self.wire.value("SELECT pg_backend_pid()"), pid)
        self.wire.ask(self.random.choice(("COMMIT", "ROLLBACK")))
        self.expect(self.wire.status, "I")

    def extended(self) -> None:
        name = self.random.choice(NAMES)
        parts = []
        if name == "":
            value = self.random.randrange(1000)
            parts.append(build.parse(f"SELECT {value} + $1::int"))
        elif name not in self.prepared:
            value = self.prepared[name] = self.random.randrange(1000)
            parts.append(build.parse(f"SELECT {value} + $1::int", name))
        else:
            value = self.prepared[name]
        self.wire.send(*parts, build.bind(("7",), name), build.execute(), build.sync())
        self.expect(rows_of(self.wire.until("Z")), [(str(value + 7),)])

    def pipeline(self) -> None:
        for value in range(3):
            self.wire.send(build.parse("SELECT $1::text"), build.bind((f"{self.label}/{value}",)), build.execute(), build.sync())
        for value in range(3):
            self.expect(rows_of(self.wire.until("Z")), [(f"{self.label}/{value}",)])

    def failing(self) -> None:
        messages = self.wire.ask("SELECT 1/0")
        self.expect([m.fields()["C"] for m in messages if m.kind == "E"], ["22012"])

    def settings(self) -> None:
        found = self.wire.rows("SELECT current_setting('application_name'), current_setting('DateStyle')")
        self.expect(found, [(self.label, self.style)])


def main() -> None:
    host, port, user, database, password, sessions = sys.argv[1:]
    stop = threading.Event()
    threads = [Session(number, (host, int(port)), user, database, password, stop) for number in range(int(sessions))]
    for thread in threads:
        thread.start()
    print("running", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join(30)
    errors = [error for thread in threads for error in thread.errors]
    errors += [f"{thread.label} hangs" for thread in threads if thread.is_alive()]
    print(json.dumps({"transactions": sum(thread.transactions for thread in threads), "errors": errors}), flush=True)


if __name__ == "__main__":
    main()
