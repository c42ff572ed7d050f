"""Eight simulated cameras, a server, and Debian's Chromium: every part real, each in its own process."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import bench.camsim
from bench.camsim.process import SimProcess
from bench.chromium import ARGUMENTS, CHROMIUM
from bench.site import Site, wait_until

PATTERN = Path(bench.camsim.__file__).parent / "pattern.js"
CAMERAS = 8
PATIENCE_MS = 120_000       # what takes longer hangs
SIM = ("--count", str(CAMERAS), "--codec", "h264,h265", "--audio", "aac,pcma", "--sub", "h265", "--size", "640x360", "--bitrate", "600",
       "--sub-size", "320x180", "--sub-bitrate", "200")


@dataclass
class Watched:
    """A page, everything it complained about, and the WebSockets it opened."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """Four H.264 cameras with AAC, four H.265 ones with G.711 and an H.264 sub track."""
    with SimProcess([*SIM, "--cache", str(tmp_path_factory.mktemp("browser-clips"))]) as process:
        yield process


@pytest.fixture(scope="session")
def site(sim: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that records them, a few seconds in."""
    cameras = {}
    for number in range(CAMERAS):
        lines = [f'name = "Camera {number}"', f'main = {{ url = "{sim.url(number)}", kbps = 600 }}']
        if number % 2:
            lines.append(f'sub = {{ url = "{sim.url(number, sub=True)}", kbps = 200 }}')
        cameras[f"cam{number}"] = lines
    made = Site(tmp_path_factory.mktemp("browser-site"), cameras, bytes_max=2 << 30, whole=True)
    with made:
        wait_until(lambda: _recording(made), 300, "eight cameras recording")
        yield made
    made.clean()


def _recording(site: Site) -> bool:
    site.check_alive()
    store = site.store()
    try:
        numbers = [number for number in store.cameras() if "main" in store.tracks(number)]
        return sum(store.track(number, "main").edges().visible_end_ns > 0 for number in numbers) == CAMERAS
    finally:
        store.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    assert Path(CHROMIUM).exists(), "Debian's chromium is missing: make test installs it"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def watched(browser: Browser, site: Site) -> Iterator[Watched]:
    """The wall, opened; what the console and the network say is kept."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    seen = Watched(page)
    page.on("console", lambda message: seen.complaints.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("requestfailed", lambda request: seen.complaints.append(f"failed: {request.url}"))
    page.on("websocket", lambda socket: seen.sockets.append(socket.url))
    page.goto(f"http://127.0.0.1:{site.port}/")
    yield seen
    page.close()
