"""`watchroom bench whep`: what viewers by WebRTC cost, and how long after its arrival a picture leaves the server for them.

Some that watch a camera each, then more and more that all watch the same one, while many cameras are recorded. A viewer does ICE, DTLS and RTCP
as a browser does and counts datagrams. A picture's UTC, by the sender reports, is that of its arrival. Nobody watches in the first window.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from bench.camsim.process import SimProcess
from bench.late import late_ms
from bench.load import Load
from bench.machine import allow_files, describe, orderly, sample, steal_s
from bench.playback import readers_core, share
from bench.report import Figure, about_line, add_report_arguments, figure_table, table, write_reports
from bench.site import Site, wait_until
from bench.subjects import SIM_CORE, Bench, recorded, remove, site_of, tape_loss, tracks
from bench.webrtc_viewer import WebrtcViewer
from bench.window import START_TIMEOUT_S, Plan, playing
from recorder.webrtc.dtls import Identity

Say = Callable[[str], None]
SETTLE_S = 7.0          # a sender report comes every 5 s
AT_ONCE = 16            # sessions that are begun at the same time


@dataclass(frozen=True, slots=True)
class Window:
    """Percent of one core of worker, API and viewers; ages of pictures in ms (rising); packets sent to viewers, and those that did not come."""

    viewers: int
    worker: float
    api: float
    own: float
    ages_ms: list[float]
    packets: int
    missing: int
    steal: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--cameras", type=int, default=64, help="cameras that are recorded (64)")
    add("--kbps", type=int, default=2000, help="kbit/s of each (2000)")
    add("--apart", type=int, default=16, help="viewers that watch a camera each (16; 0: none)")
    add("--same", default="50,200", help="viewers of one camera, window by window (50,200)")
    add("--seconds", type=float, default=20.0, help="length of a window (20)")
    add("--folder", type=Path, help="where footage is written (a temporary folder there)")
    add("--cache", type=Path, help="where the simulation keeps its content")
    add_report_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and print; 1 if an AU was lost."""
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    allow_files(65_536)
    with orderly(), readers_core():
        windows, loss = measure(args, say)
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = report(windows, loss, about)
    write_reports(args, values={"about": about, "windows": {name: asdict(one) for name, one in windows.items()}, "loss": loss}, text=text)
    print(text)
    return int(any(loss.get(key, 0) for key in ("missing", "wrong", "dropped")))


def measure(args: argparse.Namespace, say: Say) -> tuple[dict[str, Window], dict[str, int]]:
    """The windows by who watched, and the tapes compared afterwards."""
    load = Load(args.cameras, args.kbps)
    apart, counts = min(args.apart, args.cameras), [int(one) for one in str(args.same).split(",") if one]
    root = Path(tempfile.mkdtemp(prefix="whep-", dir=args.folder))
    try:
        with SimProcess([*load.sim_options(args.cache), "--timeout", "120"], core=SIM_CORE) as sim:
            bench = Bench(sim, load, Plan(10.0, args.seconds, 3 + len(counts), say), root / "site", whole=True)
            bench.folder.mkdir()
            site = site_of(bench)
            try:
                with site:
                    wait_until(lambda: len(playing(sim, 0)) >= load.cameras and recorded(site, load) >= load.cameras, START_TIMEOUT_S,
                               "all cameras recorded")
                    time.sleep(bench.plan.warm_up_s)
                    windows = _windows(site, late_ms(site, load), apart, counts, args.seconds, say)
                    dropped = sum(track["dropped_aus"] for _, track in tracks(site, load))
                return windows, tape_loss(site, bench, 0) | {"dropped": dropped}
            finally:
                site.clean()
    finally:
        remove(root)


def _windows(site: Site, late: dict[str, float], apart: int, counts: list[int], seconds: float, say: Say) -> dict[str, Window]:
    wanted = {"nobody": [], "a camera each": [f"cam-{n}" for n in range(apart)],
              **{f"{count} one camera": ["cam-0"] * count for count in counts}}
    found = {}
    for name, cameras in wanted.items():
        if cameras or name == "nobody":
            site.check_alive()
            found[name] = asyncio.run(_window(site, late, cameras, seconds))
            one = found[name]
            say(f"{name}: API {one.api} %, worker {one.worker} %, viewers {one.own} %, p50 {share(one.ages_ms, 50)} ms")
    return found


async def _window(site: Site, late: dict[str, float], cameras: list[str], seconds: float) -> Window:
    async with AsyncExitStack() as stack:
        viewers = await watch(site.port, cameras, stack)
        await asyncio.sleep(SETTLE_S)
        for viewer in viewers:
            viewer.ages_ms.clear()
        packets, missing = sum(one.packets for one in viewers), sum(one.missing for one in viewers)
        workers, apis, steal, own_s = site.worker_pids(), site.api_pids(), steal_s(), time.process_time()
        before, api_before = sample(workers), sample(apis)
        await asyncio.sleep(seconds)
        after, api_after = sample(workers), sample(apis)
        lasted = after.mono_s - before.mono_s

        def percent(cpu_s: float) -> float:
            return round(100 * cpu_s / lasted, 2)

        ages = sorted(age + late[camera] for camera, viewer in zip(cameras, viewers, strict=True) for age in viewer.ages_ms)
        return Window(len(viewers), percent(after.cpu_s - before.cpu_s), percent(api_after.cpu_s - api_before.cpu_s),
                      percent(time.process_time() - own_s), ages,
                      sum(one.packets for one in viewers) - packets, sum(one.missing for one in viewers) - missing,
                      percent(steal_s() - steal))


async def watch(port: int, cameras: list[str], stack: AsyncExitStack) -> list[WebrtcViewer]:
    """A connected viewer of each of these cameras (ids, one as often as it is watched), until the stack ends."""
    identity, turn = Identity(), asyncio.Semaphore(AT_ONCE)
    client = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Origin": f"http://127.0.0.1:{port}"}))

    async def one(camera: str) -> WebrtcViewer:
        async with turn:
            viewer = WebrtcViewer(identity)
            stack.callback(viewer.close)
            async with client.post(f"/api/v1/cameras/{camera}/whep", data=viewer.offer(), headers={"Content-Type": "application/sdp"}) as reply:
                answer = await reply.read()
                if reply.status != 201:
                    raise RuntimeError(f"{camera}: {reply.status} {answer[:200].decode(errors='replace')}")
            stack.push_async_callback(_leave, client, reply.headers["Location"])
            await viewer.connect(answer)
            return viewer

    return list(await asyncio.gather(*(one(camera) for camera in cameras)))


async def _leave(client: aiohttp.ClientSession, session: str) -> None:
    async with client.delete(session):
        pass


def figures(windows: Mapping[str, Window]) -> list[Figure]:
    """What is promised, and how it came out."""
    nobody = windows["nobody"]
    found = []
    for name, one in windows.items():
        if one.viewers:
            found += [Figure(f"{name}: picture in to byte out, p50", share(one.ages_ms, 50), "ms", 80, 20),
                      Figure("the same, p99", share(one.ages_ms, 99), "ms"),
                      Figure("CPU of the API for a viewer, % of a core", (one.api - nobody.api) / one.viewers, "", 0.3, 0.18)]
    return found


def report(windows: Mapping[str, Window], loss: Mapping[str, int], about: Mapping[str, str]) -> str:
    """Everything as Markdown."""
    rows = [[name, one.viewers, one.worker, one.api, one.own, len(one.ages_ms), one.packets, one.missing, one.steal]
            for name, one in windows.items()]
    head = ["watched", "viewers", "worker %", "API %", "viewers' own %", "pictures", "packets", "missing", "steal %"]
    return "\n\n".join([figure_table(figures(windows)), table(head, rows),
                        f"AUs lost: {loss['missing'] + loss['wrong']} of {loss['expected']} on the tapes; {loss['dropped']} dropped by the "
                        "recorder.",
                        about_line(about), ""])
