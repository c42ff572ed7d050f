"""`watchroom bench`: measurements; options and work are those of bench/."""

import argparse
import importlib

MEASUREMENTS = {"ingest": "what recording costs, beside other recorders in the same run",
                "commit": "how long commits take, and what storing costs, without network",
                "retention": "weeks of recording in minutes, and every promise of retention looked at",
                "index": "a month of index of hundreds of cameras: recovery, lookup, timeline, memory, disk",
                "capacity": "how many cameras this disk carries, and what gives way first",
                "playback": "what readers get, warm and cold, beside recording: first bytes, pictures, CPU per byte, AUs lost",
                "live": "how soon who watches now gets a picture, and what a viewer costs",
                "whep": "how soon who watches by WebRTC gets a picture, and what a viewer costs, many of one camera",
                "screen": "from the camera to a picture in Chromium, and from a click to the first one, by every way of watching live",
                "crash": "power cuts on real file systems: what is acknowledged is there, nothing else is served"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of every measurement."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(MEASUREMENTS))
    for name, text in MEASUREMENTS.items():
        importlib.import_module(f"bench.{name}").add_arguments(actions.add_parser(name, help=text))


def run(args: argparse.Namespace) -> int:
    """Measures; the exit code is the measurement's."""
    return int(importlib.import_module(f"bench.{args.action}").main(args))
