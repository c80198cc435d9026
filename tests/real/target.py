"""What the suites connect to: pgdog, pgbouncer or PostgreSQL itself, chosen by PGDOG_TEST_TARGET or --target.

The same tests run against all three. `direct` proves the tests themselves; `pgbouncer` shows what is expected of a
pooler and what only pgdog promises.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import LOOPBACK, Child, free_port, give_away, spawn, temporary_directory, wait_until
from pgwire.client import ServerError, Wire
from postgres import Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
ADMIN_PASSWORD = "adminpw"
USER_PASSWORDS = {"app": "secret", "app_md5": "secret", "app_plain": "secret", "app_trust": ""}


@dataclass
class Database:
    """An entry of [[databases]]."""

    cluster: Cluster
    name: str = "app"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class User:
    """An entry of [[users]]."""

    name: str = "app"
    database: str = "app"
    password: str = "secret"
    options: dict[str, Any] = field(default_factory=dict)


class Endpoint:
    """An address that clients can connect to, with the conveniences that tests want."""

    kind = "direct"
    sslmode = "disable"

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @property
    def address(self) -> tuple[str, int]:
        return (self.host, self.port)

    @property
    def is_direct(self) -> bool:
        return self.kind == "direct"

    def connect(self, user: str = "app", database: str = "app", password: str | None = None, **options: Any) -> Wire:
        if password is None:
            password = USER_PASSWORDS.get(user, "secret")
        return Wire.connect(self.address, user, database, password, **options)

    def environment(self, user: str = "app", database: str = "app") -> dict[str, str]:
        """For psql, pgbench, pg_dump and every other program on top of libpq."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG") or key.startswith("PGDOG")}
        return kept | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PGDATABASE": database,
            "PGPASSWORD": USER_PASSWORDS.get(user, "secret"),
            "PGSSLMODE": self.sslmode,
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "20",
            "PSQLRC": "/dev/null",
            "PSQL_HISTORY": "/dev/null",
            "LC_ALL": "C.UTF-8",
        }

    def url(self, user: str = "app", database: str = "app") -> str:
        return f"postgres://{user}:{USER_PASSWORDS.get(user, 'secret')}@{self.host}:{self.port}/{database}?sslmode={self.sslmode}"

    def stop(self) -> None:
        pass


class Proxy(Endpoint):
    """A proxy process that this run started."""

    def __init__(self, port: int) -> None:
        super().__init__(LOOPBACK, port)
        self.directory = temporary_directory(f"pgdog-{self.kind}-")
        self.log = self.directory / "log"
        self.child: Child | None = None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def running(self) -> bool:
        return self.child is not None and self.child.running()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def _start(self, argv: list[str | Path], unprivileged: bool = False) -> None:
        with open(self.log, "ab") as log:
            give_away(self.log)
            self.child = spawn(
                argv,
                name=self.kind,
                stop_signal=signal.SIGKILL,
                stdout=log,
                stderr=log,
                unprivileged=unprivileged,
                cwd=self.directory,
                # Settings of this harness are not settings of the proxy.
                env={key: value for key, value in os.environ.items() if not key.startswith("PGDOG_")},
            )
        wait_until(self._accepts, 20, f"{self.kind} accepts connections (log: {self.log})")

    def _accepts(self) -> bool:
        if not self.running():
            raise RuntimeError(f"{self.kind} ended at start:\n{self.log_text()[-4000:]}")
        try:
            Wire.dial(self.address, timeout=2).socket.close()
            return True
        except OSError:
            return False

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()


class Pgdog(Proxy):
    """pgdog with a generated configuration. `general` entries override the defaults below."""

    kind = "pgdog"
    DEFAULTS: dict[str, Any] = {
        "workers": 2,
        "default_pool_size": 10,
        "min_pool_size": 0,
        "pooler_mode": "transaction",
        "checkout_timeout": 60000,
        "auth_type": "scram",
        "log_level": "info",
    }

    def __init__(
        self,
        databases: list[Database],
        users: list[User] | None = None,
        general: dict[str, Any] | None = None,
        binary: Path | None = None,
        sections: str = "",
    ) -> None:
        super().__init__(free_port())
        self.binary = binary or pgdog_binary()
        self.databases = databases
        self.users = users or [User()]
        self.general = self.DEFAULTS | {"host": self.host, "port": self.port} | (general or {})
        self.sections = sections
        self.config = self.directory / "pgdog.toml"
        self.users_file = self.directory / "users.toml"
        self.write_configuration()
        self._start([self.binary, "-c", self.config, "-u", self.users_file])

    def write_configuration(self) -> None:
        lines = ["[general]", *toml_lines(self.general), "", "[admin]", f'password = "{ADMIN_PASSWORD}"', ""]
        for database in self.databases:
            entry = {"name": database.name, "host": LOOPBACK, "port": database.cluster.port} | database.options
            lines += ["[[databases]]", *toml_lines(entry), ""]
        replace_file(self.config, "\n".join(lines) + self.sections)
        lines = []
        for user in self.users:
            entry = {"name": user.name, "database": user.database, "password": user.password} | user.options
            for key in ("database", "password"):
                if not entry[key]:
                    del entry[key]
            lines += ["[[users]]", *toml_lines(entry), ""]
        replace_file(self.users_file, "\n".join(lines))

    def reload(self) -> None:
        assert self.child is not None
        self.child.signal(signal.SIGHUP)

    def admin(self, timeout: float = 20) -> Wire:
        """A connection to the console."""
        return Wire.connect(self.address, "admin", "admin", ADMIN_PASSWORD, timeout=timeout)

    def show(self, what: str) -> list[dict[str, str | None]]:
        """Rows of a console command as dictionaries."""
        with self.admin() as wire:
            return table(wire, f"SHOW {what}")


class Pgbouncer(Proxy):
    """pgbouncer with the same shape of pool."""

    kind = "pgbouncer"

    def __init__(
        self,
        databases: list[Database],
        users: list[User] | None = None,
        general: dict[str, Any] | None = None,
        auth_type: str = "scram-sha-256",
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(free_port())
        general = general or {}
        lines = ["[databases]"]
        lines += [f"{entry.name} = host={LOOPBACK} port={entry.cluster.port} dbname={entry.name}" for entry in databases]
        settings = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": auth_type,
            "auth_file": self.directory / "users.txt",
            "pool_mode": general.get("pooler_mode", "transaction"),
            "default_pool_size": general.get("default_pool_size", 10),
            "min_pool_size": general.get("min_pool_size", 0),
            "max_client_conn": 10000,
            "query_wait_timeout": general.get("checkout_timeout", 60000) // 1000,
            "server_reset_query_always": 0,
            "ignore_startup_parameters": "extra_float_digits,options,search_path,statement_timeout",
            "server_connect_timeout": 5,
            "server_login_retry": 1,
            "stats_users": "app",
            "admin_users": "admin",
        }
        if pgbouncer_version() >= (1, 21):
            settings["max_prepared_statements"] = 5000
        settings |= more or {}
        lines += ["[pgbouncer]", *(f"{key} = {value}" for key, value in settings.items())]
        names = {user.name: user.password for user in users or [User()]} | {"admin": ADMIN_PASSWORD}
        (self.directory / "users.txt").write_text("".join(f'"{name}" "{word}"\n' for name, word in names.items()))
        (self.directory / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        self._start([pgbouncer_binary(), self.directory / "pgbouncer.ini"], unprivileged=True)


def pgdog_binary() -> Path:
    """PGDOG_BIN, or the release build, or the debug build, whichever is newer."""
    chosen = os.environ.get("PGDOG_BIN")
    if chosen:
        return Path(chosen).resolve()
    root = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    builds = [path for path in (root / "release/pgdog", root / "debug/pgdog") if path.exists()]
    if not builds:
        raise RuntimeError("pgdog is not built: run `cargo build --release`, or set PGDOG_BIN")
    return max(builds, key=lambda path: path.stat().st_mtime)


def pgbouncer_binary() -> Path:
    found = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise RuntimeError("pgbouncer is not installed")
    return Path(found)


def pgbouncer_version() -> tuple[int, ...]:
    text = subprocess.run([pgbouncer_binary(), "--version"], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in text.split()[1].split("."))


def start_target(
    kind: str,
    databases: list[Database],
    users: list[User] | None = None,
    general: dict[str, Any] | None = None,
) -> Endpoint:
    if kind == "direct":
        return Endpoint(LOOPBACK, databases[0].cluster.port)
    if kind == "pgbouncer":
        return Pgbouncer(databases, users, general)
    if kind == "pgdog":
        return Pgdog(databases, users, general)
    raise ValueError(f"target '{kind}': expected pgdog, pgbouncer or direct")


def toml_lines(entries: dict[str, Any]) -> list[str]:
    return [f"{key} = {toml_value(value)}" for key, value in entries.items()]


def toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def replace_file(path: Path, text: str) -> None:
    """Write whole or not at all: the proxy may read at any moment."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def table(wire: Wire, sql: str) -> list[dict[str, str | None]]:
    """Rows of a query as dictionaries by column name."""
    names: list[str] = []
    rows = []
    for message in wire.ask(sql):
        if message.kind == "E":
            raise ServerError(message)
        if message.kind == "T":
            names = [column[0] for column in message.decoded()[1:]]
        elif message.kind == "D":
            rows.append(dict(zip(names, message.row())))
    return rows
