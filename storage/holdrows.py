"""Which rows of a tape its holds keep: by time, from the row on from which each counts, and with the rows that these continue."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from recorder.base.media import RowFlag
from storage.footage import Rows
from storage.holdshelf import Bools, Taken, held_rows
from storage.layout import ROW
from storage.tapebook import row_end_ns
from storage.tapework import TapeWork

BACK_ROWS = 32          # a row that continues another is at most so many after its access point
Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Held:
    """The holds that concern a track, and all times that they name."""

    takens: tuple[Taken, ...]
    camera: int
    track: str
    stretches: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, takens: Iterable[Taken], camera: int, track: str) -> "Held":
        """Those of `takens` that name the track."""
        mine = tuple(taken for taken in list(takens) if taken.hold.stretches(camera, track))
        return cls(mine, camera, track, tuple(sorted(s for taken in mine for s in taken.hold.stretches(camera, track))))

    def rows(self, work: TapeWork, first_row: int, rows: Rows) -> Bools:
        """Which of a chunk's rows are kept."""
        after = _continuing(work, first_row + len(rows))
        return held_rows(self.takens, self.camera, self.track, first_row, np.concatenate((rows, after)))[:len(rows)]

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """True if some of [start_ns, end_ns] is held."""
        return any(start <= end_ns and end >= start_ns for start, end in self.stretches)


def _continuing(work: TapeWork, number: int) -> Rows:
    """The closed rows from `number` on that continue the row before them."""
    found: list[bytes] = []
    while len(found) < BACK_ROWS and number + len(found) < work.core.next_row and (raw := work.row(number + len(found))) is not None:
        if not continues(raw):
            break
        found.append(raw)
    return np.frombuffer(b"".join(found), ROW)


def continues(raw: bytes) -> bool:
    """True if a row needs the row before it to be decoded."""
    return bool(int.from_bytes(raw[38:40], "little") & RowFlag.CONTINUED)


def touched(work: TapeWork, held: Held, low: int, high: int) -> Ranges:
    """The runs of closed rows of [low, high) that something held may lie in, in order; a few look-ups per stretch of time.

    A row of which no copy is left may be held.
    """
    found: Ranges = []
    stop = work.core.next_row
    for start_ns, end_ns in held.stretches:
        first = _first(work, low, stop, lambda raw: row_end_ns(raw) > start_ns or _t_ns(raw) >= start_ns, lost=True)   # noqa: B023
        after = _first(work, first, stop, lambda raw: _t_ns(raw) >= end_ns, lost=False)     # noqa: B023
        if after > first and (begin := _back(work, low, first)) < high:
            found.append((begin, min(after, high)))
    return _joined(sorted(found))


def _first(work: TapeWork, low: int, high: int, right: Callable[[bytes], bool], *, lost: bool) -> int:
    """The first row of [low, high) that is right; rows of which no copy is left are taken for right, or not, as `lost` says."""
    while low < high:
        middle = (low + high) // 2
        raw = work.row(middle)
        if right(raw) if raw is not None else lost:
            high = middle
        else:
            low = middle + 1
    return low


def _back(work: TapeWork, low: int, row: int) -> int:
    """The row that `row` begins with: itself, or the one that it continues."""
    for _ in range(BACK_ROWS):
        raw = work.row(row)
        if row <= low or raw is None or not continues(raw):
            break
        row -= 1
    return row


def _joined(ranges: Ranges) -> Ranges:
    out: Ranges = []
    for first, after in ranges:
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], after))
        else:
            out.append((first, after))
    return out


def _t_ns(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "little", signed=True)
