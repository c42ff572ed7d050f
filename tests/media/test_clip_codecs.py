"""Codecs beside H.264, H.265, AAC and G.711 in a clip: ffmpeg decodes it without a word, to the samples that went in."""

from fractions import Fraction

import av
import numpy as np
import pytest

from api.cut import cut_audio, cut_video
from api.footage import load_range
from api.mp4.clip import build
from bench.camsim import jpeg, pattern
from recorder.base.media import NS, SampleEntry
from recorder.rtp.audio import opus_config

FRAME_NS = NS // 25
G726_BITS = {"16": 2, "24": 3, "32": 4, "40": 5}


def tone(rate: int, seconds: float) -> np.ndarray:
    return (np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 300 / rate) * 9000).astype(np.int16)


def encoded(encoder: str, rate: int, layout: str, samples: int, **options: str) -> list[bytes]:
    codec = av.CodecContext.create(encoder, "w")
    codec.sample_rate, codec.layout, codec.format, codec.time_base = rate, layout, "s16", Fraction(1, rate)
    if "code_size" in options:
        codec.bit_rate = int(options["code_size"]) * rate
    codec.options = options
    channels, packets, pcm = len(av.AudioLayout(layout).channels), [], tone(rate, 4.0)
    for at in range(0, len(pcm) - samples + 1, samples):
        frame = av.AudioFrame.from_ndarray(np.repeat(pcm[at:at + samples], channels)[None], format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, at
        packets += codec.encode(frame)
    return [bytes(p) for p in [*packets, *codec.encode(None)]]


def sound(maker, name: str):
    """(stream, its samples where nothing is lost)."""
    if name.startswith("twos"):
        channels = 2 if name == "twos-stereo" else 1
        pcm = np.repeat(tone(16000, 4.0), channels).astype(">i2").tobytes()
        size = 640 * channels
        packets = [pcm[at:at + size] for at in range(0, len(pcm), size)]
        return made(maker, SampleEntry("twos", b"", 16000, channels=channels, sample_rate=16000), packets, 320), np.frombuffer(pcm, ">i2")
    if name == "Opus":
        packets = encoded("libopus", 48000, "stereo", 960)
        entry = SampleEntry("Opus", opus_config(2), 48000, channels=2, sample_rate=48000)
        return made(maker, entry, packets, 960), None
    bits = G726_BITS[name.removeprefix("g726-")]
    coded = b"".join(encoded("g726", 8000, "mono", 160, code_size=str(bits)))      # code words do not mind where a packet ends
    packets = [coded[at:at + 20 * bits] for at in range(0, len(coded), 20 * bits)]
    return made(maker, SampleEntry("g726", bytes([bits]), 8000, channels=1, sample_rate=8000), packets, 160), None


def made(maker, entry, packets, dur):
    return maker.Stream(entry, tuple(maker.Au(p, i * dur, i * dur, True) for i, p in enumerate(packets)), dur)


def clip(maker, save, picture, heard, first: int, last: int):
    main = maker.MemoryTrack("main", [maker.Part(picture, maker.T0)])
    audio = maker.MemoryTrack("audio", [maker.Part(heard, maker.T0)]) if heard else None
    start_ns, end_ns = maker.T0 + first * FRAME_NS, maker.T0 + last * FRAME_NS
    video = cut_video(load_range(main, start_ns - 2 * NS, end_ns + 2 * NS, durable=True), start_ns, end_ns, close_gaps=False)
    tracks = [video.track]
    if audio is not None:
        tracks.append(cut_audio(load_range(audio, start_ns - 2 * NS, end_ns + 2 * NS, durable=True), video.timeline, video.presented_ns))
    return save(maker.whole(build(tracks, video.timeline.zero_ns), [main, audio]))


@pytest.mark.parametrize("name", ["twos", "twos-stereo", "Opus", "g726-16", "g726-24", "g726-32", "g726-40"])
def test_sound_of_a_clip_is_what_was_recorded(name, maker, save):
    heard, expected = sound(maker, name)
    got = maker.decode(clip(maker, save, maker.video(frames=100), heard, 25, 75))
    assert got.messages == ""
    assert got.numbers == list(range(25, 75))
    rate, channels = heard.entry.clock_rate, heard.entry.channels
    assert abs(len(got.sound) - 2 * rate * channels) <= 2 * 960
    if name.startswith("twos"):
        assert np.array_equal(got.sound, expected[rate * channels:3 * rate * channels])
    else:
        mono = got.sound.reshape(-1, 2, 960)[:, 0].reshape(-1) if name == "Opus" else got.sound      # planes of each packet
        spectrum = np.abs(np.fft.rfft(mono[rate // 2:rate * 3 // 2]))
        assert abs(spectrum.argmax() - 300) <= 1


def motion_jpeg(maker, frames: int = 60):
    """Whole JPEG images as a recorder stores them, each bearing its number."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 320, 240, "yuvj420p", Fraction(1, 25)
    codec.options = {"huffman": "default", "qmin": "2", "qmax": "2"}
    aus = []
    for number in range(frames):
        planes = np.full((360, 320), 128, np.uint8)
        pattern.draw(planes[:240], number)
        frame = av.VideoFrame.from_ndarray(planes, format="yuvj420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        aus += [jpeg.rebuilt(jpeg.parse(bytes(p))) for p in codec.encode(frame)]
    return made(maker, SampleEntry("jpeg", b"", 90_000, 320, 240), aus, 3600)


def test_motion_jpeg_plays_picture_by_picture(maker, save):
    got = maker.decode(clip(maker, save, motion_jpeg(maker), None, 13, 41))
    assert got.messages == ""
    assert got.numbers == list(range(13, 41))
    assert got.times == pytest.approx([n / 25 for n in range(28)], abs=1e-4)


async def test_a_picture_of_motion_jpeg_is_the_recorded_one_unless_it_shall_be_smaller(maker, volume, tmp_path):
    stream = motion_jpeg(maker)
    maker.write(volume.track(1, "main", start_ns=maker.T0), stream)
    async with maker.Api(volume, tmp_path, maker.T0 + 4 * NS) as api:
        answer, body = await api.get("frame.jpg", time=maker.T0 + 30 * FRAME_NS + 1)
        assert (answer.status, answer.content_type, body) == (200, "image/jpeg", stream.aus[30].data)
        assert api.media.decoders.started == 0
        small, body = await api.get("frame.jpg", time=maker.T0 + 30 * FRAME_NS + 1, width=160)
        assert small.status == 200 and jpeg.parse(body).width == 160
