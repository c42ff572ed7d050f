"""`watchroom clip`: saves a stretch of a camera's footage as MP4; from a server if one runs, else straight from the volume."""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from api.times import parse_time, rfc3339
from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError, Conflict, NotFound
from recorder.base.media import NS, valid_id
from recorder.cli.clip_source import Saved, Wanted, from_server, from_volume
from recorder.cli.control import server_runs
from recorder.cli.exits import Exit
from recorder.cli.show import print_json, size
from recorder.cli.site import add_config, site_of

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)
    parser.add_argument("camera", help="the camera's id")
    parser.add_argument("--start", required=True, metavar="TIME", help="2026-05-01T12:00:00Z, or 10m before now as 10m")
    parser.add_argument("--end", default="0s", metavar="TIME", help="the same; default: now")
    parser.add_argument("--track", default="main")
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: CAMERA_TIME.mp4 here")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument("--no-audio", action="store_true")
    parser.add_argument("--url", default="", help="of a server elsewhere, such as https://nvr.example.org")
    parser.add_argument("--token-file", type=Path, help="a file that holds a token with the scope view (or $WATCHROOM_TOKEN)")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Saves the clip; 1 if its end was not recorded yet."""
    wanted = wanted_of(args, time.time_ns())
    site = None if args.url else site_of(args)
    path = args.output or Path(f"{wanted.camera}_{re.sub('[-:]', '', rfc3339(wanted.start_ns)[:19])}Z.mp4")
    with new_file(path, force=args.force) as file:
        saved = save(args, site, wanted, file)
    if args.json:
        print_json({"file": str(path), "bytes": saved.nbytes, "frames": saved.frames, "start": saved.start, "complete": saved.complete})
    else:
        print(f"{path}: {saved.frames} pictures from {saved.start}, {size(saved.nbytes)}")
    if not saved.complete:
        print(f"watchroom: {path}: the range's end is not recorded yet; save it again later with --force", file=sys.stderr)
    return Exit.OK if saved.complete else Exit.FINDINGS


def save(args: argparse.Namespace, site: SiteConfig | None, wanted: Wanted, file: BinaryIO) -> Saved:
    """From the server that --url names, the site's own if it runs, else its volumes."""
    if site is None:
        return from_server(args.url.rstrip("/"), token_of(args), wanted, file)
    if server_runs(site):
        scheme = "https" if site.server.tls and site.server.tls.cert else "http"
        return from_server(f"{scheme}://{own_host(site)}:{site.server.port}", token_of(args), wanted, file)
    return from_volume(site, wanted, file)


def own_host(site: SiteConfig) -> str:
    """The name under which the site's own server answers."""
    if site.server.tls and site.server.tls.cert:
        return site.server.hosts[0].partition(":")[0]
    return f"[{site.server.listen}]" if ":" in site.server.listen else site.server.listen


def wanted_of(args: argparse.Namespace, now_ns: int) -> Wanted:
    """What is asked for. Raises ConfigError."""
    for name in (args.camera, args.track):
        if not valid_id(name):
            raise ConfigError(f'"{name}" is no camera id or track', where="clip", remedy="see watchroom camera list")
    start_ns, end_ns = (moment(option, getattr(args, option), now_ns) for option in ("start", "end"))
    if start_ns >= end_ns:
        raise ConfigError("lies before --start", where="--end", remedy="ask for a range that is not empty")
    return Wanted(args.camera, args.track, start_ns, end_ns, audio=not args.no_audio)


def moment(option: str, text: str, now_ns: int) -> int:
    """UTC in ns: a time, or a span before now. Raises ConfigError."""
    if match := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return now_ns - int(match[1]) * UNITS_S[match[2]] * NS
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(str(error), where=f"--{option}", remedy="or name a span before now, such as 10m") from None


def token_of(args: argparse.Namespace) -> str:
    """The token to show, "" for none."""
    return args.token_file.read_text().strip() if args.token_file else os.environ.get("WATCHROOM_TOKEN", "")


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is whole."""
    if path.exists() and not force:
        raise Conflict("is there already", where=str(path), remedy="name another with -o, or replace it with --force")
    if not path.absolute().parent.is_dir():
        raise NotFound("its folder does not exist", where=str(path), remedy="make it, or name another file with -o")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
