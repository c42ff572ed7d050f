"""What to simulate, as values: content (what a clip's cache key is made of), cameras, and the whole simulation."""

import hashlib
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

CONTENT_VERSION = 2   # part of every cache key: raise it when the same spec shall give other content
LOOP_S = 16           # whole numbers of AAC frames at 16 kHz (250) and of packets of 20 ms (800) fit

VideoCodec = Literal["h264", "h265", "jpeg"]
AudioCodec = Literal["aac", "pcma", "pcmu", "opus", "l16", "g726"]
AuthScheme = Literal["none", "basic", "digest"]
DigestAlgorithm = Literal["md5", "sha-256", "both"]


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """A looped clip of pictures; `fps` as text ("25", "30000/1001", "12.5"), `bframes` between reference pictures."""

    codec: VideoCodec = "h264"
    width: int = 1920
    height: int = 1080
    fps: str = "25"
    gop: int = 50
    kbps: int = 4000
    bframes: int = 0

    @property
    def rate(self) -> Fraction:
        """Pictures per second."""
        return Fraction(self.fps)

    @property
    def loop_frames(self) -> int:
        """Pictures in the loop: whole GOPs, at least LOOP_S long."""
        return -(-LOOP_S * self.rate // self.gop) * self.gop


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """A looped clip of sound: a beep of 100 ms at each whole second of media time over quiet noise.

    Mono: AAC and L16 at 16 kHz, Opus at 48 kHz, G.711 and G.726 (32 kbit/s) at 8 kHz.
    """

    codec: AudioCodec = "aac"


ContentSpec = VideoSpec | AudioSpec


def content_key(spec: ContentSpec) -> str:
    """The name of the clip in the cache: readable, and unique for the spec."""
    text = json.dumps([CONTENT_VERSION, LOOP_S, asdict(spec)], sort_keys=True)
    return f"{spec.codec}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera: `/camN` carries video and audio, `/camN/sub` the small stream."""

    video: VideoSpec = VideoSpec()
    audio: AudioSpec | None = None
    sub: VideoSpec | None = None


@dataclass(frozen=True, slots=True)
class AuthSpec:
    """How a client must show who it is."""

    scheme: AuthScheme = "none"
    algorithm: DigestAlgorithm = "md5"
    user: str = "watchroom"
    password: str = "camsim"  # noqa: S105


@dataclass(frozen=True, slots=True)
class SimSpec:
    """The simulation. `queue_bytes` wait for a client that does not read; beyond that AUs are dropped up to the next key frame.

    `start_at_key`: a session's first picture is a key frame (many cameras make one on PLAY), else it is whatever is due. `port` 0:
    any free one. `session_timeout_s` is told to clients and enforced: only RTSP requests count as signs of life
    (stricter than GStreamer's rtspsrc expects, which sends receiver reports only). `transports`: what is not refused with 461; `segments`:
    over UDP the kernel cuts an AU's bytes into packets (UDP_SEGMENT), which is cheap, and with UDP_GRO they arrive as one.
    """

    cameras: tuple[CameraSpec, ...] = (CameraSpec(),)
    auth: AuthSpec = AuthSpec()
    host: str = "127.0.0.1"
    port: int = 0
    cache: Path | None = None
    tick_ms: int = 10
    queue_bytes: int = 4 << 20
    session_timeout_s: float = 60.0
    report_s: float = 5.0
    start_at_key: bool = False
    transports: tuple[str, ...] = ("tcp", "udp")
    segments: bool = True
