"""The samples of one MP4 track as arrays, and the sample tables that describe them (ISO 14496-12 8.6, 8.7)."""

import struct
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from api.mp4.boxes import U32, full_box
from recorder._ext import samples as kernel
from recorder.base.errors import Refused

Int64 = NDArray[np.int64]
SIGNED = 1 << 31
RUNS_MAX = 16                 # the deepest reordering of H.264 and H.265, and the ticks by which a ramp of so many decode times may shorten one


@dataclass(frozen=True, slots=True)
class Samples:
    """Access units in decode order, all arrays of one length n. Ticks are the track's timescale.

    `dts` rises strictly; `cts` is pts - dts and may be negative. `entry` is the 1-based index into the track's sample entries,
    `offset` the place of the AU on the tape, `row` its row's number. `last_dur` is how long the last AU lasts in decode time.
    `lasts`: how long each AU lasts as a picture, where the next one is decoded sooner (None: nowhere); see `runs`.
    """

    size: Int64
    dts: Int64
    cts: Int64
    key: NDArray[np.bool_]
    entry: Int64
    offset: Int64
    row: Int64
    last_dur: int
    lasts: Int64 | None = None

    def __len__(self) -> int:
        return len(self.size)

    @property
    def pts(self) -> Int64:
        """Composition times."""
        return self.dts + self.cts

    @property
    def durations(self) -> Int64:
        """Decode deltas, one per sample."""
        return kernel.steps(self.dts, self.last_dur)

    def at_once(self) -> "Samples":
        """The same with the first picture shown as soon as it is decoded, and no decode time before: later ones stay as they are.

        Players that know no edit list, or take a decode time for a picture's, then show each picture at its own time.
        """
        ramp = np.arange(len(self), dtype=np.int64)
        return self.decoded(np.maximum(self.dts, (self.pts - ramp).min() + ramp))

    def decoded(self, dts: Int64) -> "Samples":
        """The same with these decode times, which rise; pictures are shown when, and as long as, they were."""
        if np.array_equal(dts, self.dts):
            return self
        return replace(self, dts=dts, cts=self.pts - dts, lasts=self.durations)

    def runs(self) -> "list[Samples]":
        """The same in runs that are each to be a fragment: an AU that lasts longer than until the next one is decoded is the last of its run.

        Within a fragment a sample lasts until the next one, and Chromium takes that for how long its picture is shown.
        """
        if self.lasts is None:
            return [self]
        short = np.flatnonzero(self.durations[:-1] + RUNS_MAX < self.lasts[:-1])[:RUNS_MAX]
        edges = [0, *(short + 1).tolist(), len(self)]
        return [replace(self.slice(first, stop), last_dur=int(self.lasts[stop - 1]), lasts=None) for first, stop in pairwise(edges)]

    def slice(self, first: int, stop: int) -> "Samples":
        """Samples [first, stop) on the same timeline."""
        last = int(self.dts[stop] - self.dts[stop - 1]) if stop < len(self) else self.last_dur
        part = slice(first, stop)
        return Samples(self.size[part], self.dts[part], self.cts[part], self.key[part], self.entry[part], self.offset[part],
                       self.row[part], last, None if self.lasts is None else self.lasts[part])

    def split(self) -> Int64:
        """First samples of the runs that lie contiguous on the tape within one row and share an entry: the chunks of 8.7.4."""
        return kernel.chunks(self.size, self.offset, self.row, self.entry)


def _table(*columns: Int64) -> bytes:
    """Count, then the columns side by side as 32-bit big-endian numbers (negative ones as two's complement)."""
    rows = np.stack(columns, axis=1) & 0xFFFFFFFF
    return struct.pack(">I", len(rows)) + rows.astype(">u4").tobytes()


def stts(durations: Int64) -> bytes:
    """Decoding time to sample (8.6.1.2). Raises Refused where a sample would last longer than 32 bits of ticks."""
    if len(durations) and int(durations.max()) >= U32:
        raise Refused("a gap in this range is too long for an MP4 file", remedy="ask for a shorter range or for gaps=close")
    return full_box(b"stts", 0, 0, kernel.runs(durations))


def ctts(offsets: Int64) -> bytes:
    """Composition offsets (8.6.1.3): nothing if all are zero, version 1 if one is negative."""
    if not offsets.any():
        return b""
    if int(offsets.max()) >= SIGNED or int(offsets.min()) < -SIGNED:
        raise Refused("pictures in this range are out of order by hours", remedy="ask for a shorter range")
    return full_box(b"ctts", int(offsets.min() < 0), 0, kernel.runs(offsets))


def stss(key: NDArray[np.bool_]) -> bytes:
    """Sync samples (8.6.2): nothing if every sample is one."""
    return b"" if key.all() else full_box(b"stss", 0, 0, kernel.words(np.flatnonzero(key).astype(np.int64) + 1))


def stsz(sizes: Int64) -> bytes:
    """Sample sizes (8.7.3.2)."""
    if len(sizes) and (sizes == sizes[0]).all():
        return full_box(b"stsz", 0, 0, struct.pack(">II", int(sizes[0]), len(sizes)))
    return full_box(b"stsz", 0, 0, bytes(4), kernel.words(sizes))


def stsc(samples_per_chunk: Int64, entry_of_chunk: Int64) -> bytes:
    """Sample to chunk (8.7.4), with the chunk's sample entry."""
    change = (np.diff(samples_per_chunk) != 0) | (np.diff(entry_of_chunk) != 0)
    first = np.concatenate(([0], np.flatnonzero(change) + 1))
    return full_box(b"stsc", 0, 0, _table(first + 1, samples_per_chunk[first], entry_of_chunk[first]))


def chunk_offsets(offsets: Int64, *, wide: bool) -> bytes:
    """Chunk offsets (8.7.5): co64 if `wide`."""
    if not wide:
        return full_box(b"stco", 0, 0, kernel.words(offsets))
    return full_box(b"co64", 0, 0, struct.pack(">I", len(offsets)), offsets.astype(">u8").tobytes())
