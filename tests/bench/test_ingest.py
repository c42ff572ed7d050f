"""The benchmark's arithmetic and its one live part that needs no recorder."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import ingest, machine
from bench.camsim.process import SimProcess
from bench.ingest import Window


def window(subject: str, us: float, steal: float = 0.0, **more: object) -> Window:
    fields = {"subject": subject, "cameras": 64, "wall_s": 10.0, "us_per_stream_s": us, "all_us": us * 2, "cpu_s_per_gb": us / 500,
              "pss_mb_per_stream": 1.0, "steal_percent": steal, "foreign_percent": 0.0, "dropped_aus": 0}
    return Window(**(fields | more))  # type: ignore[arg-type]


def test_the_ratio_is_per_byte_and_says_who_did_not_keep_up() -> None:
    windows = [window("watchroom", 400), window("ffmpeg", 6000, dropped_aus=7)]
    assert ingest.ratios(windows) == ["64 cameras: per byte, one ffmpeg per camera costs 15.0 times the CPU of all of Watchroom's processes.",
                                      "ffmpeg did not keep up: 7 AUs were dropped by the cameras."]
    assert ingest.ratios(windows[:1]) == []


@pytest.mark.parametrize("spoilt", [{"steal": 6.0}, {"foreign_percent": 11.0}, {"dropped_aus": 1}])
def test_spoilt_windows_are_dirty(spoilt: dict[str, float]) -> None:
    assert not window("ffmpeg", 1).dirty
    assert window("ffmpeg", 1, **spoilt).dirty


def test_clean_windows_are_preferred_and_dirty_ones_say_so() -> None:
    windows = [window("watchroom", 900, 60.0), window("watchroom", 400, 1.0), window("watchroom", 500, 1.0)]
    text = ingest.table(windows, {"cpu": "x"})
    assert "| 64 | watchroom | 400 |" in text
    assert "dirty" not in text
    assert "900 (dirty)" in ingest.table(windows[:1], {})


def test_losses_are_shown() -> None:
    lossy = window("watchroom", 1, loss={"expected": 9, "recorded": 6, "missing": 2, "wrong": 1})
    assert "| 3 of 9 |" in ingest.table([lossy], {})


@pytest.mark.parametrize("text", ["", "64,", "x", "0", "-3", "4096", "64;128"])
def test_wrong_numbers_are_refused(text: str) -> None:
    parser = argparse.ArgumentParser()
    ingest.add_arguments(parser)
    assert ingest.main(parser.parse_args([f"--cameras={text}", "--ffmpeg", "none"])) == 1


def test_cpu_time_of_a_process_is_seen() -> None:
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(1, flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        assert machine.cpu_ns(process.pid) > 290_000_000
        assert machine.process_tree(process.pid) == [process.pid]
        assert machine.memory_kb([process.pid]) > 1000
        process.kill()
    assert machine.sample([process.pid]).cpu_s == 0


@pytest.mark.live
def test_ffmpeg_window_is_measured(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    ingest.add_arguments(parser)
    args = parser.parse_args(["--seconds", "3", "--warm-up", "1"])
    options = ["--count", "2", "--size", "320x180", "--bitrate", "300", "--gop", "25", "--start-key", "--cache", str(tmp_path / "clips")]
    began = time.monotonic()
    with SimProcess(options) as sim:
        found = ingest.ffmpeg_window(ingest.Task(sim, 2, args, tmp_path / "out", ingest.last_session(sim)))
    assert (found.subject, found.cameras, found.dropped_aus) == ("ffmpeg", 2, 0)
    assert 3 <= found.wall_s < time.monotonic() - began
    assert 0 < found.us_per_stream_s < 1e6
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) > 20_000
