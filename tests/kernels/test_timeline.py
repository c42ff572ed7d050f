"""recorder/_ext/timeline: timestamps to pts to UTC."""

import itertools

import pytest
from rtpkit import DAMAGED, DISCONTINUITY, KEY, PROVISIONAL, WALL, Stream

from recorder._ext.rtp import RtpTrack

HOUR = 3600 * 90000


def recording() -> Stream:
    stream = Stream()
    stream.warm()
    return stream


def steps(stream: Stream) -> list[int]:
    """pts from picture to picture."""
    pts = [au["pts"] for au, _ in stream.end()]
    return [b - a for a, b in itertools.pairwise(pts)]


def test_one_picture_hours_off_is_restamped_from_its_neighbours():
    """Intelbras DVRs (mediamtx#6255)."""
    stream = recording()
    for i in range(20):
        stream.ts += 5 * HOUR if i % 6 == 3 else 0
        stream.inter()
        stream.ts -= 5 * HOUR if i % 6 == 3 else 0
    assert steps(stream) == [3600] * 19
    stats = stream.track.stats()
    assert (stats["restamped"], stats["discontinuities"], stats["reorder_depth"]) == (3, 0, 0)


def test_a_single_jump_back_is_restamped_too():
    stream = recording()
    for i in range(9):
        stream.ts -= HOUR if i == 4 else 0
        stream.inter()
        stream.ts += HOUR if i == 4 else 0
    assert steps(stream) == [3600] * 8


@pytest.mark.parametrize("jump", [5 * HOUR, -5 * HOUR, 2**31 - 1, 11 * 90000])
def test_three_in_a_row_start_a_new_timeline_that_goes_on_by_arrival(jump):
    stream = recording()
    stream.inter()
    stream.ts += jump
    for _ in range(10):
        stream.inter()
    aus = [au for au, _ in stream.end()]
    assert [bool(au["flags"] & DISCONTINUITY) for au in aus] == [i == 3 for i in range(11)]
    assert [au["gap"] for au in aus] == [10 if i == 3 else 0 for i in range(11)]     # else a hole there was told as a crash of ours
    assert [b["pts"] - a["pts"] for a, b in itertools.pairwise(aus)] == [3600] * 10
    assert stream.track.stats()["discontinuities"] == 1


def test_a_small_step_back_of_the_cameras_clock_is_a_discontinuity_not_a_reorder_depth():
    stream = recording()
    stream.ts -= 45000
    for _ in range(10):
        stream.inter()
    assert steps(stream) == [3600] * 9
    stats = stream.track.stats()
    assert (stats["discontinuities"], stats["reorder_depth"]) == (1, 0)


def test_a_pause_of_the_stream_with_timestamps_that_went_on_is_no_jump():
    stream = recording()
    stream.inter()
    stream.step(60 * 90000)
    stream.inter()
    assert steps(stream) == [61 * 90000 - 90000 + 3600]
    assert stream.track.stats()["discontinuities"] == 0


def test_a_burst_after_a_network_stall_keeps_the_cameras_times():
    stream = recording()
    stream.inter()
    stream.mono_ns += 15 * 10**9
    for _ in range(30):
        stream.inter()
    assert set(steps(stream)) == {3600}


def test_timestamp_wrap_keeps_pts_continuous():
    stream = Stream(ts=2**32 - 10 * 3600)
    stream.key()
    for _ in range(30):
        stream.inter()
    assert set(steps(stream)) == {3600}


def test_two_pictures_with_one_timestamp_differ_by_a_tick():
    stream = recording()
    stream.inter(seed=1)
    stream.ts -= 3600
    stream.inter(seed=2)
    stream.inter(seed=3)
    assert steps(stream) == [1, 3599]


def test_a_constant_clock_still_gives_rising_times():
    stream = recording()
    for i in range(20):
        stream.inter(seed=i)
        stream.ts -= 3600
    aus = [au for au, _ in stream.end()]
    assert len(aus) == 20
    assert all(a["dts"] < b["dts"] for a, b in itertools.pairwise(aus))


# ---- UTC

def test_the_line_starts_at_the_first_access_units_arrival():
    stream = Stream()
    assert stream.track.line is None
    with pytest.raises(ValueError, match="line"):
        stream.track.wall_of(0)
    stream.key()
    stream.inter()
    aus = [au for au, _ in stream.end()]
    assert [au["wall_ns"] for au in aus] == [WALL, WALL + 40_000_000]
    assert [au["recv_ns"] for au in aus] == [10**9, 10**9 + 40_000_000]
    assert stream.track.line == (5000, WALL, 0)


def test_set_line_and_rate_are_in_force_from_the_next_access_unit():
    stream = recording()
    pts = stream.ts
    stream.track.set_line(pts, WALL + 7, 500_000)
    for _ in range(26):
        stream.inter()
    walls = [au["wall_ns"] for au, _ in stream.end()]
    assert walls[0] == WALL + 7
    assert walls[25] == WALL + 7 + 10**9 + 500_000
    assert stream.track.wall_of(pts + 90000) == walls[25]
    assert stream.track.wall_of(pts - 90000) == WALL + 7 - 10**9 - 500_000


def test_a_day_at_300_ppm_neither_overflows_nor_drifts_from_the_line():
    stream = recording()
    day = 86400 * 90000
    stream.track.set_line(0, WALL, 300_000)
    assert stream.track.wall_of(365 * day) == WALL + 365 * 86400 * 10**9 + 365 * 86400 * 300_000


def test_no_access_unit_is_stamped_below_the_floor():
    stream = recording()
    stream.track.floor_wall_ns = floor = stream.track.wall_of(stream.ts) + 100_000_000
    for _ in range(5):
        stream.inter()
    walls = [au["wall_ns"] for au, _ in stream.end()]
    assert walls == [floor, floor, floor, floor + 20_000_000, floor + 60_000_000]


def test_provisional_is_a_switch():
    stream = recording()
    stream.inter()
    stream.track.provisional = False
    stream.inter()
    assert [au["flags"] & PROVISIONAL for au, _ in stream.end()] == [PROVISIONAL, 0]


def test_take_lag_is_the_least_delay_since_the_last_call():
    stream = Stream("pcma", 8000, pt=8)
    late = [0, 30, 10, 25, 7, 9]
    lags = []
    for i, ms in enumerate(late):
        stream.mono_ns = 2 * 10**9 + i * 20_000_000 + ms * 1_000_000
        stream.send(b"x" * 160)
        stream.ts += 160
        if i in {0, 3, 5}:
            lags.append(stream.track.take_lag())
    assert lags == [0, 10_000_000, 7_000_000]
    assert stream.track.take_lag() is None


def test_the_lag_can_be_negative_when_the_first_was_the_most_delayed():
    stream = Stream("pcma", 8000, pt=8)
    stream.send(b"x" * 160)
    stream.ts += 160
    stream.mono_ns += 5_000_000
    stream.send(b"x" * 160)
    assert stream.track.take_lag() == -15_000_000


def test_leading_pictures_of_an_open_gop_and_their_dts():
    """H.264: an exact recovery point, then B pictures that are shown before it."""
    from rtpkit import pps264, recovery264, slice264, sps264
    stream = Stream(options={"reorder_depth": 1})
    stream.key()
    order = [(1, slice264(1)), (4, None), (2, slice264(1)), (3, slice264(1)), (5, slice264(1))]
    start = stream.ts
    for place, nal in order:
        stream.ts = start + (place - 1) * 3600
        stream.picture(*([nal] if nal else [sps264(), pps264(), recovery264(), slice264(1)]), step=0)
        stream.mono_ns += 40_000_000
    aus = [au for au, _ in stream.end()]
    assert [au["flags"] & 3 for au in aus] == [1, 0, 1, 2, 2, 0]
    assert [(au["pts"] - 5000) // 3600 for au in aus] == [0, 1, 4, 2, 3, 5]
    assert [(au["dts"] - 5000) / 3600 for au in aus] == [-1, 0, 1, 2, 3, 4]


def test_flags_of_the_first_pictures():
    stream = Stream()
    stream.key()
    stream.inter()
    assert [au["flags"] for au, _ in stream.end()] == [KEY | PROVISIONAL, PROVISIONAL]
    assert not DAMAGED & KEY
    assert RtpTrack(stream.queue, "h264", 90000, [96], 2, provisional=False).provisional is False
