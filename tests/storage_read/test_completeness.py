"""Completeness: periods are days and months, causes add up to what is missing, and what is kept is never an old answer."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.base.media import NS, GapCause, TrackKind
from storage import items
from storage.completeness import DAY_NS, NOTHING, PERS, Share, ShareCache, periods, share, total
from storage.store import TapeStore
from tests.storage_read.reference_writer import BASE_NS, RefTrack, RefVolume, gop


def ns(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * NS


def seconds(track: RefTrack, count: int) -> None:
    for _ in range(count):
        track.write_row(gop(5, size=50, key=60, dur=18_000))


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    """10 s of footage, 5 s `offline`, 10 s of footage, then a gap that changes its cause after 4 s and goes on."""
    made = volume.track(7, "main", TrackKind.AUDIO)
    seconds(made, 10)
    made.gap(5)
    seconds(made, 10)
    end_ns = made.next_ns
    made.log(items.GapOpen(end_ns, GapCause.STALL))
    made.log(items.GapClose(end_ns, end_ns + 4 * NS))
    made.log(items.GapOpen(end_ns + 4 * NS, GapCause.AUTH))
    return made


def test_what_is_missing_is_told_by_cause_and_adds_up(store: TapeStore, track: RefTrack) -> None:
    found = share(store.track(7, "main"), (BASE_NS - 100 * NS, BASE_NS + 35 * NS))
    assert (found.expected_ns, found.footage_ns, found.open) == (35 * NS, 20 * NS, True)
    assert found.missing_ns == {GapCause.OFFLINE: 5 * NS, GapCause.STALL: 4 * NS, GapCause.AUTH: 6 * NS}
    assert found.completeness == 20 / 35


def test_a_period_cuts_gaps_and_footage(store: TapeStore, track: RefTrack) -> None:
    found = share(store.track(7, "main"), (BASE_NS + 8 * NS, BASE_NS + 12 * NS))
    assert (found.expected_ns, found.footage_ns, found.missing_ns) == (4 * NS, 2 * NS, {GapCause.OFFLINE: 2 * NS})


def test_the_parts_are_the_whole(store: TapeStore, track: RefTrack) -> None:
    reader = store.track(7, "main")
    whole = share(reader, (BASE_NS - 10 * NS, BASE_NS + 40 * NS))
    parts = total([share(reader, (BASE_NS + at * NS, BASE_NS + (at + 1) * NS)) for at in range(-10, 40)])
    assert (parts.expected_ns, parts.footage_ns, parts.missing_ns) == (whole.expected_ns, whole.footage_ns, whole.missing_ns)


def test_nothing_expected_is_no_figure() -> None:
    assert NOTHING.completeness is None and total([]).completeness is None


def test_days_and_months_are_utcs() -> None:
    start, end = ns(2024, 1, 30, 12), ns(2024, 3, 2, 6)
    days, months = periods(start, end, "day"), periods(start, end, "month")
    assert days[0] == (start, ns(2024, 1, 31)) and days[-1] == (ns(2024, 3, 2), end) and len(days) == 33
    assert months == [(start, ns(2024, 2, 1)), (ns(2024, 2, 1), ns(2024, 3, 1)), (ns(2024, 3, 1), end)]
    assert periods(start, end, "range") == [(start, end)]


@given(st.integers(-(1 << 61), 1 << 61), st.integers(1, 800 * DAY_NS), st.sampled_from(PERS))
def test_periods_leave_no_instant_out(start: int, length: int, per: str) -> None:
    if per == "day":
        length %= 40 * DAY_NS
        length += 1
    cut = periods(start, start + length, per)
    assert cut[0][0] == start and cut[-1][1] == start + length
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cut)) and all(a < b for a, b in cut)


def test_a_kept_figure_is_given_up_when_its_footage_goes() -> None:
    cache, found, period = ShareCache(2), Share(10, 9), (100, 200)
    cache.put(1, "main", period, 50, found, 200)
    assert cache.get(1, "main", period, 50) is None                    # the period has only just ended
    cache.put(1, "main", period, 50, found, 200 + DAY_NS)
    assert cache.get(1, "main", period, 50) is found
    assert cache.get(1, "main", period, 100) is found                  # what went lies before the period
    assert cache.get(1, "main", period, 150) is None
    assert cache.get(1, "sub", period, 50) is None
    cache.put(2, "main", period, 50, Share(10, 9, open=True), 200 + DAY_NS)
    assert cache.get(2, "main", period, 50) is None                    # an open gap's cause can still change
    for camera in (3, 4):
        cache.put(camera, "main", period, 50, found, 200 + DAY_NS)
    assert cache.get(1, "main", period, 50) is None and cache.get(4, "main", period, 50) is found
