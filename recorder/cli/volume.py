"""`watchroom volume init|show|list|add|drain`: make a folder a volume, say what it is, and which volumes the site's cameras record to."""

import argparse
import os
import re
from pathlib import Path
from typing import Any

from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError, VolumeError
from recorder.cli.control import call, slot_status
from recorder.cli.show import pairs, print_json, size, table
from recorder.cli.site import add_config, site_of
from storage.layout import CLASSES
from storage.volume import BYTES_MAX, Volume

HEAD = ("NO", "PATH", "WEIGHT", "CAMERAS", "MBIT/S", "MAY TAKE", "FREE", "STATE")
LEAST_BYTES = sum(kind.file_bytes for kind in CLASSES)      # with less there is no chunk for a camera's video and its sound
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="init|show|list|add|drain")
    init = actions.add_parser("init", help="make a folder a volume")
    init.add_argument("path", type=Path)
    init.add_argument("--size", default="0", help="what its files may take in all, such as 800G (default: 90 %% of the file system)")
    init.add_argument("--on-root", action="store_true", help="allow the root file system")
    show = actions.add_parser("show", help="what a volume is")
    show.add_argument("path", type=Path)
    listed = actions.add_parser("list", help="the site's volumes, and who records to them")
    add = actions.add_parser("add", help="record to another volume as well, from now on")
    add.add_argument("path", type=Path, help="made by `watchroom volume init`")
    add.add_argument("--weight", type=float, default=1.0, help="its part of the cameras' bit rate beside the other volumes' (default 1)")
    add.add_argument("--on-root", action="store_true", help="allow the root file system")
    drain = actions.add_parser("drain", help="record nothing more to a volume; its footage stays under its rules")
    drain.add_argument("volume", help="its path, UUID or number")
    drain.add_argument("--undo", action="store_true", help="record to it again")
    for action in (listed, add, drain):
        add_config(action)
    for action in (init, show, listed, add, drain):
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Makes or shows a volume, or changes which ones are recorded to; that also while no server runs."""
    if args.action in {"list", "add", "drain"}:
        return of_site(args)
    if args.action == "init":
        volume = Volume.init(args.path, bytes_max=wanted(args.size), on_root=args.on_root)
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


def of_site(args: argparse.Namespace) -> int:
    """The site's volumes, after what was asked. Raises what the call raises."""
    site = site_of(args)
    match args.action:
        case "add":
            said = call(site, "volume.add", {"path": str(args.path.absolute()), "weight": args.weight, "on_root": args.on_root})
        case "drain":
            which = str(Path(args.volume).absolute()) if Path(args.volume).is_dir() else args.volume
            said = call(site, "volume.drain", {"volume": which, "undo": args.undo})
        case _:
            said = {"volumes": call(site, "volume.list")}
    found = [{**volume, **figures(volume["path"]), **said_of(site, volume["number"])} for volume in said["volumes"]]
    if args.json:
        print_json({**said, "volumes": found})
        return 0
    print(table(HEAD, [row(volume) for volume in found]))
    if "moved" in said:
        print(f"{said['moved']} cameras move")
    return 0


def figures(path: str) -> dict[str, int | None]:
    """What the volume may take, and what is free on its file system; None if it is not there."""
    try:
        volume = Volume.open(path, on_root=True, lock=False)
    except VolumeError:
        return {"bytes_max": None, "free_bytes": None}
    try:
        fs = os.fstatvfs(volume.dir_fd)
        return {"bytes_max": volume.bytes_max, "free_bytes": fs.f_bavail * fs.f_frsize}
    finally:
        volume.close()


def said_of(site: SiteConfig, number: int) -> dict[str, Any]:
    """What the workers say of a volume: why one does not record to it ("": all do, or none runs), whether cameras stay on it although it is
    `slow`, and whether they may go home to it (`proven`)."""
    said = [volumes[number] for slot in range(site.recording.slots) if number < len(volumes := slot_status(site, slot).get("volumes", []))]
    return {"failed": next((str(one["failed"]) for one in said if one["failed"]), ""), "slow": any(one.get("slow") for one in said),
            "proven": all(one.get("proven", True) for one in said)}


def row(volume: dict[str, Any]) -> tuple[object, ...]:
    """A line of the table."""
    state = volume["failed"] or ("missing" if volume["bytes_max"] is None else "drained" if volume["drain"] else
                                 "slow, its cameras stay" if volume["slow"] else "in use" if volume["proven"] else "back, not proven")
    sizes = [size(volume[key]) if volume[key] is not None else "-" for key in ("bytes_max", "free_bytes")]
    return (volume["number"], volume["path"], f"{volume['weight']:g}", volume["cameras"], f"{volume['kbps'] / 1000:.1f}", *sizes, state)


def wanted(text: str) -> int:
    """What a new volume's files may take; 0: the default. ConfigError for what no camera could record to."""
    size_bytes = parse_size(text)
    if size_bytes and not LEAST_BYTES <= size_bytes <= BYTES_MAX:
        raise ConfigError(f'"{text}" is no size for a volume', where="--size",
                          remedy=f"give it {LEAST_BYTES >> 20} MiB at least, and no more than the disk has")
    return size_bytes


def parse_size(text: str, option: str = "--size") -> int:
    """Bytes from a number with a unit: 800G, 1.5T, 64Gi."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?i?)B?", text)
    if match is None or match[2] not in UNITS:
        raise ConfigError(f'"{text}" is no size', where=option, remedy="write it like 800G, 1.5T or 64Gi")
    return int(float(match[1]) * UNITS[match[2]])
