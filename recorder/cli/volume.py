"""`watchroom volume init|show`: make a folder a volume, or say what a volume is."""

import argparse
import os
import re
from pathlib import Path

from recorder.base.errors import ConfigError
from recorder.cli.show import pairs, print_json, size
from storage.volume import Volume

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="init|show")
    init = actions.add_parser("init", help="make a folder a volume")
    init.add_argument("path", type=Path)
    init.add_argument("--size", default="0", help="what its files may take in all, such as 800G (default: 90 %% of the file system)")
    init.add_argument("--on-root", action="store_true", help="allow the root file system")
    show = actions.add_parser("show", help="what a volume is")
    show.add_argument("path", type=Path)
    for action in (init, show):
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Makes or shows a volume."""
    if args.action == "init":
        volume = Volume.init(args.path, bytes_max=parse_size(args.size), on_root=args.on_root)
    else:
        volume = Volume.open(args.path, on_root=True, lock=False)
    try:
        fs = os.fstatvfs(volume.dir_fd)
        free = fs.f_bavail * fs.f_frsize
    finally:
        volume.close()
    if args.json:
        print_json({"path": str(args.path), "uuid": str(volume.uuid), "created": volume.created, "bytes_max": volume.bytes_max,
                    "free_bytes": free})
    else:
        print(pairs({"volume": args.path, "uuid": volume.uuid, "created": volume.created, "may take": size(volume.bytes_max),
                     "free": size(free)}))
    return 0


def parse_size(text: str) -> int:
    """Bytes from a number with a unit: 800G, 1.5T, 64Gi."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?)B?", text)
    if match is None or match[2] not in UNITS:
        raise ConfigError(f'"{text}" is no size', where="--size", remedy="write it like 800G, 1.5T or 64Gi")
    return int(float(match[1]) * UNITS[match[2]])
