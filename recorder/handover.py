"""A supervisor's checked configuration on its way to its children: over a pipe, so that a restarted child never meets a file edited since.

Pickle, because both ends are the same program and the pipe is theirs alone; it holds the cameras' passwords and touches no disk.
"""

import pickle
from typing import BinaryIO

from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError


def dump_site(site: SiteConfig) -> bytes:
    """The configuration for a child's standard input."""
    return pickle.dumps(site)


def load_site(pipe: BinaryIO) -> SiteConfig:
    """The configuration that the parent wrote. Raises ConfigError if it wrote none."""
    data = pipe.read()
    site = pickle.loads(data) if data else None  # noqa: S301 (written by our own parent)
    if not isinstance(site, SiteConfig):
        raise ConfigError("holds no configuration", where="standard input", remedy="start `watchroom serve`, which starts this process")
    return site
