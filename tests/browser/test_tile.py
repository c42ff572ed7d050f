"""A tile of the page: its track by its size, no black between two streams, the last picture's age, memory, acknowledgements, hidden pages."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from bench.camsim.process import SimProcess
from bench.site import Site, free_port, wait_until
from recorder.base.media import NS
from tests.browser.conftest import PATIENCE_MS

pytestmark = [pytest.mark.browser, pytest.mark.live]
GOP_S = 4
SIM = ("--gop", str(25 * GOP_S), "--size", "640x360", "--bitrate", "600", "--sub", "all", "--sub-size", "320x180", "--sub-bitrate", "200",
       "--start-key")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 560, "height": 800}       # the lone tile: 300 pixels wide, 530
TRACK = "(track) => document.querySelector('.tile').dataset.track === track && document.querySelector('.tile video').readyState >= 2"
FRAMES = "() => document.querySelector('.tile video').getVideoPlaybackQuality().totalVideoFrames"
MORE = "(n) => document.querySelector('.tile video').getVideoPlaybackQuality().totalVideoFrames > n"
WORDS = "() => document.querySelector('.tile .words').textContent"
WATCH_FOR_BLACK = """() => {
    window.black = 0;
    const video = document.querySelector('.tile video');
    let shown = true;       // a video keeps its last picture until it is given another source
    video.addEventListener('emptied', () => { shown = false; video.requestVideoFrameCallback(() => { shown = true; }); });
    const look = () => {
        const still = document.querySelector('.tile .still');
        window.black += !(shown || (still && !still.hidden && still.width > 0));
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
LUMA = """(selector) => {
    const from = document.querySelector(selector), canvas = new OffscreenCanvas(32, 18), context = canvas.getContext('2d');
    context.drawImage(from, 0, 0, 32, 18);
    const { data } = context.getImageData(0, 0, 32, 18);
    return data.filter((_, n) => n % 4 === 1).reduce((a, b) => a + b) / (32 * 18);
}"""


@dataclass
class Camera:
    """A simulated camera with a sub track that can be switched off, and the site that records it."""

    folder: Path
    port: int = field(default_factory=free_port)

    def on(self) -> SimProcess:
        """Switch it on: a context."""
        return SimProcess([*SIM, "--cache", str(self.folder / "clips"), "--port", str(self.port)])

    def site(self) -> Site:
        """What records it."""
        url = f"rtsp://127.0.0.1:{self.port}/cam0"
        lines = [f'main = {{ url = "{url}", kbps = 600 }}', f'sub = {{ url = "{url}/sub", kbps = 200 }}']
        return Site(self.folder / "site", {"cam0": lines}, bytes_max=2 << 30, whole=True)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    return Camera(tmp_path_factory.mktemp("tile"))


@pytest.fixture(scope="module")
def site(camera: Camera) -> Iterator[Site]:
    with camera.site() as made:
        yield made
    made.clean()


@pytest.fixture(scope="module")
def sim(camera: Camera, site: Site) -> Iterator[SimProcess]:
    """The camera, on, and both of its tracks recorded."""
    with camera.on() as process:
        until_recorded(site)
        yield process


def until_recorded(site: Site) -> None:
    """Both tracks have had pictures in the last second."""
    def recorded() -> bool:
        site.check_alive()
        store = site.store()
        try:
            ends = [store.track(number, name).edges().visible_end_ns for number in store.cameras() for name in store.tracks(number)]
        finally:
            store.close()
        return len(ends) == 2 and min(ends) > time.time_ns() - NS

    wait_until(recorded, 120, "both tracks recorded")


@dataclass
class Opened:
    """The page, and what it said to the server."""

    page: Page
    said: list[dict[str, Any]] = field(default_factory=list)

    def ops(self, op: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["op"] == op]


@pytest.fixture
def opened(browser: Browser, site: Site) -> Iterator[Callable[[dict[str, int]], Opened]]:
    pages = []

    def open_in(viewport: dict[str, int]) -> Opened:
        page = browser.new_page(viewport=viewport)     # type: ignore[arg-type]
        pages.append(page)
        seen = Opened(page)
        page.on("websocket", lambda socket: socket.on("framesent", lambda text: seen.said.append(json.loads(text))))
        page.goto(f"http://127.0.0.1:{site.port}/")
        return seen

    yield open_in
    for page in pages:
        page.close()


def moves(page: Page) -> None:
    page.wait_for_function(MORE, arg=page.evaluate(FRAMES) + 10, timeout=PATIENCE_MS)


@pytest.mark.usefixtures("sim")
def test_a_tile_that_grows_changes_its_track_and_is_never_black(opened: Any) -> None:
    page = opened(WIDE).page
    page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    page.evaluate(WATCH_FOR_BLACK)
    for viewport, track in ((NARROW, "main"), (WIDE, "sub")):
        page.set_viewport_size(viewport)
        page.wait_for_function(TRACK, arg=track, timeout=PATIENCE_MS)
        page.wait_for_function("() => document.querySelector('.tile .still').hidden", timeout=PATIENCE_MS)
    moves(page)
    assert page.evaluate("() => window.black") == 0


@pytest.mark.usefixtures("sim")
def test_a_small_change_of_size_asks_for_nothing(opened: Any) -> None:
    seen = opened(WIDE)
    seen.page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    seen.page.set_viewport_size({"width": 1330, "height": 800})
    seen.page.wait_for_timeout(1500)
    assert [(ask["width"] > 250, "start" in ask) for ask in seen.ops("subscribe")] == [(True, False)]


@pytest.mark.usefixtures("sim")
def test_long_picture_groups_are_let_go_one_by_one_and_the_picture_goes_on(opened: Any) -> None:
    """A removal in the middle of a group takes all of it, up to the next access point: what is shown would go too."""
    page = opened(WIDE).page
    page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    page.evaluate("""() => {
        const video = document.querySelector('.tile video');
        const held = () => [...Array(video.buffered.length).keys()].map((n) => [video.buffered.start(n), video.buffered.end(n)]);
        window.told = { longest: 0, outside: 0, keys: new Set() };
        setInterval(() => {
            const [now, ranges] = [video.currentTime, held()];
            window.told.longest = Math.max(window.told.longest, ranges.at(-1)[1] - ranges[0][0]);
            window.told.outside += !ranges.some(([start, end]) => start <= now && now <= end + 0.1);
            window.told.keys.add(Math.round(ranges[0][0]));
        }, 50);
    }""")
    page.wait_for_function("() => window.told.keys.size > 3", timeout=PATIENCE_MS)
    longest_s, outside = page.evaluate("() => [window.told.longest, window.told.outside]")
    assert longest_s < 2 * GOP_S + 3
    assert outside == 0, "what is on screen has been removed"
    moves(page)
    lag_s = page.evaluate("() => { const video = document.querySelector('.tile video'); return video.buffered.end(0) - video.currentTime; }")
    assert lag_s < 2.5, "a second of it is what the newest picture is said to last"


@pytest.mark.usefixtures("sim")
def test_a_hidden_page_lets_its_tiles_go_and_shows_their_last_picture_when_it_comes_back(opened: Any) -> None:
    seen = opened(WIDE)
    page = seen.page
    page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    moves(page)
    hide = """(hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(2000)
    assert seen.ops("unsubscribe") == [], "a glance at another page costs nothing"
    page.wait_for_function("() => document.querySelector('.tile .words').textContent === 'paused'", timeout=PATIENCE_MS)
    assert len(seen.ops("unsubscribe")) == 1
    assert page.evaluate(LUMA, ".tile .still") > 30
    page.evaluate(hide, False)
    page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    moves(page)
    assert len(seen.ops("subscribe")) == 2


@pytest.mark.usefixtures("sim")
def test_tiles_out_of_view_are_not_fed(opened: Any) -> None:
    seen = opened(WIDE)
    seen.page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    seen.page.evaluate("() => { document.querySelector('.tile').style.marginTop = '3000px' }")
    seen.page.wait_for_function("() => document.querySelector('.tile .words').textContent === 'paused'", timeout=PATIENCE_MS)
    seen.page.fill("#find", "no such camera")
    seen.page.evaluate("() => { document.querySelector('.tile').style.marginTop = '' }")
    seen.page.wait_for_timeout(500)
    assert (len(seen.ops("subscribe")), len(seen.ops("unsubscribe"))) == (1, 1)
    seen.page.fill("#find", "")
    seen.page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    assert len(seen.ops("subscribe")) == 2


def test_a_camera_that_is_gone_keeps_its_last_picture_and_says_how_old_it_is(camera: Camera, sim: SimProcess, opened: Any) -> None:
    """The last test here: it switches the camera off."""
    page = opened(WIDE).page
    page.wait_for_function(TRACK, arg="sub", timeout=PATIENCE_MS)
    moves(page)
    bright = page.evaluate(LUMA, ".tile video")
    sim.close()
    page.wait_for_selector(".tile[data-state=offline]", timeout=PATIENCE_MS)
    aged = r"() => /offline since .*: .+\nlast picture .*, \d+ (s|min) ago/.test(document.querySelector('.tile .words').textContent)"
    page.wait_for_function(aged, timeout=PATIENCE_MS)
    first = page.evaluate(WORDS)
    page.wait_for_function("(first) => document.querySelector('.tile .words').textContent !== first", arg=first, timeout=PATIENCE_MS)
    assert abs(page.evaluate(LUMA, ".tile video") - bright) < 40
    assert "grayscale" in page.evaluate("() => getComputedStyle(document.querySelector('.tile video')).filter")
    with camera.on():
        page.wait_for_selector(".tile[data-state=live]", timeout=PATIENCE_MS)
        page.wait_for_function("() => document.querySelector('.tile .words').textContent === ''", timeout=PATIENCE_MS)
        moves(page)
        assert page.evaluate("() => getComputedStyle(document.querySelector('.tile video')).filter") == "none"
