"""`watchroom serve`: record, and serve what was recorded, until SIGTERM or SIGINT."""

import argparse
import asyncio

from recorder.base.clock import SystemClock
from recorder.base.logs import start_logging
from recorder.cli.site import add_config, config_path
from recorder.supervisor import Supervisor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Checks the configuration and serves."""
    from recorder.base.config_file import read_config
    file = config_path(args).absolute()
    site = read_config(file)
    start_logging("serve")

    async def serve() -> None:
        await Supervisor(site, file, SystemClock()).run()

    asyncio.run(serve())
    return 0
