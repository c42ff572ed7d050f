"""`watchroom export make|look|list|get|cancel`: has the running server make files of footage, says how far they are, fetches them."""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from recorder.base.errors import ConfigError, Gone, WatchroomError
from recorder.cli.clip import moment, new_file
from recorder.cli.exits import Exit
from recorder.cli.server import Server, add_server, server_of
from recorder.cli.show import print_json, size, table

ASK_S = 1.0
BAR = 30
PIECE = 1 << 20
ENDED = frozenset({"done", "failed", "cancelled"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="make|look|list|get|cancel")
    make = actions.add_parser("make", help="make a file of footage, wait for it and fetch it")
    look = actions.add_parser("look", help="say what there is of it, and make nothing")
    for action in (make, look):
        action.add_argument("camera", nargs="+", help="the cameras' ids")
        action.add_argument("--start", required=True, metavar="TIME", help="2026-05-01T12:00:00Z, or 10m before now as 10m")
        action.add_argument("--end", default="0s", metavar="TIME", help="the same; default: now")
        action.add_argument("--track", default="main")
    make.add_argument("--reason", required=True, help="goes into the audit")
    make.add_argument("--reference", default="", help="a case number, ...")
    make.add_argument("--format", choices=("mp4", "zip", "pack"), default="mp4")
    make.add_argument("--gaps", choices=("keep", "close"), default="keep")
    make.add_argument("--priority", choices=("low", "normal", "high"), default="normal")
    make.add_argument("--no-audio", action="store_true")
    make.add_argument("--key", default="", help="an Idempotency-Key: the same command again then makes nothing new")
    make.add_argument("--no-wait", action="store_true", help="only ask for it, and print its id")
    get = actions.add_parser("get", help="wait for an export and fetch it")
    cancel = actions.add_parser("cancel", help="cancel an export, or take its file away")
    for action in (get, cancel):
        action.add_argument("id")
    for action in (make, get):
        action.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: the name that the server gives, here")
        action.add_argument("--force", action="store_true", help="replace the file if it is there")
    listed = actions.add_parser("list", help="the exports, the newest first")
    listed.add_argument("--state", default="")
    for action in (make, look, get, cancel, listed):
        add_server(action, "export")
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Does one of them. 1: made, but something of the range is not in it; or, of `look`, is not there."""
    server = server_of(args)
    if args.action == "list":
        return _list(server, args)
    if args.action == "look":
        return _look(server, args)
    if args.action == "cancel":
        job = server.call("DELETE", f"exports/{_id(args.id)}")
        return _said(args, job, f"export {job['id']} was {job['state']}" if job["state"] != "cancelled" else f"export {job['id']} is cancelled")
    if args.action == "get":
        job = server.call("GET", f"exports/{_id(args.id)}")
    else:
        headers = {"Idempotency-Key": args.key} if args.key else {}
        job = server.call("POST", "exports", _body(args), headers)
        if args.no_wait:
            return _said(args, job, job["id"])
    return _fetch(server, args, _wait(server, job, quiet=args.json))


def _body(args: argparse.Namespace) -> dict[str, Any]:
    """What to ask for. ConfigError."""
    now_ns = time.time_ns()
    start_ns, end_ns = (moment(option, getattr(args, option), now_ns) for option in ("start", "end"))
    if start_ns >= end_ns:
        raise ConfigError("lies before --start", where="--end", remedy="ask for a range that is not empty")
    items = [{"camera": camera, "track": args.track, "start": start_ns, "end": end_ns} for camera in dict.fromkeys(args.camera)]
    if args.action == "look":
        return {"items": items, "reason": "look", "format": "zip"}
    return {"items": items, "reason": args.reason, "reference": args.reference, "format": args.format, "gaps": args.gaps,
            "priority": args.priority, "audio": "none" if args.no_audio else "source"}


def _id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise ConfigError(f'"{text[:40]}" is no export', where="export", remedy="see watchroom export list")
    return text


def _wait(server: Server, job: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The job once it has ended; on a terminal with a bar that grows. Raises WatchroomError if it has failed."""
    bar = not quiet and sys.stderr.isatty()
    while job["state"] not in ENDED:
        if bar:
            print("\r" + progress(job), end="", file=sys.stderr, flush=True)
        time.sleep(ASK_S)
        job = server.call("GET", f"exports/{job['id']}")
    if bar:
        print("\r" + progress(job), file=sys.stderr, flush=True)
    if job["state"] == "failed":
        raise WatchroomError(job["error"]["message"], where=f"export {job['id']}", remedy=job["error"]["remedy"])
    if job["state"] == "cancelled":
        raise Gone("was cancelled", where=f"export {job['id']}", remedy="ask for it again")
    return job


def progress(job: Mapping[str, Any]) -> str:
    """How far a job is, in a line of 79 characters."""
    done = round(BAR * job["progress"])
    words = f"{job['state']} [{'#' * done}{'.' * (BAR - done)}] {100 * job['progress']:3.0f} %  {size(job['done_bytes'])}"
    return f"{words}  {job['eta_s']:.0f} s left".ljust(79) if job["eta_s"] is not None else words.ljust(79)


def _fetch(server: Server, args: argparse.Namespace, job: dict[str, Any]) -> int:
    """Save the result under its name once it is whole and its digest is right."""
    made = job["result"]
    if made is None:
        raise Gone("its file has gone", where=f"export {job['id']}", remedy="ask for it again")
    path = args.output or Path(re.sub(r"[^\w.-]", "_", made["name"]))
    with new_file(path, force=args.force) as file:
        digest = _save(server, made["address"], file)
        if digest != made["sha256"]:
            raise WatchroomError("what arrived is not what was made", where=str(path), remedy=f"run watchroom export get {job['id']}")
    note = "" if made["complete"] else "; the range's end was not recorded yet"
    _said(args, {**job, "file": str(path)}, f"{path}: {size(made['bytes'])}, SHA-256 {made['sha256']}{note}")
    return Exit.OK if made["complete"] else Exit.FINDINGS


def _save(server: Server, address: str, file: BinaryIO) -> str:
    """The SHA-256 of what arrived."""
    digest = hashlib.sha256()
    with server.open("GET", address) as answer:
        while piece := answer.read(PIECE):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _look(server: Server, args: argparse.Namespace) -> int:
    found = server.call("POST", "exports?dry_run=1", _body(args))
    lacks = [(item["camera"], word, part["start"][:19] + "Z", (part["end"] or "now")[:19], part.get("cause", ""))
             for item in found["items"] for word in ("gaps", "damage", "expired", "missing") for part in item[word]]
    if args.json:
        print_json(found)
    else:
        print(table(("camera", "track", "footage s", "expected s", "size"),
                    [(item["camera"], item["track"], f"{item['footage_s']:.1f}", f"{item['expected_s']:.1f}", size(item["bytes"]))
                     for item in found["items"]]))
        if lacks:
            print(table(("camera", "what", "from", "until", "cause"), lacks))
    return Exit.FINDINGS if lacks else Exit.OK


def _list(server: Server, args: argparse.Namespace) -> int:
    jobs: list[dict[str, Any]] = []
    cursor, state = "", f"&state={args.state}" if re.fullmatch(r"[a-z]+", args.state) else ""
    while True:
        page = server.call("GET", f"exports?limit=100{state}{f'&cursor={cursor}' if cursor else ''}")
        jobs += page["items"]
        if not (cursor := page["next"] or ""):
            break
    rows = [(job["id"], job["state"], job["format"], ",".join(dict.fromkeys(item["camera"] for item in job["items"]))[:40],
             job["items"][0]["start"][:19] + "Z", size(job["bytes"]), job["by"], job["reference"] or "-", job["reason"]) for job in jobs]
    return _said(args, jobs, table(("export", "state", "format", "cameras", "from", "size", "by", "reference", "reason"), rows))


def _said(args: argparse.Namespace, value: Any, text: str) -> int:
    if args.json:
        print_json(value)
    else:
        print(text)
    return Exit.OK
