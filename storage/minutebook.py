"""Keeps the figures by the minute of a slot's tapes: written when a chunk has been sealed, taken away behind the tail. The keeper's thread.

Lines are written in place by a pwrite for each day, and are durable with the next commit. A line always follows from rows alone, so a crash
costs nothing: a chunk whose seal is not durable is sealed again and its lines are written again, and a reader computes what it does not find.
A minute is written when it is over, so that no line is ever half of one.
"""

import os

import numpy as np

from recorder._ext import entries as entries_kernel
from storage.disk import write_at
from storage.footage import Entries, RowRun, row_ends
from storage.layout import ROW
from storage.minutes import DAY, DAY_BYTES, LINE_BYTES, MINUTE_NS, ODD, day_name, day_of, minutes_document, minutes_path, pack, tally
from storage.tapebook import ClosedChunk, row_end_ns
from storage.tapework import TapeWork
from storage.volume import Volume
from storage.zarrmeta import ensure_array

BACK_ROWS = 256         # that a chunk's first minute may have before it: a row lasts a second, but for short sessions
SPAN_MAX = 32 * DAY     # minutes written at once: what is missing for longer is not told


class MinuteBook:
    """See the module. An OSError is the disk's; figures are not worth a volume, so the caller decides."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._ensured: set[int] = set()         # tapes whose array's document has been looked at
        self._begins: dict[int, int] = {}       # by tape: the first minute that may have a line; absent: not looked up yet

    def sealed(self, work: TapeWork, chunk: ClosedChunk) -> None:
        """Write the minutes that the chunk's rows have completed. OSError."""
        run = _rows(work, chunk)
        if not len(run):
            return
        before = chunk.first_row - run.first    # rows of older footage: the minute in which they end has waited for this chunk
        start = (int(row_ends(run.rows)[before - 1]) if before > 0 else run.start_ns) // MINUTE_NS
        stop = run.end_ns // MINUTE_NS
        start = max(start, stop - SPAN_MAX)
        position = int(run.rows["frames_off"][0])
        data = work.entry_bytes(position, chunk.frames_end)
        bad, arrays = entries_kernel.decode(data, position, run.rows.view(np.uint8), work.ident.clock_rate)
        if bad < 0 and stop > start:
            self._write(work, start, pack(tally(run, Entries(*arrays), (start, stop), (run.start_ns, run.end_ns))))

    def _write(self, work: TapeWork, start: int, data: bytes) -> None:
        folder = minutes_path(work.ident.camera, work.ident.name)
        begin = self._begin(work)
        if work.ident.tape not in self._ensured:
            self._ensured.add(work.ident.tape)
            ensure_array(self._volume.dir_fd, folder, minutes_document(work.ident.camera, work.ident.name))
        self._begins[work.ident.tape] = start if begin is None else min(begin, start)
        stop = start + len(data) // LINE_BYTES
        for day in range(start // DAY, -(-stop // DAY)):
            low, high = max(start, day * DAY), min(stop, (day + 1) * DAY)
            self._put(folder, day_name(day), low - day * DAY, data[(low - start) * LINE_BYTES:(high - start) * LINE_BYTES])

    def _put(self, folder: str, name: str, line: int, data: bytes) -> None:
        inside = self._volume.open_file(folder, os.O_RDONLY | os.O_DIRECTORY)       # never through a symlink out of the volume
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=inside)
        finally:
            os.close(inside)
        try:
            if os.fstat(fd).st_size != DAY_BYTES:
                os.ftruncate(fd, DAY_BYTES)
            write_at(fd, data, line * LINE_BYTES)
        finally:
            os.close(fd)

    def _begin(self, work: TapeWork) -> int | None:
        """The first minute that may have a line; None if there is none."""
        if work.ident.tape not in self._begins:
            days = [day for name in self._names(work) if (day := day_of(name)) is not None]
            if not days:
                return None
            self._begins[work.ident.tape] = min(days) * DAY
        return self._begins[work.ident.tape]

    def _names(self, work: TapeWork) -> list[str]:
        return self._volume.list_dir(minutes_path(work.ident.camera, work.ident.name))

    def forget(self, work: TapeWork) -> None:
        """Take away the minutes that lie wholly before the track's first row. OSError."""
        begin = self._begin(work) if work.core.tail_row else None
        stop = _tail_minute(work)
        if begin is None or stop <= begin:
            return
        folder = minutes_path(work.ident.camera, work.ident.name)
        for name in self._names(work) if begin // DAY < stop // DAY else ():
            if (day := day_of(name)) is not None and day < stop // DAY:
                self._volume.unlink(f"{folder}/{name}")
        start = max(begin, stop // DAY * DAY)
        if stop > start and self._volume.exists(f"{folder}/{day_name(stop // DAY)}"):
            self._put(folder, day_name(stop // DAY), start % DAY, bytes((stop - start) * LINE_BYTES))
        self._begins[work.ident.tape] = stop


def discard(volume: Volume, camera: int, track: str) -> None:
    """Take away all of a track's lines: its rows are not those any more from which they were made. OSError."""
    folder = minutes_path(camera, track)
    try:
        for name in volume.list_dir(folder):
            if day_of(name) is not None:
                volume.unlink(f"{folder}/{name}")
    except OSError as error:
        if error.errno not in ODD:
            raise


def _rows(work: TapeWork, chunk: ClosedChunk) -> RowRun:
    """The chunk's rows that are in sight, and those before them that its first minute needs; empty if one is lost."""
    tail = work.core.tail_row
    raws = [work.row(number) for number in range(max(chunk.first_row, tail), chunk.end_row)]
    first = least = chunk.end_row - len(raws)
    limit_ns = 0
    while raws and first > max(tail, least - BACK_ROWS) and (raw := work.row(first - 1)) is not None and row_end_ns(raw) > limit_ns:
        limit_ns = limit_ns or row_end_ns(raw) // MINUTE_NS * MINUTE_NS     # the minute in which older footage ends
        raws.insert(0, raw)
        first -= 1
    found = [raw for raw in raws if raw is not None]
    return RowRun(first, np.frombuffer(b"".join(found), ROW)) if len(found) == len(raws) else RowRun(first, np.empty(0, ROW))


def _tail_minute(work: TapeWork) -> int:
    """The minute in which the track's first row in sight begins; of a track without any the one after its end."""
    raw = work.row(work.core.tail_row) if work.core.tail_row < work.core.next_row else work.core.open_row()
    if raw is None:
        return -(-work.core.end_ns // MINUTE_NS)
    return int.from_bytes(raw[:8], "little", signed=True) // MINUTE_NS
