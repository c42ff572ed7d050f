"""Certificates for cameras under test, made by openssl: a CA, what it has signed, and what nobody has."""

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    cert: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert.read_text())).hexdigest()

    def context(self, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """A server's context that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        context.maximum_version = newest
        return context


def make(folder: Path, name: str, *, ca: Certificate | None = None, names: str = "IP:127.0.0.1,DNS:localhost", days: int = 30) -> Certificate:
    """A certificate signed by `ca`, or by itself. `days` below 0: expired."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
               "-keyout", str(made.key)]
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    if ca is None:
        _run([*request, "-x509", "-days", str(days), "-addext", f"subjectAltName={names}", "-out", str(made.cert)])
        return made
    asked = folder / f"{name}.csr"
    _run([*request, "-out", str(asked)])
    _run(["openssl", "x509", "-req", "-in", str(asked), "-CA", str(ca.cert), "-CAkey", str(ca.key), "-CAcreateserial", "-days", str(days),
          "-extfile", str(extensions), "-out", str(made.cert)])
    return made


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
