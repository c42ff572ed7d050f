"""`_worker` and `_api`: the processes that `watchroom serve` starts. Not for people."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from recorder.base.config import SiteConfig
from recorder.base.logs import start_logging
from recorder.handover import load_site
from recorder.orphan import end_with_parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the supervisor passes."""
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--slot", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or until the supervisor is gone."""
    end_with_parent(args.parent)
    start_logging(f"worker-{args.slot}" if args.command == "_worker" else "api")
    site = load_site(sys.stdin.buffer)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(args, site))
    return 0


def work(args: argparse.Namespace, site: SiteConfig) -> Coroutine[Any, Any, None]:
    """The process's one coroutine; each imports only what it needs."""
    if args.command == "_worker":
        from recorder.worker import run_worker
        return run_worker(site, args.slot)
    from api.process import run_api
    return run_api(site)
