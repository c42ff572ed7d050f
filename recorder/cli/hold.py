"""`watchroom hold add|list|release`: keeps footage from retention, says what of it is kept and what was gone before, lets it go again."""

import argparse
import getpass
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from api.times import rfc3339
from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError, NotFound
from recorder.cli.clip import moment
from recorder.cli.control import call
from recorder.cli.show import print_json, table
from recorder.cli.site import add_config, site_of

TAKE_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|release")
    add = actions.add_parser("add", help="hold footage of some cameras, and say what of it is kept")
    add.add_argument("camera", nargs="+", help="the cameras' ids")
    add.add_argument("--start", required=True, metavar="TIME", help="2026-05-01T12:00:00Z, or 10m before now as 10m")
    add.add_argument("--end", default="0s", metavar="TIME", help="the same; may lie ahead; default: now")
    add.add_argument("--track", default="", help="only this track (default: all)")
    add.add_argument("--reason", required=True)
    add.add_argument("--reference", default="", help="a case number, ...")
    add.add_argument("--owner", default="", help="who answers for it (default: who runs this)")
    add.add_argument("--review", default="", metavar="TIME", help="when somebody should look at it again")
    release = actions.add_parser("release", help="hold no more: what nothing else keeps goes within the hour")
    release.add_argument("id")
    listed = actions.add_parser("list", help="the holds")
    listed.add_argument("--all", action="store_true", help="released ones too")
    for action in (add, listed, release):
        add_config(action)
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Does one of them; with or without a running server."""
    site = site_of(args)
    if args.action == "add":
        done = call(site, "hold.add", {"hold": _wanted(site, args)}, answer_s=TAKE_S)
        text = _taken(done, _names(site))
    elif args.action == "release":
        if not re.fullmatch(r"[0-9a-f]{32}", args.id):
            raise ConfigError(f'"{args.id[:40]}" is no hold', where="hold", remedy="see watchroom hold list")
        done = call(site, "hold.release", {"id": args.id, "by": caller()}, answer_s=TAKE_S)
        text = f"hold {args.id} is released{_waits(done)}"
    else:
        done = _all(site, released=args.all)
        text = _table(done, _names(site))
    if args.json:
        print_json(done)
    else:
        print(text)
    return 0


def caller() -> str:
    """Who runs this, as the system names them; a user without a name (of a container) by number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _wanted(site: SiteConfig, args: argparse.Namespace) -> dict[str, Any]:
    now_ns = time.time_ns()
    numbers = {str(camera["id"]): int(camera["number"]) for camera in call(site, "camera.list")}
    strangers = [name for name in args.camera if name not in numbers]
    if strangers:
        raise NotFound(f'there is no camera "{strangers[0]}"', where="hold", remedy="see watchroom camera list")
    start_ns, end_ns = (moment(option, getattr(args, option), now_ns) for option in ("start", "end"))
    if start_ns >= end_ns:
        raise ConfigError("lies before --start", where="--end", remedy="ask for a range that is not empty")
    spans = [{"camera": numbers[name], "track": args.track, "start_ns": start_ns, "end_ns": end_ns} for name in dict.fromkeys(args.camera)]
    review_ns = moment("review", args.review, now_ns) if args.review else 0
    return {"reason": args.reason, "reference": args.reference, "author": args.owner or caller(), "review_ns": review_ns,
            "spans": spans}


def _all(site: SiteConfig, *, released: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after, more = "", True
    while more:
        page = call(site, "hold.list", {"after": after, "released": released})
        found += page["holds"]
        after, more = page["holds"][-1]["id"] if page["holds"] else "", bool(page["more"])
    return found


def _names(site: SiteConfig) -> dict[int, str]:
    return {int(camera["number"]): str(camera["id"]) for camera in call(site, "camera.list")}


def _taken(done: Mapping[str, Any], names: Mapping[int, str]) -> str:
    if "hold" not in done:
        return f"hold {done['id']} is written down; the slots take it when the server starts, before anything goes"
    lines = [f"hold {done['hold']['id']} stands{_waits(done)}"]
    rows = [(names.get(one["camera"], one["camera"]), one["track"], word, _time(start), _time(end))
            for one in done["found"] for word, ranges in (("kept", one["kept"]), ("too late", one["late"])) for start, end in ranges]
    return "\n".join([*lines, table(("camera", "track", "", "from", "until"), rows)]) if rows else "\n".join([*lines, "nothing is there yet"])


def _waits(done: Mapping[str, Any]) -> str:
    pending = done.get("pending", [])
    return f"; slots that have yet to be told: {', '.join(map(str, pending))}" if pending else ""


def _table(holds: list[dict[str, Any]], names: Mapping[int, str]) -> str:
    rows = [(hold["id"], "released" if hold["released_ns"] else "stands", _cameras(hold, names),
             _time(min(span["start_ns"] for span in hold["spans"])), _time(max(span["end_ns"] for span in hold["spans"])),
             hold["author"], hold["reference"] or "-", _time(hold["review_ns"])[:10] if hold["review_ns"] else "-", hold["reason"])
            for hold in holds]
    return table(("hold", "state", "cameras", "from", "until", "owner", "reference", "review", "reason"), rows)


def _cameras(hold: Mapping[str, Any], names: Mapping[int, str]) -> str:
    found = [names.get(number, f"number {number}") for number in sorted({span["camera"] for span in hold["spans"]})]
    return ",".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _time(ns: int) -> str:
    return rfc3339(ns)[:19] + "Z"
