"""What readers are handed: plain values and copied arrays; nothing here looks into a mapped file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.base.media import RowFlag

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
Rows = np.ndarray[Any, np.dtype[np.void]]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where a track begins and ends now.

    `first_row` is the oldest row that may be read, `next_row` the number of the open row (or of the next one, while `has_open` is False).
    `visible_*`: bytes and time that may be read; `durable_*`: the part of them that a power cut leaves (`durable_end_ns` is `first_ns`
    while nothing is). Times are UTC ns, 0 while the track is empty. `live`: a live file stands for it (a worker is, or was, running
    since boot).
    """

    first_row: int
    next_row: int
    first_ns: int
    visible_end_ns: int
    durable_end_ns: int
    visible_offset: int
    durable_offset: int
    tail_offset: int
    live: bool
    has_open: bool


@dataclass(frozen=True, slots=True)
class RowRun:
    """Rows `first`, `first + 1`, ...: a checked copy (layout.ROW, C order); the last may be the open row (flag OPEN)."""

    first: int
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def next(self) -> int:
        """Number of the row after the run."""
        return self.first + len(self.rows)

    @property
    def start_ns(self) -> int:
        """UTC of the first row; 0 of an empty run."""
        return int(self.rows["t_ns"][0]) if len(self.rows) else 0

    @property
    def end_ns(self) -> int:
        """UTC of the end of the last row; 0 of an empty run."""
        return int(row_ends(self.rows[-1:])[0]) if len(self.rows) else 0

    @property
    def open(self) -> bool:
        """True if the last row still grows."""
        return bool(len(self.rows)) and bool(self.rows["flags"][-1] & RowFlag.OPEN)


@dataclass(frozen=True, slots=True)
class Entries:
    """All AUs of a run in decode order, one element per AU in every array.

    `row`: index of its row in the run (u32); `size`: bytes (u32); `dts`: absolute ticks (i64); `dts_rel`: ticks since its row's first DTS;
    `cts`: pts - dts (i32); `dur`: ticks to the next DTS of the row, or to the row's end; `flags`: AuFlag KEY, LEADING, DAMAGED (u8);
    `offset`: tape offset of its first byte (u64); `wall_ns`: presentation time in UTC: its row's t_ns + (pts - media_pts), scaled by the
    row's wall duration over its media duration, so that clock drift lies in the rows and never jumps.
    """

    row: U32
    size: U32
    dts: I64
    dts_rel: I64
    cts: I32
    dur: I64
    flags: U8
    offset: U64
    wall_ns: I64

    def __len__(self) -> int:
        return len(self.size)

    @property
    def pts(self) -> I64:
        """Presentation time in absolute ticks."""
        return self.dts + self.cts


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch with footage, [start_ns, end_ns); `damaged` are the ranges in it of rows that bear the flag DAMAGED."""

    start_ns: int
    end_ns: int
    damaged: tuple[tuple[int, int], ...] = ()


def row_ends(rows: Rows) -> I64:
    """UTC of the end of each row, ns."""
    ends: I64 = rows["t_ns"] + rows["wall_dur_us"].astype(np.int64) * 1000
    return ends
