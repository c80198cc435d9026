"""Certificates for tests, made with the openssl program as users make them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness import give_away, temporary_directory


class Certificate:
    """A certificate with its key, as files."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.crt = directory / f"{name}.crt"
        self.key = directory / f"{name}.key"


class Pki:
    """A certificate authority and what it has signed."""

    def __init__(self, name: str = "ca") -> None:
        self.directory = temporary_directory(f"pgdog-{name}-")
        self.ca = Certificate(self.directory, name)
        self._key(self.ca, "EC")
        self._openssl(
            *("req", "-new", "-x509", "-key", self.ca.key, "-out", self.ca.crt, "-days", "30", "-subj", f"/CN={name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
        )

    def make(
        self,
        name: str,
        common_name: str,
        extensions: str = "",
        kind: str = "EC",
        days: int = 30,
        self_signed: bool = False,
    ) -> Certificate:
        """Without extensions: version 1, as by PostgreSQL's manual (ssl-tcp, "Creating Certificates")."""
        made = Certificate(self.directory, name)
        self._key(made, kind)
        request = self.directory / f"{name}.csr"
        self._openssl("req", "-new", "-key", made.key, "-out", request, "-subj", f"/CN={common_name}")
        command = ["x509", "-req", "-in", request, "-out", made.crt, "-days", str(days)]
        if self_signed:
            command += ["-signkey", made.key]
        else:
            command += ["-CA", self.ca.crt, "-CAkey", self.ca.key, "-CAcreateserial"]
        if extensions:
            file = self.directory / f"{name}.ext"
            file.write_text(extensions)
            command += ["-extfile", file]
        self._openssl(*command)
        return made

    def _key(self, made: Certificate, kind: str) -> None:
        if kind == "EC":
            self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", made.key)
        elif kind == "RSA":
            self._openssl("genrsa", "-out", made.key, "2048")
        else:
            self._openssl("genpkey", "-algorithm", kind, "-out", made.key)
        made.key.chmod(0o600)
        give_away(made.key)

    def _openssl(self, *arguments: str | Path) -> None:
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, f"openssl {arguments}:\n{done.stderr}"


LOCAL = "subjectAltName=DNS:localhost,IP:127.0.0.1"
