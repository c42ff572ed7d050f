"""What the writing side tells the worker: rare, one value each, called on the writer's own threads (never block there)."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VolumeFailed:
    """A write or syncfs failed: the volume is out until an operator has looked; nothing is tried again."""

    path: Path
    message: str
    number: int = field(default=0, compare=False)      # errno


@dataclass(frozen=True, slots=True)
class VolumeBack:
    """The volume had failed, and takes footage again."""

    path: Path


@dataclass(frozen=True, slots=True)
class VolumeProven:
    """The volume has been well for long enough since it came back: its cameras go home."""

    path: Path


@dataclass(frozen=True, slots=True)
class VolumeSlow:
    """The volume does not answer in time, and its cameras stay: no other one is better."""

    path: Path
    silent_s: float


@dataclass(frozen=True, slots=True)
class SlotBroken:
    """A defect of this program ended a thread of the slot: nothing is recorded any more, the process must be started again."""

    path: Path
    traceback: str


@dataclass(frozen=True, slots=True)
class Watched:
    """Somebody has begun to watch a track of the slot: its AUs are wanted at once."""

    path: Path


@dataclass(frozen=True, slots=True)
class SlowCommit:
    """A commit took longer than 500 ms: for that long the durable mark stood."""

    path: Path
    commit_ms: float


@dataclass(frozen=True, slots=True)
class Starved:
    """A track has no chunk to go on with: pool and quarantine hold none of its class; its AUs wait in their queue."""

    camera: int
    track: str


@dataclass(frozen=True, slots=True)
class Retired:
    """A chunk has left its track; its rows end before `first_kept_ns`."""

    camera: int
    track: str
    chunk: int
    first_kept_ns: int


@dataclass(frozen=True, slots=True)
class MinimumBroken:
    """The volume is too small for what was promised: footage below its minimum made room. `by`: whose minimum."""

    camera: int
    track: str
    by: str


@dataclass(frozen=True, slots=True)
class ClockDoubted:
    """The wall clock is so far ahead of what was expected that nothing is destroyed by it for an hour (storage/trusted.py)."""

    ahead_s: float


@dataclass(frozen=True, slots=True)
class AusRefused:
    """`count` AUs were taken and not kept: `why` in a few words (no access point yet, larger than a chunk, no format)."""

    camera: int
    track: str
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class NotSealed:
    """A closed chunk could not be sealed: rows of it are lost. Its bytes stay readable by their rows until it is retired."""

    camera: int
    track: str
    chunk: int
    why: str


@dataclass(frozen=True, slots=True)
class HoldBudget:
    """What holds keep has reached `level` per cent of their budget, or (less than at the last word) has fallen to it."""

    path: Path
    level: int
    held_bytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class HeldDamaged:
    """The file of a hold cannot be understood: nothing of the slot is retired or released until it is mended."""

    name: str


SlotEvent = (VolumeFailed | VolumeBack | VolumeProven | VolumeSlow | SlotBroken | Watched | SlowCommit | Starved | Retired | MinimumBroken
             | ClockDoubted | AusRefused | NotSealed | HoldBudget | HeldDamaged)
