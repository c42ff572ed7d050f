"""What a measurement lays on a recorder: how many cameras, of what kind, over how many slots; and all such loads of a sweep."""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bench.camsim.spec import VideoCodec
from storage.layout import LARGE

CAMERAS_MAX = 2048
TRANSPORTS = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class Load:
    """`cameras` simulated ones of `kbps` each, recorded by `slots` workers."""

    cameras: int
    kbps: int = 4000
    codec: str = "h264"
    transport: str = "tcp"
    slots: int = 1

    @property
    def bytes_s(self) -> float:
        """Bytes of video that all cameras send in a second."""
        return self.cameras * self.kbps * 125.0

    @property
    def chunk_s(self) -> float:
        """Seconds in which a camera fills a chunk: a window of this length holds every camera's sealing once."""
        return LARGE.tape_bytes / (self.kbps * 125.0)

    @property
    def label(self) -> str:
        """For people: what is not the plain case is named."""
        parts = [f"{self.cameras} x {self.kbps / 1000:g} Mbit/s"]
        parts += [self.codec] if self.codec != "h264" else []
        parts += [self.transport] if self.transport != "tcp" else []
        parts += [f"{self.slots} slots"] if self.slots != 1 else []
        return ", ".join(parts)

    def sim_options(self, cache: Path | None) -> list[str]:
        """The options of camsim."""
        options = ["--count", str(self.cameras), "--bitrate", str(self.kbps), "--codec", self.codec]
        return [*options, *(["--cache", str(cache)] if cache else [])]

    def camera_lines(self, url: str) -> list[str]:
        """The lines of a `[[camera]]` table."""
        return [f'main = {{ url = "{url}", kbps = {self.kbps}, transport = "{self.transport}" }}']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that span a sweep; each takes a list with commas."""
    add = parser.add_argument
    add("--cameras", default="64,128", help="numbers of cameras, each measured by itself (default 64,128)")
    add("--bitrate", default="4000", help="kbit/s of each camera")
    add("--codec", default="h264", help="h264, h265")
    add("--transport", default="tcp", help=", ".join(TRANSPORTS))
    add("--slots", default="1", help="worker processes; more than one wants --serve")


def loads(args: argparse.Namespace) -> list[Load]:
    """Every combination. Raises ValueError with the option that is wrong."""
    cameras, kbps = numbers("--cameras", args.cameras, 1, CAMERAS_MAX), numbers("--bitrate", args.bitrate, 32, 200_000)
    slots = numbers("--slots", args.slots, 1, 64)
    codecs, transports = names("--codec", args.codec, get_args(VideoCodec)), names("--transport", args.transport, TRANSPORTS)
    if max(slots) > 1 and not args.serve:
        raise ValueError("--slots: more than one wants --serve")
    return [Load(n, k, c, t, s) for k, c, t, s, n in itertools.product(kbps, codecs, transports, slots, cameras)]


def numbers(option: str, text: str, low: int, high: int) -> list[int]:
    """The numbers of a list with commas. Raises ValueError."""
    found = _items(text, lambda part: part.isascii() and part.isdecimal() and low <= int(part) <= high)
    if found is None:
        raise ValueError(f"{option} {text}: must be numbers from {low} to {high}, with commas")
    return [int(part) for part in found]


def names(option: str, text: str, allowed: tuple[str, ...]) -> list[str]:
    """The names of a list with commas. Raises ValueError."""
    found = _items(text, lambda part: part in allowed)
    if found is None:
        raise ValueError(f"{option} {text}: must be of {', '.join(allowed)}")
    return found


def _items(text: str, good: Callable[[str], bool]) -> list[str] | None:
    parts = text.split(",")
    return parts if all(good(part) for part in parts) else None
