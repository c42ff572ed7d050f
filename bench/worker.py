"""A recording worker without a server around it: `python -m bench.worker CONFIG [NOTES]` records the file's cameras until SIGTERM.

They are numbered from 1. NOTES: where the probe of bench/probe.py writes at the end.
"""

import logging
import sys
from pathlib import Path

import uvloop

from bench.probe import Probe
from recorder.base.config_file import read_config
from recorder.worker import run_worker


def main(path: str, notes: str = "") -> None:
    """Record."""
    probe = Probe()
    probe.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    site = read_config(Path(path))
    site.slot_socket(0).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        uvloop.run(run_worker(site, 0, cameras=dict(enumerate(site.cameras, 1))))
    finally:
        if notes:
            probe.write(Path(notes))


if __name__ == "__main__":
    main(*sys.argv[1:3])
