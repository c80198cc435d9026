"""Backend messages as plain tuples that can be compared and printed."""

from __future__ import annotations

import struct
from dataclasses import dataclass

NAMES = {
    "R": "Authentication",
    "K": "BackendKeyData",
    "S": "ParameterStatus",
    "Z": "ReadyForQuery",
    "T": "RowDescription",
    "t": "ParameterDescription",
    "n": "NoData",
    "D": "DataRow",
    "C": "CommandComplete",
    "I": "EmptyQueryResponse",
    "E": "ErrorResponse",
    "N": "NoticeResponse",
    "A": "NotificationResponse",
    "1": "ParseComplete",
    "2": "BindComplete",
    "3": "CloseComplete",
    "s": "PortalSuspended",
    "G": "CopyInResponse",
    "H": "CopyOutResponse",
    "W": "CopyBothResponse",
    "d": "CopyData",
    "c": "CopyDone",
    "V": "FunctionCallResponse",
    "v": "NegotiateProtocolVersion",
}


@dataclass(frozen=True)
class Message:
    kind: str
    body: bytes

    @property
    def name(self) -> str:
        return NAMES.get(self.kind, repr(self.kind))

    def decoded(self) -> tuple:
        """(name, content…) with everything that differs between two equal sessions left out."""
        decoder = DECODERS.get(self.kind)
        return (self.name, *decoder(self.body)) if decoder else (self.name, self.body)

    def fields(self) -> dict[str, str]:
        """Fields of an ErrorResponse or NoticeResponse by their letter."""
        return dict(fields(self.body))

    def row(self) -> tuple[str | None, ...]:
        return tuple(None if value is None else value.decode() for value in columns(self.body))


def strings(body: bytes) -> list[str]:
    return [part.decode("utf8", "replace") for part in body.split(b"\0")[:-1]]


def fields(body: bytes) -> list[tuple[str, str]]:
    found = []
    for part in body.split(b"\0"):
        if part:
            found.append((chr(part[0]), part[1:].decode("utf8", "replace")))
    return found


def columns(body: bytes) -> list[bytes | None]:
    count = struct.unpack_from("!H", body)[0]
    at, values = 2, []
    for _ in range(count):
        size = struct.unpack_from("!i", body, at)[0]
        at += 4
        if size < 0:
            values.append(None)
        else:
            values.append(body[at : at + size])
            at += size
    if at != len(body):
        raise ValueError("a DataRow with bytes after its last column")
    return values


def row_description(body: bytes) -> list[tuple]:
    count = struct.unpack_from("!H", body)[0]
    at, found = 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        found.append((body[at:end].decode(), *struct.unpack_from("!IHIhiH", body, end + 1)))
        at = end + 19
    return found


def parameter_description(body: bytes) -> list[tuple]:
    count = struct.unpack_from("!H", body)[0]
    return list(struct.unpack_from(f"!{count}I", body, 2))


def copy_response(body: bytes) -> list:
    overall, count = struct.unpack_from("!bH", body)
    return [overall, *struct.unpack_from(f"!{count}H", body, 3)]


def notification(body: bytes) -> list[str]:
    return strings(body[4:])  # the process id differs


DECODERS = {
    "S": strings,
    "K": lambda _body: [],
    "Z": lambda body: [body.decode()],
    "T": row_description,
    "t": parameter_description,
    "D": columns,
    "C": strings,
    "E": fields,
    "N": fields,
    "A": notification,
    "G": copy_response,
    "H": copy_response,
    "W": copy_response,
}
