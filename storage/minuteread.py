"""Figures by the minute for readers: from the array beside the tape, and from rows where it says nothing."""

import errno
import os

import numpy as np

from recorder.base.errors import FormatError, Gone
from storage.footage import I64
from storage.minutes import COLUMNS, COVERED, DAY, DAY_BYTES, LINE_BYTES, MINUTE_NS, MISSING, ODD, day_name, minutes_path, tally, unpack
from storage.reader import TrackReader
from storage.sickdisk import sick
from storage.track import Track

AT_ONCE = 60            # minutes that are computed from rows in one go: bounds what the entries take


def minutes(track: Track, start: int, stop: int) -> I64:
    """The lines of the minutes [start, stop) since 1970 of a track over all its tapes, int64 of shape (stop - start, len(COLUMNS)).

    What the array does not tell is computed from rows; what has been retired is zeros. Reads files.
    """
    return track.without_sick(lambda: _over(track, start, stop), start * MINUTE_NS, stop * MINUTE_NS, entries=True)


def _over(track: Track, start: int, stop: int) -> I64:
    tapes = track.tapes
    lines = of_tape(tapes[0], start, stop)
    for tape in tapes[1:]:
        lines += of_tape(tape, start, stop)
    if len(tapes) > 1:      # what one tape misses another may have
        lines[:, MISSING] = np.minimum(lines[:, MISSING], np.maximum(0, MINUTE_NS // 1_000_000 - lines[:, COVERED]))
    return lines


def of_tape(tape: TrackReader, start: int, stop: int) -> I64:
    """The same of one tape."""
    lines = np.zeros((max(0, stop - start), len(COLUMNS)), np.int64)
    edges = tape.edges()
    if not edges.first_ns:
        return lines
    low, high = max(start, edges.first_ns // MINUTE_NS), min(stop, -(-edges.visible_end_ns // MINUTE_NS))
    if high <= low:
        return lines
    told = stored(tape, low, high)
    if edges.first_row and low == edges.first_ns // MINUTE_NS:      # the line is of the whole minute, of which a part has been retired
        told[0] = 0
    for begin, end in _silent(told):
        told[begin:end] = _computed(tape, (low + begin, low + end), (edges.first_ns, edges.visible_end_ns))
    lines[low - start:high - start] = told
    return lines


def stored(tape: TrackReader, start: int, stop: int) -> I64:
    """What the array holds of the minutes [start, stop) of a tape: lines as of `of_tape`, zeros where it says nothing or cannot be read."""
    lines = np.zeros((stop - start, len(COLUMNS)), np.int64)
    folder = minutes_path(tape.camera, tape.name)
    for day in range(start // DAY, -(-stop // DAY)):
        low, high = max(start, day * DAY), min(stop, (day + 1) * DAY)
        try:
            lines[low - start:high - start] = _of_day(tape, f"{folder}/{day_name(day)}", low - day * DAY, high - low)
        except OSError as error:
            if not (error.errno in {errno.ENOENT, *ODD} or sick(error)):
                raise
    return lines


def _of_day(tape: TrackReader, path: str, first: int, count: int) -> I64:
    """`count` lines of a day's file from line `first` on; zeros of a file that is not whole."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tape.volume_fd)
    try:
        if os.fstat(fd).st_size != DAY_BYTES:
            return np.zeros((count, len(COLUMNS)), np.int64)
        return unpack(os.pread(fd, count * LINE_BYTES, first * LINE_BYTES))
    finally:
        os.close(fd)


def _silent(lines: I64) -> list[tuple[int, int]]:
    """Stretches of lines that say nothing, none longer than AT_ONCE."""
    silent = np.concatenate(([False], (lines[:, COVERED] == 0) & (lines[:, MISSING] == 0), [False]))
    edges = np.flatnonzero(silent[1:] != silent[:-1]).tolist()
    return [(at, min(at + AT_ONCE, end)) for begin, end in zip(edges[::2], edges[1::2], strict=True) for at in range(begin, end, AT_ONCE)]


def _computed(tape: TrackReader, minutes: tuple[int, int], expected: tuple[int, int]) -> I64:
    """The lines from rows; zeros where rows are gone or unreadable meanwhile."""
    run = tape.rows(minutes[0] * MINUTE_NS, minutes[1] * MINUTE_NS)
    try:
        entries = tape.entries(run)
    except (Gone, FormatError):
        return np.zeros((minutes[1] - minutes[0], len(COLUMNS)), np.int64)
    return tally(run, entries, minutes, expected)
