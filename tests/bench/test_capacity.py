"""`bench capacity`: a small run, and what is said to have given way."""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from bench import capacity
from bench.capacity import Step

GOOD = Step(100, 10.0, 50.0, {"tick_p50": 20.0, "tick_p99": 80.0, "tick_max": 90.0}, 0, 0, 5.0, 30.0, 10.0, 20.0, 0.0, 2.0, 0.1, 30)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    capacity.add_arguments(parser)
    return parser.parse_args(words)


def slow(**more: object) -> Step:
    return replace(GOOD, cameras=130, delays={**GOOD.delays, "tick_p99": 450.0}, **more)  # type: ignore[arg-type]


def test_a_small_run_says_how_far_its_volume_goes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    run = options("--start", "2", "--most", "3", "--mbit", "16", "--seconds", "2", "--playbacks", "2", "--limit-ms", "60000", "--folder",
                  str(tmp_path), "--json", str(files[0]), "--markdown", str(files[1]), "--svg", str(files[2]))
    assert capacity.main(run) == 0
    found = json.loads(files[0].read_text())
    assert [step["cameras"] for step in found["steps"]] == [2, 3]
    assert all(step["mbyte_s"] > 0 and step["playback_mbyte_s"] > 0 and step["delays"]["undurable_max"] > 0 for step in found["steps"])
    assert "the limit lies higher" in files[1].read_text()
    assert ElementTree.parse(files[2]).findall(".//{*}circle")
    assert sorted(tmp_path.iterdir()) == sorted(files), "the volume is removed"


def test_it_ends_where_commits_leave_their_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = options("--start", "1", "--most", "3", "--seconds", "2", "--playbacks", "1", "--limit-ms", "0.001", "--folder", str(tmp_path))
    assert capacity.main(run) == 1
    assert "Not even 1 cameras of 4 Mbit/s: commits p99" in capsys.readouterr().out


@pytest.mark.parametrize(("step", "words"), [
    (slow(starved=2), "the volume is too small"), (slow(writer=95.0), "the writer's thread"), (slow(cpu=97.0), "the machine's cores"),
    (slow(late_ms=800.0), "not the storage"), (slow(disk=99.0), "no time left"), (slow(), "answers too slowly")])
def test_the_resource_that_gave_way_is_named(step: Step, words: str) -> None:
    judged = capacity._judged(step, 400.0)
    assert not judged.held and words in judged.verdict
    text = capacity.answer([GOOD, judged], 500, 4.0)
    assert text.startswith("This disk carries 100 cameras of 4 Mbit/s (400 Mbit/s) while it plays 16 Mbit/s back")
    assert f"With 130: {judged.verdict}." in text


def test_refused_units_are_a_limit_too() -> None:
    assert capacity._judged(GOOD, 400.0).held
    assert "3 AUs refused" in capacity._judged(replace(GOOD, refused=3), 400.0).verdict


@pytest.mark.parametrize("words", [["--start", "0"], ["--mbit", "0"], ["--factor", "1"], ["--seconds", "1"], ["--playbacks", "0"]])
def test_wrong_options_are_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(options(*words, "--folder", str(tmp_path))) == 2
    assert words[0] in capsys.readouterr().err


def test_a_volume_without_room_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(options("--volume-gb", "0.1", "--folder", str(tmp_path))) == 1
    assert "has room for 0 cameras of 4 Mbit/s; give --volume-gb or --start" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
