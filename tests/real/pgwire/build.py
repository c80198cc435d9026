"""Frontend messages, built byte by byte (PostgreSQL manual, 'Message Formats')."""

from __future__ import annotations

import struct

PROTOCOL_3_0 = 0x0003_0000
PROTOCOL_3_2 = 0x0003_0002
CANCEL_CODE = 80877102
SSL_CODE = 80877103
GSS_CODE = 80877104


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def text(value: str | bytes) -> bytes:
    return (value.encode() if isinstance(value, str) else value) + b"\0"


def startup(parameters: dict[str, str], protocol: int = PROTOCOL_3_0) -> bytes:
    body = struct.pack("!I", protocol)
    for key, value in parameters.items():
        body += text(key) + text(value)
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def ssl_request() -> bytes:
    return struct.pack("!II", 8, SSL_CODE)


def gss_request() -> bytes:
    return struct.pack("!II", 8, GSS_CODE)


def cancel_request(pid: int, secret: bytes) -> bytes:
    return struct.pack("!III", 12 + len(secret), CANCEL_CODE, pid) + secret


def password(value: str) -> bytes:
    return message(b"p", text(value))


def sasl_initial(mechanism: str, data: bytes) -> bytes:
    return message(b"p", text(mechanism) + struct.pack("!I", len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    return message(b"p", data)


def query(sql: str | bytes) -> bytes:
    return message(b"Q", text(sql))


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return message(b"P", text(name) + text(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(
    values: tuple[str | bytes | None, ...] = (),
    statement: str = "",
    portal: str = "",
    formats: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
) -> bytes:
    body = text(portal) + text(statement)
    body += struct.pack(f"!H{len(formats)}H", len(formats), *formats)
    body += struct.pack("!H", len(values))
    for value in values:
        if value is None:
            body += struct.pack("!i", -1)
        else:
            data = value.encode() if isinstance(value, str) else value
            body += struct.pack("!i", len(data)) + data
    body += struct.pack(f"!H{len(results)}H", len(results), *results)
    return message(b"B", body)


def describe_statement(name: str = "") -> bytes:
    return message(b"D", b"S" + text(name))


def describe_portal(name: str = "") -> bytes:
    return message(b"D", b"P" + text(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message(b"E", text(portal) + struct.pack("!I", limit))


def close_statement(name: str = "") -> bytes:
    return message(b"C", b"S" + text(name))


def close_portal(name: str = "") -> bytes:
    return message(b"C", b"P" + text(name))


def sync() -> bytes:
    return message(b"S")


def flush() -> bytes:
    return message(b"H")


def terminate() -> bytes:
    return message(b"X")


def copy_data(data: bytes) -> bytes:
    return message(b"d", data)


def copy_done() -> bytes:
    return message(b"c")


def copy_fail(reason: str) -> bytes:
    return message(b"f", text(reason))


def function_call(oid: int, arguments: tuple[bytes | None, ...], *, arguments_format: int = 1, result_format: int = 1) -> bytes:
    body = struct.pack("!IHHH", oid, 1, arguments_format, len(arguments))
    for value in arguments:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"F", body + struct.pack("!H", result_format))
