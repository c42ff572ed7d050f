"""The slot's journal: segments of one size, pre-written, each record on its own pages, recycled under a higher number.

Record e + 1 is written only after the syncfs of e has returned, so every valid record but the last is acknowledged. A record's pages are
never written again while it is needed. Old records in a recycled segment do not lead on from the newest epoch: that is where reading ends.
"""

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from storage.disk import flush_disk, read_at, write_at, zero_range
from storage.layout import JOURNAL_MAGIC, PAGE, RECORD_HEAD
from storage.numbered import number_in
from storage.steps import Step, step
from storage.volume import Volume

SEGMENT_BYTES = 8 << 20
BEYOND_BYTES = 64 << 20     # so much is looked through behind a damaged record: no record comes near it
_HEAD = struct.Struct("<IIIIQqI")
assert _HEAD.size + 4 == RECORD_HEAD.itemsize


@dataclass(frozen=True, slots=True)
class Record:
    """One commit as read back."""

    segment: int
    epoch: int
    wall_ns: int
    items: bytes


@dataclass(slots=True)
class Segment:
    """A segment in use: per tape the number after the highest row that a record in it names."""

    number: int
    rows: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordHead:
    """layout.RECORD_HEAD as values."""

    slot: int
    nbytes: int
    epoch: int
    wall_ns: int
    items_crc: int


def pack_record(slot: int, epoch: int, wall_ns: int, items: bytes, *, align: int = PAGE) -> bytes:
    """A record, padded to whole pages."""
    head = _HEAD.pack(JOURNAL_MAGIC, slot, len(items), 0, epoch, wall_ns, crc32c(items))
    record = head + crc32c(head).to_bytes(4, "little") + items
    return record + bytes(-len(record) % align)


def record_head(raw: bytes) -> RecordHead | None:
    """The head that these bytes are; None if they are none."""
    if len(raw) < RECORD_HEAD.itemsize or crc32c(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        return None
    magic, slot, nbytes, _, epoch, wall_ns, items_crc = _HEAD.unpack(raw[:-4])
    return RecordHead(slot, nbytes, epoch, wall_ns, items_crc) if magic == JOURNAL_MAGIC else None


class Journal:
    """The segments of one slot. `append` and `begin_segment`: one thread at a time; `prepare` and `recycle`: another may."""

    def __init__(self, volume: Volume, slot: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._volume, self._slot = volume, slot
        self._dir = f"slot-{slot}/journal"
        self._bytes = segment_bytes
        self.segments: list[Segment] = []
        self._spares: list[int] = []
        self._fd, self._at, self._size = -1, 0, 0
        self._next = 1
        self.damaged = 0        # records found unreadable between two good ones
        self._lock = threading.RLock()     # spares and segments: the keeper prepares and recycles while a commit goes on

    def read(self) -> Iterator[Record]:
        """Every valid record, oldest first. Empty segments found behind the last record become spares."""
        for name in self._volume.list_files(self._dir):
            if name.endswith(".new"):       # a segment that was being made
                self._volume.unlink(f"{self._dir}/{name}")
        return self.records()

    def records(self) -> Iterator[Record]:
        """The same, and nothing on the volume is changed."""
        numbers = segment_numbers(self._volume.list_dir(self._dir))
        epoch = 0
        for number in numbers:
            fd = self._volume.open_file(self._path(number), os.O_RDONLY)
            found = False
            try:
                for record in self._records(fd, number, epoch):
                    if not found:
                        self.segments.append(Segment(number))
                    found, epoch = True, record.epoch
                    yield record
            finally:
                os.close(fd)
            if not found:
                self._spares.append(number)
        self._next = max(numbers, default=0) + 1

    def _records(self, fd: int, number: int, epoch: int) -> Iterator[Record]:
        at, size = 0, os.fstat(fd).st_size
        while at + RECORD_HEAD.itemsize <= size:
            record = self._record(fd, number, at, size)
            leads_on = record is not None and (not epoch or record.epoch == epoch + 1)
            if record is not None and at == 0 and record.epoch > epoch + 1 > 1:
                self.damaged += 1       # a segment is missing; this one begins with a checkpoint
            elif record is None or not leads_on:
                found = self._beyond_damage(fd, number, at, size, epoch)
                if found is None:
                    return
                at, record = found
                self.damaged += 1
            yield record
            epoch = record.epoch
            at += -(-(RECORD_HEAD.itemsize + len(record.items)) // PAGE) * PAGE

    def _beyond_damage(self, fd: int, number: int, at: int, size: int, epoch: int) -> tuple[int, Record] | None:
        """The record after one that was acknowledged and cannot be read any more; None where the journal simply ends.

        Only one is passed over: rows of later records hold what the lost one said, and the entries lie in the frames ring.
        """
        stop = min(size, at + BEYOND_BYTES)
        while epoch and at + RECORD_HEAD.itemsize <= stop:
            record = self._record(fd, number, at, size)
            if record is not None and record.epoch == epoch + 2:
                return at, record
            at += PAGE
        return None

    def _record(self, fd: int, number: int, at: int, size: int) -> Record | None:
        head = record_head(read_at(fd, RECORD_HEAD.itemsize, at))
        if head is None or at + RECORD_HEAD.itemsize + head.nbytes > size:
            return None
        if head.slot != self._slot:
            raise FormatError(f"a record of slot {head.slot}", where=f"{self._path(number)} at {at}", remedy="run watchroom check")
        items = read_at(fd, head.nbytes, at + RECORD_HEAD.itemsize)
        whole = len(items) == head.nbytes and crc32c(items) == head.items_crc
        return Record(number, head.epoch, head.wall_ns, items) if whole else None

    def fits(self, items_bytes: int) -> bool:
        """True if a record of so many bytes of items goes into the open segment."""
        return self._fd >= 0 and self._at + RECORD_HEAD.itemsize + items_bytes + PAGE <= self._size

    def begin_segment(self) -> Segment:
        """Go on in the next segment; the record that comes first in it carries a checkpoint."""
        with self._lock:
            self.prepare()
            number = self._spares.pop(0)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._volume.open_file(self._path(number), os.O_RDWR)
        self._at, self._size = 0, os.fstat(self._fd).st_size
        with self._lock:
            self.segments.append(Segment(number))
            return self.segments[-1]

    def append(self, record: bytes) -> None:
        """Write a packed record; not durable yet. OSError. One larger than a segment makes the segment larger."""
        write_at(self._fd, record, self._at)
        self._at += len(record)
        self._size = max(self._size, self._at)

    def flush(self) -> None:
        """Have the disk write what it holds in its own cache. OSError: something was lost; never try again."""
        flush_disk(self._fd)

    def prepare(self) -> None:
        """See that a spare segment waits."""
        with self._lock:
            if not self._spares:
                self._create()

    def _create(self) -> None:
        number = self._next
        self._next += 1
        temporary = f"{self._path(number)}.new"
        fd = self._volume.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            os.posix_fallocate(fd, 0, self._bytes)
            zero_range(fd, 0, self._bytes)
        finally:
            os.close(fd)
        self._volume.rename(temporary, self._path(number))
        step(Step.SEGMENT_CREATED)
        self._spares.append(number)

    def recycle(self, safe_rows: dict[int, int]) -> None:
        """Segments before the open one whose rows all lie below what the footers hold durably become spares under a new number.

        `safe_rows`: per tape, the row below which everything is in sealed, durable chunks. A checkpoint stands at the start of each
        segment, so the open one carries all that is still open.
        """
        with self._lock:
            while len(self.segments) > 1 and not self._needed(self.segments[0], safe_rows):
                self._free(self.segments[0].number)
                del self.segments[0]
                step(Step.SEGMENT_RECYCLED)

    @staticmethod
    def _needed(segment: Segment, safe_rows: dict[int, int]) -> bool:
        return any(after > safe_rows.get(tape, after) for tape, after in list(segment.rows.items()))

    def _free(self, number: int) -> None:
        if len(self._spares) >= 2:
            self._volume.unlink(self._path(number))
            return
        self._volume.rename(self._path(number), self._path(self._next))
        self._spares.append(self._next)
        self._next += 1

    def close(self) -> None:
        """Close the open segment."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _path(self, number: int) -> str:
        return f"{self._dir}/{segment_name(number)}"


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:08d}"


def segment_numbers(names: Iterable[str]) -> list[int]:
    """The segments among the names of files, the oldest first."""
    numbers = [number for name in names if (number := number_in(name)) is not None and segment_name(number) == name]
    return sorted(numbers)
