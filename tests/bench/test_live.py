"""`bench live`: a small run, and what is said of figures."""

import argparse
import json
import tempfile
from pathlib import Path

import pytest

from bench import live
from bench.crowded import Crowded, apart
from bench.viewers import newest_ticks


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    live.add_arguments(parser)
    return parser.parse_args(words)


def test_tiles_and_players_are_shown_pictures_and_nothing_is_lost(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    with tempfile.TemporaryDirectory(prefix="wr-") as folder:       # short: a server's socket lies in it
        run = options("--cameras", "3", "--kbps", "500", "--viewers", "2", "--seconds", "3", "--same", "8", "--folder", folder,
                      "--json", str(files[0]), "--markdown", str(files[1]), "--svg", str(files[2]))
        assert live.main(run) == 0
        assert list(Path(folder).iterdir()) == [], "the volume is removed"
    found = json.loads(files[0].read_text())
    assert set(found["windows"]) == {"nobody", "WebSocket", "HLS", "RTSP", "8 of one camera"}
    assert found["windows"]["nobody"]["ages_ms"] == []
    for name in ("WebSocket", "HLS", "RTSP", "8 of one camera"):
        ages = found["windows"][name]["ages_ms"]
        assert ages and ages[0] > -1000 and ages[-1] < 60_000
    crowd = found["windows"]["8 of one camera"]
    assert 250 < crowd["kbps"] < 1000 and crowd["spread"] < 25
    assert (found["loss"]["missing"], found["loss"]["wrong"], found["loss"]["dropped"]) == (0, 0, 0)
    assert "byte out" in files[1].read_text()


def test_a_crowd_that_is_no_number_is_refused() -> None:
    assert live.main(options("--same", "many")) == 2


def test_a_viewer_who_got_less_is_told() -> None:
    assert apart([90, 100, 101]) == 10
    assert apart([0, 0, 0]) == 0
    crowded = Crowded()
    crowded.told = {"viewers": 3, "bytes": [90_000, 100_000, 101_000], "seconds": 2.0}
    assert (crowded.spread(3), crowded.kbps()) == (10, 400)
    with pytest.raises(RuntimeError, match="of 4 viewers of one camera 3 were served to the end"):
        crowded.spread(4)


def test_the_newest_picture_of_a_fragment_is_its_last_sample() -> None:
    trun = b"trun" + bytes(4) + (3).to_bytes(4, "big") + bytes(4) + b"".join(n.to_bytes(4, "big") + bytes(12) for n in (3600, 3000, 9))
    assert newest_ticks(b"....moof....tfdt" + bytes(4) + (90_000).to_bytes(8, "big") + trun) == 96_600
    with pytest.raises(ValueError, match="subsection"):
        newest_ticks(b"no fragment")
