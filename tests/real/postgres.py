"""Throwaway PostgreSQL clusters: made by initdb on a free port, durable against nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from harness import (
    LOOPBACK,
    Child,
    descendants,
    free_port,
    give_away,
    spawn,
    temporary_directory,
    unprivileged_options,
    wait_until,
)
from pgwire.client import Wire

SUPERUSER = "postgres"

SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "1GB",
    "shared_buffers": "64MB",
    "max_connections": "700",
    "max_prepared_transactions": "20",
    "jit": "off",
    "logging_collector": "off",
    "log_line_prefix": "'%m %p %u@%d '",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
}

# Who may log in how. The first matching line decides.
HBA = f"""\
local all {SUPERUSER} trust
local all all reject
host all app_trust {LOOPBACK}/32 trust
host all app_md5 {LOOPBACK}/32 md5
host all app_plain {LOOPBACK}/32 password
host all all {LOOPBACK}/32 scram-sha-256
"""


def binary_directory() -> Path:
    """Where initdb and postgres live: PGDOG_TEST_PGBIN, the newest Debian directory, or the PATH."""
    chosen = os.environ.get("PGDOG_TEST_PGBIN")
    if chosen:
        return Path(chosen)
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: int(path.parts[-3])).parent
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    raise RuntimeError("PostgreSQL's server is not installed: run `make setup`")


class Cluster:
    """One PostgreSQL server with its own data directory."""

    def __init__(self, name: str = "pg", settings: dict[str, str] | None = None, hba: str = HBA) -> None:
        self.name = name
        self.bin = binary_directory()
        self.directory = temporary_directory(f"pgdog-{name}-")
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.port = free_port()
        self.child: Child | None = None
        self._initdb(hba, settings or {})
        self.start()

    def _initdb(self, hba: str, settings: dict[str, str]) -> None:
        subprocess.run(
            [self.bin / "initdb", "--no-sync", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
            **unprivileged_options(),
        )
        lines = dict(SETTINGS)
        lines.update(settings)
        lines["listen_addresses"] = f"'{LOOPBACK}'"
        lines["unix_socket_directories"] = f"'{self.directory}'"
        lines["port"] = str(self.port)
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.writelines(f"{key} = {value}\n" for key, value in lines.items())
        (self.data / "pg_hba.conf").write_text(hba)

    def start(self, timeout: float = 60) -> None:
        log = open(self.log, "ab")
        give_away(self.log)
        self.child = spawn(
            [self.bin / "postgres", "-D", self.data],
            name=f"PostgreSQL {self.name}",
            stop_signal=signal.SIGINT,  # fast shutdown
            unprivileged=True,
            stdout=log,
            stderr=log,
            cwd=self.directory,
        )
        log.close()
        wait_until(self._answers, timeout, f"PostgreSQL {self.name} starts (log: {self.log})", interval=0.05)

    def _answers(self) -> bool:
        assert self.child is not None
        if not self.child.running():
            raise RuntimeError(f"PostgreSQL {self.name} ended at start:\n{self.log.read_text()[-2000:]}")
        try:
            self.superuser().close()
            return True
        except OSError:
            return False
        except Exception as error:
            if getattr(error, "sqlstate", "") == "57P03":  # the database system is starting up
                return False
            raise

    @property
    def socket_path(self) -> str:
        return f"{self.directory}/.s.PGSQL.{self.port}"

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def superuser(self, database: str = "postgres") -> Wire:
        """A direct connection, past every proxy, over the Unix socket."""
        return Wire.connect(self.socket_path, user=SUPERUSER, database=database, application_name="harness")

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple]:
        """Run statements directly as superuser, each in a transaction of its own; the rows of the last one."""
        with self.superuser(database) as wire:
            rows: list[tuple] = []
            for statement in statements:
                rows = wire.rows(statement)
            return rows

    def crash(self) -> None:
        """End the whole server without a word to its clients: SIGKILL to the postmaster, then to its children."""
        assert self.child is not None
        family = descendants(self.child.pid)
        for pid in (self.child.pid, *family):
            os.kill(pid, signal.SIGKILL)
        self.child.process.wait()
        self.child.stop()
        wait_until(lambda: not any(Path("/proc", str(pid)).exists() for pid in family), 10, "the backends end")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self, mode: int = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: immediate."""
        if self.child is not None:
            self.child.stop_signal = mode
            self.child.stop(timeout=30)
            self.child = None

    def restart(self) -> None:
        self.stop()
        self.start()


def create_application(cluster: Cluster, databases: tuple[str, ...] = ("app",)) -> None:
    """The roles and databases that the suites use. Every password is 'secret'."""
    statements = [
        "CREATE ROLE app LOGIN PASSWORD 'secret'",
        "CREATE ROLE app_trust LOGIN",
        "CREATE ROLE app_plain LOGIN PASSWORD 'secret'",
        "SET password_encryption = 'md5'",
        "CREATE ROLE app_md5 LOGIN PASSWORD 'secret'",
    ]
    for name in databases:
        statements += [f'CREATE DATABASE "{name}" OWNER app', f'GRANT ALL ON DATABASE "{name}" TO public']
    cluster.sql(*statements)
    for name in databases:
        # As in PostgreSQL 15 and later, where the schema belongs to the owner of its database.
        cluster.sql("GRANT ALL ON SCHEMA public TO public", "ALTER SCHEMA public OWNER TO app", database=name)
