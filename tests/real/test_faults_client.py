"""Clients that vanish, lie or babble, at every stage. Afterwards the pool is whole, and others noticed nothing."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable

import pytest
from checks import assert_pool_is_whole, backends
from harness import wait_until
from noise import Noise
from pgwire import build as b
from pgwire.client import ServerError, Wire
from postgres import Cluster
from target import Endpoint

POOL = 3
WRONG_PASSWORD = "28P01"


@pytest.fixture(autouse=True)
def victims(cluster: Cluster) -> None:
    """A table that must be empty at the end of each test: nothing that vanished may have been committed."""
    cluster.sql("CREATE TABLE IF NOT EXISTS victims (id int, filler text)", "ALTER TABLE victims OWNER TO app", database="app")
    cluster.sql("TRUNCATE victims", database="app")


# ------------------------------------------------------------------ vanishing

Stage = Callable[[Wire], None]
BIG = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)"


def idle(wire: Wire) -> None:
    wire.ask("SELECT 1")


def in_transaction(wire: Wire) -> None:
    wire.ask("BEGIN")
    wire.ask("INSERT INTO victims VALUES (1, '')")


def in_failed_transaction(wire: Wire) -> None:
    wire.ask("BEGIN")
    wire.ask("SELECT 1/0")


def running(wire: Wire) -> None:
    wire.send(b.query("SELECT pg_sleep(0.5)"))
    time.sleep(0.1)


def in_mid_result(wire: Wire) -> None:
    wire.send(b.query(BIG))
    wire.until("D")


def in_mid_result_in_transaction(wire: Wire) -> None:
    wire.ask("BEGIN")
    in_mid_result(wire)


def in_mid_copy_in(wire: Wire) -> None:
    wire.send(b.query("COPY victims FROM STDIN"))
    wire.until("G")
    wire.send(b.copy_data(b"1\tx\n"))


def in_mid_copy_message(wire: Wire) -> None:
    wire.send(b.query("COPY victims FROM STDIN"))
    wire.until("G")
    wire.send(b.copy_data(b"1\tx\n" * 1000)[:2000])


def in_mid_extended_copy_in(wire: Wire) -> None:
    wire.send(b.parse("COPY victims FROM STDIN"), b.bind(), b.execute(), b.flush())
    wire.until("G")
    wire.send(b.copy_data(b"1\tx\n"))


def in_mid_copy_out(wire: Wire) -> None:
    wire.send(b.query(f"COPY ({BIG}) TO STDOUT"))
    wire.until("d")


def batch_without_sync(wire: Wire) -> None:
    wire.send(b.parse("INSERT INTO victims VALUES (1, '')"), b.bind(), b.execute(), b.flush())
    wire.until("C")


def parse_without_flush(wire: Wire) -> None:
    wire.send(b.parse("SELECT 1"), b.bind())


def half_a_query(wire: Wire) -> None:
    wire.send(b.query("SELECT 1")[:7])


def half_a_query_in_transaction(wire: Wire) -> None:
    wire.ask("BEGIN")
    wire.send(b.query("SELECT '" + "x" * 100000 + "'")[:50000])


def suspended_portal(wire: Wire) -> None:
    wire.ask("BEGIN")
    wire.send(b.parse("SELECT generate_series(1, 10)"), b.bind(), b.execute("", 2), b.sync())
    wire.until("Z")


def many_in_flight(wire: Wire) -> None:
    wire.send(*(b.query("SELECT pg_sleep(0.001)") for _ in range(200)))


def waiting(wire: Wire) -> None:
    wire.send(b.query("SELECT 1"))


STAGES: list[Stage] = [
    idle,
    in_transaction,
    in_failed_transaction,
    running,
    in_mid_result,
    in_mid_result_in_transaction,
    in_mid_copy_in,
    in_mid_copy_message,
    in_mid_extended_copy_in,
    in_mid_copy_out,
    batch_without_sync,
    parse_without_flush,
    half_a_query,
    half_a_query_in_transaction,
    suspended_portal,
    many_in_flight,
]


def vanish_by_fin(wire: Wire) -> None:
    wire.socket.close()


def vanish_by_reset(wire: Wire) -> None:
    wire.reset()


def vanish_by_terminate(wire: Wire) -> None:
    wire.send(b.terminate())
    wire.socket.close()


def vanish_by_half_close(wire: Wire) -> None:
    wire.half_close()
    wire.until_closed()
    wire.socket.close()


WAYS = [vanish_by_fin, vanish_by_reset, vanish_by_terminate, vanish_by_half_close]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[10:])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_a_client_vanishes(stage: Stage, way: Callable[[Wire], None], endpoint: Endpoint, cluster: Cluster) -> None:
    for _ in range(POOL + 1):
        wire = endpoint.connect()
        stage(wire)
        way(wire)
    assert_pool_is_whole(endpoint, cluster, POOL)
    assert cluster.sql("SELECT count(*) FROM victims", database="app") == [("0",)]


@pytest.mark.pooled
@pytest.mark.parametrize("way", [vanish_by_fin, vanish_by_reset, vanish_by_half_close], ids=lambda way: way.__name__[10:])
def test_waiting_clients_vanish(way: Callable[[Wire], None], endpoint: Endpoint, cluster: Cluster) -> None:
    holders = [endpoint.connect() for _ in range(POOL)]
    for holder in holders:
        holder.ask("BEGIN")
    crowd = [endpoint.connect() for _ in range(5)]
    for wire in crowd:
        waiting(wire)
    survivor = endpoint.connect()
    survivor.send(b.query("SELECT 'survivor'"))
    time.sleep(0.1)
    for wire in crowd:
        if way is vanish_by_half_close:
            wire.half_close()  # its query is still due; the holders release it below
        else:
            way(wire)
    for holder in holders:
        holder.ask("COMMIT")
        holder.close()
    assert [m.row() for m in survivor.until("Z") if m.kind == "D"] == [("survivor",)]
    survivor.close()
    for wire in crowd:
        wire.socket.close()
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_data_and_fin_in_one_segment(endpoint: Endpoint, cluster: Cluster) -> None:
    """A query, Terminate and FIN arrive together: the statement is carried out, as PostgreSQL does."""
    with endpoint.connect() as watcher:
        watcher.ask("CREATE TABLE IF NOT EXISTS last_words (n int)")
        watcher.ask("TRUNCATE last_words")
        for n in range(50):
            wire = endpoint.connect()
            wire.send(b.query(f"INSERT INTO last_words VALUES ({n})"), b.terminate())
            wire.half_close()
            wire.until_closed()
            wire.socket.close()
        wait_until(lambda: watcher.value("SELECT count(*) FROM last_words") == "50", 5, "all fifty statements are carried out")
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_a_half_closed_client_still_gets_its_answers(endpoint: Endpoint, cluster: Cluster) -> None:
    """PostgreSQL answers what arrived before the FIN."""
    for _ in range(20):
        wire = endpoint.connect()
        wire.send(b.query("SELECT 'first'"), b.query("SELECT 'second'"))
        wire.half_close()
        rows = [message.row() for message in wire.until_closed() if message.kind == "D"]
        assert rows == [("first",), ("second",)]
        wire.socket.close()
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_crowds_come_and_vanish_at_random(endpoint: Endpoint, cluster: Cluster) -> None:
    rng = random.Random(7)
    with Noise(endpoint.host, endpoint.port, sessions=2):
        for _ in range(60):
            wire = endpoint.connect()
            stage = rng.choice([stage for stage in STAGES if stage is not running])
            # Beside the noise a stage may have to wait for a server; that is part of it.
            stage(wire)
            rng.choice(WAYS)(wire)
    assert_pool_is_whole(endpoint, cluster, POOL)


# ------------------------------------------------------------------ who are you?


def failure(endpoint: Endpoint, user: str, database: str, password: str) -> ServerError:
    with pytest.raises(ServerError) as caught:
        endpoint.connect(user, database, password).close()
    return caught.value


def test_wrong_password(endpoint: Endpoint, cluster: Cluster) -> None:
    for password in ("wrong", "", "secret ", "x" * 2000):
        if endpoint.is_direct and not password:
            continue
        error = failure(endpoint, "app", "app", password)
        assert (error.severity, error.sqlstate) == ("FATAL", WRONG_PASSWORD)
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_unknown_users_look_like_wrong_passwords(endpoint: Endpoint) -> None:
    """Nothing tells whether a user exists: the same requests, SQLSTATE and text apart from the name."""

    def conversation(user: str) -> list[tuple]:
        wire = Wire.dial(endpoint.address)
        wire.send(b.startup({"user": user, "database": "app"}))
        with pytest.raises(ServerError) as caught:
            wire.log_in(user, "wrong")
        wire.socket.close()
        kinds = [(m.kind, m.body[:4]) for m in wire.transcript]
        error = caught.value
        return [kinds, error.severity, error.sqlstate, error.fields["M"].replace(user, "USER")]

    assert conversation("app") == conversation("no_such_user")


def test_unknown_database(endpoint: Endpoint) -> None:
    error = failure(endpoint, "app", "no_such_database", "secret")
    assert error.severity == "FATAL"
    assert error.sqlstate in ("3D000", WRONG_PASSWORD)


@pytest.mark.pgdog
@pytest.mark.parametrize("auth_type", ["scram", "md5", "plain", "trust"])
@pytest.mark.parametrize("user", ["app", "app_md5", "app_plain", "app_trust"])
def test_every_authentication_on_both_sides(auth_type: str, user: str, cluster: Cluster, start) -> None:  # noqa: ANN001
    """The client's method is the proxy's `auth_type`; the server's is that of the role."""
    from target import User

    password = "" if user == "app_trust" else "secret"
    if not password and auth_type != "trust":
        pytest.skip("without a password only trust lets a client in")
    made = start(cluster, users=[User(user, password=password)], auth_type=auth_type)
    with made.connect(user) as wire:
        assert wire.value("SELECT current_user") == user
    if auth_type != "trust":
        assert failure(made, user, "app", "wrong").sqlstate == WRONG_PASSWORD


# ------------------------------------------------------------------ garbage


def header(kind: bytes, length: int) -> bytes:
    return kind + struct.pack("!i", length)


GARBAGE_BEFORE_LOGIN = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030100a5010000a10303") + bytes(155),
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "length_0": struct.pack("!II", 0, 196608),
    "length_7": struct.pack("!I", 7) + b"\0\0\0",
    "length_huge": struct.pack("!II", 0x7FFFFFFF, 196608),
    "length_negative": struct.pack("!iI", -5, 196608),
    "protocol_2": struct.pack("!II", 8, 2 << 16),
    "protocol_4": b.startup({"user": "app"}, protocol=4 << 16),
    "no_user": b.startup({"database": "app"}),
    "no_end": struct.pack("!II", 16, 196608) + b"user\0app",
    "half_a_startup": b.startup({"user": "app", "database": "app"})[:10],
    "startup_then_garbage": b.startup({"user": "app", "database": "app"}) + b"\xff" * 50,
    "query_before_login": b.startup({"user": "app", "database": "app"}) + b.query("SELECT 1"),
    "ssl_twice_gss_twice": b.ssl_request() * 2 + b.gss_request() * 2,
    "cancel_short": struct.pack("!II", 8, b.CANCEL_CODE),
    "empty_password": b.startup({"user": "app", "database": "app"}) + b.message(b"p"),
    "long_password": b.startup({"user": "app", "database": "app"}) + header(b"p", 0x7FFFFFF0),
    "bad_mechanism": b.startup({"user": "app", "database": "app"}) + b.sasl_initial("PLAIN", b"x"),
    "bad_sasl": b.startup({"user": "app", "database": "app"}) + b.sasl_initial("SCRAM-SHA-256", b"\xff\xfe,,,==="),
    "sasl_length": b.startup({"user": "app", "database": "app"}) + b.message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", 1 << 30)),
}

GARBAGE_AFTER_LOGIN = {
    "unknown_type": b.message(b"!", b"abc"),
    "length_0": header(b"Q", 0),
    "length_3": header(b"Q", 3),
    "length_negative": header(b"Q", -1),
    "length_over_1gb": header(b"Q", 0x7FFFFFFF),
    "query_without_end": b.message(b"Q", b"SELECT 1"),
    "query_with_two_ends": b.message(b"Q", b"SELECT 1\0\0"),
    "parse_short": b.message(b"P", b"\0SELECT 1"),
    "parse_types_missing": b.message(b"P", b"\0SELECT 1\0" + struct.pack("!H", 9)),
    "bind_short": b.message(b"B", b"\0\0"),
    "bind_value_missing": b.message(b"B", b"\0\0" + struct.pack("!HHi", 0, 1, 100)),
    "bind_negative_length": b.message(b"B", b"\0\0" + struct.pack("!HHiH", 0, 1, -2, 0)),
    "describe_what": b.message(b"D", b"X\0"),
    "close_what": b.message(b"C", b"X\0"),
    "execute_short": b.message(b"E", b"\0"),
    "password_again": b.password("secret"),
    "startup_again": b.startup({"user": "app", "database": "app"}),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "function_short": b.message(b"F", b"\0"),
    "sync_with_body": b.message(b"S", b"abc"),
}


@pytest.mark.parametrize("data", GARBAGE_BEFORE_LOGIN.values(), ids=GARBAGE_BEFORE_LOGIN.keys())
def test_garbage_before_login(data: bytes, endpoint: Endpoint, cluster: Cluster) -> None:
    """Closed, with or without an error; nothing but an ErrorResponse that PostgreSQL would understand."""
    for _ in range(3):
        wire = Wire.dial(endpoint.address, timeout=5)
        wire.send(data)
        wire.half_close()
        raw = drain(wire)
        assert b"ReadyForQuery" not in raw
        assert len(raw) < 2000
    with endpoint.connect() as wire:
        assert wire.value("SELECT 1") == "1"
    if data:
        assert_pool_is_whole(endpoint, cluster, POOL)


def drain(wire: Wire) -> bytes:
    raw = b""
    try:
        while True:
            data = wire.socket.recv(65536)
            if not data:
                return raw
            raw += data
    except ConnectionResetError:
        return raw
    finally:
        wire.socket.close()


@pytest.mark.parametrize("in_a_transaction", [False, True], ids=["idle", "in_transaction"])
@pytest.mark.parametrize("data", GARBAGE_AFTER_LOGIN.values(), ids=GARBAGE_AFTER_LOGIN.keys())
def test_garbage_after_login(data: bytes, in_a_transaction: bool, endpoint: Endpoint, cluster: Cluster) -> None:
    for _ in range(POOL + 1):
        wire = endpoint.connect(timeout=8)
        if in_a_transaction:
            wire.ask("BEGIN")
        wire.clear()
        wire.send(data)
        wire.half_close()
        messages = wire.until_closed()
        assert all(m.kind in "ENZSCTD1" for m in messages), messages
        wire.socket.close()
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_random_bytes_after_login(endpoint: Endpoint, cluster: Cluster) -> None:
    rng = random.Random(11)
    for _ in range(60):
        wire = endpoint.connect(timeout=8)
        wire.send(rng.randbytes(rng.randrange(1, 3000)))
        wire.half_close()
        drain(wire)
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_damaged_conversations(endpoint: Endpoint, cluster: Cluster) -> None:
    """A valid conversation with one byte changed or cut off somewhere."""
    rng = random.Random(13)
    valid = b.parse("SELECT $1::int", "d") + b.describe_statement("d") + b.bind(("1",), "d") + b.execute() + b.sync() + b.query("SELECT 1")
    for _ in range(120):
        data = bytearray(valid)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] = rng.randrange(256)
        wire = endpoint.connect(timeout=8)
        wire.send(bytes(data))
        wire.half_close()
        drain(wire)
    assert_pool_is_whole(endpoint, cluster, POOL)


def test_half_open_connections_disturb_nobody(endpoint: Endpoint, cluster: Cluster) -> None:
    """Hundreds that never say a word, or half of one: others are served meanwhile."""
    silent = [Wire.dial(endpoint.address) for _ in range(150)]
    startup = b.startup({"user": "app", "database": "app"})
    for number, wire in enumerate(silent):
        wire.send(startup[: number % (len(startup) + 1)])
    if not endpoint.is_direct:
        assert_pool_is_whole(endpoint, cluster, POOL)
    for wire in silent:
        wire.reset()
    assert_pool_is_whole(endpoint, cluster, POOL)


@pytest.mark.pgdog
def test_the_login_timeout_ends_silent_connections(cluster: Cluster, start) -> None:  # noqa: ANN001
    made = start(cluster, client_login_timeout=500)
    startup = b.startup({"user": "app", "database": "app"})
    wires = []
    for part in (b"", startup[:9], startup):
        wire = Wire.dial(made.address, timeout=5)
        wire.send(part)
        wires.append(wire)
    began = time.monotonic()
    for wire in wires:
        drain(wire)
    assert 0.2 < time.monotonic() - began < 4


def test_nothing_is_left_behind(endpoint: Endpoint, cluster: Cluster) -> None:
    if not endpoint.is_direct:
        assert backends(cluster, "usename = 'app'") <= POOL
