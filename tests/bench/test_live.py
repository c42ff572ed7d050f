"""`bench live`: a small run, and what is said of figures."""

import argparse
import json
import tempfile
from pathlib import Path

import pytest

from bench import live
from bench.viewers import newest_ticks


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    live.add_arguments(parser)
    return parser.parse_args(words)


def test_tiles_and_players_are_shown_pictures_and_nothing_is_lost(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    with tempfile.TemporaryDirectory(prefix="wr-") as folder:       # short: a server's socket lies in it
        run = options("--cameras", "3", "--kbps", "500", "--viewers", "2", "--seconds", "3", "--folder", folder, "--json", str(files[0]),
                      "--markdown", str(files[1]), "--svg", str(files[2]))
        assert live.main(run) == 0
        assert list(Path(folder).iterdir()) == [], "the volume is removed"
    found = json.loads(files[0].read_text())
    assert set(found["windows"]) == {"nobody", "WebSocket", "HLS", "RTSP"}
    assert found["windows"]["nobody"]["ages_ms"] == []
    for name in ("WebSocket", "HLS", "RTSP"):
        ages = found["windows"][name]["ages_ms"]
        assert ages and ages[0] > -1000 and ages[-1] < 60_000
    assert (found["loss"]["missing"], found["loss"]["wrong"], found["loss"]["dropped"]) == (0, 0, 0)
    assert "byte out" in files[1].read_text()


def test_the_newest_picture_of_a_fragment_is_its_last_sample() -> None:
    trun = b"trun" + bytes(4) + (3).to_bytes(4, "big") + bytes(4) + b"".join(n.to_bytes(4, "big") + bytes(12) for n in (3600, 3000, 9))
    assert newest_ticks(b"....moof....tfdt" + bytes(4) + (90_000).to_bytes(8, "big") + trun) == 96_600
    with pytest.raises(ValueError, match="subsection"):
        newest_ticks(b"no fragment")
