"""What a worker's storage has told, in the words of events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recorder.base.clock import Clock
from recorder.base.config import SiteConfig
from recorder.base.media import NS
from recorder.notes import Notes
from storage.events import (
    ClockDoubted,
    HeldDamaged,
    HoldBudget,
    MinimumBroken,
    NotSealed,
    Retired,
    SlotEvent,
    SlowCommit,
    Starved,
    VolumeBack,
    VolumeFailed,
    VolumeProven,
    VolumeSlow,
)

RETENTION_NS = 60 * NS


class Noted(Notes):
    """`take` what happens; `after` as in Notes. On the loop's thread."""

    def __init__(self, site: SiteConfig, slot: int, clock: Clock) -> None:
        super().__init__(clock)
        self._volumes = {volume.path: number for number, volume in enumerate(site.volumes)}
        self._slot = slot
        self._retired: dict[int, int] = {}       # chunks by camera since the last word about it
        self._broken: set[tuple[int, str]] = set()     # minima that made room since then
        self._since_ns = clock.mono_ns()

    def follow(self, volumes: Sequence[Path]) -> None:
        """The site's volumes, by number."""
        self._volumes = {path: number for number, path in enumerate(volumes)}

    def take(self, event: SlotEvent) -> None:
        """Note a storage event; retirement is gathered, since a full volume retires chunks all the time."""
        match event:
            case VolumeFailed():
                self._add("disk", state="failed", volume=self._volumes.get(event.path), message=event.message)
            case VolumeBack():
                self._add("disk", state="back", volume=self._volumes.get(event.path))
            case VolumeProven():
                self._add("disk", state="proven", volume=self._volumes.get(event.path))
            case VolumeSlow():
                self._add("disk", state="stays", volume=self._volumes.get(event.path),
                          message=f"it has not answered for {event.silent_s:.0f} s, and no other volume is better: its cameras stay")
            case SlowCommit():
                self._add("disk", state="slow", volume=self._volumes.get(event.path), commit_ms=round(event.commit_ms))
            case Starved():
                self._add("disk", number=event.camera, state="starved", track=event.track)
            case NotSealed():
                self._add("disk", number=event.camera, state="not_sealed", track=event.track)
            case HoldBudget():
                self._add("hold", state="budget", volume=self._volumes.get(event.path), level=event.level, held_bytes=event.held_bytes,
                          budget_bytes=event.budget_bytes)
            case HeldDamaged():
                self._add("hold", state="damaged", message=event.name)
            case MinimumBroken():
                self._broken.add((event.camera, event.by))
            case ClockDoubted():
                self._add("retention", state="clock", message=f"our clock is {event.ahead_s:.0f} s ahead of what was expected")
            case Retired():
                self._retired[event.camera] = self._retired.get(event.camera, 0) + 1

    def turn(self, mono_ns: int) -> None:
        """Once a second: what was retired in the last minute becomes one event."""
        if mono_ns - self._since_ns < RETENTION_NS:
            return
        self._since_ns = mono_ns
        if self._retired:
            self._add("retention", chunks=sum(self._retired.values()), cameras=len(self._retired))
            self._retired.clear()
        if self._broken:
            self._add("retention", state="minimum", cameras=len({camera for camera, _ in self._broken}), by=min(by for _, by in self._broken))
            self._broken.clear()

    def _add(self, kind: str, **data: Any) -> None:
        self.add(kind, slot=self._slot, **data)
