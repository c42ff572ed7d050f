"""Times of HLS segments: each begins with its first picture, shown as soon as it is decoded, and ends where the next one begins."""

import re
import struct
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
import pytest

from api.mp4.samples import Samples
from recorder.base.media import NS, GapCause, TrackKind

HZ = 90_000
CONTENT = {"h264-b": {"bframes": 2}, "h264-open": {"bframes": 3, "open_gop": True, "gop": 27}, "hevc-b": {"codec": "hevc", "bframes": 3},
           "hevc-open": {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}}


@dataclass(frozen=True)
class Times:
    """The pictures of a segment in ticks, in order of decoding; its length by the playlist, and whether it follows on the one before."""

    dts: list[int]
    cts: list[int]
    lasts: list[int]
    lasts_s: float
    follows: bool

    @property
    def pts(self):
        return [dts + cts for dts, cts in zip(self.dts, self.cts, strict=True)]

    @property
    def ends(self):
        return max(pts + lasts for pts, lasts in zip(self.pts, self.lasts, strict=True))


def boxes(data, at, stop):
    while at < stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, at + size
        at += size


def samples_of(data, track):
    """Of a track in a segment, fragment after fragment: decode times, composition offsets, how long each sample lasts."""
    dts, cts, lasts = [], [], []
    for moof in [(at, stop) for kind, at, stop in boxes(data, 0, len(data)) if kind == b"moof"]:
        for kind, at, stop in boxes(data, *moof):
            if kind == b"traf" and struct.unpack_from(">I", data, next(boxes(data, at, stop))[1] + 4) == (track,):
                found = {name: begins for name, begins, _ in boxes(data, at, stop)}
                (begin,) = struct.unpack_from(">Q", data, found[b"tfdt"] + 4)
                (count,) = struct.unpack_from(">I", data, found[b"trun"] + 4)
                rows = [struct.unpack_from(">IIIi", data, found[b"trun"] + 12 + 16 * n) for n in range(count)]
                dts += (begin + np.cumsum([0, *(row[0] for row in rows[:-1])])).tolist()
                lasts += [row[0] for row in rows]
                cts += [row[3] for row in rows]
    return dts, cts, lasts


async def listed(api, **query):
    """The playlist's text, the init segments in order, each segment's bytes and times."""
    _, text = await api.get("hls/vod.m3u8", track="main", **query)
    inits, bodies, found, lasts_s, follows = [], [], [], 0.0, False
    for line in text.decode().splitlines():
        if line.startswith("#EXT-X-MAP"):
            async with api.client.get(line.split('"')[1]) as answer:
                inits.append(await answer.read())
        if line.startswith(("#EXT-X-DISCONTINUITY", "#EXT-X-GAP")):
            follows = False
        if line.startswith("#EXTINF"):
            lasts_s = float(re.search(r"[\d.]+", line)[0])
        elif not line.startswith("#") and "/rows/" in line:
            async with api.client.get(line) as answer:
                bodies.append(await answer.read())
            found.append(Times(*samples_of(bodies[-1], 1), lasts_s, follows))
            follows = True
    return text.decode(), inits, bodies, found


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        made.sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
        yield made


def record(api, maker, content, width=480):
    """10 s; 3 s of nothing; 4 s; at once another session; then another size."""
    at = maker.T0
    for session, (frames, first, size, pause_ns) in enumerate(((250, 0, 320, 0), (100, 500, 320, 3 * NS), (100, 700, 320, 0),
                                                              (100, 900, width, 0)), 1):
        api.main.session = api.sound.session = session
        if pause_ns:
            api.main.gap(pause_ns / NS, GapCause.STALL)
            api.sound.gap(pause_ns / NS, GapCause.STALL)
        at += pause_ns
        maker.write(api.main, maker.video(frames=frames, first=first, width=size, height=size * 3 // 4, **content), t_ns=at)
        maker.write(api.sound, maker.audio(frames / 25), t_ns=at)
        at += frames * NS // 25
    return at


@pytest.mark.parametrize("gaps", ["keep", "close"])
@pytest.mark.parametrize("name", CONTENT)
async def test_a_segment_is_its_presentation_and_meets_the_next(name, gaps, api, maker):
    """They began with a decode time one reorder delay before their first picture: players that go by it showed all pictures so much later."""
    end_ns = record(api, maker, CONTENT[name])
    text, _, _, found = await listed(api, start=maker.T0 + 2 * NS, end=end_ns, gaps=gaps)
    for one in found:
        assert min(one.pts) - 3 < one.dts[0] <= min(one.pts)      # a leading picture comes second or third, and has a time of its own
        assert min(one.cts) >= 0
        assert min(one.lasts) > 3590, "Chromium shows what comes next where a sample lasts shorter than its picture"
        assert (np.diff(one.dts) > 0).all()
        assert one.ends - min(one.pts) == pytest.approx(one.lasts_s * HZ, abs=1.5)
    for before, one in pairwise(found):
        if one.follows:
            assert min(one.pts) == pytest.approx(before.ends, abs=1.5)
            assert one.dts[0] > before.dts[-1]
    assert len([one for one in found if not one.follows]) == 4
    begin_ns = min(found[0].pts) * NS // HZ + maker.T0 // (86_400 * NS) * 86_400 * NS
    offset = re.search(r"TIME-OFFSET=([\d.]+)", text)
    assert begin_ns + (float(offset[1]) * NS if offset else 0) == pytest.approx(maker.T0 + 2 * NS, abs=NS / HZ)


@pytest.mark.parametrize("name", CONTENT)
async def test_no_sound_is_sent_twice_at_a_session_change(name, api, maker):
    """With open groups a stretch ended, for its sound, a few pictures after its last one: that sound came twice, Chromium threw away the
    pictures up to the next access point, and its own player of HLS was late from there on."""
    end_ns = record(api, maker, CONTENT[name])
    _, _, bodies, _ = await listed(api, start=maker.T0, end=end_ns)
    heard = [dts for body in bodies for dts in samples_of(body, 2)[0]]
    assert (np.diff(heard) > 0).all()
    assert len(heard) > 22 * 48_000 / 1024 - 8


async def test_a_segment_that_may_yet_lose_sound_is_not_kept(api, maker):
    """While nobody knows whether its session goes on; the picture after the break settles it."""
    maker.write(api.main, maker.video(frames=250, **CONTENT["h264-open"]))
    maker.write(api.sound, maker.audio(10.0))
    _, text = await api.get("hls/vod.m3u8", track="main", start=maker.T0, end=maker.T0 + 20 * NS)
    *others, last = [line for line in text.decode().splitlines() if "/rows/" in line]
    kept = {}
    for address in (others[0], last):
        async with api.client.get(address) as answer:
            kept[address] = answer.headers["Cache-Control"]
    assert "immutable" in kept[others[0]]
    assert kept[last] == "no-store"
    api.main.session = 2
    maker.write(api.main, maker.video(frames=100, first=500), t_ns=maker.T0 + 10 * NS)
    async with api.client.get(last) as answer:
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("ends", [65, 81, 82])
@pytest.mark.parametrize("name", ["h264-open", "hevc-open"])
async def test_leading_pictures_at_both_ends_of_a_range_are_in_its_times(name, ends, api, maker, save):
    """The range begins with a leading picture of access point 54 and ends in the middle, before or among those of 81."""
    maker.write(api.main, maker.video(frames=250, **CONTENT[name]))
    frame_ns = NS // 25
    _, (init,), bodies, found = await listed(api, start=maker.T0 + 53 * frame_ns, end=maker.T0 + ends * frame_ns)
    got = maker.decode(save(init + b"".join(bodies)))
    assert (got.messages, len(got.numbers)) == ("", sum(len(one.pts) for one in found))
    assert got.numbers == list(range(got.numbers[0], got.numbers[-1] + 1))
    assert got.numbers[0] <= 53
    assert got.numbers[-1] >= ends - 1
    assert sum(one.lasts_s for one in found) == pytest.approx(len(got.numbers) / 25, abs=1e-3)


@pytest.mark.parametrize("name", CONTENT)
async def test_segments_in_a_row_are_decoded_without_a_word(name, api, maker, save):
    """As one file: a picture for each that the segments have, decode times that rise, none after its picture's time, which is UTC."""
    end_ns = record(api, maker, CONTENT[name], width=320)
    _, (init,), bodies, found = await listed(api, start=maker.T0, end=end_ns)
    path = save(init + b"".join(bodies))
    got = maker.decode(path)
    assert (got.messages, len(got.numbers)) == ("", sum(len(one.pts) for one in found))
    assert got.numbers == [*range(250), *range(500, 600), *range(700, 800), *range(900, 1000)]
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert (np.diff([packet.dts for packet in packets]) > 0).all()
    assert all(packet.dts <= packet.pts for packet in packets)
    midnight_s = (maker.T0 // NS) % 86_400
    assert got.times == pytest.approx([midnight_s + n / 25 + (3 if n >= 250 else 0) for n in range(550)], abs=1e-3)


def columns(dice):
    """Samples as footage has them: decode times that rise, no picture before its decoding."""
    n = int(dice.integers(1, 60))
    dts = np.cumsum(dice.integers(1, 4000, n)).astype(np.int64)
    cts = (dice.integers(0, 4, n) * dice.integers(1, 4000, n)).astype(np.int64)
    none = np.zeros(n, np.int64)
    return Samples(none, dts, cts, none == 0, none, none, none, 3600)


@pytest.mark.parametrize("seed", range(40))
def test_the_first_picture_is_shown_at_once_and_none_is_moved(seed):
    before = columns(np.random.default_rng(seed))
    after = before.at_once()
    assert (after.pts == before.pts).all()
    assert (np.diff(after.dts) > 0).all()
    assert (after.cts >= 0).all()
    assert (after.dts >= before.dts).all()
    assert before.pts.min() - len(before) < after.dts[0] <= before.pts.min()
    late = before.dts >= before.pts.min() + len(before)
    assert (after.dts[late] == before.dts[late]).all()
    runs = after.runs()
    assert np.concatenate([run.dts for run in runs]).tolist() == after.dts.tolist()
    assert (np.concatenate([run.durations for run in runs]) >= before.durations - 16).all()
