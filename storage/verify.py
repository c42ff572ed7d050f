"""`watchroom verify`: does a volume still hold what its signed heads (storage/heads.py) say that it held? Reads only."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.base.errors import FormatError, Gone, NotFound
from storage import heads, signing, verify_held
from storage.chunkfile import ChunkHead, read_head
from storage.chunklease import ChunkLease
from storage.deletions import deleted_rows
from storage.finding import error
from storage.heads import Head, Key, Mark, Seal
from storage.proof import Proof
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.verify_bytes import ALTERED, utc, wrong_file, wrong_rows
from storage.verify_held import HeldFound
from storage.volume import Volume

UNSIGNED = "was never signed, though later chunks of its track were"


def verify(store: TapeStore, volume: Volume, folder: Path, key: Ed25519PublicKey, mark: Mark | None = None) -> Proof:
    """Compare every signed chunk of `volume`, the only one in `store`, with what lies there, bytes and all.

    `mark`: a document that must be there. A signed chunk may be gone only where a ledger of the volume says that it was deleted, or holds
    have kept its rows.
    """
    proof = Proof()
    chain = _chain(folder, key, volume.uuid, mark, proof)
    if not chain and proof.clean:
        proof.findings.append(error(folder.name, "holds no signed heads of this volume", "sign once with --sign"))
    seals = _Seals(store, volume, proof, chain)
    seals.verify_held()
    seals.verify()
    seals.verify_unsigned()
    return proof


def _chain(folder: Path, key: Ed25519PublicKey, volume: UUID, mark: Mark | None, proof: Proof) -> list[Head]:
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
    if mark is not None and mark not in {head.mark for head in chain}:
        proof.findings.append(signing.replaced(mark))
    proof.documents = len(chain)
    proof.signed_until_ns, proof.newest = (chain[-1].signed_ns, chain[-1].mark) if chain else (0, None)
    return chain


def _by_key(chain: Iterable[Head]) -> dict[Key, Seal]:
    return {seal.key: seal for head in chain for seal in head.seals}


def _newest(seals: Iterable[Key]) -> dict[tuple[int, str], int]:
    """The newest signed chunk of each track."""
    found: dict[tuple[int, str], int] = {}
    for camera, track, chunk in seals:
        found[camera, track] = max(chunk, found.get((camera, track), 0))
    return found


class _Seals:
    """Looks at one signed chunk after another, held ones first."""

    def __init__(self, store: TapeStore, volume: Volume, proof: Proof, chain: Iterable[Head]) -> None:
        self._store, self._volume, self._proof = store, volume, proof
        self._signed = _by_key(chain)
        self._held: dict[Key, HeldFound] = {}
        self._deleted: dict[Key, int] = {}

    def verify_held(self) -> None:
        """What holds have kept: say what is wrong with it."""
        newest = _newest(self._signed)
        for key in (key for track in verify_held.held_tracks(self._volume) for key in verify_held.held_keys(self._volume, *track)):
            found = verify_held.look(self._volume, key, self._signed.get(key))
            if found is None:
                continue
            wrong = found.wrong
            if key not in self._signed and not wrong:
                self._proof.unsigned += 1
                wrong = UNSIGNED if key[2] < newest.get(key[:2], 0) else ""
            if wrong:
                self._say(f"cam-{key[0]}/{key[1]} held chunk {key[2]}", found.first_ns, found.end_ns, wrong)
            if key in self._signed:
                self._held[key] = found
                self._proof.held += 0 if wrong else found.rows

    def verify_unsigned(self) -> None:
        """Sealed chunks that no document names: they are younger than those that one does."""
        known: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
        for camera, name, chunk in self._signed:
            known[camera, name].add(chunk)
        for track in self._tracks():
            numbers = known[track.camera, track.name]
            for seal in signing.new_seals(track, numbers, []).values():
                self._proof.unsigned += 1
                if seal.chunk < max(numbers, default=0):
                    self._say(f"cam-{seal.camera}/{seal.track} chunk {seal.chunk}", seal.first_ns, seal.end_ns, UNSIGNED)

    def _tracks(self) -> Iterator[TrackReader]:
        for camera in self._store.cameras():
            for name in self._store.tracks(camera):
                with contextlib.suppress(NotFound, FormatError):        # `check` says so
                    yield self._store.track(camera, name)

    def verify(self) -> None:
        """Count the chunks, and say what is wrong with each."""
        for key, seal in self._signed.items():
            wrong = self._look(seal)
            if wrong is None:
                self._proof.retired += 1
                continue
            self._proof.chunks += 1
            if wrong:
                self._say(f"cam-{key[0]}/{key[1]} chunk {key[2]}", seal.first_ns, seal.end_ns, wrong)

    def _say(self, what: str, first_ns: int, end_ns: int, wrong: str) -> None:
        span = f", {utc(first_ns)} to {utc(end_ns)}" if end_ns else ""
        self._proof.findings.append(error(what + span, wrong, ALTERED))

    def _look(self, seal: Seal) -> str | None:
        """What is not as it was signed, empty if all is; None: deleted, as a ledger says."""
        try:
            track = self._store.track(seal.camera, seal.track)
        except (NotFound, FormatError) as failed:
            return self._absent(seal) and f"is missing with its track: {failed.message}"
        try:
            with track.open_chunk(seal.chunk) as lease:
                return _wrong(lease, seal, track)
        except Gone:
            return self._out_of_sight(track, seal)
        except FormatError as failed:
            return failed.message
        except OSError as failed:
            return f"cannot be read: {failed.strerror}"

    def _out_of_sight(self, track: TrackReader, seal: Seal) -> str | None:
        try:
            head = _head(track, seal.chunk)
        except FormatError as failed:
            return failed.message
        if head is not None and (head.camera, head.track, head.chunk) != seal.key:
            return "another chunk lies in its place" if self._absent(seal) else None
        return self._absent(seal) if head is None else None     # its own: below the tail, about to be deleted

    def _absent(self, seal: Seal) -> str | None:
        """None if the ledgers and what holds have kept account for all rows of a chunk that is not there; else how many are missing."""
        held = self._held.get(seal.key)
        if held is not None and held.wrong:
            return None         # that has been said
        if self._missing(seal) > 0:         # it may have gone meanwhile
            self._deleted, found = deleted_rows(self._volume), verify_held.look(self._volume, seal.key, seal)
            self._held.pop(seal.key, None)
            if found is not None:
                self._held[seal.key] = found
        missing = self._missing(seal)
        if missing <= 0:
            return None
        if missing == seal.rows:
            return "is missing, and no ledger says that it was deleted"
        return f"{missing} of its {seal.rows} rows are missing, and no ledger says that they were deleted"

    def _missing(self, seal: Seal) -> int:
        if not self._deleted:
            self._deleted = deleted_rows(self._volume)
        held = self._held.get(seal.key)
        return seal.rows - self._deleted.get(seal.key, 0) - (held.rows if held is not None else 0)


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
    edges = track.edges()
    return wrong_file(head, footer, *lease.head_page(), lease.behind_footer(head)) or wrong_rows(
        head, footer, lambda start, stop: _read(lease, start, stop), (edges.first_row, edges.tail_offset))


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
