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
from storage.chunklease import ChunkLease
from storage.finding import Finding, Severity, error
from storage.heads import Head, Seal
from storage.reader import TrackReader
from storage.store import TapeStore

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


def verify(store: TapeStore, volume: UUID, folder: Path, key: Ed25519PublicKey) -> Proof:
    """Compare every signed chunk of the one volume in `store` with what lies there, bytes and all."""
    proof = Proof()
    chain = _chain(folder, key, volume, proof)
    if not chain and proof.clean:
        proof.findings.append(error(folder.name, "holds no signed heads of this volume", "sign once with --sign"))
    for head in chain:
        for seal in head.seals:
            _verify_seal(store, seal, proof)
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


def _verify_seal(store: TapeStore, seal: Seal, proof: Proof) -> None:
    where = f"cam-{seal.camera}/{seal.track} chunk {seal.chunk}, {utc(seal.first_ns)} to {utc(seal.end_ns)}"
    try:
        track = store.track(seal.camera, seal.track)
    except (NotFound, FormatError) as failed:
        proof.findings.append(error(where, f"is missing with its track: {failed.message}", ALTERED))
        return
    try:
        with track.open_chunk(seal.chunk) as lease:
            wrong = _wrong(lease, seal)
    except Gone:
        if _retired(track, seal.chunk):
            proof.retired += 1
            return
        wrong = "another chunk lies in its place" if _exists(track, seal.chunk) else "is missing"
    except FormatError as failed:
        wrong = failed.message
    except OSError as failed:
        wrong = f"cannot be read: {failed.strerror}"
    proof.chunks += 1
    if wrong:
        proof.findings.append(error(where, wrong, ALTERED))


def _wrong(lease: ChunkLease, seal: Seal) -> str:
    """What is not as it was signed; empty if all is."""
    head = lease.head
    if not head.sealed:
        return "is no longer sealed"
    if (head.generation, head.first_row, head.rows) != (seal.generation, seal.first_row, seal.rows):
        return "its head is not the one that was signed"
    footer = lease.footer(head)
    if footer.digest().hex() != seal.digest:
        return "its footer is not the one that was signed"
    for index, row in enumerate(footer.rows):
        data = bytearray(int(row["bytes"]))
        got = lease.read(data, int(row["offset"])) if data else 0
        if blake3(data[:got]).digest() != footer.digests[index * 32:index * 32 + 32]:
            return f"the bytes of row {head.first_row + index} from {utc(int(row['t_ns']))} on are not those that were signed"
    return ""


def _retired(track: TrackReader, chunk: int) -> bool:
    return (chunk + 1) * track.chunk_class.tape_bytes <= track.edges().tail_offset


def _exists(track: TrackReader, chunk: int) -> bool:
    try:
        os.stat(str(chunk), dir_fd=track.chunks_fd(), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def utc(ns: int) -> str:
    """RFC 3339 to the millisecond."""
    return f"{np.datetime64(ns, 'ns').astype('datetime64[ms]')}Z"
