"""The kernel recorder/_ext/samples.pyx said once more in numpy: the same names, arguments and results."""

import struct

import numpy as np

from recorder.base.media import NS, AuFlag


def place(chosen, row, dts, cts, size, offset, anchors, base, rate, entry, less, squeeze, hz, first_row):
    at = row.astype(np.int64)[chosen]
    origin = anchors[at] - (0 if less is None else less)
    when, shown = ((of[chosen] - base[at]) * hz // rate[at] for of in (dts, dts + cts))
    if squeeze is not None:
        when, shown = (np.floor(of * squeeze[at]).astype(np.int64) for of in (when, shown))
    when, shown = origin + when, origin + shown
    ramp = np.arange(len(chosen))
    when = np.maximum.accumulate(when - ramp) + ramp
    return (size[chosen].astype(np.int64), when, np.maximum(shown - when, 0), entry[at] + 1, offset[chosen].astype(np.int64), at + first_row)


def decodable(row, flags, breaks):
    at, key = np.arange(len(row)), (flags & AuFlag.KEY) != 0
    last_key = np.maximum.accumulate(np.where(key, at, -1)).astype(np.int64)
    first_au = np.searchsorted(row, np.arange(len(breaks)))
    starts = np.zeros(len(row), np.bool_)
    starts[first_au[breaks.astype(np.bool_)]] = True
    run_start = np.maximum.accumulate(np.where(starts, at, 0))
    new_here = key & (np.concatenate(([-1], last_key[:-1])) < run_start)
    leading = (flags & AuFlag.LEADING) != 0
    return ((last_key >= run_start) & ~(leading & new_here[np.maximum(last_key, 0)])).view(np.uint8), last_key


def reached(wall, cts, dur, row, rate):
    hz = rate[row.astype(np.int64)]
    return int((wall - cts.astype(np.int64) * NS // hz).max()), int((wall + dur * NS // hz).max())


def sounding(wall, dur, row, rate, cut_start, cut_end, zero, presented):
    lasts = dur * NS // rate[row.astype(np.int64)]
    lengths, ends = np.concatenate(([0], np.cumsum(cut_end - cut_start))), np.append(cut_end, 0)

    def before(times):
        return np.searchsorted(cut_start, times, side="right")

    over = np.where(before(wall) > 0, ends[before(wall) - 1] - wall, 0)
    at = wall - zero - lengths[before(wall)] + np.maximum(over, 0)
    middle = wall + lasts // 2
    cut_out = (before(middle) > 0) & (middle < ends[before(middle) - 1])
    return np.flatnonzero((at + lasts > 0) & (at < presented) & ~cut_out)


def smooth(anchors, native, breaks, slack):
    out = anchors.tolist()
    for at in range(1, len(out)):
        expected = out[at - 1] + int(native[at - 1])
        if not breaks[at] and abs(expected - out[at]) <= slack:
            out[at] = expected
    return np.array(out, np.int64)


def steps(dts, last):
    return np.diff(dts, append=dts[-1:] + last)


def chunks(size, offset, row, entry):
    follows = (offset[1:] == offset[:-1] + size[:-1]) & (np.diff(row) == 0) & (np.diff(entry) == 0)
    return np.concatenate(([0], np.flatnonzero(~follows) + 1)).astype(np.int64)


def runs(values):
    first = np.concatenate(([0], np.flatnonzero(np.diff(values)) + 1))
    return _table(np.diff(first, append=len(values)).astype(np.int64), values[first])


def words(values):
    return _table(values)


def _table(*columns):
    rows = np.stack(columns, axis=1) & 0xFFFFFFFF
    return struct.pack(">I", len(rows)) + rows.astype(">u4").tobytes()
