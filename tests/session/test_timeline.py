"""Times of a session under a simulated clock: base, publish, drift, steps, audio beside video."""

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from recorder.base.clock import SimulatedClock
from recorder.base.media import NS, SenderReport
from recorder.timeline import STEP_NS, SessionTimeline, TrackTimeline, WallOffset, ntp_to_unix_ns

RATE = 90_000


@dataclass
class ModelTrack:
    """A depacketiser's clock side: stamps AUs by the line, keeps the least delay, as recorder/_ext/rtp.pyi says."""

    provisional: bool = True
    floor_wall_ns: int = 0
    line: tuple[int, int, int] | None = None
    sender_report: Any = None
    stamps: list[tuple[int, int]] = field(default_factory=list)      # (pts, wall)
    lag: int | None = None
    last_pts: int = 0

    def set_line(self, base_pts: int, base_wall_ns: int, ppb: int = 0) -> None:
        self.line = (base_pts, base_wall_ns, ppb)

    def wall_of(self, pts: int) -> int:
        assert self.line is not None
        base_pts, base_wall_ns, ppb = self.line
        ns = (pts - base_pts) * NS // RATE
        return base_wall_ns + ns + ns * ppb // NS

    def take_lag(self) -> int | None:
        lag, self.lag = self.lag, None
        return lag

    def stats(self) -> Any:
        return {"last_pts": self.last_pts}

    def au(self, pts: int, arrival_ns: int) -> int:
        """An AU arrives; returns its stamp."""
        if self.line is None:
            self.set_line(pts, arrival_ns)
        wall = max(self.wall_of(pts), self.floor_wall_ns)
        lag = arrival_ns - wall
        self.lag = lag if self.lag is None else min(self.lag, lag)
        self.last_pts = pts
        self.stamps.append((pts, wall))
        return wall


@dataclass
class ModelTape:
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def publish(self, session: int, shift_ns: int) -> None:
        self.calls.append(("publish", session, shift_ns))

    def sender_report(self, report: SenderReport) -> None:
        self.calls.append(("sender_report", report))

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        self.calls.append(("clock_epoch", wall_ns, step_ns))

    @property
    def shift(self) -> int:
        (shift,) = [c[2] for c in self.calls if c[0] == "publish"]
        return int(shift)


class Rig:
    """A camera with one or two tracks, its worker's clock, and the timeline between them."""

    def __init__(self, *, ppm: float = 0.0, floor_ns: int = 0, tracks: int = 1) -> None:
        self.clock = SimulatedClock()
        self.wall = WallOffset(self.clock)
        self.ppm = ppm
        self.began_ns = self.clock.mono_ns()
        self.tracks = [ModelTrack(floor_wall_ns=floor_ns) for _ in range(tracks)]
        self.tapes = [ModelTape() for _ in self.tracks]
        self.lines = [TrackTimeline(t, p, 1, floor_ns) for t, p in zip(self.tracks, self.tapes, strict=True)]
        self.timeline = SessionTimeline(self.lines)
        self.steps = 0

    def pts(self) -> int:
        """What the camera's media clock shows."""
        return round((self.clock.mono_ns() - self.began_ns) * (1 + self.ppm * 1e-6) * RATE / NS) + 12345

    def au(self, track: int = 0, *, delay_s: float = 0.0, pts: int | None = None) -> int:
        """An AU that was sampled now and arrives `delay_s` later (the clock does not move)."""
        arrival = self.clock.mono_ns() + self.wall.offset_ns + round(delay_s * NS)
        return self.tracks[track].au(self.pts() if pts is None else pts, arrival)

    def second(self, *, fps: int = 1, jitter: random.Random | None = None, track: int = 0) -> None:
        """A second of AUs, then the worker's look."""
        for _ in range(fps):
            self.clock.advance(1 / fps)
            self.au(track, delay_s=jitter.expovariate(20) if jitter else 0.0)
        self.look()

    def look(self) -> None:
        step = self.wall.measure()
        if step:
            self.steps += 1
            self.timeline.step(self.wall.wall_ns(), step)
        self.timeline.tick(self.clock.mono_ns())

    def error_s(self) -> float:
        """How far an AU sampled now would be stamped from the clock."""
        return (self.tracks[0].wall_of(self.pts()) - (self.clock.mono_ns() + self.wall.offset_ns)) / NS


def test_base_is_the_arrival_of_the_least_delayed_au() -> None:
    rig = Rig()
    rig.au(delay_s=0.300)                     # the first packet is slow
    rig.timeline.tick(rig.clock.mono_ns())
    for delay in (0.25, 0.02, 0.1):
        rig.clock.advance(0.5)
        rig.au(delay_s=delay)
    assert not rig.tapes[0].calls
    rig.clock.advance(0.5)
    rig.look()
    assert rig.tapes[0].calls == [("publish", 1, round(-0.28 * NS))]
    assert not rig.tracks[0].provisional
    assert rig.error_s() == pytest.approx(0.02, abs=1e-6)


def test_burst_of_old_frames_at_the_start_does_not_skew_the_base() -> None:
    rig = Rig()
    rig.clock.advance(10)
    for age in range(60, 0, -1):              # the camera sends what it had buffered
        rig.au(pts=rig.pts() - age * 3600)
    rig.timeline.tick(rig.clock.mono_ns())
    for _ in range(3):
        rig.second(fps=25)
    assert abs(rig.error_s()) < 0.001
    assert rig.tapes[0].shift == pytest.approx(-60 * 3600 * NS // RATE, abs=NS // 100)


def test_session_that_ends_before_it_settled_is_published() -> None:
    rig = Rig()
    rig.au(delay_s=0.2)
    rig.clock.advance(0.1)
    rig.au(delay_s=0.0)
    rig.timeline.finish()
    assert rig.tapes[0].calls == [("publish", 1, round(-0.2 * NS))]


def test_session_without_an_au_publishes_nothing() -> None:
    rig = Rig()
    rig.look()
    rig.clock.advance(5)
    rig.look()
    rig.timeline.finish()
    assert rig.tapes[0].calls == []


def test_new_base_is_never_before_the_tapes_end() -> None:
    clock = SimulatedClock()
    floor = clock.wall_ns() + 3600 * NS       # somebody set the clock back by an hour between two sessions
    rig = Rig(floor_ns=floor)
    rig.second(fps=25)
    first = rig.tracks[0].stamps[0][1]
    for _ in range(4):
        rig.second(fps=25)
    assert first == floor
    assert first + rig.tapes[0].shift >= floor
    published = rig.tracks[0].stamps[-25:]
    assert all(b[1] > a[1] >= floor for a, b in itertools.pairwise(published))


def test_burst_that_would_reach_before_the_tapes_end_is_moved_behind_it() -> None:
    clock = SimulatedClock()
    rig = Rig(floor_ns=clock.wall_ns() - NS // 2)
    for age in range(50, 0, -1):
        rig.au(pts=rig.pts() - age * 3600)    # 2 s old, the tape ended 0.5 s ago
    rig.timeline.tick(rig.clock.mono_ns())
    for _ in range(3):
        rig.second(fps=25)
    first = rig.tracks[0].stamps[0][1] + rig.tapes[0].shift
    assert first == clock.wall_ns() - NS // 2


@pytest.mark.parametrize("ppm", [300.0, -300.0, 0.0])
def test_camera_that_is_300_ppm_off_stays_within_half_a_second_for_a_day(ppm: float) -> None:
    rig, jitter, worst, last = Rig(ppm=ppm), random.Random(1), 0.0, 0
    for second in range(86_400):
        rig.second(jitter=jitter)
        if second > 10:
            worst = max(worst, abs(rig.error_s()))
        pts, wall = rig.tracks[0].stamps.pop()
        rig.tracks[0].stamps.clear()
        assert wall > last or second < 4, (pts, wall)
        last = wall
    assert worst < 0.1
    assert rig.tapes[0].calls == [("publish", 1, rig.tapes[0].shift)]
    assert rig.tracks[0].line is not None and abs(rig.tracks[0].line[2] + ppm * 1000) < 100_000


def test_rate_never_bends_by_more_than_500_ppm() -> None:
    rig = Rig(ppm=2000.0)
    for _ in range(600):
        rig.second()
        assert rig.tracks[0].line is not None and abs(rig.tracks[0].line[2]) <= 500_000


def test_congestion_does_not_move_the_line_by_a_jump() -> None:
    rig = Rig()
    for _ in range(10):
        rig.second(fps=5)
    for _ in range(30):
        rig.clock.advance(1)
        rig.au(delay_s=3.0)
        rig.look()
    assert abs(rig.error_s()) < 0.02


@pytest.mark.parametrize("speed", [10.0, 1.2, 0.5, 0.01])
def test_timestamps_that_are_no_clock_do_not_carry_footage_out_of_the_present(speed: float) -> None:
    """A camera that stamps its nominal rate at another one was minutes in the future after minutes, for ever: rows never overlap."""
    rig, errors = Rig(), []
    for frame in range(180 * 5):
        rig.clock.advance(0.2)
        pts = round(frame * 0.2 * speed * RATE)
        wall = rig.au(pts=pts)
        errors.append((wall - rig.clock.mono_ns() - rig.wall.offset_ns) / NS)
        if frame % 5 == 4:
            rig.look()
    assert max(errors[:60]) < 30
    assert max(map(abs, errors[500:])) < 4
    walls = [wall for _, wall in rig.tracks[0].stamps[20:]]
    assert walls == sorted(walls)


def test_start_behind_congestion_is_caught_up_and_the_clock_believed_again() -> None:
    rig = Rig()
    for second in range(60):
        for _ in range(5):
            rig.clock.advance(0.2)
            arrival = rig.clock.mono_ns() + rig.wall.offset_ns
            rig.tracks[0].au(rig.pts() - round((4.0 if second < 5 else 0.0) * RATE), arrival)
        rig.look()
    assert abs(rig.error_s()) < 0.3
    assert not rig.lines[0].astray


@pytest.mark.parametrize("step_s", [-3600.0, -2.0, 0.6, 2.0, 3600.0])
def test_step_of_our_clock_is_an_epoch_and_the_line_goes_on(step_s: float) -> None:
    rig = Rig()
    for _ in range(10):
        rig.second(fps=5)
    before = rig.tracks[0].wall_of(rig.pts())
    rig.clock.step_wall(step_s)
    for _ in range(10):
        rig.second(fps=5)
    assert rig.steps == 1
    (epoch,) = [c for c in rig.tapes[0].calls if c[0] == "clock_epoch"]
    assert epoch[2] == round(step_s * NS)
    assert abs(rig.tracks[0].wall_of(rig.pts()) - before - 10 * NS) <= 10 * 500_000
    walls = [wall for _, wall in rig.tracks[0].stamps]
    assert walls == sorted(walls)


def test_many_small_steps_leave_the_times_right() -> None:
    """NTP slews and steps under half a second are followed at 500 ppm."""
    rig, rng = Rig(ppm=100), random.Random(2)
    for minute in range(240):
        for _ in range(60):
            rig.second()
        assert abs(rig.error_s()) < 0.5, minute
        rig.clock.step_wall(rng.choice([-0.02, 0.02, 0.01]))
    assert rig.steps == 0


def test_step_while_the_base_is_provisional_moves_the_base() -> None:
    rig = Rig()
    rig.second(fps=5)
    rig.clock.step_wall(100.0)
    for _ in range(3):
        rig.second(fps=5)
    assert rig.steps == 1
    assert abs(rig.error_s()) < 0.01


def report(rig: Rig, track: int, camera_ahead_s: float) -> dict[str, int]:
    """A sender report that says: at this tick, the camera's clock showed ours plus `camera_ahead_s`."""
    unix = rig.clock.wall_ns() + round(camera_ahead_s * NS)
    ntp = (unix // NS + 2_208_988_800 << 32) + (unix % NS << 32) // NS
    return {"ntp": ntp, "pts": rig.pts(), "rtp": 0, "mono_ns": rig.clock.mono_ns(), "wall_ns": rig.clock.wall_ns(), "ssrc": 1}


def both(rig: Rig, seconds: int, audio_early_s: float) -> None:
    """Audio overtakes video by the encoder's delay."""
    for _ in range(seconds * 5):
        rig.clock.advance(0.2)
        rig.au(0, delay_s=audio_early_s)
        rig.au(1)
        if rig.clock.mono_ns() // NS % 5 == 0:
            rig.tracks[0].sender_report, rig.tracks[1].sender_report = report(rig, 0, 55.0), report(rig, 1, 55.0)
        rig.look()


def test_audio_is_aligned_with_video_by_sender_reports() -> None:
    rig = Rig(tracks=2)
    rig.tracks[0].sender_report, rig.tracks[1].sender_report = report(rig, 0, 55.0), report(rig, 1, 55.0)
    both(rig, 4, 0.4)
    now = rig.pts()
    assert abs(rig.tracks[0].wall_of(now) - rig.tracks[1].wall_of(now)) < NS // 1000
    assert rig.tapes[0].shift == 0                       # the video is not moved by reports


def test_late_sender_reports_align_slowly() -> None:
    rig = Rig(tracks=2)
    both(rig, 3, 0.2)
    rig.lines[1].bend(0)
    both(rig, 1800, 0.2)
    now = rig.pts()
    assert abs(rig.tracks[0].wall_of(now) - rig.tracks[1].wall_of(now)) < NS // 100


@pytest.mark.parametrize("audio_ahead_s", [3600.0, -4.0, 4_000_000.0])
def test_absurd_sender_reports_move_nothing(audio_ahead_s: float) -> None:
    rig = Rig(tracks=2)
    rig.tracks[0].sender_report, rig.tracks[1].sender_report = report(rig, 0, 0.0), report(rig, 1, audio_ahead_s)
    for _ in range(20):
        rig.clock.advance(0.2)
        rig.au(0)
        rig.au(1)
        rig.look()
    assert rig.tapes[1].shift == 0
    assert abs(rig.error_s()) < 0.001


def test_sender_reports_are_kept_once_a_minute_and_without_a_clock_never() -> None:
    rig = Rig()
    for _ in range(125):
        rig.tracks[0].sender_report = report(rig, 0, 7.0)
        rig.second()
    kept = [c[1] for c in rig.tapes[0].calls if c[0] == "sender_report"]
    assert len(kept) == 3
    assert all(abs(r.ntp_ns - r.arrival_ns - 7 * NS) < 10 for r in kept)
    silent = Rig()
    silent.tracks[0].sender_report = report(silent, 0, 0.0) | {"ntp": 0}
    silent.second()
    assert silent.tapes[0].calls == []


def test_ntp_eras() -> None:
    assert ntp_to_unix_ns(2_208_988_800 << 32) == 0
    assert ntp_to_unix_ns(0xFFFFFFFF << 32) == 2_085_978_495 * NS
    assert ntp_to_unix_ns(1 << 31) == 2_085_978_496 * NS + NS // 2           # era 1 begins in 2036


def test_slow_reading_between_two_clocks_is_no_step() -> None:
    clock = SimulatedClock()

    class Preempted:
        """Loses 700 ms in the middle of one reading of the clocks."""

        reads = 0

        def mono_ns(self) -> int:
            return clock.mono_ns()

        def wall_ns(self) -> int:
            self.reads += 1
            before = clock.wall_ns()
            if self.reads == 4:
                clock.advance(0.7)
            return before

    wall = WallOffset(Preempted())
    clock.advance(1)
    assert wall.measure() == 0
    clock.step_wall(STEP_NS / NS + 0.1)
    assert wall.measure() == round((STEP_NS / NS + 0.1) * NS)
