"""The .ring and .frames files of a track, read side. A ring is mapped with MADV_RANDOM for searching (a plain map reads 8 MiB ahead of a
cold lookup) and read by pread for copies; nothing hands out a view into it.
"""

import mmap
import os
import time
from typing import Protocol

import numpy as np

from recorder._ext import rowsearch
from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from storage.footage import Rows
from storage.layout import FORMAT_VERSION, PAGE, RING_HEAD, RING_MAGIC, ROW

SMALL_COPY_ROWS = 64
HEAD_TRIES = 10
SEARCHES = 1024         # a few pages each
SWEEP_NS = 100_000_000  # searches in a tight loop keep their pages so long
CAPACITY_AT: int = RING_HEAD.fields["capacity"][1]  # type: ignore[index]


class RowFile(Protocol):
    """Rows by number: a RingFile, or rows that are held (storage/heldtape.py)."""

    def find(self, low: int, high: int, t_ns: int) -> int: ...
    def copy(self, first: int, count: int) -> tuple[Rows, int]: ...
    def read_into(self, first: int, out: Rows) -> None: ...


class EntryFile(Protocol):
    """Entries by position: a FramesFile, or those of held rows."""

    def read(self, start: int, stop: int) -> bytes: ...


class _IndexFile:
    """A ring file opened below the volume's descriptor; it stays readable after it has been replaced by a larger one."""

    frames = 0

    def __init__(self, volume_fd: int, path: str, camera: int, track: str) -> None:
        self.path, self._volume_fd = path, volume_fd
        self._known = 0
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=volume_fd)
        except FileNotFoundError:
            raise FormatError("is missing", where=path, remedy="start the recorder once, it rebuilds the index") from None
        try:
            self._read_head(camera, track)
        except BaseException:
            self.close()
            raise

    def _read_head(self, camera: int, track: str) -> None:
        raw = self._whole_head()
        head = np.frombuffer(raw, RING_HEAD, 1)[0] if len(raw) == RING_HEAD.itemsize else None
        if head is None or bytes(head["magic"]) != RING_MAGIC or crc32c(raw[:-4]) != int(head["crc"]):
            raise FormatError("its head does not hold together", where=self.path, remedy="start the recorder once, it rebuilds the index")
        if int(head["version"]) != FORMAT_VERSION or int(head["frames"]) != self.frames:
            raise FormatError("is of another format", where=self.path, remedy="use the version that wrote it")
        if int(head["camera"]) != camera or bytes(head["track"]) != track.encode():
            raise FormatError("belongs to another track", where=self.path, remedy="run watchroom check")
        stat = os.fstat(self._fd)
        self.identity = (stat.st_dev, stat.st_ino)
        self.capacity, self.first_row = int(head["capacity"]), int(head["first_row"])
        size = self.capacity * (1 if self.frames else ROW.itemsize)
        if self.capacity == 0 or size % PAGE or stat.st_size < PAGE + size:
            raise FormatError("is shorter than its capacity", where=self.path, remedy="start the recorder once, it rebuilds the index")

    def _whole_head(self) -> bytes:
        """The head's bytes, read again while they do not hold together: the file may be growing at this moment."""
        for _ in range(HEAD_TRIES):
            raw = os.pread(self._fd, RING_HEAD.itemsize, 0)
            if crc32c(raw[:-4]) == int.from_bytes(raw[-4:], "little"):
                break
        return raw

    def current(self) -> bool:
        """False once another file bears this one's name, or the file has grown."""
        if os.pread(self._fd, 8, CAPACITY_AT) != self.capacity.to_bytes(8, "little"):
            return False
        try:
            stat = os.stat(self.path, dir_fd=self._volume_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (stat.st_dev, stat.st_ino) == self.identity

    def covers(self, position: int) -> bool:
        """True if everything below `position`, which the live block says is in the ring, is in this very file.

        What was below the mark while this file bore the name and had this capacity is in it, at its place, for good; beyond that a larger
        one may have taken the name, or the file may have grown.
        """
        if position > self._known:
            if not self.current():
                return False
            self._known = position
        return True

    def modified_ns(self) -> int:
        """When the file was written last."""
        return os.fstat(self._fd).st_mtime_ns

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _wrapped(self, buffer: memoryview, position: int, capacity: int) -> int:
        """Fill `buffer` from byte `position` of the endless space; returns the bytes read."""
        at, done = position % capacity, 0
        head = min(len(buffer), capacity - at)
        for part, start in ((buffer[:head], at), (buffer[head:], 0)):
            while len(part):
                got = os.preadv(self._fd, [part], PAGE + start)
                if got == 0:
                    return done
                part, start, done = part[got:], start + got, done + got  # noqa: PLW2901
        return done


class RingFile(_IndexFile):
    """Closed rows, number n at n % capacity."""

    def __init__(self, volume_fd: int, path: str, camera: int, track: str) -> None:
        super().__init__(volume_fd, path, camera, track)
        size = PAGE + self.capacity * ROW.itemsize
        self._map = mmap.mmap(self._fd, size, prot=mmap.PROT_READ)
        self._map.madvise(mmap.MADV_RANDOM)
        self._data = np.frombuffer(self._map, np.uint8)[PAGE:]
        self._marks = np.zeros(4, np.int64)

    def find(self, low: int, high: int, t_ns: int) -> int:
        """Number of the newest valid row of [low, high) that starts at or before `t_ns`; low - 1 if there is none."""
        _RESIDENT.touched(self)
        return rowsearch.find_row(self._data, self.capacity, low, high, t_ns, self._marks)

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        _RESIDENT.forget(self)
        super().close()

    def let_go(self) -> None:
        """Have no page of the map resident; what is needed again comes from the page cache, or from the disk."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def copy(self, first: int, count: int) -> tuple[Rows, int]:
        """`count` rows from number `first` on, and how many of them are valid from the first."""
        out = np.empty(count, ROW)
        if count <= SMALL_COPY_ROWS:
            return out, rowsearch.copy_rows(self._data, self.capacity, first, out.view(np.uint8)) if count else 0
        self.read_into(first, out)
        return out, rowsearch.first_bad(out.view(np.uint8), first)

    def read_into(self, first: int, out: Rows) -> None:
        """Fill `out` with the records from number `first` on, unchecked."""
        view = out.view(np.uint8).data
        done = self._wrapped(view, first * ROW.itemsize, self.capacity * ROW.itemsize)
        view[done:] = bytes(len(view) - done)

    def valid_from(self, first: int) -> int:
        """Number of the first row at or above `first` that is not valid."""
        number, block = first, np.empty(4096, ROW)
        while number - first < self.capacity:
            self.read_into(number, block)
            good = rowsearch.first_bad(block.view(np.uint8), number)
            number += good
            if good < len(block):
                break
        return number


class Resident:
    """Bounds what searched rings keep resident, though the kernel would let it grow: after many searches all that were in them let go.

    One per process, for all its threads: a count lost between two of them does no harm.
    """

    def __init__(self) -> None:
        self._rings: set[RingFile] = set()
        self._searches = 0
        self._swept_ns = 0

    def touched(self, ring: RingFile) -> None:
        """The ring is searched."""
        self._rings.add(ring)
        self._searches += 1
        if self._searches >= SEARCHES:
            self._sweep()

    def forget(self, ring: RingFile) -> None:
        """The ring is closed."""
        self._rings.discard(ring)

    def _sweep(self) -> None:
        self._searches = 0
        now_ns = time.monotonic_ns()
        if now_ns - self._swept_ns < SWEEP_NS:
            return
        self._swept_ns = now_ns
        rings, self._rings = self._rings, set()
        for ring in rings:
            ring.let_go()


_RESIDENT = Resident()


class FramesFile(_IndexFile):
    """Entries of AUs, position p of the endless space at p % capacity."""

    frames = 1

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the endless space; ValueError if that is more than the ring holds."""
        if stop - start > self.capacity:
            raise ValueError("more entries than the ring holds")
        out = bytearray(stop - start)
        done = self._wrapped(memoryview(out), start, self.capacity)
        return bytes(out[:done])
