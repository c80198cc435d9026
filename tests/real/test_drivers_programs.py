"""PostgreSQL's own programs: psql and pg_dump."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checks import backends
from harness import LOOPBACK, wait_until
from postgres import Cluster, binary_directory
from target import Database, Endpoint, User

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE people (id bigserial PRIMARY KEY, name text NOT NULL DEFAULT 'nobody', mood mood, born date CHECK (born > '1800-01-01'));
CREATE TABLE pets (id int PRIMARY KEY, owner bigint REFERENCES people, blob bytea, tags text[]);
CREATE INDEX pets_by_owner ON pets (owner) WHERE owner IS NOT NULL;
CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'happy';
CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
INSERT INTO people (name, mood, born) SELECT 'name ' || n, 'happy', date '1900-01-01' + n FROM generate_series(1, 5000) n;
INSERT INTO pets SELECT n, n, decode(lpad(to_hex(n), 8, '0'), 'hex'), ARRAY['a', 'b"c', NULL] FROM generate_series(1, 5000) n;
"""


def psql(endpoint: Endpoint, *arguments: str, stdin: str | None = None, database: str = "app", code: int = 0) -> str:
    done = subprocess.run(
        ["psql", "-X", "-v", "ON_ERROR_STOP=1", *arguments],
        env=endpoint.environment(database=database),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, f"psql ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def schema(cluster: Cluster) -> None:
    direct = Endpoint(LOOPBACK, cluster.port)
    psql(direct, "-q", "-c", "DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public; " + SCHEMA)


@pytest.mark.parametrize("command", ["\\d", "\\d people", "\\d+ pets", "\\df add", "\\dT+", "\\dv", "\\du", "\\dn+", "\\conninfo"])
def test_psql_describes_as_directly(command: str, cluster: Cluster, endpoint: Endpoint, noise: object) -> None:
    if command == "\\conninfo":
        assert 'database "app" as user "app"' in psql(endpoint, "-c", command)
        return
    direct = Endpoint(LOOPBACK, cluster.port)
    wanted = psql(direct, "-c", command)
    assert len(wanted) > 20
    for _ in range(3):
        assert psql(endpoint, "-c", command) == wanted


def test_psql_copies_both_ways(endpoint: Endpoint, noise: object, tmp_path: Path) -> None:
    out, again = tmp_path / "out.csv", tmp_path / "again.csv"
    script = f"""
        CREATE TABLE copied (LIKE people);
        \\copy people TO '{out}' CSV HEADER
        \\copy copied FROM '{out}' CSV HEADER
        \\copy (SELECT * FROM copied ORDER BY id) TO '{again}' CSV HEADER
        SELECT count(*) FROM copied;
        DROP TABLE copied;
    """
    assert "5000" in psql(endpoint, "-q", "-At", stdin=script)
    assert out.read_bytes() == again.read_bytes()
    assert out.stat().st_size > 100_000


def test_psql_stops_at_a_bad_copy(endpoint: Endpoint, noise: object, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("1\tx\n" * 20000 + "bad\n")
    said = psql(endpoint, "-c", f"\\copy pets (id, owner) FROM '{bad}'", code=1)
    assert "invalid input syntax" in said
    assert psql(endpoint, "-Atc", "SELECT count(*) FROM pets").strip() == "5000"


def test_ctrl_c_ends_a_query_quickly(endpoint: Endpoint, cluster: Cluster, noise: object) -> None:
    for _ in range(3):
        process = subprocess.Popen(
            ["psql", "-X", "-v", "VERBOSITY=verbose", "-c", "SELECT pg_sleep(60)"],
            env=endpoint.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        sleeping = "query LIKE '%pg_sleep(60)%' AND state = 'active'"
        wait_until(lambda: backends(cluster, sleeping) == 1, 10, "the query runs")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=10)
        assert time.monotonic() - began < 2
        assert "57014" in said
        assert backends(cluster, sleeping) == 0


def test_psql_runs_scripts(endpoint: Endpoint, noise: object) -> None:
    script = """
        BEGIN; SET LOCAL search_path TO pg_catalog; SELECT count(*) > 100 FROM pg_proc; COMMIT;
        SELECT name FROM people WHERE id = 17 \\gset
        \\echo got :name
        SELECT $1::int + 1 \\bind 41 \\g
        SELECT 1/0;
    """
    done = psql(endpoint, "-At", stdin=script.replace("SELECT $1::int + 1 \\bind 41 \\g\n", ""), code=3)
    assert "got name 17" in done and "division by zero" in done


# ------------------------------------------------------------------ pg_dump


@pytest.fixture
def session_mode(cluster: Cluster, start) -> Endpoint:  # noqa: ANN001
    databases = [Database(cluster), Database(cluster, "app2")]
    return start(cluster, databases, [User(), User(database="app2")], pooler_mode="session", default_pool_size=4)


def dump_program(name: str, cluster: Cluster) -> Path:
    """pg_dump of the servers' version, or of the system's if that is not older: it refuses newer servers."""
    own = binary_directory() / name
    if own.exists():
        return own
    system = shutil.which(name)
    if system is None:
        pytest.skip(f"no {name}")
    version = subprocess.run([system, "--version"], capture_output=True, text=True, check=True).stdout
    newest = int(re.search(r"(\d+)", version)[1])  # type: ignore[index]
    server = int(cluster.sql("SHOW server_version_num")[0][0]) // 10000
    if newest < server:
        pytest.skip(f"the system's {name} is of version {newest}, the server of {server}")
    return Path(system)


def program(endpoint: Endpoint, program: Path, *arguments: str, database: str) -> bytes:
    done = subprocess.run(
        [program, *arguments],
        env=endpoint.environment(database=database),
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("how", ["plain", "custom", "inserts"])
def test_dump_and_restore(how: str, session_mode: Endpoint, cluster: Cluster, tmp_path: Path) -> None:
    pg_dump, pg_restore = dump_program("pg_dump", cluster), dump_program("pg_restore", cluster)
    direct = Endpoint(LOOPBACK, cluster.port)
    psql(direct, "-q", "-c", "DROP SCHEMA IF EXISTS public CASCADE", database="app2")
    if how == "custom":
        dump = tmp_path / "dump"
        program(session_mode, pg_dump, "-Fc", "-n", "public", "-f", str(dump), database="app")
        program(session_mode, pg_restore, "-d", "app2", "-j", "2", str(dump), database="app2")
    else:
        options = ["--rows-per-insert=100"] if how == "inserts" else []
        dump = program(session_mode, pg_dump, "-n", "public", *options, database="app")
        psql(session_mode, "-q", stdin=dump.decode(), database="app2")

    def content(name: str) -> bytes:
        dump = program(direct, pg_dump, "-n", "public", database=name)
        return b"\n".join(line for line in dump.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict")))

    assert content("app2") == content("app")
    assert content("app").count(b"\n") > 10000


def test_session_mode_keeps_session_state(session_mode: Endpoint) -> None:
    said = psql(
        session_mode,
        "-At",
        stdin="""
        CREATE TEMP TABLE t AS SELECT 5 AS n; SET work_mem TO '777kB'; PREPARE p AS SELECT n + 1 FROM t;
        LISTEN here; SELECT pg_advisory_lock(1);
        BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 8; COMMIT;
        EXECUTE p; FETCH c; SHOW work_mem; NOTIFY here;
        """,
    )
    assert "6\n8\n777kB" in said and 'notification "here"' in said
    # The next client finds none of it.
    said = psql(session_mode, "-At", "-c", "SHOW work_mem", "-c", "SELECT count(*) FROM pg_cursors, pg_prepared_statements")
    assert "777kB" not in said and said.strip().endswith("0")
    assert psql(session_mode, "-Atc", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").strip() == "0"
