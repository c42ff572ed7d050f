"""RTP time of what is sent live: one line for all tracks of a camera, laid by UTC and then followed by the track's own clock."""

from recorder.base.media import NS

MASK = 0xFFFFFFFF
HALF = 1 << 31


def ahead(a: int, b: int) -> int:
    """How far timestamp `a` lies behind `b` in the direction of time, with its sign (modulo 2^32)."""
    return ((a - b + HALF) & MASK) - HALF


class RtpLine:
    """Timestamps that never go back: within a stretch they follow dts, over a break they follow UTC, by at least one tick.

    Since every track's line begins at its UTC, a viewer who is led from one track to another sees time go on.
    """

    def __init__(self, clock_rate: int) -> None:
        self._rate = clock_rate
        self._dts = 0
        self._at = 0
        self._begun = False

    def stamp(self, dts: int, wall_ns: int, breaks: bool) -> int:
        """The 32 bits for a unit of this decode time."""
        if not self._begun or breaks or not 0 < dts - self._dts < HALF:
            by_utc = wall_ns * self._rate // NS
            self._at = by_utc if not self._begun else min(max(self._at + 1, by_utc), self._at + HALF - 1)     # further looks like back
            self._begun = True
        else:
            self._at += dts - self._dts
        self._dts = dts
        return self._at & MASK
