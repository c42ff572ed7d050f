"""Which samples a clip holds, and what of them is presented: exactly the pictures whose time lies in the range, sound cut to the sample."""

from dataclasses import dataclass, replace

import numpy as np

from api.footage import Bools, Footage, Timeline, one_codec
from api.mp4.clip import MOVIE_HZ, Edit, MovieTrack
from api.mp4.samples import Int64, Samples
from recorder._ext import samples as kernel
from recorder.base.media import NS, SampleEntry

AUDIO_SLACK_NS = 10_000_000   # audio follows its own clock from row to row while it is not off by more: under half an AAC frame at 48 kHz
PRE_ROLL = {"mp4a": 1, "Opus": 4}     # AUs that a decoder needs before its output is right


@dataclass(frozen=True, slots=True)
class VideoCut:
    """The video of a clip: how many pictures are presented, the UTC time of the last; `presented_ns` is how long they take."""

    track: MovieTrack
    timeline: Timeline
    frames: int
    last_ns: int
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
    (good, last_key), times = footage.references(), footage.wall_ns
    wanted = np.flatnonzero(good & (times >= start_ns) & (times < end_ns))
    if not len(wanted):
        return None
    first = int(wanted[np.argmin(times[wanted])])
    keys = np.flatnonzero(footage.key[:first + 1] & (times[:first + 1] <= times[first]))
    access = int(keys[-1]) if len(keys) else int(last_key[first])
    if footage.leading.any():
        good &= ~(footage.leading & (last_key == access))
    chosen = np.flatnonzero(good[access:wanted[-1] + 1]) + access
    seen = (times[chosen] >= start_ns) & (times[chosen] < end_ns)
    return Pick(chosen, seen) if seen.any() else None


def cut_video(footage: Footage, start_ns: int, end_ns: int, *, close_gaps: bool) -> VideoCut | None:
    """The video track of a clip of [start, end); None if no picture lies in it. Raises Conflict if the codec changes."""
    found = pick(footage, start_ns, end_ns)
    if found is None:
        return None
    hz = int(footage.rates()[2][footage.row[found.chosen[0]]])
    times = footage.wall_ns[found.chosen[found.wanted]]
    timeline = _timeline(footage, found.chosen, int(times.min()), close_gaps=close_gaps)
    entries, samples = _met(footage, footage.place(found.chosen, footage.anchors(timeline, hz), hz))
    pts, base = samples.pts, int(samples.dts[0])
    media_time, last = int(pts[found.wanted].min()), int(np.argmax(np.where(found.wanted, pts, pts.min())))
    end = int(pts[last]) + _frame_ticks(footage, int(found.chosen[last]), hz)
    after = pts[~found.wanted & (pts > pts[last]) & (pts < end)]
    end = min([end, *after.tolist()])
    edit = Edit(0, media_time - base, (end - media_time) * MOVIE_HZ // hz)
    anew = _anew(footage, found.chosen) if entries[0].codec == "hvc1" else ()
    track = MovieTrack(entries, hz, _from_zero(samples, base), edit, anew=anew)
    return VideoCut(track, timeline, len(times), int(times.max()), (end - media_time) * NS // hz)


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
    if len(footage.rates()[0]) == 1:
        return footage.rates()[0], samples
    numbers, entry = np.unique(samples.entry, return_inverse=True)
    entries = tuple(footage.rates()[0][number - 1] for number in numbers)
    one_codec(entries)
    return entries, replace(samples, entry=entry.astype(np.int64) + 1)


def _from_zero(samples: Samples, base: int) -> Samples:
    return replace(samples, dts=samples.dts - base)


def _sounding(footage: Footage, timeline: Timeline, presented_ns: int, pre_roll: int) -> Int64:
    """AUs that sound in [0, presented), with `pre_roll` AUs before them where these lead on to them."""
    chosen = kernel.sounding(footage.wall_ns, footage.aus.dur, footage.aus.row, footage.rates()[2], timeline.cut_start, timeline.cut_end,
                             timeline.zero_ns, presented_ns)
    if not len(chosen):
        return chosen
    first = int(chosen[0])
    return np.concatenate((np.arange(max(first - pre_roll, footage.segment_of(first)[0]), first), chosen))


def _lasts_ns(footage: Footage) -> Int64:
    """How long each AU lasts in decode time."""
    return footage.aus.dur * NS // footage.rates()[2][footage.row]


def _timeline(footage: Footage, chosen: Int64, zero_ns: int, *, close_gaps: bool) -> Timeline:
    """Wall time, or wall time without what lies between the end of one stretch of footage and the start of the next."""
    if not close_gaps:
        return Timeline.plain(zero_ns)
    first = np.flatnonzero(np.diff(footage.segment[chosen], prepend=-1))
    if len(first) < 2:
        return Timeline.plain(zero_ns)
    times = footage.wall_ns[chosen]
    starts = np.minimum.reduceat(times, first)[1:]
    ends = np.maximum.reduceat(times + _lasts_ns(footage)[chosen], first)[:-1]
    real = starts > ends
    return Timeline(zero_ns, ends[real], starts[real])


def _frame_ticks(footage: Footage, au: int, hz: int) -> int:
    """How long the picture `au` is shown: to the next one of its stretch, else as long as it lasts in decode time."""
    rate = int(footage.rates()[2][footage.row[au]])
    aus, run = footage.aus, slice(*footage.segment_of(au))
    pts, own = aus.dts[run] + aus.cts[run], int(aus.dts[au]) + int(aus.cts[au])
    later = pts[pts > own]
    native = int(later.min()) - own if len(later) else int(aus.dur[au])
    return max(1, native * hz // rate)
