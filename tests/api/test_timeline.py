"""`/timeline` over real tapes: every second accounted for, coarser answers still true."""

import json
from typing import Any

import numpy as np
import pytest

from api.timeline import merged, shares_text
from recorder.base.media import NS, RowFlag, TrackKind
from storage import shelfreader
from storage.hold import Hold, HoldSpan
from storage.holdshelf import Shelf, Taken
from tests.storage_read.reference_writer import BASE_NS, RefTrack, RefVolume, gop


def seconds(track: RefTrack, count: int, **options: Any) -> None:
    for _ in range(count):
        track.write_row(gop(5, size=50, key=60, dur=18_000), **options)


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    """100 s of footage with a damaged second, 20 s gap, 80 s, 2 s gap, 50 s."""
    made = volume.track(1, "main", TrackKind.AUDIO)
    seconds(made, 50)
    seconds(made, 1, flags=int(RowFlag.DAMAGED))
    seconds(made, 49)
    made.gap(20)
    seconds(made, 80)
    made.gap(2)
    seconds(made, 50)
    return made


def at(seconds_: float) -> int:
    return BASE_NS + round(seconds_ * NS)


async def ask(api: Any, start: float, end: float, **more: Any) -> Any:
    api.clock.step_wall((at(252) - api.clock.wall_ns()) / 1e9)
    answer = await api.get(
        "cameras/north/timeline", params={"start": str(at(start)), "end": str(at(end)), **{name: str(value) for name, value in more.items()}}
    )
    assert answer.status == 200, answer.body
    return answer.json


def bounds(things: list[Any]) -> list[tuple[float, float | None]]:
    return [((thing["start_ns"] - BASE_NS) / NS, None if thing["end_ns"] is None else (thing["end_ns"] - BASE_NS) / NS) for thing in things]


async def test_every_second_is_in_a_span_or_a_gap(api: Any, track: RefTrack) -> None:
    found = await ask(api, 0, 252)
    assert bounds(found["spans"]) == [(0, 100), (120, 200), (202, 252)]
    assert bounds(found["gaps"]) == [(100, 120), (200, 202)]
    assert bounds(found["damage"]) == [(50, 51)]
    assert {gap["cause"] for gap in found["gaps"]} == {"offline"}
    assert (found["footage_s"], found["expected_s"], found["damaged_s"]) == (230.0, 252.0, 1.0)
    assert found["completeness"] == pytest.approx(230 / 252)
    assert (found["holds"], found["left_out"], found["steps"]) == ([], 0, None)


async def test_a_coarse_answer_hides_short_gaps_but_counts_them(api: Any, track: RefTrack) -> None:
    found = await ask(api, 0, 252, resolution=10)
    assert bounds(found["gaps"]) == [(100, 120)]
    assert bounds(found["spans"]) == [(0, 100), (120, 252)]
    assert (found["left_out"], found["footage_s"]) == (1, 230.0)
    assert len(found["steps"]) == 26
    assert found["steps"][10:12] == [0.0, 0.0] and found["steps"][20] == 0.8 and found["steps"][0] == 1.0


async def test_a_range_cuts_spans_and_gaps_but_says_where_a_gap_began(api: Any, track: RefTrack) -> None:
    found = await ask(api, 110, 130)
    assert bounds(found["gaps"]) == [(110, 120)] and bounds(found["spans"]) == [(120, 130)]
    assert found["gaps"][0]["from"] < found["gaps"][0]["start"]
    assert found["completeness"] == 0.5


async def test_what_is_yet_to_come_is_neither_missing_nor_asked_for(api: Any, track: RefTrack) -> None:
    found = await ask(api, 240, 1000)
    assert bounds(found["spans"]) == [(240, 252)] and found["gaps"] == [] and found["completeness"] == 1.0
    ahead = await ask(api, 500, 1000)
    assert (ahead["spans"], ahead["completeness"]) == ([], None)


async def test_a_camera_without_footage_has_an_empty_timeline(api: Any) -> None:
    found = await ask(api, 0, 10)
    assert (found["spans"], found["gaps"], found["completeness"]) == ([], [], None)


async def test_a_track_that_no_camera_has_is_not_found(api: Any, track: RefTrack) -> None:
    assert (await api.get("cameras/north/timeline?start=0&end=1&track=thermal")).status == 404


async def test_steps_beyond_reason_are_refused(api: Any, track: RefTrack) -> None:
    assert (await api.get("cameras/north/timeline", params={"start": "0", "end": str(60_000 * NS), "resolution": "0.5"})).status == 400


async def test_the_list_names_tracks_by_their_tapes_when_no_slot_answers(api: Any, track: RefTrack) -> None:
    assert [found["name"] for found in (await api.get("cameras/north")).json["tracks"]] == ["main"]


def test_merging_joins_what_touches_only() -> None:
    assert merged([(0, 10), (10, 20), (25, 30), (50, 60)], 5) == [(0, 30), (50, 60)]
    assert merged([], 5) == []


async def test_what_is_held_is_said(api: Any, track: RefTrack, volume: RefVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfreader, "LOOK_NS", 0)      # else whoever looked before the holds came is told so for a second
    shelf = Shelf(volume.volume, 0)
    assert shelf.open() == ([], [])
    for number, (start, end, name, released_ns) in enumerate([(30, 60, "", 0), (50, 90, "main", 0), (240, 9000, "main", 0),
                                                              (100, 110, "", 1), (120, 130, "audio", 0)]):
        shelf.put(Taken(Hold(f"{number:032x}", "accident", "", "test", 1, 0, (HoldSpan(1, at(start), at(end), name),), released_ns)))
    assert bounds((await ask(api, 40, 252))["holds"]) == [(40, 90), (240, 252)]
    assert bounds((await ask(api, 40, 252, resolution=200))["holds"]) == [(40, 90), (240, 252)]


@pytest.mark.parametrize("shares", [[], [1.0], [0.0, 0.5, 0.5, 1.0, 1.0], [0.25] * 3, [round(n / 7, 6) for n in range(8)]])
def test_shares_are_the_json_that_python_makes(shares: list[float]) -> None:
    assert shares_text(np.array(shares)) == json.dumps(shares)
