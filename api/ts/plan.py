"""A clip as a transport stream: which AUs make which PES packets, how many packets each takes and so where it lies. No media is read for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from api.mp4.clip import MOVIE_HZ, Extents, MovieTrack
from api.mp4.samples import Int64
from api.ts.elementary import ADTS, Coding, coding, fits_adts
from api.ts.packets import PACKET, PES_HEADER, packets_of
from recorder.base.errors import Conflict
from recorder.base.media import NS, SampleEntry

HZ = 90_000
AUDIO_AUS = 8                 # of one PES packet
AUDIO_BYTES = 48_000          # its length is a 16-bit number
LEAD = HZ                     # the first DTS: there is a second for the PCR to lie in
PCR_AHEAD = HZ * 7 // 10      # how much earlier than its DTS a picture arrives
TABLES = 2                    # packets of PAT and PMT before each access point


@dataclass(frozen=True, slots=True)
class Units:
    """PES packets in order, one element each: `track`; AUs [first, first + count) of the extents; times in 90 kHz; `key`; index of the
    `coding` (video); `packets` it takes, tables included; `at`, the number of its first packet; `counter`, packets of its track before;
    `keys`, access points before."""

    track: Int64
    first: Int64
    count: Int64
    pts: Int64
    dts: Int64
    key: Int64
    coding: Int64
    packets: Int64
    at: Int64
    counter: Int64
    keys: Int64

    def __len__(self) -> int:
        return len(self.track)


@dataclass(frozen=True, slots=True)
class TransportStream:
    """The plan: `extents` are the AUs one by one in file order; `entries` of the tracks (the first of each); `codings` of the video."""

    units: Units
    extents: Extents
    entries: tuple[SampleEntry, ...]
    codings: tuple[Coding, ...]
    size: int


@dataclass(frozen=True, slots=True)
class _Pes:
    """PES packets of one track: per packet arrays, and the AUs of all of them by `au_*`."""

    count: Int64
    pts: Int64
    dts: Int64
    key: Int64
    coding: Int64
    size: Int64
    au_offset: Int64
    au_size: Int64


def carries(entry: SampleEntry) -> bool:
    """True if a transport stream has a place for this coding."""
    return entry.codec in {"avc1", "hvc1"} or (entry.codec == "mp4a" and fits_adts(entry))


def build_ts(tracks: Sequence[MovieTrack]) -> TransportStream:
    """The stream of these tracks, the first of which bears the clock. Raises Conflict for what it cannot carry."""
    for entry in (entry for track in tracks for entry in track.entries):
        if not carries(entry):
            raise Conflict(f"a transport stream cannot carry {entry.codec} as it is", remedy="ask for format=mp4 or fmp4")
    codings = tuple(coding(entry) for entry in tracks[0].entries) if not tracks[0].audio else ()
    base_ns = min(_decode_ns(track)[0] for track in tracks)
    pes = [_sound(track, base_ns) if track.audio else _pictures(track, codings, base_ns) for track in tracks]
    return _merged(pes, tuple(track.entries[0] for track in tracks), codings)


def _decode_ns(track: MovieTrack) -> tuple[int, Int64, Int64]:
    """The first decode time, and all decode and presentation times, in ns of the presentation. No DTS is after its PTS."""
    samples, edit = track.samples, track.edit
    early = max(0, -int(samples.cts.min()))
    delay_ns = edit.delay * NS // MOVIE_HZ
    dts = delay_ns + (samples.dts - early - edit.media_time) * NS // track.timescale
    pts = delay_ns + (samples.pts - edit.media_time) * NS // track.timescale
    return int(dts[0]), dts, pts


def _ticks(time_ns: Int64, base_ns: int) -> Int64:
    return np.asarray((time_ns - base_ns) * 9 // 100_000 + LEAD, np.int64)


def _pictures(track: MovieTrack, codings: Sequence[Coding], base_ns: int) -> _Pes:
    _, dts, pts = _decode_ns(track)
    samples = track.samples
    of = samples.entry - 1
    delimiters, sets = (np.array([len(part) for part in parts], np.int64)
                        for parts in ([one.delimiter for one in codings], [one.sets for one in codings]))
    size = PES_HEADER + delimiters[of] + np.where(samples.key, sets[of], 0) + samples.size
    ones = np.ones(len(samples), np.int64)
    return _Pes(ones, _ticks(pts, base_ns), _ticks(dts, base_ns), samples.key.astype(np.int64), of, size, samples.offset, samples.size)


def _sound(track: MovieTrack, base_ns: int) -> _Pes:
    """AUs in groups that follow each other without a break."""
    _, dts, pts = _decode_ns(track)
    samples = track.samples
    starts, held = [0], 0
    for at, (size, follows) in enumerate(zip(samples.size.tolist(), _follows(samples.dts, samples.last_dur).tolist(), strict=True)):
        if at and (not follows or at - starts[-1] >= AUDIO_AUS or held + size + ADTS > AUDIO_BYTES):
            starts.append(at)
            held = 0
        held += size + ADTS
    first = np.array(starts, np.int64)
    count = np.diff(first, append=len(samples))
    size = PES_HEADER + np.add.reduceat(samples.size + ADTS, first)
    zero, one = np.zeros(len(first), np.int64), np.ones(len(first), np.int64)
    return _Pes(count, _ticks(pts[first], base_ns), _ticks(dts[first], base_ns), one, zero, size, samples.offset, samples.size)


def _follows(dts: Int64, usual: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """True for AUs that come right after the one before."""
    return np.concatenate(([True], np.diff(dts) < 2 * usual))


def _merged(pes: Sequence[_Pes], entries: tuple[SampleEntry, ...], codings: tuple[Coding, ...]) -> TransportStream:
    """All PES packets by decode time."""
    track = np.repeat(np.arange(len(pes)), [len(one.count) for one in pes])
    count, pts, dts, key, of, size = (np.concatenate([getattr(one, name) for one in pes])
                                      for name in ("count", "pts", "dts", "key", "coding", "size"))
    clocked = track == 0
    takes = np.array([packets_of(int(bytes_), pcr=bool(pcr)) for bytes_, pcr in zip(size.tolist(), clocked.tolist(), strict=True)], np.int64)
    opens = clocked & (key == 1)
    if entries[0].codec == "mp4a":
        opens &= np.arange(len(track)) % 16 == 0     # sound alone: tables now and then
    order = np.lexsort((track, dts))
    first_au = np.cumsum(count) - count
    track, count, pts, dts, of, takes, opens, first_au = (column[order] for column in (track, count, pts, dts, of, takes, opens, first_au))
    packets = takes + TABLES * opens
    counter = np.zeros(len(track), np.int64)
    for number in range(len(pes)):
        mine = track == number
        counter[mine] = np.cumsum(takes[mine]) - takes[mine]
    units = Units(track, np.cumsum(count) - count, count, pts, dts, opens.astype(np.int64), of, packets, np.cumsum(packets) - packets, counter,
                  np.cumsum(opens) - opens)
    au = np.repeat(first_au - units.first, count) + np.arange(int(count.sum()))
    offset, sizes = np.concatenate([one.au_offset for one in pes])[au], np.concatenate([one.au_size for one in pes])[au]
    extents = Extents(np.repeat(track, count), offset, sizes, np.repeat(units.at * PACKET, count))
    return TransportStream(units, extents, entries, codings, int(packets.sum()) * PACKET)
