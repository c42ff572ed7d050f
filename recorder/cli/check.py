"""`watchroom check`: reads a volume and reports what is not as it should be; may run beside a recording server. `--repair` may not."""

import argparse
import errno
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import VolumeError
from recorder.cli.exits import Exit
from recorder.cli.show import line_of, print_json, size
from recorder.cli.site import add_config, config_path, site_of
from storage.check import LEVELS, check_volume
from storage.finding import Report
from storage.repair import Repair, repair_volume
from storage.volume import Volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)
    parser.add_argument("volume", type=Path, nargs="*", help="default: the volumes of the configuration")
    parser.add_argument("--level", type=int, choices=LEVELS, default=2,
                        help="1: structure; 2: also every row and byte against its CRC (default); 3: also the BLAKE3 digests")
    parser.add_argument("--repair", action="store_true",
                        help="first put back or move aside (into VOLUME/aside) what is wrong, and make indexes again; no server may run")
    parser.add_argument("--live-dir", type=Path, help="where the workers' live files are (default: the configuration's, else /dev/shm)")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Checks each volume, repairs it first if that is asked for; 1 if any has an error."""
    site = site_of(args) if not args.volume or config_path(args).exists() else None
    paths = args.volume or [volume.path for volume in (site.volumes if site else ())]
    live_dir = args.live_dir or (site.live_dir if site else SiteConfig("", Path()).live_dir)
    for path in paths:
        if not path.is_dir():       # before hours are spent on the others
            raise VolumeError("no such folder", where=str(path), remedy="name a volume, or mount the disk")
    repairs = repaired(paths, live_dir, as_json=args.json) if args.repair else {}
    reports: dict[str, Report] = {}
    for path in paths:
        reports[str(path)] = report = checked(path, live_dir, args.level)
        if not args.json:
            show(described(str(path), report))
    if args.json:
        print_json({path: asdict(report) | {"clean": report.clean} | ({"repair": asdict(repairs[path])} if args.repair else {})
                    for path, report in reports.items()})
    return Exit.OK if all(report.clean for report in reports.values()) else Exit.FINDINGS


def show(lines: Iterable[str]) -> None:
    """Prints each as one line, at once."""
    for line in lines:
        print(line_of(line), flush=True)


def repaired(paths: Iterable[Path], live_dir: Path, *, as_json: bool) -> dict[str, Repair]:
    """Repairs volumes that nobody else writes. VolumeError if somebody does, OSError; what had been done by then is told, whatever ends it."""
    repairs: dict[str, Repair] = {}
    try:
        for path in paths:
            done = Repair()
            volume = Volume.open(path, on_root=True)
            try:
                repairs[str(path)] = done
                repair_volume(volume, live_dir, SystemClock(), done)
            except OSError as error:
                raise unfinished(path, error) from error
            finally:
                volume.close()
                if not as_json:
                    show(told(str(path), done))
    except BaseException:
        if as_json:
            print_json({path: {"repair": asdict(repair)} for path, repair in repairs.items()})
        raise
    return repairs


def unfinished(path: Path, error: OSError) -> VolumeError:
    """What to say of a repair that the disk has ended. It may be begun again: what is done is found done."""
    where = f"{path}: {error.filename}" if error.filename else str(path)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "make room on its file system" if full else "look at what lies there, the disk and the system log"
    return VolumeError(f"the repair is not finished: {error.strerror or error}", where=where, remedy=f"{remedy}, then repair again")


def checked(path: Path, live_dir: Path, level: int) -> Report:
    """The report; on the way, how far it is and how long it will take, on stderr."""
    from bench.progress import Progress
    with ExitStack() as stack:
        shown: list[Progress] = []

        def progress(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(Progress(str(path), total)))
            shown[0].reach(done, f"{size(done)} of {size(total)}")

        return check_volume(path, live_dir, level=level, progress=progress)


def told(path: str, repair: Repair) -> list[str]:
    """What a repair did, one a line."""
    return [*(f"{path}: moved {one.where} to {one.to}: {one.why}" for one in repair.moved),
            *(f"{path}: wrote {one} anew" for one in repair.documents),
            *(f"{path}: wrote the head of {one} anew, from its footer" for one in repair.resealed),
            *(f"{path}: put {one} together without a journal" for one in repair.adopted),
            *(f"{path}: left: {one}" for one in repair.left)]


def described(path: str, report: Report) -> list[str]:
    """The findings, one a line, and a line that sums up."""
    lines = [f"{path}: {finding.severity}: {finding.where}: {finding.what}; {finding.remedy}" for finding in report.findings]
    return [*lines, f"{path}: {'clean' if report.clean else 'NOT CLEAN'}: {report.tracks} tracks, {report.chunks} chunks, {report.rows} rows, "
            f"{size(report.bytes_read)} read, {report.records} journal records"]
