"""Which samples a clip holds, and what of them is presented: exactly the pictures whose time lies in the range, sound cut to the sample."""

from dataclasses import dataclass, replace

import numpy as np

from api.footage import Bools, Footage, Timeline, one_codec
from api.mp4.clip import MOVIE_HZ, Edit, MovieTrack
from api.mp4.samples import Int64, Samples
from recorder.base.media import NS, SampleEntry

AUDIO_SLACK_NS = 10_000_000   # audio follows its own clock from row to row while it is not off by more: under half an AAC frame at 48 kHz
PRE_ROLL = {"mp4a": 1, "Opus": 4}     # AUs that a decoder needs before its output is right


@dataclass(frozen=True, slots=True)
class VideoCut:
    """The video of a clip. `times_ns` are the UTC times of the pictures presented, rising; `presented_ns` is how long they take."""

    track: MovieTrack
    timeline: Timeline
    times_ns: Int64
    presented_ns: int


@dataclass(frozen=True, slots=True)
class Pick:
    """AUs to decode in order (`chosen`, indices) and which of them are to be seen (`wanted`, one flag per chosen AU)."""

    chosen: Int64
    wanted: Bools


def pick(footage: Footage, start_ns: int, end_ns: int) -> Pick | None:
    """The pictures with start <= t < end and, before and between them, what they need: from the newest access point not after the first.

    Leading pictures of that access point, and of one after a break, are left out: what they refer to is not there. None: no picture.
    """
    good, times = footage.decodable(), footage.wall_ns
    wanted = np.flatnonzero(good & (times >= start_ns) & (times < end_ns))
    if not len(wanted):
        return None
    first = int(wanted[np.argmin(times[wanted])])
    keys = np.flatnonzero(footage.key[:first + 1] & (times[:first + 1] <= times[first]))
    access = int(keys[-1]) if len(keys) else int(footage.last_key()[first])
    good &= ~(footage.leading & (footage.last_key() == access))
    chosen = np.flatnonzero(good[access:wanted[-1] + 1]) + access
    seen = (times[chosen] >= start_ns) & (times[chosen] < end_ns)
    return Pick(chosen, seen) if seen.any() else None


def cut_video(footage: Footage, start_ns: int, end_ns: int, *, close_gaps: bool) -> VideoCut | None:
    """The video track of a clip of [start, end); None if no picture lies in it. Raises Conflict if the codec changes."""
    found = pick(footage, start_ns, end_ns)
    if found is None:
        return None
    hz = int(footage.rates()[2][footage.row[found.chosen[0]]])
    times = np.sort(footage.wall_ns[found.chosen[found.wanted]])
    timeline = _timeline(footage, found.chosen, int(times[0]), close_gaps=close_gaps)
    entries, samples = _met(footage, footage.place(found.chosen, footage.anchors(timeline, hz), hz))
    pts, base = samples.pts, int(samples.dts[0])
    media_time, last = int(pts[found.wanted].min()), int(np.argmax(np.where(found.wanted, pts, pts.min())))
    after = pts[~found.wanted & (pts > pts[last])]
    end = min([int(pts[last]) + _frame_ticks(footage, int(found.chosen[last]), hz), *after.tolist()])
    edit = Edit(0, media_time - base, (end - media_time) * MOVIE_HZ // hz)
    anew = _anew(footage, found.chosen) if entries[0].codec == "hvc1" else ()
    return VideoCut(MovieTrack(entries, hz, _from_zero(samples, base), edit, anew=anew), timeline, times, (end - media_time) * NS // hz)


def _anew(footage: Footage, chosen: Int64) -> tuple[int, ...]:
    """Which of the chosen AUs begin after a break."""
    return tuple((np.flatnonzero((np.diff(footage.segment[chosen]) != 0) & footage.key[chosen[1:]]) + 1).tolist())


def cut_audio(footage: Footage, timeline: Timeline, presented_ns: int) -> MovieTrack | None:
    """The sound that belongs to [0, presented) of the timeline, cut by the edit list to the sample; None if there is none."""
    if not len(footage):
        return None
    known, _, rate = footage.rates()
    chosen = _sounding(footage, timeline, presented_ns, max(PRE_ROLL.get(entry.codec, 0) for entry in known))
    if not len(chosen):
        return None
    hz = int(rate[footage.row[chosen[0]]])
    entries, samples = _met(footage, footage.place(chosen, footage.anchors(timeline, hz, slack_ns=AUDIO_SLACK_NS), hz, cuts=timeline))
    base = int(samples.dts[0])
    end = min(presented_ns * hz // NS, int(samples.dts[-1]) + samples.last_dur)
    if end <= max(base, 0):
        return None
    edit = Edit(max(base, 0) * MOVIE_HZ // hz, max(-base, 0), (end - max(base, 0)) * MOVIE_HZ // hz)
    return MovieTrack(entries, hz, _from_zero(samples, base), edit)


def _met(footage: Footage, samples: Samples) -> tuple[tuple[SampleEntry, ...], Samples]:
    """The sample entries that the samples have, in order, and the samples numbered by them. Raises Conflict if the codec changes.

    Footage reaches past a clip on both sides: what its coding was there is nothing to the clip.
    """
    numbers, entry = np.unique(samples.entry, return_inverse=True)
    entries = tuple(footage.rates()[0][number - 1] for number in numbers)
    one_codec(entries)
    return entries, replace(samples, entry=entry.astype(np.int64) + 1)


def _from_zero(samples: Samples, base: int) -> Samples:
    return Samples(samples.size, samples.dts - base, samples.cts, samples.key, samples.entry, samples.offset, samples.row,
                   samples.last_dur)


def _sounding(footage: Footage, timeline: Timeline, presented_ns: int, pre_roll: int) -> Int64:
    """AUs that sound in [0, presented), with `pre_roll` AUs before them where these lead on to them."""
    lasts = _lasts_ns(footage)
    at = timeline.at(footage.wall_ns)
    sounds = (at + lasts > 0) & (at < presented_ns) & ~timeline.cut_out(footage.wall_ns + lasts // 2)
    chosen = np.flatnonzero(sounds)
    if not len(chosen):
        return chosen
    before = np.arange(max(0, chosen[0] - pre_roll), chosen[0])
    return np.concatenate((before[footage.segment[before] == footage.segment[chosen[0]]], chosen))


def _lasts_ns(footage: Footage) -> Int64:
    """How long each AU lasts in decode time."""
    return footage.aus.dur * NS // footage.rates()[2][footage.row]


def _timeline(footage: Footage, chosen: Int64, zero_ns: int, *, close_gaps: bool) -> Timeline:
    """Wall time, or wall time without what lies between the end of one stretch of footage and the start of the next."""
    segment = footage.segment[chosen]
    first = np.flatnonzero(np.diff(segment, prepend=-1))
    if not close_gaps or len(first) < 2:
        return Timeline.plain(zero_ns)
    times = footage.wall_ns[chosen]
    starts = np.minimum.reduceat(times, first)[1:]
    ends = np.maximum.reduceat(times + _lasts_ns(footage)[chosen], first)[:-1]
    real = starts > ends
    return Timeline(zero_ns, ends[real], starts[real])


def _frame_ticks(footage: Footage, au: int, hz: int) -> int:
    """How long the picture `au` is shown: to the next one of its stretch, else as long as it lasts in decode time."""
    rate = int(footage.rates()[2][footage.row[au]])
    pts = footage.aus.pts[footage.segment == footage.segment[au]]
    later = pts[pts > footage.aus.pts[au]]
    native = int(later.min()) - int(footage.aus.pts[au]) if len(later) else int(footage.aus.dur[au])
    return max(1, native * hz // rate)
