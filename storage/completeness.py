"""Completeness: of the time that a track was to be recorded, what has footage, and what is missing by cause; per day, month or range.

Figures are of what is kept: footage that its rule has let go is no longer expected.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from recorder.base.media import NS, GapCause
from storage.timeline import Timeline

DAY_NS = 86_400 * NS
PERS = ("day", "month", "range")
Period = tuple[int, int]


class Measured(Protocol):
    """What `share` needs of a TrackReader."""

    def timeline(self, start_ns: int, end_ns: int, step_ns: int = 0) -> Timeline:
        """The timeline of a range."""


@dataclass(frozen=True, slots=True)
class Share:
    """Expected time, the part of it with footage, the part of that which is damaged, and what is missing by cause; `open`: a gap goes on.

    `unreadable`: places of volumes whose disk cannot tell now what it has: all of this is without it.
    """

    expected_ns: int = 0
    footage_ns: int = 0
    damaged_ns: int = 0
    missing_ns: Mapping[GapCause, int] = field(default_factory=dict)
    open: bool = False
    unreadable: frozenset[int] = frozenset()

    @property
    def completeness(self) -> float | None:
        """Footage over expected time, 0 to 1; None where nothing was expected."""
        return min(1.0, self.footage_ns / self.expected_ns) if self.expected_ns else None

    def __add__(self, other: "Share") -> "Share":
        missing = Counter(self.missing_ns)
        missing.update(other.missing_ns)
        return Share(self.expected_ns + other.expected_ns, self.footage_ns + other.footage_ns, self.damaged_ns + other.damaged_ns, missing,
                     self.open or other.open, self.unreadable | other.unreadable)


NOTHING = Share()


def share(track: Measured, period: Period) -> Share:
    """The track's share of a period. Reads files."""
    found = track.timeline(*period)
    begin_ns, stop_ns = found.begin_ns, found.begin_ns + found.expected_ns
    missing: Counter[GapCause] = Counter()
    for gap in found.gaps:
        missing[gap.cause] += max(0, min(stop_ns, stop_ns if gap.end_ns is None else gap.end_ns) - max(begin_ns, gap.start_ns))
    goes_on = any(gap.end_ns is None for gap in found.gaps)
    return Share(found.expected_ns, found.covered_ns, found.damaged_ns, +missing, goes_on, frozenset(found.unreadable))


def periods(start_ns: int, end_ns: int, per: str) -> list[Period]:
    """[start, end) cut at the borders of UTC days or months; `range`: whole."""
    bounds, at_ns = [start_ns], start_ns
    while per != "range" and (at_ns := _next(at_ns, per)) < end_ns:
        bounds.append(at_ns)
    return list(zip(bounds, [*bounds[1:], end_ns], strict=True))


def _next(at_ns: int, per: str) -> int:
    if per == "day":
        return (at_ns // DAY_NS + 1) * DAY_NS
    first = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=at_ns // DAY_NS)).replace(day=1)
    return ((first + timedelta(days=32)).replace(day=1) - datetime(1970, 1, 1, tzinfo=UTC)).days * DAY_NS


def total(shares: Sequence[Share]) -> Share:
    """All together."""
    return sum(shares, NOTHING)


class ShareCache:
    """Shares of periods that are over, so that a month of a whole site is measured once. One thread."""

    def __init__(self, most: int = 40_000) -> None:
        self._most = most
        self._known: dict[tuple[int, str, Period], tuple[int, Share]] = {}

    def get(self, camera: int, name: str, period: Period, first_ns: int) -> Share | None:
        """What was measured, if nothing of it has been retired since: `first_ns` is where the track begins now."""
        began_ns, found = self._known.get((camera, name, period), (0, None))
        return found if found is not None and (first_ns == began_ns or first_ns <= period[0]) else None

    def put(self, camera: int, name: str, period: Period, first_ns: int, found: Share, now_ns: int) -> None:
        """Keep it, if the period is over, no gap of it can still change and all of it could be read."""
        if found.open or found.unreadable or now_ns - period[1] < DAY_NS // 24:
            return
        if len(self._known) >= self._most:
            self._known.pop(next(iter(self._known)))
        self._known[camera, name, period] = (first_ns, found)
