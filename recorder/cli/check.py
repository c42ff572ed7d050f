"""`watchroom check`: reads a volume and reports what is not as it should be; may run beside a recording server."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from recorder.base.config import SiteConfig
from recorder.base.errors import VolumeError
from recorder.cli.exits import Exit
from recorder.cli.show import print_json, size
from recorder.cli.site import add_config, config_path, site_of
from storage.check import LEVELS, check_volume
from storage.finding import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)
    parser.add_argument("volume", type=Path, nargs="*", help="default: the volumes of the configuration")
    parser.add_argument("--level", type=int, choices=LEVELS, default=2,
                        help="1: structure; 2: also every row and byte against its CRC (default); 3: also the BLAKE3 digests")
    parser.add_argument("--live-dir", type=Path, help="where the workers' live files are (default: the configuration's, else /dev/shm)")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Checks each volume; 1 if any has an error."""
    site = site_of(args) if not args.volume or config_path(args).exists() else None
    paths = args.volume or [volume.path for volume in (site.volumes if site else ())]
    live_dir = args.live_dir or (site.live_dir if site else SiteConfig("", Path()).live_dir)
    reports = {str(path): checked(path, live_dir, args.level) for path in paths}
    if args.json:
        print_json({path: asdict(report) | {"clean": report.clean} for path, report in reports.items()})
    else:
        print("\n".join(line for path, report in reports.items() for line in described(path, report)))
    return Exit.OK if all(report.clean for report in reports.values()) else Exit.FINDINGS


def checked(path: Path, live_dir: Path, level: int) -> Report:
    """The report, with progress on a terminal."""
    if not path.is_dir():
        raise VolumeError("no such folder", where=str(path), remedy="name a volume, or mount the disk")
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown:
            sys.stderr.write(f"\r\x1b[2K{path}: {done} of {total} chunks")

    report = check_volume(path, live_dir, level=level, progress=progress)
    if shown:
        sys.stderr.write("\r\x1b[2K")
    return report


def described(path: str, report: Report) -> list[str]:
    """The findings, one a line, and a line that sums up."""
    lines = [f"{path}: {finding.severity}: {finding.where}: {finding.what}; {finding.remedy}" for finding in report.findings]
    return [*lines, f"{path}: {'clean' if report.clean else 'NOT CLEAN'}: {report.tracks} tracks, {report.chunks} chunks, {report.rows} rows, "
            f"{size(report.bytes_read)} read, {report.records} journal records"]
