"""The configuration that a command works on."""

import argparse
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.config_file import read_config
from recorder.base.errors import WatchroomError
from recorder.volume_desk import with_added
from storage.catalogue import Catalogue

DEFAULT_FILES = (Path("watchroom.toml"), Path("/etc/watchroom/watchroom.toml"))


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declares --config."""
    parser.add_argument("--config", type=Path, metavar="FILE",
                        help="default: $WATCHROOM_CONFIG, ./watchroom.toml, /etc/watchroom/watchroom.toml")


def config_path(args: argparse.Namespace) -> Path:
    """The file that --config, the environment or the default places name."""
    if args.config:
        return Path(args.config)
    if named := os.environ.get("WATCHROOM_CONFIG"):
        return Path(named)
    return next((path for path in DEFAULT_FILES if path.exists()), DEFAULT_FILES[0])


def site_of(args: argparse.Namespace) -> SiteConfig:
    """The checked configuration, with the volumes that were added while the server ran. Raises ConfigError."""
    site = read_config(config_path(args))
    try:
        with Catalogue.open(site.catalogue, SystemClock()) as catalogue:
            return replace(site, volumes=with_added(site.volumes, catalogue.volumes()))
    except (WatchroomError, sqlite3.Error, OSError):         # who needs the catalogue says what is wrong with it
        return site
