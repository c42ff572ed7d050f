"""`bench screen`: a small run in a process of its own, and what is made of what a page saw."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.screen import WAYS, ages, ways_of

pytestmark = [pytest.mark.browser, pytest.mark.live]


def test_pictures_of_the_page_and_of_hls_js_are_seen_and_dated(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    small = ("--cameras", "2", "--size", "320x184", "--kbps", "300", "--clicks", "2", "--seconds", "3", "--ways", "WebSocket,hls.js")
    out = ("--folder", str(tmp_path), "--json", str(files[0]), "--markdown", str(files[1]), "--svg", str(files[2]))
    subprocess.run([sys.executable, "-m", "recorder", "bench", "screen", *small, *out], check=True, timeout=600, stdout=subprocess.DEVNULL)
    found = json.loads(files[0].read_text())["ways"]
    assert list(found) == ["WebSocket", "hls.js"]
    for way in found.values():
        assert (way["error"], len(way["first_ms"])) == ("", 2)
        assert way["pictures"] > way["sent"] / 3
        assert way["ages_ms"][0] > 0
    assert found["WebSocket"]["ages_ms"][0] < 8000 < 16_000, "a page that stands still would show ages all over the loop"
    assert "click to first picture" in files[1].read_text()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [], "the volume is removed"


def test_ages_count_from_the_camera_over_loops_and_each_picture_once() -> None:
    clip = SimpleNamespace(loop_ticks=16 * 90_000, clock_rate=90_000, au_ticks=3600.0)
    truth = SimpleNamespace(clip=clip, base_wall_ns=10**18)
    seen = [(50, 1), (55, 1), (60, None), (16_000 * 3 + 90, 1), (15_990, 399), (16_030, 0)]
    assert ages([(1e12 + ms, number) for ms, number in seen], truth) == pytest.approx([10, 30, 30, 50])     # type: ignore[arg-type]


def test_a_way_that_is_none_is_named() -> None:
    assert ways_of(",".join(WAYS)) == list(WAYS)
    with pytest.raises(ValueError, match="--ways telepathy: must be of WebSocket"):
        ways_of("telepathy")
