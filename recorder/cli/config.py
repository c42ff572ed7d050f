"""`watchroom config check`: reads a configuration file and prints what it sets and what stays at its default."""

import argparse
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from recorder.base.config_file import read_config
from recorder.cli.show import print_json
from recorder.cli.site import add_config, config_path
from recorder.preflight import check_signing

HIDDEN_KEYS = {"password"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check")
    check = actions.add_parser("check", help="read the file; say what is wrong, or what is set")
    add_config(check)
    check.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Prints every setting; raises ConfigError for the first that is wrong."""
    file = config_path(args)
    site = read_config(file)
    check_signing(site)
    if args.json:
        print_json(as_json(site))
        return 0
    for key, value, is_default in settings(site, ""):
        print(f"{key} = {spelled(value)}" + ("   # default" if is_default else ""))
    print(f"# {file} is good: {len(site.volumes)} volume{'s' * (len(site.volumes) != 1)}, "
          f"{len(site.cameras)} camera{'s' * (len(site.cameras) != 1)}")
    return 0


def settings(value: Any, prefix: str) -> Iterator[tuple[str, Any, bool]]:
    """(dotted key, value, is it the default) for all settings below a dataclass; passwords only as "set"."""
    for item in fields(value):
        key, inner = f"{prefix}{item.name}", getattr(value, item.name)
        if item.name in HIDDEN_KEYS:
            inner = "(set)" if inner else ""
        if is_dataclass(inner):
            yield from settings(inner, key + ".")
        elif isinstance(inner, tuple) and inner and is_dataclass(inner[0]):
            for number, one in enumerate(inner):
                yield from settings(one, f"{key.removesuffix('s')}[{getattr(one, 'id', number)}].")
        else:
            yield key, inner, item.default is not MISSING and inner == item.default


def as_json(value: Any) -> Any:
    """The configuration as plain values, passwords only as "set"."""
    if is_dataclass(value):
        return {item.name: "(set)" if item.name in HIDDEN_KEYS and getattr(value, item.name) else as_json(getattr(value, item.name))
                for item in fields(value)}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def spelled(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(spelled(item) for item in value) + "]"
    return '""' if value is None else f'"{value}"'

