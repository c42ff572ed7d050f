"""The benchmark's arithmetic, its options, and a small run of it."""

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import ingest, machine, partnership
from bench.ingest_report import chart, ratios, table
from bench.load import Load, loads
from bench.probe import Durability, Notes, Probe, percentiles
from bench.subjects import from_first
from bench.window import Window


def window(subject: str, us: float, steal: float = 0.0, cameras: int = 64, **more: object) -> Window:
    fields = {"subject": subject, "load": Load(cameras), "wall_s": 10.0, "us_per_stream_s": us, "all_us": us * 2, "cpu_s_per_gb": us / 500,
              "pss_kb_per_stream": 1000.0, "private_kb_per_stream": 100.0, "steal_percent": steal, "foreign_percent": 0.0, "dropped_aus": 0}
    return Window(**(fields | more))  # type: ignore[arg-type]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Control sockets lie below it, whose paths have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="wr-") as name:
        yield Path(name)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    ingest.add_arguments(parser)
    return parser.parse_args(words)


def test_the_ratio_is_per_byte_and_says_who_did_not_keep_up() -> None:
    windows = [window("watchroom", 400), window("ffmpeg", 6000, dropped_aus=7), window("native", 320), window("pyav", 4000)]
    assert ratios(windows) == [
        "64 x 4 Mbit/s: per byte, one ffmpeg per camera costs 15.0 times the CPU of all of Watchroom's processes (a dirty window).",
        "64 x 4 Mbit/s: ffmpeg did not keep up, 7 AUs were dropped by the cameras.",
        "64 x 4 Mbit/s: per byte, Watchroom costs 1.25 times the CPU of the C program.",
        "64 x 4 Mbit/s: per byte, PyAV threads cost 10.0 times the CPU of all of Watchroom's processes."]
    assert ratios(windows[:1]) == []


def test_only_like_loads_are_compared() -> None:
    windows = [window("watchroom", 400), window("ffmpeg", 6000, load=Load(64, codec="h265"))]
    assert ratios(windows) == []


def test_many_cameras_are_set_beside_few() -> None:
    many = window("watchroom", 300, cameras=128, private_kb_per_stream=80.0)
    assert ratios([window("watchroom", 400), window("watchroom", 500, cameras=96), many]) == [
        "128 cameras cost 0.75 times as much per stream-second as 64; a stream adds 60 KB of private memory beside its buffer."]


@pytest.mark.parametrize("spoilt", [{"steal": 6.0}, {"foreign_percent": 11.0}, {"dropped_aus": 1}])
def test_spoilt_windows_are_dirty(spoilt: dict[str, float]) -> None:
    assert not window("ffmpeg", 1).dirty
    assert window("ffmpeg", 1, **spoilt).dirty  # type: ignore[arg-type]


def test_clean_windows_are_preferred_and_dirty_ones_say_so() -> None:
    windows = [window("watchroom", 900, 60.0), window("watchroom", 400, 1.0), window("watchroom", 500, 1.0)]
    text = table(windows, {"cpu": "x"})
    assert "| 64 x 4 Mbit/s | watchroom | 400 (400 to 500, 2 windows) |" in text
    assert "dirty" not in text
    assert "900 (dirty)" in table(windows[:1], {})


def test_udp_is_set_beside_tcp_with_what_its_sockets_had_no_room_for() -> None:
    udp = window("watchroom", 520, load=Load(64, transport="udp"), loss={"expected": 9, "missing": 1, "overrun": 3})
    windows = [window("watchroom", 400), udp]
    assert ratios(windows) == ["64 x 4 Mbit/s, udp: UDP costs 1.30 times as much as TCP per byte."]
    assert "| 1 of 9; 3 packets without room |" in table(windows, {})


def test_losses_are_shown() -> None:
    lossy = window("watchroom", 1, loss={"expected": 9, "recorded": 6, "missing": 2, "wrong": 1, "dropped": 2})
    assert "| 5 of 9 |" in table([lossy], {})


def test_the_chart_is_an_svg_with_every_point() -> None:
    root = ElementTree.fromstring(chart([window("watchroom", 400), window("watchroom", 300, cameras=128), window("native", 310)]))
    assert len(root.findall(".//{*}circle")) == 3
    assert {"watchroom 4 Mbit/s", "native 4 Mbit/s"} <= {text.text for text in root.findall("{*}text")}
    assert ElementTree.fromstring(chart([])).tag.endswith("svg")


@pytest.mark.parametrize("words", [
    *(["--cameras", text] for text in ("", "64,", "x", "0", "4096", "64;128", "²")), ["--bitrate", "1"], ["--codec", "av1"],
    ["--transport", "pigeon"], ["--slots", "2"], ["--slots", "0", "--serve"], ["--beside", "vlc"], ["--volume-gb", "much"]])
def test_wrong_options_are_refused_before_anything_is_started(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest.main(options(*words, "--folder", str(tmp_path))) == 1
    assert words[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_every_combination() -> None:
    found = loads(options("--cameras", "1,2", "--bitrate", "500,4000", "--codec", "h264,h265"))
    assert len(found) == len(set(found)) == 8
    assert [load.label for load in found[:3]] == ["1 x 0.5 Mbit/s", "2 x 0.5 Mbit/s", "1 x 0.5 Mbit/s, h265"]


def test_libav_is_left_out_where_one_core_cannot_hold_it() -> None:
    args = options("--beside", "ffmpeg,native", "--libav-max", "100")
    assert [m.__name__ for m in ingest.subjects(args, Load(100))] == ["watchroom", "ffmpeg", "native"]
    assert [m.__name__ for m in ingest.subjects(args, Load(101))] == ["watchroom", "native"]


def test_the_percentiles_of_a_window_are_of_that_window(tmp_path: Path) -> None:
    assert percentiles(range(100), "lag") == {"lag_p50": 50, "lag_p99": 99, "lag_max": 99}
    assert percentiles([], "lag") == {}
    probe = Probe()
    for value in (1.0, 2.0, 3.0):
        probe.note("commit", value)
    probe.write(tmp_path / "notes")
    notes = json.loads((tmp_path / "notes").read_text())
    notes["commit"][0] = [10.0, 20.0, 30.0]
    (tmp_path / "notes").write_text(json.dumps(notes))
    assert Notes(tmp_path / "notes").delays(15, 30) == {"commit_p50": 2.0, "commit_p99": 2.0, "commit_max": 2.0}
    assert Notes(tmp_path / "none").delays(0, 99) == {}


def test_the_age_of_what_a_power_cut_takes_is_that_of_the_newest_durable_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    ages = Durability.__new__(Durability)
    ages._times, ages._values = [], []  # type: ignore[assignment]
    marks: deque[tuple[int, int]] = deque()
    now_s = 0.0
    monkeypatch.setattr("bench.probe.time.monotonic", lambda: now_s)
    for now_s, visible, durable in ((1.0, 100, 0), (1.2, 200, 0), (1.4, 300, 200), (1.5, 300, 299), (1.6, 300, 300)):
        ages._look(marks, visible, int(now_s * 1e9), durable)
    assert [round(value) for value in ages._values] == [200, 300, 200]


def test_a_recycled_tape_is_compared_from_its_first_au_on() -> None:
    sessions = [{"first": 3, "next": 50}, {"first": 60, "next": 90}]
    assert from_first(sessions, None) == sessions
    assert from_first(sessions, 40) == [{"first": 40, "next": 50, "cut": True}, sessions[1]]
    assert from_first(sessions, 70) == [{"first": 70, "next": 90, "cut": True}]


def test_lag_is_told_by_the_bound_that_holds_it() -> None:
    before, after = [0] * 11, [98, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert partnership.lag_bounds(before, after) == {"p50": 1.0, "p99": 20.0, "max": float("inf")}
    assert partnership.lag_bounds(after, after) == {}


def test_cpu_time_and_memory_of_a_process_are_seen() -> None:
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(1, flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        assert machine.cpu_ns(process.pid) > 290_000_000
        assert machine.process_tree(process.pid) == [process.pid]
        used = machine.memory([process.pid])
        assert 1000 < used.private_kb <= used.pss_kb == machine.memory_kb([process.pid])
        process.kill()
    assert machine.sample([process.pid]).cpu_s == 0


def test_the_queues_buffers_are_told_apart_from_private_memory() -> None:
    code = ("from recorder._ext.auqueue import AuQueue\nimport time\nqueue = AuQueue(64 << 20)\n"
            "assert queue.append(bytes(48 << 20), 0, 0, 0, 0, 1)\nprint(1, flush=True)\ntime.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        used = machine.memory([process.pid])
        process.kill()
    assert 48 << 10 <= used.buffer_kb < 56 << 10
    assert used.private_kb < 40 << 10
    assert used.private_kb + used.buffer_kb <= used.pss_kb


def test_files_for_hundreds_of_cameras_are_allowed() -> None:
    code = "import resource\nfrom bench.machine import allow_files\nprint(allow_files(700), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    limited = ["prlimit", "--nofile=512:1024", sys.executable, "-c", code]
    assert subprocess.run(limited, capture_output=True, text=True, check=True).stdout == "700 700\n"


@pytest.mark.live
@pytest.mark.parametrize("words", [["--beside", "ffmpeg,native"], ["--beside", "none", "--serve", "--volume-gb", "0"]])
def test_a_small_run_loses_nothing_and_writes_its_reports(words: list[str], tmp_path: Path, short_folder: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    run = options("--cameras", "2", "--bitrate", "400", "--seconds", "3", "--warm-up", "2", "--folder", str(short_folder),
                  "--json", str(files[0]), "--markdown", str(files[1]), "--svg", str(files[2]), *words)
    done = subprocess.run([sys.executable, "-c", _SMALL, json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in vars(run).items()})],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(files[0].read_text())["windows"]
    ours = [w for w in found if w["subject"] == "watchroom"]
    assert ours[-1]["loss"]["missing"] == ours[-1]["loss"]["wrong"] == ours[-1]["loss"]["dropped"] == 0
    assert ours[-1]["loss"]["recorded"] > 50
    assert "undurable_p99" in ours[-1]["delays"]
    assert {w["subject"] for w in found} == {"watchroom", *([] if "none" in words else ["ffmpeg", "native"])}
    assert all(path.stat().st_size > 500 for path in files)
    assert not list(short_folder.iterdir())


@pytest.mark.live
def test_a_run_that_is_ended_leaves_nothing_behind(tmp_path: Path, short_folder: Path) -> None:
    run = options("--cameras", "2", "--bitrate", "400", "--volume-gb", "0", "--seconds", "600", "--beside", "none", "--folder",
                  str(short_folder), "--json", str(tmp_path / "json"), "--markdown", str(tmp_path / "md"), "--svg", str(tmp_path / "svg"))
    words = json.dumps({key: str(value) if isinstance(value, Path) else value for key, value in vars(run).items()})
    with subprocess.Popen([sys.executable, "-c", _SMALL, words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "2 cameras play" in process.stderr.readline()
        children = machine.process_tree(process.pid)
        process.terminate()
        assert process.wait(120) == 143
    assert len(children) > 2
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not list(short_folder.iterdir())


_SMALL = """
import argparse, json, sys
from pathlib import Path
from bench import ingest
values = json.loads(sys.argv[1])
paths = {name: Path(values[name]) for name in ("folder", "json", "markdown", "svg")}
raise SystemExit(ingest.main(argparse.Namespace(**{**values, **paths})))
"""
