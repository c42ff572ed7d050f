"""`watchroom version`."""

import argparse
import importlib.metadata
import platform

from recorder.cli.show import pairs, print_json

PARTS = ("av", "zarr", "aiohttp", "uvloop", "numpy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--json", action="store_true")


def installed(name: str) -> str:
    """A distribution's version."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def run(args: argparse.Namespace) -> int:
    """Prints our version and those of what it stands on."""
    versions = {name: installed(name) for name in ("watchroom", *PARTS)} | {"python": platform.python_version()}
    if args.json:
        print_json(versions)
    else:
        print(pairs(versions))
    return 0
