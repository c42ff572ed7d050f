"""Sound as AAC-LC for players that cannot take the camera's: decoded and encoded by a decoder process, marked as derived, never evidence.

AAC AU k of a derived track covers samples [1024 (k - 1), 1024 k) of the source's, so a clip is made in parts that fit each other exactly.
"""

import asyncio
import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from api.clipplan import DERIVED, Derived, Shot
from api.decoder.wire import AAC_SAMPLES, SOUND_LEAD, SoundJob
from api.footage import place_of
from api.media import Media
from api.mp4.clip import Edit, Extents, MovieTrack
from api.mp4.samples import Samples
from api.problems import Problem
from recorder.base.media import SampleEntry

TAKES = frozenset({"alaw", "ulaw", "twos", "g726", "Opus"})
LONGEST_S = 900               # of one clip: decoding takes about a second for five minutes
PART = 512                    # AAC AUs that one job makes
PRE_ROLL = 4                  # source AUs decoded before those needed: predictors settle
AT_ONCE = 2
RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)     # ISO 14496-3 1.6.3.4


@dataclass(frozen=True, slots=True)
class Source:
    """A sound track of a clip: what is decoded. `at`: of each AU its first sample; `total`: samples in all."""

    entry: SampleEntry
    samples: Samples
    total: int

    @classmethod
    def of(cls, track: MovieTrack) -> "Source":
        """The track's. Problem 400 if no AAC can be made of it."""
        entry, samples = track.entries[0], track.samples
        if entry.codec not in TAKES or len(track.entries) > 1 or track.timescale not in RATES or entry.channels not in {1, 2}:
            raise Problem(400, "no AAC can be made of this sound", parameter="audio", remedy="ask for audio=source or none")
        if len(samples) and int(samples.dts[-1]) > LONGEST_S * track.timescale:
            raise Problem(400, "derived sound is at most 15 minutes long", parameter="audio", remedy="ask for the clip in parts")
        return cls(entry, samples, int(samples.dts[-1]) + samples.last_dur)

    @property
    def aus(self) -> int:
        """AAC AUs of the whole track."""
        return -(-self.total // AAC_SAMPLES) + 1

    def part(self, first: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Indices of the AUs that sound in AAC AUs [first, first + count) or before them."""
        starts = self.samples.dts
        low = int(np.searchsorted(starts, (first - SOUND_LEAD) * AAC_SAMPLES, side="right")) - 1 - PRE_ROLL
        high = int(np.searchsorted(starts, (first + count + 1) * AAC_SAMPLES))
        return np.arange(max(0, low), high)


async def derive(media: Media, shot: Shot) -> Shot:
    """The shot with its sound as AAC-LC; as it is where it has none, or AAC already. Raises Problem."""
    names = shot.shown.tracks
    if "audio" not in names or shot.tracks[names.index("audio")].entries[0].codec == "mp4a":
        return shot
    at = names.index("audio")
    track = shot.tracks[at]
    source = Source.of(track)
    aus = await _encode(media, shot.shown.query.camera, track.timescale, source)
    made, data = _track(track, source, aus), b"".join(aus)
    derived = Derived(shot.shown.query.camera, source.entry.codec, data, _tapes(source))
    shown = replace(shot.shown, tracks=(*names[:at], DERIVED, *names[at + 1:]))
    return replace(shot, shown=shown, tracks=(*shot.tracks[:at], made, *shot.tracks[at + 1:]), derived=derived)


async def _encode(media: Media, camera: int, hz: int, source: Source) -> list[bytes]:
    """All AAC AUs, a few parts at a time."""
    firsts, parts = list(range(0, source.aus, PART)), {}
    waiting = iter(firsts)

    async def take() -> None:
        for first in waiting:
            parts[first] = await _part(media, camera, hz, source, first)

    takers = [asyncio.ensure_future(take()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*takers)
    finally:
        for taker in takers:
            taker.cancel()
    return [au for first in firsts for au in parts[first]]


async def _part(media: Media, camera: int, hz: int, source: Source, first: int) -> Iterable[bytes]:
    count = min(PART, source.aus - first)
    chosen = source.part(first, count)
    samples = source.samples
    body = await _read(media, camera, samples.offset[chosen], samples.size[chosen])
    made = await media.decoders.work(SoundJob(
        source.entry.codec, source.entry.config, hz, source.entry.channels, tuple(samples.size[chosen].tolist()),
        tuple(samples.dts[chosen].tolist()), first, count, body))
    (found,) = struct.unpack_from("<I", made)
    if found != count or len(made) < 4 * (count + 1):
        raise Problem(503, "the sound's decoder failed", remedy="ask again", headers={"Retry-After": "1"})
    sizes = struct.unpack_from(f"<{count}I", made, 4)
    ends = np.cumsum((4 * (count + 1), *sizes)).tolist()
    return [made[start:end] for start, end in itertools.pairwise(ends)]


async def _read(media: Media, camera: int, offset: np.ndarray[tuple[int], np.dtype[np.int64]],
                size: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    """The source's bytes, from whatever tapes they lie on."""
    place, at = place_of(offset)
    places, index = np.unique(place, return_inverse=True)
    extents = Extents(index.reshape(-1).astype(np.int64), at, size, np.cumsum(size) - size)
    readers = [media.store.tape(camera, "audio", one) for one in places.tolist()]
    bytes_of = media.bytes_of(b"", extents, readers)
    try:
        return await bytes_of.read()
    finally:
        bytes_of.close()


def _track(track: MovieTrack, source: Source, aus: list[bytes]) -> MovieTrack:
    """The track in the file: the same presentation, one AU later, since the first AU primes the decoder."""
    size = np.array([len(au) for au in aus], np.int64)
    n, hz = len(aus), track.timescale
    zeros = np.zeros(n, np.int64)
    samples = Samples(size, np.arange(n, dtype=np.int64) * AAC_SAMPLES, zeros, np.ones(n, np.bool_), zeros + 1, np.cumsum(size) - size,
                      np.arange(n, dtype=np.int64) * AAC_SAMPLES // hz, AAC_SAMPLES)
    config = (2 << 11 | RATES.index(hz) << 7 | source.entry.channels << 3).to_bytes(2, "big")       # AudioSpecificConfig of AAC-LC
    entry = SampleEntry("mp4a", config, hz, channels=source.entry.channels, sample_rate=hz)
    edit = Edit(track.edit.delay, track.edit.media_time + AAC_SAMPLES, track.edit.duration)
    return MovieTrack((entry,), hz, samples, edit, f"AAC-LC derived from {source.entry.codec}, not evidence")


def _tapes(source: Source) -> tuple[tuple[str, int, int], ...]:
    """(track, place, least offset) of what was decoded."""
    place, at = place_of(source.samples.offset)
    return tuple(("audio", one, int(at[place == one].min())) for one in np.unique(place).tolist())
