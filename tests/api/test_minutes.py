"""`/minutes` over real tapes: each step's figures are those of the rows in it."""

from typing import Any

import pytest

from recorder.base.media import NS, RowFlag, TrackKind
from tests.storage_read.reference_writer import BASE_NS, RefTrack, RefVolume, gop

MINUTE_NS = 60 * NS
SECOND = gop(5, size=50, key=60, dur=18_000)
FIRST = BASE_NS      # at a minute's start


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    """Two minutes, a gap of one, a minute with a damaged second, five pictures a second of which one is a key frame."""
    made = volume.track(1, "main", TrackKind.AUDIO)
    seconds(made, 120)
    made.gap(60)
    seconds(made, 1, flags=int(RowFlag.DAMAGED))
    seconds(made, 59)
    return made


def seconds(track: RefTrack, count: int, **options: Any) -> None:
    for _ in range(count):
        track.write_row(SECOND, **options)


async def ask(api: Any, start_ns: int, end_ns: int, **more: Any) -> Any:
    answer = await api.get("cameras/north/minutes", params={"start": str(start_ns), "end": str(end_ns), **{n: str(v) for n, v in more.items()}})
    assert answer.status == 200, answer.body
    return answer.json


async def test_the_figures_of_all_minutes_are_those_of_all_rows(api: Any, track: RefTrack) -> None:
    found = await ask(api, BASE_NS, FIRST + 6 * MINUTE_NS)
    assert found["start_ns"] == FIRST and found["steps"] == 6 and found["step_s"] == 60
    assert sum(found["frames"]) == 180 * 5 and sum(found["bytes"]) == 180 * sum(au.size for au in SECOND)
    assert sum(found["footage_s"]) == pytest.approx(180, abs=0.05) and sum(found["missing_s"]) == pytest.approx(60, abs=0.05)
    assert sum(found["damaged_s"]) == pytest.approx(1, abs=0.05)
    assert found["key_interval_s"][1] == pytest.approx(1, abs=0.05) and found["key_interval_s"][5] is None
    assert found["footage_s"] == [60, 60, 0, 60, 0, 0] and found["missing_s"] == [0, 0, 60, 0, 0, 0]


async def test_steps_of_several_minutes_are_their_sums(api: Any, track: RefTrack) -> None:
    each, both = await ask(api, BASE_NS, FIRST + 4 * MINUTE_NS), await ask(api, BASE_NS, FIRST + 4 * MINUTE_NS, minutes=2)
    assert both["steps"] == 2 and both["step_s"] == 120
    for name in ("bytes", "frames", "footage_s", "missing_s", "damaged_s"):
        assert both[name] == pytest.approx([sum(each[name][:2]), sum(each[name][2:])])


async def test_a_track_without_footage_has_empty_columns(api: Any) -> None:
    found = await ask(api, BASE_NS, BASE_NS + 1)
    assert found["steps"] == 1 and found["bytes"] == found["missing_s"] == []


async def test_what_has_no_footage_around_it_is_zeros(api: Any, track: RefTrack) -> None:
    found = await ask(api, BASE_NS + 3600 * NS, BASE_NS + 7200 * NS)
    assert not any(found["frames"]) and not any(found["missing_s"])


async def test_a_track_that_no_camera_has_is_not_found(api: Any, track: RefTrack) -> None:
    assert (await api.get("cameras/north/minutes?start=0&end=1&track=thermal")).status == 404


@pytest.mark.parametrize("query", ["end=1", "start=2&end=1", f"start=0&end={32 * 86_400 * NS}", f"start=0&end={31 * 86_400 * NS}",
                                   "start=0&end=1&minutes=0", "start=0&end=1&minutes=1.5"])
async def test_senseless_questions_are_refused(api: Any, track: RefTrack, query: str) -> None:
    assert (await api.get(f"cameras/north/minutes?{query}")).status == 400


async def test_a_month_in_steps_that_fit_is_answered(api: Any, track: RefTrack) -> None:
    found = await ask(api, BASE_NS - 30 * 86_400 * NS, BASE_NS + 86_400 * NS, minutes=60)
    assert len(found["frames"]) == found["steps"] and sum(found["frames"]) == 900
