"""The configuration that a command works on."""

import argparse
import os
from pathlib import Path

from recorder.base.config import SiteConfig
from recorder.base.config_file import read_config

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
    """The checked configuration. Raises ConfigError."""
    return read_config(config_path(args))
