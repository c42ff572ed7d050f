"""`watchroom bench ingest`: what recording costs, over numbers and kinds of cameras, beside other recorders in the same run."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench import load as loading
from bench import partnership
from bench.camsim.process import SimProcess
from bench.ingest_report import chart, ratios, table
from bench.load import Load, loads, names
from bench.machine import allow_files, describe, orderly
from bench.report import add_report_arguments, write_reports
from bench.subjects import LIBAV, SIM_CORE, SUBJECTS, Bench, Measure, remove, watchroom
from bench.window import Plan, Window
from storage.layout import LARGE

FILES = 120_000          # of a server with CAMERAS_MAX cameras
USED_MAX_BYTES = 24 << 30
FREE_SHARE = 0.4         # of the disk's free bytes that may be written before a measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    loading.add_arguments(parser)
    add = parser.add_argument
    add("--beside", default="ffmpeg,pyav,native",
        help="compare with ffmpeg (a process per camera), pyav (a thread per camera), native (a C program), or none")
    add("--libav-max", type=int, default=128, help="no ffmpeg and pyav above so many cameras: one core cannot hold them (default 128)")
    add("--serve", action="store_true", help="measure the whole of `watchroom serve` instead of a worker alone")
    add("--partnership", action="store_true", help="609 cameras on one core for minutes, with playbacks and exports (see --minutes)")
    add("--seconds", type=float, default=0.0, help="length of a window (default: as long as a camera takes to fill a chunk)")
    add("--warm-up", type=float, default=10.0, help="seconds of recording before the first window")
    add("--rounds", type=int, default=1, help="clean windows of each subject; the median counts")
    add("--tries", type=int, default=0, help="windows of each subject at most (default: twice as many as --rounds)")
    add("--volume-gb", default="auto",
        help="auto: chunks are used ones, as on a volume in use; 0: a new volume's first lap; N: a full volume of N GB")
    add("--verify", type=int, default=0, help="cameras whose tapes are compared byte for byte (default: all)")
    add("--folder", type=Path, help="where to record: the disk under test (default: a temporary folder)")
    add("--cache", type=Path, help="camsim's clips")
    add_report_arguments(parser)
    partnership.add_arguments(parser)


def teller(began: float) -> Callable[[str], None]:
    """Progress on stderr, with the seconds since the start."""
    return lambda text: print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)


def volume_bytes(text: str) -> int:
    """`--volume-gb` as bytes; -1: auto. Raises ValueError."""
    if text == "auto":
        return -1
    if not text.isdecimal() or int(text) > 100_000:
        raise ValueError(f"--volume-gb {text}: must be auto, 0 or a number of GB")
    return int(text) * 1_000_000_000


def used_bytes(load: Load, plan: Plan, folder: Path) -> int:
    """Of the chunks that a run takes: what it fills, and the one ahead of each camera; at most a share of what the disk has free."""
    seconds = plan.warm_up_s + plan.rounds * plan.window_s(load)
    wanted = load.cameras * LARGE.file_bytes * (2 + int(seconds / load.chunk_s))
    return min(wanted, USED_MAX_BYTES, int(FREE_SHARE * shutil.disk_usage(folder).free))


def subjects(args: argparse.Namespace, load: Load) -> list[Measure]:
    """Watchroom, and what this load is compared with."""
    chosen = [] if args.beside == "none" else names("--beside", args.beside, tuple(SUBJECTS))
    fitting = [name for name in chosen if name not in LIBAV or load.cameras <= args.libav_max]
    return [watchroom, *(SUBJECTS[name] for name in fitting if load.transport == "tcp" and load.slots == 1)]


def run(args: argparse.Namespace) -> list[Window]:
    """All windows, one subject after the other; each leaves its folder empty."""
    size, sweep = volume_bytes(args.volume_gb), loads(args)
    measures = {load: subjects(args, load) for load in sweep}
    plan = Plan(args.warm_up, args.seconds, args.rounds, teller(time.monotonic()), args.tries)
    root = Path(tempfile.mkdtemp(prefix="ingest-", dir=args.folder))
    found: list[Window] = []
    try:
        for load in sweep:
            with SimProcess(load.sim_options(args.cache), core=SIM_CORE) as sim:
                used = used_bytes(load, plan, root) if size < 0 else 0
                bench = Bench(sim, load, plan, root / "subject", args.serve, max(0, size), used, args.verify)
                for measure in measures[load]:
                    found += measure(bench)
                    remove(bench.folder)
    finally:
        remove(root)
    return found


def main(args: argparse.Namespace) -> int:
    """Measure, print the table; exit code 1 if Watchroom lost an AU or something failed."""
    allow_files(FILES)
    os.sched_setaffinity(0, {SIM_CORE % (os.cpu_count() or 1)})
    try:
        with orderly():
            if args.partnership:
                return partnership.main(args, teller(time.monotonic()))
            found = run(args)
    except (RuntimeError, TimeoutError, ValueError, OSError) as error:
        print(f"bench ingest: {error}", file=sys.stderr)
        return 1
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = table(found, about)
    values = {"about": about, "windows": [asdict(w) for w in found], "ratios": ratios(found)}
    write_reports(args, values=values, text=text, chart=chart(found))
    print(text)
    return int(any(w.lost_aus for w in found if w.subject == "watchroom"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench ingest")
    add_arguments(parser)
    raise SystemExit(main(parser.parse_args()))
