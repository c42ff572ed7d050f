"""Content of every coding that is sent: as tests/media/conftest.py makes it, and JPEG, Opus and linear sound besides."""

import functools
from fractions import Fraction

import av
import numpy as np

from bench.camsim import pattern
from recorder.base.media import SampleEntry
from recorder.rtp.audio import opus_config
from tests.media.conftest import Au, Stream, audio, video


@functools.lru_cache(maxsize=2)
def pictures_of_jpeg(frames: int = 50, width: int = 320, height: int = 240) -> Stream:
    """JPEG images that bear their numbers."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 25)
    codec.options, codec.thread_count = {"huffman": "default"}, 1
    aus = []
    for number in range(frames):
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        pattern.draw(planes[:height], number)
        frame = av.VideoFrame.from_ndarray(planes, format="yuvj420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        aus += [Au(bytes(packet), 3600 * number, 3600 * number, True) for packet in codec.encode(frame)]
    return Stream(SampleEntry("jpeg", b"", 90_000, width, height), tuple(aus), 3600)


@functools.lru_cache(maxsize=4)
def sound(codec: str, seconds: float = 4.0) -> Stream:
    """A tone of 440 Hz."""
    if codec == "mp4a":
        return audio(seconds)
    name, rate, layout, step = {"alaw": ("pcm_alaw", 8000, "mono", 160), "ulaw": ("pcm_mulaw", 8000, "mono", 160),
                                "twos": ("pcm_s16be", 16000, "stereo", 320), "g726": ("g726", 8000, "mono", 160),
                                "Opus": ("libopus", 48000, "stereo", 960)}[codec]
    coder = av.CodecContext.create(name, "w")
    coder.sample_rate, coder.layout, coder.format = rate, layout, "s16"
    if codec == "g726":
        coder.bit_rate = 32_000
    coder.open()
    step = coder.frame_size or step
    channels = 2 if layout == "stereo" else 1
    pcm = np.repeat((np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate) * 8000).astype(np.int16), channels)
    aus = []
    for at in range(0, len(pcm) // channels - step + 1, step):
        frame = av.AudioFrame.from_ndarray(pcm[None, at * channels:(at + step) * channels], format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, at
        aus += [bytes(packet) for packet in coder.encode(frame)]
    config = {"g726": b"\4", "Opus": opus_config(2)}.get(codec, b"")
    entry = SampleEntry(codec, config, rate, channels=channels, sample_rate=rate)
    return Stream(entry, tuple(Au(data, i * step, i * step, True) for i, data in enumerate(aus)), step)


PICTURES = {"h264": lambda: video(bframes=2, sets=True), "h265": lambda: video("hevc", bframes=2), "jpeg": pictures_of_jpeg}
