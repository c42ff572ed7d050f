"""WHEP between a real recorder and what others wrote: Debian's Chromium, and aiortc."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from playwright.sync_api import Browser, Page

from bench.camsim import pattern
from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from tests.browser.conftest import PATTERN
from tests.browser.lossy import LossyWay

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
PLAYER = HERE.parent / "media" / "player.js"
SECONDS, FPS, LOOP = 8, 25, 400
SIM = ("--count", "4", "--codec", "h264,h264,h265,h264", "--audio", "opus,pcma,none,none", "--size", "640x360", "--bitrate", "1500",
       "--sub", "h265", "--sub-size", "320x180", "--sub-bitrate", "300")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Cameras with Opus, G.711, H.265 with an H.264 sub stream, and none of these."""
    folder = tmp_path_factory.mktemp("whep-site")
    with SimProcess([*SIM, "--cache", str(tmp_path_factory.mktemp("whep-clips"))]) as sim:
        cameras = {f"cam{n}": [f'main = {{ url = "{sim.url(n)}", kbps = 1500 }}',
                               *([f'sub = {{ url = "{sim.url(n, sub=True)}", kbps = 300 }}'] * (n == 2))]
                   for n in range(4)}
        made = Site(folder, cameras, bytes_max=2 << 30, whole=True)
        with made:
            wait_until(lambda: _recording(made), 300, "four cameras recording")
            yield made
        made.clean()


def _recording(site: Site) -> bool:
    site.check_alive()
    store = site.store()
    try:
        numbers = [number for number in store.cameras() if "main" in store.tracks(number)]
        return sum(store.track(number, "main").edges().visible_end_ns > 0 for number in numbers) == 4
    finally:
        store.close()


def equip(page: Page) -> None:
    """Put the players into a page."""
    for script in (PATTERN, PLAYER, HERE / "whep.js"):
        page.add_script_tag(path=script)


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page of the server with the players in it."""
    context = browser.new_context(bypass_csp=True)
    made = context.new_page()
    made.goto(f"http://127.0.0.1:{site.port}/healthz")
    made.set_content("<!doctype html><title>Player</title>")
    equip(made)
    yield made
    context.close()


def rising(numbers: list[int]) -> bool:
    """True if every picture is a later one; the simulation's content goes round."""
    return all(0 < (b - a) % LOOP < LOOP // 2 for a, b in pairwise(numbers) if a != b)


@pytest.mark.parametrize("camera", ["cam0", "cam1", "cam2", "cam3"])
def test_chromium_plays_a_camera(page: Page, camera: str, record_property: Callable[[str, object], None]) -> None:
    """Every picture is decoded, later than the one before and whole; nothing freezes; the end is told."""
    seen, first_ms, before, after, session = page.evaluate(f"""async () => {{
        const video = await byWhep("{camera}");
        const before = await inbound(video.pc, "video");
        const seen = await live(video, {SECONDS});
        return [seen, video.firstMs, before, await inbound(video.pc, "video"), video.session];
    }}""")
    numbers = [number for _, number in seen]
    assert None not in numbers
    assert rising(numbers) and len(set(numbers)) > SECONDS * FPS // 2
    assert after["framesDecoded"] - before["framesDecoded"] >= SECONDS * FPS * 0.9
    assert after["framesReceived"] - after["framesDecoded"] - after["framesDropped"] <= 5
    assert after["packetsLost"] == 0
    told = page.evaluate(f"async () => (await fetch('{session}')).json()")
    assert (told["state"], told["track"], told["pictures"]) == ("playing", "sub" if camera == "cam2" else "main", "all")
    assert page.evaluate(f"async () => (await fetch('{session}', {{ method: 'DELETE' }})).status") == 200
    assert page.evaluate(f"async () => (await (await fetch('{session}')).json()).state") == "ended"
    record_property("ms to the first picture", round(first_ms))
    record_property("freezes", after["freezeCount"])


def test_chromium_loses_no_picture_when_the_way_loses_three_percent(page: Page, site: Site) -> None:
    """What was lost is asked for and comes again, as RTX; the decoder misses nothing."""
    with LossyWay(site.webrtc_port, 0.03) as way:
        seen, before, after, session = page.evaluate(f"""async () => {{
            const video = await byWhep("cam3", false, {way.port});
            const before = await inbound(video.pc, "video");
            const seen = await live(video, {SECONDS});
            return [seen, before, await inbound(video.pc, "video"), video.session];
        }}""")
        told = page.evaluate(f"async () => (await fetch('{session}')).json()")
    numbers = [number for _, number in seen]
    assert way.lost > 20
    assert None not in numbers and rising(numbers)
    assert after["framesDecoded"] - before["framesDecoded"] >= SECONDS * FPS * 0.9
    assert after["retransmittedPacketsReceived"] > 10 and told["repaired"] >= after["retransmittedPacketsReceived"]
    assert after["packetsLost"] - after["retransmittedPacketsReceived"] <= 2        # those of the last moment
    assert told["pictures"] == "all"


@pytest.mark.parametrize(("camera", "samples"), [("cam0", 48_000), ("cam1", 8_000)])
def test_chromium_hears_the_camera(page: Page, camera: str, samples: int) -> None:
    """Opus and G.711 as they were recorded; the browser plays hardly a sample that it had to invent."""
    sound = page.evaluate(f"""async () => {{
        const video = await byWhep("{camera}");
        await live(video, 3);
        const before = await inbound(video.pc, "audio");
        await live(video, 4);
        const after = await inbound(video.pc, "audio");
        video.pc.close();
        return {{ got: after.totalSamplesReceived - before.totalSamplesReceived, invented: after.concealedSamples - before.concealedSamples }};
    }}""")
    assert sound["got"] > 3 * samples
    assert sound["invented"] < 0.1 * sound["got"]


def test_a_page_that_is_closed_ends_its_session(browser: Browser, page: Page, site: Site) -> None:
    """DTLS says goodbye for it."""
    context = browser.new_context(bypass_csp=True)
    other = context.new_page()
    other.goto(f"http://127.0.0.1:{site.port}/healthz")
    other.set_content("<!doctype html>")
    equip(other)
    session = other.evaluate("async () => { window.video = await byWhep('cam3'); video.pc.close(); return video.session; }")
    deadline = time.monotonic() + 20
    while page.evaluate(f"async () => (await (await fetch('{session}')).json()).state") != "ended":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    context.close()


def test_aiortc_decodes_a_camera(site: Site) -> None:
    """All pictures bear rising numbers, through aiortc's own ICE, DTLS, depacketiser and decoder. In a thread: Chromium's has a loop."""
    with ThreadPoolExecutor(1) as pool:
        numbers = pool.submit(asyncio.run, _decoded(site, 100)).result()
    assert None not in numbers[5:]
    assert rising([number for number in numbers if number is not None])


async def _decoded(site: Site, count: int) -> list[int | None]:
    """The numbers in so many pictures."""
    connection = RTCPeerConnection()
    numbers: list[int | None] = []
    done = asyncio.Event()

    @connection.on("track")
    async def on_track(track):
        while len(numbers) < count and track.kind == "video":
            numbers.append(pattern.read((await track.recv()).to_ndarray(format="gray")))
        done.set()

    connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    ours = {"Origin": f"http://127.0.0.1:{site.port}", "Content-Type": "application/sdp"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{site.port}", headers=ours) as client:
        async with client.post("/api/v1/cameras/cam3/whep", data=connection.localDescription.sdp) as reply:
            assert reply.status == 201, await reply.text()
            answer, session = await reply.text(), reply.headers["Location"]
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(60):
            await done.wait()
        async with client.delete(session) as reply:
            assert reply.status == 200
    await connection.close()
    return numbers
