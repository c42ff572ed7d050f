"""A recording disk fails under many cameras: how long until the last of them is recorded on the other volume, and what is missing then.

`python -m bench.failover --cameras 250 --faults fail,stall`. Simulated cameras, one worker, two volumes; the first lies on a disk that ends
every call with EIO (`fail`) or with nothing at all (`stall`). Times count from the fault to the first picture that readers can see on the
other volume, of the first and of the last camera. `missing`: seconds of all cameras together that lie in no row, by cause. Needs root.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import bench
from bench.camsim.process import SimProcess
from bench.powercut.disk import PowerDisk
from recorder.base.errors import NotFound
from recorder.base.media import NS
from storage.store import TapeStore
from storage.volume import Volume

CHUNK = 16 << 20
WAIT_S = 180.0
STEADY_S = 12.0             # recorded before the fault, behind the sessions' first guesses of time, and after the last has come


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds until the first and the last camera are on the other volume; missing seconds by cause, and cameras that miss any."""

    first_s: float
    last_s: float
    missing_s: dict[str, float]
    incomplete: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="bench.failover", description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, default=250)
    parser.add_argument("--faults", default="fail,stall")
    parser.add_argument("--bitrate", type=int, default=100)
    parser.add_argument("--gop", type=int, default=50)
    args = parser.parse_args(arguments)
    print("| fault | cameras | first on the other volume, s | last, s | cameras that miss pictures | missing, s of all cameras |")
    print("|---|---|---|---|---|---|")
    for fault in args.faults.split(","):
        with tempfile.TemporaryDirectory(prefix="wr-failover-", ignore_cleanup_errors=True) as folder:
            print(row(fault, args.cameras, measure(Path(folder), fault, args.cameras, args.bitrate, args.gop)), flush=True)
    return 0


def row(fault: str, cameras: int, found: Outcome) -> str:
    """One line of the table."""
    missing = ", ".join(f"{cause} {seconds:.2f}" for cause, seconds in sorted(found.missing_s.items())) or "0"
    return f"| {fault} | {cameras} | {found.first_s:.2f} | {found.last_s:.2f} | {found.incomplete} | {missing} |"


def measure(folder: Path, fault: str, cameras: int, kbps: int, gop: int) -> Outcome:
    """Record, break the disk, wait for the last camera, look at what is there."""
    volumes = folder / "bay" / "mounted", folder / "other"
    options = ("--count", str(cameras), "--size", "320x180", "--bitrate", str(kbps), "--gop", str(gop), "--fps", "25")
    with SimProcess(options) as sim, disk(folder / "bay", cameras) as failing, tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        for path in volumes:
            Volume.init(path, bytes_max=2 * cameras * CHUNK, on_root=True).close()
        config = folder / "watchroom.toml"
        config.touch(mode=0o600)
        config.write_text(toml(folder, Path(live), volumes, [sim.url(n) for n in range(cameras)], kbps))
        with recording(config), closing(TapeStore(volumes, Path(live), lenient=True)) as store:
            wait(lambda: newest(store, cameras, 0) == cameras, "all cameras on the first volume")
            time.sleep(STEADY_S)
            failing.ask(fault)
            first_s, last_s = arrivals(store, cameras, time.monotonic())
            time.sleep(STEADY_S)
            failing.ask("heal")         # so that all of it can be read; after EIO it is not recorded on again
            found = judge(store, cameras)
    return Outcome(first_s, last_s, *found)


@contextmanager
def disk(folder: Path, cameras: int) -> Iterator[PowerDisk]:
    """A disk for so many cameras, mounted."""
    folder.mkdir()
    made = PowerDisk(folder, "ext4", plain_bytes=(3 * cameras + 100) * CHUNK)
    subprocess.run(["mount", "-o", "loop", made.files / "disk", made.point], check=True)
    try:
        yield made
    finally:
        made.ask("heal")
        subprocess.run(["umount", "-l", made.point], check=False)
        made.close()


def toml(folder: Path, live: Path, volumes: Sequence[Path], urls: Sequence[str], kbps: int) -> str:
    """The configuration of a site with these volumes and cameras."""
    lines = ['name = "bench"', f'state_dir = "{folder / "state"}"', f'live_dir = "{live}"', "[recording]",
             'camera_networks = ["127.0.0.0/8"]']
    for path in volumes:
        lines += ["[[volume]]", f'path = "{path}"', "on_root = true"]
    for number, url in enumerate(urls):
        lines += ["[[camera]]", f'id = "cam-{number}"', f'main = {{ url = "{url}", kbps = {kbps} }}']
    return "\n".join([*lines, ""])


@contextmanager
def recording(config: Path) -> Iterator[None]:
    """A worker on the configuration."""
    with (config.parent / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "bench.worker", str(config)], stdout=log, stderr=log, cwd=config.parent,
                                   env={**os.environ, "PYTHONPATH": str(Path(bench.__file__).parent.parent)})
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def newest(store: TapeStore, cameras: int, place: int) -> int:
    """How many cameras have pictures on the volume."""
    return sum(has_pictures(store, number, place) for number in range(1, cameras + 1))


def has_pictures(store: TapeStore, number: int, place: int) -> bool:
    """True if readers can see any of the camera there."""
    try:
        return store.tape(number, "main", place).edges().visible_offset > 0
    except NotFound:
        return False


def arrivals(store: TapeStore, cameras: int, since_s: float) -> tuple[float, float]:
    """Seconds from `since_s` to the first and to the last camera on the other volume."""
    left, first_s = set(range(1, cameras + 1)), 0.0
    while left:
        for number in list(left):
            if has_pictures(store, number, 1):
                left.remove(number)
                first_s = first_s or time.monotonic() - since_s
        if time.monotonic() - since_s > WAIT_S:
            raise TimeoutError(f"{len(left)} cameras are not recorded on the other volume")
        time.sleep(0.02)
    return first_s, time.monotonic() - since_s


def judge(store: TapeStore, cameras: int) -> tuple[dict[str, float], int]:
    """Missing seconds behind the first picture, by cause; and how many cameras miss any."""
    missing: defaultdict[str, float] = defaultdict(float)
    incomplete = 0
    for number in range(1, cameras + 1):
        track = store.whole(number, "main")
        first_ns, end_ns = track.bounds().first_ns, track.bounds().visible_end_ns
        gaps = [gap for gap in track.gaps(first_ns, end_ns) if (gap.end_ns or end_ns) > gap.start_ns]
        for gap in gaps:
            missing[gap.cause.word] += ((gap.end_ns or end_ns) - max(gap.start_ns, first_ns)) / NS
        incomplete += bool(gaps)
    return dict(missing), incomplete


def wait(ready: Callable[[], bool], what: str) -> None:
    """Until `ready()`."""
    deadline = time.monotonic() + WAIT_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
