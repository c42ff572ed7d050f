"""`watchroom camera completeness`: of the time that cameras were to be recorded, what has footage; read from the volumes."""

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import Any

from api.completeness import BYS, described, grouped
from api.times import rfc3339
from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError, NotFound
from recorder.cli.clip import moment
from recorder.cli.show import print_json, table
from recorder.cli.site import add_config
from storage.camera_record import CameraRecord
from storage.catalogue import Catalogue
from storage.completeness import DAY_NS, NOTHING, PERS, Period, Share, periods, share, total
from storage.store import TapeStore

HEAD = ("name", "cameras", "from", "to", "complete %", "missing s", "damaged s", "causes")
RANGE_MAX_NS = 366 * DAY_NS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)
    parser.add_argument("id", nargs="?", default="", help="one camera; default: all")
    parser.add_argument("--by", choices=BYS, default="camera")
    parser.add_argument("--per", choices=PERS, default="day", help="days and months are UTC's; range: the whole")
    parser.add_argument("--start", default="1d", metavar="TIME", help="2026-05-01T00:00:00Z, or 7d before now as 7d (default 1d)")
    parser.add_argument("--end", default="0s", metavar="TIME", help="the same; default: now")
    parser.add_argument("--track", default="main")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace, site: SiteConfig) -> int:
    """Prints the figures, in JSON as the API gives them."""
    now_ns = time.time_ns()
    start_ns, end_ns = (moment(name, getattr(args, name), now_ns) for name in ("start", "end"))
    if not 0 < min(end_ns, now_ns) - start_ns <= RANGE_MAX_NS:
        raise ConfigError("must be a past range of at most 366 days", where="--start, --end", remedy="ask for it in parts")
    cut = periods(start_ns, min(end_ns, now_ns), args.per)
    with Catalogue.open(site.catalogue, SystemClock()) as catalogue:
        cameras = [camera for camera in catalogue.cameras() if args.id in {"", camera.id}]
    if args.id and not cameras:
        raise NotFound("no such camera", where=args.id, remedy="see watchroom camera list")
    found = measured(site, cameras, args.by, args.track, cut)
    if args.json:
        print_json([item(*each, cut) for each in found])
    else:
        print(table(HEAD, [line(name, count, *each) for name, count, shares in found for each in zip(cut, shares, strict=True)]))
    return 0


def measured(site: SiteConfig, cameras: Iterable[CameraRecord], by: str, track: str,
             cut: Sequence[Period]) -> list[tuple[str, int, list[Share]]]:
    """(name, cameras, share of each period) of every group by name. Reads files."""
    store = TapeStore([volume.path for volume in site.volumes], site.live_dir)
    try:
        return [(name, len(members), together([of_camera(store, camera.number, track, cut) for camera in members], len(cut)))
                for name, members in sorted(grouped(cameras, by).items())]
    finally:
        store.close()


def together(shares: Sequence[Sequence[Share]], count: int) -> list[Share]:
    """The sums over cameras, for each of `count` periods."""
    return [total([each[at] for each in shares]) for at in range(count)]


def of_camera(store: TapeStore, camera: int, track: str, cut: Sequence[Period]) -> list[Share]:
    """One track's share of each period; nothing for a camera without it."""
    try:
        reader = store.whole(camera, track)
    except NotFound:
        return [NOTHING] * len(cut)
    return [share(reader, period) for period in cut]


def item(name: str, cameras: int, shares: Sequence[Share], cut: Sequence[Period]) -> dict[str, Any]:
    """As an item of the API's answer."""
    parts = [{"start": rfc3339(start), "end": rfc3339(end), **described(each)} for (start, end), each in zip(cut, shares, strict=True)]
    return {"name": name, "cameras": cameras, **described(total(shares)), "periods": parts}


def line(name: str, cameras: int, period: Period, found: Share) -> tuple[Any, ...]:
    """A period for people."""
    complete = "-" if found.completeness is None else f"{100 * found.completeness:.3f}"
    causes = ", ".join(f"{cause.word} {ns / 1e9:.1f}" for cause, ns in sorted(found.missing_ns.items(), key=lambda pair: -pair[1]))
    missing_s = sum(found.missing_ns.values()) / 1e9
    return (name or "(none)", cameras, rfc3339(period[0])[:19], rfc3339(period[1])[:19], complete, f"{missing_s:.1f}",
            f"{found.damaged_ns / 1e9:.1f}", causes or "-")
