"""An access unit as it has become visible, and its absence: what live viewers of a track are handed."""

from dataclasses import dataclass, field
from typing import Any

from recorder.base.media import GapCause, SampleEntry


@dataclass(slots=True)
class Unit:
    """One AU. `data` is as on the tape: NALs with 4 bytes of length before each (H.264, H.265), one frame of sound, one JPEG image.

    `number` rises by one within an edge. `dts` and `cts` in ticks of `entry.clock_rate` on the media time line of its session; `wall_ns` is the
    UTC of its presentation. `breaks`: it does not lead on from the unit before (another session, a discontinuity, another coding, lost AUs).
    `made` and `fragment` are for those who make the same of it for many viewers.
    """

    number: int
    data: bytes
    entry: SampleEntry
    dts: int
    cts: int
    wall_ns: int
    key: bool
    leading: bool
    damaged: bool
    breaks: bool
    row: int
    made: Any = field(default=None, repr=False, compare=False)
    fragment: Any = field(default=None, repr=False, compare=False)

    @property
    def pts(self) -> int:
        """When it is presented, in ticks."""
        return self.dts + self.cts


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing comes: since when and why, as far as it is known, and the UTC of the newest unit (0: there is none)."""

    since_ns: int
    cause: GapCause | None
    last_ns: int
