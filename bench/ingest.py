"""`watchroom bench ingest`: CPU time per stream-second of Watchroom and of one ffmpeg per camera, in the same run on the same core."""

import argparse
import itertools
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.fleet import Fleet
from bench.machine import Sample, describe, memory_kb, sample
from bench.site import Site, wait_until
from bench.tapes import compare

RECORDER_CORE, SIM_CORE = 0, 1
START_TIMEOUT_S = 90.0
DIRTY_STEAL = 0.05      # of one CPU
DIRTY_FOREIGN = 0.10    # of the recorder's CPU, used by others
BYTES_PER_CAMERA = 64 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window. `us_per_stream_s` is of the processes that record; `all_us` of all the subject's processes."""

    subject: str
    cameras: int
    wall_s: float
    us_per_stream_s: float
    all_us: float
    cpu_s_per_gb: float
    pss_mb_per_stream: float
    steal_percent: float
    foreign_percent: float
    dropped_aus: int
    loss: dict[str, int] = field(default_factory=dict)

    @property
    def dirty(self) -> bool:
        """True if host, other processes or lost pictures spoil the figure."""
        return self.steal_percent > 100 * DIRTY_STEAL or self.foreign_percent > 100 * DIRTY_FOREIGN or self.dropped_aus > 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--cameras", default="64,128", help="numbers of cameras, each measured by itself (default 64,128)")
    add("--ffmpeg", default="64", help="numbers of cameras that ffmpeg is measured with too; none: not at all (default 64)")
    add("--serve", action="store_true", help="measure the whole of `watchroom serve` instead of a worker alone")
    add("--bitrate", type=int, default=4000, help="kbit/s")
    add("--seconds", type=float, default=15.0, help="length of a window")
    add("--warm-up", type=float, default=5.0, help="seconds of recording before a window")
    add("--rounds", type=int, default=1, help="windows of each subject, in turns")
    add("--folder", type=Path, help="where to record: the disk under test (default: a temporary folder)")
    add("--cache", type=Path, help="camsim's clips")
    add("--json", type=Path, help="write all windows as JSON")
    add("--markdown", type=Path, help="write the table as Markdown")


def playing(sim: SimProcess, since: int) -> list[dict[str, Any]]:
    """The sessions with a number above `since` that go on."""
    return [s for c in sim.status()["cameras"] for s in c["sessions"] if s["number"] > since and s["end_ns"] is None]


def last_session(sim: SimProcess) -> int:
    """The highest number of a session so far."""
    return max((s["number"] for c in sim.status()["cameras"] for s in c["sessions"]), default=0)


def video_counters(sessions: list[dict[str, Any]], name: str) -> int:
    """A counter of the main tracks, summed."""
    return sum(int(s["tracks"]["main"][name]) for s in sessions)


Pids = Callable[[], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Task:
    """One window to be taken. `since`: sessions up to this number are others'."""

    sim: SimProcess
    count: int
    args: argparse.Namespace
    folder: Path
    since: int


def measure(subject: str, task: Task, recorders: Pids, everybody: Pids) -> Window:
    """Wait until all cameras play, warm up, then take the window; the processes' lists are taken once, after the warm-up."""
    sim, count, args, since = task.sim, task.count, task.args, task.since
    wait_until(lambda: len(playing(sim, since)) >= count, START_TIMEOUT_S, f"{subject} with {count} cameras playing")
    time.sleep(args.warm_up)
    recording, everything = list(recorders()), list(everybody())
    before, all_before, sent_before = sample(recording), sample(everything), playing(sim, since)
    time.sleep(args.seconds)
    after, all_after, sent_after = sample(recording), sample(everything), playing(sim, since)
    if len(sent_after) < count:
        raise RuntimeError(f"{subject}: only {len(sent_after)} of {count} cameras were still playing at the window's end")
    gigabytes = (video_counters(sent_after, "bytes") - video_counters(sent_before, "bytes")) / 1e9
    wall_s = after.mono_s - before.mono_s
    all_s = all_after.cpu_s - all_before.cpu_s
    foreign_s = max(0.0, all_after.busy_s - all_before.busy_s - all_s)
    return Window(subject, count, round(wall_s, 2), per_stream(before, after, count), per_stream(all_before, all_after, count),
                  round(all_s / gigabytes, 2), round(memory_kb(everything) / 1024 / count, 2),
                  round(100 * (after.steal_s - before.steal_s) / wall_s, 1), round(100 * foreign_s / wall_s, 1),
                  video_counters(sent_after, "dropped_aus"))


def per_stream(before: Sample, after: Sample, count: int) -> float:
    """CPU microseconds per stream and second of wall time."""
    return round(1e6 * (after.cpu_s - before.cpu_s) / (after.mono_s - before.mono_s) / count, 1)


def watchroom_window(task: Task) -> Window:
    """One window of Watchroom, then its tapes against what was sent."""
    sim, count = task.sim, task.count
    cameras = {f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = {task.args.bitrate} }}'] for i in range(count)}
    task.folder.mkdir()
    site = Site(task.folder, cameras, core=RECORDER_CORE, bytes_max=count * BYTES_PER_CAMERA + (4 << 30),
                whole=task.args.serve)

    def started() -> bool:
        site.check_alive()
        return bool(site.worker_pids())

    try:
        with site:
            wait_until(started, START_TIMEOUT_S, "a worker's start")
            window = measure("watchroom", task, site.worker_pids, site.pids)
        loss = tape_loss(site, task)
    finally:
        site.clean()
    return replace(window, loss=loss)


def tape_loss(site: Site, task: Task) -> dict[str, int]:
    """AUs sent and recorded, of all cameras; the AUs under way at the end (at most 2 s) are not counted."""
    status, numbers, store = task.sim.status(), site.numbers(), site.store()
    total = {"expected": 0, "recorded": 0, "missing": 0, "wrong": 0}
    try:
        for i in range(task.count):
            sessions = [s["tracks"]["main"] for s in status["cameras"][i]["sessions"] if s["number"] > task.since]
            found = compare(store.track(numbers[f"cam-{i}"], "main"), Truth.of(status, f"cam{i}"), sessions, ended_ok=50)
            for key in total:
                total[key] += int(getattr(found, key))
    finally:
        store.close()
    return total


def ffmpeg_window(task: Task) -> Window:
    """One window of ffmpeg."""
    with Fleet([task.sim.url(i) for i in range(task.count)], task.folder, core=RECORDER_CORE) as fleet:
        window = measure("ffmpeg", task, fleet.pids, fleet.pids)
        fleet.check_alive()
    return window


def run(args: argparse.Namespace) -> list[Window]:
    """All windows, subjects in turns; each leaves its folder empty."""
    counts, for_ffmpeg = _numbers(args.cameras), _numbers(args.ffmpeg)
    root = Path(tempfile.mkdtemp(prefix="ingest-", dir=args.folder))
    windows = []
    options = ["--bitrate", str(args.bitrate), *(["--cache", str(args.cache)] if args.cache else [])]
    try:
        for count in counts:
            with SimProcess(["--count", str(count), *options], core=SIM_CORE) as sim:
                subjects = [watchroom_window, *([ffmpeg_window] if count in for_ffmpeg else [])]
                for turn, subject in itertools.product(range(args.rounds), subjects):
                    folder = root / f"{count}-{turn}-{subject.__name__}"
                    windows.append(subject(Task(sim, count, args, folder, last_session(sim))))
                    print(json.dumps(asdict(windows[-1])), file=sys.stderr, flush=True)
                    shutil.rmtree(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return windows


def _numbers(text: str) -> list[int]:
    if text == "none":
        return []
    numbers = [int(part) for part in text.split(",") if part.isdecimal() and 0 < int(part) <= 2048]
    if len(numbers) != len(text.split(",")):
        raise ValueError(f"{text}: must be numbers of cameras, 1 to 2048, with commas")
    return numbers


def table(windows: Sequence[Window], about: dict[str, str]) -> str:
    """The result as Markdown: the median window of each subject and number, and the ratio of the two."""
    heads = ("cameras", "subject", "us CPU / stream-s (recording)", "all processes", "CPU-s/GB", "PSS MB / stream", "steal %", "others %",
             "AUs dropped", "AUs lost")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for (count, subject), group in _groups(windows).items():
        w = _median(group)
        lost = f"{w.loss['missing'] + w.loss['wrong']} of {w.loss['expected']}" if w.loss else "not compared"
        lines.append(f"| {count} | {subject} | {w.us_per_stream_s:.0f}{' (dirty)' if w.dirty else ''} | {w.all_us:.0f} | {w.cpu_s_per_gb} | "
                     f"{w.pss_mb_per_stream} | {w.steal_percent} | {w.foreign_percent} | {w.dropped_aus} | {lost} |")
    lines += ["", *ratios(windows), "", "; ".join(f"{key}: {value}" for key, value in about.items())]
    return "\n".join([*lines, ""])


def ratios(windows: Sequence[Window]) -> list[str]:
    """One sentence per number of cameras that both were measured with."""
    groups, lines = _groups(windows), []
    for count in sorted({w.cameras for w in windows}):
        ours, theirs = groups.get((count, "watchroom")), groups.get((count, "ffmpeg"))
        if ours and theirs:
            ratio = _median(theirs).cpu_s_per_gb / max(_median(ours).cpu_s_per_gb, math.ulp(1.0))
            lines.append(f"{count} cameras: per byte, one ffmpeg per camera costs {ratio:.1f} times the CPU of all of Watchroom's processes.")
            if dropped := _median(theirs).dropped_aus:
                lines.append(f"ffmpeg did not keep up: {dropped} AUs were dropped by the cameras.")
    return lines


def _groups(windows: Sequence[Window]) -> dict[tuple[int, str], list[Window]]:
    groups: dict[tuple[int, str], list[Window]] = {}
    for window in windows:
        groups.setdefault((window.cameras, window.subject), []).append(window)
    return groups


def _median(group: Sequence[Window]) -> Window:
    """The window with the median cost among the clean ones, if there are any."""
    clean = [w for w in group if not w.dirty] or list(group)
    middle = statistics.median_low([w.us_per_stream_s for w in clean])
    return next(w for w in clean if w.us_per_stream_s == middle)


def main(args: argparse.Namespace) -> int:
    """Measure, print the table; exit code 1 if an AU was lost or something failed."""
    try:
        windows = run(args)
    except (RuntimeError, TimeoutError, ValueError, OSError) as error:
        print(f"bench ingest: {error}", file=sys.stderr)
        return 1
    about = describe(args.folder or Path(tempfile.gettempdir()))
    if args.json:
        args.json.write_text(json.dumps({"about": about, "windows": [asdict(w) for w in windows]}, indent=1))
    text = table(windows, about)
    if args.markdown:
        args.markdown.write_text(text)
    print(text)
    return int(any(w.dropped_aus or w.loss.get("missing") or w.loss.get("wrong") for w in windows if w.subject == "watchroom"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench ingest")
    add_arguments(parser)
    raise SystemExit(main(parser.parse_args()))
