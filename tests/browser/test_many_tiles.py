"""64 cameras on one page: all move at the same time over one connection, and one whose consumer has stopped is noticed by no other."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from bench.camsim.process import SimProcess
from bench.camsim.spec import LOOP_S
from bench.site import Site, wait_until
from tests.browser.conftest import PATIENCE_MS
from tests.browser.reader import can_read, newer, shown

pytestmark = [pytest.mark.browser, pytest.mark.live]

CAMERAS, FPS, GOP = 64, 5, 10
LOOP = LOOP_S * FPS
ROUNDS, LOOK_MS, LOOKS = 8, 500, 120
SIM = ("--count", str(CAMERAS), "--size", "160x96", "--fps", str(FPS), "--gop", str(GOP), "--bitrate", "64")
SCREEN = {"width": 2560, "height": 1600}
CREDIT = "64 << 10"       # of a tile, in place of the page's: 8 s of pictures
STOPPED = "cam17"
# The SourceBuffer of the tile is busy for ever: what a decoder that hangs looks like to the page.
STOP = """(camera) => {
    const video = document.querySelector(`[data-camera=${camera}] video`);
    Object.defineProperty(window.sources.get(video.src).sourceBuffers[0], 'updating', { get: () => true });
}"""
KEEP_SOURCES = """
    window.sources = new Map();
    const made = URL.createObjectURL;
    URL.createObjectURL = (of) => { const url = made(of); window.sources.set(url, of); return url; };
"""


@dataclass
class Wall:
    """The page, its sockets, and the bytes of acknowledgements by tile."""

    page: Page
    sockets: list[str] = field(default_factory=list)
    tiles: dict[int, str] = field(default_factory=dict)
    acked: dict[str, int] = field(default_factory=dict)

    def said(self, text: str) -> None:
        message: dict[str, Any] = json.loads(text)
        if message["op"] == "subscribe":
            self.tiles[message["tile"]] = message["camera"]
        if message["op"] == "ack":
            camera = self.tiles[message["tile"]]
            self.acked[camera] = self.acked.get(camera, 0) + message["bytes"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All of them recorded."""
    with SimProcess([*SIM, "--cache", str(tmp_path_factory.mktemp("many-clips"))]) as sim:
        cameras = {f"cam{n}": [f'main = {{ url = "{sim.url(n)}", kbps = 64 }}'] for n in range(CAMERAS)}
        with Site(tmp_path_factory.mktemp("many-site"), cameras, bytes_max=4 << 30, whole=True) as site:
            wait_until(lambda: _recorded(site) == CAMERAS, 300, "all cameras recorded")
            yield site
        site.clean()


def _recorded(site: Site) -> int:
    site.check_alive()
    store = site.store()
    try:
        return sum("main" in store.tracks(n) and store.track(n, "main").edges().visible_end_ns > 0 for n in store.cameras())
    finally:
        store.close()


@pytest.fixture
def wall(browser: Browser, many: Site) -> Iterator[Wall]:
    context = browser.new_context(viewport=SCREEN, bypass_csp=True)   # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(KEEP_SOURCES)
    made = Wall(page)
    page.route("**/tile.js", scarce)
    page.on("websocket", lambda socket: (made.sockets.append(socket.url), socket.on("framesent", made.said)))
    page.goto(f"http://127.0.0.1:{many.port}/")
    can_read(page)
    ready = "(n) => [...document.querySelectorAll('.tile video')].filter((v) => v.readyState >= 2 && !v.paused).length === n"
    page.wait_for_function(ready, arg=CAMERAS, timeout=PATIENCE_MS)
    yield made
    context.close()


def scarce(route: Route) -> None:
    """The page's tiles with little credit."""
    answer = route.fetch()
    assert answer.text().count("const CREDIT = 4 << 20;") == 1
    route.fulfill(response=answer, body=answer.text().replace("4 << 20", CREDIT))


def until(page: Page, done: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    for _ in range(LOOKS):
        if done():
            return
        page.wait_for_timeout(LOOK_MS)


def still(page: Page, besides: Sequence[str] = ()) -> list[str]:
    """Cameras that show no newer picture than now, however long one waits."""
    before, waiting = shown(page), [f"cam{n}" for n in range(CAMERAS)]
    for _ in range(LOOKS):
        page.wait_for_timeout(LOOK_MS)
        behind = newer(before, shown(page), LOOP, besides)
        waiting = [camera for camera in waiting if camera in behind]
        if not waiting:
            break
    return waiting


def test_64_tiles_move_at_the_same_time_over_one_connection(wall: Wall) -> None:
    assert len(shown(wall.page)) == CAMERAS
    for _ in range(ROUNDS):
        assert still(wall.page) == []
    assert len(wall.sockets) == 1


def test_the_other_63_do_not_notice_a_tile_whose_consumer_has_stopped(wall: Wall) -> None:
    wall.page.evaluate(STOP, STOPPED)
    wall.acked.clear()
    wall.page.wait_for_timeout(2000)
    last = shown(wall.page)[STOPPED]
    for _ in range(ROUNDS):
        assert still(wall.page, [STOPPED]) == []
        assert shown(wall.page)[STOPPED] == last is not None, "it shows its last picture"
    until(wall.page, lambda: len(wall.acked) >= CAMERAS - 1)
    assert set(wall.acked) == {f"cam{n}" for n in range(CAMERAS)} - {STOPPED}, "it has no credit left, and takes nobody else's"


def test_what_newer_means() -> None:
    before, after = {"a": 79, "b": 5, "c": 5, "d": None, "e": 6, "f": 5}, {"a": 0, "b": 5, "c": 4, "d": 1, "e": None, "f": 9}
    assert newer(before, after, 80, ["e"]) == ["b", "c", "d"]
