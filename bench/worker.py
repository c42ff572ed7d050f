"""A recording worker without a server around it: `python -m bench.worker CONFIG` records the file's cameras, numbered from 1, until SIGTERM."""

import logging
import sys
from pathlib import Path

import uvloop

from recorder.base.config_file import read_config
from recorder.worker import run_worker


def main(path: str) -> None:
    """Record."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    site = read_config(Path(path))
    site.slot_socket(0).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    uvloop.run(run_worker(site, 0, cameras=dict(enumerate(site.cameras, 1))))


if __name__ == "__main__":
    main(sys.argv[1])
