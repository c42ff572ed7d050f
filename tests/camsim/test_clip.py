"""Content: every picture of every codec carries its number, sound beeps on the second, clips come from the cache unchanged."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bench.camsim import clip as clips
from bench.camsim import pattern
from bench.camsim.clip import Clip, obtain, split_nals
from bench.camsim.encode import annexb_nals, prefixed, sound
from bench.camsim.packets import PAYLOAD_BYTES, fragment_h264, fragment_h265, packetise
from bench.camsim.spec import AudioSpec, VideoSpec, content_key

VIDEOS = [VideoSpec(width=320, height=180, kbps=300), VideoSpec("h265", 320, 180, kbps=300),
          VideoSpec(width=640, height=360, kbps=500, bframes=2), VideoSpec("h265", 320, 180, kbps=300, bframes=3),
          VideoSpec(width=320, height=180, kbps=300, fps="12.5", gop=25)]


def decode_numbers(clip: Clip, start: int = 0, count: int | None = None) -> list[int | None]:
    codec = av.CodecContext.create("h264" if clip.codec == "h264" else "hevc", "r")
    aus = range(start, start + (count or clip.aus))
    packets = [av.Packet(b"".join(b"\x00\x00\x00\x01" + nal for nal in clip.nals(i))) for i in aus]
    frames = [frame for packet in [*packets, None] for frame in codec.decode(packet)]
    return [pattern.read(frame.to_ndarray(format="gray")) for frame in frames]


@pytest.mark.parametrize("spec", VIDEOS, ids=str)
def test_every_decoded_picture_tells_its_number(spec: VideoSpec, cache: Path) -> None:
    clip = obtain(spec, cache)
    assert decode_numbers(clip) == list(range(spec.loop_frames))


def test_the_loop_has_no_seam(cache: Path) -> None:
    clip = obtain(VIDEOS[2], cache)
    last_gop = clip.aus - 50
    assert decode_numbers(clip, last_gop, 100) == [*range(last_gop, clip.aus), *range(50)]


@pytest.mark.parametrize("spec", VIDEOS, ids=str)
def test_key_frames_bit_rate_and_times_are_what_was_asked_for(spec: VideoSpec, cache: Path) -> None:
    clip = obtain(spec, cache)
    assert clip.key.nonzero()[0].tolist() == list(range(0, spec.loop_frames, spec.gop))
    assert len(clip.data) * 8 / (clip.loop_ticks / 90_000) / 1000 == pytest.approx(spec.kbps, rel=0.2)
    assert sorted(clip.pts) == [round(i * 90_000 / spec.rate) for i in range(clip.aus)]
    assert (np.diff(clip.due) > 0).all()
    assert (clip.due >= clip.pts).all()
    assert Fraction(clip.loop_ticks) == spec.loop_frames * 90_000 / spec.rate


@pytest.mark.parametrize("spec", VIDEOS[:2], ids=str)
def test_parameter_sets_are_those_in_the_stream(spec: VideoSpec, cache: Path) -> None:
    clip = obtain(spec, cache)
    kinds = [s[0] & 31 for s in clip.sets] if spec.codec == "h264" else [s[0] >> 1 & 63 for s in clip.sets]
    assert kinds == ([7, 8] if spec.codec == "h264" else [32, 33, 34])
    for index in clip.key.nonzero()[0]:
        assert [nal for nal in clip.nals(index) if nal in clip.sets] == list(clip.sets)


def test_aac_decodes_to_the_beeps_from_sample_zero(cache: Path) -> None:
    clip = obtain(AudioSpec("aac"), cache)
    codec = av.CodecContext.create("aac", "r")
    codec.extradata = clip.config
    frames = [frame for i in (clip.aus - 1, *range(48)) for frame in codec.decode(av.Packet(clip.au(i)))]
    heard = np.concatenate([frame.to_ndarray().ravel() for frame in frames])[1024:]
    wanted = sound(16_000)[:len(heard)] / 32768
    lags = range(-400, 401)
    best = max(lags, key=lambda lag: float(np.dot(heard[16_000:32_000], wanted[16_000 + lag:32_000 + lag])))
    assert abs(best) <= 1
    assert np.abs(heard[16_000:17_600]).mean() > 20 * np.abs(heard[20_000:30_000]).mean()


@pytest.mark.parametrize("codec", ["pcma", "pcmu"])
def test_g711_decodes_to_the_beeps(codec: str, cache: Path) -> None:
    clip = obtain(AudioSpec(codec), cache)  # type: ignore[arg-type]
    decoder = av.CodecContext.create("pcm_alaw" if codec == "pcma" else "pcm_mulaw", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.layout = 8000, "mono"
    heard = np.concatenate([f.to_ndarray().ravel() for f in decoder.decode(av.Packet(clip.data))]).astype(float)
    wanted = sound(8000).astype(float)
    assert len(heard) == len(wanted) == clip.loop_ticks
    assert np.abs(heard - wanted).max() < 600


def test_motion_jpeg_tells_its_numbers(cache: Path) -> None:
    clip = obtain(VideoSpec("jpeg", 320, 180), cache)
    codec = av.CodecContext.create("mjpeg", "r")
    numbers = [pattern.read(frame.to_ndarray(format="gray")) for i in range(clip.aus) for frame in codec.decode(av.Packet(clip.au(i)))]
    assert numbers == list(range(clip.aus))
    assert clip.key.all()


@pytest.mark.parametrize(("codec", "decoder", "rate"), [("l16", "pcm_s16be", 16_000), ("g726", "g726", 8000), ("opus", "libopus", 48_000)])
def test_other_sound_decodes_to_the_beeps(codec: str, decoder: str, rate: int, cache: Path) -> None:
    clip = obtain(AudioSpec(codec), cache)  # type: ignore[arg-type]
    if codec == "g726":
        with av.open(io.BytesIO(clip.data), format="g726", options={"code_size": "4", "sample_rate": "8000"}) as file:
            frames = list(file.decode(audio=0))
    else:
        made = av.CodecContext.create(decoder, "r")
        assert isinstance(made, av.AudioCodecContext)
        made.sample_rate, made.layout = rate, "mono"
        frames = [frame for i in range(clip.aus) for frame in made.decode(av.Packet(clip.au(i)))]
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float)
    assert abs(len(heard) - len(sound(rate))) <= rate // 50
    loud = np.abs(heard[rate * 3:rate * 3 + rate // 10]).mean()
    assert loud > 10 * np.abs(heard[rate * 3 + rate // 2:rate * 3 + rate * 3 // 4]).mean()


def test_second_use_comes_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = VIDEOS[0]
    first = obtain(spec, cache)
    monkeypatch.setattr(clips, "_encode", lambda *_: pytest.fail("encoded again"))
    clips.load.cache_clear()
    again = obtain(spec, cache)
    assert again is not first
    assert (again.data, again.sets, again.fps) == (first.data, first.sets, first.fps)
    assert (again.pts == first.pts).all()


def test_other_content_never_shares_a_clip() -> None:
    specs = [VideoSpec(), *VIDEOS, replace(VIDEOS[0], gop=51), replace(VIDEOS[0], fps="30"), AudioSpec("aac"), AudioSpec("pcma")]
    assert len({content_key(s) for s in specs}) == len(specs)


def test_an_encoder_that_fails_is_named(cache: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot encode h264 content"):
        obtain(VideoSpec(width=321, height=181), cache)


def test_nals_survive_prefixing() -> None:
    nals = [b"\x67\x01", b"\x68\x00\x00\x03", b"\x65" + b"\x01" * 9]
    stream = b"\x00\x00\x00\x01" + b"\x00\x00\x01".join(nals) + b"\x00\x00"
    assert annexb_nals(stream) == nals
    assert split_nals(prefixed(nals)) == nals
    with pytest.raises(ValueError, match="does not fit"):
        split_nals(prefixed(nals)[:-1])


@pytest.mark.parametrize("size", [1, PAYLOAD_BYTES, PAYLOAD_BYTES + 1, 2 * PAYLOAD_BYTES - 3, 2 * PAYLOAD_BYTES - 1, 50_000])
def test_fragments_join_to_the_nal(size: int) -> None:
    body = np.random.default_rng(size).bytes(size - 1)
    h264, h265 = fragment_h264(b"\x65" + body), fragment_h265(b"\x26\x01" + body)
    assert max(map(len, h264 + h265)) <= PAYLOAD_BYTES
    if size <= PAYLOAD_BYTES:
        assert h264 == [b"\x65" + body]
    else:
        assert [p[1] & 0xC0 for p in h264] == [0x80, *[0] * (len(h264) - 2), 0x40]
        assert {(p[0], p[1] & 0x1F) for p in h264} == {(0x7C, 5)}
        assert b"".join(p[2:] for p in h264) == body
    if size >= PAYLOAD_BYTES:
        assert [p[2] & 0xC0 for p in h265] == [0x80, *[0] * (len(h265) - 2), 0x40]
        assert {(p[0], p[1], p[2] & 0x3F) for p in h265} == {(0x62, 1, 19)}
        assert b"".join(p[3:] for p in h265) == body


def test_packets_cover_every_au(cache: Path) -> None:
    for spec in (VIDEOS[0], AudioSpec("aac"), AudioSpec("pcmu")):
        clip = obtain(spec, cache)
        packets = packetise(clip)
        assert len(packets.first) == clip.aus + 1
        assert packets.offsets[-1] == len(packets.data)
        ends = set((packets.first[1:] - 1).tolist()) if spec.codec != "pcmu" else set()
        assert set(packets.marker.nonzero()[0].tolist()) == ends
