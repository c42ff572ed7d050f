"""What a browser cannot show the page says in words; Opus it plays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from bench.camsim.process import SimProcess
from bench.site import Site, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.live]
PATIENCE_MS = 120_000
SIM = ("--count", "2", "--codec", "h264,jpeg", "--audio", "opus,g726", "--size", "320x184", "--bitrate", "300")


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A wall of two cameras: H.264 with Opus, Motion JPEG with G.726."""
    with SimProcess([*SIM, "--cache", str(tmp_path / "clips")]) as sim:
        cameras = {f"cam{n}": [f'main = {{ url = "{sim.url(n)}", kbps = 600 }}'] for n in range(2)}
        with Site(tmp_path / "site", cameras, bytes_max=2 << 30, whole=True) as site:
            wait_until(lambda: _recording(site), 300, "both cameras recording")
            opened = browser.new_page(viewport={"width": 1280, "height": 800})
            opened.goto(f"http://127.0.0.1:{site.port}/")
            yield opened
            opened.close()
        site.clean()


def _recording(site: Site) -> bool:
    site.check_alive()
    store = site.store()
    try:
        return sum("main" in store.tracks(n) and store.track(n, "main").edges().visible_end_ns > 0 for n in store.cameras()) == 2
    finally:
        store.close()


def test_motion_jpeg_is_named_and_opus_plays(page: Page) -> None:
    said = "() => document.querySelector('[data-camera=cam1]').textContent.includes('Motion JPEG: this browser cannot show it')"
    page.wait_for_function(said, timeout=PATIENCE_MS)
    page.click("[data-camera=cam0]")
    page.wait_for_function("() => document.querySelector('#detail video')?.currentTime > 1", timeout=PATIENCE_MS)
    heard = "() => document.querySelector('#detail video')?.webkitAudioDecodedByteCount > 0"
    page.evaluate("() => { document.querySelector('#detail video').muted = false }")
    page.wait_for_function(heard, timeout=PATIENCE_MS)
    assert page.evaluate("() => document.querySelector('.note').textContent") == ""
