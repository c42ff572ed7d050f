"""The sound of an HLS segment as AAC-LC, derived: AUs on a grid that begins at media time 0, so each lies in one segment and neighbours fit.

A segment's AUs are encoded with the sound around it, a few AUs before it and one behind it, so a decoder that goes from one segment to the next
overlaps windows over the same samples.
"""

import struct
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from api.clipplan import AUDIO_GIVEN_UP_NS, Derived
from api.cut import AUDIO_SLACK_NS
from api.decoder.wire import AAC_SAMPLES
from api.derived import Source, encode, placed, tapes_of
from api.footage import PLACE_SHIFT, Timeline, load
from api.media import Media
from api.mp4.samples import Samples
from recorder.base.media import NS
from storage.reader import TrackReader

AROUND_NS = NS                # source that is looked at on either side: what AAC AUs before and behind, and predictors, need


@dataclass(frozen=True, slots=True)
class SegmentSound:
    """What AAC AUs [first, first + count) are made of. `settled`: all of it is recorded, so they will always be the same."""

    source: Source
    first: int
    count: int
    settled: bool

    @property
    def start(self) -> int:
        """Media time at which the first AU is heard, in samples: a decoder gives AU k's samples one AU late."""
        return (self.first - 1) * AAC_SAMPLES


def look(reader: TrackReader, entry_number: int, start_ns: int, end_ns: int, zero_ns: int, video_end_ns: int) -> SegmentSound:
    """The sound of [start, end), media time 0 at `zero_ns`; silence where nothing was recorded. `video_end_ns`: how far pictures are."""
    entry = reader.sample_entry(entry_number)
    hz = entry.clock_rate
    first, stop = (-(-(ns - zero_ns) * hz // (NS * AAC_SAMPLES)) for ns in (start_ns, end_ns))
    footage = load(reader, reader.rows(start_ns - AROUND_NS, end_ns + AROUND_NS))
    chosen = np.flatnonzero(footage.run.rows["sample_entry"][footage.row] == entry_number) if len(footage) else np.zeros(0, np.int64)
    samples = _none()
    if len(chosen):
        samples = footage.place(chosen, footage.anchors(Timeline.plain(zero_ns), hz, slack_ns=AUDIO_SLACK_NS), hz)
        samples = replace(samples, offset=samples.offset + (reader.place << PLACE_SHIFT))
    settled = _settled(reader, end_ns + 3 * AAC_SAMPLES * NS // hz, video_end_ns)
    return SegmentSound(Source(entry, samples, 0), first + 1, max(0, stop - first), settled)


def _settled(reader: TrackReader, until_ns: int, video_end_ns: int) -> bool:
    """True if sound up to `until_ns` is there or not coming: it is far behind the pictures, or a gap is known."""
    recorded_ns = reader.edges().visible_end_ns
    if recorded_ns >= until_ns or recorded_ns + AUDIO_GIVEN_UP_NS < video_end_ns:
        return True
    return any(gap.end_ns is None or gap.end_ns >= until_ns for gap in reader.gaps(recorded_ns, until_ns))


def _none() -> Samples:
    none = np.zeros(0, np.int64)
    return Samples(none, none, none, none > 0, none, none, none, 1)


async def make(media: Media, camera: int, name: str, sound: SegmentSound) -> tuple[Samples, bytes]:
    """The AUs as samples whose offsets are places in the bytes. What was made last is kept; it is made once for all who ask at once."""
    key = ("segment", camera, name)
    if (data := media.clips.get(key)) is None:
        data = await media.making.once(key, lambda: _packed(media, camera, sound))
        if sound.settled:
            of = Derived(camera, sound.source.entry.codec, b"", tapes_of(sound.source))
            media.clips.put(key, data, len(data), (of,))
    sizes = np.frombuffer(data, "<u4", sound.count, 4)
    ends = np.cumsum([4 * (sound.count + 1), *sizes.tolist()]).tolist()
    samples = placed([data[a:b] for a, b in pairwise(ends)], sound.start)
    return samples, data[4 * (sound.count + 1):]


async def _packed(media: Media, camera: int, sound: SegmentSound) -> bytes:
    aus = await encode(media, camera, sound.source, sound.first, sound.count)
    return struct.pack(f"<{len(aus) + 1}I", len(aus), *map(len, aus)) + b"".join(aus)
