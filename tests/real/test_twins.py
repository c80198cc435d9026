"""Two clients on a pool of one, at random through all kinds of state; each beside a twin on a connection of its own.

Whatever a client is told must be what its twin is told: its own state, never the other's. A turn that pins its client to
the only server lets go of it before it ends.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from pgwire import build as b
from pgwire.client import Wire
from postgres import Cluster
from scenarios import short
from target import Endpoint

SEED = int(os.environ.get("TWINS_SEED", "1"))
ROUNDS = int(os.environ.get("TWINS_ROUNDS", "10000"))

SETTINGS = {
    "work_mem": ["1MB", "2MB", "777kB"],
    "statement_timeout": ["0", "1min", "77s"],
    "search_path": ["public", "pg_catalog, public", '"$user", public', "''"],
    "TimeZone": ["UTC", "Asia/Tokyo", "Europe/Vienna"],
    "DateStyle": ["ISO, DMY", "German", "SQL"],
    "IntervalStyle": ["postgres", "iso_8601"],
    "application_name": ["one", "two", "three's"],
    "extra_float_digits": ["0", "1", "3"],
    "enable_seqscan": ["on", "off"],
    "default_transaction_isolation": ["serializable", "repeatable read"],
    "bytea_output": ["hex", "escape"],
    "lock_timeout": ["5s", "6s"],
    "app.tenant": ["a", "b", "c's \\ d"],
}
PROBE = "SELECT " + ", ".join(f"coalesce(current_setting('{name}', true), '')" for name in SETTINGS) + ", current_user"


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def value_of(name: str, value: str) -> str:
    return value if name == "search_path" else quoted(value)


class Player:
    """One client and its twin. Everything is said to both, and their answers compared."""

    def __init__(self, pooled: Wire, direct: Wire, rng: random.Random) -> None:
        self.pooled, self.direct, self.rng = pooled, direct, rng
        self.names: set[str] = set()
        self.said: list[str] = []

    def say(self, what: str, *parts: bytes, answers: int = 1) -> None:
        self.said.append(what.replace(PROBE, "(probe)"))
        found = []
        for wire in (self.pooled, self.direct):
            wire.clear()
            wire.send(*parts)
            messages = [m for _ in range(answers) for m in wire.until("Z")]
            # A parameter may be told of a little later, or twice on its way.
            found.append([m.decoded() for m in messages if m.kind != "S"])
        if found[0] != found[1]:
            last = "\n  ".join(self.said[-25:])
            raise AssertionError(f"after\n  {last}\nthe client got\n{short(found[0])}\nits twin\n{short(found[1])}")

    def ask(self, sql: str) -> None:
        if self.rng.random() < 0.3 and ";" not in sql:
            self.say("extended: " + sql, b.parse(sql), b.bind(), b.describe_portal(), b.execute(), b.sync())
        else:
            self.say(sql, b.query(sql))

    def pick(self) -> tuple[str, str]:
        name = self.rng.choice(list(SETTINGS))
        return name, value_of(name, self.rng.choice(SETTINGS[name]))

    # -------------------------------------------------------------- turns

    def probe(self) -> None:
        self.ask(PROBE)

    def set(self) -> None:
        name, value = self.pick()
        self.ask(f"SET {self.rng.choice(['', 'SESSION '])}{name} {self.rng.choice(['TO', '='])} {value}")

    def set_config(self) -> None:
        name, _ = self.pick()
        value = self.rng.choice(SETTINGS[name])
        self.ask(f"SELECT set_config({quoted(name)}, {quoted(value)}, {self.rng.choice(['true', 'false'])})")

    def reset(self) -> None:
        name, _ = self.pick()
        self.ask(self.rng.choice([f"RESET {name}", f"SET {name} TO DEFAULT", "RESET ALL"]))

    def transaction(self) -> None:
        self.ask("BEGIN")
        for _ in range(self.rng.randint(1, 5)):
            name, value = self.pick()
            steps = [
                f"SET {name} = {value}",
                f"SET LOCAL {name} = {value}",
                f"RESET {name}",
                "SAVEPOINT s",
                "ROLLBACK TO s",
                "SELECT 1/0",
                PROBE,
                PROBE,
            ]
            self.ask(self.rng.choice(steps))
        self.ask(self.rng.choice(["COMMIT", "ROLLBACK", "COMMIT AND NO CHAIN"]))
        self.probe()

    def several(self) -> None:
        (first, one), (second, two) = self.pick(), self.pick()
        self.ask(f"SET {first} = {one}; SET {second} = {two}")
        self.ask(f"SET {first} = {one}; SELECT 1/0")
        self.probe()

    def pipeline(self) -> None:
        name, value = self.pick()
        statements = [f"SET {name} = {value}", PROBE, "SELECT 1/0", f"RESET {name}", PROBE]
        self.rng.shuffle(statements)
        parts = [b.parse(sql) + b.bind() + b.execute() + b.sync() for sql in statements]
        self.say("pipeline: " + " | ".join(statements), *parts, answers=len(parts))

    def role(self) -> None:
        self.ask(self.rng.choice(["SET ROLE app_reader", "RESET ROLE", "SET ROLE NONE"]))
        self.probe()

    def prepared(self) -> None:
        name = self.rng.choice(["p1", "p2", "p3"])
        text = self.rng.choice(["SELECT 1", "SELECT 'two'", PROBE])
        step = self.rng.randint(0, 5)
        if step == 0:
            self.say(f"Parse {name}", b.parse(text, name), b.sync())
        elif step == 1:
            self.say(f"Bind {name}", b.bind((), name), b.execute(), b.sync())
        elif step == 2:
            self.say(f"Close {name}", b.close_statement(name), b.sync())
        elif step == 3:
            self.ask(f"EXECUTE {name}")
        elif step == 4:
            self.ask(f"DEALLOCATE {name}")
        else:
            self.say(f"Describe {name}", b.describe_statement(name), b.sync())

    def temporary(self) -> None:
        self.ask("CREATE TEMP TABLE mine (id int)")
        self.ask("INSERT INTO mine SELECT generate_series(1, 3)")
        self.ask("SELECT count(*) + 0 AS n FROM mine")
        self.ask(self.rng.choice(["DROP TABLE mine", "DISCARD TEMP", "DROP TABLE IF EXISTS mine"]))
        self.ask("SELECT to_regclass('pg_temp.mine')")

    def lock(self) -> None:
        self.ask("SELECT pg_try_advisory_lock(77)")
        self.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        self.ask(self.rng.choice(["SELECT pg_advisory_unlock(77)", "SELECT pg_advisory_unlock_all()"]))

    def cursor(self) -> None:
        self.ask("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 4)")
        self.ask("FETCH 2 FROM held")
        self.ask("FETCH 1 FROM held")
        self.ask(self.rng.choice(["CLOSE held", "CLOSE ALL"]))
        self.ask("FETCH 1 FROM held")

    def prepare_in_sql(self) -> None:
        self.ask("PREPARE in_sql (int) AS SELECT $1 + 1")
        self.ask("EXECUTE in_sql(1)")
        self.ask("DEALLOCATE in_sql")
        self.ask("EXECUTE in_sql(2)")

    def sequence(self) -> None:
        asks = ["SELECT lastval()", "SELECT currval('numbers')", "SELECT nextval('numbers')"]
        begins = self.rng.random() < 0.5
        if begins:
            self.ask("BEGIN")
        for _ in range(self.rng.randint(1, 4)):
            self.ask(self.rng.choice(asks))
        if begins:
            self.ask(self.rng.choice(["COMMIT", "ROLLBACK"]))
        # What it took in a transaction is forgotten with its server; its twin has to be told.
        self.ask("DISCARD SEQUENCES")

    def discard(self) -> None:
        self.ask("DISCARD ALL")
        self.probe()


TURNS: list[tuple[int, Callable[[Player], None]]] = [
    (4, Player.probe),
    (6, Player.set),
    (4, Player.set_config),
    (4, Player.reset),
    (3, Player.transaction),
    (1, Player.several),
    (2, Player.pipeline),
    (1, Player.role),
    (5, Player.prepared),
    (1, Player.temporary),
    (1, Player.lock),
    (1, Player.cursor),
    (1, Player.prepare_in_sql),
    (2, Player.sequence),
    (1, Player.discard),
]


@pytest.mark.pooled
@pytest.mark.timeout(900)
def test_twins(cluster: Cluster, start) -> None:  # noqa: ANN001
    rng = random.Random(SEED)
    endpoint = start(cluster, default_pool_size=1, checkout_timeout=5000)
    direct = Endpoint(endpoint.host, cluster.port)
    cluster.sql(
        "DO $$ BEGIN CREATE ROLE app_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT app_reader TO app",
        database="app",
    )
    for database in ("app", "app2"):
        cluster.sql(
            "DROP SEQUENCE IF EXISTS numbers",
            "CREATE SEQUENCE numbers",
            "GRANT ALL ON SEQUENCE numbers TO app",
            database=database,
        )
    startups = [
        {},
        {"options": "-c work_mem=999kB -c app.tenant=started", "TimeZone": "Asia/Tokyo", "application_name": "starter"},
    ]
    players = [Player(endpoint.connect(timeout=30, **given), direct.connect(database="app2", timeout=30, **given), rng) for given in startups]
    # The first who asks makes it known that clients ask.
    players[0].ask("SELECT lastval()")
    players[0].ask("DISCARD SEQUENCES")
    turns = [turn for weight, turn in TURNS for _ in range(weight)]
    for at in range(ROUNDS):
        player = rng.choice(players)
        turn = rng.choice(turns)
        try:
            turn(player)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"round {at} of seed {SEED} ({turn.__name__} by client {players.index(player)}): {error}") from error
