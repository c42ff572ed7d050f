"""A track without a live file (no worker since boot): where it ends is told by chunk heads, the ring, and the data's own CRCs; and what the
ring has lost is told by the footers of sealed chunks.
"""

import errno
import os

import numpy as np

from recorder._ext.crc32c import crc32c
from recorder._ext.entries import decode
from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, Footer, read_footer, read_head
from storage.footage import Rows, row_ends
from storage.layout import PAGE, ROW, ROW_MAX_ENTRIES
from storage.live import LiveState
from storage.numbered import chunk_numbers
from storage.ringfile import FramesFile, RingFile

ABSENT = frozenset({errno.ENOENT, errno.ELOOP})     # no file, or a symlink, which is none of ours


def state(chunks_fd: int, ring: RingFile, frames: FramesFile, camera: int, track: str, tail: tuple[int, int]) -> LiveState:
    """What a worker's live block would say of the track, all of it taken for durable and published. `tail` is what the log says.

    Rows behind the newest sealed chunk count only as far as their data's CRC holds, and up to the newest of which the entries are there: after
    a power cut a ring may know more than the tape, and the frames ring less than the ring of rows. For the same reason a chunk whose head is
    sealed and whose footer does not hold together is none: its seal had been on its way. (Heads of chunks that are not sealed do not tell
    their first row.)
    """
    heads = [head for number in chunk_numbers(chunks_fd) if (head := _head(chunks_fd, number, camera, track)) is not None]
    sealed = [head for head in heads if head.sealed]
    tail_row = max(tail[0], sealed[0].first_row if sealed else ring.first_row)
    tail_offset = max(tail[1], heads[0].start_offset if heads else 0)
    known = max(tail_row, next((head.first_row + head.rows for head in reversed(sealed) if _closed(chunks_fd, head)), 0))
    next_row = _told(known, _proven(chunks_fd, known, ring, heads), ring, frames)
    tail_row = max(tail_row, next_row - ring.capacity)
    last, good = ring.copy(next_row - 1, 1) if next_row > tail_row else (np.empty(0, ROW), 0)
    if not good and next_row > tail_row:
        found = row_from_footer(chunks_fd, next_row - 1, f"cam-{camera}/{track}")
        last = np.array([found], ROW) if found is not None else np.empty(0, ROW)
    return _state(tail_row, next_row, tail_offset, last)


def _state(tail_row: int, next_row: int, tail_offset: int, last: Rows) -> LiveState:
    end = int(last["offset"][0]) + int(last["bytes"][0]) if len(last) else tail_offset
    entries_end = int(last["frames_off"][0]) + ROW_MAX_ENTRIES if len(last) else 0
    return LiveState(
        next_row=next_row, ring_rows=next_row, tail_row=tail_row, tail_offset=tail_offset, entries_end=entries_end,
        frames_end=entries_end, visible_offset=end, durable_offset=end, durable_row=next_row,
        visible_end_ns=int(row_ends(last)[0]) if len(last) else 0, visible_recv_ns=0, log_bytes=0,
        session=int(last["session"][0]) if len(last) else 0, provisional=0, open_row=np.empty(0, ROW))


def _proven(chunks_fd: int, first: int, ring: RingFile, heads: list[ChunkHead]) -> int:
    """Number of the first row from `first` on that is not in the ring, or whose bytes are not on the tape."""
    by_number = {head.chunk: head for head in heads}
    stop = ring.valid_from(first)
    rows = ring.copy(first, stop - first)[0] if stop > first else np.empty(0, ROW)
    for index, row in enumerate(rows):
        size, offset = int(row["bytes"]), int(row["offset"])
        head = by_number.get(offset // heads[0].chunk_class.tape_bytes) if heads else None
        if head is None or size > head.chunk_class.tape_bytes - (offset - head.start_offset):
            return first + index
        if crc32c(_tape_bytes(chunks_fd, head, offset, size)) != int(row["data_crc"]):
            return first + index
    return stop


def _told(first: int, stop: int, ring: RingFile, frames: FramesFile) -> int:
    """The row after the newest of [first, stop) whose entries add up."""
    for number in range(stop - 1, first - 1, -1):
        row = ring.copy(number, 1)[0]
        start = int(row["frames_off"][0])
        data = frames.read(start, start + min(ROW_MAX_ENTRIES, frames.capacity))
        if decode(data, start, row.view(np.uint8), 90_000)[0] < 0:
            return number + 1
    return first


def _closed(chunks_fd: int, head: ChunkHead) -> bool:
    """True if the footer of the chunk, whose head is sealed, holds together."""
    return _footer(chunks_fd, head, f"cam-{head.camera}/{head.track}") is not None


def _tape_bytes(chunks_fd: int, head: ChunkHead, offset: int, size: int) -> bytes:
    try:
        fd = os.open(str(head.chunk), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=chunks_fd)
    except OSError as failed:
        if failed.errno not in ABSENT:
            raise
        return b""
    try:
        return os.pread(fd, size, PAGE + offset - head.start_offset)
    finally:
        os.close(fd)


def _head(chunks_fd: int, number: int, camera: int, track: str) -> ChunkHead | None:
    """The chunk's head; None if the file is gone, damaged, or its head says that it is not this chunk (the head decides)."""
    try:
        fd = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=chunks_fd)
    except OSError as failed:
        if failed.errno not in ABSENT:
            raise
        return None
    try:
        head = read_head(fd, f"cam-{camera}/{track} chunk {number}")
    except FormatError:
        return None
    finally:
        os.close(fd)
    return head if (head.camera, head.track, head.chunk) == (camera, track, number) else None


def head_of_row(chunks_fd: int, row: int, where: str) -> ChunkHead | None:
    """Head of the sealed chunk that holds row `row`; None if no sealed chunk does."""
    camera, _, track = where.removeprefix("cam-").partition("/")
    numbers = chunk_numbers(chunks_fd)
    low, high = 0, len(numbers) - 1
    while low <= high:
        mid = (low + high) // 2
        head = _head(chunks_fd, numbers[mid], int(camera), track)
        if head is None or not head.sealed:     # open, damaged, or one that could not be sealed: what its rows are it does not tell
            del numbers[mid]
            high -= 1
        elif row < head.first_row:
            high = mid - 1
        elif row >= head.first_row + head.rows:
            low = mid + 1
        else:
            return head
    return None


def footer_of_row(chunks_fd: int, row: int, where: str) -> tuple[ChunkHead, Footer] | None:
    """The same with its footer; None also if that is damaged."""
    head = head_of_row(chunks_fd, row, where)
    return _footer(chunks_fd, head, where) if head is not None else None


def _footer(chunks_fd: int, head: ChunkHead, where: str) -> tuple[ChunkHead, Footer] | None:
    try:
        fd = os.open(str(head.chunk), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=chunks_fd)
    except OSError as failed:
        if failed.errno not in ABSENT:
            raise
        return None
    try:
        return head, read_footer(fd, head, where)
    except FormatError:
        return None
    finally:
        os.close(fd)


def row_from_footer(chunks_fd: int, row: int, where: str) -> np.void | None:
    """Row `row` as its chunk's footer holds it; None if none does."""
    found = footer_of_row(chunks_fd, row, where)
    return found[1].rows[row - found[0].first_row] if found is not None else None


def entries_from_footer(chunks_fd: int, row: int, where: str) -> bytes | None:
    """Entry bytes from row `row` on as its chunk's footer holds them; None if none does."""
    found = footer_of_row(chunks_fd, row, where)
    if found is None:
        return None
    head, footer = found
    start = int(footer.rows["frames_off"][row - head.first_row]) - int(footer.rows["frames_off"][0])
    return footer.entries[start:start + ROW_MAX_ENTRIES]
