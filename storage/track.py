"""A track over its tapes: one per volume it was ever recorded on, put together by time.

Row numbers and offsets are a tape's own, so whoever reads rows reads them from one tape: a `Piece`. Where one tape's footage ends and
another's goes on there is always a break (another session), so nothing that is played without a break needs two tapes.

A camera that goes to another volume takes along what was not durable on the one it leaves, from the start of a row on. What is left of
those rows there is the same footage once more: of rows that begin at once the longest is shown.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from recorder.base.errors import WatchroomError
from recorder.base.media import Gap, GapCause, TrackKind
from storage.evidence import Evidence
from storage.footage import RowRun, Rows, Span
from storage.layout import ROW
from storage.reader import TrackReader
from storage.timeline import BLOCK_ROWS, HOLE_NS, UNEXPLAINED, Bounds, Timeline, Whole, measure

Stretch = tuple[TrackReader, int, int]
Source = Callable[[TrackReader, int, int, Rows], Iterator[RowRun | Whole]]
LeaveOut = Callable[[TrackReader, OSError], bool]
TRIES = 3
ENTRY_ROWS = 2_000      # whose AUs are looked at in one go: bounds what they take
LEFT_OUT = "a disk cannot tell now what it has of this time"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one tape that follow each other in the track."""

    tape: TrackReader
    run: RowRun


class Track:
    """One track, get it from TapeStore.whole. For one thread at a time; says what the tapes say now each time it is asked.

    `held`: what holds have kept of the tapes. That is footage like any other; only where the track begins it does not say.
    `leave_out`: called with a tape that its disk cannot read; True if `tapes` gives the others without it from now on. `left_out`: the
    places of the volumes whose tapes are left out.
    """

    def __init__(self, tapes: Callable[[], tuple[TrackReader, ...]], held: Callable[[], tuple[TrackReader, ...]] = tuple,
                 leave_out: LeaveOut = lambda tape, error: False, left_out: Callable[[], tuple[int, ...]] = tuple) -> None:
        self._tapes, self._held, self._leave_out, self._left_out = tapes, held, leave_out, left_out
        newest = self.newest
        self.camera, self.name, self.where = newest.camera, newest.name, newest.where
        self.kind: TrackKind = newest.kind

    @property
    def tapes(self) -> tuple[TrackReader, ...]:
        """What holds have kept, then its tapes, the one with the newest footage last. NotFound once there is none any more."""
        return (*self._held(), *self._tapes())

    @property
    def newest(self) -> TrackReader:
        """The tape that is recorded on, or was last."""
        return self._tapes()[-1]

    @property
    def unreadable(self) -> tuple[int, ...]:
        """Places of volumes whose disk cannot tell now what it has of the track: the answers before and after this are without it."""
        return self._left_out()

    def at(self, time_ns: int | None) -> TrackReader:
        """The tape whose footage is shown at a time: the one with the newest row that starts at or before it (None: the newest tape)."""
        return self.without_sick(lambda: self._at(time_ns), 0 if time_ns is None else time_ns, 0 if time_ns is None else time_ns + 1)

    def _at(self, time_ns: int | None) -> TrackReader:
        tapes = self.tapes
        if time_ns is None or len(tapes) == 1:
            return tapes[-1]
        begun = [(found[1], index) for index, tape in enumerate(tapes) if (found := tape.row_at(time_ns)) is not None]
        return tapes[max(begun)[1]] if begun else min(tapes, key=lambda tape: tape.edges().first_ns or 1 << 63)

    def bounds(self) -> Bounds:
        """Where the track begins and ends now, whatever of the time before holds have kept."""
        return self.without_sick(lambda: joined([tape.bounds() for tape in self._tapes()]), 0, 0)

    def pieces(self, start_ns: int, end_ns: int, *, durable: bool = False) -> list[Piece]:
        """All rows that overlap [start_ns, end_ns) as TrackReader.rows gives them, in order of time."""
        return self.without_sick(lambda: self._pieces(start_ns, end_ns, durable), start_ns, end_ns)

    def _pieces(self, start_ns: int, end_ns: int, durable: bool) -> list[Piece]:
        for _ in range(TRIES):
            tapes = self.tapes
            runs = ((tape, tape.rows(start, end, durable=durable)) for tape, start, end in stretches(tapes, start_ns, end_ns))
            found = [Piece(tape, run) for tape, run in runs if len(run)]
            if self.tapes == tapes:
                break           # else held rows have come out of sight of their tape meanwhile, and were in neither
        return found

    def timeline(self, start_ns: int, end_ns: int, step_ns: int = 0, source: Source = TrackReader.blocks) -> Timeline:
        """Spans, gaps and figures of [start_ns, end_ns); with `step_ns` also per step (storage/timeline.py).

        `source` gives a tape's rows in a range; storage/minuteline.py has one that reads fewer.
        """
        return self.without_sick(lambda: self._timeline(start_ns, end_ns, step_ns, source), start_ns, end_ns)

    def _timeline(self, start_ns: int, end_ns: int, step_ns: int, source: Source) -> Timeline:
        tapes = self.tapes
        one = len(tapes) == 1
        gaps = tapes[0].gap_list() if one else merged_gaps([(tape, tape.gap_list()) for tape in tapes], start_ns, end_ns)
        found = measure(lambda buffer: _blocks(tapes, start_ns, end_ns, buffer, source), self.bounds(), start_ns, end_ns, step_ns, gaps)
        if unreadable := self.unreadable:
            found = replace(found, gaps=[_of_the_disk(gap) for gap in found.gaps], unreadable=unreadable)
        if one:
            return found
        until_ns = found.begin_ns if found.expected_ns else end_ns
        held_ns = sum(max(0, min(tape.bounds().visible_end_ns, until_ns) - max(tape.bounds().first_ns, start_ns)) for tape in self._held())
        return replace(found, expected_ns=found.expected_ns + held_ns)

    def gaps(self, start_ns: int, end_ns: int) -> list[Gap]:
        """Gaps that overlap [start_ns, end_ns), in order, with their true bounds; the last one may be open."""
        return self.timeline(start_ns, end_ns).gaps

    def spans(self, start_ns: int, end_ns: int) -> list[Span]:
        """Stretches with footage, cut to [start_ns, end_ns)."""
        return self.timeline(start_ns, end_ns).spans

    def evidence(self, start_ns: int, end_ns: int) -> Evidence:
        """The camera's sender reports, and the steps of our clock, in [start_ns, end_ns). Reads the logs."""
        found = self.without_sick(lambda: [tape.evidence(start_ns, end_ns) for tape in self._tapes()], start_ns, end_ns)
        return Evidence(tuple(sorted((report for one in found for report in one.reports), key=lambda report: report.arrival_ns)),
                        tuple(sorted((epoch for one in found for epoch in one.epochs), key=lambda epoch: epoch.wall_ns)))

    def without_sick(self, ask: Callable[[], T], start_ns: int, end_ns: int, *, entries: bool = False) -> T:
        """What `ask` says; said again without tapes that turn out to be unreadable in [start_ns, end_ns), if there are others.

        `entries`: it also asks for the AUs of that time.
        """
        for _ in range(TRIES):
            try:
                return ask()
            except OSError as error:
                faults = [(tape, failed) for tape in self.tapes if (failed := fault(tape, start_ns, end_ns, entries=entries)) is not None]
                left_out = [self._leave_out(*one) for one in faults]
                if not any(left_out):
                    raise error
        return ask()


def fault(tape: TrackReader, start_ns: int, end_ns: int, *, entries: bool = False) -> OSError | None:
    """What the disk answers when everything is read that a tape says of [start_ns, end_ns), its AUs if `entries`; None if it can be read."""
    try:
        tape.bounds(), tape.gap_list(), tape.row_at(start_ns), tape.row_from(end_ns)
        for run in tape.blocks(start_ns, end_ns, np.empty(BLOCK_ROWS, ROW)):
            for at in range(0, len(run) if entries else 0, ENTRY_ROWS):
                tape.entries(RowRun(run.first + at, run.rows[at:at + ENTRY_ROWS]))
    except OSError as error:
        return error
    except WatchroomError:
        return None             # retired meanwhile, or damaged: not the disk's
    return None


def stretches(tapes: Sequence[TrackReader], start_ns: int, end_ns: int) -> Iterator[Stretch]:
    """(tape, start, end) in order: on which tape the footage of [start_ns, end_ns) lies. A few look-ups per change of tape."""
    if len(tapes) == 1:
        yield tapes[0], start_ns, end_ns
        return
    heads = {tape: head for tape in tapes if (head := _head(tape, start_ns)) is not None and head < end_ns}
    last: Stretch | None = None
    while heads:
        tape = _front(tapes, heads, end_ns, last[0] if last is not None else None)
        begin_ns = heads.pop(tape)
        stop_ns = max(min([*heads.values(), end_ns]), begin_ns + 1)
        if last is not None and last[0] is tape:
            begin_ns = last[1]
        elif last is not None:
            yield last
        last = tape, begin_ns, stop_ns
        following = tape.row_from(stop_ns)
        if following is not None and following[1] < end_ns:
            heads[tape] = following[1]
    if last is not None:
        yield last


def _front(tapes: Sequence[TrackReader], heads: dict[TrackReader, int], end_ns: int, before: TrackReader | None) -> TrackReader:
    """The tape that goes on first. Where several begin with the same row: the one that has most of it (of equals another than `before`),
    and the others go on behind that row."""
    least_ns = min(heads.values())
    front = [tape for tape in tapes if tape in heads and heads[tape] - least_ns < HOLE_NS]
    if len(front) == 1:
        return front[0]
    ends = {tape: tape.rows(heads[tape], heads[tape] + 1).end_ns for tape in front}
    whole = [tape for tape in front if ends[tape] > max(ends.values()) - HOLE_NS]
    chosen = next((tape for tape in whole if tape is not before), whole[0])
    for tape in front:
        if tape is not chosen:
            following = tape.row_from(max(ends[chosen] - HOLE_NS, heads[tape] + 1))
            if following is None or following[1] >= end_ns:
                del heads[tape]
            else:
                heads[tape] = following[1]
    return chosen


def _head(tape: TrackReader, start_ns: int) -> int | None:
    """From when on the tape has something at or after `start_ns`."""
    if len(tape.rows(start_ns, start_ns + 1)):
        return start_ns
    found = tape.row_from(start_ns)
    return None if found is None else found[1]


def _blocks(tapes: Sequence[TrackReader], start_ns: int, end_ns: int, buffer: Rows, source: Source) -> Iterator[
        tuple[TrackReader, RowRun | Whole]]:
    for tape, begin_ns, stop_ns in stretches(tapes, start_ns, end_ns):
        for run in source(tape, begin_ns, stop_ns, buffer):
            yield tape, run


def merged_gaps(known: Sequence[tuple[TrackReader, Sequence[Gap]]], start_ns: int, end_ns: int) -> list[Gap]:
    """The tapes' gaps by start, exact in [start_ns, end_ns) and for the last.

    A gap of one tape lasts until another tape says anything later, footage or gap: from then on the track is recorded there.
    """
    tapes = [tape for tape, _ in known]
    kept = [[_begin(gap, tapes, rank) if _overlaps(gap, start_ns, end_ns) else gap for gap in gaps] for rank, (_, gaps) in enumerate(known)]
    everything = sorted(((gap, rank) for rank, gaps in enumerate(kept) for gap in gaps), key=lambda pair: pair[0].start_ns)
    starts = [[gap.start_ns for gap in gaps] for gaps in kept]
    out = []
    for index, (gap, rank) in enumerate(everything):
        later: list[int] = []
        if _overlaps(gap, start_ns, end_ns) or index == len(everything) - 1:
            later = [heard for at, other in enumerate(tapes) if at != rank for heard in _next(other, starts[at], gap, tapes[rank])]
        cut = bool(later) and (gap.end_ns is None or gap.end_ns > min(later))
        out.append(replace(gap, end_ns=min(later)) if cut else gap)
    return [gap for gap in out if gap.end_ns is None or gap.end_ns > gap.start_ns]


def _of_the_disk(gap: Gap) -> Gap:
    """A gap of which no cause is known, while a disk cannot tell what it has of the time."""
    return replace(gap, cause=GapCause.DISK, detail=LEFT_OUT) if gap.detail == UNEXPLAINED else gap


def _overlaps(gap: Gap, start_ns: int, end_ns: int) -> bool:
    return gap.start_ns < end_ns and (gap.end_ns is None or gap.end_ns > start_ns)


def _begin(gap: Gap, tapes: Sequence[TrackReader], rank: int) -> Gap:
    """The gap without what another tape has after all: of a disk that failed more may be left than was known to be. Nothing of it is left
    if the track went on over there with the very row that was the last here."""
    begin_ns, begun_ns = gap.start_ns, _begun(tapes[rank], gap.start_ns)
    for at, tape in enumerate(tapes):
        run = tape.rows(begin_ns, begin_ns + 1) if at != rank and begun_ns else None
        if run is not None and len(run) and (abs(run.start_ns - begun_ns) < HOLE_NS or (at > rank and run.start_ns >= begun_ns)):
            return replace(gap, end_ns=begin_ns)
    for tape in (tape for at, tape in enumerate(tapes) if at != rank):
        while len(run := tape.rows(begin_ns, begin_ns + HOLE_NS)) and run.end_ns > begin_ns:
            begin_ns = run.end_ns
    return replace(gap, start_ns=begin_ns if gap.end_ns is None else min(begin_ns, gap.end_ns)) if begin_ns > gap.start_ns else gap


def _next(other: TrackReader, starts: Sequence[int], gap: Gap, tape: TrackReader) -> list[int]:
    """When another tape says something after the start of the tape's gap: footage, or a gap.

    Of two gaps that begin at once that of the tape which the track came to holds: its footage before them is the older one."""
    row = other.row_from(gap.start_ns)
    at = bisect_left(starts, gap.start_ns)
    if at < len(starts) and starts[at] == gap.start_ns and _begun(other, gap.start_ns) > _begun(tape, gap.start_ns):
        at += 1
    return [*([row[1]] if row is not None else []), *starts[at:at + 1]]


def _begun(tape: TrackReader, time_ns: int) -> int:
    """When the tape's newest row before a time began; 0 if there is none."""
    found = tape.row_at(time_ns - 1)
    return 0 if found is None else found[1]


def joined(bounds: Sequence[Bounds]) -> Bounds:
    """The bounds of all together."""
    filled = [one for one in bounds if one.first_ns]
    first_ns = min((one.first_ns for one in filled), default=0)
    return Bounds(first_ns, max(one.visible_end_ns for one in bounds), max(one.durable_end_ns for one in bounds),
                  any(one.retired for one in bounds))
