#!/usr/bin/env python3
"""`make demo`: throwaway PostgreSQL with pgdog before it, a small data set, a few statements with their answers.

Stays up until Ctrl-C, which stops and removes everything; with --once it ends by itself.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "real"))

from harness import end_everything  # noqa: E402
from postgres import Cluster, create_application  # noqa: E402
from target import ADMIN_PASSWORD, Database, Pgdog, User  # noqa: E402

DATA = (
    "CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint REFERENCES customers, amount numeric(10, 2))",
    "INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger')",
    "INSERT INTO orders SELECT n, n % 3 + 1, n * 1.25 FROM generate_series(1, 300) n",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO app",
)

STATEMENTS = (
    ("app", "SELECT name, count(*) AS orders, sum(amount) FROM customers JOIN orders ON customer = customers.id GROUP BY 1 ORDER BY 1"),
    ("app", "PREPARE total AS SELECT sum(amount) FROM orders WHERE customer = $1; EXECUTE total(2)"),
    ("app", "BEGIN; UPDATE orders SET amount = 0 WHERE customer = 1; SELECT sum(amount) FROM orders; ROLLBACK"),
    ("admin", "SHOW SERVERS pool_id, database, user, state, remote_pid, transactions, queries"),
)

CLIENTS = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="end after the statements")
    once = parser.parse_args().once

    say("starting PostgreSQL and pgdog …")
    cluster = Cluster("demo")
    create_application(cluster)
    cluster.sql(*DATA, database="app")
    pgdog = Pgdog([Database(cluster)], [User()], {"default_pool_size": 5, "log_level": "warn"})
    say(f"PostgreSQL {version(cluster)} on port {cluster.port}, pgdog on port {pgdog.port}, configuration {pgdog.config}")

    for database, statement in STATEMENTS:
        run(pgdog, database, statement)
    crowd(pgdog, cluster)

    say("")
    say("Try it yourself:")
    say(f"  PGPASSWORD=secret psql -h {pgdog.host} -p {pgdog.port} -U app app")
    say(f"  PGPASSWORD={ADMIN_PASSWORD} psql -h {pgdog.host} -p {pgdog.port} -U admin admin -c 'SHOW CLIENTS'")
    if once:
        return 0
    say("Ctrl-C stops and removes everything.")
    wait_for_end(pgdog)
    return 0


def run(pgdog: Pgdog, database: str, statement: str) -> None:
    """One psql with the statement, shown as typed, and its answer."""
    say("")
    say(f"{bold(database + '=>')} {statement};")
    user = "admin" if database == "admin" else "app"
    environment = pgdog.environment(user, database) | {"PGPASSWORD": ADMIN_PASSWORD if user == "admin" else "secret"}
    done = subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-P", "footer=off", "-P", "border=2", "-P", "linestyle=unicode", "-c", statement],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    say(done.stdout.rstrip())
    if done.returncode != 0:
        raise SystemExit(f"psql failed with exit code {done.returncode}; pgdog's log:\n{pgdog.log_text()}")


def crowd(pgdog: Pgdog, cluster: Cluster) -> None:
    """Many clients, few servers: the point of it all."""
    clients = [pgdog.connect() for _ in range(CLIENTS)]
    for client in clients:
        client.value("SELECT 1")
    servers = cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'")[0][0]
    for client in clients:
        client.close()
    say("")
    say(f"{CLIENTS} clients asked and were answered over {servers} PostgreSQL connections.")


def wait_for_end(pgdog: Pgdog) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(0.5):
        if not pgdog.running():
            raise SystemExit(f"pgdog has ended; its log:\n{pgdog.log_text()}")
    say("\nstopping …")


def version(cluster: Cluster) -> str:
    return (cluster.sql("SHOW server_version")[0][0] or "").split()[0]


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    finally:
        end_everything()
    sys.exit(code)
