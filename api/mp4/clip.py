"""A progressive MP4 as a head and the places on the tapes that follow it (ISO 14496-12 8.1-8.7). No media is read to make it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from api.mp4.boxes import U32, box, dinf, elst, full_box, hdlr, mdat_head, mdhd, media_header, mvhd, seconds_1904, tkhd
from api.mp4.sample_entry import stsd
from api.mp4.samples import Int64, Samples, chunk_offsets, ctts, stsc, stss, stsz, stts
from recorder.base.media import SampleEntry, TrackKind

MOVIE_HZ = 90_000             # the movie's timescale: every video frame's time is whole in it
FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")


@dataclass(frozen=True, slots=True)
class Edit:
    """What is presented of a track: nothing for `delay` movie ticks, then `duration` movie ticks from `media_time` (track ticks)."""

    delay: int
    media_time: int
    duration: int

    def boxes(self) -> list[tuple[int, int]]:
        """Rows for elst."""
        return [(self.delay, -1)] * (self.delay > 0) + [(self.duration, self.media_time)]


@dataclass(frozen=True, slots=True)
class MovieTrack:
    """One track of a clip: how it is coded, its samples, what of them is presented. `samples` is never empty. Players show `name`.

    `anew`: samples of H.265 that follow on nothing (indices): access points after a break.
    """

    entries: tuple[SampleEntry, ...]
    timescale: int
    samples: Samples
    edit: Edit
    name: str = ""
    anew: tuple[int, ...] = ()

    @property
    def audio(self) -> bool:
        """True for a sound track."""
        return self.entries[0].kind is TrackKind.AUDIO


@dataclass(frozen=True, slots=True)
class Extents:
    """Where the media bytes lie, in file order: `track` (index), `offset` on its tape, `size`, and `at`, the place in the file."""

    track: Int64
    offset: Int64
    size: Int64
    at: Int64

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class Movie:
    """A whole file: `head` is its first bytes, `extents` all the others, `size` both together. Extents of track -1 lie in `inline`."""

    head: bytes
    extents: Extents
    size: int
    inline: bytes = b""


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks (8.7.4) of one track: first sample, bytes, place on the tape, presentation time in s."""

    first: Int64
    size: Int64
    offset: Int64
    start_s: np.ndarray[tuple[int], np.dtype[np.float64]]

    @classmethod
    def of(cls, track: MovieTrack) -> "_Chunks":
        """The runs of samples that lie together on the tape."""
        samples = track.samples
        first = samples.split()
        start_s = (samples.dts[first] - track.edit.media_time) / track.timescale + track.edit.delay / MOVIE_HZ
        return cls(first, np.add.reduceat(samples.size, first), samples.offset[first], start_s)


def build(tracks: Sequence[MovieTrack], created_ns: int, *, inband: bool = False) -> Movie:
    """The file with these tracks, media interleaved by time. `created_ns` (UTC of presentation time 0) goes into the headers.

    Raises Refused for what the format cannot say.
    """
    chunks = [_Chunks.of(track) for track in tracks]
    extents = _interleave(chunks)
    return _movie(tracks, chunks, extents, [extents.at[extents.track == n] for n in range(len(tracks))], created_ns, inband=inband)


def build_around(tracks: Sequence[MovieTrack], runs: Extents, created_ns: int) -> Movie:
    """The same tables over media that is more than the samples: whole `runs` of the tapes, as they are and in this order.

    Every sample lies in a run of its own track (an index into `tracks`), whose offsets rise; `runs.at` counts from the first media byte.
    """
    chunks = [_Chunks.of(track) for track in tracks]
    places = []
    for number, part in enumerate(chunks):
        of_track = runs.track == number
        offset, at = runs.offset[of_track], runs.at[of_track]
        order = np.argsort(offset)
        run = order[np.searchsorted(offset[order], part.offset, side="right") - 1]
        places.append(at[run] + part.offset - offset[run])
    return _movie(tracks, chunks, runs, places, created_ns, inband=False)


def _movie(tracks: Sequence[MovieTrack], chunks: list[_Chunks], extents: Extents, chunk_at: list[Int64], created_ns: int, *,
           inband: bool) -> Movie:
    """The file whose media are the extents; `chunk_at` are the places of each track's chunks, counted from the first media byte."""
    media_bytes = int(extents.size.sum())
    wide = media_bytes + 64 * sum(len(track.samples) for track in tracks) + (1 << 20) >= U32
    tables = [_tables(track, part, inband=inband) for track, part in zip(tracks, chunks, strict=True)]
    created = seconds_1904(created_ns)
    blank = _moov(tracks, tables, [np.zeros_like(part.first) for part in chunks], created, wide=wide)
    mdat = mdat_head(media_bytes)
    start = len(FTYP) + len(blank) + len(mdat)
    moov = _moov(tracks, tables, [at + start for at in chunk_at], created, wide=wide)
    return Movie(FTYP + moov + mdat, Extents(extents.track, extents.offset, extents.size, extents.at + start), start + media_bytes)


def _interleave(chunks: list[_Chunks]) -> Extents:
    """All chunks by presentation time, `at` counted from the first media byte."""
    track = np.repeat(np.arange(len(chunks)), [len(part.first) for part in chunks])
    start_s = np.concatenate([part.start_s for part in chunks])
    size = np.concatenate([part.size for part in chunks])
    offset = np.concatenate([part.offset for part in chunks])
    order = np.lexsort((np.arange(len(track)), track, start_s))
    size = size[order]
    return Extents(track[order].astype(np.int64), offset[order], size, np.cumsum(size) - size)


def _tables(track: MovieTrack, chunks: _Chunks, *, inband: bool) -> bytes:
    """All of stbl but the chunk offsets, which are not known before the head's length is."""
    samples = track.samples
    per_chunk = np.diff(chunks.first, append=len(samples))
    sync = b"" if track.audio else stss(samples.key)
    return b"".join((stsd(track.entries, inband=inband), stts(samples.durations), ctts(samples.cts), sync,
                     stsc(per_chunk, samples.entry[chunks.first]), stsz(samples.size)))


def _moov(tracks: Sequence[MovieTrack], tables: list[bytes], offsets: list[Int64], created: int, *, wide: bool) -> bytes:
    traks = [_trak(number, track, table + chunk_offsets(places, wide=wide), created)
             for number, (track, table, places) in enumerate(zip(tracks, tables, offsets, strict=True), 1)]
    duration = max(track.edit.delay + track.edit.duration for track in tracks)
    return box(b"moov", mvhd(created, MOVIE_HZ, duration, len(tracks) + 1), *traks)


def _trak(number: int, track: MovieTrack, table: bytes, created: int) -> bytes:
    edit, samples = track.edit, track.samples
    head = track_head(number, track.entries, created, edit.delay + edit.duration)
    duration = int(samples.dts[-1]) + samples.last_dur - int(samples.dts[0])
    return box(b"trak", head, elst(edit.boxes()), mdia(track.entries, track.timescale, table, created, duration, track.name))


def track_head(number: int, entries: tuple[SampleEntry, ...], created: int, duration: int) -> bytes:
    """tkhd of track `number`."""
    audio = entries[0].kind is TrackKind.AUDIO
    width, height = max(one.width for one in entries), max(one.height for one in entries)
    return tkhd(created, number, duration, audio=audio, width=0 if audio else width, height=0 if audio else height)


def mdia(entries: tuple[SampleEntry, ...], timescale: int, table: bytes, created: int, duration: int, name: str = "") -> bytes:
    """The media box (8.4.1) around the contents of stbl."""
    audio = entries[0].kind is TrackKind.AUDIO
    handler = hdlr(b"soun" if audio else b"vide", (name or ("SoundHandler" if audio else "VideoHandler")).encode())
    minf = box(b"minf", media_header(audio=audio), dinf(), box(b"stbl", table))
    return box(b"mdia", mdhd(created, timescale, duration), handler, minf)


def empty_tables(entries: tuple[SampleEntry, ...], *, inband: bool) -> bytes:
    """The contents of stbl in a movie whose samples are all in fragments (8.8)."""
    count = bytes(4)
    return stsd(entries, inband=inband) + full_box(b"stts", 0, 0, count) + full_box(b"stsc", 0, 0, count) + full_box(
        b"stsz", 0, 0, bytes(8)) + full_box(b"stco", 0, 0, count)
