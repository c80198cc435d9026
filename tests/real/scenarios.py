"""Scenarios: one client's conversation, recorded directly and through the target, compared message by message."""

from __future__ import annotations

from collections.abc import Callable

from pgwire.client import Wire

Scenario = Callable[[Wire], None]


def record(connect: Callable[[], Wire], run: Scenario) -> list[tuple]:
    """All messages that a fresh connection gets in a scenario, decoded."""
    wire = connect()
    try:
        run(wire)
        if not wire.ended:
            assert wire.quiet(0.02), f"more than was asked for: {wire.receive()}"
    except OSError as error:
        raise AssertionError(f"{error!r}; so far: {short([m.decoded() for m in wire.transcript[-8:]])}") from error
    finally:
        wire.close()
    return [message.decoded() for message in wire.transcript]


def short(messages: list[tuple]) -> str:
    return "\n".join("  " + text[:200] + ("…" if len(text) > 200 else "") for text in map(repr, messages))


def assert_same(direct: list[tuple], found: list[tuple]) -> None:
    for at, (wanted, got) in enumerate(zip(direct, found)):
        if wanted != got:
            raise AssertionError(
                f"message {at} differs\nbefore:\n{short(direct[max(0, at - 4):at])}\ndirectly:\n{short([wanted])}\nhere:\n{short([got])}"
            )
    assert len(direct) == len(found), f"{len(found)} messages instead of {len(direct)}"
