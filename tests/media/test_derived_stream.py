"""Derived sound in a stream: as recorded, at its time, over gaps and from the middle, without a click between what was made at once."""

import numpy as np
import pytest

from api import cursor as cursor_module
from api.cursor import Cursor, CursorQuery, Init, Part
from api.decoder.wire import AAC_SAMPLES
from api.stream import AUDIO_TYPES
from recorder.base.media import NS, SampleEntry, TrackKind
from tests.media.test_derived import HZ, coded, pitch, tone
from tests.media.test_derived_hls import heard


@pytest.fixture
async def yard(maker, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(cursor_module, "LEAD_S", 1e6)
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as api:
        api.main = volume.track(1, "main", start_ns=maker.T0)
        api.sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=HZ, start_ns=maker.T0)
        yield api


async def stream(api, start_ns, pictures, **query):
    """Init and fragments until so many pictures are out."""
    cursor = Cursor(api.media, CursorQuery(1, audio=AUDIO_TYPES, start_ns=start_ns, scaled=True, aac=True, **query))
    data, init, events = b"", None, cursor.events()
    try:
        async for event in events:
            init = event if isinstance(event, Init) else init
            data += event.data if isinstance(event, Init | Part) else b""
            if isinstance(event, Part) and event.newest_ns >= pictures:
                return init, data
    finally:
        await events.aclose()


@pytest.mark.parametrize("codec", ["alaw", "twos", "g726"])
async def test_it_sounds_as_recorded_from_the_middle_on(codec, yard, maker, save):
    maker.write(yard.main, maker.video(frames=500, bframes=2, gop=25))
    maker.write(yard.sound, coded(maker, codec, 20.0))
    init, data = await stream(yard, maker.T0 + 3 * NS, maker.T0 + 19 * NS)
    assert "mp4a.40.2" in init.codecs
    assert f"AAC-LC derived from {codec}, not evidence".encode() in data
    path = save(data)
    shown = maker.decode(path)
    assert shown.messages == ""
    assert shown.numbers[:300] == list(range(75, 375))
    zero = (init.wall_ns - maker.T0) * HZ // NS
    sound = heard(path, 0)[2 * AAC_SAMPLES:14 * HZ]
    expected = tone(20.0)[zero + 2 * AAC_SAMPLES:zero + 14 * HZ] / 32768
    wrong = np.abs(sound - expected)
    assert np.sqrt(np.mean(wrong ** 2)) < 0.1 * np.sqrt(np.mean(expected ** 2))


async def test_over_a_gap_media_time_runs_on_and_sound_with_it(yard, maker, save):
    for session, first in ((1, 0), (2, 500)):
        yard.main.session = yard.sound.session = session
        maker.write(yard.main, maker.video(frames=250, first=first))
        maker.write(yard.sound, coded(maker, "alaw", 10.0))
        yard.main.gap(9.0)
        yard.sound.gap(9.0)
    _, data = await stream(yard, maker.T0 + 4 * NS, maker.T0 + 27 * NS)
    path = save(data)
    shown = maker.decode(path)
    assert (shown.messages, shown.numbers[:200]) == ("", [*range(100, 250), *range(500, 550)])
    sound = heard(path, 0)
    sound[np.isnan(sound)] = 0
    for at_s, hertz in ((1, 900), (5, 1300), (7, 500), (9, 700)):
        assert round(pitch(sound, at_s + 0.3), -1) == hertz, at_s


async def test_the_header_says_that_it_is_derived(yard, maker):
    maker.write(yard.main, maker.video(frames=100))
    maker.write(yard.sound, coded(maker, "alaw", 4.0))
    for audio, header in (("aac", "derived; aac from alaw"), ("source", None), ("none", None)):
        async with yard.client.get("/api/v1/cameras/yard/stream.mp4", params={"start": str(maker.T0), "audio": audio}) as answer:
            assert (answer.status, answer.headers.get("Watchroom-Audio")) == (200, header)
            assert b"moov" in await answer.content.readany()
    async with yard.client.get("/api/v1/cameras/yard/stream.mp4", params={"start": str(maker.T0), "audio": "aac", "speed": "2"}) as answer:
        assert (answer.status, answer.headers.get("Watchroom-Audio")) == (200, None)


async def test_what_cannot_be_made_into_aac_is_refused_in_words(maker, volume, tmp_path):
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=100))
    aus = tuple(maker.Au(bytes(320), n * 160, n * 160, True) for n in range(200))
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=9000, start_ns=maker.T0)
    maker.write(sound, maker.Stream(SampleEntry("twos", b"", 9000, channels=1, sample_rate=9000), aus, 160))
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as api:
        for path in ("stream.mp4", "hls/vod.m3u8"):
            answer, body = await api.get(path, start=maker.T0, audio="aac", **({"end": maker.T0 + 3 * NS} if "hls" in path else {}))
            assert (answer.status, b"audio=source or none" in body) == (400, True)


@pytest.mark.parametrize("aac", [True, False])
async def test_sound_comes_back_after_a_break_of_its_own(aac, yard, maker, save):
    """Two seconds without sound under pictures that go on; it was gone from there on. And sound does not run ahead of pictures."""
    content = coded(maker, "alaw", 20.0)
    maker.write(yard.main, maker.video(frames=500))
    maker.write(yard.sound, content, stop=300)
    yard.sound.session = 2
    maker.write(yard.sound, content, first=400, t_ns=maker.T0 + 8 * NS)
    cursor = Cursor(yard.media, CursorQuery(1, audio=AUDIO_TYPES, start_ns=maker.T0, scaled=True, aac=aac))
    data, events = b"", cursor.events()
    async for event in events:
        data += event.data if isinstance(event, Init | Part) else b""
        if isinstance(event, Part) and event.newest_ns >= maker.T0 + 15 * NS:
            break
    await events.aclose()
    path = save(data)
    assert maker.decode(path).messages == ""
    sound = heard(path, 0)
    known = np.flatnonzero(~np.isnan(sound))
    assert known[-1] < 21 * HZ
    sound[np.isnan(sound)] = 0
    scale = 1 if aac else 32768
    assert round(pitch(sound, 5.25), -1) == 900
    assert np.abs(sound[round(6.3 * HZ):round(7.7 * HZ)]).max() < 0.01 * scale
    assert [round(pitch(sound, at + 0.25), -1) for at in (9, 12, 14)] == [1300, 1600, 1800]
