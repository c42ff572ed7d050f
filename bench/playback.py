"""`watchroom bench playback`: what readers get, warm and cold, and what they cost the recording beside them.

Alone: clips of an hour's archive (picture and sound), their first bytes, heads and CPU per byte, beside aiohttp's FileResponse. Beside: a wall,
playbacks, exports and scrubbing on a server that records simulated cameras; every AU of the tapes is compared afterwards.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bench
from bench.archive import Archive, write
from bench.asking import Scrubber, address_of, first_byte_ms, take_all
from bench.camsim.process import SimProcess
from bench.chart import draw
from bench.load import Load
from bench.machine import allow_files, cpu_ns, describe, memory, orderly, sample, steal_s
from bench.progress import Progress
from bench.readers import Readers
from bench.report import Figure, about_line, add_report_arguments, figure_table, shown, table, write_reports
from bench.site import Site, wait_until
from bench.subjects import RECORDER_CORE, SIM_CORE, Bench, recorded, remove, site_of, tape_loss, tracks
from bench.window import START_TIMEOUT_S, Plan, playing
from recorder.base.media import NS

CLIP_S = 30
ROUNDS = 5
HEADS = 9
HEADS_MEASURED = 40
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Alone:
    """What an archive gives. Times in ms, of clips one by one; CPU in s per GB: ours, FileResponse's, and of nothing but copying.

    `clip_cpu_ms`, `head_cpu_ms`: of the API process for each warm request: rising, since the least says most on a busy machine.
    """

    warm_ms: list[float]
    cold_ms: list[float]
    head_warm_ms: float
    head_cold_ms: float
    clip_cpu_ms: list[float]
    head_cpu_ms: list[float]
    ours_s_gb: float
    rival_s_gb: float
    floor_s_gb: float
    ours_mbyte_s: float
    rival_mbyte_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """What so many playbacks came to. Percent of one core; `mbit`: what each playback was sent; `dropped`: AUs that the recorder dropped."""

    playbacks: int
    seconds: float
    mbit: float
    wall_mbit: float
    export_mbyte_s: float
    worker: float
    api: float
    api_mbyte: float
    steal: float
    dropped: int
    times_ms: dict[str, list[float]]
    refused: dict[str, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--only", choices=("alone", "beside"), help="one of the two parts")
    add("--clips", type=int, default=200, help="clips asked for, warm and again cold (200)")
    add("--archive-s", type=int, default=3600, help="length of the archive (3600)")
    add("--cameras", type=int, default=256, help="cameras that are recorded beside readers (256)")
    add("--kbps", type=int, default=2000, help="kbit/s of each camera and of the archive (2000)")
    add("--playbacks", default="64,100", help="numbers of playbacks, each for a window (64,100)")
    add("--wall", type=int, default=16, help="live streams beside them (16)")
    add("--exports", type=int, default=2, help="clips that are downloaded beside them at 100 Mbit/s (2)")
    add("--seconds", type=float, default=40.0, help="length of a window (40)")
    add("--warm-up", type=float, default=20.0, help="seconds of footage before the first window (20)")
    add("--verify", type=int, default=0, help="cameras whose tapes are compared (all)")
    add("--folder", type=Path, help="where footage is written (a temporary folder there)")
    add("--cache", type=Path, help="where the simulation keeps its content")
    add_report_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and print; 1 if an AU was lost."""
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    allow_files(65_536)
    with orderly(), readers_core():
        alone = measure_alone(args, say) if args.only != "beside" else None
        steps, loss = measure_beside(args, say) if args.only != "alone" else ([], {})
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = report(alone, steps, loss, about)
    write_reports(args, values={"about": about, "alone": asdict(alone) if alone else None, "steps": [asdict(step) for step in steps],
                                "loss": loss}, text=text, chart=chart(alone, steps))
    print(text)
    return int(any(loss.get(key, 0) for key in ("missing", "wrong", "dropped")))


@contextmanager
def readers_core() -> Iterator[None]:
    """This process reads where the cameras are simulated, not where the server works, if there are cores enough."""
    before = os.sched_getaffinity(0)
    if {RECORDER_CORE, SIM_CORE} <= before:
        os.sched_setaffinity(0, {SIM_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# -- alone --


def measure_alone(args: argparse.Namespace, say: Say) -> Alone:
    """Clips of an archive, nothing beside."""
    root = Path(tempfile.mkdtemp(prefix="playback-", dir=args.folder))
    try:
        (root / "site").mkdir()
        site = Site(root / "site", {"hour": [f'main = {{ url = "rtsp://127.0.0.1:9/", kbps = {args.kbps} }}', "enabled = false"]},
                    core=RECORDER_CORE, whole=True, bytes_max=8 << 30)
        archive = Archive((time.time_ns() // NS - args.archive_s - 600) * NS, args.archive_s, args.kbps)
        with Progress("writing the archive", args.archive_s) as progress:
            write(site.volume, site.live_dir, archive, 1, progress.reach)
        try:
            with site:
                wait_until(lambda: _answers(site, archive), START_TIMEOUT_S, "the server")
                return _alone(site, archive, args, root, say)
        finally:
            site.clean()
    finally:
        remove(root)


def _answers(site: Site, archive: Archive) -> bool:
    site.check_alive()
    try:
        return first_byte_ms(site.port, address_of("hour", "clip.mp4", start=archive.start_ns, end=archive.start_ns + NS)) > 0
    except (OSError, RuntimeError):
        return False


def _alone(site: Site, archive: Archive, args: argparse.Namespace, root: Path, say: Say) -> Alone:
    whole = address_of("hour", "clip.mp4", start=archive.start_ns, end=archive.end_ns)
    dice, (pid,) = random.Random(7), site.api_pids()  # noqa: S311
    file = root / "whole.mp4"
    with file.open("wb") as out:
        take_all(site.port, whole, out.write)

    def clip_ms() -> float:
        start_ns = archive.start_ns + dice.randrange((archive.seconds - CLIP_S) * NS)
        return first_byte_ms(site.port, address_of("hour", "clip.mp4", start=start_ns, end=start_ns + CLIP_S * NS))

    def head_ms() -> float:
        return first_byte_ms(site.port, address_of("hour", "clip.mp4", start=archive.start_ns, end=archive.end_ns - dice.randrange(NS)), "HEAD")

    say("clips, warm and cold")
    clip_cpu, head_cpu = ([_cpu_ms(pid, ask) for _ in range(times)] for ask, times in ((clip_ms, args.clips), (head_ms, HEADS_MEASURED)))
    warm = [clip_ms() for _ in range(args.clips)]
    cold = [clip_ms() for _ in range(args.clips) if forget(site.volume)]
    head_warm = statistics.median(head_ms() for _ in range(HEADS))
    head_cold = statistics.median(head_ms() for _ in range(HEADS) if forget(site.volume))
    say("bytes out, in turns with FileResponse")
    take_all(site.port, whole)
    with _other("bench.fileserver", file) as (rival_pid, rival_port), _other("bench.copyout", file) as (floor_pid, floor_port):
        asked = ((site.port, whole, pid), (rival_port, "/", rival_pid), (floor_port, "/", floor_pid))
        for one in asked[1:]:
            _cost(*one)
        costs = [[_cost(*one) for one in asked] for _ in range(ROUNDS)]
    (ours_s, ours_rate), (rival_s, rival_rate), (floor_s, _) = ([statistics.median(column) for column in zip(*side, strict=True)]
                                                                for side in zip(*costs, strict=True))
    return Alone(sorted(warm), sorted(cold), head_warm, head_cold, sorted(clip_cpu), sorted(head_cpu), ours_s, rival_s, floor_s,
                 ours_rate, rival_rate)


def _cpu_ms(pid: int, ask: Callable[[], object]) -> float:
    """CPU of the process while it answers."""
    before = cpu_ns(pid)
    ask()
    return (cpu_ns(pid) - before) / 1e6


def forget(volume: Path) -> bool:
    """Have the page cache let go of footage and index, but for what a process has mapped; True."""
    os.sync()
    for path in (path for folder in ("tape.zarr", "idx") for path in (volume / folder).rglob("*") if path.is_file()):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    return True


def _cost(port: int, address: str, pid: int) -> tuple[float, float]:
    """CPU s per GB of the process that serves it, and MB/s."""
    cpu, began = cpu_ns(pid), time.monotonic()
    total = take_all(port, address)
    return (cpu_ns(pid) - cpu) / total, total / 1e6 / (time.monotonic() - began)


@contextmanager
def _other(module: str, file: Path) -> Iterator[tuple[int, int]]:
    """Another server of the file on the server's core: its pid and port."""
    root = str(Path(bench.__file__).parent.parent)
    process = subprocess.Popen(["taskset", "-c", str(RECORDER_CORE), sys.executable, "-m", module, str(file)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
    with process:
        assert process.stdout is not None and process.stdin is not None
        yield process.pid, int(process.stdout.readline())
        process.stdin.close()


# -- beside --


def measure_beside(args: argparse.Namespace, say: Say) -> tuple[list[Step], dict[str, int]]:
    """A window per number of playbacks, then the tapes compared."""
    counts = [int(word) for word in args.playbacks.split(",")]
    load = Load(args.cameras, args.kbps)
    plan = Plan(args.warm_up, args.seconds, len(counts), say)
    root = Path(tempfile.mkdtemp(prefix="playback-", dir=args.folder))
    try:
        with SimProcess([*load.sim_options(args.cache), "--timeout", "120"], core=SIM_CORE) as sim:
            bench_of = Bench(sim, load, plan, root / "site", whole=True, verify=args.verify)
            bench_of.folder.mkdir()
            site = site_of(bench_of)
            try:
                with site:
                    steps = _steps(bench_of, site, counts, args)
                say("comparing the tapes with what was sent")
                return steps, tape_loss(site, bench_of, 0) | {"dropped": steps[-1].dropped}
            finally:
                site.clean()
    finally:
        remove(root)


def _steps(bench_of: Bench, site: Site, counts: Sequence[int], args: argparse.Namespace) -> list[Step]:
    load, say = bench_of.load, bench_of.plan.say

    def all_play() -> bool:
        site.check_alive()
        return len(playing(bench_of.sim, 0)) >= load.cameras and recorded(site, load) >= load.cameras

    wait_until(all_play, START_TIMEOUT_S, "all cameras recorded")
    since_ns = time.time_ns()
    say(f"{load.cameras} cameras record; {args.warm_up:.0f} s of footage first")
    time.sleep(args.warm_up)
    steps = []
    for count in counts:
        say(f"{count} playbacks, a wall of {args.wall}, {args.exports} exports, scrubbing: {args.seconds:.0f} s")
        with Readers(site.port, load.cameras, playbacks=count, exports=args.exports, export_bytes_s=12.5e6, cold=False,
                     oldest_ns=lambda _: since_ns, wall=args.wall) as readers, Scrubber(site.port, load.cameras, since_ns) as scrubber:
            time.sleep(5.0)            # until all have begun
            steps.append(_step(site, load, count, args, readers, scrubber))
    return steps


def _step(site: Site, load: Load, count: int, args: argparse.Namespace, readers: Readers, scrubber: Scrubber) -> Step:
    workers, apis = site.worker_pids(), site.api_pids()
    sent, refused_before, steal = dict(readers.bytes), sum(readers.refused.values()), steal_s()
    before, api_before = sample(workers), sample(apis)
    for times in scrubber.times_ms.values():
        times.clear()
    time.sleep(args.seconds)
    after, api_after = sample(workers), sample(apis)
    seconds = after.mono_s - before.mono_s
    got = {kind: readers.bytes[kind] - sent[kind] for kind in sent}
    refused = dict(scrubber.refused) | {"readers": sum(readers.refused.values()) - refused_before}
    return Step(count, round(seconds, 1), _mbit(got["playbacks"], seconds, count), _mbit(got["wall"], seconds, args.wall),
                round(got["exports"] / 1e6 / seconds, 1), round(100 * (after.cpu_s - before.cpu_s) / seconds, 1),
                round(100 * (api_after.cpu_s - api_before.cpu_s) / seconds, 1), round(memory(apis).pss_kb / 1024, 1),
                round(100 * (steal_s() - steal) / seconds, 1), sum(track["dropped_aus"] for _, track in tracks(site, load)),
                {kind: sorted(times) for kind, times in scrubber.times_ms.items()}, {kind: n for kind, n in refused.items() if n})


def _mbit(nbytes: int, seconds: float, count: int) -> float:
    return round(nbytes * 8 / 1e6 / seconds / max(count, 1), 2)


# -- the report --


def share(times: Sequence[float], percent: float) -> float:
    """A percentile of rising times; nan of none."""
    return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else float("nan")


def figures(alone: Alone) -> list[Figure]:
    """What is promised of readers, and how it came out."""
    return [
        Figure("clip request to first byte, warm, p50", share(alone.warm_ms, 50), "ms", 5, 2),
        Figure("clip request to first byte, warm, p99", share(alone.warm_ms, 99), "ms", 20, 10),
        Figure("clip request to first byte, cold, p99", share(alone.cold_ms, 99), "ms", 60, 30),
        Figure("head of the whole archive, warm", alone.head_warm_ms, "ms", 30, 10),
        Figure("head of the whole archive, cold", alone.head_cold_ms, "ms", 100, 30),
        Figure("CPU of a clip's request, warm, least", alone.clip_cpu_ms[0], "ms", 5, 2),
        Figure("the same, median", share(alone.clip_cpu_ms, 50), "ms", 5, 2),
        Figure("CPU of a head of the whole archive, warm, least", alone.head_cpu_ms[0], "ms", 30, 10),
        Figure("the same, median", share(alone.head_cpu_ms, 50), "ms", 30, 10),
        Figure("bytes out, CPU", alone.ours_s_gb, "s/GB", 0.60, 0.42),
        Figure("of aiohttp's FileResponse", alone.ours_s_gb / alone.rival_s_gb, "", 1 / 1.6, 1 / 2.3,
               f"{alone.rival_s_gb:.2f} s/GB; {alone.rival_s_gb / alone.ours_s_gb:.2f} times less"),
        Figure("of nothing but preadv and send", alone.ours_s_gb / alone.floor_s_gb, "", note=f"{alone.floor_s_gb:.2f} s/GB"),
    ]


def report(alone: Alone | None, steps: Sequence[Step], loss: Mapping[str, int], about: Mapping[str, str]) -> str:
    """Everything as Markdown."""
    parts = [figure_table(figures(alone))] if alone else []
    if steps:
        kinds = [kind for kind in steps[0].times_ms if any(step.times_ms[kind] for step in steps)]
        heads = ["playbacks", "Mbit/s of each", "of each of the wall", "exports MB/s", "worker / API % of a core", "API MB",
                 *(f"{kind} ms p50 / p99" for kind in kinds), "refused", "steal %"]
        rows = [[step.playbacks, step.mbit, step.wall_mbit, step.export_mbyte_s, f"{step.worker} / {step.api}", step.api_mbyte,
                 *(f"{shown(share(step.times_ms[kind], 50))} / {shown(share(step.times_ms[kind], 99))}" for kind in kinds),
                 ", ".join(f"{kind}: {n}" for kind, n in step.refused.items()) or 0, step.steal] for step in steps]
        parts += [table(heads, rows), f"AUs lost: {loss['missing'] + loss['wrong']} of {loss['expected']} on the tapes; "
                  f"{loss['dropped']} dropped by the recorder."]
    return "\n\n".join([*parts, about_line(about), ""])


def chart(alone: Alone | None, steps: Sequence[Step]) -> str:
    """Latencies by the share of requests that were answered faster."""
    lines: dict[str, Any] = {"clip warm": alone.warm_ms, "clip cold": alone.cold_ms} if alone else {}
    for step in steps[-1:]:
        lines |= {f"{kind} beside": times for kind, times in step.times_ms.items() if times}
    return draw({name: [(percent, share(times, percent)) for percent in range(1, 100)] for name, times in lines.items()},
                "ms to the first byte", "% of requests")
