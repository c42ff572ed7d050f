"""kill -9 of the recording worker: how long until its cameras are connected again, send again, and their gap has closed.

`python -m bench.restart --cameras 2,16,64 --kills 3`. Simulated cameras, `watchroom serve`, one slot; the machine is shared by both. All times
count from the kill: `first` and `last` the PLAY of the first and last camera (pictures follow within one
frame), `gap` the longest gap that the tapes tell, which closes at a key frame.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from recorder.base.media import NS

ALL = (0, 1 << 62)
WAIT_S = 120.0
STEADY_S = 4.0      # a worker that lived longer is started again at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="bench.restart", description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", default="2,16,64")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--gop", type=int, default=50)
    parser.add_argument("--bitrate", type=int, default=1000)
    args = parser.parse_args(arguments)
    print("| cameras | kills | first camera plays, median s | last camera plays, median (max) s | longest gap, median (max) s |")
    print("|---|---|---|---|---|")
    for count in map(int, args.cameras.split(",")):
        with tempfile.TemporaryDirectory(prefix="wr-restart-") as folder:
            print(row(count, measure(Path(folder), count, args)), flush=True)
    return 0


def row(count: int, deaths: list[tuple[float, float, float]]) -> str:
    """One line of the table."""
    first, last, gap = zip(*deaths, strict=True)
    return (f"| {count} | {len(deaths)} | {statistics.median(first):.2f} | {statistics.median(last):.2f} ({max(last):.2f}) "
            f"| {statistics.median(gap):.2f} ({max(gap):.2f}) |")


def measure(folder: Path, count: int, args: argparse.Namespace) -> list[tuple[float, float, float]]:
    """Seconds to the first PLAY, the last PLAY and the end of the longest gap, for each kill."""
    options = ("--count", str(count), "--size", "320x180", "--bitrate", str(args.bitrate), "--gop", str(args.gop))
    with SimProcess(options) as sim:
        cameras = {f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = {args.bitrate} }}'] for i in range(count)}
        with Site(folder, cameras, bytes_max=8 << 30, whole=True) as site:
            starts(site, sim, 0, count)
            deaths = [die(site, sim, count, (n + 1) * count) for n in range(args.kills)]
            time.sleep(args.gop / 25 + 4)
            store = site.store()
            gaps = [store.track(number, "main").gaps(*ALL) for number in store.cameras()]
            store.close()
    out = []
    for at_ns, first_ns, last_ns in deaths:
        ends = [gap.end_ns for found in gaps for gap in found if gap.end_ns and abs(gap.start_ns - at_ns) < NS]
        out.append(((first_ns - at_ns) / NS, (last_ns - at_ns) / NS, (max(ends, default=at_ns) - at_ns) / NS))
    return out


def die(site: Site, sim: SimProcess, count: int, before: int) -> tuple[int, int, int]:
    """Kill the worker: when, and when the first and the last camera played again."""
    time.sleep(STEADY_S)
    (pid,) = site.worker_pids()
    at_ns = time.time_ns()
    os.kill(pid, signal.SIGKILL)
    found = starts(site, sim, before, count)
    return at_ns, min(found), max(found)


def starts(site: Site, sim: SimProcess, before: int, count: int) -> list[int]:
    """Waits for `count` sessions beyond `before`; when they began (UTC)."""
    def sessions() -> list[int]:
        site.check_alive()
        return sorted(session["start_ns"] for camera in sim.status()["cameras"] for session in camera["sessions"])

    wait_until(lambda: len(sessions()) >= before + count, WAIT_S, f"{count} sessions")
    return sessions()[before:before + count]


if __name__ == "__main__":
    sys.exit(main())
