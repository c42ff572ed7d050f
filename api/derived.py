"""Sound as AAC-LC for players that cannot take the camera's: decoded and encoded by a decoder process, marked as derived, never evidence.

AAC AU k of a derived track covers samples [1024 (k - 1), 1024 k) of the source's, so a clip is made in parts that fit each other exactly.
Segments and streams use the same AUs on their own clock: `encode` makes any run of them.
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
    """Sound that is decoded. `samples.dts` says of each AU its first sample; `total`: samples in all."""

    entry: SampleEntry
    samples: Samples
    total: int

    @classmethod
    def of(cls, track: MovieTrack) -> "Source":
        """The track's. Problem 400 if no AAC can be made of it."""
        entry, samples = track.entries[0], track.samples
        if len(track.entries) > 1 or not derivable(entry):
            raise refused()
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


def derivable(entry: SampleEntry) -> bool:
    """True if AAC can be made of the sound."""
    return entry.codec in TAKES and entry.clock_rate in RATES and entry.channels in {1, 2}


def refused() -> Problem:
    """What is said where it cannot."""
    return Problem(400, "no AAC can be made of this sound", parameter="audio", remedy="ask for audio=source or none")


def aac_entry(source: SampleEntry) -> SampleEntry:
    """How derived sound is coded."""
    hz, channels = source.clock_rate, source.channels
    config = (2 << 11 | RATES.index(hz) << 7 | channels << 3).to_bytes(2, "big")       # AudioSpecificConfig of AAC-LC
    return SampleEntry("mp4a", config, hz, channels=channels, sample_rate=hz)


def track_name(codec: str) -> str:
    """What a file says of a derived track."""
    return f"AAC-LC derived from {codec}, not evidence"


def told(codec: str) -> dict[str, str]:
    """The header that says the same."""
    return {"Watchroom-Audio": f"derived; aac from {codec}"}


def placed(aus: list[bytes], start: int, row: int = 0) -> Samples:
    """AUs as samples that lie back to back, the first to be heard at `start` (samples of the source)."""
    size = np.array([len(au) for au in aus], np.int64)
    zeros, ramp = np.zeros(len(aus), np.int64), np.arange(len(aus), dtype=np.int64) * AAC_SAMPLES
    return Samples(size, start + ramp, zeros, zeros == 0, zeros + 1, np.cumsum(size) - size, zeros + row, AAC_SAMPLES)


async def derive(media: Media, shot: Shot) -> Shot:
    """The shot with its sound as AAC-LC; as it is where it has none, or AAC already. Raises Problem."""
    names = shot.shown.tracks
    if "audio" not in names or shot.tracks[names.index("audio")].entries[0].codec == "mp4a":
        return shot
    at = names.index("audio")
    track = shot.tracks[at]
    source = Source.of(track)
    aus = await encode(media, shot.shown.query.camera, source, 0, source.aus)
    made, data = _track(track, source, aus), b"".join(aus)
    derived = Derived(shot.shown.query.camera, source.entry.codec, data, tapes_of(source))
    shown = replace(shot.shown, tracks=(*names[:at], DERIVED, *names[at + 1:]))
    return replace(shot, shown=shown, tracks=(*shot.tracks[:at], made, *shot.tracks[at + 1:]), derived=derived)


async def encode(media: Media, camera: int, source: Source, first: int, count: int) -> list[bytes]:
    """AAC AUs [first, first + count), a few parts at a time."""
    firsts, stop, parts = list(range(first, first + count, PART)), first + count, {}
    waiting = iter(firsts)

    async def take() -> None:
        for at in waiting:
            parts[at] = await _part(media, camera, source, at, min(PART, stop - at))

    takers = [asyncio.ensure_future(take()) for _ in range(min(AT_ONCE, len(firsts)))]
    try:
        await asyncio.gather(*takers)
    finally:
        for taker in takers:
            taker.cancel()
    return [au for at in firsts for au in parts[at]]


async def _part(media: Media, camera: int, source: Source, first: int, count: int) -> Iterable[bytes]:
    chosen = source.part(first, count)
    samples = source.samples
    body = await _read(media, camera, samples.offset[chosen], samples.size[chosen])
    made = await media.decoders.work(SoundJob(
        source.entry.codec, source.entry.config, source.entry.clock_rate, source.entry.channels, tuple(samples.size[chosen].tolist()),
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
    samples = placed(aus, 0)
    samples = replace(samples, row=samples.dts // track.timescale)
    edit = Edit(track.edit.delay, track.edit.media_time + AAC_SAMPLES, track.edit.duration)
    return MovieTrack((aac_entry(source.entry),), track.timescale, samples, edit, track_name(source.entry.codec))


def tapes_of(source: Source) -> tuple[tuple[str, int, int], ...]:
    """(track, place, least offset) of what was decoded."""
    place, at = place_of(source.samples.offset)
    return tuple(("audio", one, int(at[place == one].min())) for one in np.unique(place).tolist())
