"""`bench playback`: a small run of both parts, and what is said of figures."""

import argparse
import json
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import playback
from bench.archive import Archive, write
from bench.playback import Alone, figures, share
from recorder.base.media import NS
from storage.store import TapeStore
from storage.volume import Volume

T0 = 1_800_000_000 * NS


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    playback.add_arguments(parser)
    return parser.parse_args(words)


def test_an_archive_has_every_picture_and_sound_at_its_time(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    Volume.init(tmp_path / "volume", bytes_max=1 << 30, on_root=True).close()
    reached: list[float] = []
    write(tmp_path / "volume", tmp_path / "live", Archive(T0, 60, 1000), 1, reached.append)
    store = TapeStore([tmp_path / "volume"], tmp_path / "live")
    for track, count, hz in (("main", 60 * 25, 25.0), ("audio", 60 * 48_000 // 1024 + 1, 46.875)):
        reader = store.track(1, track)
        entries = reader.entries(reader.rows(0, 1 << 62))
        assert len(entries) == count
        assert all(abs(int(at) - T0 - n * NS / hz) < 1000 for n, at in enumerate(entries.wall_ns))      # rows are measured in us
    store.close()
    assert reached[0] == 0 and reached[-1] > 50


def test_a_clip_from_an_archive_is_asked_warm_and_cold_and_beside_a_file_response(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    with tempfile.TemporaryDirectory(prefix="wr-") as folder:       # short: a server's socket lies in it
        run = options("--only", "alone", "--archive-s", "40", "--clips", "3", "--folder", folder, "--json", str(files[0]),
                      "--markdown", str(files[1]), "--svg", str(files[2]))
        assert playback.main(run) == 0
        assert list(Path(folder).iterdir()) == [], "the volume is removed"
    found = json.loads(files[0].read_text())["alone"]
    assert len(found["warm_ms"]) == len(found["cold_ms"]) == 3
    assert all(found[name] > 0 for name in ("head_warm_ms", "head_cold_ms", "ours_s_gb", "rival_s_gb", "ours_mbyte_s"))
    assert "of aiohttp's FileResponse" in files[1].read_text()
    assert ElementTree.parse(files[2]).findall(".//{*}circle")


@pytest.mark.live
def test_readers_of_all_kinds_are_served_beside_a_recording_that_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with tempfile.TemporaryDirectory(prefix="wr-") as folder:       # short, as above
        run = options("--only", "beside", "--cameras", "3", "--kbps", "1000", "--playbacks", "1,2", "--wall", "1", "--exports", "1",
                      "--seconds", "6", "--warm-up", "15", "--folder", folder, "--json", str(file))
        assert playback.main(run) == 0
    found = json.loads(file.read_text())
    assert [step["playbacks"] for step in found["steps"]] == [1, 2]
    assert all(step["mbit"] > 0 and step["wall_mbit"] > 0 and step["export_mbyte_s"] > 0 for step in found["steps"])
    assert any(step["times_ms"]["clip"] for step in found["steps"])
    assert found["loss"]["expected"] > 0 and found["loss"]["missing"] == found["loss"]["wrong"] == found["loss"]["dropped"] == 0


def test_what_is_missed_says_so() -> None:
    found = figures(Alone([1.0, 2.0, 30.0], [5.0], 10.0, 20.0, [1.0, 3.0], [8.0], 0.5, 1.0, 0.4, 900.0, 500.0))
    assert [figure.name for figure in found if not figure.met] == ["clip request to first byte, warm, p99"]
    rival, floor = found[-2:]
    assert rival.value == 0.5 and "2.00 times less" in rival.note
    assert floor.value == 1.25 and floor.must is None


def test_percentiles_of_few_and_of_none() -> None:
    assert share([1.0, 2.0, 3.0, 4.0], 50) == 3.0 and share([1.0], 99) == 1.0 and share([], 50) != share([], 50)
