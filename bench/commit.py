"""`watchroom bench commit`: how long commits take and what storing costs, with the recorder's own writer and no network.

The tracks are fed by a thread of this process. The volume is full: chunks are taken, sealed, retired and used again all the time. The CPU
figures are of the slot's three threads (writer, commit, keeper); the kernel's own threads are not in them.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.chart import draw
from bench.disk_load import device_of, disk_sample, written_bytes
from bench.feed import GATHER_MS, DigestClock, Feed, digest_clock, ring_bytes
from bench.machine import allow_files, describe, orderly, steal_s
from bench.probe import Durability
from bench.progress import Progress
from bench.report import Figure, about_line, add_report_arguments, figure_table, table, write_reports
from bench.written import Counts, counted
from storage.store import TapeStore

WATCHED = 8
SLOW_MS = 500.0


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window. `delays` in ms: `tick` is from the gathering of what a commit makes durable to its durable marks, `commit` the
    part from the journal's record on, `undurable` the age of what a power cut would take. `kinds`: of `written`, by what it is for
    (bench/written.py). `disk_bytes`: of the whole disk, everybody's."""

    seconds: float
    nbytes: int
    aus: int
    delays: dict[str, float]
    cpu_s: dict[str, float]
    digests_s: float
    written: int
    kinds: dict[str, int]
    disk_bytes: int
    steal_percent: float

    @property
    def storing(self) -> float:
        """CPU seconds per GB, without digests."""
        return (sum(self.cpu_s.values()) - self.digests_s) / self.nbytes * 1e9

    @property
    def digests(self) -> float:
        """CPU seconds per GB for digests."""
        return self.digests_s / self.nbytes * 1e9


@dataclass(frozen=True, slots=True)
class Outcome:
    """All windows, and what went wrong meanwhile. `late_ms`: how late the feeding came at most; above 40 ms it is itself the limit."""

    tracks: int
    mbit: float
    windows: list[Window]
    notes: dict[str, list[tuple[float, float]]]
    lost: int
    refused: int
    full: int
    late_ms: float
    events: dict[str, int]

    @property
    def good(self) -> bool:
        """True if no AU was lost."""
        return not self.lost and not self.refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--tracks", type=int, default=500, help="tracks (500)")
    add("--mbit", type=float, default=2.0, help="Mbit/s of each (2: 500 tracks are 125 MB/s)")
    add("--seconds", type=float, default=70.0, help="length of a window (70: at 2 Mbit/s each track fills a chunk in it)")
    add("--warm-up", type=float, default=10.0, help="seconds before the first window (10)")
    add("--gather-ms", type=int, default=GATHER_MS, help="how long what nobody watches is gathered (%(default)s)")
    add("--rounds", type=int, default=1, help="windows (1); the median one counts")
    add("--folder", type=Path, help="the disk under test (default: the folder for temporary files)")
    add_report_arguments(parser)


def run(args: argparse.Namespace) -> Outcome:
    """All windows. RuntimeError if the volume fails."""
    total_s = args.warm_up + args.rounds * args.seconds
    size = ring_bytes(args.tracks, args.mbit)
    print(f"writing {size / 1e9:.0f} GB of chunks, which are then used again", file=sys.stderr, flush=True)
    with Feed(Path(tempfile.mkdtemp(prefix="commit-", dir=args.folder)), size, gather_ms=args.gather_ms) as feed, digest_clock() as digests, \
            counted(feed.writes) as kinds:
        with Progress("tracks begun", args.tracks) as progress:
            feed.add(args.tracks, args.mbit, progress.reach)
        store = TapeStore([feed.path], feed.live)
        with Progress("recording", total_s) as progress, Durability(store, feed.watched(WATCHED)) as ages:
            _rest(feed, args.warm_up, progress, 0.0)
            windows = [_take(feed, ages, digests, kinds, args.seconds, progress, args.warm_up + n * args.seconds) for n in range(args.rounds)]
        feed.stop()
        return Outcome(args.tracks, args.mbit, windows, dict(feed.slot.notes), feed.lost(), feed.given.refused, feed.full(),
                       round(1e3 * feed.given.late_s, 1), dict(feed.events))


def _rest(feed: Feed, seconds: float, progress: Progress, before_s: float) -> None:
    """Let it record for so long."""
    began = time.monotonic()
    while (gone := time.monotonic() - began) < seconds:
        if feed.slot.failed:
            raise RuntimeError(f"the volume has failed: {dict(feed.events)}; see the system log")
        progress.reach(before_s + gone, f"commit {feed.slot.last_commit_ms:.0f} ms")
        time.sleep(min(0.1, seconds - gone))


def _take(feed: Feed, ages: Durability, digests: DigestClock, kinds: Counts, seconds: float, progress: Progress, before_s: float) -> Window:
    device = device_of(feed.path)
    start_s, cpu, given, aus = time.monotonic(), feed.thread_cpu_s(), feed.given.nbytes, feed.given.aus
    digested, written, disk, stolen, before = digests.cpu_s, written_bytes(), disk_sample(device), steal_s(), kinds()
    _rest(feed, seconds, progress, before_s)
    stop_s, cpu_after = time.monotonic(), feed.thread_cpu_s()
    return Window(round(stop_s - start_s, 2), feed.given.nbytes - given, feed.given.aus - aus,
                  feed.slot.delays(start_s, stop_s) | ages.delays(start_s, stop_s),
                  {name: round(value - cpu[name], 4) for name, value in cpu_after.items()}, round(digests.cpu_s - digested, 4),
                  written_bytes() - written, {name: count - before.get(name, 0) for name, count in kinds().items()},
                  disk_sample(device).written - disk.written,
                  round(100 * (steal_s() - stolen) / (stop_s - start_s), 1))


def figures(window: Window) -> list[Figure]:
    """What the window says beside what is promised."""
    d = window.delays
    age_must = 1000.0 if d["tick_max"] < SLOW_MS else None
    return [Figure("commit, from its gathering to durable, p50", d["tick_p50"], "ms", 150), Figure("the same, p99", d["tick_p99"], "ms", 400),
            Figure("the same, max", d["tick_max"], "ms"), Figure("its journal record, syncfs and marks alone, p50", d["commit_p50"], "ms"),
            Figure("the same, p99", d["commit_p99"], "ms"),
            Figure("a round of the keeper, p99", d["keep_p99"], "ms"), Figure("the same, max", d["keep_max"], "ms"),
            Figure("age of the oldest byte that a power cut takes, max", d["undurable_max"], "ms", age_must),
            Figure("CPU of storing, without digests", window.storing, "s/GB", 0.40), Figure("CPU of the digests", window.digests, "s/GB", 0.25),
            Figure("bytes written per byte received", window.written / window.nbytes, "", 1.06),
            Figure("the same as the disk counts them, everybody's", window.disk_bytes / window.nbytes, "")]


def shares(window: Window) -> list[tuple[str, int]]:
    """Bytes written by what they are for, and what is left: the file system's own, less what the page cache has put together."""
    found = sorted(window.kinds.items(), key=lambda item: -item[1])
    return [*found, ("the rest", window.written - sum(window.kinds.values()))]


def median(windows: Sequence[Window]) -> Window:
    """The window with the median of p99."""
    middle = statistics.median_low([w.delays["tick_p99"] for w in windows])
    return next(w for w in windows if w.delays["tick_p99"] == middle)


def text_of(found: Outcome, about: dict[str, str]) -> str:
    """The outcome as Markdown."""
    window = median(found.windows)
    lines = [f"{found.tracks} tracks x {found.mbit:g} Mbit/s: {window.nbytes / window.seconds / 1e6:.0f} MB/s for {window.seconds:.0f} s, "
             f"{window.aus} AUs; {found.lost} lost, {found.refused} refused by the full queues of {found.full} tracks. "
             f"Feeding was {found.late_ms:.0f} ms late at most; steal {window.steal_percent} %.", "", figure_table(figures(window)), ""]
    if len(found.windows) > 1:
        heads = ("window", "p50 ms", "p99 ms", "max ms", "undurable max ms", "storing s/GB", "digests s/GB", "steal %")
        rows = [(n, w.delays["tick_p50"], w.delays["tick_p99"], w.delays["tick_max"], w.delays["undurable_max"], f"{w.storing:.3f}",
                 f"{w.digests:.3f}", w.steal_percent) for n, w in enumerate(found.windows, 1)]
        lines += [table(heads, rows), ""]
    lines += [table(("written", "% of what came"), [(name, f"{100 * count / window.nbytes:.2f}") for name, count in shares(window)]), ""]
    events = ", ".join(f"{name} {count}" for name, count in found.events.items()) or "none"
    cpu = ", ".join(f"{name} {seconds / window.nbytes * 1e9:.3f}" for name, seconds in window.cpu_s.items())
    return "\n".join([*lines, f"CPU s/GB by thread: {cpu}. Events: {events}.", "", about_line(about), ""])


def chart(found: Outcome) -> str:
    """Each commit over time."""
    begin = min((at for notes in found.notes.values() for at, _ in notes), default=0.0)
    series = {name: [(at - begin, ms) for at, ms in notes] for name, notes in found.notes.items()}
    return draw(series, "ms of each commit", "seconds")


def main(args: argparse.Namespace) -> int:
    """Measure and print; 1 if an AU was lost or the volume failed."""
    if args.tracks < 1 or args.mbit <= 0 or args.seconds < 2 or args.rounds < 1:
        print("bench commit: --tracks and --rounds must be at least 1, --mbit above 0, --seconds at least 2", file=sys.stderr)
        return 2
    allow_files(16 * args.tracks + 1024)
    try:
        with orderly():
            found = run(args)
    except (RuntimeError, TimeoutError, OSError) as error:
        print(f"bench commit: {error}", file=sys.stderr)
        return 1
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = text_of(found, about)
    write_reports(args, values={"about": about, "outcome": asdict(found)}, text=text, chart=chart(found))
    print(text)
    return int(not found.good)
