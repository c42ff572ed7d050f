"""`bench commit`: a small run with the real writer, and what is said about its figures."""

import argparse
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import commit
from bench.chart import draw
from bench.disk_load import device_of, disk_sample, written_bytes
from bench.feed import Feed
from bench.progress import Progress
from bench.report import Figure, figure_table
from bench.written import counted, pages
from storage.check import check_volume
from tests.storage_write.rig import Rig


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commit.add_arguments(parser)
    return parser.parse_args(words)


def test_a_small_run_loses_nothing_and_says_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    run = options("--tracks", "3", "--mbit", "8", "--seconds", "3", "--warm-up", "1", "--rounds", "2", "--folder", str(tmp_path),
                  "--json", str(files[0]), "--markdown", str(files[1]), "--svg", str(files[2]))
    assert commit.main(run) == 0
    found = json.loads(files[0].read_text())["outcome"]
    assert found["lost"] == found["refused"] == 0 and len(found["windows"]) == 2
    for window in found["windows"]:
        received = window["nbytes"] if device_of(tmp_path) else 0
        assert window["nbytes"] > 3_000_000 and window["written"] > 0.9 * received, "what came at its end is written after it"
        assert window["delays"]["tick_p50"] >= window["delays"]["commit_p50"] > 0
        assert window["delays"]["undurable_max"] > 0
        assert set(window["cpu_s"]) == {"writer", "commit", "keeper"} and min(window["cpu_s"].values()) > 0
        assert 0.9 * window["nbytes"] < window["kinds"]["tape"] < 1.2 * window["nbytes"] and window["kinds"]["journal"] > 0
    assert "bytes written per byte received" in files[1].read_text() and "| tape | " in files[1].read_text()
    assert len(ElementTree.parse(files[2]).findall(".//{*}circle")) == sum(map(len, found["notes"].values())) > 0
    assert "0 lost" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == sorted(files), "the volume is removed"


def test_the_feed_goes_round_its_volume_and_leaves_it_sound(tmp_path: Path) -> None:
    with Feed(tmp_path / "feed", 6 * (16 << 20)) as feed:
        feed.add(2, 200.0)
        while feed.events["Retired"] < 4:
            assert not feed.slot.failed
            feed._stop.wait(0.1)
        feed.stop()
        assert feed.lost() == 0 or feed.given.refused, "what the queue took is on the tape"
        assert not check_volume(feed.path, feed.live, level=2).findings
        path = feed.folder
    assert not path.exists()


@pytest.mark.parametrize("words", [["--tracks", "0"], ["--mbit", "0"], ["--seconds", "1"], ["--rounds", "0"]])
def test_wrong_options_are_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commit.main(options(*words, "--folder", str(tmp_path))) == 2
    assert words[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_figure_that_misses_what_is_promised_says_so() -> None:
    text = figure_table([Figure("a", 1.07, "", 1.06), Figure("b", 99.0, "ms", 150), Figure("c", 1234.5, "s")])
    assert "| a | 1.07 | 1.06: missed |" in text
    assert "| b | 99 ms | 150 ms: met |" in text
    assert "| c | 1,234 s |  |" in text


def test_writes_are_told_apart_by_what_they_are_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live", bytes_max=1 << 28)
    with counted(lambda: {"tape": 5}) as kinds:
        _, camera = rig.track(size=60_000)
        rig.run(camera, 500)
        rig.turn()
        rig.turn()
        found = kinds()
    assert found["tape"] == 5 and found["footers"] % 4096 == 0
    assert {"journal", "heads", "zeros", "footers", "logs"} <= set(found)
    assert found["heads"] >= 2 * 4096 and found["zeros"] >= 4096
    assert (pages(1, 4095), pages(2, 4095), pages(4096, 4096), pages(10, 0)) == (4096, 8192, 4096, 4096)
    rig.close()


def test_a_chart_without_points_is_one_too() -> None:
    for logarithmic in (True, False):
        assert ElementTree.fromstring(draw({"nothing": []}, "t", "x", logarithmic=logarithmic)).tag.endswith("svg")


def test_progress_tells_the_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("bench.progress.time.monotonic", lambda: now)
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    with Progress("weeks", 10, out) as progress:
        now = 102.0
        progress.reach(2, "week 2")
        progress.reach(3)
    assert out.getvalue() == "\r\x1b[K[######........................] weeks: 20 %, 8 s left; week 2\n"


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("bench.progress.time.monotonic", lambda: now)
    out = io.StringIO()
    with Progress("weeks", 10, out) as progress:
        for _ in range(30):
            now += 1
            progress.reach((now - 100) / 3)
    assert out.getvalue().count("\n") == 3


def test_what_this_process_writes_is_counted(tmp_path: Path) -> None:
    before, device = written_bytes(), device_of(tmp_path)
    sectors = disk_sample(device)
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(3 << 20))
    assert written_bytes() - before >= (3 << 20 if device else 0)
    assert disk_sample(device).busy_ms >= sectors.busy_ms
    assert disk_sample(None).written == 0
