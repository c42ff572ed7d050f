"""`watchroom serve`: record, and serve what was recorded, until SIGTERM or SIGINT."""

import argparse
import asyncio

from recorder.base.clock import SystemClock
from recorder.base.logs import start_logging
from recorder.cli.site import add_config, site_of
from recorder.supervisor import Supervisor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Checks the configuration and serves."""
    site = site_of(args)
    start_logging("serve")

    async def serve() -> None:
        await Supervisor(site, SystemClock()).run()

    asyncio.run(serve())
    return 0
