"""A session's times: from media ticks to UTC.

The kernel stamps AUs by a line (base, rate) that starts at the first AU's arrival and is a first guess. After 2 s the base moves
once to the arrival of the least delayed AU; the rows made until then are shifted by the same amount (`publish`). From then on the line never
jumps: the least delay of each second bends its rate, by at most 500 ppm, towards the clock. A camera whose timestamps do not pass as fast
as time (nominal ones at another frame rate, random ones) would carry its footage into the future or the past: its line takes the rate at
which they do pass. Sender reports align audio with the
video of the same session; they never move the video.

Everything here is arithmetic over what the kernel and the clock are asked once a second; it runs a day in seconds under a simulated clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from recorder.base.clock import Clock
from recorder.base.media import NS, SenderReport

if TYPE_CHECKING:
    from recorder._ext.rtp import RtpStats, SenderReportSeen

SETTLE_NS = 2 * NS            # how long a session's times are provisional
SLEW_PPB = 500_000            # the most that a line's rate may differ from the media clock
HORIZON_S = 120               # an error is slewed away as if it had this long
WINDOW = 30                   # seconds over which the least delay is taken
STEP_NS = NS // 2             # a change of wall minus monotonic time beyond this is a step of our clock
RESTART_STEP_NS = 30 * NS     # a forward step that slewing would not catch up with in a day
SYNC_MAX_NS = 3 * NS // 2     # sender reports that would move audio further than this are not believed
REPORTS_APART_NS = 15 * NS    # reports of two tracks that are compared lie at most this far apart
REPORT_EVERY_NS = 60 * NS     # one sender report a minute is kept as evidence
AHEAD_NS = 2 * NS             # stamped so far ahead of the arrival, or
BEHIND_NS = 5 * NS            # for all of WINDOW so far behind it: its timestamps are no clock
CATCH_UP_S = 10               # how fast the footage of such a camera is brought back to the present
RATE_MIN, RATE_MAX = 1e-3, 1e3
NTP_UNIX_S = 2_208_988_800


class LineTrack(Protocol):
    """What a timeline needs of recorder._ext.rtp.RtpTrack."""

    provisional: bool

    def set_line(self, base_pts: int, base_wall_ns: int, ppb: int = 0) -> None:
        """The line for the AUs to come."""

    @property
    def line(self) -> tuple[int, int, int] | None:
        """The line in force."""

    def wall_of(self, pts: int) -> int:
        """UTC of pts on it."""

    def take_lag(self) -> int | None:
        """The least arrival minus stamp since the last call."""

    def stats(self) -> RtpStats:
        """Counters."""

    @property
    def sender_report(self) -> SenderReportSeen | None:
        """The newest one."""


class TimeTape(Protocol):
    """What a timeline needs of storage.tape.TapeWriter."""

    def publish(self, session: int, shift_ns: int) -> None:
        """Move the session's provisional rows once and for all."""

    def sender_report(self, report: SenderReport) -> None:
        """Keep evidence."""

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        """Our clock stepped."""


class WallOffset:
    """Wall minus monotonic time of this process, measured once a second; all UTC stamps come from it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset_ns = self._read()

    def measure(self) -> int:
        """Measure again. Returns by how much the wall clock was set, 0 if it only drifted."""
        before, self.offset_ns = self.offset_ns, self._read()
        moved = self.offset_ns - before
        return moved if abs(moved) > STEP_NS else 0

    def wall_ns(self) -> int:
        """UTC now, by the offset measured last."""
        return self._clock.mono_ns() + self.offset_ns

    def _read(self) -> int:
        """The reading of three whose monotonic brackets are closest: a preemption between two clocks is no step."""
        best, width = 0, 1 << 62
        for _ in range(3):
            before = self._clock.mono_ns()
            wall = self._clock.wall_ns()
            after = self._clock.mono_ns()
            if after - before < width:
                best, width = wall - (before + after) // 2, after - before
        return best


def ntp_to_unix_ns(ntp: int) -> int:
    """NTP (RFC 5905 6, 64 bit, eras from 1968 to 2104) as ns since the Unix epoch."""
    seconds, fraction = ntp >> 32, ntp & 0xFFFFFFFF
    era = 0 if seconds & 0x80000000 else 1 << 32
    return (seconds + era - NTP_UNIX_S) * NS + (fraction * NS >> 32)


@dataclass(slots=True)
class TrackTimeline:
    """One track of a session: its line, bent once a second."""

    track: LineTrack
    tape: TimeTape
    session: int
    floor_ns: int = 0             # UTC end of what the tape held before this session
    first_mono_ns: int = 0        # arrival of the first AU, 0 before it
    first_wall_ns: int = 0        # its provisional stamp
    published: bool = False
    lags: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    kept_report_ns: int = 0
    evidence: bool = True         # its sender reports are the camera's own
    astray: bool = False          # its timestamps do not pass as time does
    anchor_ns: int = 0            # the delay that is meant to be: below 0 behind a tape's end or a step back of our clock
    passed: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=5))      # (monotonic ns, newest pts) of the last looks

    def begin(self, mono_ns: int) -> None:
        """See whether the first AU has come; its line starts at its arrival, or at the tape's end if that is later."""
        line = self.track.line
        if line is None:
            return
        base_pts, base_wall_ns, _ = line
        self.first_mono_ns = mono_ns
        self.first_wall_ns = max(base_wall_ns, self.floor_ns)
        if base_wall_ns < self.floor_ns:
            self.track.set_line(base_pts, self.floor_ns)

    def gather(self) -> None:
        """Take the least delay since the last call."""
        lag = self.track.take_lag()
        if lag is not None:
            self.lags.append(lag)

    def least(self) -> int:
        """The least delay known, 0 if none is."""
        return min(self.lags, default=0)

    def publish(self, shift_ns: int) -> None:
        """Fix the base, `shift_ns` from the first guess."""
        line = self.track.line
        if line is not None:
            self.track.set_line(line[0], line[1] + shift_ns)
        self.track.provisional = False
        self.lags.clear()
        self.published = True
        self.tape.publish(self.session, shift_ns)

    def bend(self, error_ns: int, rate_ppb: int = 0) -> None:
        """Choose the rate that takes `error_ns` (true minus stamped) away over the horizon, on top of `rate_ppb`; the line does not jump."""
        wanted = self._rate_astray()
        if wanted is None:
            wanted = max(-SLEW_PPB, min(SLEW_PPB, rate_ppb + error_ns // HORIZON_S))
        line = self.track.line
        if line is not None and abs(wanted - line[2]) >= 1000:
            pts = self.track.stats()["last_pts"]
            self.track.set_line(pts, self.track.wall_of(pts), wanted)

    def look(self, mono_ns: int) -> None:
        """Note how far media time has come."""
        if self.published:
            self.passed.append((mono_ns, self.track.stats()["last_pts"]))

    def _rate_astray(self) -> int | None:
        """The rate for timestamps that are no clock: it undoes theirs and brings the footage back; None for a camera that only drifts."""
        if not self.lags or len(self.passed) < 2:
            return None
        newest = min(list(self.lags)[-2:]) - self.anchor_ns
        behind = len(self.lags) == WINDOW and min(self.lags) - self.anchor_ns > BEHIND_NS
        self.astray = self.astray or newest < -AHEAD_NS or behind
        (first_ns, first_pts), (last_ns, last_pts) = self.passed[0], self.passed[-1]
        line = self.track.line
        if not self.astray or line is None or last_ns <= first_ns:
            return None
        media_ns = (self.track.wall_of(last_pts) - self.track.wall_of(first_pts)) / (1 + line[2] / NS)
        speed = max(media_ns / (last_ns - first_ns), 1 / RATE_MAX)
        if abs(speed - 1) < 0.01 and abs(newest) < NS // 10:      # it was a start behind congestion
            self.astray = False
            return None
        rate = (1 + max(-1.0, min(1.0, newest / NS / CATCH_UP_S))) / speed
        return round((max(RATE_MIN, min(RATE_MAX, rate)) - 1) * NS)

    def skew(self) -> int | None:
        """The camera's clock (by its newest sender report) minus our line, at the same tick."""
        report = self.track.sender_report
        if report is None or not report["ntp"] or self.track.line is None:
            return None
        return ntp_to_unix_ns(report["ntp"]) - self.track.wall_of(report["pts"])

    def keep_report(self) -> None:
        """Write a sender report down as evidence, one a minute."""
        report = self.track.sender_report if self.evidence else None
        if report is None or not report["ntp"] or (self.kept_report_ns and report["mono_ns"] - self.kept_report_ns < REPORT_EVERY_NS):
            return
        self.kept_report_ns = report["mono_ns"]
        self.tape.sender_report(SenderReport(ntp_to_unix_ns(report["ntp"]), report["pts"], report["wall_ns"]))


class SessionTimeline:
    """The tracks of one session on one base. `tracks[0]` leads (the video, where there is one); the others are aligned with it."""

    def __init__(self, tracks: Sequence[TrackTimeline]) -> None:
        self._tracks = tuple(tracks)
        self._lead = self._tracks[0]
        self._pushed_ns = 0           # how far the session's base had to be moved past the ends of its tapes

    def tick(self, mono_ns: int) -> None:
        """Once a second (and when a first AU has come): see first AUs, take delays, publish what has settled, bend the lines."""
        for each in self._tracks:
            if not each.first_mono_ns:
                each.begin(mono_ns)
            each.gather()
            each.look(mono_ns)
            each.keep_report()
        begun = [t.first_mono_ns for t in self._tracks if t.first_mono_ns and not t.published]
        if begun and mono_ns - min(begun) >= SETTLE_NS:
            self._publish()
        self._bend()

    def finish(self) -> None:
        """The session ends: publish with what is known, so that short sessions have times as well."""
        for each in self._tracks:
            if not each.first_mono_ns:
                each.begin(1)
            each.gather()
        self._publish()

    def step(self, wall_ns: int, step_ns: int) -> None:
        """Our clock was set by `step_ns` and shows `wall_ns` now. Footage stays where it is, the line goes on; delays start anew."""
        for each in self._tracks:
            each.tape.clock_epoch(wall_ns, step_ns)
            each.gather()
            each.lags.clear()
            each.anchor_ns = min(0, each.anchor_ns + step_ns)

    def _publish(self) -> None:
        ready = [t for t in self._tracks if t.first_mono_ns and not t.published]
        shifts = [self._aligned(t) for t in ready]
        overlaps = [t.floor_ns - t.first_wall_ns - shift for t, shift in zip(ready, shifts, strict=True)]
        self._pushed_ns = max([self._pushed_ns, *overlaps])
        for each, shift in zip(ready, shifts, strict=True):
            each.publish(shift + self._pushed_ns)
            each.anchor_ns = -self._pushed_ns

    def _aligned(self, each: TrackTimeline) -> int:
        """The shift by arrival; for audio by its sender reports where both tracks have believable ones."""
        shift = each.least()
        apart = self._apart(each)
        if each is self._lead or self._lead.published or apart is None:
            return shift
        by_reports = self._lead.least() + apart
        return by_reports if abs(by_reports - shift) <= SYNC_MAX_NS else shift

    def _apart(self, each: TrackTimeline) -> int | None:
        """How much later than now `each` must be stamped to stand beside the lead as the camera says; None if it does not say."""
        if each is self._lead:           # first: a report is made for us as a dict
            return None
        mine, other = each.track.sender_report, self._lead.track.sender_report
        if mine is None or other is None or abs(mine["mono_ns"] - other["mono_ns"]) > REPORTS_APART_NS:
            return None
        skew, lead_skew = each.skew(), self._lead.skew()
        return None if skew is None or lead_skew is None else skew - lead_skew

    def _bend(self) -> None:
        for each in self._tracks:
            if not each.published or not each.lags:
                continue
            apart, lead_line = self._apart(each), self._lead.track.line
            if apart is not None and lead_line is not None and self._lead.published and abs(apart) <= SYNC_MAX_NS:
                each.bend(apart, lead_line[2])
            else:
                each.bend(each.least())
