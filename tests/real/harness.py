"""Processes, ports and temporary directories of a run.

Whatever is started or made through this module is ended and removed when the interpreter exits: normally, by an
exception, by Ctrl-C or by SIGTERM. Children also ask the kernel to be told when this process dies by SIGKILL.
Start long-lived children from the main thread only: the kernel ties that request to the starting thread.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_children: list[Child] = []
_directories: list[Path] = []

LOOPBACK = "127.0.0.1"


class Child:
    """One process that this run started."""

    def __init__(self, process: subprocess.Popen, name: str, stop_signal: int) -> None:
        self.process = process
        self.name = name
        self.stop_signal = stop_signal

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.running():
            self.process.send_signal(number)

    def wait(self, timeout: float) -> int:
        return self.process.wait(timeout)

    def stop(self, timeout: float = 10) -> int | None:
        """Ask it to stop, then insist. Stopped (SIGSTOP) processes are woken first."""
        if self.running():
            for pid in (self.pid, *descendants(self.pid)):
                send_signal(pid, signal.SIGCONT)
            self.signal(self.stop_signal)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                family = descendants(self.pid)
                self.process.kill()
                self.process.wait(timeout)
                for pid in family:
                    send_signal(pid, signal.SIGKILL)
        if self in _children:
            _children.remove(self)
        return self.process.returncode


def spawn(
    argv: Sequence[str | Path],
    *,
    name: str,
    stop_signal: int = signal.SIGTERM,
    unprivileged: bool = False,
    **options: Any,
) -> Child:
    """Start a process that cannot outlive this one. It gets a session of its own, so Ctrl-C reaches only us."""

    def before_exec() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(stop_signal))

    if unprivileged:
        options.update(unprivileged_options())
    process = subprocess.Popen(
        [str(part) for part in argv],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        start_new_session=True,
        preexec_fn=before_exec,
        **options,
    )
    child = Child(process, name, stop_signal)
    _children.append(child)
    return child


def unprivileged_user() -> str | None:
    """The account for programs that refuse to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError("neither 'postgres' nor 'nobody' is a user of this system")


def unprivileged_options() -> dict[str, Any]:
    user = unprivileged_user()
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def temporary_directory(prefix: str = "pgdog-test-") -> Path:
    """A directory that the unprivileged user owns and that is removed at the end."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    path.chmod(0o755)
    give_away(path)
    _directories.append(path)
    return path


def give_away(path: Path) -> None:
    user = unprivileged_user()
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def remove_directory(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if path in _directories:
        _directories.remove(path)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on; never one of the ephemeral range handed out twice."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
        if port not in _ports_given:
            _ports_given.add(port)
            return port


_ports_given: set[int] = set()


def wait_until(condition: Callable[[], Any], timeout: float, what: str, interval: float = 0.02) -> Any:
    """The first true value of `condition`; TimeoutError naming `what` if there is none in time."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(interval)


def send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def memory(pid: int) -> int:
    """Resident memory in MiB."""
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def descendants(pid: int) -> list[int]:
    """Process ids of all children of `pid`, and theirs."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    todo = [pid]
    while todo:
        next_ones = children.get(todo.pop(), [])
        found += next_ones
        todo += next_ones
    return found


def end_everything() -> None:
    """Stop every child, youngest first, and remove every directory."""
    while _children:
        _children[-1].stop(timeout=5)
    while _directories:
        remove_directory(_directories[-1])


def _on_sigterm(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt  # what pytest and our programs stop at; SystemExit would only fail one test


atexit.register(end_everything)
signal.signal(signal.SIGTERM, _on_sigterm)
