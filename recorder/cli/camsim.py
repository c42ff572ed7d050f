"""`watchroom camsim`: simulated cameras; the options and the server are bench/camsim's."""

import argparse
import asyncio

from recorder.base.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the simulation's options."""
    from bench.camsim import arguments
    arguments.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until it is ended."""
    import uvloop

    from bench.camsim import server
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.run(args))
    except ValueError as error:     # an option whose value cannot be simulated
        raise ConfigError(str(error), where="camsim", remedy="see watchroom camsim --help") from error
    return 0
