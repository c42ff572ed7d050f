"""Free chunk files of a slot, per class, first in first out; and the quarantine that retired ones pass through.

A file is free when its head says camera 0. On the way from a track to the pool it lies in quarantine until `quarantine_s` have passed
(foreign readers) and nobody holds it locked (ours); only then its head is cleared.
"""

import contextlib
import fcntl
import os
import time
from collections import deque
from dataclasses import dataclass, replace

from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, parse_head
from storage.chunkpage import free_head, head_page, taken_head
from storage.disk import read_at, write_at, zero_range
from storage.erasure import Erasure, Past
from storage.layout import CLASSES, PAGE, ChunkClass, track_path
from storage.numbered import number_in
from storage.steps import Step, step
from storage.volume import Volume

STALE_NS = 600_000_000_000      # what has been in the pool so long is overwritten with zeros
LATER_LIFE = 1 << 48            # of a file whose head is damaged: above any generation that it can have had


@dataclass(slots=True)
class Free:
    """A file in the pool. `past`: what it still holds; None: zeros only."""

    name: str
    since_ns: int
    past: Past | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A retired file and when (CLOCK_MONOTONIC) it came here."""

    name: str
    chunk_class: ChunkClass
    since_ns: int
    past: Past | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk that a tape may go on in: head written, in its place, index empty."""

    fd: int
    number: int
    head: ChunkHead
    past: Past | None
    since_ns: int


class Pool:
    """Pool and quarantine of one slot. Only the keeper's thread calls it. `limit_bytes` bounds all chunk files of the slot together."""

    def __init__(self, volume: Volume, slot: int, limit_bytes: int, quarantine_s: float, erasure: Erasure) -> None:
        self._volume, self._erasure = volume, erasure
        self._pool, self._quarantine = f"slot-{slot}/pool", f"slot-{slot}/quarantine"
        self.limit_bytes, self.total_bytes = limit_bytes, 0
        self._bytes_max = self._share_bytes = limit_bytes
        self.quarantine_ns = round(quarantine_s * 1e9)
        self._free: dict[int, deque[Free]] = {c.number: deque() for c in CLASSES}
        self.quarantined: list[Quarantined] = []
        self._serial = 0

    def free(self, chunk_class: ChunkClass) -> int:
        """Files of the class in the pool."""
        return len(self._free[chunk_class.number])

    def coming(self, chunk_class: ChunkClass) -> int:
        """Files of the class in quarantine."""
        return sum(q.chunk_class is chunk_class for q in self.quarantined)

    def room(self, chunk_class: ChunkClass) -> bool:
        """True if another file of the class may be made."""
        return self.total_bytes + chunk_class.file_bytes <= self.limit_bytes

    def look(self, free_min: float, sharers: int) -> None:
        """Set the limit anew: the slot's share, one of `sharers`, or less, so that `free_min` of the file system stays free.

        A file system that was full may have room again, where other slots have shrunk.
        """
        self.limit_bytes = self._share_bytes = self._bytes_max // sharers
        if free_min:
            fs = os.fstatvfs(self._volume.dir_fd)
            spare = fs.f_bavail * fs.f_frsize - round(free_min * fs.f_blocks * fs.f_frsize)
            self.limit_bytes = max(0, min(self._share_bytes, self.total_bytes + spare // sharers))

    @property
    def surplus(self) -> bool:
        """True if the slot has more than it may: others came to the volume, or the file system is fuller than it should be."""
        return self.total_bytes > self.limit_bytes

    @property
    def crowded(self) -> bool:
        """True if that is for the file system's sake."""
        return self.limit_bytes < self._share_bytes

    def make(self, chunk_class: ChunkClass, mono_ns: int, *, filled: bool) -> bool:
        """Make one more free file; `filled`: with written extents. False (and the limit lowered) if the disk is full."""
        name = self._new_name(chunk_class)
        path, temporary = f"{self._pool}/{name}", f"{self._pool}/{name}.new"
        try:
            fd = self._volume.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                os.posix_fallocate(fd, 0, chunk_class.file_bytes)
                step(Step.POOL_CREATED)
                if filled:
                    zero_range(fd, 0, chunk_class.file_bytes)
                step(Step.POOL_FILLED)
                write_at(fd, head_page(free_head(chunk_class, 0)), 0)
            finally:
                os.close(fd)
        except OSError as error:
            self._volume.unlink(temporary)
            if error.errno in {28, 122}:     # ENOSPC, EDQUOT: the file system is smaller than bytes_max says
                self.limit_bytes = self.total_bytes
                return False
            raise
        self._volume.rename(temporary, path)
        step(Step.POOL_ADDED)
        self.total_bytes += chunk_class.file_bytes
        self._free[chunk_class.number].append(Free(name, mono_ns, None))
        return True

    def take(self, chunk_class: ChunkClass, camera: int, track: str, number: int, mono_ns: int, *, slow: bool) -> Prepared | None:
        """Turn the oldest free file into chunk `number` of a track; None if there is none. `slow`: zeros first, unless it holds them."""
        if not self._free[chunk_class.number]:
            return None
        free = self._free[chunk_class.number].popleft()
        path = f"{self._pool}/{free.name}"
        if slow:
            self._zero(free, path, chunk_class)
        fd = self._volume.open_file(path, os.O_RDWR)
        try:
            head = taken_head(parse_head(read_at(fd, PAGE, 0), path), camera, track, number)
            write_at(fd, head_page(head), 0)
            step(Step.HEAD_TAKEN)
            self._make_way(f"{track_path(camera, track)}/c/{number}")
            self._volume.rename(path, f"{track_path(camera, track)}/c/{number}")
            step(Step.RENAMED_TAKEN)
        except BaseException:
            os.close(fd)
            raise
        return Prepared(fd, number, head, free.past, mono_ns)

    def _make_way(self, path: str) -> None:
        """Give a file that lies where a chunk is to come another name, which `watchroom check` names: it is not ours to replace."""
        with contextlib.suppress(FileNotFoundError):
            self._volume.names(path)
            self._volume.rename(path, f"{path}.found-{time.time_ns()}")

    def clean(self, prepared: Prepared, chunk_class: ChunkClass) -> Prepared:
        """The same chunk with nothing left of what its file held before. Nobody may have begun it."""
        zero_tail(self._volume, f"{track_path(prepared.head.camera, prepared.head.track)}/c/{prepared.number}", chunk_class)
        self._erasure.overwritten(prepared.past)
        return replace(prepared, past=None)

    def blank(self, chunk_class: ChunkClass, path: str, mono_ns: int) -> tuple[int, int] | None:
        """A free file of zeros moved to `path`: its descriptor, and the generation that its head must bear; None if there is none."""
        if not self._free[chunk_class.number] and not (self.room(chunk_class) and self.make(chunk_class, mono_ns, filled=False)):
            return None
        free = self._free[chunk_class.number].popleft()
        self._zero(free, f"{self._pool}/{free.name}", chunk_class)
        fd = self._volume.open_file(f"{self._pool}/{free.name}", os.O_RDWR)
        try:
            generation = parse_head(read_at(fd, PAGE, 0), free.name).generation + 1
            self._volume.rename(f"{self._pool}/{free.name}", path)
        except BaseException:
            os.close(fd)
            raise
        return fd, generation

    def retire(self, path: str, chunk_class: ChunkClass, mono_ns: int, past: Past | None) -> None:
        """Move a chunk file out of its track into quarantine. Its tail move must be durable. One that a hold keeps only loses this name."""
        if self._volume.names(path) > 1:
            self._volume.unlink(path)
            self._erasure.overwritten(past)
            return
        name = self._new_name(chunk_class)
        self._volume.rename(path, f"{self._quarantine}/{name}")
        step(Step.QUARANTINED)
        self.quarantined.append(Quarantined(name, chunk_class, mono_ns, past))

    def clear_due(self, mono_ns: int) -> int:
        """Clear and pool what has been in quarantine long enough and nobody reads; how many."""
        done = 0
        for entry in list(self.quarantined):
            if mono_ns - entry.since_ns >= self.quarantine_ns and self._clear(entry, mono_ns):
                self.quarantined.remove(entry)
                done += 1
        return done

    def _clear(self, entry: Quarantined, mono_ns: int) -> bool:
        path = f"{self._quarantine}/{entry.name}"
        fd = self._volume.open_file(path, os.O_RDWR)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            head = _old_head(fd, path)
            _zero_footer(fd, head, entry.chunk_class)
            write_at(fd, head_page(free_head(entry.chunk_class, head.generation if head is not None else LATER_LIFE)), 0)
            step(Step.CLEARED)
            name = self._new_name(entry.chunk_class)
            self._volume.rename(path, f"{self._pool}/{name}")
            step(Step.POOLED)
        finally:
            os.close(fd)
        self._free[entry.chunk_class.number].append(Free(name, mono_ns, entry.past))
        return True

    def zero_stale(self, mono_ns: int) -> bool:
        """Overwrite one file that has been free for long and still holds footage; False if there is none."""
        for number, waiting in self._free.items():
            for free in waiting:
                if free.past is not None and mono_ns - free.since_ns >= STALE_NS:
                    self._zero(free, f"{self._pool}/{free.name}", CLASSES[number])
                    return True
        return False

    def _zero(self, free: Free, path: str, chunk_class: ChunkClass) -> None:
        """Overwrite a free file unless it holds zeros only."""
        past, free.past = free.past, None
        if past is not None:
            zero_tail(self._volume, path, chunk_class)
            self._erasure.overwritten(past)

    def unlink_one(self, chunk_class: ChunkClass) -> bool:
        """Overwrite and remove one free file (its space is wanted for another class); False if there is none."""
        if not self._free[chunk_class.number]:
            return False
        free = self._free[chunk_class.number].popleft()
        self._zero(free, f"{self._pool}/{free.name}", chunk_class)
        self._volume.unlink(f"{self._pool}/{free.name}")
        self.total_bytes -= chunk_class.file_bytes
        return True

    def scan(self, mono_ns: int) -> list[tuple[str, ChunkHead]]:
        """After a start: take in what lies in pool and quarantine. Returns the files whose head still names a track: (path, head).

        The caller has them either `restore`d or cleared by `retire`. Temporary and foreign files are removed.
        """
        named = []
        for folder in (self._pool, self._quarantine):
            for name in self._volume.list_files(folder):
                path = f"{folder}/{name}"
                head = self._head(path)
                if head is None:
                    self._volume.unlink(path)
                    continue
                self._serial = max(self._serial, _serial(name))
                if head.camera:
                    named.append((path, head))
                elif folder == self._pool:
                    self._free[head.chunk_class.number].append(Free(name, mono_ns, self._erasure.nameless()))
                else:
                    self.quarantined.append(Quarantined(name, head.chunk_class, mono_ns, self._erasure.nameless()))
                self.total_bytes += head.chunk_class.file_bytes
        return named

    def _head(self, path: str) -> ChunkHead | None:
        if path.endswith(".new"):
            return None
        fd = self._volume.open_file(path, os.O_RDONLY)
        try:
            head = parse_head(read_at(fd, PAGE, 0), path)
            return head if os.fstat(fd).st_size == head.chunk_class.file_bytes else None
        except FormatError:
            return None
        finally:
            os.close(fd)

    def _new_name(self, chunk_class: ChunkClass) -> str:
        self._serial += 1
        return f"{chunk_class.name}-{self._serial:010d}"


def zero_tail(volume: Volume, path: str, chunk_class: ChunkClass) -> None:
    """Zeros over everything behind the head page of a chunk file."""
    fd = volume.open_file(path, os.O_RDWR)
    try:
        zero_range(fd, PAGE, chunk_class.file_bytes)
    finally:
        os.close(fd)


def _old_head(fd: int, path: str) -> ChunkHead | None:
    """The head of a retired file; None if it is damaged."""
    try:
        return parse_head(read_at(fd, PAGE, 0), path)
    except FormatError:
        return None


def _zero_footer(fd: int, head: ChunkHead | None, chunk_class: ChunkClass) -> None:
    """Zeros over what a sealed chunk's footer says of its rows."""
    count = head.footer_bytes if head is not None else chunk_class.footer_bytes
    zero_range(fd, chunk_class.footer_start, chunk_class.footer_start + count)


def _serial(name: str) -> int:
    return number_in(name.rpartition("-")[2]) or 0
