"""One tape (a track of one volume), for readers: time -> row -> AUs -> chunk.

Every question first takes a `View`: a consistent copy of the track's block of the live file (or, without a worker since boot, what ring,
chunk heads and data say). Rows newer than the ring come from it, older ones from the ring; each is checked against its CRC and number,
and the tail is read again after every copy.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recorder._ext import entries as entries_kernel
from recorder._ext import rowsearch
from recorder.base.errors import FormatError, Gone, NotFound
from recorder.base.media import NS, Gap, RowFlag, SampleEntry, Session
from storage import offline
from storage.chunklease import ChunkLease
from storage.evidence import Evidence
from storage.footage import I64, Edges, Entries, RowRun, Rows, Span, row_ends
from storage.layout import LIVE_ENTRIES, LIVE_ROWS, ROW, ROW_MAX_ENTRIES, index_path, track_path
from storage.live import LAP_TRIES, LiveDir, LiveFile, LiveState, LiveTrack
from storage.ringfile import EntryFile, FramesFile, RingFile, RowFile
from storage.timeline import Bounds, Timeline, measure
from storage.tracklog import Facts, TrackLog
from storage.zarrmeta import TrackMeta

DEFAULT_CLOCK_RATE = 90_000


@dataclass(frozen=True, slots=True)
class View:
    """A track at one instant. `newest` are the closed rows [base, next_row) that the live file holds; rows below `base` are in the ring."""

    state: LiveState
    base: int
    newest: Rows
    at: tuple[LiveFile, int] | None      # None: made up without a live file

    def stop(self, provisional: bool) -> int:
        """Number after the last row that may be shown."""
        rows = self.state.next_row + len(self.state.open_row)
        if provisional:
            return rows
        if self.state.provisional:
            return self.state.next_row - self.state.provisional
        hidden = len(self.state.open_row) and int(self.state.open_row["flags"][0]) & RowFlag.PROVISIONAL
        return self.state.next_row if hidden else rows

    def above(self, row: int, offset: int) -> "View":
        """The same with a tail that lies higher."""
        state = self.state._replace(tail_row=row, tail_offset=max(offset, self.state.tail_offset))
        return View(state, max(self.base, min(row, state.next_row)), self.newest[max(min(row, state.next_row) - self.base, 0):], self.at)

    def recent(self) -> Rows:
        """The live file's closed rows and the open row, numbered from `base`."""
        return np.concatenate((self.newest, self.state.open_row)) if len(self.state.open_row) else self.newest


class TrackReader:
    """Reads one tape; get it from TapeStore. The arrays it returns are the caller's own. `place`: of its volume among the store's.

    `expires` gives the UTC before which the track's rule lets nothing be read, whether or not a writer has moved the tail meanwhile; from the
    first row on that lies in one of the times that `held` gives, it counts for nothing: a hold outranks it.
    For one thread at a time; meanwhile chunks may be opened, and leases that it has given out be read, on others.
    """

    def __init__(self, volume: str, volume_fd: int, live: LiveDir, meta: TrackMeta, place: int = 0,
                 expires: Callable[[], int] | None = None, held: Callable[[], Sequence[tuple[int, int]]] = tuple) -> None:
        self.camera, self.name, self.kind = meta.camera, meta.track, meta.kind
        self.chunk_class = meta.chunk_class
        self.live = LiveTrack(live, meta.camera, meta.track)
        self.where = f"cam-{meta.camera}/{meta.track}"
        self._fd = volume_fd
        self.volume, self.place = Path(volume), place
        self._rings: tuple[RingFile, FramesFile] | None = None
        self._chunks_fd, self._opening = -1, threading.Lock()
        self._log = TrackLog(volume_fd, index_path(meta.camera, meta.track, "log"))
        self._offline: tuple[tuple[int, ...], LiveState] | None = None
        self._expires, self._held_times, self._expired_s = expires, held, 0
        self._floor = (0, 0)                # row and tape offset below which everything has expired

    # -- where the track begins and ends --

    def edges(self) -> Edges:
        """Where the track begins and ends now."""
        for _ in range(LAP_TRIES):
            view = self._view()
            state = view.state
            first = self._copy(view, state.tail_row, min(state.tail_row + 1, view.stop(provisional=True)))
            if first.first == state.tail_row:
                break                   # else the tail has moved on meanwhile: look again
        durable_end = state.visible_end_ns
        if state.durable_offset < state.visible_offset and len(first.rows):
            durable_end = self._durable_end(view) or first.start_ns
        return Edges(state.tail_row, state.next_row, first.start_ns, state.visible_end_ns, durable_end, state.visible_offset,
                     min(state.durable_offset, state.visible_offset), state.tail_offset, view.at is not None, bool(len(state.open_row)))

    def bounds(self) -> Bounds:
        """The same for those who ask for times only."""
        edges = self.edges()
        return Bounds(edges.first_ns, edges.visible_end_ns, edges.durable_end_ns, edges.first_row > 0)

    def _durable_end(self, view: View) -> int:
        """UTC of the end of the newest AU whose bytes are all durable."""
        state = view.state
        first = min(max(state.durable_row, state.tail_row), view.stop(provisional=True))
        run = self._durable(view, self._copy(view, first, view.stop(provisional=True)))
        if len(run.rows):
            return run.end_ns
        before = self._copy(view, max(first - 1, state.tail_row), first)
        return before.end_ns

    # -- rows --

    def rows(self, start_ns: int, end_ns: int, *, durable: bool = False, provisional: bool = False) -> RowRun:
        """Rows that overlap [start_ns, end_ns), in order, the open row included.

        `durable`: only whole AUs that a power cut leaves (the last row is then cut short: its counts and durations tell only of them,
        its CRCs of nothing). `provisional`: also rows of a session so young that their time may still be shifted.
        """
        view = self._view()
        tail, stop = view.state.tail_row, view.stop(provisional)
        if end_ns <= start_ns or stop <= tail:
            return RowRun(tail, np.empty(0, ROW))
        first = max(self._find(view, tail, stop, start_ns), tail)
        last = self._find(view, first, stop, end_ns - 1)
        run = self._copy(view, first, last + 1)
        if len(run.rows) and int(row_ends(run.rows[:1])[0]) <= start_ns:
            run = RowRun(run.first + 1, run.rows[1:])
        return self._durable(view, run) if durable else run

    def first_after(self, t_ns: int) -> RowRun:
        """The oldest published row that ends after `t_ns`, alone; an empty run if there is none."""
        view = self._view()
        tail, stop = view.state.tail_row, view.stop(provisional=False)
        first = max(self._find(view, tail, stop, t_ns), tail) if stop > tail else stop
        run = self._copy(view, first, min(first + 2, stop))
        skip = int(np.searchsorted(row_ends(run.rows), t_ns, side="right"))
        return RowRun(run.first + skip, run.rows[skip:skip + 1])

    def rows_from(self, number: int, limit: int, *, provisional: bool = True) -> RowRun:
        """At most `limit` rows from `number` on; begins at the oldest readable row if `number` has been retired."""
        view = self._view()
        first = max(number, view.state.tail_row)
        return self._copy(view, first, min(first + limit, view.stop(provisional)))

    def row_at(self, time_ns: int) -> tuple[int, int] | None:
        """Number and start of the newest published row that starts at or before `time_ns`; None if there is none."""
        return self._nearest(time_ns, 0)

    def row_from(self, time_ns: int, *, provisional: bool = False) -> tuple[int, int] | None:
        """Number and start of the first row that starts at or after `time_ns`; None if there is none."""
        return self._nearest(time_ns - 1, 1, provisional=provisional)

    def _nearest(self, time_ns: int, step: int, *, provisional: bool = False) -> tuple[int, int] | None:
        view = self._view()
        tail, stop = view.state.tail_row, view.stop(provisional)
        number = self._find(view, tail, stop, time_ns) + step if stop > tail else stop
        if not tail <= number < stop:
            return None
        run = self._copy(view, number, number + 1)
        return (run.first, run.start_ns) if len(run) else None

    def _find(self, view: View, low: int, high: int, t_ns: int) -> int:
        """Number of the newest row of [low, high) that starts at or before `t_ns`; low - 1 if there is none."""
        start = max(low - view.base, 0)
        if high - view.base > start:
            times = view.recent()["t_ns"][start:high - view.base]
            if low >= view.base or int(times[0]) <= t_ns:
                return view.base + start + int(np.searchsorted(times, t_ns, side="right")) - 1
        high = min(high, view.base)
        return self._ring(high).find(low, high, t_ns)

    def _copy(self, view: View, first: int, stop: int) -> RowRun:
        """Checked copies of the rows [first, stop); fewer at the front if the tail has passed them meanwhile."""
        parts = []
        if first < min(stop, view.base):
            parts.append(self._from_ring(first, min(stop, view.base)))
        if stop > view.base:
            parts.append(view.recent()[max(first - view.base, 0):stop - view.base])
        rows = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, ROW), *parts])
        tail = self._tail_row(view)
        if tail > first:
            rows, first = rows[tail - first:], min(tail, max(stop, first))
        return RowRun(first, rows)

    def _from_ring(self, first: int, stop: int) -> Rows:
        rows, good = self._ring(stop).copy(first, stop - first)
        while good < len(rows):
            rows[good] = self._lost_row(first + good)
            good += 1 + rowsearch.first_bad(rows[good + 1:].view(np.uint8), first + good + 1)
        return rows

    def _lost_row(self, number: int) -> np.void:
        """A row that the ring has lost, from its chunk's footer; anything if the tail has passed it (the caller looks at it last)."""
        found = offline.row_from_footer(self.chunks_fd(), number, self.where)
        if found is None and number < self._tail_row(None):
            nothing: np.void = np.zeros(1, ROW)[0]
            return nothing
        if found is None:
            raise FormatError(f"row {number} is damaged in the ring and no footer holds it", where=self.where,
                              remedy="start the recorder once, it rebuilds the index, or run watchroom check")
        return found

    def _durable(self, view: View, run: RowRun) -> RowRun:
        """The run without AUs that are not durable whole."""
        mark = view.state.durable_offset
        if view.state.durable_offset >= view.state.visible_offset or not len(run.rows):
            return run
        ends = run.rows["offset"] + run.rows["bytes"]
        whole = int(np.searchsorted(ends, mark, side="right"))
        if whole >= len(run.rows):
            return run
        rows = run.rows[:whole + 1].copy()
        if not self._cut(RowRun(run.first + whole, rows[whole:]), mark):
            rows = rows[:whole]
        return RowRun(run.first, rows)

    def _cut(self, run: RowRun, mark: int) -> bool:
        """Cut the run's only row after the AUs below tape offset `mark`; False if none is left."""
        row = run.rows[0]
        if int(row["offset"]) >= mark:
            return False
        found = self.entries(run)
        keep = int(np.searchsorted(found.offset + found.size, mark, side="right"))
        if keep == 0:
            return False
        if keep < len(found):
            media = int(found.dts_rel[keep - 1] + found.dur[keep - 1])
            row["wall_dur_us"] = int(row["wall_dur_us"]) * media // max(int(row["media_dur"]), 1)
            row["media_dur"], row["aus"] = media, keep
            row["bytes"] = int(found.size[:keep].sum())
        return True

    # -- access units --

    def entries(self, run: RowRun) -> Entries:
        """All AUs of the run. Raises Gone if it has been retired meanwhile, FormatError if its entries do not add up to its rows."""
        if not len(run.rows):
            return Entries(*entries_kernel.decode(b"", 0, b"", DEFAULT_CLOCK_RATE)[1])
        rate = self._clock_rate(int(run.rows["sample_entry"][0])) if not run.rows["media_dur"].all() else DEFAULT_CLOCK_RATE
        records = np.ascontiguousarray(run.rows).view(np.uint8)
        bad = 0
        for _ in range(LAP_TRIES):
            view = self._view()
            if run.first < view.state.tail_row:
                raise self._gone()
            base, data = self._entry_bytes(view, run.rows)
            bad, arrays = entries_kernel.decode(data, base, records, rate)
            if bad < 0 and self._tail_row(view) <= run.first:
                return Entries(*arrays)
            if view.at is None:
                break
        return self._entries_from_footers(run, bad, rate)

    def _entries_from_footers(self, run: RowRun, bad: int, rate: int) -> Entries:
        """The run's entries where the frames ring has lost some: those rows' from their chunks' footers."""
        parts, shift = [], []
        for index in range(len(run.rows)):
            one = run.rows[index:index + 1]
            base, data = self._entry_bytes(self._view(), one)
            flaw, arrays = entries_kernel.decode(data, base, one.view(np.uint8), rate)
            if flaw >= 0:
                data = offline.entries_from_footer(self.chunks_fd(), run.first + index, self.where) or b""
                flaw, arrays = entries_kernel.decode(data, int(one["frames_off"][0]), one.view(np.uint8), rate)
            if flaw >= 0:
                raise FormatError(f"the entries of row {run.first + bad} do not add up", where=self.where, remedy="run watchroom check")
            parts.append(arrays)
            shift.append(np.full(len(arrays[0]), index, np.uint32))
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        joined[0] = np.concatenate(shift)
        return Entries(*joined)

    def _entry_bytes(self, view: View, rows: Rows) -> tuple[int, bytes]:
        """(position, bytes) of the frames space around the rows; what is not there any more is simply missing or wrong."""
        state = view.state
        start = int(rows["frames_off"][0])
        stop = min(int(rows["frames_off"][-1]) + ROW_MAX_ENTRIES, state.entries_end)
        if view.at is None:
            return start, self._frames(0).read(start, stop)
        split = min(max(state.frames_end, start), stop)
        data = self._frames(split).read(start, split) if split > start else b""
        if stop > split:
            file, block = view.at
            if split < state.entries_end - LIVE_ENTRIES:
                return start, data
            data += file.entries(block, split, stop)
        return start, data

    # -- what the log knows --

    def sample_entry(self, number: int) -> SampleEntry:
        """How AUs of rows that name `number` are coded; NotFound."""
        found = self._facts().sample_entries.get(number)
        if found is None:
            raise NotFound(f"no sample entry {number}", where=self.where, remedy="run watchroom check")
        return found

    def session(self, number: int) -> Session:
        """A session; NotFound."""
        found = self._facts().sessions.get(number)
        if found is None:
            raise NotFound(f"no session {number}", where=self.where)
        return found

    def evidence(self, start_ns: int, end_ns: int) -> Evidence:
        """The camera's sender reports, and the steps of our clock, in [start_ns, end_ns). Reads the log."""
        found = self.live.locate()
        return self._log.evidence(found[2].log_bytes if found is not None else None, start_ns, end_ns)

    def gaps(self, start_ns: int, end_ns: int) -> list[Gap]:
        """Gaps that overlap [start_ns, end_ns), in order, with their true bounds; the last one may be open."""
        return self.timeline(start_ns, end_ns).gaps

    def spans(self, start_ns: int, end_ns: int) -> list[Span]:
        """Stretches with footage, cut to [start_ns, end_ns)."""
        return self.timeline(start_ns, end_ns).spans

    def timeline(self, start_ns: int, end_ns: int, step_ns: int = 0) -> Timeline:
        """Spans, gaps and figures of [start_ns, end_ns); with `step_ns` also per step (storage/timeline.py)."""
        return measure(lambda buffer: ((self, run) for run in self.blocks(start_ns, end_ns, buffer)), self.bounds(), start_ns, end_ns,
                       step_ns, self.gap_list())

    def facts(self) -> Facts:
        """What the tape's log says, still growing."""
        return self._facts()

    def gap_list(self) -> list[Gap]:
        """All gaps that the tape's log knows, by start."""
        return self._facts().gap_list()

    def blocks(self, start_ns: int, end_ns: int, buffer: Rows) -> Iterator[RowRun]:
        """Published rows that overlap the range in runs of at most len(buffer), each in `buffer` until the next is asked for.

        Rows out of the ring are not yet checked (the tally checks them as it counts); they are on a second look with `lost`.
        """
        view = self._view()
        tail, stop = view.state.tail_row, view.stop(provisional=False)
        if stop <= tail or end_ns <= start_ns:
            return
        first = max(self._find(view, tail, stop, start_ns), tail)
        stop = self._find(view, first, stop, end_ns - 1) + 1
        for at in range(first, min(stop, view.base), len(buffer)):
            rows = buffer[:min(len(buffer), min(stop, view.base) - at)]
            self._ring(at + len(rows)).read_into(at, rows)
            yield RowRun(at, rows)
        if stop > view.base:
            yield RowRun(max(first, view.base), view.recent()[max(first - view.base, 0):stop - view.base])

    def lost(self, number: int) -> np.void | None:
        """Row `number` again, from ring or footer; None if it has been retired or no copy of it is left."""
        try:
            run = self._copy(self._view(), number, number + 1)
        except FormatError:
            return None
        return run.rows[0] if len(run.rows) and run.first == number else None

    def _facts(self) -> Facts:
        found = self.live.locate()
        return self._log.facts(found[2].log_bytes if found is not None else None)

    def _clock_rate(self, number: int) -> int:
        found = self._facts().sample_entries.get(number)
        return found.clock_rate if found is not None else DEFAULT_CLOCK_RATE

    # -- bytes --

    def chunk_of(self, tape_offset: int) -> int:
        """Number of the chunk in which the offset lies."""
        return tape_offset // self.chunk_class.tape_bytes

    def open_chunk(self, chunk: int) -> ChunkLease:
        """The chunk held for reading (a context manager); Gone if it has been retired."""
        return ChunkLease(self.chunks_fd(), chunk, self.camera, self.name, self._tail_offset)

    def stands(self, offsets: I64) -> bool:
        """True while AUs at these tape offsets may be read: no tail has passed them, and by the rule they have not expired."""
        self._view()
        return int(offsets.min()) >= self._tail_offset()

    def close(self) -> None:
        """Close the track's descriptors. What is asked of it afterwards is an error, never another file."""
        self._drop_rings()
        self._fd = -1
        self._log.close()
        fd, self._chunks_fd = self._chunks_fd, -1
        if fd >= 0:
            os.close(fd)

    # -- inside --

    def _view(self) -> View:
        view = self._view_as_written()
        if self._expires is None:
            return view
        limit_ns = self._expires()
        if limit_ns // NS != self._expired_s:
            self._expired_s, self._floor = limit_ns // NS, (0, 0)
            self._floor = self._first_unexpired(view, limit_ns)
        return view if self._floor[0] <= view.state.tail_row else view.above(*self._floor)

    def _first_unexpired(self, view: View, limit_ns: int) -> tuple[int, int]:
        """Row and tape offset of the first row that ends after `limit_ns`; the end of what is visible if there is none."""
        tail, stop = view.state.tail_row, view.stop(provisional=True)
        number = max(self._find(view, tail, stop, limit_ns), tail) if stop > tail else stop
        run = self._copy(view, number, min(number + 2, stop))
        skip = int(np.searchsorted(row_ends(run.rows), limit_ns, side="right"))
        end = (run.first + skip, int(run.rows["offset"][skip]) if skip < len(run.rows) else view.state.visible_offset)
        return min([end, *(found for start_ns, end_ns in self._held_times() if (found := self._first_held(view, start_ns, end_ns)))])

    def _first_held(self, view: View, start_ns: int, end_ns: int) -> tuple[int, int] | None:
        """Row and tape offset of the first row that lies in a held time, wholly or in part."""
        tail, stop = view.state.tail_row, view.stop(provisional=True)
        number = max(self._find(view, tail, stop, start_ns), tail) if stop > tail else stop
        run = self._copy(view, number, min(number + 2, stop))
        skip = int(np.searchsorted(row_ends(run.rows), start_ns, side="right"))
        if skip >= len(run.rows) or int(run.rows["t_ns"][skip]) >= end_ns:
            return None
        return run.first + skip, int(run.rows["offset"][skip])

    def _view_as_written(self) -> View:
        """Rule or no rule: the tail as the writer has moved it."""
        for _ in range(LAP_TRIES):
            found = self.live.locate()
            if found is None:
                state = self._offline_state()
                return View(state, state.next_row, np.empty(0, ROW), None)
            file, block, state = found
            base = max(state.ring_rows, state.tail_row)
            if state.next_row - base >= LIVE_ROWS:
                raise FormatError("more rows wait for the ring than the live file holds", where=self.where, remedy="restart the worker")
            newest = file.rows(block, base, state.next_row)
            if len(newest) == state.next_row - base:
                return View(state, base, newest, (file, block))
        raise FormatError("the live file's rows do not hold together", where=self.where, remedy="restart the worker")

    def _offline_state(self) -> LiveState:
        (ring, frames), chunks, facts = self._open_rings(), self.chunks_fd(), self._log.facts(None)
        stamp = (*ring.identity, ring.modified_ns(), os.fstat(chunks).st_mtime_ns)
        if self._offline is None or self._offline[0] != stamp:
            self._offline = (stamp, offline.state(chunks, ring, frames, self.camera, self.name, facts.tail))
        return self._offline[1]

    def _tail_row(self, view: View | None) -> int:
        if view is not None and view.at is not None:
            state = view.at[0].state(view.at[1], self.camera, self.name)
            if state is not None:
                return max(state.tail_row, self._floor[0])
        found = self.live.locate() if view is None or view.at is not None else None
        if found is not None:
            return max(found[2].tail_row, self._floor[0])
        return max(view.state.tail_row if view is not None else self._offline_state().tail_row, self._floor[0])

    def _tail_offset(self) -> int:
        found = self.live.locate()
        return max(found[2].tail_offset if found is not None else self._offline_state().tail_offset, self._floor[1])

    def _open_rings(self) -> tuple[RingFile, FramesFile]:
        if self._rings is None:
            args = (self.camera, self.name)
            self._rings = (RingFile(self._fd, index_path(*args, "ring"), *args), FramesFile(self._fd, index_path(*args, "frames"), *args))
        return self._rings

    def _ring(self, stop: int) -> RowFile:
        """The ring that holds the rows below `stop`: another one, once a larger ring has taken its name."""
        if not self._open_rings()[0].covers(stop):
            self._drop_rings()
        return self._open_rings()[0]

    def _frames(self, stop: int) -> EntryFile:
        """The same for entry bytes."""
        if not self._open_rings()[1].covers(stop):
            self._drop_rings()
        return self._open_rings()[1]

    def _drop_rings(self) -> None:
        if self._rings is not None:
            for file in self._rings:
                file.close()
            self._rings = None

    @property
    def volume_fd(self) -> int:
        """Descriptor of the volume's folder; the store's."""
        return self._fd

    def chunks_fd(self) -> int:
        """Descriptor of the folder of chunk files; the reader's own. Any thread: chunks are opened where a cold disk may be waited for."""
        with self._opening:
            if self._chunks_fd < 0:
                self._chunks_fd = os.open(f"{track_path(self.camera, self.name)}/c",
                                          os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
            return self._chunks_fd

    def _gone(self) -> Gone:
        return Gone("the footage has been retired", where=self.where, remedy="ask for a later time")


