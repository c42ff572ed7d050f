"""The held chunks of a slot's tapes on the disk: saved, counted, cut and let go. Files that appear under a number are whole and durable.

A new one is made as `<number>.new`. Where it takes another's place that one goes to quarantine first; a crash between the two leaves a
whole `.new`, which the next start adopts.
"""

import os
from dataclasses import dataclass, replace

import numpy as np

from recorder.base.clock import Clock
from recorder.base.errors import FormatError
from recorder.base.media import DeletionCause
from storage import heldfile
from storage.chunkfile import ChunkHead
from storage.disk import read_at
from storage.erasure import Erasure, Past
from storage.footage import row_ends
from storage.heldfile import HeldChunk
from storage.hold import Hold
from storage.holdrows import Held
from storage.holdshelf import Bools, overlapping
from storage.items import Deletion, Tape
from storage.layout import HELD, PAGE, held_path, track_path
from storage.ledger import Ledger
from storage.numbered import chunk_number
from storage.pool import Pool
from storage.steps import Step, step
from storage.tapework import TapeWork
from storage.volume import Volume, fsync_dir
from storage.zarrmeta import create_track, extend_shape

Key = tuple[int, str, int]      # camera, track, chunk
NEW = ".new"


@dataclass(frozen=True, slots=True)
class Older:
    """Rows [first, after) that a hold found saved, and their time."""

    first: int
    after: int
    start_ns: int
    end_ns: int


class HeldStore:
    """See the module. The keeper's thread only; OSError means that the volume has failed."""

    def __init__(self, volume: Volume, clock: Clock, pool: Pool, ledger: Ledger, erasure: Erasure) -> None:
        self._volume, self._clock, self._pool, self._ledger, self._erasure = volume, clock, pool, ledger, erasure
        self._chunks: dict[tuple[int, str], set[int]] = {}
        self.nbytes = 0

    def all(self) -> set[Key]:
        """All held chunks."""
        return {(camera, track, number) for (camera, track), numbers in self._chunks.items() for number in numbers}

    def numbers(self, work: TapeWork) -> set[int]:
        """The track's held chunks."""
        return self._chunks.get((work.ident.camera, work.ident.name), set())

    def scan(self, work: TapeWork) -> set[Key]:
        """After a start: take in what lies there; half-made files go to the pool."""
        folder = self._folder(work)
        for name in self._volume.list_files(folder):
            path = f"{folder}/{name}"
            if self._volume.names(path) == 1:
                self._pool.total_bytes += work.chunk_class.file_bytes
            number = chunk_number(name.removesuffix(NEW))
            if number is not None and (name == str(number) or self._adopted(path, f"{folder}/{number}")):
                self._count(work, number, 1)
            else:
                self._pool.retire(path, work.chunk_class, self._clock.mono_ns(), self._erasure.nameless())
        return {(work.ident.camera, work.ident.name, number) for number in self.numbers(work)}

    def _adopted(self, path: str, home: str) -> bool:
        """True if a file that has no number yet is whole and its place is free: then it takes it."""
        if self._volume.exists(home):
            return False
        fd = self._volume.open_file(path, os.O_RDONLY)
        try:
            whole = _proven(fd, path)
        finally:
            os.close(fd)
        if whole:
            self._volume.rename(path, home)
            fsync_dir(self._volume.dir_fd, home.rpartition("/")[0])
        return whole

    # Before the tail passes

    def save(self, work: TapeWork, head: ChunkHead, held: Held) -> bool:
        """See that all held rows of a chunk that is still the track's lie in its held chunk.

        False: for want of a free file it is kept whole for now, so that the ring goes on; it is to be cut when there is one.
        """
        path = self._original(work, head.chunk)
        if not self._volume.exists(path):       # a damaged chunk that `check` has taken away
            return True
        chunk = self._read(path)
        wanted = held.rows(work, chunk.head.first_row, chunk.rows) if chunk is not None else None
        if chunk is None or wanted is None or wanted.all():
            self._link(work, head.chunk)
            return True
        have = self._read(self._path(work, head.chunk)) if head.chunk in self.numbers(work) else None
        if not wanted.any() or (have is not None and _covers(have, chunk, wanted)):
            return True
        if self._cut(work, path, chunk, wanted):
            return True
        self._link(work, head.chunk)
        return False

    def _link(self, work: TapeWork, number: int) -> None:
        """Keep all of the chunk: its file gets a second name and is nobody's to clear."""
        path = self._original(work, number)
        if number in self.numbers(work) and self._volume.names(path) > 1:
            return
        self._prepare(work, number)
        new = self._path(work, number) + NEW
        self._volume.unlink(new)
        self._volume.link(path, new)
        self._put(work, number)

    def _cut(self, work: TapeWork, path: str, chunk: HeldChunk, wanted: Bools) -> bool:
        """A held chunk with the wanted rows of `chunk`, which lies at `path`; False if there is no file for it."""
        number, kind = chunk.head.chunk, work.chunk_class
        self._prepare(work, number)
        blank = self._pool.blank(kind, self._path(work, number) + NEW, self._clock.mono_ns())
        if blank is None:
            return False
        fd, generation = blank
        source = self._volume.open_file(path, os.O_RDONLY)
        try:
            heldfile.write(source, chunk, wanted, fd, generation)
        finally:
            os.close(source)
            os.close(fd)
        step(Step.HELD_WRITTEN)
        self._put(work, number)
        return True

    def _prepare(self, work: TapeWork, number: int) -> None:
        camera, track = work.ident.camera, work.ident.name + HELD
        create_track(self._volume.dir_fd, camera, track, work.ident.kind, durable=True)    # chunks are named here before the next commit
        extend_shape(self._volume.dir_fd, camera, track, number + 1)

    def _put(self, work: TapeWork, number: int) -> None:
        """The new file takes its place; the one that was there goes."""
        path = self._path(work, number)
        if number in self.numbers(work):
            self._pool.retire(path, work.chunk_class, self._clock.mono_ns(), Past([], 1))
            self._count(work, number, -1)
        self._volume.rename(path + NEW, path)
        fsync_dir(self._volume.dir_fd, self._folder(work))
        self._count(work, number, 1)
        step(Step.HELD_NAMED)

    def whole(self, work: TapeWork, head: ChunkHead, held: Held) -> bool:
        """True if every row of the chunk is held."""
        if not held.overlaps(head.first_ns, head.end_ns):
            return False
        chunk = self._read(self._original(work, head.chunk))
        return bool(held.rows(work, chunk.head.first_row, chunk.rows).all()) if chunk is not None else True

    def kept(self, work: TapeWork, head: ChunkHead) -> tuple[int, int]:
        """Rows and bytes of the chunk that are saved."""
        if head.chunk not in self.numbers(work):
            return 0, 0
        chunk = self._read(self._path(work, head.chunk))
        if chunk is None:
            return head.rows, head.used_bytes
        return int(chunk.there.sum()), int(chunk.rows["bytes"].sum())

    # What is there

    def older(self, work: TapeWork, hold: Hold, tail_row: int) -> list[Older]:
        """Saved rows below the tail that lie in a hold's time."""
        found: list[Older] = []
        stretches = hold.stretches(work.ident.camera, work.ident.name)
        for number in sorted(self.numbers(work)):
            chunk = self._read(self._path(work, number))
            if chunk is None or not any(start <= chunk.head.end_ns and end >= chunk.head.first_ns for start, end in stretches):
                continue
            numbers = chunk.head.first_row + np.arange(len(chunk.rows))
            for first, after in heldfile.runs(chunk.there & overlapping(chunk.rows, stretches) & (numbers < tail_row)):
                rows = chunk.rows[first:after]
                found.append(Older(int(numbers[first]), int(numbers[after - 1]) + 1, int(rows["t_ns"][0]), int(row_ends(rows[-1:])[0])))
        return found

    # After a release

    def tidy(self, work: TapeWork, number: int, held: Held) -> bool:
        """Leave of a held chunk what is still held; False while there is no file for that."""
        path = self._path(work, number)
        chunk = self._read(path) if number in self.numbers(work) else None
        if chunk is None:
            return True         # damaged: nobody can tell what of it is held
        wanted = held.rows(work, chunk.head.first_row, chunk.rows) & chunk.there
        lost = chunk.there & ~wanted
        if not lost.any():
            return True
        if wanted.any():
            return self._shrink(work, path, chunk, wanted, lost)
        self._tell(work, chunk, lost)
        self._pool.retire(path, work.chunk_class, self._clock.mono_ns(), Past.of((work.ident.camera, work.ident.name + HELD, number)))
        self._count(work, number, -1)
        return True

    def _shrink(self, work: TapeWork, path: str, chunk: HeldChunk, wanted: Bools, lost: Bools) -> bool:
        if not self._pool.free(work.chunk_class) and not self._pool.room(work.chunk_class):
            return False
        self._tell(work, chunk, lost)
        return self._cut(work, path, chunk, wanted)

    def _tell(self, work: TapeWork, chunk: HeldChunk, lost: Bools) -> None:
        """The ledger says what goes, unless the rows are still the track's: then it will when their chunk goes."""
        if work.holds(chunk.head.chunk):
            return
        rows, first = chunk.rows[lost], chunk.head.first_row + int(np.flatnonzero(lost)[0])
        deletion = Deletion(chunk.head.chunk, first, len(rows), int(rows["t_ns"][0]), int(row_ends(rows[-1:])[0]), int(rows["bytes"].sum()),
                            self._clock.wall_ns(), DeletionCause.RELEASED, "no hold keeps it any more")
        self._ledger.say(held_ident(work.ident), deletion)

    # Files

    def _folder(self, work: TapeWork) -> str:
        return f"{held_path(work.ident.camera, work.ident.name)}/c"

    def _path(self, work: TapeWork, number: int) -> str:
        return f"{self._folder(work)}/{number}"

    def _original(self, work: TapeWork, number: int) -> str:
        return f"{track_path(work.ident.camera, work.ident.name)}/c/{number}"

    def _count(self, work: TapeWork, number: int, by: int) -> None:
        numbers = self._chunks.setdefault((work.ident.camera, work.ident.name), set())
        (numbers.add if by > 0 else numbers.discard)(number)
        self.nbytes += by * work.chunk_class.file_bytes

    def _read(self, path: str) -> HeldChunk | None:
        """A chunk's rows; None if they cannot be told."""
        try:
            fd = self._volume.open_file(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return heldfile.read(fd, path)
        except FormatError:
            return None
        finally:
            os.close(fd)


def held_ident(ident: Tape) -> Tape:
    """How the ledger names what a hold had kept of a tape."""
    return replace(ident, name=ident.name + HELD)


def _covers(have: HeldChunk, chunk: HeldChunk, wanted: Bools) -> bool:
    """True if a held chunk is one of the original, and has all wanted rows."""
    return have.head.digest == chunk.head.digest and not (wanted & ~have.there).any()


def _proven(fd: int, path: str) -> bool:
    """True if every row of a held chunk is that of its leaf."""
    try:
        chunk = heldfile.read(fd, path)
    except FormatError:
        return False
    if chunk.footer.digest() != chunk.head.digest:
        return False
    return all(chunk.proves(index, _bytes(fd, chunk, index)) for index in np.flatnonzero(chunk.there).tolist())


def _bytes(fd: int, chunk: HeldChunk, index: int) -> bytes:
    row = chunk.rows[index]
    return read_at(fd, int(row["bytes"]), PAGE + int(row["offset"]) - chunk.head.start_offset)
