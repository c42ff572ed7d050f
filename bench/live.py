"""`watchroom bench live`: how long after its arrival a picture leaves the server for who watches now, and what a viewer costs.

Tiles of one WebSocket, then low-latency HLS, each of another camera of those that are recorded; then viewers of one camera over RTSP; with
`--same`, that many who watch one camera, a WebSocket each. A picture's age when its bytes come counts from when its camera sent it
(bench/late.py). Nobody watches in the first window.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.camsim.process import SimProcess
from bench.chart import draw
from bench.crowded import SAMPLED, Crowded
from bench.late import Ages, late_ms
from bench.load import Load, numbers
from bench.machine import allow_files, describe, orderly, sample, steal_s
from bench.playback import readers_core, share
from bench.report import Figure, about_line, add_report_arguments, figure_table, table, write_reports
from bench.site import Site, wait_until
from bench.subjects import RECORDER_CORE, SIM_CORE, Bench, recorded, remove, site_of, tape_loss, tracks
from bench.viewers import hls_viewer, rtsp_viewer, tile_viewer
from bench.window import START_TIMEOUT_S, Plan, playing

CROWD, CROWD_MAX = " of one camera", 2000
Say = Callable[[str], None]
Viewers = Callable[[int, int, Ages], Coroutine[None, None, None]]       # port, how many, where ages in ms go


@dataclass(frozen=True, slots=True)
class Watched:
    """A window: percent of one core of worker and API, the ages in ms of what came (rising), stolen CPU in percent, how many more or fewer
    bytes a viewer got than the middle one, at worst, in percent, and what that one got in kbit/s (0: not looked at)."""

    viewers: int
    worker: float
    api: float
    ages_ms: list[float]
    steal: float
    spread: float = 0.0
    kbps: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--cameras", type=int, default=64, help="cameras that are recorded (64)")
    add("--kbps", type=int, default=2000, help="kbit/s of each (2000)")
    add("--viewers", type=int, default=16, help="tiles, then players of HLS, then viewers over RTSP (16)")
    add("--same", default="",
        help="viewers of one camera: 200, or several numbers with commas, each a window (none); no core is set aside then")
    add("--watched-ms", type=int, default=8, help="how often what is watched is received and published (8; 40: as often as all else)")
    add("--seconds", type=float, default=20.0, help="length of a window (20)")
    add("--folder", type=Path, help="where footage is written (a temporary folder there)")
    add("--cache", type=Path, help="where the simulation keeps its content")
    add_report_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and print; 1 if an AU was lost."""
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        crowds = numbers("--same", args.same, 1, CROWD_MAX) if args.same else []
    except ValueError as error:
        say(f"live: {error}")
        return 2
    allow_files(65_536)
    with orderly(), readers_core():
        windows, loss = measure(args, crowds, say)
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = report(windows, loss, about)
    write_reports(args, values={"about": about, "windows": {name: asdict(one) for name, one in windows.items()}, "loss": loss}, text=text,
                  chart=chart(windows))
    print(text)
    return int(any(loss.get(key, 0) for key in ("missing", "wrong", "dropped")))


def measure(args: argparse.Namespace, crowds: Sequence[int], say: Say) -> tuple[dict[str, Watched], dict[str, int]]:
    """The windows by what was watched with, and the tapes compared afterwards."""
    load, viewers = Load(args.cameras, args.kbps), min(args.viewers, args.cameras)
    root = Path(tempfile.mkdtemp(prefix="live-", dir=args.folder))
    try:
        with SimProcess([*load.sim_options(args.cache), "--timeout", "120"], core=SIM_CORE) as sim:
            bench = Bench(sim, load, Plan(10.0, args.seconds, 3 + len(crowds), say), root / "site", whole=True,
                          core=None if crowds else RECORDER_CORE, recording=(f"watched_ms = {args.watched_ms}",))
            bench.folder.mkdir()
            site = site_of(bench)
            try:
                with site:
                    wait_until(lambda: len(playing(sim, 0)) >= load.cameras and recorded(site, load) >= load.cameras, START_TIMEOUT_S,
                               "all cameras recorded")
                    time.sleep(bench.plan.warm_up_s)
                    late = late_ms(site, load)
                    say(f"{load.cameras} cameras record; nobody watches, then {viewers} tiles, then {viewers} players of HLS, then "
                        f"{args.viewers} viewers over RTSP")
                    windows = {"nobody": _window(site, late, None, 0, args.seconds),
                               "WebSocket": _window(site, late, tile_viewer, viewers, args.seconds),
                               "HLS": _window(site, late, hls_viewer, viewers, args.seconds),
                               "RTSP": _window(site, late, rtsp_viewer, args.viewers, args.seconds)}
                    for count in crowds:
                        say(f"{count} watch one camera")
                        windows[f"{count}{CROWD}"] = _crowd(site, late, count, args.seconds)
                    dropped = sum(track["dropped_aus"] for _, track in tracks(site, load))
                return windows, tape_loss(site, bench, 0) | {"dropped": dropped}
            finally:
                site.clean()
    finally:
        remove(root)


def _window(site: Site, late: dict[str, float], viewers: Viewers | None, count: int, seconds: float) -> Watched:
    site.check_alive()
    ages = Ages(late)
    steal = steal_s()
    worker, api = asyncio.run(_watch(site, viewers, count, seconds, ages))
    return Watched(count, worker, api, sorted(ages), round(100 * (steal_s() - steal) / seconds, 1))


def _crowd(site: Site, late: dict[str, float], count: int, seconds: float) -> Watched:
    crowded = Crowded()
    found = _window(site, late, crowded.watch, count, seconds)
    return replace(found, spread=crowded.spread(count - SAMPLED), kbps=crowded.kbps())


async def _watch(site: Site, viewers: Viewers | None, count: int, seconds: float, ages: Ages) -> tuple[float, float]:
    port = site.rtsp_port if viewers is rtsp_viewer else site.port
    task = asyncio.create_task(viewers(port, count, ages)) if viewers is not None else None
    await asyncio.sleep(5.0 + count / 50)        # until all have begun
    ages.clear()
    workers, apis = site.worker_pids(), site.api_pids()
    before, api_before = sample(workers), sample(apis)
    await asyncio.sleep(seconds)
    after, api_after = sample(workers), sample(apis)
    if task is not None:
        if task.done():
            await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    lasted = after.mono_s - before.mono_s
    return round(100 * (after.cpu_s - before.cpu_s) / lasted, 2), round(100 * (api_after.cpu_s - api_before.cpu_s) / lasted, 2)


def figures(windows: Mapping[str, Watched]) -> list[Figure]:
    """What is promised of who watches live, and how it came out."""
    nobody, tiles, players, relayed = windows["nobody"], windows["WebSocket"], windows["HLS"], windows["RTSP"]

    def each(one: Watched, of: str) -> float:
        return float(getattr(one, of) - getattr(nobody, of)) / one.viewers

    crowds = [(name, one) for name, one in windows.items() if name.endswith(CROWD)]
    return [
        Figure("WebSocket: picture in to byte out, p50", share(tiles.ages_ms, 50), "ms", 120, 40),
        Figure("the same, p99", share(tiles.ages_ms, 99), "ms"),
        Figure("low-latency HLS: newest picture of a part in to byte out, p50", share(players.ages_ms, 50), "ms", 1500, 800),
        Figure("the same, p99", share(players.ages_ms, 99), "ms"),
        Figure("CPU of the API for a tile, % of a core", each(tiles, "api"), "", 0.4, 0.2),
        Figure("CPU of the worker for a camera that is watched, % of a core", each(tiles, "worker"), ""),
        Figure("CPU of the API for a player of HLS, % of a core", each(players, "api"), ""),
        Figure("RTSP: picture in to byte out, p50", share(relayed.ages_ms, 50), "ms"),
        Figure("the same, p99", share(relayed.ages_ms, 99), "ms"),
        Figure("CPU of the API for a viewer over RTSP, % of a core", each(relayed, "api"), "", 0.4, 0.2),
        *(figure for name, one in crowds for figure in (
            Figure(f"{name}: picture in to byte out, p50", share(one.ages_ms, 50), "ms", 120, 40),
            Figure("the same, p99", share(one.ages_ms, 99), "ms"),
            Figure("the same: CPU of the API for a viewer, % of a core", each(one, "api"), "", 0.4, 0.2))),
    ]


def report(windows: Mapping[str, Watched], loss: Mapping[str, int], about: Mapping[str, str]) -> str:
    """Everything as Markdown."""
    rows = [[name, one.viewers, one.worker, one.api, len(one.ages_ms), one.kbps, one.spread, one.steal] for name, one in windows.items()]
    heads = ["watched with", "viewers", "worker %", "API %", "pieces", "kbit/s each", "bytes apart %", "steal %"]
    return "\n\n".join([figure_table(figures(windows)), table(heads, rows),
                        f"AUs lost: {loss['missing'] + loss['wrong']} of {loss['expected']} on the tapes; {loss['dropped']} dropped by the "
                        "recorder.", about_line(about), ""])


def chart(windows: Mapping[str, Watched]) -> str:
    """Ages by the share of pieces that were younger."""
    lines: dict[str, Sequence[tuple[int, float]]] = {
        name: [(percent, share(one.ages_ms, percent)) for percent in range(1, 100)] for name, one in windows.items() if one.ages_ms}
    return draw({name: list(line) for name, line in lines.items()}, "ms from picture in to byte out", "% of pieces")
