"""`watchroom verify`: does a volume still hold what its signed heads (storage/heads.py) say that it held? Reads only."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from recorder.base.errors import FormatError, Gone, NotFound
from storage import heads, offline
from storage.chunkfile import ChunkHead, read_head
from storage.chunklease import ChunkLease
from storage.chunkpage import head_page
from storage.deletions import deleted_chunks
from storage.finding import Finding, Severity, error
from storage.footage import Rows
from storage.heads import Head, Seal
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.volume import Volume

HIDDEN = "there are bytes around its rows and behind its footer where zeros were written"
ALTERED = "do not rely on this footage; compare with an export, look at who had access"


@dataclass(slots=True)
class Proof:
    """What has been verified. `signed_until_ns`: the newest document's time; `retired`: signed chunks that retention has taken since."""

    documents: int = 0
    signed_until_ns: int = 0
    chunks: int = 0
    retired: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if nothing was found."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def verify(store: TapeStore, volume: Volume, folder: Path, key: Ed25519PublicKey) -> Proof:
    """Compare every signed chunk of `volume`, the only one in `store`, with what lies there, bytes and all.

    A signed chunk may be gone only where a ledger of the volume says that it was deleted.
    """
    proof = Proof()
    chain = _chain(folder, key, volume.uuid, proof)
    if not chain and proof.clean:
        proof.findings.append(error(folder.name, "holds no signed heads of this volume", "sign once with --sign"))
    seals = _Seals(store, volume, proof)
    for head in chain:
        for seal in head.seals:
            seals.verify(seal)
    return proof


def sign(store: TapeStore, volume: UUID, folder: Path, key: Ed25519PrivateKey, now_ns: int) -> tuple[Proof, int]:
    """Append a document (more, beyond DOCUMENT_SEALS) with every seal that is not in one yet; (what is wrong, new seals).

    Nothing is signed onto a chain that is not whole. A chunk whose digest does not fit its footer is not signed, and is a finding.
    """
    proof = Proof()
    chain = _chain(folder, key.public_key(), volume, proof)
    if not proof.clean:
        return proof, 0
    known = {(seal.camera, seal.track, seal.chunk) for head in chain for seal in head.seals}
    seals = [seal for camera in store.cameras() for name in store.tracks(camera)
             for seal in _new_seals(store.track(camera, name), known, proof)]
    last = chain[-1] if chain else None
    for at in range(0, len(seals) or 1, heads.DOCUMENT_SEALS):
        made = heads.append(folder, key, volume, seals[at:at + heads.DOCUMENT_SEALS], last, now_ns)
        last = heads.read(made, key.public_key())
    return proof, len(seals)


def _chain(folder: Path, key: Ed25519PublicKey, volume: UUID, proof: Proof) -> list[Head]:
    """The documents that hold; each that does not, or does not lead on from the one before, is a finding."""
    chain: list[Head] = []
    expected, before = 1, ""
    for file in heads.documents(folder):
        try:
            head = heads.read(file, key)
        except FormatError as failed:
            proof.findings.append(error(file.name, failed.message, failed.remedy))
            expected, before = int(file.stem) + 1, ""
            continue
        if head.sequence != expected:
            proof.findings.append(error(file.name, f"documents {expected} to {head.sequence - 1} are missing", "bring them back from a copy"))
        elif before and head.previous != before:
            proof.findings.append(error(file.name, "does not lead on from the document before", "bring that one back from a copy"))
        if head.volume != volume:
            proof.findings.append(error(file.name, f"is about volume {head.volume}", "name the folder of this volume's heads"))
        else:
            chain.append(head)
        expected, before = head.sequence + 1, head.digest
    proof.documents = len(chain)
    proof.signed_until_ns = chain[-1].signed_ns if chain else 0
    return chain


def _new_seals(track: TrackReader, known: set[tuple[int, str, int]], proof: Proof) -> list[Seal]:
    found = []
    for number in offline.chunk_numbers(track.chunks_fd()):
        if (track.camera, track.name, number) in known:
            continue
        where = f"cam-{track.camera}/{track.name} chunk {number}"
        try:
            with track.open_chunk(number) as lease:
                head = lease.head
                if head.sealed and lease.footer(head).digest() != head.digest:
                    proof.findings.append(error(where, "its digest is not that of its footer; it has not been signed", ALTERED))
                elif head.sealed:
                    found.append(Seal(head.camera, head.track, head.chunk, head.generation, head.first_row, head.rows,
                                      head.first_ns, head.end_ns, head.digest.hex()))
        except Gone:
            continue
        except FormatError as failed:
            proof.findings.append(error(where, failed.message + "; it has not been signed", failed.remedy))
    return found


class _Seals:
    """Looks at one signed chunk after another."""

    def __init__(self, store: TapeStore, volume: Volume, proof: Proof) -> None:
        self._store, self._volume, self._proof = store, volume, proof
        self._deleted: set[tuple[int, str, int]] = set()

    def verify(self, seal: Seal) -> None:
        """Count the chunk, and say what is wrong with it."""
        wrong = self._look(seal)
        if wrong is None:
            self._proof.retired += 1
            return
        self._proof.chunks += 1
        if wrong:
            where = f"cam-{seal.camera}/{seal.track} chunk {seal.chunk}, {utc(seal.first_ns)} to {utc(seal.end_ns)}"
            self._proof.findings.append(error(where, wrong, ALTERED))

    def _look(self, seal: Seal) -> str | None:
        """What is not as it was signed, empty if all is; None: deleted, as a ledger says."""
        try:
            track = self._store.track(seal.camera, seal.track)
        except (NotFound, FormatError) as failed:
            return None if self._gone(seal) else f"is missing with its track: {failed.message}"
        try:
            with track.open_chunk(seal.chunk) as lease:
                return _wrong(lease, seal, track)
        except Gone:
            return self._absent(track, seal)
        except FormatError as failed:
            return failed.message
        except OSError as failed:
            return f"cannot be read: {failed.strerror}"

    def _absent(self, track: TrackReader, seal: Seal) -> str | None:
        if self._gone(seal):
            return None
        try:
            head = _head(track, seal.chunk)
        except FormatError as failed:
            return failed.message
        if head is None:
            return None if self._gone(seal, again=True) else "is missing, and no ledger says that it was deleted"
        own = (head.camera, head.track, head.chunk) == (seal.camera, seal.track, seal.chunk)
        return None if own else "another chunk lies in its place"       # its own: below the tail, about to be deleted

    def _gone(self, seal: Seal, *, again: bool = False) -> bool:
        """True if a ledger says so; `again`: it may have been written meanwhile."""
        if again or not self._deleted:
            self._deleted = deleted_chunks(self._volume)
        return (seal.camera, seal.track, seal.chunk) in self._deleted


def _wrong(lease: ChunkLease, seal: Seal, track: TrackReader) -> str:
    """What is not as it was signed; empty if all is."""
    head = lease.head
    if not head.sealed:
        return "is no longer sealed"
    if (head.generation, head.first_row, head.rows, head.first_ns, head.end_ns) != (
            seal.generation, seal.first_row, seal.rows, seal.first_ns, seal.end_ns):
        return "its head is not the one that was signed"
    footer = lease.footer(head)
    if footer.digest().hex() != seal.digest:
        return "its footer is not the one that was signed"
    page, size = lease.head_page()
    if size != head.chunk_class.file_bytes:
        return f"has {size} bytes, its class {head.chunk_class.file_bytes}"
    if page != head_page(head, -(-head.used_bytes // head.chunk_class.inner_bytes)):
        return "its shard index, or what lies around its head, is not as it was written"
    return _wrong_bytes(lease, footer.rows, footer.digests, track) or (
        HIDDEN if any(lease.behind_footer(head)) else "")


def _wrong_bytes(lease: ChunkLease, rows: Rows, digests: bytes, track: TrackReader) -> str:
    """The same of the tape: every row, and zeros around them. Rows below the tail have expired, nobody may read them."""
    at = max(lease.start_offset, track.edges().tail_offset)
    for index, row in enumerate(rows):
        offset, size = int(row["offset"]), int(row["bytes"])
        if offset < at:
            continue
        if any(_read(lease, at, offset)):
            return HIDDEN
        if blake3(_read(lease, offset, offset + size)).digest() != digests[index * 32:index * 32 + 32]:
            return f"the bytes of row {lease.head.first_row + index} from {utc(int(row['t_ns']))} on are not those that were signed"
        at = offset + size
    return HIDDEN if any(_read(lease, at, lease.end_offset)) else ""


def _read(lease: ChunkLease, start: int, stop: int) -> bytearray:
    data = bytearray(stop - start)
    return data[:lease.read(data, start)] if data else data


def _head(track: TrackReader, chunk: int) -> ChunkHead | None:
    """The head of the file with the chunk's name, whoever it belongs to; None if there is none."""
    try:
        fd = os.open(str(chunk), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=track.chunks_fd())
    except FileNotFoundError:
        return None
    try:
        return read_head(fd, f"cam-{track.camera}/{track.name} chunk {chunk}")
    finally:
        os.close(fd)


def utc(ns: int) -> str:
    """RFC 3339 to the millisecond."""
    return f"{np.datetime64(ns, 'ns').astype('datetime64[ms]')}Z"
