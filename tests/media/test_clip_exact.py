"""A clip presents exactly the pictures whose time lies in the range, and its sound belongs to them."""

import random

import av
import numpy as np
import pytest

from api.cut import cut_audio, cut_video
from api.footage import load_range
from api.mp4.clip import build
from bench.camsim import pattern
from recorder.base.media import NS

FRAME_NS = NS // 25
CONTENT = {
    "h264": {"codec": "h264"},
    "h264-b": {"codec": "h264", "bframes": 3},
    "h264-open": {"codec": "h264", "bframes": 2, "open_gop": True, "gop": 27},
    "h264-short-gop": {"codec": "h264", "gop": 5, "bframes": 2},
    "h264-long-gop": {"codec": "h264", "gop": 75},
    "hevc-b": {"codec": "hevc", "bframes": 3},
    "hevc-open": {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27},
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
        assert video.frames == last - first


def test_sound_belongs_to_the_picture(maker, save):
    """Sound starts with the first picture to the sample: its tone rises at the same second as in the recording."""
    stream, tone = maker.video(frames=150, bframes=2), maker.audio(6.0)
    main = maker.MemoryTrack("main", [maker.Part(stream, maker.T0)])
    sound = maker.MemoryTrack("audio", [maker.Part(tone, maker.T0)])
    for first, last in ((37, 120), (0, 30), (51, 149), (60, 61)):
        start_ns, end_ns = maker.T0 + first * FRAME_NS, maker.T0 + last * FRAME_NS
        _, movie = clip_of(main, start_ns, end_ns, sound=sound)
        got = maker.decode(save(maker.whole(movie, [main, sound])))
        assert got.messages == ""
        assert got.numbers == list(range(first, last))
        assert abs(len(got.sound) / 48_000 - (last - first) / 25) < 1024 / 48_000
        if last - first > 25:
            assert abs(rise_s(got) - (np.ceil(first / 25 + 1e-9) - first / 25)) < 0.005


def rise_s(got) -> float:
    """When the pitch first rises: the end of the first stretch in which a short window is nearest to the first pitch."""
    windows = np.array([np.abs(np.fft.rfft(got.sound[at:at + 2400] * np.hanning(2400))).argmax() * 20
                        for at in range(0, len(got.sound) - 2400, 48)])
    pitch = np.median(windows[:50])
    return (int(np.flatnonzero(windows > pitch + 50)[0]) * 48 + 1200) / 48_000 + got.sound_start


@pytest.mark.parametrize("codec", ["alaw", "ulaw"])
def test_g711_keeps_its_entry(codec, maker, save):
    stream, tone = maker.video(frames=100), maker.audio(4.0, codec)
    main = maker.MemoryTrack("main", [maker.Part(stream, maker.T0)])
    sound = maker.MemoryTrack("audio", [maker.Part(tone, maker.T0)])
    _, movie = clip_of(main, maker.T0 + 30 * FRAME_NS, maker.T0 + 80 * FRAME_NS, sound=sound)
    got = maker.decode(save(maker.whole(movie, [main, sound])))
    assert got.messages == ""
    assert got.numbers == list(range(30, 80))
    assert len(got.sound) == 16_000
    raw = b"".join(au.data for au in tone.aus)[30 * 320:30 * 320 + 4]
    decoder = {"alaw": alaw, "ulaw": ulaw}[codec]
    assert [int(value) for value in got.sound[:4]] == [decoder(byte) for byte in raw]


def alaw(byte: int) -> int:
    """ITU-T G.711 A-law."""
    byte ^= 0x55
    exponent, mantissa = byte >> 4 & 7, byte & 15
    value = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 0x108 << exponent - 1
    return value if byte & 0x80 else -value


def ulaw(byte: int) -> int:
    """ITU-T G.711 mu-law."""
    byte = ~byte & 0xFF
    value = ((byte & 15) << 3) + 0x84 << (byte >> 4 & 7)
    return 0x84 - value if byte & 0x80 else value - 0x84


def two_sessions(maker, pause_s: float, **content):
    first, second = maker.video(frames=75, **content), maker.video(frames=75, first=1000, **content)
    at = maker.T0 + 3 * NS + round(pause_s * NS)
    main = maker.MemoryTrack("main", [maker.Part(first, maker.T0), maker.Part(second, at, session=2, pts0=7)])
    tone = maker.audio(3.0)
    sound = maker.MemoryTrack("audio", [maker.Part(tone, maker.T0), maker.Part(tone, at, session=2, pts0=9_000_000)])
    return main, sound, at


@pytest.mark.parametrize("content", [{}, {"bframes": 3}, {"codec": "hevc", "bframes": 2, "open_gop": True, "gop": 27}])
@pytest.mark.parametrize("pause_s", [0.0, 0.013, 2.5])
def test_gap_keeps_wall_time(content, pause_s, maker, save):
    """After a gap pictures and sound stand where the clock says, the picture before it is held."""
    main, sound, at = two_sessions(maker, pause_s, **content)
    _, movie = clip_of(main, maker.T0 + 10 * FRAME_NS, at + 60 * FRAME_NS, sound=sound)
    got = maker.decode(save(maker.whole(movie, [main, sound])))
    assert got.messages == ""
    assert got.numbers == [*range(10, 75), *range(1000, 1060)]
    shift = 3 + pause_s - 0.4
    assert got.times == pytest.approx([*(n / 25 for n in range(65)), *(shift + n / 25 for n in range(60))], abs=2e-4)


@pytest.mark.parametrize("content", [{}, {"bframes": 3}, {"codec": "hevc", "bframes": 2, "open_gop": True}])
def test_a_row_that_takes_less_time_than_its_pictures_runs_into_the_next(content, maker, save):
    """A young session's clock was set back by 60 ms within a row of 3 s: no picture is shown before it is decoded."""
    stream = maker.video(frames=225, **{"gop": 75, **content})
    track = maker.MemoryTrack("main", [maker.Part(stream, maker.T0, drift_ppm=-20_000)], row_s=2.9)
    end_ns = maker.T0 + 9 * NS
    video, movie = clip_of(track, maker.T0, end_ns)
    got = maker.decode(save(maker.whole(movie, [track])))
    assert (got.messages, sorted(got.numbers)) == ("", list(range(225)))
    assert (video.track.samples.cts >= 0).all()


@pytest.mark.parametrize("content", [{}, {"bframes": 3}])
def test_gap_closed_takes_no_time(content, maker, save):
    """With gaps=close the picture after the gap follows at once, and the sound after it still starts with it."""
    main, sound, at = two_sessions(maker, 2.5, **content)
    _, movie = clip_of(main, maker.T0 + 10 * FRAME_NS, at + 60 * FRAME_NS, sound=sound, close_gaps=True)
    got = maker.decode(save(maker.whole(movie, [main, sound])))
    assert got.messages == ""
    assert got.numbers == [*range(10, 75), *range(1000, 1060)]
    assert got.times == pytest.approx([n / 25 for n in range(125)], abs=2e-3)
    assert abs(len(got.sound) / 48_000 - 5.0) < 4 * 1024 / 48_000


@pytest.mark.parametrize("pause_s", [0.4, 2.5])
@pytest.mark.parametrize("early_s", [0.416, None])
def test_gap_closed_under_sound_that_goes_on(early_s, pause_s, maker, save):
    """Sound that comes back before the pictures, or was never away: what lies in the pictures' gap is left out, the rest stays in time."""
    main, sound, at = two_sessions(maker, pause_s)
    back = at - round(min(early_s or 0, pause_s) * NS)
    parts = [maker.Part(maker.audio(3.0), maker.T0), maker.Part(maker.audio(3.0), back, session=2, pts0=9_000_000)]
    sound = maker.MemoryTrack("audio", parts if early_s else [maker.Part(maker.audio(8.0), maker.T0)])
    _, movie = clip_of(main, maker.T0 + 10 * FRAME_NS, at + 60 * FRAME_NS, sound=sound, close_gaps=True)
    durations = clip_durations(sound, main, at + 60 * FRAME_NS, maker.T0 + 10 * FRAME_NS)
    assert sum(abs(ticks - 1024) > 8 for ticks in durations) <= 1, durations     # only where the cut is
    assert max(durations) < 2 * 1024, durations
    got = maker.decode(save(maker.whole(movie, [main, sound])))
    assert got.messages == ""
    assert got.numbers == [*range(10, 75), *range(1000, 1060)]
    assert abs(len(got.sound) / 48_000 - 5.0) < 4 * 1024 / 48_000


def clip_durations(sound, main, end_ns, start_ns) -> list[int]:
    """How long each AU of sound lasts in a clip without gaps."""
    footage = load_range(main, start_ns - 2 * NS, end_ns + 2 * NS, durable=True)
    video = cut_video(footage, start_ns, end_ns, close_gaps=True)
    heard = cut_audio(load_range(sound, start_ns - 2 * NS, end_ns + 2 * NS, durable=True), video.timeline, video.presented_ns)
    return heard.samples.durations.tolist()


def test_an_open_group_after_a_break_is_whole_in_the_file(maker, save):
    """H.264 has no name for a picture that follows on nothing, so FFmpeg drops pictures until their counts have passed those before the break.

    A decoder that is flushed at the break shows them all.
    """
    before, after = maker.video(frames=75, bframes=3), maker.video(frames=150, first=1000, bframes=2, open_gop=True, gop=27)
    begin = [n for n, au in enumerate(after.aus) if au.key][2]
    parts = [maker.Part(before, maker.T0), maker.Part(maker.Stream(after.entry, after.aus[begin:], after.dur), maker.T0 + 5 * NS, session=2)]
    main = maker.MemoryTrack("main", parts)
    video, movie = clip_of(main, maker.T0, maker.T0 + 11 * NS)
    numbers, flushed = [], False
    with av.open(str(save(maker.whole(movie, [main])))) as file:
        decoder = file.streams.video[0].codec_context
        for packet in file.demux(video=0):
            pictures = []
            if packet.pts is not None and packet.pts > 4 * 90_000 and not flushed:
                pictures, flushed = decoder.decode(None), True
                decoder.flush_buffers()
            numbers += [pattern.read(picture.to_ndarray(format="gray")) for picture in [*pictures, *decoder.decode(packet)]]
    assert numbers == [*range(75), *range(1054, 1054 + video.frames - 75)]
    assert len(numbers) > 75 + 90


def test_range_inside_a_gap_has_nothing(maker):
    main, _, at = two_sessions(maker, 2.5)
    footage = load_range(main, at - 2 * NS, at - NS, durable=True)
    assert not len(footage) or cut_video(footage, at - 2 * NS, at - NS, close_gaps=False) is None


def test_parameter_sets_change(maker, save):
    """Another picture size is another sample entry, and both parts decode."""
    parts = [maker.Part(maker.video(frames=50), maker.T0),
             maker.Part(maker.video(frames=50, first=500, width=480, height=360), maker.T0 + 2 * NS, session=2)]
    main = maker.MemoryTrack("main", parts)
    video, movie = clip_of(main, maker.T0 + 7 * FRAME_NS, maker.T0 + 91 * FRAME_NS)
    got = maker.decode(save(maker.whole(movie, [main])))
    assert len(video.track.entries) == 2
    assert got.messages == ""
    assert got.numbers == [*range(7, 50), *range(500, 541)]


def test_codec_change_is_refused_in_words(maker):
    from recorder.base.errors import Conflict
    main = maker.MemoryTrack("main", [maker.Part(maker.video(frames=50), maker.T0),
                                      maker.Part(maker.video(codec="hevc", frames=50), maker.T0 + 2 * NS, session=2)])
    with pytest.raises(Conflict, match="avc1 to hvc1"):
        clip_of(main, maker.T0, maker.T0 + 4 * NS)


def test_drift_moves_rows_not_frames(maker, save):
    """A camera whose clock is 400 ppm slow: every picture stands at its UTC, and the range is still exact."""
    stream = maker.video(frames=150, bframes=2)
    main = maker.MemoryTrack("main", [maker.Part(stream, maker.T0, drift_ppm=400)])
    times = main.times()
    _, movie = clip_of(main, times[20], times[140])
    got = maker.decode(save(maker.whole(movie, [main])))
    assert got.messages == ""
    assert got.numbers == list(range(20, 140))
    assert got.times == pytest.approx([(t - times[20]) / NS for t in times[20:140]], abs=1e-3)


def test_leading_pictures_after_a_break_are_left_out(maker, save):
    """What a CRA's leading pictures refer to is not there after a gap: they are in no table, and nothing complains."""
    whole = maker.video(codec="hevc", frames=100, bframes=3, open_gop=True, gop=27)
    keys = [n for n, au in enumerate(whole.aus) if au.key]
    cra = keys[2]
    leading = [au for au in whole.aus[cra:] if au.leading and au.pts < whole.aus[cra].pts]
    assert leading
    later = maker.Stream(whole.entry, whole.aus[cra:], whole.dur)
    main = maker.MemoryTrack("main", [maker.Part(later, maker.T0)])
    footage = load_range(main, maker.T0 - NS, maker.T0 + 10 * NS, durable=True)
    video = cut_video(footage, maker.T0 - NS, maker.T0 + 10 * NS, close_gaps=False)
    got = maker.decode(save(maker.whole(build([video.track], maker.T0), [main])))
    assert got.messages == ""
    assert got.numbers == list(range(whole.aus[cra].pts // 3600, 100))
