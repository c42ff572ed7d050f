"""`watchroom bench capacity`: how many cameras this disk carries while it serves playback, retires and seals, and what gives way first.

The real writer of one slot, fed without a network on a full volume. Cameras are added step by step until the 99th percentile of the commits
leaves its limit, AUs are refused, or tracks wait for chunks; the last step that held is the answer.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.chart import draw
from bench.disk_load import DiskSample, device_of, disk_sample
from bench.feed import Feed, ring_bytes
from bench.machine import allow_files, describe, orderly, pressing_s, steal_s
from bench.players import Players
from bench.probe import Durability
from bench.progress import Progress
from bench.report import about_line, add_report_arguments, table, write_reports
from storage.store import TapeStore

WATCHED = 6
SHARE = 0.4             # of the disk's free bytes that the volume may take
BUSY = 90.0             # percent from which a resource counts as used up
LATE_MS = 500.0
SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """What so many cameras came to. Percent: of the time in which the disk had work, of one core (`writer`), of all cores (`cpu`)."""

    cameras: int
    seconds: float
    mbyte_s: float
    delays: dict[str, float]
    refused: int
    starved: int
    late_ms: float
    disk: float
    writer: float
    cpu: float
    steal: float
    playback_mbyte_s: float
    playback_behind_s: float
    retired: int
    verdict: str = ""

    @property
    def held(self) -> bool:
        """True if everything was within its limits."""
        return not self.verdict


@dataclass(frozen=True, slots=True)
class Mark:
    """The counts at a moment, to be set beside a later one."""

    mono_s: float
    nbytes: int
    refused: int
    starved: int
    retired: int
    disk: DiskSample
    writer_s: float
    cpu_s: float
    steal_s: float
    played: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--mbit", type=float, default=4.0, help="Mbit/s of each camera (4)")
    add("--start", type=int, default=32, help="cameras of the first step (32)")
    add("--most", type=int, default=2000, help="no more cameras than this (2000)")
    add("--factor", type=float, default=1.3, help="each step has so many times the cameras of the one before (1.3)")
    add("--seconds", type=float, default=15.0, help="length of a step's measurement (15)")
    add("--limit-ms", type=float, default=400.0, help="what the 99th percentile of a commit may be (400)")
    add("--playbacks", type=int, default=16, help="players beside it, of the oldest footage at its own speed (16)")
    add("--volume-gb", type=float, default=0.0, help="size of the volume, which bounds the cameras too (enough, or 40 %% of what is free)")
    add("--folder", type=Path, help="the disk under test (default: the folder for temporary files)")
    add_report_arguments(parser)


def volume_bytes(args: argparse.Namespace, folder: Path) -> int:
    """Of the volume."""
    return round(args.volume_gb * 1e9) or min(ring_bytes(args.most, args.mbit), int(SHARE * shutil.disk_usage(folder).free))


def room_for(args: argparse.Namespace, nbytes: int) -> int:
    """Cameras that can go round in so many bytes, at most `--most`."""
    return max((n for n in range(args.most + 1) if ring_bytes(n, args.mbit) <= nbytes), default=0)


def run(args: argparse.Namespace) -> tuple[list[Step], int]:
    """The steps, and how many cameras the volume has room for. RuntimeError if the volume fails."""
    folder = Path(tempfile.mkdtemp(prefix="capacity-", dir=args.folder))
    size = volume_bytes(args, folder)
    most, steps = room_for(args, size), []
    if most < args.start:
        folder.rmdir()
        raise RuntimeError(f"a volume of {size / 1e9:.0f} GB has room for {most} cameras of {args.mbit:g} Mbit/s; give --volume-gb or --start")
    print(f"writing {size / 1e9:.0f} GB of chunks, which are then used again", file=sys.stderr, flush=True)
    with Feed(folder, size) as feed, Progress("cameras", most) as progress:
        cameras = args.start
        while cameras > len(feed.sources):
            feed.add(cameras - len(feed.sources), args.mbit, lambda n: progress.reach(len(feed.sources) + n))
            time.sleep(SETTLE_S)
            steps.append(_step(feed, args))
            progress.reach(cameras, f"{steps[-1].mbyte_s:.0f} MB/s, commit p99 {steps[-1].delays['tick_p99']:.0f} ms")
            if not steps[-1].held:
                break
            cameras = min(most, max(cameras + 1, round(cameras * args.factor)))
    return steps, most


def _step(feed: Feed, args: argparse.Namespace) -> Step:
    tracks = [(source.number, "main") for source in feed.sources]
    with (Durability(TapeStore([feed.path], feed.live), feed.watched(WATCHED)) as ages,
          Players(TapeStore([feed.path], feed.live), tracks, args.playbacks, args.mbit * 125_000) as players):
        feed.given.late_s = 0.0
        before = _mark(feed, players)
        deadline = before.mono_s + args.seconds
        while time.monotonic() < deadline:
            if feed.slot.failed:
                raise RuntimeError(f"the volume has failed: {dict(feed.events)}; see the system log")
            time.sleep(0.1)
        after = _mark(feed, players)
        delays = feed.slot.delays(before.mono_s, after.mono_s) | ages.delays(before.mono_s, after.mono_s)
        return _judged(_between(len(tracks), before, after, delays, feed.given.late_s, players.behind_s), args.limit_ms)


def _mark(feed: Feed, players: Players) -> Mark:
    return Mark(time.monotonic(), feed.given.nbytes, feed.given.refused, feed.events["Starved"], feed.events["Retired"],
                disk_sample(device_of(feed.path)), feed.thread_cpu_s()["writer"], pressing_s(), steal_s(), players.nbytes)


def _between(cameras: int, before: Mark, after: Mark, delays: dict[str, float], late_s: float, behind_s: float) -> Step:
    wall_s, cores = after.mono_s - before.mono_s, os.cpu_count() or 1

    def percent(seconds: float) -> float:
        return round(100 * seconds / wall_s, 1)

    return Step(cameras, round(wall_s, 2), round((after.nbytes - before.nbytes) / wall_s / 1e6, 1), delays, after.refused - before.refused,
                after.starved - before.starved, round(1e3 * late_s, 1), percent((after.disk.busy_ms - before.disk.busy_ms) / 1e3),
                percent(after.writer_s - before.writer_s), percent((after.cpu_s - before.cpu_s) / cores),
                percent(after.steal_s - before.steal_s),
                round((after.played - before.played) / wall_s / 1e6, 1), round(behind_s, 1), after.retired - before.retired)


def _judged(step: Step, limit_ms: float) -> Step:
    """The step with what gave way, if something did."""
    broken = []
    if step.delays["tick_p99"] > limit_ms:
        broken.append(f"commits p99 {step.delays['tick_p99']:.0f} ms")
    if step.refused:
        broken.append(f"{step.refused} AUs refused")
    if step.starved:
        broken.append(f"{step.starved} tracks waited for a chunk")
    if not broken:
        return step
    return Step(**{**asdict(step), "verdict": f"{', '.join(broken)}: {resource(step)}"})


def resource(step: Step) -> str:
    """What was used up, in words."""
    if step.starved:
        return "the volume is too small for so many chunks at once"
    if step.writer >= BUSY:
        return "the writer's thread, one core of which is its own: more slots would share the work"
    if step.cpu >= BUSY:
        return "the machine's cores"
    if step.late_ms >= LATE_MS:
        return "the feeding of this benchmark, not the storage"
    return "the disk has no time left" if step.disk >= BUSY else "the disk answers too slowly, though it is not always busy"


def answer(steps: Sequence[Step], most: int, mbit: float) -> str:
    """In a sentence."""
    held = [step for step in steps if step.held]
    if not held:
        return f"Not even {steps[0].cameras} cameras of {mbit:g} Mbit/s: {steps[0].verdict}."
    best = held[-1]
    text = f"This disk carries {best.cameras} cameras of {mbit:g} Mbit/s ({8 * best.mbyte_s:,.0f} Mbit/s) while it plays " \
           f"{8 * best.playback_mbyte_s:.0f} Mbit/s back, seals and retires {best.retired / best.seconds:.1f} chunks a second."
    if not steps[-1].held:
        return f"{text} With {steps[-1].cameras}: {steps[-1].verdict}."
    return f"{text} That was the most that this run's volume has room for ({most} cameras): the limit lies higher."


def text_of(steps: Sequence[Step], most: int, mbit: float, about: dict[str, str]) -> str:
    """The steps as Markdown."""
    heads = ("cameras", "MB/s", "commit ms p50 / p99 / max", "undurable ms max", "disk busy %", "writer % of a core", "CPU %", "steal %",
             "played back MB/s", "held")
    rows = [(s.cameras, s.mbyte_s, " / ".join(f"{s.delays[f'tick_{name}']:.0f}" for name in ("p50", "p99", "max")),
             f"{s.delays.get('undurable_max', 0):.0f}", s.disk, s.writer, s.cpu, s.steal, s.playback_mbyte_s, "yes" if s.held else "no")
            for s in steps]
    return "\n".join([answer(steps, most, mbit), "", table(heads, rows), "", about_line(about), ""])


def chart(steps: Sequence[Step]) -> str:
    """Commits over cameras."""
    series = {f"commit {name}": [(float(s.cameras), s.delays[f"tick_{name}"]) for s in steps] for name in ("p50", "p99")}
    return draw(series, "ms of a commit", "cameras")


def main(args: argparse.Namespace) -> int:
    """Measure and print; 1 if not even the first step held."""
    if not 1 <= args.start <= args.most or args.mbit <= 0 or args.factor <= 1 or args.seconds < 2 or args.playbacks < 1:
        print("bench capacity: --start must be 1 to --most, --mbit above 0, --factor above 1, --seconds at least 2, --playbacks at least 1",
              file=sys.stderr)
        return 2
    allow_files(16 * args.most + 1024)
    try:
        with orderly():
            steps, most = run(args)
    except (RuntimeError, TimeoutError, OSError) as error:
        print(f"bench capacity: {error}", file=sys.stderr)
        return 1
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = text_of(steps, most, args.mbit, about)
    write_reports(args, values={"about": about, "steps": [asdict(step) for step in steps], "room_for": most}, text=text, chart=chart(steps))
    print(text)
    return int(not steps[0].held)
