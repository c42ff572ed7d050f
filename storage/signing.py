"""Signing what a volume has sealed since the last time, onto its signed heads (storage/heads.py). Reads the volume as any reader does.

Of each track only what is newer than its newest signed chunk: what turns up among older ones later was put there. So the newest document
is all that must be read.
"""

from collections.abc import Container
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from recorder.base.errors import FormatError, Gone, NotFound
from storage import heads, verify_held, zarrmeta
from storage.finding import Finding, error
from storage.heads import Head, Mark, Seal
from storage.numbered import chunk_numbers
from storage.proof import Proof
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.verify_bytes import ALTERED
from storage.volume import Volume

SETTLE_NS = 5_000_000_000        # a seal is durable with the next commit
NOT_SIGNED = "; it has not been signed"


def sign(store: TapeStore, volume: Volume, folder: Path, key: Ed25519PrivateKey, now_ns: int, mark: Mark | None = None, *,
         settled: bool = False) -> tuple[Proof, int]:
    """Append a document (more, beyond DOCUMENT_SEALS) with every new seal of `volume`, the only one in `store`; (what is wrong, new seals).

    With `settled` what was sealed in the last SETTLE_NS waits for the next time: a power cut may yet have it sealed again, otherwise. Nothing
    is signed behind a document that does not hold, or if `mark`, the newest one told elsewhere, is not there. A chunk whose digest
    does not fit its footer is not signed, and is a finding.
    """
    proof = Proof()
    last = _last(folder, key.public_key(), volume.uuid, mark, proof)
    if not proof.clean:
        return proof, 0
    book = _Book(folder, key, volume.uuid, last, now_ns)
    for camera in zarrmeta.list_cameras(volume.dir_fd):
        for name in sorted({*store.tracks(camera), *zarrmeta.list_held(volume.dir_fd, camera)}):
            after = book.newest.get((camera, name), -1)
            for seal in _track_seals(store, volume, (camera, name), after, proof.findings, now_ns if settled else 0):
                book.add(seal)
    book.finish()
    proof.newest = book.last.mark if book.last is not None else None
    proof.documents, proof.signed_until_ns = len(heads.documents(folder)), now_ns
    return proof, book.seals


def replaced(mark: Mark) -> Finding:
    """What is found where the newest known document is not among those that are there."""
    return error(f"{mark.sequence:08d}.heads", "this document was signed, and is not there, or another one is in its place",
                 "bring the documents back from a copy; look at who had access to them")


def _last(folder: Path, key: Ed25519PublicKey, volume: UUID, mark: Mark | None, proof: Proof) -> Head | None:
    """The newest document; None if there is none. What is wrong with it, with the names of all, or with those since `mark`, is a finding."""
    files = heads.documents(folder)
    for before, after in pairwise([0, *(int(file.stem) for file in files)]):
        if after != before + 1:
            proof.findings.append(error(folder.name, f"documents {before + 1} to {after - 1} are missing", "bring them back from a copy"))
    last: Head | None = None
    for file in files[min(mark.sequence, len(files)) - 1:] if mark is not None and files else files[-1:]:
        try:
            head = heads.read(file, key)
        except FormatError as failed:
            proof.findings.append(error(file.name, failed.message, failed.remedy))
            return None
        if last is not None and head.previous != last.digest:
            proof.findings.append(error(file.name, "does not lead on from the document before", "bring that one back from a copy"))
        if head.volume != volume:
            proof.findings.append(error(file.name, f"is about volume {head.volume}", "name the folder of this volume's heads"))
        if last is None and mark is not None and head.mark != mark:
            proof.findings.append(replaced(mark))
        last = head
    if last is None and mark is not None:
        proof.findings.append(replaced(mark))
    return last


class _Book:
    """Takes seals, and writes a document whenever there are enough for one."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, volume: UUID, last: Head | None, now_ns: int) -> None:
        self._folder, self._key, self._volume, self._now_ns = folder, key, volume, now_ns
        self._waiting: list[Seal] = []
        self._written = False
        self.last = last
        self.newest = dict(last.newest) if last is not None else {}
        self.seals = 0

    def add(self, seal: Seal) -> None:
        self._waiting.append(seal)
        self.seals += 1
        self.newest[seal.camera, seal.track] = seal.chunk
        if len(self._waiting) >= heads.DOCUMENT_SEALS:
            self._write()

    def finish(self) -> None:
        """One document at least: that there was nothing to sign is signed too."""
        if self._waiting or not self._written:
            self._write()

    def _write(self) -> None:
        made = heads.append(self._folder, self._key, self._volume, self._waiting, self.newest, self.last, self._now_ns)
        self.last, self._waiting, self._written = heads.read(made, self._key.public_key()), [], True


def _track_seals(store: TapeStore, volume: Volume, track: tuple[int, str], after: int, findings: list[Finding], now_ns: int) -> list[Seal]:
    """Seals of what the track has sealed behind chunk `after`, in order; also of chunks that are gone already, but for what holds have kept."""
    camera, name = track
    try:
        found = new_seals(store.track(camera, name), range(after + 1), findings, now_ns)
    except (NotFound, FormatError) as failed:
        findings.append(error(f"cam-{camera}/{name}", failed.message + NOT_SIGNED, failed.remedy))
        found = {}
    for key in verify_held.held_keys(volume, camera, name):
        held = verify_held.look(volume, key, None) if key[2] > after and key[2] not in found else None
        if held is not None and held.wrong:
            findings.append(error(f"cam-{camera}/{name} held chunk {key[2]}", held.wrong + NOT_SIGNED, ALTERED))
        elif held is not None and held.seal is not None:
            found[key[2]] = held.seal
    return [found[number] for number in sorted(found)]


def new_seals(track: TrackReader, known: Container[int], findings: list[Finding], now_ns: int = 0) -> dict[int, Seal]:
    """Of the track's sealed chunks that are not known, by number. Of two the older was sealed first: it is never left out for the other.

    Those that were written to in the SETTLE_NS before `now_ns` are left out.
    """
    numbers = [number for number in chunk_numbers(track.chunks_fd()) if number not in known]
    found = {number: seal for number in numbers if (seal := _seal(track, number, findings, now_ns)) is not None}
    again = [number for number in numbers if found and number not in found and number < max(found)]
    return found | {number: seal for number in again if (seal := _seal(track, number, [], now_ns)) is not None}


def _seal(track: TrackReader, number: int, findings: list[Finding], now_ns: int) -> Seal | None:
    where = f"cam-{track.camera}/{track.name} chunk {number}"
    try:
        with track.open_chunk(number) as lease:
            head = lease.head
            if 0 <= now_ns - lease.changed_ns() < SETTLE_NS:
                return None
            if head.sealed and lease.footer(head).digest() != head.digest:
                findings.append(error(where, "its digest is not that of its footer" + NOT_SIGNED, ALTERED))
            elif head.sealed:
                return Seal(head.camera, head.track, head.chunk, head.generation, head.first_row, head.rows,
                            head.first_ns, head.end_ns, head.digest.hex())
    except Gone:
        return None
    except FormatError as failed:
        findings.append(error(where, failed.message + NOT_SIGNED, failed.remedy))
    return None
