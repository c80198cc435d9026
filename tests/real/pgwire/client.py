"""One raw connection: send bytes, receive messages, and a few conversations on top."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator

from pgwire import build
from pgwire.decode import Message
from pgwire.scram import ScramClient

RECEIVE_SIZE = 1 << 16


class ServerError(Exception):
    """An ErrorResponse where none was expected."""

    def __init__(self, message: Message) -> None:
        self.fields = message.fields()
        self.sqlstate = self.fields.get("C", "")
        self.severity = self.fields.get("V", self.fields.get("S", ""))
        super().__init__(f"{self.severity} {self.sqlstate}: {self.fields.get('M', '')}")


class Closed(OSError):
    """The other side has closed the connection."""


class Wire:
    """A connection to PostgreSQL or to a proxy. `transcript` has every message received since `clear()`."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.transcript: list[Message] = []
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.secret = b""
        self.status = ""
        self.ended = False
        self._buffer = bytearray()

    @classmethod
    def dial(cls, address: str | tuple[str, int], timeout: float = 20, source: str | None = None) -> Wire:
        """Open the socket only. `address` is (host, port) or the path of a Unix socket."""
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                sock.bind((source, 0))
        sock.settimeout(timeout)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def connect(
        cls,
        address: str | tuple[str, int],
        user: str,
        database: str,
        password: str = "",
        timeout: float = 20,
        source: str | None = None,
        protocol: int = build.PROTOCOL_3_0,
        tls: ssl.SSLContext | None = None,
        **parameters: str,
    ) -> Wire:
        """Open, log in and wait for ReadyForQuery."""
        wire = cls.dial(address, timeout, source)
        try:
            if tls:
                wire.encrypt(tls)
            wire.send(build.startup({"user": user, "database": database, **parameters}, protocol))
            wire.log_in(user, password)
            wire.until_ready()
        except BaseException:
            wire.socket.close()
            raise
        wire.clear()
        return wire

    def encrypt(self, context: ssl.SSLContext, name: str = "localhost") -> None:
        """SSLRequest, and the handshake behind its answer."""
        self.send(build.ssl_request())
        answer = self.receive_byte()
        if answer != b"S":
            raise ValueError(f"{answer!r} answers the SSLRequest")
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def log_in(self, user: str, password: str) -> None:
        """Answer whatever authentication is asked for, up to AuthenticationOk."""
        scram: ScramClient | None = None
        while True:
            message = self.receive()
            if message.kind == "E":
                raise ServerError(message)
            if message.kind != "R":
                continue
            (code,) = struct.unpack_from("!I", message.body)
            data = message.body[4:]
            if code == 0:
                return
            if code == 3:
                self.send(build.password(password))
            elif code == 5:
                inner = hashlib.md5((password + user).encode()).hexdigest()
                self.send(build.password("md5" + hashlib.md5(inner.encode() + data[:4]).hexdigest()))
            elif code == 10:
                scram = ScramClient(password)
                self.send(build.sasl_initial("SCRAM-SHA-256", scram.first()))
            elif code == 11 and scram:
                self.send(build.sasl_response(scram.final(data)))
            elif code == 12 and scram:
                scram.verify(data)
            else:
                raise ValueError(f"authentication request {code} is not known here")

    # ---- sending and receiving

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def half_close(self) -> None:
        """Send FIN; still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST instead of FIN, as a crashed host would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self) -> Message:
        """The next message, noted in the transcript."""
        while True:
            if len(self._buffer) >= 5:
                (size,) = struct.unpack_from("!I", self._buffer, 1)
                if len(self._buffer) > size:
                    message = Message(chr(self._buffer[0]), bytes(self._buffer[5 : size + 1]))
                    del self._buffer[: size + 1]
                    self._note(message)
                    return message
            self._fill()

    def receive_byte(self) -> bytes:
        """One raw byte: the answer to SSLRequest and GSSENCRequest."""
        if not self._buffer:
            self._fill()
        byte = bytes(self._buffer[:1])
        del self._buffer[:1]
        return byte

    def _fill(self) -> None:
        data = self.socket.recv(RECEIVE_SIZE)
        if not data:
            raise Closed("the connection was closed by the other side")
        self._buffer += data

    def _note(self, message: Message) -> None:
        self.transcript.append(message)
        if message.kind == "S":
            key, value = message.body.split(b"\0")[:2]
            self.parameters[key.decode()] = value.decode()
        elif message.kind == "K":
            self.pid = struct.unpack_from("!I", message.body)[0]
            self.secret = message.body[4:]
        elif message.kind == "Z":
            self.status = message.body.decode()

    def clear(self) -> None:
        self.transcript.clear()

    # ---- conversations

    def until(self, *kinds: str) -> list[Message]:
        """Messages up to and including the first one of these kinds."""
        found = []
        while True:
            message = self.receive()
            found.append(message)
            if message.kind in kinds:
                return found

    def until_ready(self) -> list[Message]:
        """Messages up to ReadyForQuery; ServerError at the first ErrorResponse."""
        found = self.until("Z", "E")
        if found[-1].kind == "E":
            raise ServerError(found[-1])
        return found

    def until_closed(self) -> list[Message]:
        """Everything that is still sent before the other side closes."""
        found = []
        try:
            while True:
                found.append(self.receive())
        except (Closed, ConnectionResetError):
            self.ended = True
            return found

    def ask(self, sql: str) -> list[Message]:
        """A simple query; all messages up to ReadyForQuery."""
        self.send(build.query(sql))
        return self.until("Z")

    def rows(self, sql: str) -> list[tuple[str | None, ...]]:
        """The rows of a simple query. ServerError if it fails."""
        return rows_of(self.ask(sql))

    def value(self, sql: str) -> str | None:
        return self.rows(sql)[0][0]

    def extended(self, sql: str, values: tuple[str | None, ...] = (), name: str = "") -> list[tuple[str | None, ...]]:
        """Parse, Bind, Execute, Sync; the rows."""
        self.send(build.parse(sql, name), build.bind(values, name), build.execute(), build.sync())
        return rows_of(self.until("Z"))

    def quiet(self, seconds: float) -> bool:
        """True if nothing arrives for so long."""
        if self._buffer:
            return False
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)
        if not data:
            raise Closed("the connection was closed by the other side")
        self._buffer += data
        return False

    def close(self) -> None:
        """Terminate politely."""
        try:
            self.send(build.terminate())
        except OSError:
            pass
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cancel(address: str | tuple[str, int], pid: int, secret: bytes, timeout: float = 10) -> None:
    """Send a cancel request and wait until the other side has closed that connection."""
    wire = Wire.dial(address, timeout)
    wire.send(build.cancel_request(pid, secret))
    wire.until_closed()
    wire.socket.close()


def rows_of(messages: list[Message]) -> list[tuple[str | None, ...]]:
    for message in messages:
        if message.kind == "E":
            raise ServerError(message)
    return [message.row() for message in messages if message.kind == "D"]


def errors_of(messages: list[Message]) -> Iterator[str]:
    return (message.fields()["C"] for message in messages if message.kind == "E")


def rows_or_errors(messages: list[Message]) -> list[tuple[str | None, ...]] | list[str]:
    """The codes of the errors, if there is one."""
    return list(errors_of(messages)) or rows_of(messages)


def retry(action, attempts: int = 50, pause: float = 0.1):  # noqa: ANN001, ANN201
    """Repeat `action` while it fails with an error of the network or of the server; the last error is raised."""
    for attempt in range(attempts):
        try:
            return action()
        except (OSError, ServerError):
            if attempt == attempts - 1:
                raise
            time.sleep(pause)
