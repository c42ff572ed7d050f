"""The demo's verdict is bad for each single thing that can be missing."""

import time
from typing import Any

import pytest

from recorder.cli.demo_view import Board, faults_of, row, verdict


def line(**change: Any) -> dict[str, Any]:
    end = time.time_ns()
    return {"completeness": 1.0, "gaps": [], "spans": [{"start_ns": end - 10**10, "end_ns": end}], "damaged_s": 0.0, "footage_s": 10.0,
            "bytes": 1000} | change


COUNTS = {"codec": "avc1", "kbps": 2000, "aus": 250, "dropped_aus": 0, "lost_packets": 0, "damaged_aus": 0}


def test_a_full_recording_is_good() -> None:
    lines, full = verdict({"a": {"state": "recording", "tracks": {"main": COUNTS}}}, {"a": {"main": line()}})
    assert full
    assert "complete" in lines[0]
    assert lines[1] == "demo: 1 of 1 cameras recorded in full"


@pytest.mark.parametrize(("timeline", "counts", "fault"), [
    (line(gaps=[{"cause": "stall"}]), COUNTS, "gap: stall"),
    (line(completeness=0.99), COUNTS, "only 99.00 %"),
    (line(spans=[], completeness=None), COUNTS, "no footage"),
    (line(damaged_s=0.5), COUNTS, "0.5 s damaged"),
    (line(spans=[{"start_ns": 0, "end_ns": time.time_ns() - 10**11}]), COUNTS, "nothing new"),
    (line(), COUNTS | {"dropped_aus": 3}, "3 dropped_aus"),
    (line(), COUNTS | {"lost_packets": 1}, "1 lost_packets"),
])
def test_anything_missing_is_a_fault(timeline: dict[str, Any], counts: dict[str, Any], fault: str) -> None:
    assert fault in faults_of(timeline, counts)
    lines, full = verdict({"a": {"tracks": {"main": counts}}}, {"a": {"main": timeline}, "b": {"main": line()}})
    assert not full
    assert lines[1] == "demo: 1 of 2 cameras recorded in full"


def test_no_camera_at_all_is_not_full() -> None:
    assert not verdict({}, {})[1]


def test_the_table_is_refreshed_in_place_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    cameras: dict[str, Any] = {"a": {"state": "recording", "tracks": {"main": COUNTS, "audio": COUNTS | {"aus": 99, "kbps": 32}}}, "b": {}}
    board = Board(in_place=True)
    board.show(cameras, {"a": {"main": line()}}, 10**10, 1.0)
    board.show(cameras, {"a": {"main": line()}}, 10**10, 2.0)
    out = capsys.readouterr().out
    assert out.count("\x1b[4F") == 1
    assert "recording" in out
    Board(in_place=False).show(cameras, {}, 10**10, 5.0)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "1 of 2 recording, 2032 kbit/s, 250 frames" in out
    assert row("a", cameras["a"], {})[4] == 250
