"""Spans, gaps, damage and completeness of a range of one track, from its rows and its log. Values out; the rows come in blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recorder._ext import rowsearch
from recorder.base.errors import Refused
from recorder.base.media import Gap, GapCause
from storage.footage import I64, RowRun, Rows, Span
from storage.layout import ROW

HOLE_NS = 10_000_000        # rows that lie closer than this touch: rounding of their ends, never footage
BLOCK_ROWS = 16_384
MAX_STEPS = 100_000
UNEXPLAINED = "no cause was written down"

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """[start_ns, end_ns) of a track.

    `covered`, `damaged` (ns) and `nbytes` are per step of `step_ns` (i64, one element for the whole range when no step was asked for).
    `expected_ns` is the part of the range in which the track was to be recorded: from its first footage or gap to its newest footage, or
    to `end_ns` while a gap is open. Every instant of it lies in a span or in a gap. `unreadable`: places of volumes whose disk cannot tell now
    what it has of the track; all of this is without it.
    """

    start_ns: int
    end_ns: int
    step_ns: int
    covered: I64
    damaged: I64
    nbytes: I64
    spans: list[Span]
    gaps: list[Gap]
    expected_ns: int
    begin_ns: int                  # where the expected part of the range begins
    unreadable: tuple[int, ...] = ()

    @property
    def covered_ns(self) -> int:
        """Time with footage."""
        return int(self.covered.sum())

    @property
    def damaged_ns(self) -> int:
        """The part of it that is flagged damaged."""
        return int(self.damaged.sum())

    @property
    def completeness(self) -> float:
        """Share of the expected time that has footage, 0 to 1; 1 when nothing was expected."""
        return self.covered_ns / self.expected_ns if self.expected_ns else 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a track begins and ends now, UTC ns, 0 while it is empty; `retired`: it began earlier, and that is gone."""

    first_ns: int
    visible_end_ns: int
    durable_end_ns: int
    retired: bool


class RowSource(Protocol):
    """What `measure` needs of a TrackReader."""

    def lost(self, number: int) -> np.void | None: ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A stretch [start_ns, end_ns) that is known to be footage from end to end, none of it damaged. `nbytes`: of each of its equal parts."""

    start_ns: int
    end_ns: int
    nbytes: I64


Blocks = Callable[[Rows], Iterator[tuple[RowSource, RowRun | Whole]]]


class _Tally:
    """Figures in the making; see recorder/_ext/rowsearch.pyx, `tally`."""

    def __init__(self, start_ns: int, end_ns: int, step_ns: int) -> None:
        self.range, self.step_ns = (start_ns, end_ns), step_ns
        steps = -(-(end_ns - start_ns) // step_ns)
        self.covered, self.damaged, self.nbytes = (np.zeros(steps, np.int64) for _ in range(3))
        self.carry = np.array([start_ns, 0, 0, 0], np.int64)
        self._holes, self._hurt = (np.empty(2 * BLOCK_ROWS, np.int64) for _ in range(2))
        self.holes: Pairs = []
        self.hurt: Pairs = []

    def add(self, rows: Rows, first: int) -> int:
        """Take rows in up to the first bad one; returns how many."""
        done = rowsearch.tally(rows.view(np.uint8), first, self.carry, *self.range, self.step_ns, HOLE_NS, self.covered, self.damaged,
                               self.nbytes, self._holes, self._hurt)
        self.holes += _pairs(self._holes, int(self.carry[1]))
        for start, end in _pairs(self._hurt, int(self.carry[2])):
            if self.hurt and self.hurt[-1][1] == start:
                self.hurt[-1] = (self.hurt[-1][0], end)
            else:
                self.hurt.append((start, end))
        self.carry[1] = self.carry[2] = 0
        return done

    def add_whole(self, whole: Whole) -> None:
        """Take in a stretch that lies within the range, behind all rows so far that begin before it."""
        start_ns, reached = whole.start_ns, int(self.carry[0])
        if start_ns - reached > HOLE_NS:
            self.holes.append((reached, start_ns))
        else:
            start_ns = reached
        if whole.end_ns > start_ns:
            spread(self.covered, start_ns - self.range[0], whole.end_ns - self.range[0], self.step_ns)
            self.carry[0] = whole.end_ns
        self.carry[3] = 0
        each = (whole.end_ns - whole.start_ns) // len(whole.nbytes)
        at = (whole.start_ns - self.range[0] + np.arange(len(whole.nbytes), dtype=np.int64) * each) // self.step_ns
        self.nbytes[at[0]:at[-1] + 1] += np.bincount(at - at[0], whole.nbytes).astype(np.int64)


def spread(column: I64, start_ns: int, end_ns: int, step_ns: int) -> None:
    """Add the stretch, ns since the column's start, to the steps over which it lies."""
    first, last = start_ns // step_ns, (end_ns - 1) // step_ns
    column[first:last + 1] += step_ns
    column[first] -= start_ns - first * step_ns
    column[last] -= (last + 1) * step_ns - end_ns


def measure(blocks: Blocks, bounds: Bounds, start_ns: int, end_ns: int, step_ns: int, gaps: Sequence[Gap]) -> Timeline:
    """The timeline of [start_ns, end_ns); `gaps` are all that the logs know, by start. Raises Refused above MAX_STEPS steps.

    `blocks` gives the published rows that overlap the range by time, each run in the buffer it is handed, with the tape they are of; or what
    is known without looking at rows.
    """
    end_ns = max(end_ns, start_ns)
    step_ns = step_ns or max(end_ns - start_ns, 1)
    if step_ns < 0 or (end_ns - start_ns) // step_ns >= MAX_STEPS:
        raise Refused(f"more than {MAX_STEPS} steps", where="timeline", remedy="ask for a coarser resolution or a shorter range")
    tally = _Tally(start_ns, end_ns, step_ns)
    buffer = np.empty(BLOCK_ROWS, ROW)
    any_row = False
    for tape, run in blocks(buffer):
        if isinstance(run, Whole):
            any_row = True
            tally.add_whole(run)
        else:
            any_row = any_row or len(run.rows) > 0
            _add_run(tape, tally, run)
    covered_to = int(tally.carry[0]) if any_row else start_ns
    expected = _expected(bounds, gaps, start_ns, end_ns, covered_to)
    shown = [gap for gap in gaps if gap.start_ns < end_ns and (gap.end_ns is None or gap.end_ns > start_ns)]
    shown += _unexplained(tally.holes, gaps, expected)
    shown.sort(key=lambda gap: gap.start_ns)
    spans = _spans(tally, covered_to)
    return Timeline(start_ns, end_ns, step_ns, tally.covered, tally.damaged, tally.nbytes, spans, shown, max(expected[1] - expected[0], 0),
                    expected[0])


def _add_run(tape: RowSource, tally: _Tally, run: RowRun) -> None:
    at = 0
    while at < len(run.rows):
        at += tally.add(run.rows[at:], run.first + at)
        if at < len(run.rows):
            row = tape.lost(run.first + at)
            if row is not None:
                tally.add(np.array([row], ROW), run.first + at)
            at += 1


def _expected(bounds: Bounds, gaps: Sequence[Gap], start_ns: int, end_ns: int, covered_to: int) -> tuple[int, int]:
    """The part of the range in which the track exists."""
    known = [bounds.first_ns] if bounds.first_ns else []
    if gaps and (not bounds.retired or not known):
        known.append(gaps[0].start_ns)
    if not known:
        return start_ns, start_ns
    last = gaps[-1] if gaps else None
    if last is not None and last.end_ns is None:
        stop = end_ns
    else:
        stop = min(end_ns, max(covered_to, bounds.visible_end_ns if bounds.visible_end_ns >= end_ns else 0,
                               last.end_ns or 0 if last is not None else 0))
    return max(start_ns, min(known)), stop


def _unexplained(holes: Pairs, gaps: Sequence[Gap], expected: tuple[int, int]) -> list[Gap]:
    """What lies in a hole and in no gap, inside the expected time."""
    found = []
    for start, end in holes:
        at = max(start, expected[0])
        for gap in gaps:
            if gap.start_ns >= end:
                break
            if gap.start_ns - at > HOLE_NS:
                found.append(Gap(at, gap.start_ns, GapCause.CRASH, UNEXPLAINED))
            at = max(at, end if gap.end_ns is None else gap.end_ns)
        if min(end, expected[1]) - at > HOLE_NS:
            found.append(Gap(at, min(end, expected[1]), GapCause.CRASH, UNEXPLAINED))
    return found


def _spans(tally: _Tally, covered_to: int) -> list[Span]:
    """What lies between the holes, each with its damage."""
    edges = [tally.range[0], *(at for hole in tally.holes for at in hole), covered_to]
    bounds = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]
    spans, hurt, at = [], tally.hurt, 0
    for start, end in bounds:
        inside = []
        while at < len(hurt) and hurt[at][0] < end:
            inside.append(hurt[at])
            at += 1
        spans.append(Span(start, end, tuple(inside)))
    return spans


def _pairs(flat: I64, count: int) -> Pairs:
    values = flat[:2 * count].tolist()
    return list(zip(values[::2], values[1::2], strict=True))
