"""`watchroom bench screen`: how old a picture is when Debian's Chromium shows it, and how long a click waits for the first one.

Simulated cameras are recorded by `watchroom serve`; each picture bears its number, which a page reads from what is on screen. Its age is
counted from when the camera sent it. By the server's page (WebSocket), hls.js, the browser's own HLS, and WebRTC (WHEP). No core is set
aside for anybody, and pictures are decoded by the CPU.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.chart import draw
from bench.chromium import WEBRTC, chromium
from bench.machine import allow_files, describe, orderly, steal_s
from bench.playback import share
from bench.report import Figure, about_line, add_report_arguments, figure_table, table, write_reports
from bench.site import Site, wait_until
from bench.subjects import remove

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Say = Callable[[str], None]
HERE = Path(__file__).parent
SCRIPTS = (HERE / "camsim" / "pattern.js", HERE / "screen.js")
HLS_JS = HERE.parent / "tests" / "media" / "hlsjs" / "hls.light.min.js"        # a source tree's
WAYS = ("WebSocket", "WHEP", "hls.js", "native HLS")
START_S, SETTLE_S = 300.0, 3.0
FIRST_MS = {"WebSocket": (400, 150), "WHEP": (600, 250)}        # click to first picture: must, aim


@dataclass(frozen=True, slots=True)
class Shown:
    """A way's measurement, all rising: click to first picture and age of pictures on screen in ms; pictures shown and sent; stolen CPU in
    percent. `error`: why there is none."""

    first_ms: list[float]
    ages_ms: list[float]
    pictures: int
    sent: int
    steal: float
    error: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--cameras", type=int, default=4, help="cameras that are recorded (4)")
    add("--size", default="1280x720", help="of their pictures (1280x720)")
    add("--kbps", type=int, default=2000, help="kbit/s of each (2000)")
    add("--ways", default=",".join(WAYS), help=f"some of {', '.join(WAYS)} (all)")
    add("--clicks", type=int, default=15, help="first pictures of each way (15)")
    add("--seconds", type=float, default=20.0, help="how long each way is watched then (20)")
    add("--folder", type=Path, help="where footage is written (a temporary folder there)")
    add("--cache", type=Path, help="where the simulation keeps its content")
    add_report_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and print; 1 if a way that is there showed nothing."""
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        ways = ways_of(args.ways)
    except ValueError as error:
        say(f"screen: {error}")
        return 2
    allow_files(65_536)
    with orderly():
        found = measure(args, ways, say)
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = report(found, about)
    write_reports(args, values={"about": about, "ways": {way: asdict(one) for way, one in found.items()}}, text=text, chart=chart(found))
    print(text)
    return int(any(not one.ages_ms for one in found.values()))


def ways_of(text: str) -> list[str]:
    """The ways that an option names. Raises ValueError."""
    names = text.split(",")
    for name in names:
        if name not in WAYS:
            raise ValueError(f"--ways {name}: must be of {', '.join(WAYS)}")
    return names


def measure(args: argparse.Namespace, ways: Sequence[str], say: Say) -> dict[str, Shown]:
    """One way after the other, on the first camera; hls.js only in a source tree."""
    root = Path(tempfile.mkdtemp(prefix="screen-", dir=args.folder))
    options = ["--count", str(args.cameras), "--size", args.size, "--bitrate", str(args.kbps)]
    try:
        with SimProcess([*options, *(["--cache", str(args.cache)] if args.cache else [])]) as sim:
            cameras = {f"cam-{n}": [f'main = {{ url = "{sim.url(n)}", kbps = {args.kbps} }}'] for n in range(args.cameras)}
            site = Site(root / "site", cameras, bytes_max=8 << 30, whole=True)
            try:
                with site, chromium(tuple(WEBRTC)) as browser:
                    wait_until(lambda: _recorded(site) == args.cameras, START_S, "all cameras recorded")
                    time.sleep(SETTLE_S)
                    return {way: _shown(browser, site, sim.truth(0), way, args, say) for way in ways if way != "hls.js" or HLS_JS.exists()}
            finally:
                site.clean()
    finally:
        remove(root)


def _recorded(site: Site) -> int:
    site.check_alive()
    store = site.store()
    try:
        return sum("main" in store.tracks(n) and store.track(n, "main").edges().visible_end_ns > 0 for n in store.cameras())
    finally:
        store.close()


def _shown(browser: "Browser", site: Site, truth: Truth, way: str, args: argparse.Namespace, say: Say) -> Shown:
    site.check_alive()
    steal, began = steal_s(), time.monotonic()
    context = browser.new_context(bypass_csp=True, viewport={"width": 1280, "height": 800})
    try:
        page = _page(context.new_page(), site.port, way)
        first = page.evaluate(f"(count) => clicks({json.dumps(way)}, 'cam-0', count)", args.clicks)
        say(f"{way}: first picture after {share(sorted(first), 50):.0f} ms (median); watching for {args.seconds:g} s")
        seen = page.evaluate("(seconds) => watched(window.shownVideo, seconds)", args.seconds)
    except Exception as error:      # the browser's words: this way is not there, or shows nothing; the others are measured
        say(f"{way}: {error}")
        return Shown([], [], 0, 0, 0.0, str(error).splitlines()[0])
    finally:
        context.close()
    stolen = round(100 * (steal_s() - steal) / (time.monotonic() - began), 1)
    sent = round(args.seconds * truth.clip.clock_rate / truth.clip.au_ticks)
    found = ages(seen, truth)
    return Shown(sorted(first), found, len(found), sent, stolen)


def _page(page: "Page", port: int, way: str) -> "Page":
    """A page of the server's with what the measurement needs: its own for the WebSocket, else an empty one."""
    page.goto(f"http://127.0.0.1:{port}/" + ("" if way == "WebSocket" else "healthz"))
    if way == "WebSocket":
        page.wait_for_selector("[data-camera=cam-0]")
    else:
        page.set_content("<!doctype html><title>Screen</title>")
    for script in (*SCRIPTS, *([HLS_JS] if way == "hls.js" else [])):
        page.add_script_tag(path=script)
    return page


def ages(seen: Sequence[Any], truth: Truth) -> list[float]:
    """Ms from when the camera sent each picture to when it was seen, rising; of pictures that could be read, each once.

    `seen`: (UTC in ms, number). Pictures are numbered anew with each loop, so an age of a loop (16 s) more would not be noticed.
    """
    clip, found, before = truth.clip, [], None
    loop_ms = clip.loop_ticks * 1000 / clip.clock_rate
    for at_ms, number in seen:
        if number is not None and number != before:
            found.append((at_ms - truth.base_wall_ns / 1e6 - number * clip.au_ticks * 1000 / clip.clock_rate) % loop_ms)
        before = number
    return sorted(found)


def figures(found: Mapping[str, Shown]) -> list[Figure]:
    """What is promised, and how it came out."""
    made = []
    for way, one in found.items():
        if one.ages_ms:
            must, aim = FIRST_MS.get(way, (None, None))
            made += [Figure(f"{way}: click to first picture, p50", share(one.first_ms, 50), "ms", must, aim),
                     Figure("the same, the longest", one.first_ms[-1], "ms"),
                     Figure(f"{way}: camera's send to picture in the page, p50", share(one.ages_ms, 50), "ms"),
                     Figure("the same, p99", share(one.ages_ms, 99), "ms")]
    return made


def report(found: Mapping[str, Shown], about: Mapping[str, str]) -> str:
    """Everything as Markdown."""
    rows = [[way, len(one.first_ms), one.pictures, one.sent, one.steal, one.error] for way, one in found.items()]
    return "\n\n".join([figure_table(figures(found)), table(["way", "clicks", "pictures seen", "pictures sent", "steal %", ""], rows),
                        about_line(about), ""])


def chart(found: Mapping[str, Shown]) -> str:
    """Ages by the share of pictures that were younger."""
    return draw({way: [(percent, share(one.ages_ms, percent)) for percent in range(1, 100)] for way, one in found.items() if one.ages_ms},
                "ms from camera to screen", "% of pictures")
