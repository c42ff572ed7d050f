"""A clip as a fragmented MP4: an init segment, then a fragment for each stretch of about 2 s that begins at an access point.

There is no edit list, since players do not agree on one here: media time 0 is the first picture, and all samples are shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from api.mp4.clip import MOVIE_HZ, Movie, MovieTrack
from api.mp4.fragment import Fragment, FragmentTrack, fragments, init_segment, joined
from api.mp4.samples import Samples
from recorder.base.media import NS, TrackKind

FRAGMENT_S = 2.0


def build_fragmented(tracks: Sequence[MovieTrack], created_ns: int, *, inband: bool = False) -> Movie:
    """The file with these tracks; `created_ns` is the UTC of the first picture, which is shown at once."""
    tracks = [track if track.audio else replace(track, samples=track.samples.at_once()) for track in tracks]
    zero_ns = max(-_begin_ns(track) for track in tracks if not track.audio or len(tracks) == 1)
    moved = [_moved(track, zero_ns) for track in tracks]
    head = init_segment([FragmentTrack(track.entries, track.timescale, track.name) for track in tracks], created_ns - zero_ns, inband=inband)
    return joined(head, list(_fragments(tracks, moved)))


def _begin_ns(track: MovieTrack) -> int:
    """When the first sample is decoded, in presentation time."""
    edit = track.edit
    return edit.delay * NS // MOVIE_HZ + (int(track.samples.dts[0]) - edit.media_time) * NS // track.timescale


def _moved(track: MovieTrack, zero_ns: int) -> Samples:
    """The samples on a clock that is `zero_ns` ahead of the presentation's; what would come before its start is left out."""
    by = (zero_ns + track.edit.delay * NS // MOVIE_HZ) * track.timescale // NS - track.edit.media_time
    samples = replace(track.samples, dts=track.samples.dts + by)
    late = int(np.searchsorted(samples.dts, 0))
    return samples.slice(late, len(samples)) if 0 < late < len(samples) else samples


def _fragments(tracks: Sequence[MovieTrack], moved: Sequence[Samples]) -> Iterator[Fragment]:
    """Fragments of all tracks, cut where the first one has access points."""
    starts_s = _starts(moved[0], tracks[0].timescale)
    cuts = [np.searchsorted(samples.dts / track.timescale, starts_s[1:]).tolist() for track, samples in zip(tracks, moved, strict=True)]
    edges = [list(pairwise([0, *cut, len(samples)])) for cut, samples in zip(cuts, moved, strict=True)]
    sequence = 1
    for cut in range(len(starts_s)):
        parts = [(index, TrackKind.AUDIO if track.audio else TrackKind.VIDEO, samples.slice(*edges[index][cut]))
                 for index, (track, samples) in enumerate(zip(tracks, moved, strict=True))]
        made = fragments([part for part in parts if len(part[2])], sequence)
        sequence += len(made)
        yield from made


def _starts(samples: Samples, hz: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Decode times in s of the samples that begin a fragment."""
    starts: list[float] = []
    for at in (samples.dts[samples.key] / hz).tolist() if samples.key.any() else []:
        if not starts or at - starts[-1] >= FRAGMENT_S:
            starts.append(at)
    return np.array(starts or [0.0])
