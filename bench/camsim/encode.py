"""Encodes the content of one clip (a process of its own: `python -m bench.camsim.encode KIND SPEC PATH`)."""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bench.camsim import jpeg
from bench.camsim.clip import Clip, save, spec_of
from bench.camsim.picture import Scene
from bench.camsim.spec import LOOP_S, AudioSpec, VideoSpec

VIDEO_CLOCK = 90_000
AAC_RATE, AAC_SAMPLES = 16_000, 1024
G711_RATE = 8_000
SOUNDS = {"aac": (AAC_RATE, AAC_SAMPLES), "pcma": (G711_RATE, 160), "pcmu": (G711_RATE, 160), "g726": (8_000, 160), "l16": (16_000, 320),
          "opus": (48_000, 960)}        # rate and samples of an AU
G726_BITS = 4


def annexb_nals(data: bytes) -> list[bytes]:
    """The NALs of an Annex B byte stream, without start codes and trailing zeros (H.264 B.1)."""
    parts = data.split(b"\x00\x00\x01")
    return [nal for part in parts[1:] if (nal := part.rstrip(b"\x00"))]


def prefixed(nals: list[bytes]) -> bytes:
    """The AU as it is stored: each NAL behind its length in four bytes."""
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def encode_video(spec: VideoSpec, path: Path) -> Clip:
    """The clip of a video spec."""
    packets = list(_video_packets(spec))
    if spec.codec == "jpeg":
        return _jpeg_clip(spec, path, packets)
    nals = [annexb_nals(data) for data, _ in packets]
    frames = np.array([frame for _, frame in packets], np.int64)
    delay = int((frames - np.arange(len(frames))).max())
    stored = [prefixed(au) for au in nals]
    return Clip(
        path=path, codec=spec.codec, clock_rate=VIDEO_CLOCK, loop_ticks=round(spec.loop_frames * VIDEO_CLOCK / spec.rate),
        au_ticks=float(VIDEO_CLOCK / spec.rate), data=b"".join(stored), offsets=_offsets(stored), pts=_ticks(frames, spec.rate),
        due=_ticks(np.arange(len(frames)) + delay, spec.rate), key=np.array([_is_key(spec, au) for au in nals], np.uint8),
        sets=tuple(nal for nal in nals[0] if _is_set(spec, nal)),
        width=spec.width, height=spec.height, fps=spec.fps, kbps=spec.kbps)


def _jpeg_clip(spec: VideoSpec, path: Path, packets: list[tuple[bytes, int]]) -> Clip:
    stored = [jpeg.rebuilt(jpeg.parse(data)) for data, _ in packets]
    pts = _ticks(np.array([frame for _, frame in packets], np.int64), spec.rate)
    return Clip(path=path, codec=spec.codec, clock_rate=VIDEO_CLOCK, loop_ticks=round(spec.loop_frames * VIDEO_CLOCK / spec.rate),
                au_ticks=float(VIDEO_CLOCK / spec.rate), data=b"".join(stored), offsets=_offsets(stored), pts=pts, due=pts,
                key=np.ones(len(stored), np.uint8), width=spec.width, height=spec.height, fps=spec.fps,
                kbps=round(sum(map(len, stored)) * 8 * spec.rate / len(stored) / 1000))


def _video_packets(spec: VideoSpec) -> Iterator[tuple[bytes, int]]:
    """(Annex B bytes, number of the picture) in coding order."""
    scene = Scene(spec.width, spec.height, spec.rate)
    codec = _jpeg_encoder(spec) if spec.codec == "jpeg" else _video_encoder(spec)
    pixels = "yuvj420p" if spec.codec == "jpeg" else "yuv420p"
    for number in range(spec.loop_frames):
        frame = av.VideoFrame.from_ndarray(scene.planes(number), format=pixels)
        frame.pts, frame.time_base = number, 1 / spec.rate
        yield from _coded(codec.encode(frame))
    yield from _coded(codec.encode(None))


def _coded(packets: "list[av.Packet[av.VideoStream]]") -> Iterator[tuple[bytes, int]]:
    for packet in packets:
        assert packet.pts is not None
        yield bytes(packet), packet.pts


def _jpeg_encoder(spec: VideoSpec) -> av.VideoCodecContext:
    """Baseline with the Huffman tables that RFC 2435 takes for granted; the bit rate is what comes of it."""
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = spec.width, spec.height, "yuvj420p", 1 / spec.rate
    codec.options, codec.thread_count = {"huffman": "default", "qmin": "8", "qmax": "8"}, 1
    return codec


def _video_encoder(spec: VideoSpec) -> av.VideoCodecContext:
    codec = av.CodecContext.create("libx264" if spec.codec == "h264" else "libx265", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = spec.width, spec.height, "yuv420p"
    codec.time_base, codec.framerate = 1 / spec.rate, spec.rate
    codec.bit_rate, codec.gop_size, codec.max_b_frames = spec.kbps * 1000, spec.gop, spec.bframes
    params = [f"keyint={spec.gop}", f"min-keyint={spec.gop}", "scenecut=0", "open-gop=0", "repeat-headers=1",
              f"bframes={spec.bframes}", f"vbv-maxrate={spec.kbps}", f"vbv-bufsize={2 * spec.kbps}"]
    if spec.codec == "h264":
        codec.options = {"preset": "superfast", "x264-params": ":".join(params)}
    else:
        codec.options = {"preset": "ultrafast", "x265-params": ":".join([*params, "info=0", "log-level=none"])}
    return codec


def _is_key(spec: VideoSpec, nals: list[bytes]) -> bool:
    if spec.codec == "h264":
        return any(nal[0] & 31 == 5 for nal in nals)
    return any(16 <= nal[0] >> 1 & 63 <= 21 for nal in nals)


def _is_set(spec: VideoSpec, nal: bytes) -> bool:
    return nal[0] & 31 in {7, 8} if spec.codec == "h264" else (nal[0] >> 1 & 63) in {32, 33, 34}


def encode_audio(spec: AudioSpec, path: Path) -> Clip:
    """The clip of an audio spec."""
    rate, samples = SOUNDS[spec.codec]
    aus, config = _encode_aac(sound(rate)) if spec.codec == "aac" else (_encode_sound(spec, sound(rate)), b"")
    ticks = np.arange(len(aus), dtype=np.int64) * samples
    return Clip(path=path, codec=spec.codec, clock_rate=rate, loop_ticks=len(aus) * samples, au_ticks=samples, data=b"".join(aus),
                offsets=_offsets(aus), pts=ticks, due=ticks + samples, key=np.ones(len(aus), np.uint8), config=config,
                kbps=round(sum(map(len, aus)) * 8 / LOOP_S / 1000))


def sound(rate: int) -> NDArray[np.int16]:
    """One loop: 1 kHz for 100 ms at each whole second (2 kHz at the loop's start), between them quiet noise: no frame is empty."""
    t = np.arange(LOOP_S * rate)
    wave = np.random.default_rng(3).normal(0, 40, len(t))
    beep = (t % rate < rate // 10) * np.sin(2 * np.pi * np.where(t < rate, 2000, 1000) * t / rate)
    return np.clip(wave + 9000 * beep, -32768, 32767).astype(np.int16)


def _encode_aac(wave: NDArray[np.int16]) -> tuple[list[bytes], bytes]:
    """The AUs that decode to the wave, sample 0 first: the middle one of three loops, so that the loop has no seam."""
    codec = av.CodecContext.create("aac", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = AAC_RATE, "mono", "fltp", 48_000
    codec.time_base = Fraction(1, AAC_RATE)
    floats = np.tile(wave.astype(np.float32) / 32768, 3)[None]
    packets = []
    for at in range(0, floats.shape[1], AAC_SAMPLES):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(floats[:, at:at + AAC_SAMPLES]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AAC_RATE, at, Fraction(1, AAC_RATE)
        packets += codec.encode(frame)
    packets += codec.encode(None)
    middle = [bytes(p) for p in packets if p.pts is not None and len(wave) <= p.pts < 2 * len(wave)]
    return middle, bytes(codec.extradata or b"")[:2]


def _encode_sound(spec: AudioSpec, wave: NDArray[np.int16]) -> list[bytes]:
    """The AUs of a codec whose frames do not overlap, or (Opus) whose seam nobody minds."""
    rate, samples = SOUNDS[spec.codec]
    if spec.codec == "opus":
        return _encode_opus(wave)
    data = wave.astype(">i2").tobytes() if spec.codec == "l16" else _encode_samples(spec, wave, rate)
    size = len(data) * samples // len(wave)
    return [data[at:at + size] for at in range(0, len(data), size)]


def _encode_samples(spec: AudioSpec, wave: NDArray[np.int16], rate: int) -> bytes:
    codec = av.CodecContext.create({"pcma": "pcm_alaw", "pcmu": "pcm_mulaw", "g726": "g726"}[spec.codec], "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = rate, "mono", "s16"
    codec.time_base = Fraction(1, rate)
    if spec.codec == "g726":
        codec.bit_rate, codec.options = G726_BITS * rate, {"code_size": str(G726_BITS)}
    frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    return b"".join(bytes(p) for p in [*codec.encode(frame), *codec.encode(None)])


def _encode_opus(wave: NDArray[np.int16]) -> list[bytes]:
    rate, samples = SOUNDS["opus"]
    codec = av.CodecContext.create("libopus", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate, codec.time_base = rate, "mono", "s16", 48_000, Fraction(1, rate)
    packets = []
    for at in range(0, len(wave), samples):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[at:at + samples])[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, at
        packets += codec.encode(frame)
    return [bytes(p) for p in [*packets, *codec.encode(None)]][:len(wave) // samples]


def _offsets(aus: list[bytes]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(au) for au in aus])]).astype(np.int64)


def _ticks(frames: NDArray[np.int64], rate: Fraction) -> NDArray[np.int64]:
    return np.array([round(int(n) * VIDEO_CLOCK / rate) for n in frames], np.int64)


def main(kind: str, text: str, path: str) -> None:
    """Encode and save one clip."""
    spec = spec_of(kind, text)
    save(encode_video(spec, Path(path)) if isinstance(spec, VideoSpec) else encode_audio(spec, Path(path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
