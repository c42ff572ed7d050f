"""`watchroom bench index`: a month of index of hundreds of cameras, opened, recovered, searched and measured.

Synthetic rows in real files (bench/index_site.py), read and written by the recorder's own code. A slot opens them in a process of its own,
records for a while, is killed with kill -9 and opened again; then once more without its live file and with a cold page cache, as after a
power cut; then after it was closed in order. Another process looks times up and makes a month's timeline.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from bench.index_site import END_NS, ENTRY_BYTES, TRACK, IndexMaker, Scale
from bench.limits_chart import chart
from bench.machine import allow_files, describe
from bench.progress import Progress
from bench.report import Figure, about_line, add_report_arguments, figure_table, write_reports
from recorder.base.media import NS
from storage.layout import index_path

FILES = 20_000
FREE_BYTES = 2 << 30        # stay free on the disk
LATER_NS = 3600 * NS        # between the end of a slot and its next start
AFTER_S = 2.0               # recorded before the second death


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    scale = Scale()
    add("--cameras", type=int, default=scale.cameras, metavar="N", help=f"({scale.cameras})")
    add("--days", type=float, default=scale.days, metavar="N", help=f"of index of each ({scale.days:g})")
    add("--gop", type=int, default=scale.gop, metavar="N", help=f"pictures between key frames, at 25 a second ({scale.gop})")
    add("--journal-s", type=float, default=100.0, metavar="N",
        help="seconds of recording that the journal holds when the slot is killed; at 2 Mbit/s it is about 100 (100)")
    add("--samples", type=int, default=1000, metavar="N", help="lookups (1000)")
    add("--folder", type=Path, metavar="DIR", help="where the volume is made (the system's folder for temporary files)")
    add("--live", type=Path, default=Path("/dev/shm"), metavar="DIR", help="a tmpfs for the live file (/dev/shm)")  # noqa: S108
    add("--keep", action="store_true", help="leave the volume there")
    add_report_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure, print the table; 1 if a figure misses what it must reach, 2 if it cannot be measured."""
    allow_files(FILES)
    try:
        figures = run(args)
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"bench index: {error}\n")
        return 2
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = f"{figure_table(figures)}\n\n{about_line(about)}\n"
    write_reports(args, values={"about": about, "figures": [asdict(figure) | {"met": figure.met} for figure in figures]}, text=text,
                  chart=chart(figures))
    sys.stdout.write(text)
    return int(not all(figure.met for figure in figures))


def run(args: argparse.Namespace) -> list[Figure]:
    """All figures. The volume is removed afterwards, unless it is to be kept."""
    scale = Scale(args.cameras, args.days, gop=args.gop)
    if scale.cameras < 1 or scale.rows < 1:
        raise ValueError("at least one camera and one row are needed")
    folder = Path(tempfile.mkdtemp(prefix="index-", dir=args.folder))
    live = Path(tempfile.mkdtemp(prefix="index-", dir=args.live))
    try:
        maker = IndexMaker(scale)
        free = shutil.disk_usage(folder).free
        if maker.bytes_needed + FREE_BYTES > free:
            raise ValueError(f"{maker.bytes_needed / 1e9:.0f} GB of index do not fit, {free / 1e9:.0f} GB are free in {folder.parent}: "
                             "name another --folder, or fewer --cameras or --days")
        with Progress("index", scale.cameras) as bar:
            maker.make(folder / "volume", bar.reach)
        return [*openings(folder / "volume", live, args.journal_s, scale, args.samples), *sizes(folder / "volume", scale)]
    finally:
        shutil.rmtree(live, ignore_errors=True)
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def told(text: str) -> None:
    """What has been done, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def openings(volume: Path, live: Path, journal_s: float, scale: Scale, samples: int) -> list[Figure]:
    """A slot's life: opened, killed, opened, killed, opened after a power cut, closed, opened. What readers need is measured meanwhile."""
    with SlotProcess(volume, live, END_NS + LATER_NS, journal_s) as slot:
        slot.told()
        told("recorded and killed")
    with SlotProcess(volume, live, END_NS + 2 * LATER_NS, AFTER_S) as slot:
        killed = slot.opened
        slot.told()
        told("opened, and killed again")
    for file in live.iterdir():
        file.unlink()
    forget(volume)
    with SlotProcess(volume, live, END_NS + 3 * LATER_NS, 0.0) as slot:
        cut = slot.opened
        slot.told()
        told("opened as after a power cut")
        read = readers(volume, live, samples)
        told("read")
        slot.close()
    with SlotProcess(volume, live, END_NS + 4 * LATER_NS, 0.0) as slot:
        clean = slot.opened
        slot.told()
        slot.close()
    return [*opening_figures(killed, cut, clean, journal_s, scale), *reading_figures(read, scale)]


def opening_figures(killed: dict[str, Any], cut: dict[str, Any], clean: dict[str, Any], journal_s: float, scale: Scale) -> list[Figure]:
    """How long a slot takes to open."""
    size = f"{scale.cameras} cameras x {scale.days:g} days"
    return [
        Figure("opened after kill -9", killed["open_s"], "s", 2.0,
               note=f"{size}; {journal_s:g} s in the journal; {killed['adopted']} rows adopted; {_opening(killed)}"),
        Figure("opened after a power cut, all of it cold", cut["open_s"], "s", 2.0, note=_opening(cut)),
        Figure("opened after it was closed in order", clean["open_s"], "s", 2.0, note=_opening(clean)),
    ]


def _opening(told: dict[str, Any]) -> str:
    return f"{told['records']} records; {told['cpu_s']:.2f} s CPU"


def reading_figures(read: dict[str, float], scale: Scale) -> list[Figure]:
    """Lookups, timeline, memory."""
    return [
        Figure("lookup by time, warm, from Python", read["search_us"], "us", 1.0, 0.6, "search in the mapped ring"),
        Figure("the same by TrackReader.rows", read["rows_us"], "us", note="a checked copy of the row, live file and tail looked at"),
        Figure("lookup by time, cold, in an open ring", read["cold_us"], "us", 200.0, 60.0,
               f"median; p99 {read['cold_p99_us']:.0f} us; {read['cold_faults']:.1f} pages come from the disk"),
        Figure("the first lookup after a ring was opened, cold", read["first_us"], "us",
               note=f"median; {read['first_faults']:.1f} pages come from the disk"),
        Figure(f"timeline of {read['timeline_days']:.0f} days by the minute, to JSON", read["timeline_json_ms"], "ms", 50.0, 10.0,
               f"{scale.rows:,} rows, {read['timeline_json_bytes']:,.0f} bytes; {read['timeline_rows_ms']:.1f} ms without lines by the minute, "
               "before any JSON"),
        Figure(f"resident memory of {scale.cameras} mapped rings", read["mapped_mb"], "MB", 150.0, 60.0, "an hour read of each"),
        Figure("the same after 100 lookups in each", read["searched_mb"], "MB", 150.0, 60.0),
    ]


def sizes(volume: Path, scale: Scale) -> list[Figure]:
    """Bytes of index on the disk, as the files' sizes are."""
    ring, frames = ((volume / index_path(1, TRACK, suffix)).stat().st_size for suffix in ("ring", "frames"))
    return [
        Figure("ring on the disk, per row", ring / scale.rows, "B", 80.0, 70.0, f"{ring / 1e6:.1f} MB a camera"),
        Figure("frames on the disk, per access unit", frames / (scale.rows * scale.gop), "B", 8.0, 5.0,
               f"{frames / 1e6:.1f} MB a camera; an entry has {ENTRY_BYTES} B"),
    ]


def readers(volume: Path, live: Path, samples: int) -> dict[str, float]:
    """What bench/index_read.py measures."""
    command = [sys.executable, "-m", "bench.index_read", str(volume), str(live), str(samples)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError("the readers' process failed")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def forget(volume: Path) -> None:
    """Have the page cache let go of index and journal."""
    for path in [*volume.glob("idx/*/*"), *volume.glob("slot-0/journal/*"), *volume.glob("tape.zarr/*/*/c/*")]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


class SlotProcess:
    """`with SlotProcess(...)`: bench/index_slot.py runs; it is killed at the end unless it was closed. `opened`: what it said of opening."""

    def __init__(self, volume: Path, live: Path, wall_ns: int, seconds: float) -> None:
        arguments: Sequence[str] = (str(volume), str(live), str(wall_ns), str(seconds))
        self._process = subprocess.Popen([sys.executable, "-m", "bench.index_slot", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)
        self.opened: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self.opened = self.told()
        except BaseException:
            self.__exit__()
            raise
        return self

    def told(self) -> dict[str, Any]:
        """The next thing it says. RuntimeError if it has died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the slot's process ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if found.get("failed"):
            raise RuntimeError("the volume failed while it was recorded")
        return found

    def close(self) -> None:
        """Have it close the slot in order."""
        self._process.communicate("\n")
        if self._process.returncode:
            raise RuntimeError(f"the slot's process ended with {self._process.returncode}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
