"""Derived sound in segments: each has its own AUs, and joined they are what was recorded, without a click where they meet."""

import asyncio
import re

import av
import numpy as np
import pytest

from api.decoder.wire import AAC_SAMPLES
from recorder.base.media import NS, TrackKind
from tests.media.test_derived import HZ, coded, pitch, tone
from tests.media.test_players import gstreamer

DAY_S = 86_400


@pytest.fixture
async def yard(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as api:
        api.main = volume.track(1, "main", start_ns=maker.T0)
        api.sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=HZ, start_ns=maker.T0)
        api.midnight_s = maker.T0 // NS % DAY_S
        yield api


async def playlist(api, **query):
    answer, body = await api.get("hls/vod.m3u8", audio="aac", **query)
    assert answer.status == 200
    return answer, body.decode()


async def fetch(api, address):
    async with api.client.get(address) as answer:
        assert answer.status == 200, address
        return answer, await answer.read()


async def joined(api, text):
    """Init and all segments of a playlist of one coding."""
    addresses = [re.search('MAP:URI="(.+)"', text)[1], *(line for line in text.splitlines() if "/rows/" in line)]
    return b"".join([(await fetch(api, address))[1] for address in addresses])


def heard(path, zero_s):
    """Sound by time since `zero_s`, nan where there is none; sound AUs must not overlap."""
    out, end = np.full(60 * HZ, np.nan), 0
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            at = round((float(frame.pts * frame.time_base) - zero_s) * HZ)
            assert at >= end, "AUs overlap"
            pcm = frame.to_ndarray().reshape(-1)
            out[at:at + len(pcm)], end = pcm, at + len(pcm)
    return out


@pytest.mark.parametrize("codec", ["alaw", "ulaw", "twos", "g726"])
async def test_joined_segments_sound_as_recorded_without_clicks(codec, yard, maker, save):
    maker.write(yard.main, maker.video(frames=500, bframes=2, gop=30))
    maker.write(yard.sound, coded(maker, codec, 20.0))
    _, text = await playlist(yard, start=maker.T0, end=maker.T0 + 20 * NS)
    lasts = [float(found) for found in re.findall(r"#EXTINF:([\d.]+)", text)]
    assert len(lasts) >= 4
    path = save(await joined(yard, text))
    assert maker.decode(path).messages == ""
    assert len(maker.decode(path).numbers) == 500
    sound = heard(path, yard.midnight_s)
    first = 2 * AAC_SAMPLES                                  # the first AU fades in
    wrong = np.abs(sound[first:19 * HZ] - tone(20.0)[first:19 * HZ] / 32768)
    assert not np.isnan(wrong).any()
    assert np.sqrt(np.mean(wrong ** 2)) < 0.1 * np.sqrt(np.mean((tone(20.0) / 32768.0) ** 2))
    borders = [round(at * HZ) - first for at in np.cumsum(lasts)[:-1] if at < 18]
    near = np.concatenate([np.arange(at - AAC_SAMPLES, at + 2 * AAC_SAMPLES) for at in borders])
    assert wrong[near].max() <= 1.5 * np.delete(wrong, near).max()


async def test_a_segment_is_the_same_whatever_is_asked_before(yard, maker):
    maker.write(yard.main, maker.video(frames=400))
    maker.write(yard.sound, coded(maker, "alaw", 16.0))
    yard.sound.gap(9.0)
    texts = [(await playlist(yard, start=maker.T0 + at * NS, end=maker.T0 + 16 * NS))[1] for at in (0, 4, 8)]
    shared = sorted({line for line in texts[0].splitlines() if "/rows/" in line}
                    & set.union(*(set(text.splitlines()) for text in texts[1:])))
    assert shared
    found = [await asyncio.gather(*(fetch(yard, address) for address in order)) for order in (shared, shared[::-1])]
    yard.media.clips.sweep(lambda of: False)
    found.append([await fetch(yard, address) for address in shared])
    bodies = [[body for _, body in answers] for answers in found]
    assert bodies[0] == bodies[1][::-1] == bodies[2]
    answer = found[0][0][0]
    assert answer.headers["ETag"] == found[2][0][0].headers["ETag"]
    assert "immutable" in answer.headers["Cache-Control"]
    async with yard.client.get(shared[0], headers={"Range": "bytes=100-199"}) as part:
        assert (part.status, await part.read()) == (206, bodies[0][0][100:200])


async def test_it_is_marked_as_derived(yard, maker, volume):
    maker.write(yard.main, maker.video(frames=150))
    maker.write(yard.sound, coded(maker, "alaw", 6.0))
    query = {"start": maker.T0, "end": maker.T0 + 6 * NS}
    answer, text = await playlist(yard, **query)
    assert answer.headers["Watchroom-Audio"].startswith("derived")
    for address in (re.search('MAP:URI="(.+)"', text)[1], next(line for line in text.splitlines() if "/rows/" in line)):
        made, body = await fetch(yard, address)
        assert made.headers["Watchroom-Audio"] == "derived; aac from alaw"
        assert "/init/" not in address or b"AAC-LC derived from alaw, not evidence" in body
    maker.write(volume.track(1, "sub", start_ns=maker.T0), maker.video(frames=150, first=3000, width=160, height=120))
    _, text = await playlist(yard, **query)
    assert text.count("mp4a.40.2") == 2
    assert "alaw" not in text
    assert text.count("audio=aac") == 2
    source = (await yard.get("hls/vod.m3u8", track="main", **query))
    assert "Watchroom-Audio" not in source[0].headers
    assert b"-aac" not in source[1]


@pytest.mark.parametrize("gaps", ["keep", "close"])
async def test_over_a_gap_and_from_the_middle_of_a_range(gaps, yard, maker, save):
    """The playlist begins in the middle of a row; behind the gap the sound is at its own time again, and nothing is heard in between."""
    for session, first in ((1, 0), (2, 500)):
        yard.main.session = yard.sound.session = session
        maker.write(yard.main, maker.video(frames=250, first=first))
        maker.write(yard.sound, coded(maker, "alaw", 10.0))
        yard.main.gap(9.0)
        yard.sound.gap(9.0)
    start = 3.5
    _, text = await playlist(yard, start=maker.T0 + int(start * NS), end=maker.T0 + 28 * NS, gaps=gaps)
    path = save(await joined(yard, text))
    assert maker.decode(path).messages == ""
    sound = heard(path, yard.midnight_s)
    sound[np.isnan(sound)] = 0
    for at in (4, 8, 20, 27):
        assert round(pitch(sound, at + 0.25), -1) == 400 + 100 * (at - 19 * (at > 10)), at
    assert np.abs(sound[round(10.3 * HZ):round(18.7 * HZ)]).max() < 0.01
    expected = np.concatenate([tone(10.0), np.zeros(9 * HZ), tone(10.0)]) / 32768
    for low, high in ((4.0, 9.7), (19.3, 28.0)):
        part = slice(round(low * HZ), round(high * HZ))
        assert np.sqrt(np.mean((sound[part] - expected[part]) ** 2)) < 0.1 * np.sqrt(np.mean(expected[part] ** 2))


async def test_ffmpeg_plays_the_playlist(yard, maker):
    """Over a gap, from the playlist alone; every AU of both tracks comes."""
    for session in (1, 2):
        yard.main.session = yard.sound.session = session
        maker.write(yard.main, maker.video(frames=125, first=500 * session))
        maker.write(yard.sound, coded(maker, "ulaw", 5.0))
        yard.main.gap(9.0)
        yard.sound.gap(9.0)
    address = yard.client.make_url(f"/api/v1/cameras/yard/hls/vod.m3u8?start={maker.T0}&end={maker.T0 + 30 * NS}&audio=aac")
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", "-v", "warning", "-nostdin", "-i", str(address), "-map", "0:v", "-map", "0:a", "-f", "framecrc", "-", stdout=-1, stderr=-1)
    async with asyncio.timeout(120):
        out, messages = await process.communicate()
    assert messages == b""
    lines = [line.split(b",") for line in out.splitlines() if not line.startswith(b"#")]
    assert len([line for line in lines if line[0] == b"0"]) == 250
    assert sum(int(line[3]) for line in lines if line[0] == b"1") == pytest.approx(10 * HZ, abs=2 * AAC_SAMPLES)


async def test_gstreamer_plays_the_playlist(yard, maker, tmp_path):
    maker.write(yard.main, maker.video(frames=250, bframes=2))
    maker.write(yard.sound, coded(maker, "alaw", 10.0))
    yard.sound.gap(9.0)
    address = yard.client.make_url(f"/api/v1/cameras/yard/hls/vod.m3u8?start={maker.T0}&end={maker.T0 + 10 * NS}&audio=aac")
    status, messages, numbers = await gstreamer(address, tmp_path / "raw", sound=True)
    assert (status, messages, numbers) == (0, "", list(range(250)))


async def test_sound_that_may_still_come_is_not_kept(yard, maker):
    """Pictures are there, sound is not yet: what is sent then must not be taken for the segment for ever."""
    maker.write(yard.main, maker.video(frames=150))
    maker.write(yard.sound, coded(maker, "alaw", 5.0), stop=200)
    _, text = await playlist(yard, start=maker.T0, end=maker.T0 + 6 * NS)
    *_, last = (line for line in text.splitlines() if "/rows/" in line)
    answer, early = await fetch(yard, last)
    assert (answer.headers["Cache-Control"], answer.headers["ETag"][:2]) == ("no-store", "W/")
    maker.write(yard.sound, coded(maker, "alaw", 5.0), first=0, t_ns=maker.T0 + 4 * NS)
    answer, late = await fetch(yard, last)
    assert ("immutable" in answer.headers["Cache-Control"], answer.headers["ETag"][0]) == (True, '"')
    assert early != late


async def test_aac_is_left_as_it_is_and_odd_addresses_are_refused(yard, maker, volume):
    maker.write(yard.main, maker.video(frames=150))
    maker.write(yard.sound, maker.audio(6.0))
    answer, text = await playlist(yard, start=maker.T0, end=maker.T0 + 6 * NS)
    assert "Watchroom-Audio" not in answer.headers
    assert "-aac" not in text
    for name in ("main/init/1-1-aac.mp4", "main/rows/20833-0-1-1-1-aac.m4s", "main/init/1-0-aac-x.mp4"):
        refused, _ = await yard.get(f"hls/{name}")
        assert refused.status == 404, name
