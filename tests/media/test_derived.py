"""Derived sound is what was recorded, at its time, and says that it is derived."""

import asyncio

import av
import numpy as np
import pytest

from api import derived
from api.clipplan import DERIVED
from api.exports.body import read_export
from api.media import SWEEP_S
from api.problems import Problem
from recorder.base.media import NS, SampleEntry, TrackKind

HZ = 8000


def tone(seconds: float):
    """Rises second by second: 400 Hz, 500 Hz, ... so that sound tells its time."""
    at = np.arange(round(seconds * HZ)) / HZ
    return (np.sin(2 * np.pi * (400 + 100 * np.floor(at)) * at) * 12_000).astype(np.int16)


def coded(maker, codec: str, seconds: float):
    """The tone as the camera sends it."""
    coder = av.CodecContext.create({"alaw": "pcm_alaw", "ulaw": "pcm_mulaw", "twos": "pcm_s16be", "g726": "g726"}[codec], "w")
    coder.sample_rate, coder.layout, coder.format = HZ, "mono", "s16"
    if codec == "g726":
        coder.bit_rate = 32_000
    coder.open()
    step, pcm, aus = coder.frame_size or 160, tone(seconds), []
    for at in range(0, len(pcm) - step + 1, step):
        frame = av.AudioFrame.from_ndarray(pcm[None, at:at + step], format="s16", layout="mono")
        frame.sample_rate, frame.pts = HZ, at
        aus += [maker.Au(bytes(packet), at, at, True) for packet in coder.encode(frame)]
    config = b"\4" if codec == "g726" else b""
    return maker.Stream(SampleEntry(codec, config, HZ, channels=1, sample_rate=HZ), tuple(aus), step)


@pytest.fixture(params=["alaw", "ulaw", "twos", "g726"])
async def yard(request, maker, volume, tmp_path):
    main = volume.track(1, "main", start_ns=maker.T0)
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=HZ, start_ns=maker.T0)
    maker.write(main, maker.video(frames=250))
    maker.write(sound, coded(maker, request.param, 10.0))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.codec, api.sound = request.param, sound
        yield api


def pitch(sound, start_s: float) -> float:
    """Hz of the strongest tone in the half second from there on."""
    part = sound[round(start_s * HZ):round((start_s + 0.5) * HZ)]
    return float(np.argmax(np.abs(np.fft.rfft(part * np.hanning(len(part))))) * HZ / len(part))


async def test_the_sound_is_at_its_time_and_marked_as_derived(yard, maker, save):
    answer, body = await yard.get("clip.mp4", start=maker.T0 + 2 * NS, end=maker.T0 + 9 * NS, audio="aac")
    assert answer.status == 200
    assert answer.headers["Watchroom-Audio"] == f"derived; aac from {yard.codec}"
    assert f"AAC-LC derived from {yard.codec}, not evidence".encode() in body
    shown = maker.decode(save(body))
    assert shown.messages == ""
    assert shown.numbers == list(range(50, 225))
    assert [round(pitch(shown.sound, n + 0.25 - shown.sound_start), -1) for n in range(7)] == [600 + 100 * n for n in range(7)]
    heard, expected = shown.sound[round((1 - shown.sound_start) * HZ):][:5 * HZ], tone(10.0)[3 * HZ:8 * HZ] / 32768
    assert np.sqrt(np.mean((heard - expected) ** 2)) < 0.1 * np.sqrt(np.mean(expected ** 2))


async def test_the_same_clip_has_the_same_bytes_and_parts_of_it_can_be_had(yard, maker):
    query = {"start": maker.T0 + NS, "end": maker.T0 + 4 * NS, "audio": "aac"}
    first, body = await yard.get("clip.mp4", **query)
    yard.media.clips.drop(next(iter(yard.media.clips._held)))
    again, same = await yard.get("clip.mp4", **query)
    assert (again.headers["ETag"], same) == (first.headers["ETag"], body)
    part, some = await yard.get("clip.mp4", {"Range": "bytes=1000-2999"}, **query)
    assert (part.status, some) == (206, body[1000:3000])
    source, _ = await yard.get("clip.mp4", **{**query, "audio": "source"})
    assert source.headers["ETag"] != first.headers["ETag"]
    assert "Watchroom-Audio" not in source.headers
    assert DERIVED in (await (await yard.get("clip.json", **query))[0].json())["cameras"][0]["in_file"]


async def test_aac_is_left_as_it_is(maker, volume, tmp_path):
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=150))
    maker.write(volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0), maker.audio(6.0))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        query = {"start": maker.T0 + NS, "end": maker.T0 + 4 * NS}
        made, source = [await api.get("clip.mp4", **query, audio=word) for word in ("aac", "source")]
        assert made[1] == source[1]
        assert "Watchroom-Audio" not in made[0].headers
        assert api.media.decoders.started == 0


async def test_silence_where_no_sound_was_recorded_and_parts_that_fit(maker, volume, tmp_path, save, monkeypatch):
    """A break of two seconds in the sound, and parts of four AUs: as one piece."""
    monkeypatch.setattr(derived, "PART", 4)
    content = coded(maker, "alaw", 10.0)
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=250))
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=HZ, start_ns=maker.T0)
    maker.write(sound, content, stop=150)
    maker.write(sound, content, first=250, t_ns=maker.T0 + 5 * NS)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        _, body = await api.get("clip.mp4", start=maker.T0, end=maker.T0 + 9 * NS, audio="aac")
        shown = maker.decode(save(body))
        assert shown.messages == ""
        assert round(pitch(shown.sound, 2.25 - shown.sound_start), -1) == 600
        assert round(pitch(shown.sound, 6.25 - shown.sound_start), -1) == 1000
        assert np.abs(shown.sound[round((3.3 - shown.sound_start) * HZ):round((4.7 - shown.sound_start) * HZ)]).max() < 0.01


async def test_what_cannot_be_derived_is_refused_in_words(yard, maker):
    answer, _ = await yard.get("clip.mp4", start=maker.T0, end=maker.T0 + NS, audio="opus")
    assert answer.status == 400
    wanted = {"items": [{"camera": "yard", "start": maker.T0, "end": maker.T0 + NS}], "reason": "evidence", "audio": "aac"}
    with pytest.raises(Problem, match="audio"):
        read_export(wanted, maker.T0 + 70 * NS)


async def test_derived_sound_leaves_the_cache_with_its_source(yard, maker):
    asked = [yard.get("clip.mp4", start=maker.T0 + NS, end=maker.T0 + 4 * NS, audio="aac") for _ in range(3)]
    assert len({body for _, body in await asyncio.gather(*asked)}) == 1
    (held,) = yard.media.clips._held
    made = yard.media.clips.get(held)
    assert made.stands(yard.store)
    tape = yard.store.tape(1, "audio", 0)
    tape._floor = (10**6, 1 << 40)            # as if the rule had expired it
    assert not made.stands(yard.store)
    yard.media._swept_s = -SWEEP_S
    await yard.media.look()
    assert not yard.media.clips._held


@pytest.mark.parametrize(("form", "status"), [("fmp4", 200), ("ts", 400), ("webm", 400)])
async def test_derived_sound_in_other_formats(yard, maker, save, form, status):
    answer, body = await yard.get("clip.mp4", start=maker.T0 + 2 * NS, end=maker.T0 + 9 * NS, audio="aac", format=form)
    assert answer.status == status
    if status == 200:
        shown = maker.decode(save(body))
        assert shown.messages == ""
        assert [round(pitch(shown.sound, n + 0.25 - shown.sound_start), -1) for n in range(6)] == [600 + 100 * n for n in range(6)]
