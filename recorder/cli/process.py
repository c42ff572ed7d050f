"""`_worker`, `_api` and `_sign`, the processes that `watchroom serve` starts, and `_export`, which the API starts for each job.

Not for people.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import WatchroomError
from recorder.base.logs import start_logging
from recorder.handover import load_site
from recorder.orphan import end_with_parent

NICE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the supervisor passes."""
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--job", default="")


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or until the supervisor is gone."""
    end_with_parent(args.parent)
    start_logging(f"worker-{args.slot}" if args.command == "_worker" else args.command[1:])
    site = load_site(sys.stdin.buffer)
    if args.command == "_export":
        from api.exports.worker import run_export
        return run_export(site, args.job)
    if args.command == "_sign":
        return sign(site)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(args, site))
    return 0


def sign(site: SiteConfig) -> int:
    """Signs what is new on all volumes, when nothing else wants the machine; says on stdout how it went."""
    from recorder.signed import Signed, said
    from recorder.signing import sign_site
    os.nice(NICE)
    try:
        results = sign_site(site, SystemClock())
    except (WatchroomError, OSError) as error:
        results = [Signed(number, wrong=str(error)) for number in range(len(site.volumes))]
    print(said(results), flush=True)
    return 0


def work(args: argparse.Namespace, site: SiteConfig) -> Coroutine[Any, Any, None]:
    """The process's one coroutine; each imports only what it needs."""
    if args.command == "_worker":
        from recorder.worker import run_worker
        return run_worker(site, args.slot)
    from api.process import run_api
    return run_api(site)
