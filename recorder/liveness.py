"""Is a track alive? By complete access units, never by bytes: audio or RTCP may flow while the video is dead, and bytes may trickle."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recorder.base.media import NS

if TYPE_CHECKING:
    from recorder._ext.rtp import RtpStats

NO_KEYFRAME_NS = 10 * NS
FIRST_PACKET_NS = 10 * NS


class Life(enum.Enum):
    """What a look at a track's counters says."""

    ALIVE = "alive"
    STALLED = "stalled"              # no AU came for the stall time, the time since PLAY included; or no packet at all in its first 10 s
    NO_KEYFRAME = "no key frame"     # AUs come and none of them can be decoded yet


@dataclass(frozen=True, slots=True)
class Liveness:
    """One session: since when it plays and how long a track may be silent. GOPs of 10 to 60 s are no stall."""

    play_ns: int
    stall_ns: int

    def look(self, stats: RtpStats, mono_ns: int) -> Life:
        """The state of a track with these counters at `mono_ns`."""
        patience_ns = self.stall_ns if stats["packets"] else min(self.stall_ns, FIRST_PACKET_NS)
        if mono_ns - max(stats["last_au_ns"], self.play_ns) > patience_ns:
            return Life.STALLED
        if not stats["aus"] and mono_ns - self.play_ns > NO_KEYFRAME_NS:
            return Life.NO_KEYFRAME
        return Life.ALIVE
