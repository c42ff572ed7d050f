"""The .ring and .frames files of a track, writing side: made whole, repaired by recovery, replaced by larger ones."""

import os
import struct

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from storage.disk import close_all, read_at, write_at
from storage.layout import FORMAT_VERSION, PAGE, RING_HEAD, RING_MAGIC, ROWS_PER_PAGE, index_path
from storage.steps import Step, step
from storage.volume import Volume, fsync_dir

_HEAD = struct.Struct("<8sHBBI48sQQ")
assert _HEAD.size + 4 == RING_HEAD.itemsize
FIRST_ROWS = 16 << 10           # a new ring: 4.5 hours of rows of 1 s; it grows with the footage
FIRST_FRAMES = 1 << 20
ROW_BYTES = 64
SPARE_SHARE = 32                # of a ring's capacity one part in so many stays free, and it grows by so much


class IndexWriter:
    """One of the two ring files, open for writing. `unit` is 64 (rows) or 1 (entry bytes); positions count units for ever."""

    def __init__(self, volume: Volume, camera: int, track: str, *, frames: bool) -> None:
        self.path = index_path(camera, track, "frames" if frames else "ring")
        self.frames = frames
        self.unit = 1 if frames else ROW_BYTES
        self._volume, self._camera, self._track = volume, camera, track
        self._file = (-1, 0)            # descriptor and capacity change together
        self._outlived = -1
        self._first_row = 0

    @property
    def fd(self) -> int:
        """The file, -1 while none is open."""
        return self._file[0]

    @property
    def capacity(self) -> int:
        """Units that it holds."""
        return self._file[1]

    def open(self) -> bool:
        """Open the file; False if there is none or it is not usable (it is to be made anew)."""
        try:
            fd = self._volume.open_file(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            self._file = (fd, self._check(fd, read_at(fd, RING_HEAD.itemsize, 0)))
        except FormatError:
            os.close(fd)
            return False
        return True

    def create(self, first_row: int, capacity: int = 0, *, durable: bool = True) -> None:
        """Make the file, fully allocated, in place of any other. `durable` on return; else with the commit that first names the tape."""
        capacity = capacity or (FIRST_FRAMES if self.frames else FIRST_ROWS)
        fd = self.make(f"{self.path}.new", first_row, capacity)
        if durable:         # the name changes over last: what the disk has under it is then always a ring
            os.fsync(fd)
        self.adopt(fd, capacity, first_row)
        if durable:
            fsync_dir(self._volume.dir_fd, self.path.rpartition("/")[0])

    def make(self, name: str, first_row: int, capacity: int) -> int:
        """A descriptor of a new ring file under another name."""
        fd = self._volume.open_file(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            os.posix_fallocate(fd, 0, PAGE + capacity * self.unit)
            write_at(fd, self._head(first_row, capacity).ljust(PAGE, b"\0"), 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _head(self, first_row: int, capacity: int) -> bytes:
        body = _HEAD.pack(RING_MAGIC, FORMAT_VERSION, self.frames, 0, self._camera, self._track.encode(), capacity, first_row)
        return body + crc32c(body).to_bytes(4, "little")

    def extends(self, stop: int) -> bool:
        """True if the file itself may grow: nothing up to position `stop` has gone round, so all stays where it is."""
        return stop <= self.capacity

    def larger(self) -> int:
        """The capacity that the ring would have next."""
        return enlarged(self.capacity, frames=self.frames)

    def allocate(self, capacity: int) -> None:
        """Give the file room for `capacity`, durably; `extend` then uses it. OSError, ENOSPC among them: the ring is as it was."""
        os.posix_fallocate(self.fd, 0, PAGE + capacity * self.unit)
        os.fsync(self.fd)

    def extend(self, capacity: int) -> None:
        """Use the room that `allocate` made. The head changes by one small write in place; the next commit makes it durable."""
        write_at(self.fd, self._head(self._first_row, capacity), 0)
        self._file = (self.fd, capacity)

    def adopt(self, fd: int, capacity: int, first_row: int) -> None:
        """Put the file made under the temporary name in place. The old descriptor is open until `let_go`: somebody may be reading by it."""
        self._volume.rename(f"{self.path}.new", self.path)
        step(Step.RING_RENAMED)
        self._outlived, self._file, self._first_row = self._file[0], (fd, capacity), first_row

    def let_go(self) -> None:
        """Close the descriptor of the file before the last `adopt`. The thread that reads rows, between two reads."""
        fd, self._outlived = self._outlived, -1
        close_all(fd)

    def _check(self, fd: int, raw: bytes) -> int:
        if len(raw) < RING_HEAD.itemsize or crc32c(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise FormatError("no ring head", where=self.path)
        magic, version, frames, _, camera, track, capacity, self._first_row = _HEAD.unpack(raw[:-4])
        right = (magic, version, frames, camera, track.rstrip(b"\0")) == (
            RING_MAGIC, FORMAT_VERSION, int(self.frames), self._camera, self._track.encode())
        size = PAGE + capacity * self.unit
        if not right or capacity == 0 or capacity * self.unit % PAGE or os.fstat(fd).st_size < size:
            raise FormatError("a ring of another track, format or size", where=self.path)
        return int(capacity)

    def write(self, position: int, data: bytes) -> None:
        """Write `data` from `position` on (of the endless space)."""
        put(self.fd, self.capacity * self.unit, position * self.unit, data)

    def mend(self, position: int, data: bytes) -> None:
        """Let the ring hold `data` from `position` on; what is there already is not written again."""
        if self.read(position, len(data) // self.unit) != data:
            self.write(position, data)

    def read(self, position: int, count: int) -> bytes:
        """`count` units from `position` on."""
        fd, capacity = self._file
        return take(fd, capacity * self.unit, position * self.unit, count * self.unit)

    def copy_to(self, fd: int, capacity: int, start: int, stop: int) -> None:
        """Copy units [start, stop) into another ring of the same kind."""
        block = (1 << 20) // self.unit
        for at in range(start, stop, block):
            count = min(block, stop - at)
            put(fd, capacity * self.unit, at * self.unit, self.read(at, count))

    def close(self) -> None:
        """Close the descriptors."""
        close_all(self.fd, self._outlived)
        self._file, self._outlived = (-1, 0), -1


def enlarged(capacity: int, *, frames: bool) -> int:
    """The capacity that a ring of `capacity` units grows to, whole pages."""
    least, page = (FIRST_FRAMES, PAGE) if frames else (FIRST_ROWS, ROWS_PER_PAGE)
    return capacity + max(capacity // SPARE_SHARE // page * page, least)


def is_full(used: int, capacity: int) -> bool:
    """True if a ring should grow before it holds `used` units."""
    return used > capacity - capacity // SPARE_SHARE


def put(fd: int, size: int, position: int, data: bytes) -> None:
    """Write `data` at `position` of the endless space behind a ring of `size` bytes."""
    view = memoryview(data)
    while view:
        at = position % size
        part = view[:size - at]
        write_at(fd, part, PAGE + at)
        view, position = view[len(part):], position + len(part)


def take(fd: int, size: int, position: int, count: int) -> bytes:
    """Read `count` bytes at `position` of the endless space behind a ring of `size` bytes."""
    at = position % size
    first = min(count, size - at)
    return read_at(fd, first, PAGE + at) + (read_at(fd, count - first, PAGE) if count > first else b"")


def row_is(row: bytes, number: int) -> bool:
    """True if these 64 bytes are the valid row `number`."""
    return len(row) == ROW_BYTES and crc32c(number.to_bytes(8, "little") + row[:60]) == int.from_bytes(row[60:], "little")
