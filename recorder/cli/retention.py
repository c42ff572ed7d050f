"""`watchroom retention show|simulate|deletions`: which rules count, what another rule would delete, and what was deleted."""

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from api.deletions import described
from api.times import rfc3339
from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.config_file import TRACK_NAMES, YEARS_10, read_config
from recorder.base.errors import ConfigError, NotFound
from recorder.base.media import NS
from recorder.base.rulebook import Change, Member, RuleBook, rule_book, with_change
from recorder.cli.clip import moment
from recorder.cli.show import print_json, size, table
from recorder.cli.site import add_config, site_of
from recorder.cli.volume import parse_size
from storage.camera_record import CameraRecord
from storage.catalogue import Catalogue
from storage.deletions import NO_KEY, Asked, Deleted, deletions
from storage.simulate import Loss, losses, total
from storage.store import TapeStore

PAGE = 1000
HEADS = {
    "show": ("camera", "track", "days", "by", "least days", "oldest"),
    "simulate": ("camera", "track", "from", "to", "hours", "size", "rule"),
    "deletions": ("camera", "track", "from", "to", "size", "cause", "rule", "unreadable", "erased"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|simulate|deletions")
    show = actions.add_parser("show", help="what counts for each track, all rules together, and how far its footage reaches back")
    simulate = actions.add_parser("simulate", help="what another rule would delete of the footage that is there now; deletes nothing")
    listing = actions.add_parser("deletions", help="the ledger: what was deleted, why, since when unreadable, since when overwritten")
    whose = simulate.add_mutually_exclusive_group()
    for word in ("camera", "partner", "site"):
        whose.add_argument(f"--{word}", default="", metavar="ID" if word == "camera" else "NAME", help=f"the rule of a {word}")
    whose.add_argument("--with", dest="other", type=Path, metavar="FILE", help="all rules as another configuration file has them")
    simulate.add_argument("--track", choices=TRACK_NAMES, default="", help="what the rule says of this track alone")
    for key in ("days", "days-min"):
        simulate.add_argument(f"--{key}", type=float, metavar="N")
    for key in ("bytes-max", "bytes-min"):
        simulate.add_argument(f"--{key}", metavar="SIZE", help="800G, 1.5T; 0: none")
    listing.add_argument("--camera", default="", metavar="ID")
    listing.add_argument("--start", default="31d", metavar="TIME", help="deleted from then on: 2026-05-01T00:00:00Z, or 7d before now as 7d")
    listing.add_argument("--end", default="0s", metavar="TIME", help="deleted before; default: now")
    for action in (show, simulate, listing):
        add_config(action)
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Does one of them; reads volumes and catalogue, and needs no server."""
    site = site_of(args)
    with Catalogue.open(site.catalogue, SystemClock()) as catalogue:
        cameras = catalogue.cameras(removed=True)
    names = {camera.number: camera.id for camera in cameras}
    match args.action:
        case "show":
            tell(args, [shown(one, names) for one in reaches(site, rule_book(site, members(cameras)))])
        case "simulate":
            tell_losses(args, simulated(args, site, cameras), names)
        case _:
            found = [described(one, names.get(one.camera)) for one in ledger(args, site, cameras)]
            tell(args, found)
    return 0


def members(cameras: Iterable[CameraRecord]) -> list[Member]:
    """What rules need to know of the cameras."""
    return [Member.of(camera.number, camera.config) for camera in cameras]


def tell(args: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """As JSON, or a table."""
    if args.json:
        print_json(found)
    else:
        print(table(HEADS[args.action], [line(args.action, one) for one in found]))


def line(action: str, one: dict[str, Any]) -> tuple[Any, ...]:
    """An item for people."""
    who = one["camera"] or f"({one['number']})"
    if action == "show":
        return (who, one["track"], f"{one['days']:g}", one["by"], f"{one['days_min']:g}", short(one["oldest"]))
    if action == "simulate":
        return (who, one["track"], short(one["from"]), short(one["to"]), f"{one['hours']:.2f}", size(one["bytes"]), one["rule"])
    return (who, one["track"], short(one["start"]), short(one["end"]), size(one["bytes"]), one["cause"], one["rule"] or "-",
            short(one["unreadable"]), short(one["erased"]))


def short(text: str | None) -> str:
    """A time to the second."""
    return f"{text[:19]}Z" if text else "-"


# --- show

def reaches(site: SiteConfig, book: RuleBook) -> Iterator[tuple[int, str, Any, int]]:
    """(camera, track, what counts for it, UTC of its oldest row) of every track on the volumes."""
    store = TapeStore([volume.path for volume in site.volumes], site.live_dir)
    try:
        for camera in store.cameras():
            for track in store.tracks(camera):
                yield camera, track, book.keep(camera, track), min((t.edges().first_ns for t in store.tapes(camera, track)), default=0)
    finally:
        store.close()


def shown(one: tuple[int, str, Any, int], names: dict[int, str]) -> dict[str, Any]:
    """As JSON; a camera that no catalogue knows keeps the rule that its journal holds."""
    camera, track, keep, oldest_ns = one
    return {"camera": names.get(camera), "number": camera, "track": track, "days": keep.days if keep else 0.0,
            "by": keep.days_by if keep else "its journal", "days_min": keep.days_min if keep else 0.0,
            "oldest": rfc3339(oldest_ns) if oldest_ns else None}


# --- simulate

def simulated(args: argparse.Namespace, site: SiteConfig, cameras: list[CameraRecord]) -> list[Loss]:
    """What the changed rule would take that today's leaves."""
    now = rule_book(site, members(cameras))
    store = TapeStore([volume.path for volume in site.volumes], site.live_dir)
    try:
        return losses(store, now, changed(args, now, cameras), time.time_ns())
    finally:
        store.close()


def changed(args: argparse.Namespace, now: RuleBook, cameras: list[CameraRecord]) -> RuleBook:
    """The rules as the options want them. Raises ConfigError, NotFound."""
    said = {"days": args.days, "days_min": args.days_min,
            "bytes_max": size_of("--bytes-max", args.bytes_max), "bytes_min": size_of("--bytes-min", args.bytes_min)}
    if args.other is not None:
        if any(value is not None for value in said.values()):
            raise ConfigError("takes no other rule beside it", where="--with", remedy="write it in that file")
        return of_file(read_config(args.other), cameras)
    if all(value is None for value in said.values()):
        raise ConfigError("no rule is named", where="retention simulate", remedy="add --days, --days-min, --bytes-max or --bytes-min")
    for option, days, least in (("--days", args.days, 0.0001), ("--days-min", args.days_min, 0.0)):
        if days is not None and not least <= days <= YEARS_10:      # also where it is no number
            raise ConfigError(f"must be {least:g} to {YEARS_10:g}", where=option, remedy="change the value")
    word = next((word for word in ("camera", "partner", "site") if getattr(args, word)), "")
    return with_change(now, Change(word, getattr(args, word) if word else "", args.track, **said))


def size_of(option: str, text: str | None) -> int | None:
    """Bytes; None where nothing is said."""
    return parse_size(text, option) if text else None


def of_file(site: SiteConfig, cameras: list[CameraRecord]) -> RuleBook:
    """The rules of another configuration file: its cameras' words, and those of cameras that it does not name as they are."""
    named = {camera.id: camera for camera in site.cameras}
    return rule_book(site, [Member.of(camera.number, named.get(camera.id, camera.config) if camera.removed_ns is None else camera.config)
                            for camera in cameras])


def tell_losses(args: argparse.Namespace, found: list[Loss], names: dict[int, str]) -> None:
    """The losses, and their sum."""
    tell(args, [{"camera": names.get(loss.camera), "number": loss.camera, "track": loss.track, "from": rfc3339(loss.from_ns),
                 "to": rfc3339(loss.to_ns), "hours": loss.covered_ns / NS / 3600, "bytes": loss.nbytes, "rule": loss.why} for loss in found])
    if not args.json:
        tracks, covered_ns, nbytes = total(found)
        print(f"{tracks} tracks would lose {covered_ns / NS / 3600:.2f} hours, {size(nbytes)}")


# --- deletions

def ledger(args: argparse.Namespace, site: SiteConfig, cameras: list[CameraRecord]) -> Iterator[Deleted]:
    """The ledger's lines of the range."""
    now_ns = time.time_ns()
    start_ns, end_ns = (moment(name, getattr(args, name), now_ns) for name in ("start", "end"))
    numbers = frozenset(camera.number for camera in cameras if camera.id == args.camera) if args.camera else None
    if numbers is not None and not numbers:
        raise NotFound("no such camera", where=args.camera, remedy="see watchroom camera list")
    after = NO_KEY
    while True:
        found = deletions([volume.path for volume in site.volumes], Asked(start_ns, end_ns, numbers, after), PAGE)
        yield from found
        if len(found) < PAGE:
            return
        after = found[-1].key
