"""Fragmented MP4 (ISO 14496-12 8.8): an init segment, and fragments as a head and the places on the tapes that follow it."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from api.mp4.boxes import box, full_box, mdat_head, mvhd, seconds_1904
from api.mp4.clip import MOVIE_HZ, Extents, Movie, empty_tables, mdia, track_head
from api.mp4.samples import Int64, Samples
from recorder.base.media import SampleEntry, TrackKind

FTYP = box(b"ftyp", b"iso5\0\0\2\0iso5iso6mp41")
STYP = box(b"styp", b"msdh\0\0\0\0msdhmsix")
DEFAULT_BASE_IS_MOOF = 0x020000
TRUN_ALL = 0x000F01           # data offset; duration, size, flags and composition offset per sample
SYNC = 0x02000000             # sample_depends_on 2: it depends on no other
NON_SYNC = 0x01010000         # depends on others, not a sync sample (8.8.3.1)
MOOF_BYTES, TRAF_BYTES, SAMPLE_BYTES = 24, 68, 16      # of moof and mfhd; of traf, tfhd, tfdt and trun; of a sample in trun
INLINE = -1                   # extents of this track lie in the movie's `inline` bytes


@dataclass(frozen=True, slots=True)
class FragmentTrack:
    """One track in an init segment: its number in the file is its place in the list + 1."""

    entries: tuple[SampleEntry, ...]
    timescale: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Fragment:
    """`head` is moof and the head of mdat; `extents` are the bytes that follow, `at` counted from the fragment's first byte."""

    head: bytes
    extents: Extents
    size: int


def init_segment(tracks: Sequence[FragmentTrack], created_ns: int, *, inband: bool = False) -> bytes:
    """ftyp and moov of a movie whose samples come in fragments; `created_ns` is UTC of media time 0."""
    created = seconds_1904(created_ns)
    traks = [box(b"trak", track_head(number, track.entries, created, 0),
                 mdia(track.entries, track.timescale, empty_tables(track.entries, inband=inband), created, 0, track.name))
             for number, track in enumerate(tracks, 1)]
    trex = [full_box(b"trex", 0, 0, struct.pack(">5I", number, 1, 0, 0, 0)) for number in range(1, len(tracks) + 1)]
    return FTYP + box(b"moov", mvhd(created, MOVIE_HZ, 0, len(tracks) + 1), *traks, box(b"mvex", *trex))


def fragment(parts: Sequence[tuple[int, TrackKind, Samples]], sequence: int) -> Fragment:
    """A fragment of (index of the track in the init segment, its kind, its samples: not empty, one timeline with all fragments).

    The media of each part lie together, part after part. A part that changes its sample entry gives a track fragment per run.
    """
    runs = [(index, kind, run) for index, kind, samples in parts for run in _by_entry(samples)]
    extents = _extents([(index, run) for index, _, run in runs])
    mdat = mdat_head(int(extents.size.sum()))
    start = MOOF_BYTES + sum(TRAF_BYTES + SAMPLE_BYTES * len(run) for _, _, run in runs) + len(mdat)
    places, at = [], start
    for _, _, run in runs:
        places.append(at)
        at += int(run.size.sum())
    head = _moof(runs, sequence, places) + mdat
    return Fragment(head, Extents(extents.track, extents.offset, extents.size, extents.at + start), at)


def fragments(parts: Sequence[tuple[int, TrackKind, Samples]], sequence: int) -> list[Fragment]:
    """The same as one fragment or, where the first part needs it (Samples.runs), several, numbered from `sequence` on."""
    (index, kind, samples), *others = parts
    *alone, last = samples.runs()
    groups = [*([(index, kind, run)] for run in alone), [(index, kind, last), *others]]
    return [fragment(group, sequence + number) for number, group in enumerate(groups)]


def joined(head: bytes, parts: Sequence[Fragment]) -> Movie:
    """Fragments one after the other behind `head`; their own heads are inline."""
    columns: list[tuple[Int64, Int64, Int64, Int64]] = []
    at, inline_at = len(head), 0
    for one in parts:
        found = one.extents
        columns.append((np.append(INLINE, found.track), np.append(inline_at, found.offset), np.append(len(one.head), found.size),
                        np.append(0, found.at) + at))
        at, inline_at = at + one.size, inline_at + len(one.head)
    track, offset, size, places = (np.concatenate(column).astype(np.int64) for column in zip(*columns, strict=True))
    return Movie(head, Extents(track, offset, size, places), at, b"".join(one.head for one in parts))


def _by_entry(samples: Samples) -> list[Samples]:
    edges = [0, *(np.flatnonzero(np.diff(samples.entry)) + 1).tolist(), len(samples)]
    return [samples.slice(first, stop) for first, stop in pairwise(edges)]


def _extents(runs: list[tuple[int, Samples]]) -> Extents:
    track, offset, size = [], [], []
    for index, samples in runs:
        first = samples.split()
        ends = np.cumsum(samples.size)[np.append(first[1:], len(samples)) - 1]
        track.append(np.full(len(first), index, np.int64))
        offset.append(samples.offset[first])
        size.append(np.diff(ends, prepend=0))
    sizes = np.concatenate(size)
    return Extents(np.concatenate(track), np.concatenate(offset), sizes, np.cumsum(sizes) - sizes)


def _moof(runs: list[tuple[int, TrackKind, Samples]], sequence: int, places: list[int]) -> bytes:
    trafs = [_traf(index + 1, kind, samples, place) for (index, kind, samples), place in zip(runs, places, strict=True)]
    return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", sequence & 0xFFFFFFFF)), *trafs)


def _traf(number: int, kind: TrackKind, samples: Samples, place: int) -> bytes:
    tfhd = full_box(b"tfhd", 0, DEFAULT_BASE_IS_MOOF | 2, struct.pack(">II", number, int(samples.entry[0])))
    tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", max(0, int(samples.dts[0]))))
    flags = np.where(samples.key | (kind is TrackKind.AUDIO), SYNC, NON_SYNC)
    rows = np.stack((samples.durations, samples.size, flags, samples.cts & 0xFFFFFFFF), axis=1).astype(">u4")
    trun = full_box(b"trun", 1, TRUN_ALL, struct.pack(">Ii", len(samples), place), rows.tobytes())
    return box(b"traf", tfhd, tfdt, trun)
