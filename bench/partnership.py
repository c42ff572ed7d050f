"""`watchroom bench ingest --partnership`: a partnership's cameras on one core, for minutes, on a full volume, with readers beside it."""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.camsim.process import SimProcess
from bench.load import Load
from bench.machine import describe, memory
from bench.probe import Durability
from bench.readers import Readers
from bench.report import write_reports
from bench.site import Site, wait_until
from bench.subjects import SIM_CORE, WATCHED_TRACKS, Bench, recorded, remove, site_of, status, tape_loss, tracks
from bench.used import fill
from bench.window import START_TIMEOUT_S, Plan, Subject, Window, playing, windows
from recorder.drainer import LAG_BUCKETS_MS

PARTNERSHIP_KBPS = 2000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has shown. `cold_start_s`: from the server's start until the last camera recorded. `lag_ms`: bounds of p50, p99 and max."""

    window: Window
    cold_start_s: float
    memory_mb: float
    recycled_chunks: int
    lag_ms: dict[str, float]
    readers: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """True if no AU was lost."""
        return not self.window.lost_aus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that only this run has."""
    add = parser.add_argument
    add("--of", type=int, default=609, help="partnership: cameras of 2 Mbit/s (default 609)")
    add("--minutes", type=float, default=5.0, help="partnership: length of the window")
    add("--playbacks", type=int, default=0, help="partnership: streams that are played beside it")
    add("--exports", type=int, default=0, help="partnership: clips that are downloaded beside it, one after the other in each place")
    add("--export-mbit", type=float, default=100.0, help="partnership: Mbit/s at which a client takes its export (default 100)")
    add("--cold", action="store_true", help="partnership: export the oldest footage instead of the last minute")


def lag_bounds(before: list[int], after: list[int]) -> dict[str, float]:
    """Upper bounds of p50, p99 and all of the loop's lag between two histograms; infinite beyond the last bound."""
    counts = [b - a for a, b in zip(before, after, strict=True)]
    bounds, total = [*map(float, LAG_BUCKETS_MS), float("inf")], sum(counts)
    found = {}
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        reached = 0
        for bound, count in zip(bounds, counts, strict=True):
            reached += count
            if total and reached >= share * total:
                found[name] = bound
                break
    return found


def run(args: argparse.Namespace, say: Say) -> Result:
    """The whole run. Raises RuntimeError or TimeoutError."""
    load = Load(args.of, PARTNERSHIP_KBPS)
    plan = Plan(args.warm_up, args.minutes * 60, 1, say)
    root = Path(tempfile.mkdtemp(prefix="partnership-", dir=args.folder))
    gigabytes = 32.0 if args.volume_gb == "auto" else float(args.volume_gb)
    try:
        with SimProcess([*load.sim_options(args.cache), "--timeout", "120"], core=SIM_CORE) as sim:
            whole = bool(args.playbacks or args.exports)
            bench = Bench(sim, load, plan, root / "site", whole, volume_bytes=int(gigabytes * 1e9), verify=args.verify)
            bench.folder.mkdir()
            site = site_of(bench)
            if bench.volume_bytes:
                say(f"writing a volume of {gigabytes:g} GB")
            fill(site.volume, 1, bench.volume_bytes)
            try:
                return _record(bench, site, args)
            finally:
                site.clean()
    finally:
        remove(root)


def _record(bench: Bench, site: Site, args: argparse.Namespace) -> Result:
    load, say = bench.load, bench.plan.say
    with ExitStack() as held:
        began = time.monotonic()
        held.enter_context(site)

        def all_play() -> bool:
            site.check_alive()
            return len(playing(bench.sim, 0)) >= load.cameras

        wait_until(all_play, START_TIMEOUT_S, "all cameras playing")
        wait_until(lambda: recorded(site, load) >= load.cameras, START_TIMEOUT_S, "all cameras recorded")
        cold_start_s = time.monotonic() - began
        say(f"all {load.cameras} cameras record {cold_start_s:.1f} s after the server's start")
        numbers = list(site.numbers().values())
        ages = held.enter_context(Durability(site.store(), [(number, "main") for number in numbers[:WATCHED_TRACKS]]))
        readers = held.enter_context(_readers(site, args, load))
        before = status(site, load)[0]["loop_lag_counts"]
        subject = Subject("watchroom", bench.sim, load, 0, site.worker_pids, site.pids, site.check_alive)
        window = windows(subject, replace(bench.plan, tries=1), ages.delays)[-1]
        lag = lag_bounds(before, status(site, load)[0]["loop_lag_counts"])
        memory_mb = memory(site.pids()).pss_kb / 1024
        dropped = sum(track["dropped_aus"] for _, track in tracks(site, load))
    say("comparing the tapes with what was sent")
    loss = tape_loss(site, bench, 0) | {"dropped": dropped}
    return Result(replace(window, loss=loss), round(cold_start_s, 1), round(memory_mb), retired(site), lag,
                  {**{f"{kind}, bytes": count for kind, count in readers.bytes.items()}, "refused": readers.refused})


def _readers(site: Site, args: argparse.Namespace, load: Load) -> Readers:
    store, numbers = site.store(), site.numbers()

    def oldest_ns(camera: int) -> int:
        return store.track(numbers[f"cam-{camera}"], "main").edges().first_ns

    return Readers(site.port, load.cameras, playbacks=args.playbacks, exports=args.exports,
                   export_bytes_s=args.export_mbit * 125_000, cold=args.cold, oldest_ns=oldest_ns)


def retired(site: Site) -> int:
    """Chunks that the volume has taken back for new footage: what is before each track's oldest chunk."""
    store = site.store()
    try:
        tails = [(reader, reader.edges()) for number in site.numbers().values() for reader in store.tapes(number, "main")]
        return sum(reader.chunk_of(int(run.rows["offset"][0])) for reader, edges in tails
                   if len(run := reader.rows_from(edges.first_row, 1)))
    finally:
        store.close()


def report(result: Result, about: Mapping[str, str]) -> str:
    """The result as Markdown."""
    w, lag = result.window, result.lag_ms
    rows = {"load": f"{w.load.label}, {w.wall_s:.0f} s{' (dirty)' if w.dirty else ''}",
            "AUs lost": f"{w.lost_aus} of {w.loss['expected']} on the tapes; {w.loss['dropped']} dropped by the recorder",
            "AUs dropped by the cameras": w.dropped_aus, "chunks used again": result.recycled_chunks,
            "loop lag ms, at most": " / ".join(f"{name} {value:g}" for name, value in lag.items()),
            "undurable ms": " / ".join(f"{key.removeprefix('undurable_')} {value:.0f}" for key, value in w.delays.items()),
            "cold start until the last camera recorded": f"{result.cold_start_s} s",
            "CPU us per stream-second, recording / all": f"{w.us_per_stream_s:.0f} / {w.all_us:.0f}",
            "memory of all processes, PSS": f"{result.memory_mb:.0f} MB",
            "readers": ", ".join(f"{name} {value}" for name, value in result.readers.items()),
            "steal, others %": f"{w.steal_percent}, {w.foreign_percent}"}
    lines = ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join([*lines, "", "; ".join(f"{key}: {value}" for key, value in about.items()), ""])


def main(args: argparse.Namespace, say: Say) -> int:
    """Measure and print; 1 if an AU was lost."""
    result = run(args, say)
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = report(result, about)
    write_reports(args, values={"about": about, "result": asdict(result)}, text=text)
    print(text)
    return int(not result.good)
