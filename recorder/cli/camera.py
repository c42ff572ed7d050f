"""`watchroom camera list|show|add|remove|completeness`: the cameras of a site and how they fare."""

import argparse
from pathlib import Path
from typing import Any, cast

from api.times import rfc3339
from recorder.base.config import TRANSPORTS, SiteConfig
from recorder.base.errors import NotFound
from recorder.base.passwords import PASSWORD_KEYS, file_password
from recorder.base.toml_table import Table
from recorder.cli import completeness
from recorder.cli.control import call, server_runs, slot_status
from recorder.cli.show import pairs, print_json, table
from recorder.cli.site import add_config, site_of

TEXTS = ("name", "partner", "site", "purpose", "user")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|add|remove|completeness")
    completeness.add_arguments(actions.add_parser("completeness", help="how much of what was to be recorded there is"))
    add = actions.add_parser("add", help="record another camera from now on")
    show = actions.add_parser("show", help="all about one camera")
    remove = actions.add_parser("remove", help="stop and hide it; footage stays")
    for action in (add, show, remove):
        action.add_argument("id")
    add.add_argument("url", help="rtsp:// or rtsps://host[:port]/path, without user and password")
    add.add_argument("--kbps", type=int, help="declared bit rate (default 4000)")
    add.add_argument("--transport", choices=TRANSPORTS, help="of both streams (default tcp)")
    add.add_argument("--reorder-ms", type=int, metavar="MS", help="over UDP, a packet missing for longer is lost (default 100)")
    add.add_argument("--sub", metavar="URL", help="the small H.264 stream")
    add.add_argument("--password-file", type=Path, help="a file that holds only the password")
    add.add_argument("--tls-fingerprint", default="", metavar="SHA256", help="of the certificate of an rtsps camera that no CA vouches for")
    for text in TEXTS:
        add.add_argument(f"--{text}", default="")
    add.add_argument("--no-audio", action="store_true")
    add.add_argument("--metadata", action="store_true", help="record ONVIF metadata as a track of its own")
    for action in (add, show, remove, actions.add_parser("list", help="all cameras, their state and rates")):
        add_config(action)
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Does one of them; add, remove and list also without a running server."""
    site = site_of(args)
    if args.action == "completeness":
        return completeness.run(args, site)
    if args.action == "add":
        return told(args, call(site, "camera.add", new_camera(args)), "is added")
    if args.action == "remove":
        return told(args, call(site, "camera.remove", {"id": args.id}), "is removed; its footage stays under its rule")
    found = with_status(site, call(site, "camera.list"))
    if args.action == "list":
        print_json(found) if args.json else print(table(HEAD, [row(camera) for camera in found]))
        return 0
    one = next((camera for camera in found if camera["id"] == args.id), None)
    if one is None:
        raise NotFound("no such camera", where=args.id, remedy="see watchroom camera list")
    print_json(one) if args.json else print(pairs(flat(one)))
    return 0


def told(args: argparse.Namespace, camera: dict[str, Any], done: str) -> int:
    """Says what was done."""
    print_json(camera) if args.json else print(f"camera {camera['id']} (number {camera['number']}) {done}")
    return 0


def new_camera(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of camera.add."""
    both = {"transport": args.transport, "reorder_ms": args.reorder_ms}
    camera: dict[str, Any] = {"id": args.id, "main": {"url": args.url, "kbps": args.kbps, **both},
                              "sub": {"url": args.sub, **both} if args.sub else None}
    camera |= {key: getattr(args, key) for key in TEXTS if getattr(args, key)}
    if args.tls_fingerprint:
        camera["tls_fingerprint"] = args.tls_fingerprint
    if args.password_file:
        camera["password"] = file_password(Table(Path("arguments"), "", {PASSWORD_KEYS[1]: str(args.password_file)}))
    return camera | ({"audio": False} if args.no_audio else {}) | ({"metadata": True} if args.metadata else {})


def with_status(site: SiteConfig, cameras: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cameras, each with what its slot says of it; `stopped` if no server runs."""
    runs = server_runs(site)
    workers = {worker: slot_status(site, worker).get("cameras", {}) if runs else {}
               for worker in {site.worker_of(camera["slot"]) for camera in cameras}}
    quiet: dict[str, Any] = {"state": "unknown" if runs else "stopped", "cause": None, "tracks": {}}
    return [camera | {"status": quiet | ({} if camera["enabled"] else {"state": "disabled"})
                      | workers[site.worker_of(camera["slot"])].get(camera["id"], {})} for camera in cameras]


HEAD = ("id", "number", "owner", "slot", "state", "cause", "codecs", "kbit/s", "lost", "message")


def row(camera: dict[str, Any]) -> tuple[Any, ...]:
    """One camera's line."""
    status = camera["status"]
    tracks = cast(dict[str, dict[str, Any]], status["tracks"]).values()
    return (camera["id"], camera["number"], camera["owner"], camera["slot"], status["state"], status["cause"] or "-",
            "+".join(track["codec"] or "?" for track in tracks) or "-", sum(track["kbps"] for track in tracks),
            sum(track["lost_packets"] for track in tracks), status.get("message") or "")


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name, times readable, absent ones left out."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= flat(inner, f"{prefix}{key}.")
        elif inner not in (None, ""):
            found[prefix + key] = rfc3339(inner) if key.endswith("_ns") and inner else inner
    return found
