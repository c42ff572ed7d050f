"""What holds have kept of a tape, for readers: each run of rows that follow each other is a tape of its own, beside the one it came from.

Rows have the numbers, offsets and entry positions that they had. Only what is below the tail of the tape is shown here: the rest is there.
"""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import Buffer

from recorder._ext import rowsearch
from recorder.base.errors import FormatError, Gone
from recorder.base.media import Gap
from storage import heldfile
from storage.chunkfile import ChunkHead, Footer
from storage.chunklease import ChunkLease
from storage.evidence import Evidence
from storage.footage import I64, RowRun, Rows, row_ends
from storage.heldfile import HeldChunk
from storage.items import decode
from storage.layout import ROW, held_path
from storage.live import LiveDir, LiveFile, LiveState, LiveTrack
from storage.numbered import chunk_numbers
from storage.reader import TrackReader, View
from storage.tracklog import Facts
from storage.zarrmeta import TrackMeta

HELD_PLACE = 64         # held rows of the volume at place p are at place p + 64
CACHED = 16             # chunks whose rows stay in memory
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows [first, after) of a held chunk, all there: their first start and last end, and where their entries begin."""

    chunk: int
    first: int
    after: int
    start_ns: int
    end_ns: int
    entries_at: int


class HeldFiles:
    """The held chunks of one tape. For one thread at a time, leases apart."""

    def __init__(self, main: TrackReader, live: LiveDir, meta: TrackMeta) -> None:
        self.main, self.live, self.meta = main, live, meta
        self._fd = -1
        self._stamp: Stamp = (0, 0)
        self._parts: dict[int, tuple[Stamp, tuple[Part, ...]]] = {}     # by chunk, with the file's stamp
        self._chunks: OrderedDict[int, tuple[Stamp, HeldChunk]] = OrderedDict()
        self._tapes: dict[tuple[int, int], HeldTape] = {}
        self._made: tuple[Stamp, int] = ((0, 0), -1)

    def folder(self) -> int:
        """Descriptor of the folder of held chunks, the object's own; -1 while there is none."""
        if self._fd < 0:
            try:
                self._fd = os.open(f"{held_path(self.main.camera, self.main.name)}/c",
                                   os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.main.volume_fd)
            except FileNotFoundError:
                return -1
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        for tape in self._tapes.values():
            tape.close()

    def tapes(self) -> Sequence["HeldTape"]:
        """The runs of held rows below the tail, in order; the same objects as long as they are the same runs."""
        if self.folder() < 0:
            return ()
        self._look()
        made = (self._stamp, self.main.edges().first_row)
        if self._parts and self._made != made:
            runs = _runs([part for _, (_, parts) in sorted(self._parts.items()) for part in parts], made[1])
            for key in self._tapes.keys() - {_key(run) for run in runs}:
                self._tapes.pop(key).close()
            for run in runs:
                have = self._tapes.get(_key(run))
                if have is None or have.parts != run:
                    self._tapes[_key(run)] = HeldTape(self, run)
            self._tapes = dict(sorted(self._tapes.items()))
            self._made = made
        return tuple(self._tapes.values()) if self._parts else ()

    def whole(self) -> "HeldTape":
        """All held rows as one tape with holes, for who knows row numbers and offsets."""
        self._look()
        return HeldTape(self, tuple(part for _, (_, parts) in sorted(self._parts.items()) for part in parts))

    def chunk(self, number: int) -> HeldChunk:
        """A held chunk's rows and entries; Gone if nothing of it is held any more."""
        have = self._chunks.get(number)
        stamp = self._stamp_of(number)
        if stamp is None:
            raise self.gone()
        if have is None or have[0] != stamp:
            have = (stamp, self._read(number))
            self._chunks[number] = have
        self._chunks.move_to_end(number)
        while len(self._chunks) > CACHED:
            self._chunks.popitem(last=False)
        return have[1]

    def gone(self) -> Gone:
        """What is raised where held rows are there no more."""
        return Gone("the footage has been released and is gone", where=self.main.where, remedy="ask for a later time")

    def _look(self) -> None:
        """Take in what has come and gone since the last look."""
        stat = os.fstat(self.folder()) if self.folder() >= 0 else None
        stamp = (stat.st_mtime_ns, stat.st_ctime_ns) if stat is not None else (0, 0)
        if stamp == self._stamp:
            return
        found = set(chunk_numbers(self._fd))
        for number in self._parts.keys() - found:
            del self._parts[number]
        for number in found:
            file = self._stamp_of(number)
            if file is not None and self._parts.get(number, ((0, 0), ()))[0] != file:
                self._parts[number] = (file, self._parts_of(number))
        self._stamp = stamp

    def _stamp_of(self, number: int) -> Stamp | None:
        try:
            stat = os.stat(str(number), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def _parts_of(self, number: int) -> tuple[Part, ...]:
        try:
            chunk = self._read(number)
        except (FormatError, Gone):
            return ()           # `check` says so
        first, ends = chunk.head.first_row, row_ends(chunk.rows)
        return tuple(Part(number, first + begin, first + after, int(chunk.rows["t_ns"][begin]), int(ends[after - 1]),
                          int(chunk.rows["frames_off"][begin]))
                     for begin, after in heldfile.runs(chunk.there))

    def _read(self, number: int) -> HeldChunk:
        where = f"{self.main.where}.held chunk {number}"
        try:
            fd = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            raise self.gone() from None
        try:
            chunk = heldfile.read(fd, where)
        finally:
            os.close(fd)
        if (chunk.head.camera, chunk.head.track, chunk.head.chunk) != (self.main.camera, self.main.name, number):
            raise self.gone()
        return chunk


def _key(run: tuple[Part, ...]) -> tuple[int, int]:
    return run[0].first, run[-1].after


def _runs(parts: Sequence[Part], tail_row: int) -> list[tuple[Part, ...]]:
    """Parts whose rows follow each other, joined; what is below `tail_row` only."""
    runs: list[list[Part]] = []
    for part in parts:
        if part.first >= tail_row:
            break
        if runs and runs[-1][-1].after == part.first:
            runs[-1].append(part)
        else:
            runs.append([part])
    if runs and runs[-1][-1].after > tail_row:
        last = runs[-1][-1]
        runs[-1][-1] = replace(last, after=tail_row)
    return [tuple(run) for run in runs]


class HeldRows:
    """The rows and entries of some parts, as RingFile and FramesFile give those of a tape."""

    def __init__(self, files: HeldFiles, parts: Sequence[Part]) -> None:
        self._files, self._parts = files, parts
        self._firsts = [part.first for part in parts]
        self._starts = [part.start_ns for part in parts]
        self._entries = [part.entries_at for part in parts]

    def find(self, low: int, high: int, t_ns: int) -> int:
        """Number of the newest row of [low, high) that starts at or before `t_ns`; low - 1 if there is none."""
        at = bisect_right(self._starts, t_ns) - 1
        if at < 0:
            return low - 1
        part = self._parts[at]
        rows = self._rows(part)
        return max(low - 1, min(high - 1, part.first + int(np.searchsorted(rows["t_ns"], t_ns, side="right")) - 1))

    def copy(self, first: int, count: int) -> tuple[Rows, int]:
        """`count` rows from number `first` on, and how many of them are there."""
        out = np.zeros(count, ROW)
        self.read_into(first, out)
        return out, rowsearch.first_bad(out.view(np.uint8), first)

    def read_into(self, first: int, out: Rows) -> None:
        """Fill `out` with the rows from number `first` on; zeros where there is none."""
        out[:] = np.zeros(1, ROW)[0]
        at = max(0, bisect_right(self._firsts, first) - 1)
        while at < len(self._parts) and self._parts[at].first < first + len(out):
            part = self._parts[at]
            begin, stop = max(first, part.first), min(first + len(out), part.after)
            if stop > begin:
                out[begin - first:stop - first] = self._rows(part)[begin - part.first:stop - part.first]
            at += 1

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the space of entries; zeros where nothing is held. `start` is that of a row."""
        out = bytearray(stop - start)
        at = max(0, bisect_right(self._entries, start) - 1)
        while at < len(self._parts) and self._entries[at] < stop:
            chunk = self._files.chunk(self._parts[at].chunk)
            base = chunk.entries_base
            begin, end = max(start, base), min(stop, base + len(chunk.footer.entries))
            if end > begin:
                out[begin - start:end - start] = chunk.footer.entries[begin - base:end - base]
            at += 1
        return bytes(out)

    def run(self, first: int, stop: int) -> tuple[int, int]:
        """The first rows of [first, stop) that are there and follow each other."""
        at = bisect_right(self._firsts, first) - 1
        if at < 0 or self._parts[at].after <= first:
            at += 1
            first = self._parts[at].first if at < len(self._parts) else stop
        while at < len(self._parts) and self._parts[at].after < stop and self._firsts[at + 1:at + 2] == [self._parts[at].after]:
            at += 1
        return min(first, stop), min(stop, self._parts[at].after) if at < len(self._parts) else stop

    def _rows(self, part: Part) -> Rows:
        chunk = self._files.chunk(part.chunk)
        begin = part.first - chunk.head.first_row
        rows = chunk.rows[begin:begin + part.after - part.first]
        if begin < 0 or len(rows) < part.after - part.first or not rows["aus"].all():
            raise self._files.gone()
        return rows


class HeldTape(TrackReader):
    """Some held rows, read like a tape that nobody writes on any more."""

    def __init__(self, files: HeldFiles, parts: tuple[Part, ...]) -> None:
        main = files.main
        super().__init__(os.fspath(main.volume), main.volume_fd, files.live, files.meta, main.place + HELD_PLACE)
        self.live = _NoLive(files.live, main.camera, main.name)
        self.parts, self._files, self._held = parts, files, HeldRows(files, parts)
        self._own: Facts | None = None
        self._state = self._constant()

    @property
    def start_ns(self) -> int:
        """When it begins."""
        return self.parts[0].start_ns if self.parts else 0

    @property
    def end_ns(self) -> int:
        """When it ends."""
        return self.parts[-1].end_ns if self.parts else 0

    def evidence(self, start_ns: int, end_ns: int) -> Evidence:
        """Nothing: the log of the tape it came from has it."""
        return Evidence((), ())

    def gap_list(self) -> list[Gap]:
        """None: the log of the tape it came from has them."""
        return []

    def open_chunk(self, chunk: int) -> ChunkLease:
        """The held chunk for reading, of what is held only; Gone."""
        return HeldLease(self._files, chunk)

    def stands(self, offsets: I64) -> bool:
        """True while AUs at these tape offsets are held."""
        try:
            return all(_covered(self._files.chunk(chunk), offsets[offsets // self.chunk_class.tape_bytes == chunk])
                       for chunk in np.unique(offsets // self.chunk_class.tape_bytes).tolist())
        except (Gone, FormatError):
            return False

    # -- what a tape has --

    def _constant(self) -> LiveState:
        first, last = (self.parts[0], self.parts[-1]) if self.parts else (None, None)
        size = self.chunk_class.tape_bytes
        end = (last.chunk + 1) * size if last else 0
        after = last.after if last else 0
        entries_end = 1 << 62
        return LiveState(
            next_row=after, ring_rows=after, tail_row=first.first if first else 0, tail_offset=first.chunk * size if first else 0,
            entries_end=entries_end, frames_end=entries_end, visible_offset=end, durable_offset=end, durable_row=after,
            visible_end_ns=self.end_ns, visible_recv_ns=0, log_bytes=0, session=0, provisional=0, open_row=np.empty(0, ROW))

    def _view(self) -> View:
        return View(self._state, self._state.next_row, np.empty(0, ROW), None)

    def _copy(self, view: View, first: int, stop: int) -> RowRun:
        return super()._copy(view, *self._held.run(first, stop)) if stop > first else super()._copy(view, first, stop)

    def _ring(self, stop: int) -> HeldRows:
        return self._held

    def _frames(self, stop: int) -> HeldRows:
        return self._held

    def _tail_row(self, view: View | None) -> int:
        return self._state.tail_row

    def _tail_offset(self) -> int:
        return self._state.tail_offset

    def _lost_row(self, number: int) -> np.void:
        raise self._files.gone()

    def _facts(self) -> Facts:
        """What the log knows; where that is lost, what the held chunks' footers say."""
        known = self._files.main.facts()
        if self._own is None:
            self._own = Facts()
            for part in self.parts:
                for item in decode(self._files.chunk(part.chunk).footer.items, where=self.where):
                    self._own.add(item)
        return Facts({**self._own.sample_entries, **known.sample_entries}, {**self._own.sessions, **known.sessions})


class HeldLease(ChunkLease):
    """A held chunk for reading: nothing but the rows that are held. Gone once others have taken its place."""

    def __init__(self, files: HeldFiles, chunk: int) -> None:
        self._files, self._spans = files, _spans(files.chunk(chunk))
        super().__init__(files.folder(), chunk, files.main.camera, files.main.name, lambda: 0)

    def read(self, buffer: Buffer, tape_offset: int, *, nowait: bool = False, tail: int | None = None) -> int:
        """As ChunkLease.read, no further than the held rows reach; Gone if the first byte is of none."""
        after = next((after for first, after in self._spans if first <= tape_offset < after), 0)
        if not after:
            raise self._files.gone()
        return super().read(memoryview(buffer).cast("B")[:after - tape_offset], tape_offset, nowait=nowait, tail=tail)

    def footer(self, head: ChunkHead) -> Footer:
        """The footer of the held chunk; rows that are not held are zeros in it."""
        return self._files.chunk(self.chunk).footer

    def _take(self) -> ChunkHead:
        head = super()._take()
        try:
            named = os.stat(str(self.chunk), dir_fd=self._files.folder(), follow_symlinks=False)
        except FileNotFoundError:
            raise self._files.gone() from None
        if not os.path.samestat(os.fstat(self._fd), named):
            raise self._files.gone()
        return head


class _NoLive(LiveTrack):
    """No worker writes it."""

    def locate(self) -> tuple[LiveFile, int, LiveState] | None:
        """None."""
        return None


def _spans(chunk: HeldChunk) -> list[tuple[int, int]]:
    """Tape offsets [first, after) of held rows, those that touch joined."""
    spans: list[tuple[int, int]] = []
    for row in chunk.rows[chunk.there]:
        start = int(row["offset"])
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], start + int(row["bytes"]))
        else:
            spans.append((start, start + int(row["bytes"])))
    return spans


def _covered(chunk: HeldChunk, offsets: I64) -> bool:
    covered = np.zeros(len(offsets), np.bool_)
    for first, after in _spans(chunk):
        covered |= (offsets >= first) & (offsets < after)
    return bool(covered.all())
