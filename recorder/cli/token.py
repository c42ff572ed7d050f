"""`watchroom token add|list|revoke`: what people and programs show to be let in. A token is shown once, when it is made."""

import argparse
import re
import time
from typing import Any

from api.times import rfc3339
from recorder.base.errors import ConfigError
from recorder.base.media import NS
from recorder.cli.control import call
from recorder.cli.show import print_json, table
from recorder.cli.site import add_config, site_of

UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|revoke")
    add = actions.add_parser("add", help="make a token and show it, this once")
    add.add_argument("name", help="whom or what it is for")
    add.add_argument("--scope", action="append", metavar="SCOPE",
                     help="view (default), export, hold, admin, metrics, publish:CAMERA; may be repeated")
    add.add_argument("--camera", action="append", default=[], metavar="ID", help="only these cameras; may be repeated")
    add.add_argument("--partner", default="", help="only this partner's cameras")
    add.add_argument("--expires", default="", metavar="TIME", help="30m, 12h, 90d, 4w (default: never)")
    revoke = actions.add_parser("revoke", help="make a token worthless")
    revoke.add_argument("number", type=int)
    for action in (add, revoke, actions.add_parser("list", help="all tokens, without their secrets")):
        add_config(action)
        action.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Does one of them; with or without a running server."""
    site = site_of(args)
    if args.action == "add":
        found: Any = call(site, "token.add", {"name": args.name, "scopes": args.scope or ["view"], "cameras": args.camera,
                                              "partner": args.partner, "expires_ns": expiry_ns(args.expires, time.time_ns())})
        if not args.json:
            print(found["secret"])
            return 0
    elif args.action == "revoke":
        found = call(site, "token.revoke", {"number": args.number})
        if not args.json:
            print(f"token {args.number} is revoked")
            return 0
    else:
        found = call(site, "token.list")
    if args.json:
        print_json(found)
    else:
        print(table(("number", "name", "scopes", "cameras", "partner", "expires", "state"), [row(token, time.time_ns()) for token in found]))
    return 0


def row(token: dict[str, Any], now_ns: int) -> tuple[Any, ...]:
    """One token's line."""
    expired = 0 < token["expires_ns"] <= now_ns
    good = "valid" if token.get("rtsp", True) else "valid, not over RTSP"
    state = "revoked" if token["revoked_ns"] else "expired" if expired else good
    return (token["number"], token["name"], ",".join(token["scopes"]), ",".join(token["cameras"]) or "all", token["partner"] or "all",
            rfc3339(token["expires_ns"])[:19] + "Z" if token["expires_ns"] else "never", state)


def expiry_ns(text: str, now_ns: int) -> int:
    """UTC in ns of a span from now on; 0 for ""."""
    if not text:
        return 0
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None:
        raise ConfigError(f'"{text}" is no length of time', where="--expires", remedy="write it like 30m, 12h, 90d or 4w")
    return now_ns + int(match[1]) * UNITS_S[match[2]] * NS
