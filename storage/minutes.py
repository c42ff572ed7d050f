"""Figures of a track by the minute: a plain Zarr array beside its tape, derived from rows and entries, never a truth.

`tape.zarr/cam-<n>/<track>.minutes`: uint32, one line of COLUMNS per minute of UTC (line = seconds since 1970 // 60), a file per day. A line of
zeros says nothing: the minute is to be computed from the rows, or there is nothing of it. Values in, values out; files are others' work
(storage/minutebook.py writes, storage/minuteread.py reads).
"""

import errno
from typing import Any

import numpy as np

from recorder._ext import rowsearch
from recorder.base.media import NS, AuFlag
from storage.footage import I64, Entries, RowRun
from storage.timeline import HOLE_NS

COLUMNS = ("bytes", "frames", "keys", "covered_ms", "missing_ms", "damaged_ms")
BYTES, FRAMES, KEYS, COVERED, MISSING, DAMAGED = range(len(COLUMNS))
MINUTE_NS = 60 * NS
DAY = 1440                          # minutes
DAYS = 46_603                       # of the array's shape: up to the year 2097
LINE_BYTES = 4 * len(COLUMNS)
DAY_BYTES = DAY * LINE_BYTES
UINT32 = (1 << 32) - 1
ODD = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY})     # something else lies there; the disk is well


def minutes_path(camera: int, track: str) -> str:
    """The array's folder, relative to the volume."""
    return f"tape.zarr/cam-{camera}/{track}.minutes"


def day_name(day: int) -> str:
    """The file of a day (days since 1970), relative to the array's folder."""
    return f"{day}.0"


def day_of(name: str) -> int | None:
    """The day whose file bears this name; None if it is no day's."""
    day, dot, rest = name.partition(".")
    return int(day) if dot and rest == "0" and day.isascii() and day.isdecimal() and len(day) < 6 else None


def minutes_document(camera: int, track: str) -> dict[str, Any]:
    """The array's zarr.json, as zarr-python 3.1 writes it."""
    return {
        "shape": [DAYS * DAY, len(COLUMNS)],
        "data_type": "uint32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [DAY, len(COLUMNS)]}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {"watchroom": {"camera": camera, "track": track, "columns": list(COLUMNS), "line": "minutes since 1970, UTC"}},
        "dimension_names": ["minute", "column"],
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def tally(run: RowRun, aus: Entries, minutes: tuple[int, int], expected: tuple[int, int]) -> I64:
    """The lines of the `minutes` [start, stop), int64 of shape (stop - start, len(COLUMNS)).

    `run` must have all rows that overlap them, `aus` all its AUs. Of the `expected` time [from, to), UTC ns, what no row covers is missing.
    """
    start, stop = minutes
    lines = np.zeros((stop - start, len(COLUMNS)), np.int64)
    begin_ns, end_ns, rows = start * MINUTE_NS, stop * MINUTE_NS, np.ascontiguousarray(run.rows)
    covered, damaged, nbytes = (np.zeros(stop - start, np.int64) for _ in range(3))
    holes, hurt = (np.empty(2 * len(rows) + 2, np.int64) for _ in range(2))
    carry = np.array([max(begin_ns, expected[0]), 0, 0, 0], np.int64)
    rowsearch.tally(rows.view(np.uint8), run.first, carry, begin_ns, end_ns, MINUTE_NS, HOLE_NS, covered, damaged, nbytes, holes, hurt)
    missing = [*holes[:2 * int(carry[1])].reshape(-1, 2).tolist(), (int(carry[0]), min(end_ns, expected[1]))]
    for start_ns, stop_ns in missing:
        if stop_ns - start_ns > HOLE_NS:
            _spread(lines[:, MISSING], start_ns - begin_ns, stop_ns - begin_ns)
    lines[:, COVERED], lines[:, DAMAGED] = covered // 1_000_000, damaged // 1_000_000
    inside = (aus.wall_ns >= begin_ns) & (aus.wall_ns < end_ns)
    at = (aus.wall_ns[inside] - begin_ns) // MINUTE_NS
    lines[:, BYTES] = np.bincount(at, aus.size[inside], stop - start)
    lines[:, FRAMES] = np.bincount(at, minlength=stop - start)
    lines[:, KEYS] = np.bincount(at[aus.flags[inside] & int(AuFlag.KEY) != 0], minlength=stop - start)
    return lines


def _spread(column: I64, start_ns: int, stop_ns: int) -> None:
    """Add the stretch to the minutes it touches, in ms."""
    first, last = start_ns // MINUTE_NS, (stop_ns - 1) // MINUTE_NS
    column[first + 1:last] += MINUTE_NS // 1_000_000
    if first == last:
        column[first] += (stop_ns - start_ns) // 1_000_000
    else:
        column[first] += ((first + 1) * MINUTE_NS - start_ns) // 1_000_000
        column[last] += (stop_ns - last * MINUTE_NS) // 1_000_000


def pack(lines: I64) -> bytes:
    """Lines as they lie in a day's file."""
    return np.minimum(lines, UINT32).astype("<u4").tobytes()


def unpack(data: bytes) -> I64:
    """The inverse; `data` is whole lines."""
    return np.frombuffer(data, "<u4").astype(np.int64).reshape(-1, len(COLUMNS))
