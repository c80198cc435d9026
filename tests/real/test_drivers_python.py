"""psycopg 3 and asyncpg, each with its own way to prepare statements, beside noise that uses the same names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import asyncpg
import psycopg
import pytest
from checks import backends
from harness import wait_until
from postgres import Cluster
from psycopg import pq
from target import Endpoint

pytestmark = pytest.mark.usefixtures("noise")


@pytest.fixture
def connection(endpoint: Endpoint):  # noqa: ANN201
    with psycopg.connect(endpoint.url(), autocommit=True, connect_timeout=20) as made:
        yield made


# ------------------------------------------------------------------ psycopg 3


def test_psycopg_prepares_by_itself(connection: psycopg.Connection, endpoint: Endpoint) -> None:
    """The default: prepared at the fifth use (prepare_threshold), then used on whichever server comes."""
    assert connection.prepare_threshold == 5
    pids = set()
    for n in range(200):
        row = connection.execute("SELECT %s::int * 2, pg_backend_pid()", (n,)).fetchone()
        assert row is not None and row[0] == n * 2
        pids.add(row[1])
    assert len(connection._prepared._names) > 0, "nothing was prepared: this test tests nothing"
    assert endpoint.is_direct or len(pids) > 1, "the servers did not change: this test tests nothing"


def test_psycopg_many_prepared_statements(connection: psycopg.Connection) -> None:
    """More than its cache holds: it closes old ones on whatever server it has."""
    connection.prepared_max = 10
    for n in range(300):
        number = n % 40
        row = connection.execute(f"SELECT {number} + %s::int", (n,), prepare=True).fetchone()
        assert row == (number + n,)


def test_psycopg_prepared_in_transactions(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS psy (id int PRIMARY KEY, v text)")
    connection.execute("TRUNCATE psy")
    for n in range(40):
        with connection.transaction():
            connection.execute("INSERT INTO psy VALUES (%s, %s)", (n, f"v{n}"))
            connection.execute("UPDATE psy SET v = v || %s WHERE id = %s", ("!", n))
            with pytest.raises(psycopg.errors.UniqueViolation):
                with connection.transaction():
                    connection.execute("INSERT INTO psy VALUES (%s, %s)", (n, "twice"))
        with pytest.raises(ZeroDivisionError):
            with connection.transaction():
                connection.execute("DELETE FROM psy")
                raise ZeroDivisionError
    assert connection.execute("SELECT count(*), min(v) FROM psy").fetchone() == (40, "v0!")


def test_psycopg_errors_do_not_confuse_its_cache(connection: psycopg.Connection) -> None:
    for n in range(60):
        if n % 3 == 0:
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1 / %s::int", (0,), prepare=True)
        assert connection.execute("SELECT 6 / %s::int", (3,), prepare=True).fetchone() == (2,)


def test_psycopg_a_statement_changes_under_its_name(connection: psycopg.Connection) -> None:
    """DDL between uses: the answer of PostgreSQL, whatever server prepared the statement."""
    connection.execute("DROP TABLE IF EXISTS ddl")
    connection.execute("CREATE TABLE ddl (a int)")
    connection.execute("INSERT INTO ddl VALUES (1)")
    for _ in range(8):
        assert connection.execute("SELECT a FROM ddl").fetchone() == (1,)
    connection.execute("ALTER TABLE ddl ADD b int DEFAULT 2")
    for _ in range(8):
        assert connection.execute("SELECT a FROM ddl").fetchone() == (1,)
        assert connection.execute("SELECT a, b FROM ddl").fetchone() == (1, 2)


def test_psycopg_pipeline(connection: psycopg.Connection) -> None:
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int, repeat('x', %s)", (n, n)) for n in range(300)]
        pipeline.sync()
        for n, cursor in enumerate(cursors):
            assert cursor.fetchone() == (n, "x" * n)
    for _ in range(20):
        with pytest.raises(psycopg.errors.DivisionByZero):
            with connection.pipeline():
                first = connection.execute("SELECT 1")
                connection.execute("SELECT 1 / %s::int", (0,))
                connection.execute("SELECT 3")
        assert first.fetchone() == (1,)
        assert connection.execute("SELECT 2").fetchone() == (2,)
    with connection.pipeline() as pipeline:
        for n in range(20):
            with connection.transaction():
                cursor = connection.execute("SELECT %s::int", (n,))
            pipeline.sync()
            assert cursor.fetchone() == (n,)


def test_psycopg_executemany_and_copy(connection: psycopg.Connection) -> None:
    connection.execute("DROP TABLE IF EXISTS many")
    connection.execute("CREATE TABLE many (a int, b text)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO many VALUES (%s, %s)", [(n, str(n)) for n in range(500)])
        with cursor.copy("COPY many FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(("int4", "text"))
            for n in range(500, 1000):
                copy.write_row((n, str(n)))
        with cursor.copy("COPY (SELECT * FROM many ORDER BY a) TO STDOUT") as copy:
            assert [row[0] for row in copy.rows()] == [str(n) for n in range(1000)]
        with pytest.raises(psycopg.errors.QueryCanceled):
            with cursor.copy("COPY many FROM STDIN") as copy:
                copy.write("1\tx\n")
                raise psycopg.errors.QueryCanceled("changed my mind")
    assert connection.execute("SELECT count(*) FROM many").fetchone() == (1000,)


def test_psycopg_server_side_cursor_and_rows_one_by_one(connection: psycopg.Connection) -> None:
    with connection.transaction(), connection.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 1000)")
        cursor.itersize = 100
        assert sum(row[0] for row in cursor) == 500500
    with connection.cursor() as cursor:
        assert sum(row[0] for row in cursor.stream("SELECT generate_series(1, %s)", (1000,))) == 500500


def test_psycopg_settings_follow_it(connection: psycopg.Connection) -> None:
    connection.execute("SET TimeZone TO 'America/New_York'")
    connection.execute("SET application_name TO 'psycopg here'")
    for _ in range(50):
        found = connection.execute("SELECT current_setting('TimeZone'), current_setting('application_name')").fetchone()
        assert found == ("America/New_York", "psycopg here")
    assert connection.info.parameter_status("application_name") == "psycopg here"


def test_psycopg_cancels(connection: psycopg.Connection, cluster: Cluster) -> None:
    import threading

    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(33)")
    assert time.monotonic() - began < 5
    timer.join()
    assert connection.info.transaction_status == pq.TransactionStatus.IDLE
    assert connection.execute("SELECT 1").fetchone() == (1,)
    wait_until(lambda: backends(cluster, "query LIKE '%pg_sleep(33)%' AND state = 'active'") == 0, 3, "the query has ended")


def test_psycopg_notifications(connection: psycopg.Connection, endpoint: Endpoint) -> None:
    connection.execute("LISTEN psycopg_news")
    with psycopg.connect(endpoint.url(), autocommit=True, connect_timeout=20) as other:
        other.execute("SELECT pg_notify('psycopg_news', %s)", ["it's one"])
        with other.transaction():
            other.execute("NOTIFY psycopg_news, 'two'")
        connection.execute("NOTIFY psycopg_news, 'own'")
        found = list(connection.notifies(timeout=10, stop_after=3))
        # A client's own may come before those of others.
        (own,) = [one for one in found if one.payload == "own"]
        found.remove(own)
        assert [one.payload for one in found] == ["it's one", "two"]
        assert own.pid == connection.info.backend_pid != found[0].pid
        connection.execute("UNLISTEN *")
        other.execute("NOTIFY psycopg_news, 'late'")
        assert list(connection.notifies(timeout=0.1)) == []


# ------------------------------------------------------------------ asyncpg


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work, 60)

    asyncio.run(bounded())


async def open_asyncpg(endpoint: Endpoint, **options: Any) -> asyncpg.Connection:
    return await asyncpg.connect(endpoint.url().split("?")[0], ssl=False, timeout=20, **options)


def test_asyncpg_statement_cache(endpoint: Endpoint) -> None:
    """Its default: every statement has a name and is kept."""

    async def work() -> None:
        connection = await open_asyncpg(endpoint)
        pids = set()
        for n in range(200):
            row = await connection.fetchrow("SELECT $1::int * 2 AS twice, pg_backend_pid() AS pid", n)
            assert row["twice"] == n * 2
            pids.add(row["pid"])
        assert endpoint.is_direct or len(pids) > 1, "the servers did not change: this test tests nothing"
        await connection.close()

    run(work())


def test_asyncpg_evicts_statements(endpoint: Endpoint) -> None:
    async def work() -> None:
        connection = await open_asyncpg(endpoint, statement_cache_size=5)
        for n in range(200):
            assert await connection.fetchval(f"SELECT {n % 20} + $1::int", n) == n % 20 + n
        statement = await connection.prepare("SELECT $1::text || '!'")
        for n in range(50):
            assert await statement.fetchval(str(n)) == f"{n}!"
            assert await connection.fetchval(f"SELECT {n}") == n
        await connection.close()

    run(work())


def test_asyncpg_types_need_introspection(endpoint: Endpoint) -> None:
    async def work() -> None:
        connection = await open_asyncpg(endpoint)
        await connection.execute("DROP TABLE IF EXISTS ap; DROP TYPE IF EXISTS ap_pair, ap_color")
        await connection.execute("CREATE TYPE ap_color AS ENUM ('red', 'blue'); CREATE TYPE ap_pair AS (a int, c ap_color)")
        await connection.execute("CREATE TABLE ap (id int, c ap_color, pairs ap_pair[])")
        for n in range(30):
            await connection.execute("INSERT INTO ap VALUES ($1, $2, $3)", n, "blue", [(n, "red")])
        row = await connection.fetchrow("SELECT * FROM ap WHERE id = $1", 7)
        assert row["c"] == "blue" and tuple(row["pairs"][0]) == (7, "red")
        await connection.close()

    run(work())


def test_asyncpg_transactions_cursors_copy(endpoint: Endpoint) -> None:
    async def work() -> None:
        connection = await open_asyncpg(endpoint)
        await connection.execute("DROP TABLE IF EXISTS ap2; CREATE TABLE ap2 (id int PRIMARY KEY, v text)")
        await connection.executemany("INSERT INTO ap2 VALUES ($1, $2)", [(n, str(n)) for n in range(500)])
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.executemany("INSERT INTO ap2 VALUES ($1, $2)", [(n, "again") for n in range(600, 400, -1)])
        for _ in range(5):
            async with connection.transaction():
                found = [row["id"] async for row in connection.cursor("SELECT id FROM ap2 ORDER BY id", prefetch=50)]
                assert found == list(range(500))
                with pytest.raises(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        await connection.fetchval("SELECT 1 / $1::int", 0)
                assert await connection.fetchval("SELECT count(*) FROM ap2") == 500
        await connection.copy_records_to_table("ap2", records=[(n, "copied") for n in range(1000, 2000)])
        assert await connection.fetchval("SELECT count(*) FROM ap2") == 1500
        await connection.close()

    run(work())


def test_asyncpg_timeouts_cancel(endpoint: Endpoint) -> None:
    async def work() -> None:
        connection = await open_asyncpg(endpoint)
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetchval("SELECT pg_sleep(20)", timeout=0.1)
            assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    run(work())


def test_asyncpg_notifications(endpoint: Endpoint) -> None:
    async def work() -> None:
        listener, other = await open_asyncpg(endpoint), await open_asyncpg(endpoint)
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        def hear(_: object, pid: int, channel: str, payload: str) -> None:  # noqa: ARG001
            heard.put_nowait((channel, payload))

        await listener.add_listener("asyncpg news", hear)
        for number in range(20):
            await other.execute("SELECT pg_notify('asyncpg news', $1)", str(number))
            assert await asyncio.wait_for(heard.get(), 10) == ("asyncpg news", str(number))
            assert await listener.fetchval("SELECT $1::int", number) == number
        await listener.remove_listener("asyncpg news", hear)
        await other.execute("SELECT pg_notify('asyncpg news', 'late')")
        await listener.close()
        await other.close()
        assert heard.empty()

    run(work())


def test_asyncpg_pool(endpoint: Endpoint) -> None:
    """Its pool sends RESET ALL and the like at each release."""

    async def work() -> None:
        url = endpoint.url().split("?")[0]
        async with asyncpg.create_pool(url, ssl=False, min_size=2, max_size=12, timeout=30) as pool:

            async def one(n: int) -> None:
                for k in range(10):
                    async with pool.acquire() as connection:
                        assert await connection.fetchval("SELECT $1::int + $2::int", n, k) == n + k
                        if k % 3 == 0:
                            async with connection.transaction():
                                await connection.execute("SET LOCAL work_mem TO '123kB'")
                                assert await connection.fetchval("SHOW work_mem") == "123kB"

            await asyncio.gather(*(one(n) for n in range(24)))

    run(work())
