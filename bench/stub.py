"""bench/stub.rs in the place of PostgreSQL: a server that answers at once, so that what is measured is the proxy."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from harness import LOOPBACK, spawn, temporary_directory, wait_until
from target import pgdog_binary


class Stub:
    """What the harness needs to know of a cluster."""

    def __init__(self) -> None:
        log = temporary_directory("pgdog-stub-") / "port"
        with open(log, "w") as file:
            self.child = spawn([program(), "serve"], name="stub", stop_signal=signal.SIGKILL, stdout=file)
        self.port = int(wait_until(lambda: log.read_text().strip(), 10, "the stub listens"))


def ask(port: int, kind: str, count: int, timeout: float = 300) -> int:
    """Asks the proxy at `port` so often for `kind`; bytes of all answers."""
    done = subprocess.run(asking(port, kind, count), check=True, capture_output=True, text=True, timeout=timeout)
    return int(done.stdout or 0)


def asking(port: int, kind: str, count: int) -> list[str]:
    return [str(program()), "ask", f"{LOOPBACK}:{port}", kind, str(count)]


def program(name: str = "stub") -> Path:
    """An example that was built beside the proxy."""
    return pgdog_binary().parent / "examples" / name
