"""The page in a real browser: all tiles move, a click on the timeline plays from there, and nothing is complained about."""

import os
import signal
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page

from bench.site import Site, wait_until
from tests.browser.conftest import CAMERAS, PATIENCE_MS, Watched

pytestmark = [pytest.mark.browser, pytest.mark.live]

FRAMES = "() => [...document.querySelectorAll('.tile video')].map((v) => v.getVideoPlaybackQuality().totalVideoFrames)"
DETAIL_FRAMES = "() => document.querySelector('#detail video').getVideoPlaybackQuality().totalVideoFrames"
MOVED = """(before) => [...document.querySelectorAll('.tile video')]
    .every((v, i) => v.getVideoPlaybackQuality().totalVideoFrames > (before[i] ?? 0) + 10)"""
SHOWN_MS = "() => Number(document.querySelector('#detail output').dataset.ms)"


def all_move(page: Page) -> None:
    """Every tile shows at least ten more pictures."""
    page.wait_for_function(f"() => document.querySelectorAll('.tile').length === {CAMERAS}", timeout=PATIENCE_MS)
    page.wait_for_function(MOVED, arg=[0] * CAMERAS, timeout=PATIENCE_MS)
    page.wait_for_function(MOVED, arg=page.evaluate(FRAMES), timeout=PATIENCE_MS)


def test_all_tiles_move_at_once_over_one_socket(watched: Watched) -> None:
    all_move(watched.page)
    assert len(watched.sockets) == 1
    assert watched.page.inner_text("#summary") == f"{CAMERAS} of {CAMERAS} cameras recording"
    assert watched.complaints == []


def test_h265_cameras_show_their_h264_sub_track(watched: Watched) -> None:
    all_move(watched.page)
    tracks = {f"cam{n}": watched.page.get_attribute(f"[data-camera=cam{n}]", "data-track") for n in range(CAMERAS)}
    assert tracks == {f"cam{n}": "sub" if n % 2 else "main" for n in range(CAMERAS)}


def test_live_is_close_to_now(watched: Watched) -> None:
    watched.page.click("[data-camera=cam0]")
    watched.page.wait_for_function("() => document.querySelector('#detail video')?.currentTime > 0.5", timeout=PATIENCE_MS)
    lag_ms = watched.page.evaluate("() => Date.now() - Number(document.querySelector('#detail output').dataset.ms)")
    assert -200 < lag_ms < 3000
    assert watched.complaints == []


@pytest.mark.parametrize("camera", ["cam2", "cam3"])
def test_a_click_on_the_timeline_plays_from_there(watched: Watched, site: Site, camera: str) -> None:
    page, number = watched.page, site.numbers()[camera]
    wait_until(lambda: seconds_of(site, number) > 8, 300, "eight seconds of footage")
    page.click(f"[data-camera={camera}]")
    page.wait_for_function("() => document.querySelector('#detail video')?.currentTime > 0.3", timeout=PATIENCE_MS)
    box = page.locator("canvas.timeline").bounding_box()
    assert box is not None
    asked_ms = page.evaluate("() => Date.now()") - 6000
    shown = 10 * 60_000 + 5000   # what a fresh timeline shows, up to a little after now
    for _ in range(12):          # zoom in on now until six seconds are a good part of it
        page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + 20)
        page.mouse.wheel(0, -200)
        shown *= 0.8
    page.wait_for_timeout(500)
    page.mouse.click(box["x"] + box["width"] * (1 - 7500 / shown), box["y"] + 20)
    page.wait_for_selector("#detail video[data-state=playback]", timeout=PATIENCE_MS)
    page.wait_for_function("() => document.querySelector('#detail video')?.currentTime > 0.2", timeout=PATIENCE_MS)
    first_ms = page.evaluate(SHOWN_MS)
    assert abs(first_ms - asked_ms) < 8000, datetime.fromtimestamp(first_ms / 1000, UTC)
    frames = page.evaluate(DETAIL_FRAMES)
    page.wait_for_function(f"(n) => ({DETAIL_FRAMES})() > n + 15", arg=frames, timeout=PATIENCE_MS)
    assert page.evaluate(SHOWN_MS) > first_ms
    assert watched.complaints == []


def seconds_of(site: Site, camera: int) -> float:
    store = site.store()
    try:
        edges = store.track(camera, "main").edges()
        return (edges.visible_end_ns - edges.first_ns) / 1e9
    finally:
        store.close()


def test_g711_is_said_to_be_muted(watched: Watched) -> None:
    watched.page.click("[data-camera=cam1]")
    watched.page.wait_for_function("() => document.querySelector('.note')?.textContent.includes('G.711')", timeout=PATIENCE_MS)


def test_the_page_comes_back_by_itself_after_the_api_was_killed(watched: Watched, site: Site) -> None:
    all_move(watched.page)
    for pid in site.pids():
        with open(f"/proc/{pid}/cmdline") as line:
            if "\0_api\0" in line.read():
                os.kill(pid, signal.SIGKILL)
    watched.page.wait_for_function("() => document.querySelector('#summary').textContent.includes('lost')", timeout=PATIENCE_MS)
    watched.page.wait_for_function("() => document.querySelector('#summary').textContent.includes('cameras recording')", timeout=PATIENCE_MS)
    all_move(watched.page)
