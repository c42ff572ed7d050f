"""What must go, and when: rows past their days, chunks beyond a track's bytes, and the oldest of all when the volume is full."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, parse_head
from storage.disk import read_at
from storage.items import Deletion
from storage.layout import PAGE, ChunkClass, track_path
from storage.tapebook import row_end_ns
from storage.tapework import TapeWork
from storage.volume import Volume

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class TailTo:
    """Where a track's tail goes, and the chunks that go with it."""

    row: int
    offset: int
    start_ns: int
    deletions: list[Deletion]


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


def expired_row(work: TapeWork, now_ns: int) -> int:
    """The first durable row that ends after the track's days; everything before it must go."""
    limit_ns = now_ns - round(work.rule.days * DAY_NS)
    low, high = work.core.tail_row, min(work.core.durable[1], work.core.provisional_row)
    while low < high:
        middle = (low + high) // 2
        row = work.row(middle)
        if row is not None and row_end_ns(row) > limit_ns:
            high = middle
        else:
            low = middle + 1
    return low


def by_days(volume: Volume, work: TapeWork, now_ns: int) -> TailTo | None:
    """The tail move that the track's days ask for; None if there is nothing to do."""
    row = expired_row(work, now_ns)
    if row <= work.core.tail_row:
        return None
    deletions, number = [], work.first_chunk
    while (head := _retirable(volume, work, number)) is not None and head.first_row + head.rows <= row:
        deletions.append(_deletion(head))
        number += 1
    return _tail(work, row, deletions)


def by_chunks(volume: Volume, work: TapeWork, count: int) -> TailTo | None:
    """The tail move that retires the track's `count` oldest sealed chunks (fewer if fewer are sealed); None if there is none."""
    deletions: list[Deletion] = []
    while len(deletions) < count and (head := _retirable(volume, work, work.first_chunk + len(deletions))) is not None:
        deletions.append(_deletion(head))
    if not deletions:
        return None
    return _tail(work, max(deletions[-1].first_row + deletions[-1].rows, work.core.tail_row), deletions)


def over_bytes(work: TapeWork) -> int:
    """How many chunks the track has beyond its `bytes_max`."""
    if not work.rule.bytes_max:
        return 0
    return max(0, work.next_number - work.first_chunk - max(1, work.rule.bytes_max // work.chunk_class.file_bytes))


def oldest(volume: Volume, works: Iterable[TapeWork], chunk_class: ChunkClass) -> TapeWork | None:
    """The track of this class whose oldest sealed chunk ended first."""
    found: list[tuple[int, int, TapeWork]] = []
    for work in works:
        if work.chunk_class is chunk_class:
            head = _retirable(volume, work, work.first_chunk)
            if head is not None:
                found.append((head.end_ns, work.ident.tape, work))
    return min(found, key=lambda f: f[:2])[2] if found else None


def _retirable(volume: Volume, work: TapeWork, number: int) -> ChunkHead | None:
    """The head of a chunk whose sealing is durable, else None.

    A chunk behind the sealed ones that is damaged, or could not be sealed, goes when all rows before the next good one may.
    """
    pending = [chunk.number for chunk in list(work.closed)] + ([work.chunk.number] if work.chunk is not None else [work.next_number])
    if number >= min(pending):
        return None
    head = work.first_head if work.first_head is not None and work.first_head.chunk == number else chunk_head(volume, work, number)
    if head is None or not head.sealed:
        return _stand_in(volume, work, number, min(pending))
    if number == work.first_chunk:
        work.first_head = head
    return head if head.first_row + head.rows <= work.safe_row else None


def _stand_in(volume: Volume, work: TapeWork, number: int, stop: int) -> ChunkHead | None:
    """What the head of a chunk that has none would say: it ends where the next good chunk begins."""
    for later in range(number + 1, min(stop, number + 16)):
        head = chunk_head(volume, work, later)
        if head is not None and head.sealed and head.first_row + head.rows <= work.safe_row:
            return ChunkHead(work.chunk_class, True, work.ident.camera, work.ident.name, number, 0, head.first_row, 0, 0, 0, head.first_ns,
                             head.first_ns, bytes(32))
    return None


def _deletion(head: ChunkHead) -> Deletion:
    return Deletion(head.chunk, head.first_row, head.rows, head.first_ns, head.end_ns)


def _tail(work: TapeWork, row: int, deletions: list[Deletion]) -> TailTo:
    raw = work.row(row) if row < work.core.next_row else None
    floor = (deletions[-1].chunk + 1) * work.chunk_class.tape_bytes if deletions else work.core.tail_offset
    if raw is None:
        return TailTo(row, max(floor, work.core.tail_offset), deletions[-1].end_ns if deletions else 0, deletions)
    offset = int.from_bytes(raw[16:24], "little")
    return TailTo(row, max(offset, floor), int.from_bytes(raw[:8], "little", signed=True), deletions)
