"""Signed heads: an append-only log, kept outside of the volume, of the seals of its chunks; each document is signed with Ed25519 (RFC 8032).

One document a signing (more, if there are many seals), `<sequence>.heads`: a line with the signature in hex, then the signed JSON. It names
the volume, its sequence number, the BLAKE3 digest of the document before, the newest signed chunk of every track, and every seal that is new
since. A chunk's digest is taken over its rows' leaves, so a signed seal covers every byte of its rows. A retired chunk's seal stays in the log.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from recorder.base.errors import ConfigError, FormatError
from storage.document import parsed

FORMAT = "watchroom-heads-1"
DOCUMENT_MAX = 64 << 20           # of which the seals take 5 MB, and each track some 40 bytes
KEY_MAX = 64 << 10
DOCUMENT_SEALS = 20_000           # some 5 MB
Key = tuple[int, str, int]        # camera, track, chunk


@dataclass(frozen=True, slots=True)
class Seal:
    """What a sealed chunk's head says; `digest` is layout.CHUNK_HEAD's, in hex. Times are UTC ns."""

    camera: int
    track: str
    chunk: int
    generation: int
    first_row: int
    rows: int
    first_ns: int
    end_ns: int
    digest: str

    @property
    def key(self) -> Key:
        """Which chunk."""
        return self.camera, self.track, self.chunk


@dataclass(frozen=True, slots=True)
class Mark:
    """Which document is the newest, told elsewhere: who puts older documents in their place is found out by it. `digest` in hex."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Head:
    """One document, its signature and form checked. `newest`: the newest signed chunk of each (camera, track), this document's included."""

    volume: UUID
    sequence: int
    signed_ns: int
    previous: str
    newest: Mapping[tuple[int, str], int]
    seals: tuple[Seal, ...]
    digest: str

    @property
    def mark(self) -> Mark:
        """How it is told from all others."""
        return Mark(self.sequence, self.digest)


def private_key(pem: Path) -> Ed25519PrivateKey:
    """The signing key in a PEM file (PKCS 8, not encrypted); ConfigError."""
    try:
        found = load_pem_private_key(_pem(pem), None)
    except (ValueError, TypeError):
        raise _no_key(pem) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise _no_key(pem)
    return found


def public_key(pem: Path) -> Ed25519PublicKey:
    """The key to verify with in a PEM file; ConfigError."""
    try:
        found = load_pem_public_key(_pem(pem))
    except ValueError:
        raise _no_key(pem) from None
    if not isinstance(found, Ed25519PublicKey):
        raise _no_key(pem)
    return found


def _pem(pem: Path) -> bytes:
    with pem.open("rb") as opened:
        return opened.read(KEY_MAX)


def _no_key(pem: Path) -> ConfigError:
    return ConfigError("holds no such Ed25519 key in PEM", where=str(pem), remedy="make one with openssl genpkey -algorithm ed25519")


def documents(folder: Path) -> list[Path]:
    """The folder's documents, the oldest first; one that was never finished (`.new`) is none."""
    return sorted((file for file in folder.glob("*.heads") if file.stem.isascii() and file.stem.isdigit()), key=lambda file: int(file.stem))


def read(document: Path, key: Ed25519PublicKey) -> Head:
    """The document; FormatError if it was not signed with the key's other half, was altered, or is another one's number."""
    where = document.name
    with document.open("rb") as opened:
        raw = opened.read(DOCUMENT_MAX + 1)
    line, _, body = raw.partition(b"\n")
    try:
        key.verify(bytes.fromhex(line.decode("ascii")), body)
    except (InvalidSignature, ValueError):
        raise FormatError("its signature is not this key's", where=where,
                          remedy="check the key; if it is right, the document was altered") from None
    try:
        found = parsed(body)
        newest = {(int(camera), str(track)): int(chunk) for camera, track, chunk in found["newest"]}
        head = Head(UUID(found["volume"]), int(found["sequence"]), int(found["signed_ns"]), str(found["previous"]), newest,
                    tuple(Seal(**seal) for seal in found["seals"]), blake3(raw).hexdigest())
        right = found["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise FormatError("is of another format", where=where, remedy="use the version that wrote it")
    if head.sequence != int(document.stem):
        raise FormatError(f"is document {head.sequence} under another name", where=where, remedy="give it its name back")
    return head


def append(folder: Path, key: Ed25519PrivateKey, volume: UUID, seals: Iterable[Seal], newest: Mapping[tuple[int, str], int],
           last: Head | None, signed_ns: int) -> Path:
    """Write the next document and return it: whole and durable under its name, or not there at all. `last` is the newest one."""
    sequence = last.sequence + 1 if last else 1
    body = json.dumps({"format": FORMAT, "volume": str(volume), "sequence": sequence, "signed_ns": signed_ns,
                       "previous": last.digest if last else "", "newest": [[*track, chunk] for track, chunk in sorted(newest.items())],
                       "seals": [asdict(seal) for seal in seals]}, separators=(",", ":")).encode()
    target = folder / f"{sequence:08d}.heads"
    if target.exists():
        raise FormatError("exists already", where=target.name, remedy="let one run at a time sign")
    made = target.with_suffix(".new")
    with made.open("wb") as opened:
        opened.write(key.sign(body).hex().encode() + b"\n" + body)
        opened.flush()
        os.fsync(opened.fileno())
    made.rename(target)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return target
