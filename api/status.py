"""What the recording slots say of themselves, as of the last second; who does not answer is `unknown`, and nobody waits for them.

One task per slot asks `status` over the slot's socket each second. An answer older than 5 s is not believed any more. It is
{"cameras": {"<id>": {"number", "state", "since_ns", "cause", "tracks": {"<name>": {...}}}}, and numbers about the slot itself}.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recorder.base.clock import Clock
from recorder.base.errors import WatchroomError
from recorder.base.media import NS

log = logging.getLogger("watchroom.api")

POLL_S = 1.0
ANSWER_S = 2.0
BELIEVED_NS = 5 * NS
UNKNOWN = "unknown"

Ask = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class TrackStatus:
    """One track as its slot counts it since the slot's start."""

    codec: str = ""
    kbps: int = 0
    fps: float = 0.0
    last_au_ns: int = 0
    aus: int = 0
    bytes: int = 0
    damaged_aus: int = 0
    lost_packets: int = 0
    overrun_packets: int = 0
    dropped_aus: int = 0

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "TrackStatus":
        """From a slot's answer; what is missing is 0."""
        whole = ("kbps", "last_au_ns", "aus", "bytes", "damaged_aus", "lost_packets", "overrun_packets", "dropped_aus")
        return cls(codec=str(said.get("codec") or ""), fps=float(said.get("fps") or 0), **{name: int(said.get(name) or 0) for name in whole})


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera: state (`recording`, `connecting`, `offline`, ..., `unknown`), since when, and the gap's cause if there is one."""

    state: str = UNKNOWN
    since_ns: int = 0
    cause: str = ""
    tracks: Mapping[str, TrackStatus] = field(default_factory=dict)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "CameraStatus":
        """From a slot's answer."""
        tracks = said.get("tracks") or {}
        return cls(
            str(said.get("state") or UNKNOWN),
            int(said.get("since_ns") or 0),
            str(said.get("cause") or ""),
            {str(name): TrackStatus.of(track) for name, track in tracks.items()},
        )

    @property
    def kbps(self) -> int:
        """Bit rate of all tracks together."""
        return sum(track.kbps for track in self.tracks.values())

    @property
    def last_au_ns(self) -> int:
        """UTC of the newest AU of any track, 0 if none."""
        return max((track.last_au_ns for track in self.tracks.values()), default=0)


NOTHING = CameraStatus()
Watcher = Callable[[int, CameraStatus, CameraStatus], None]


class StatusBoard:
    """The newest answer of every slot. `watch` is called with (camera number, before, after) when a camera's state or cause changes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cameras: dict[int, dict[int, CameraStatus]] = {}
        self._slots: dict[int, Mapping[str, Any]] = {}
        self._answered_ns: dict[int, int] = {}
        self._shown: dict[int, CameraStatus] = {}
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Have changes told; the watcher must be quick."""
        self._watchers.append(watcher)

    def camera(self, number: int) -> CameraStatus:
        """What is known of a camera now."""
        for slot, cameras in self._cameras.items():
            if number in cameras and self.answers(slot):
                return cameras[number]
        return NOTHING

    def answers(self, slot: int) -> bool:
        """True if the slot has answered lately."""
        return slot in self._answered_ns and self._clock.mono_ns() - self._answered_ns[slot] < BELIEVED_NS

    def slot(self, slot: int) -> Mapping[str, Any]:
        """What else the slot said (commit latency, drain lag, ...); empty if it does not answer."""
        return self._slots.get(slot, {}) if self.answers(slot) else {}

    def slots(self) -> tuple[int, ...]:
        """Every slot that has been asked."""
        return tuple(sorted(self._cameras))

    def expect(self, slot: int) -> None:
        """The slot exists, though it may not have answered yet."""
        self._cameras.setdefault(slot, {})

    def record(self, slot: int, said: Mapping[str, Any]) -> None:
        """A slot's answer."""
        cameras = said.get("cameras") or {}
        self._cameras[slot] = {int(status["number"]): CameraStatus.of(status) for status in cameras.values()}
        self._slots[slot] = {name: value for name, value in said.items() if name != "cameras"}
        self._answered_ns[slot] = self._clock.mono_ns()
        self.compare()

    def compare(self) -> None:
        """Tell the watchers what has changed since the last time."""
        known = {camera for cameras in self._cameras.values() for camera in cameras}
        for camera in known | set(self._shown):
            before, after = self._shown.get(camera, NOTHING), self.camera(camera)
            if (before.state, before.cause) != (after.state, after.cause):
                for watcher in self._watchers:
                    watcher(camera, before, after)
            if camera in known:
                self._shown[camera] = after
            else:
                self._shown.pop(camera, None)


async def follow(board: StatusBoard, slot: int, ask: Ask) -> None:
    """Ask a slot each second for ever; its silence is noted once and costs nobody else anything."""
    board.expect(slot)
    silent = False
    while True:
        try:
            async with asyncio.timeout(ANSWER_S):
                board.record(slot, await ask())
            silent = False
        except (OSError, ValueError, TypeError, KeyError, AttributeError, WatchroomError) as error:
            if not silent:
                log.warning("slot %d does not answer: %s", slot, type(error).__name__)
            silent = True
            board.compare()
        await asyncio.sleep(POLL_S)
