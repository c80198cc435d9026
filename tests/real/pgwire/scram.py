"""The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import secrets


@functools.lru_cache(maxsize=64)
def salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


class ScramClient:
    """first() → server's first message → final() → server's final message → verify()."""

    def __init__(self, password: str, nonce: str | None = None) -> None:
        self.password = password
        self.nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._server_signature = b""

    def first(self) -> bytes:
        return f"n,,n=,r={self.nonce}".encode()

    def final(self, server_first: bytes) -> bytes:
        parts = dict(item.split("=", 1) for item in server_first.decode().split(","))
        if not parts["r"].startswith(self.nonce) or len(parts["r"]) == len(self.nonce):
            raise ValueError("the server's nonce does not extend ours")
        salted = salted_password(self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={parts['r']}"
        signed = f"n=,r={self.nonce},".encode() + server_first + b"," + without_proof.encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self._server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        parts = dict(item.split("=", 1) for item in server_final.decode().split(","))
        if base64.b64decode(parts.get("v", "")) != self._server_signature:
            raise ValueError("the server does not know the password either")
