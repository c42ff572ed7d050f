"""A tape's rows for a long timeline, as few of them as it takes: where lines of minutes say that there is footage without a break, they do."""

from collections.abc import Iterator

import numpy as np

from recorder._ext import rowsearch
from storage.footage import I64, RowRun, Rows, row_ends
from storage.heldtape import HeldTape
from storage.minuteread import stored
from storage.minutes import BYTES, COVERED, DAMAGED, MINUTE_NS, MISSING
from storage.reader import TrackReader
from storage.timeline import Whole

LEAST = 120             # minutes in a row: fewer are read as quickly from rows
WHOLE_MS = MINUTE_NS // 1_000_000


def blocks(tape: TrackReader, start_ns: int, end_ns: int, buffer: Rows) -> Iterator[RowRun | Whole]:
    """As TrackReader.blocks, but of minutes that are footage from end to end only what the lines say.

    As exact as rows; bytes count in the minute in which their AU is shown, not where its row begins. Of the two rows in which a stretch of
    such minutes begins and ends, the parts inside it are taken to be as large as they are long.
    """
    wholes = [] if isinstance(tape, HeldTape) else _wholes(tape, start_ns, end_ns)
    begins = [start_ns, *(whole.end_ns for whole in wholes)]
    stops = [*(whole.start_ns for whole in wholes), end_ns]
    for n, (begin_ns, stop_ns) in enumerate(zip(begins, stops, strict=True)):
        runs = tape.blocks(begin_ns, stop_ns, buffer)
        run = next(runs, None)
        if n:
            wholes[n - 1].nbytes[-1] -= _outside(run, 0, begin_ns, stop_ns)[0]
            yield wholes[n - 1]
        beyond = 0
        while run is not None:
            beyond = _outside(run, -1, begin_ns, stop_ns)[1]
            yield run
            run = next(runs, None)
        if n < len(wholes):
            wholes[n].nbytes[0] -= beyond


def _outside(run: RowRun | None, at: int, start_ns: int, end_ns: int) -> tuple[int, int]:
    """Bytes of a run's row before and after the range, in proportion to time; zeros if the row does not hold."""
    if run is None or not len(run):
        return 0, 0
    row, number = run.rows[at:][:1], run.first + at % len(run)
    if rowsearch.first_bad(row.view(np.uint8), number) != 1:
        return 0, 0
    begin_ns, stop_ns, nbytes = int(row["t_ns"][0]), int(row_ends(row)[0]), int(row["bytes"][0])
    span = max(stop_ns - begin_ns, 1)
    return (nbytes * max(0, min(start_ns, stop_ns) - begin_ns) // span, nbytes * max(0, stop_ns - max(end_ns, begin_ns)) // span)


def _wholes(tape: TrackReader, start_ns: int, end_ns: int) -> list[Whole]:
    """The long stretches of minutes of the range that are footage from end to end, and lie between such minutes: what is damaged for less
    than a line tells, at a minute's end, is beside one that is not."""
    edges = tape.edges()
    low = max(-(-start_ns // MINUTE_NS), edges.first_ns // MINUTE_NS + 1)
    high = min(end_ns, edges.visible_end_ns) // MINUTE_NS
    if not edges.first_ns or high - low < LEAST:
        return []
    lines = stored(tape, low, high)
    told = (lines[:, COVERED] == WHOLE_MS) & (lines[:, MISSING] == 0) & (lines[:, DAMAGED] == 0)
    return [Whole((low + a) * MINUTE_NS, (low + b) * MINUTE_NS, lines[a:b, BYTES].copy()) for a, b in _long(told)]


def _long(told: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """[start, stop) of the long runs of True, a minute at each end left out."""
    edges: I64 = np.flatnonzero(np.diff(np.concatenate(([False], told, [False])).astype(np.int8)))
    return [(a + 1, b - 1) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True) if b - a >= LEAST]
