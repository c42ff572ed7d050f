"""A clip presents exactly the pictures whose time lies in the range, and its sound belongs to them."""

import random

import numpy as np
import pytest

from api.cut import cut_audio, cut_video
from api.footage import load_range
from api.mp4.clip import build
from recorder.base.media import NS

FRAME_NS = NS // 25
CONTENT = {
    "h264": {"codec": "h264"},
    "h264-b": {"codec": "h264", "bframes": 3},
    "h264-open": {"codec": "h264", "bframes": 2, "open_gop": True},
    "h264-short-gop": {"codec": "h264", "gop": 5, "bframes": 2},
    "h264-long-gop": {"codec": "h264", "gop": 75},
    "hevc-b": {"codec": "hevc", "bframes": 3},
    "hevc-open": {"codec": "hevc", "bframes": 3, "open_gop": True},
}


def clip_of(track, start_ns, end_ns, *, sound=None, close_gaps=False):
    footage = load_range(track, start_ns - 2 * NS, end_ns + 2 * NS, durable=True)
    video = cut_video(footage, start_ns, end_ns, close_gaps=close_gaps)
    tracks = [video.track]
    if sound is not None:
        heard = cut_audio(load_range(sound, start_ns - 2 * NS, end_ns + 2 * NS, durable=True), video.timeline, video.presented_ns)
        tracks += [heard] if heard else []
    return video, build(tracks, video.timeline.zero_ns)


@pytest.mark.parametrize("name", CONTENT)
def test_pictures_are_those_of_the_range(name, maker, save):
    """Not one picture more, less or wrong, wherever the range starts and ends in its group; and ffmpeg says nothing."""
    stream = maker.video(**CONTENT[name])
    track = maker.MemoryTrack("main", [maker.Part(stream, maker.T0)])
    dice = random.Random(name)
    for _ in range(12):
        first, last = sorted(dice.sample(range(len(stream.aus) + 1), 2))
        jitter = dice.randrange(FRAME_NS)
        start_ns = maker.T0 + first * FRAME_NS - (jitter if dice.random() < 0.5 and first else 0)
        end_ns = maker.T0 + last * FRAME_NS - (jitter if last > first + 1 else 0)
        video, movie = clip_of(track, start_ns, end_ns)
        got = maker.decode(save(maker.whole(movie, [track])))
        assert got.messages == ""
        assert got.numbers == list(range(first, last)), (first, last)
        assert got.times == pytest.approx([n / 25 for n in range(last - first)], abs=1e-4)
        assert len(video.times_ns) == last - first
