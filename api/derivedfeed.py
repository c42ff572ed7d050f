"""Sound of a stretch of a stream as AAC-LC, derived as it comes: AUs on the stream's own clock, each made once what it overlaps is there."""

from dataclasses import fields, replace

import numpy as np

from api.decoder.wire import AAC_SAMPLES, SOUND_LEAD
from api.derived import PRE_ROLL, Source, encode, placed
from api.footage import PLACE_SHIFT
from api.media import Media
from api.mp4.samples import Int64, Samples
from api.problems import Problem
from recorder.base.media import SampleEntry

BATCH_S = 0.5                 # of sound at least is made at once: a job for every AU would keep the decoders busy with leads
HOLE_S = 1.0                  # a longer silence of the source is no sound at all, not silence that is encoded
AHEAD = 2                     # AUs that an AU's window and the encoder's look ahead reach beyond its own start


class DerivedFeed:
    """Takes source AUs in order, in ticks of their clock, and gives AAC AUs for them. Loop thread only.

    `after`: all of them start at this tick or later. `data` are the bytes of what was given last: the samples' offsets are places in it.
    """

    def __init__(self, media: Media, camera: int, entry: SampleEntry, place: int, after: int) -> None:
        self._media, self._camera, self._entry, self._place = media, camera, entry, place
        self._kept: Samples | None = None
        self._next = -(-after // AAC_SAMPLES) + 1
        self._end = 0
        self.data = b""

    @property
    def end(self) -> int:
        """Tick up to which sound has been given."""
        return (self._next - 1) * AAC_SAMPLES

    async def make(self, samples: Samples | None, *, last: bool) -> Samples | None:
        """The AUs that `samples`, which come next, make whole; with `last` all that are left, then silence. None if there is nothing yet.

        Sound whose decoder fails is left out: the pictures go on.
        """
        if samples is not None:
            self._add(replace(samples, offset=samples.offset + (self._place << PLACE_SHIFT)))
        if self._kept is None:
            return None
        first, stop = self._next, -(-self._end // AAC_SAMPLES) + 1 if last else self._end // AAC_SAMPLES - AHEAD + 1
        if stop <= first or (not last and (stop - first) * AAC_SAMPLES < BATCH_S * self._entry.clock_rate):
            return None
        source = Source(self._entry, self._kept, self._end)
        self._next, self._kept = stop, _from(self._kept, source.part(stop, 0))
        try:
            aus = await encode(self._media, self._camera, source, first, stop - first)
        except Problem:
            return None
        self.data = b"".join(aus)
        return placed(aus, (first - 1) * AAC_SAMPLES)

    def _add(self, samples: Samples) -> None:
        if self._kept is None or int(samples.dts[0]) > self._end + HOLE_S * self._entry.clock_rate:
            self._next = max(self._next, -(-int(samples.dts[0]) // AAC_SAMPLES) + 1)
        self._end = max(self._end, int(samples.dts[-1]) + samples.last_dur)
        self._kept = samples if self._kept is None else _together(self._kept, samples)


def _from(samples: Samples, wanted: Int64) -> Samples:
    """What the next AUs still need of the source."""
    first = int(wanted[0]) if len(wanted) else max(0, len(samples) - PRE_ROLL - SOUND_LEAD)
    return samples.slice(min(first, len(samples) - 1), len(samples))


def _together(one: Samples, other: Samples) -> Samples:
    names = (f.name for f in fields(Samples) if f.name not in {"last_dur", "lasts"})
    columns = {name: np.concatenate((getattr(one, name), getattr(other, name))) for name in names}
    return Samples(**columns, last_dur=other.last_dur)
