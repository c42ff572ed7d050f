"""A day in seconds, through the real kernels onto a real volume: drift, jumps, outliers, wraps, steps of our clock, sender reports."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.base.media import NS, GapCause, RowFlag
from tests.session.day import ALL, RATE, Day, aus_of, rows_of

DAY_S = 86_400
HOUR_S = 3600
Make = Callable[..., Day]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Day] = []

    def day(**options: Any) -> Day:
        made.append(Day(tmp_path / str(len(made)), **options))
        return made[-1]

    yield day
    for one in made:
        if one.rig.slot._lock_fd >= 0:
            one.rig.close()
        if hasattr(one, "store"):
            one.store.close()


def errors_s(day: Day, times: np.ndarray, *, fps: float = 1.0) -> np.ndarray:
    """How far the n-th AU's time is from when it was sampled (nobody having set the clock)."""
    began = day.clock.wall_ns() - (day.clock.mono_ns() - day.began_ns)
    sampled = began + ((np.arange(len(times)) + 1) * (NS / fps)).astype(np.int64)
    return (times - sampled) / NS


@pytest.mark.parametrize("ppm", [300.0, -300.0])
def test_a_camera_300_ppm_off_is_right_after_a_day(make: Make, ppm: float) -> None:
    dice = random.Random(1)
    day = make(ppm=ppm, gop=4, delay_s=lambda _: 0.01 + dice.expovariate(30))
    day.run(DAY_S)
    track = day.close()
    rows = rows_of(track)
    assert not (rows["flags"] & RowFlag.DISCONTINUITY).any() and set(rows["session"]) == {1}
    assert len(track.spans(*ALL)) == 1 and [gap.cause for gap in track.gaps(*ALL)] == [GapCause.NO_KEYFRAME, GapCause.STOPPED]
    errors = errors_s(day, np.concatenate(list(aus_of(track))))
    assert len(errors) == DAY_S and np.abs(errors).max() < 0.5 and np.abs(errors[HOUR_S:]).max() < 0.1
    drift = rows["wall_dur_us"][HOUR_S:-1] * 1000 / (rows["media_dur"][HOUR_S:-1] * (NS / RATE)) - 1
    assert np.abs(drift).max() <= 501e-6


def test_wraps_of_sequence_and_timestamp_are_not_seen(make: Make) -> None:
    day = make(gop=4, seq=65_530, ts=(1 << 32) - 3 * RATE)
    day.run(DAY_S)                                   # the sequence wraps four times, the timestamp twice
    track = day.close()
    rows = rows_of(track)
    assert rows["aus"].sum() == DAY_S and len(track.spans(*ALL)) == 1
    assert not (rows["flags"] & (RowFlag.DISCONTINUITY | RowFlag.DAMAGED)).any()
    assert (np.diff(rows["media_pts"]) <= 4 * RATE).all() and rows["media_pts"][-1] - rows["media_pts"][0] == (DAY_S - 4) * RATE
    assert np.abs(errors_s(day, np.concatenate(list(aus_of(track))))).max() < 0.05


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 11, 20_000])
def test_a_jump_of_the_cameras_timestamps_is_a_new_timeline_at_the_right_time(make: Make, jump_s: int) -> None:
    at = 600
    day = make(fps=5, gop=5, tweak=lambda n, ts: ts + (jump_s * RATE if n >= at else 0))
    day.run(300)
    track = day.close()
    rows = rows_of(track)
    assert day.track.stats()["discontinuities"] == 1 and day.track.stats()["restamped"] == 2
    assert np.count_nonzero(rows["flags"] & RowFlag.DISCONTINUITY) == 1
    times = np.concatenate(list(aus_of(track)))
    assert len(times) == 1500 and np.abs(errors_s(day, times, fps=5)).max() < 0.25
    assert len(track.spans(*ALL)) == 1


def test_single_outliers_are_restamped_and_nothing_else_happens(make: Make) -> None:
    """A DVR stamps one picture in fifty hours off."""
    dice = random.Random(3)
    day = make(fps=5, gop=5, tweak=lambda n, ts: ts + dice.choice([-9, 7]) * HOUR_S * RATE if n % 50 == 49 else ts)
    day.run(1200)
    track = day.close()
    rows = rows_of(track)
    assert (day.track.stats()["restamped"], day.track.stats()["discontinuities"]) == (120, 0)
    assert not (rows["flags"] & RowFlag.DISCONTINUITY).any() and len(track.spans(*ALL)) == 1
    assert np.abs(errors_s(day, np.concatenate(list(aus_of(track))), fps=5)).max() < 0.05


@pytest.mark.parametrize("step_s", [1.0, -1.0, 3.0, -3.0, -HOUR_S, -5 * HOUR_S])
def test_a_step_of_our_clock_leaves_footage_where_it_is(make: Make, step_s: float) -> None:
    """The first two are what a leap second does to a clock that is stepped. Time goes on; the epoch record says by how much it is off."""
    day = make()
    day.run(HOUR_S)
    day.turn()
    before = day.rig.slot._works[1, "main"].core.end_ns
    day.clock.step_wall(step_s)
    day.run(HOUR_S)
    track = day.close()
    rows = rows_of(track)
    assert set(rows["session"]) == {1} and len(rows) == 2 * HOUR_S and len(track.spans(*ALL)) == 1
    (epoch,) = track.evidence(*ALL).epochs
    assert (epoch.step_ns, epoch.wall_ns) == (round(step_s * NS), pytest.approx(before + round(step_s * NS), abs=2 * NS))
    old = day.clock.wall_ns() - round(step_s * NS) - rows["t_ns"]
    assert abs(int(old[HOUR_S]) - (HOUR_S - 1) * NS) < NS          # what followed at once is not moved
    slewed = HOUR_S * 500e-6
    off_s = (int(rows["t_ns"][-1]) - day.clock.wall_ns()) / NS
    assert min(0.0, step_s) - slewed - 0.1 <= -off_s <= max(0.0, step_s) + 0.1


@pytest.mark.parametrize("step_s", [120.0, HOUR_S, 40 * DAY_S])
def test_a_long_step_forward_begins_anew_at_the_right_time(make: Make, step_s: float) -> None:
    day = make()
    day.run(600)
    day.clock.step_wall(step_s)
    day.run(600)
    track = day.close()
    rows = rows_of(track)
    assert day.restarts == 1 and set(rows["session"]) == {1, 2}
    (_, gap, _) = track.gaps(*ALL)
    assert gap.cause is GapCause.CLOCK_STEP and gap.end_ns - gap.start_ns == pytest.approx(step_s * NS, abs=4 * NS)
    assert abs(int(rows["t_ns"][-1]) - day.clock.wall_ns()) < NS


def test_a_session_after_a_step_back_goes_on_behind_the_tape(make: Make) -> None:
    """Our clock goes back by an hour while the camera is away: no row before the end of the last one, and the offset is known."""
    day = make()
    day.run(600)
    day.end(GapCause.OFFLINE)
    end_ns = day.tape.end_ns
    day.clock.step_wall(-HOUR_S)
    day.wall.measure()
    day.begin()
    day.run(600)
    track = day.close()
    rows = rows_of(track)
    second = rows[rows["session"] == 2]
    assert second["t_ns"][0] >= end_ns and len(second) == 600
    assert int(second["t_ns"][-1]) - day.clock.wall_ns() == pytest.approx(HOUR_S * NS, abs=2 * NS)


def test_times_are_fixed_after_two_seconds_and_never_before(make: Make) -> None:
    day = make(fps=5, gop=5, delay_s=lambda n: 0.6 if n < 5 else 0.05)
    track_rows = []
    for _ in range(5):
        day.run(1)
        day.turn()
        work = day.rig.slot._works[1, "main"]
        track_rows.append(work.core.provisional_row)
    assert track_rows[0] == track_rows[1] == 0 and track_rows[4] == (1 << 64) - 1
    times = np.concatenate(list(aus_of(day.close())))
    assert np.abs(errors_s(day, times, fps=5)[:10] - 0.05).max() < 0.01      # the slow start did not count


REPORTS: dict[str, Callable[[Day, int], int]] = {
    "none": lambda day, n: 0,
    "right": lambda day, n: day.ntp() if n % 5 == 0 else 0,
    "an hour ahead, then not": lambda day, n: day.ntp(HOUR_S if n > 300 else 0.0) if n % 5 == 0 else 0,
    "1900": lambda day, n: n % 5 == 0 and ((n << 32) or 1),
    "all over": lambda day, n: random.Random(n).getrandbits(64) if n % 5 == 0 else 0,
}


def test_sender_reports_are_evidence_and_move_nothing(make: Make) -> None:
    times, found = {}, {}
    for name, tell in REPORTS.items():
        day = make()
        day.report = lambda n, day=day, tell=tell: int(tell(day, n))
        day.run(HOUR_S / 6)
        track = day.close()
        times[name] = rows_of(track)["t_ns"].tolist()
        found[name] = track.evidence(*ALL)
    assert all(each == times["none"] for each in times.values())
    assert found["none"].reports == () and found["none"].camera_time_ns(times["none"][0]) is None
    assert all(len(found[name].reports) == 10 for name in REPORTS if name != "none")
    at = times["right"][400]
    assert found["right"].camera_time_ns(at) == pytest.approx(at, abs=NS // 10)
    assert found["an hour ahead, then not"].camera_time_ns(at) == pytest.approx(at + HOUR_S * NS, abs=NS // 10)
    years = (found["1900"].camera_time_ns(at) or 0) / NS / DAY_S / 365.25 + 1970
    assert 2035.5 < years < 2036.5 or 1899.5 < years < 1900.5
