"""LISTEN without a server of one's own: `pub_sub_channel_size`."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import LOOPBACK, wait_until
from pgwire import build as b
from pgwire.client import ServerError, Wire
from pgwire.decode import Message, strings
from postgres import Cluster, create_application
from scenarios import assert_same, record
from target import Pgdog, User

pytestmark = pytest.mark.pgdog

LISTENER = "pgdog listener"


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of its own: nobody else notifies."""
    made = Cluster("listen")
    create_application(made)
    yield made
    made.stop()


def told(message: Message) -> tuple[str, str]:
    """Channel and payload."""
    channel, payload = strings(message.body[4:])
    return channel, payload


def next_of(wire: Wire, number: int = 1) -> list[tuple[str, str]]:
    found = []
    while len(found) < number:
        found += [told(message) for message in wire.until("A") if message.kind == "A"]
    return found


def directly(server: Cluster) -> Wire:
    return Wire.connect((LOOPBACK, server.port), "app", "app", "secret")


def locked(pgdog: Pgdog) -> int:
    return sum(row["locked"] == "t" for row in pgdog.show("CLIENTS"))


def listening(server: Cluster) -> int:
    return int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{LISTENER}'")[0][0])


def one_server(start: Callable[..., Pgdog], server: Cluster, **general: object) -> Pgdog:
    return start(server, **{"default_pool_size": 1, "pub_sub_channel_size": 1000, **general})


def test_many_listen_over_one_connection(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server)
    listeners = [pgdog.connect() for _ in range(20)]
    for number, wire in enumerate(listeners):
        wire.rows(f'LISTEN shared; LISTEN "own {number}"')
    assert locked(pgdog) == 0 and listening(server) == 1
    with pgdog.connect() as other:
        other.rows("NOTIFY shared, 'it''s \\ \u00e4'")
        other.rows("SELECT pg_notify('own 7', '')")
        assert other.rows("SELECT * FROM pg_listening_channels()") == []
    for number, wire in enumerate(listeners):
        expected = [("shared", "it's \\ \u00e4")] + [("own 7", "")] * (number == 7)
        assert next_of(wire, len(expected)) == expected
    (row,) = [row for row in pgdog.show("LISTENERS") if row["channel"] == "shared"]
    assert (row["database"], row["listeners"], row["received"], row["dropped"]) == ("app", "20", "1", "0")
    assert any(row["state"] == "listening" for row in pgdog.show("SERVERS"))
    for wire in listeners[1:]:
        wire.close()
    listeners[0].rows("UNLISTEN *")
    wait_until(lambda: pgdog.show("LISTENERS") == [], 10, "nobody listens any more")
    listeners[0].close()
    wait_until(lambda: listening(server) == 0, 10, "the connection has gone")
    with pgdog.connect() as again:
        again.rows("LISTEN again")
        assert listening(server) == 1


SCRIPTS: dict[str, list[str]] = {
    "own": ["LISTEN a", "NOTIFY a", "NOTIFY a, 'x'", "NOTIFY b", "UNLISTEN a", "NOTIFY a"],
    "in one transaction": ["BEGIN; LISTEN a; NOTIFY a, '1'; COMMIT", "NOTIFY a, '2'"],
    "step by step": ["BEGIN", "LISTEN a", "NOTIFY a, '1'", "SELECT 1", "COMMIT", "BEGIN", "NOTIFY a, '2'", "NOTIFY a, '2'", "ROLLBACK", "NOTIFY a, '3'"],
    "rolled back": ["LISTEN a", "BEGIN", "UNLISTEN a", "LISTEN b", "ROLLBACK", "NOTIFY b", "NOTIFY a"],
    "savepoints": ["LISTEN a", "BEGIN", "SAVEPOINT s", "UNLISTEN *", "LISTEN c", "ROLLBACK TO s", "LISTEN b", "COMMIT", "NOTIFY a", "NOTIFY b", "NOTIFY c"],
    "failed": ["LISTEN a", "BEGIN", "LISTEN b", "SELECT 1/0", "COMMIT", "NOTIFY b", "NOTIFY a"],
    "channels": ["LISTEN a", 'LISTEN "B c"', "SELECT * FROM pg_listening_channels() ORDER BY 1", "UNLISTEN a", "SELECT * FROM pg_listening_channels()"],
    "all": ["LISTEN a", "LISTEN b", "UNLISTEN *", "NOTIFY a", "SELECT count(*) FROM pg_listening_channels()"],
    "discard": ["LISTEN a", "DISCARD ALL", "NOTIFY a", "SELECT count(*) FROM pg_listening_channels()"],
    "code": ["LISTEN a", "DO $$ BEGIN EXECUTE 'LISTEN b'; END $$", "NOTIFY a", "NOTIFY b", "DO $$ BEGIN EXECUTE 'UNLISTEN a'; END $$", "NOTIFY a", "NOTIFY b"],
    "payloads": ["LISTEN a", "NOTIFY a, 'it''s'", "SELECT pg_notify('a', repeat('\u00e4', 3999))", "SELECT pg_notify('a', repeat('x', 8000))", "SELECT pg_notify('', '')"],
    "settings": ["LISTEN a", "SET client_encoding = 'LATIN1'", "SELECT pg_notify('a', 'x')", "RESET client_encoding", "SELECT pg_notify('a', chr(228))"],
    "latin": ["SET client_encoding = 'LATIN1'", "LISTEN a", "SELECT pg_notify('a', chr(228))"],
    "twice": ["LISTEN a", "LISTEN a", "BEGIN; LISTEN a; LISTEN a; COMMIT", "NOTIFY a", "UNLISTEN a", "NOTIFY a"],
    "nothing": ["UNLISTEN a", "UNLISTEN *", "NOTIFY a"],
    "cursor": ["LISTEN a", "BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3)", "COMMIT", "NOTIFY a", "FETCH c", "CLOSE c", "NOTIFY a"],
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_as_on_a_connection_of_its_own(name: str, protocol: str, server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server)

    def run(wire: Wire) -> None:
        for sql in SCRIPTS[name]:
            if protocol == "simple" or ";" in sql:
                wire.ask(sql)
            else:
                wire.send(b.parse(sql), b.bind(), b.describe_portal(), b.execute(), b.sync())
                wire.until("Z")
        # What is told late comes before this answer, or behind it.
        wire.ask("SELECT 'end'")

    direct = record(lambda: directly(server), run)
    for _ in range(3):
        assert_same(direct, record(pgdog.connect, run))


def test_pipelines_keep_their_server(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server, default_pool_size=2)

    def run(wire: Wire) -> None:
        batches = [b.parse(sql) + b.bind() + b.execute() + b.sync() for sql in ("LISTEN a", "NOTIFY a, '1'", "SELECT 2")]
        wire.send(*batches)
        for _ in batches:
            wire.until("Z")
        wire.ask("NOTIFY a, '2'")
        wire.ask("UNLISTEN a")
        wire.ask("NOTIFY a, '3'")

    direct = record(lambda: directly(server), run)
    assert_same(direct, record(pgdog.connect, run))
    with pgdog.connect() as wire:
        wire.send(*(b.parse(sql) + b.bind() + b.execute() + b.sync() for sql in ("LISTEN a", "SELECT 1")))
        wire.until("Z")
        wire.until("Z")
        wait_until(lambda: locked(pgdog) == 1, 10, "it listens on its server")
        with pgdog.connect() as other:
            other.rows("NOTIFY a, 'x'")
        assert next_of(wire) == [("a", "x")]


def test_nobody_hears_what_another_listens_to(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server)
    with pgdog.connect() as one, pgdog.connect() as two:
        for _ in range(20):
            one.rows("LISTEN a")
            two.rows("LISTEN b")
            assert two.rows("SELECT * FROM pg_listening_channels()") == [("b",)]
            two.rows("NOTIFY a, 'for one'")
            assert next_of(one) == [("a", "for one")]
            assert two.quiet(0.01)
            one.rows("UNLISTEN *")
            two.rows("NOTIFY a")
            assert one.quiet(0.01)


def test_each_hears_each_once_and_in_order(server: Cluster, start) -> None:  # noqa: ANN001
    """Listeners that also work, change what they listen to and notify; everything that the constant channel says arrives once."""
    pgdog = one_server(start, server, default_pool_size=3, workers=2)
    rounds, over = 150, threading.Event()
    lasts = {("constant", f"last {seed}") for seed in range(4)}

    def heard_by(wire: Wire) -> list[tuple[str, str]]:
        return [told(message) for message in wire.transcript if message.kind == "A"]

    def listener(seed: int) -> list[tuple[str, str]]:
        rng = random.Random(seed)
        with pgdog.connect() as wire:
            wire.rows("LISTEN constant")
            ready.release()
            own = 0
            while not over.is_set():
                kind = rng.randrange(6)
                if kind == 0:
                    wire.rows(f"LISTEN other{rng.randrange(3)}")
                elif kind == 1:
                    wire.rows(f"UNLISTEN other{rng.randrange(3)}")
                elif kind == 2:
                    wire.rows(f"NOTIFY constant, 'own {seed} {own}'")
                    own += 1
                elif kind == 3:
                    wire.ask(f"BEGIN; LISTEN other{rng.randrange(3)}; SELECT 1; {rng.choice(['COMMIT', 'ROLLBACK'])}")
                elif kind == 4:
                    assert wire.value(f"SELECT {seed}") == str(seed)
                else:
                    time.sleep(rng.random() / 50)
            counts[seed] = own
            # What has been committed by now arrives.
            everybody.wait()
            wire.rows(f"NOTIFY constant, 'last {seed}'")
            while not lasts <= set(heard_by(wire)):
                wire.receive()
            return heard_by(wire)

    ready, everybody, counts = threading.Semaphore(0), threading.Barrier(4), {}
    with ThreadPoolExecutor(4) as threads:
        listeners = [threads.submit(listener, seed) for seed in range(4)]
        for _ in range(4):
            ready.acquire()
        with pgdog.connect() as wire:
            for number in range(rounds):
                wire.rows(f"NOTIFY constant, 'main {number}'; NOTIFY other{number % 3}, '{number}'")
        over.set()
        heard = [future.result(timeout=60) for future in listeners]
    for mine in heard:
        constant = [payload for channel, payload in mine if channel == "constant"]
        assert max(Counter(constant).values()) == 1, "once"
        assert [payload for payload in constant if payload.startswith("main")] == [f"main {number}" for number in range(rounds)]
        for seed, own in counts.items():
            assert [p for p in constant if p.startswith(f"own {seed} ")] == [f"own {seed} {number}" for number in range(own)]
        for other in range(3):
            told_of = [payload for channel, payload in mine if channel == f"other{other}"]
            assert told_of == sorted(set(told_of), key=int), "once and in order"


def test_who_is_slow_is_told_what_it_missed(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server, pub_sub_channel_size=10)
    with pgdog.connect() as slow, pgdog.connect() as quick, pgdog.connect() as other:
        slow.rows("LISTEN a")
        quick.rows("LISTEN a")
        slow.rows("BEGIN")
        # The only server is its own now: others say what there is to say on theirs.
        with directly(server) as direct:
            for number in range(50):
                direct.rows(f"NOTIFY a, '{number}'")
                assert next_of(quick) == [("a", str(number))]
        slow.clear()
        slow.send(b.query("COMMIT"))
        messages = slow.until("N")
        assert [told(m)[1] for m in messages if m.kind == "A"] == [str(number) for number in range(10)]
        fields = messages[-1].fields()
        assert (fields["V"], fields["C"]) == ("WARNING", "01000") and fields["M"].startswith("40 notifications")
        other.rows("NOTIFY a, 'again'")
        assert next_of(slow) == [("a", "again")]
        (row,) = pgdog.show("LISTENERS")
        assert row["dropped"] == "40"


def test_a_client_that_does_not_read_holds_nobody_up(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server, pub_sub_channel_size=100)
    with pgdog.connect() as stuck, pgdog.connect() as reader, pgdog.connect() as other:
        stuck.rows("LISTEN a")
        reader.rows("LISTEN a")
        for number in range(2000):
            other.rows(f"SELECT pg_notify('a', '{number:07}' || repeat('x', 7000))")
            assert next_of(reader)[0][1].startswith(f"{number:07}")
        found = [message for message in stuck.until("N") if message.kind == "A"]
        numbers = [int(told(message)[1][:7]) for message in found]
        assert numbers == list(range(len(numbers))) and 100 <= len(numbers) < 2000


def test_the_listening_connection_is_lost(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server)
    idle, busy, none = pgdog.connect(), pgdog.connect(), pgdog.connect()
    for wire in (idle, busy):
        wire.rows("LISTEN a")
    busy.rows("BEGIN")
    server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{LISTENER}'")
    (error,) = [message for message in idle.until_closed() if message.kind == "E"]
    assert error.fields()["C"] == "57P01" and error.fields()["V"] == "FATAL"
    # A transaction is not interrupted.
    assert busy.value("SELECT 1") == "1"
    busy.send(b.query("COMMIT"))
    kinds = [message.kind for message in busy.until_closed()]
    assert kinds == ["C", "Z", "E"]
    assert none.value("SELECT 2") == "2"
    with pgdog.connect() as again:
        again.rows("LISTEN a")
        none.rows("NOTIFY a, 'again'")
        assert next_of(again) == [("a", "again")]
    none.close()


def test_no_connection_to_be_had(server: Cluster, start) -> None:  # noqa: ANN001
    server.sql("DROP ROLE IF EXISTS lonely", "CREATE ROLE lonely LOGIN PASSWORD 'lonely' CONNECTION LIMIT 1")


    pgdog = one_server(start, server, users=[User("lonely", "app", "lonely")])
    with pgdog.connect("lonely", "app", "lonely") as wire:
        wire.rows("LISTEN a")
        assert locked(pgdog) == 1, "it keeps its server"
        wire.rows("NOTIFY a, 'x'")
        server.sql("NOTIFY a, 'y'", database="app")
        assert next_of(wire) == [("a", "y")]
        wire.rows("UNLISTEN a")
        assert locked(pgdog) == 0


def test_a_reload_goes_on_listening(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = one_server(start, server)
    with pgdog.connect() as wire, pgdog.connect() as other:
        wire.rows("LISTEN a")
        with pgdog.admin() as admin:
            admin.ask("RELOAD")
        other.rows("NOTIFY a, 'x'")
        assert next_of(wire) == [("a", "x")]


def test_without_it_the_server_is_kept(server: Cluster, start) -> None:  # noqa: ANN001
    pgdog = start(server, default_pool_size=2)
    with pgdog.connect() as wire, pgdog.connect() as other:
        wire.rows("LISTEN a")
        assert locked(pgdog) == 1 and listening(server) == 0 and pgdog.show("LISTENERS") == []
        other.rows("NOTIFY a, 'x'")
        assert next_of(wire) == [("a", "x")]
        with pytest.raises(ServerError):
            other.rows("LISTEN")
