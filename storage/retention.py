"""What must go, and what may go to make room: rows past their days, chunks beyond some bytes, the oldest of all when the volume is full.

Reads and chooses only. storage/retainer.py gives the orders.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from recorder.base.errors import FormatError
from recorder.base.rulebook import Quota
from storage.chunkfile import ChunkHead, parse_head
from storage.disk import read_at
from storage.layout import PAGE, track_path
from storage.tapebook import StandIn, row_end_ns
from storage.tapework import TapeWork
from storage.volume import Volume


@dataclass(frozen=True, slots=True)
class Usage:
    """What a track has on a volume, and the UTC at which the oldest of it begins."""

    camera: int
    track: str
    nbytes: int
    first_ns: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that may go: the oldest of its track that is still in sight. `young`: a minimum speaks for it."""

    young: bool
    end_ns: int
    work: TapeWork
    head: ChunkHead

    def __lt__(self, other: "Candidate") -> bool:
        """True if it is taken before the other."""
        return (self.young, self.end_ns, self.work.ident.tape) < (other.young, other.end_ns, other.work.ident.tape)

    @property
    def end_row(self) -> int:
        """The row after its last."""
        return self.head.first_row + self.head.rows


class Floors:
    """Minima in bytes: how much each scope has now, as far as chunks are taken from it by `take`."""

    def __init__(self, quotas: Iterable[Quota], usages: Iterable[Usage]) -> None:
        known = list(usages)
        self._left = {quota: sum(u.nbytes for u in known if quota.covers(u.camera, u.track)) for quota in quotas if quota.bytes_min}

    def keeps(self, work: TapeWork) -> bool:
        """True if one chunk less of this track would be less than a minimum."""
        return any(quota.covers(work.ident.camera, work.ident.name) and left - work.chunk_class.file_bytes < quota.bytes_min
                   for quota, left in self._left.items())

    def take(self, work: TapeWork) -> None:
        """One of its chunks goes."""
        for quota in self._left:
            if quota.covers(work.ident.camera, work.ident.name):
                self._left[quota] -= work.chunk_class.file_bytes


def usage(work: TapeWork) -> Usage:
    """What a tape of this slot has; chunks that have lost their last row count no more."""
    count = work.next_number - max(work.first_chunk, _tail_chunk(work))
    first_ns = 0
    if (raw := work.row(work.core.tail_row) if work.core.tail_row < work.core.next_row else None) is not None:
        first_ns = int.from_bytes(raw[:8], "little", signed=True)
    return Usage(work.ident.camera, work.ident.name, max(0, count) * work.chunk_class.file_bytes, first_ns)


def chunk_head(volume: Volume, work: TapeWork, number: int) -> ChunkHead | None:
    """The head of a track's chunk; None if the file is not there or is not that chunk."""
    path = f"{track_path(work.ident.camera, work.ident.name)}/c/{number}"
    try:
        fd = volume.open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        head = parse_head(read_at(fd, PAGE, 0), path)
    except FormatError:
        return None
    finally:
        os.close(fd)
    return head if (head.camera, head.track, head.chunk) == (work.ident.camera, work.ident.name, number) else None


def expired_row(work: TapeWork, limit_ns: int) -> int:
    """The first durable row that ends after `limit_ns`; everything before it must go.

    A row of which no copy is left has certainly ended when its chunk has, or when the next readable row begins, or with the tape.
    """
    low, high = work.core.tail_row, min(work.core.durable[1], work.core.provisional_row)
    below_ns = work.core.end_ns         # rows below `high` have ended by then
    while low < high:
        middle = (low + high) // 2
        start_ns, end_ns = _span(work, middle, high, below_ns)
        if end_ns <= limit_ns:
            low = middle + 1
        else:
            high, below_ns = middle, min(start_ns, below_ns)
    return low


def _span(work: TapeWork, row: int, stop: int, below_ns: int) -> tuple[int, int]:
    """When a row begins and ends, at the latest. Rows below `stop` have ended by `below_ns`."""
    raw = work.row(row)
    if raw is not None:
        return _t_ns(raw), row_end_ns(raw)
    head = work.lost.head(row)
    if head is not None:
        return head.end_ns, head.end_ns
    after = next((raw for number in range(row + 1, stop) if (raw := work.ring_row(number)) is not None), None)
    latest_ns = _t_ns(after) if after is not None else below_ns
    return latest_ns, latest_ns


def _t_ns(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "little", signed=True)


def tail_offset(work: TapeWork, row: int) -> int:
    """The tape offset below which nothing is in sight when rows below `row` are not."""
    return max(_least_offset(work, row), work.core.tail_offset)


def _least_offset(work: TapeWork, row: int) -> int:
    """Where a row begins on the tape; of one that is lost, or to come, so much as is certain."""
    if row < work.core.next_row and (raw := work.row(row)) is not None:
        return int.from_bytes(raw[16:24], "little")
    if row and (raw := work.row(row - 1)) is not None:
        return int.from_bytes(raw[16:24], "little") + int.from_bytes(raw[24:28], "little")
    if (head := work.lost.head(row)) is not None:
        return head.start_offset
    head = work.lost.head(row - 1) if row else None
    return head.start_offset + head.used_bytes if head is not None else 0


def start_ns(work: TapeWork, row: int) -> int:
    """UTC at which a closed row begins; 0 if it is not there."""
    raw = work.row(row) if row < work.core.next_row else None
    return int.from_bytes(raw[:8], "little", signed=True) if raw is not None else 0


def out_of_sight(volume: Volume, work: TapeWork, limit: int) -> list[ChunkHead]:
    """The track's oldest sealed chunks, at most `limit`, all of whose rows lie below its tail."""
    found: list[ChunkHead] = []
    known = work.first_head
    if known is not None and known.chunk == work.first_chunk and known.first_row + known.rows > work.core.tail_row:
        return found        # as nearly always, and asked twice a second of every track: no row is read for it
    if work.first_chunk >= _tail_chunk(work) and work.core.tail_row < work.core.next_row:
        return found
    while len(found) < limit and (head := retirable(volume, work, work.first_chunk + len(found))) is not None:
        if head.first_row + head.rows > work.core.tail_row:
            break
        found.append(head)
    return found


def in_sight(volume: Volume, work: TapeWork) -> Iterator[ChunkHead]:
    """The track's sealed chunks that have a row in sight, the oldest first."""
    number = work.first_chunk
    while (head := retirable(volume, work, number)) is not None:
        if head.first_row + head.rows > work.core.tail_row:
            yield head
        number += 1


def retirable(volume: Volume, work: TapeWork, number: int) -> ChunkHead | None:
    """The head of a chunk whose sealing is durable, else None.

    A chunk behind the sealed ones that is damaged, or could not be sealed, goes when all rows before the next good one may.
    """
    stop, stop_row = _first_pending(work)
    if number >= stop:
        return None
    head = work.first_head if work.first_head is not None and work.first_head.chunk == number else chunk_head(volume, work, number)
    if head is None or not head.sealed:
        return _stand_in(volume, work, number, stop, stop_row)
    if number == work.first_chunk:
        work.first_head = head
    return head if head.first_row + head.rows <= work.safe_row else None


def _first_pending(work: TapeWork) -> tuple[int, int]:
    """Number and first row of the first chunk that is open or waits for its seal, or of the one that comes next."""
    closed, chunk = list(work.closed), work.chunk
    if closed:
        return closed[0].number, closed[0].first_row
    return (chunk.number, chunk.first_row) if chunk is not None else (work.next_number, work.core.next_row)


def _stand_in(volume: Volume, work: TapeWork, number: int, stop: int, stop_row: int) -> ChunkHead | None:
    """What the head of a chunk that has none would say: it ends where the next good chunk begins, or the first that is not closed.

    Read once for all that lie before that one; again when more is sealed.
    """
    asked, known = (stop, work.safe_row), work.stand_in
    if known is None or known.asked != asked or not known.first <= number < known.after:
        after, head = _read_stand_in(volume, work, number, stop, stop_row)
        work.stand_in = known = StandIn(asked, number, after, head)
    return replace(known.head, chunk=number) if known.head is not None else None


def _read_stand_in(volume: Volume, work: TapeWork, number: int, stop: int, stop_row: int) -> tuple[int, ChunkHead | None]:
    """The chunk up to which it counts, and the head."""
    for later in range(number + 1, stop):
        head = chunk_head(volume, work, later)
        if head is not None and head.sealed:
            return later, _ending(work, head.first_row, head.first_ns) if head.first_row + head.rows <= work.safe_row else None
    return stop, _ending(work, stop_row, start_ns(work, stop_row) or work.core.end_ns) if stop_row <= work.safe_row else None


def _ending(work: TapeWork, row: int, end_ns: int) -> ChunkHead:
    """The head of a chunk without rows of its own that ends before this row, at this time."""
    return ChunkHead(work.chunk_class, True, work.ident.camera, work.ident.name, 0, 0, row, 0, 0, 0, end_ns, end_ns, bytes(32))


def _tail_chunk(work: TapeWork) -> int:
    """The chunk that holds the oldest row in sight: the tail may have been moved before that row came, to the end of the chunk before."""
    return tail_offset(work, work.core.tail_row) // work.chunk_class.tape_bytes
