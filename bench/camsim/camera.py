"""The simulated cameras: content that runs on from a base time whether or not anybody looks."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.camsim.clip import Clip, obtain
from bench.camsim.packets import PAYLOAD_TYPES, packetise
from bench.camsim.sender import Media
from bench.camsim.spec import CameraSpec, ContentSpec

SPREAD = 0.6180339887498949   # golden ratio: the cameras' phases never bunch, however many there are


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A clip, ready to be sent. `name` is the recorder's: main, audio, sub."""

    name: str
    clip: Clip
    media: Media


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """One camera. `base_ns` is CLOCK_MONOTONIC of media time 0 of all its tracks; paths are `camN` (main, audio) and `camN/sub`."""

    name: str
    base_ns: int
    main: tuple[Track, ...]
    sub: tuple[Track, ...] = ()
    sessions: list["SessionRecord"] = field(default_factory=list)

    def tracks(self, path: str) -> tuple[Track, ...]:
        """The tracks of an RTSP path; empty if there is no such stream."""
        return {self.name: self.main, f"{self.name}/sub": self.sub}.get(path, ())


@dataclass(slots=True, eq=False)
class SessionRecord:
    """What a session has sent, for the report; kept after its end. `counters` answers per track name."""

    number: int
    path: str
    start_ns: int
    counters: Callable[[], dict[str, object]]
    end_ns: int | None = None
    end_reason: str = ""


def media_of(clip: Clip) -> Media:
    """The clip packetised."""
    p = packetise(clip)
    return Media(p.data, p.offsets, p.marker, p.first, clip.pts, clip.due, clip.key, p.au_hash, clip.offsets,
                 clip.loop_ticks, clip.clock_rate, PAYLOAD_TYPES[clip.codec])


def build(specs: Sequence[CameraSpec], cache: Path | None, now_ns: int) -> list[Camera]:
    """All cameras; equal content is encoded and packetised once. Their media time began at most one loop ago.

    Blocks while clips are encoded.
    """
    @functools.cache
    def track(name: str, content: ContentSpec) -> Track:
        clip = obtain(content, cache)
        return Track(name, clip, shared(content))

    @functools.cache
    def shared(content: ContentSpec) -> Media:
        return media_of(obtain(content, cache))

    cameras = []
    for number, spec in enumerate(specs):
        main = (track("main", spec.video), *((track("audio", spec.audio),) if spec.audio else ()))
        sub = (track("sub", spec.sub),) if spec.sub else ()
        loop_ns = main[0].clip.loop_ticks * 1_000_000_000 // main[0].clip.clock_rate
        cameras.append(Camera(f"cam{number}", now_ns - int(number * SPREAD % 1 * loop_ns), main, sub))
    return cameras
