"""`watchroom demo`: eight simulated cameras, a server that records them, its page, and a live table; ends with a verdict.

Everything lies in one folder (./demo-data). Cameras and server are processes of their own, as in a real site.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from recorder.cli.demo_site import Demo
from recorder.cli.demo_view import Board, verdict
from recorder.cli.exits import Exit

SETTLE_S = 1.5      # what is being recorded when the time is up becomes visible and durable
LINE_S = 5.0        # between lines where nothing can be refreshed in place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--seconds", type=float, default=0.0, help="end by itself after recording this long (default: Ctrl-C ends it)")
    parser.add_argument("--folder", type=Path, default=Path("demo-data"), help="where the demo keeps its volume (default ./demo-data)")
    parser.add_argument("--port", type=int, default=0, help="of the page (default: 8080 or the next free one)")


def run(args: argparse.Namespace) -> int:
    """Runs the demo; 1 if any camera was not recorded in full."""
    with interrupted() as stop, Demo(args.folder.absolute(), args.port) as demo:
        print("demo: starting 8 cameras (the first time their pictures are made, which takes a while)", flush=True)
        demo.start_cameras(stop)
        demo.start_server(stop)
        print(f"demo: the page is at {demo.address}    (log: {demo.log}; Ctrl-C ends)", flush=True)
        watch(demo, args.seconds, stop)
        time.sleep(SETTLE_S)
        lines, full = verdict(demo.cameras(), demo.timelines())
    print("\n".join(lines), flush=True)
    return Exit.OK if full else Exit.FINDINGS


def watch(demo: Demo, seconds: float, stop: list[int]) -> None:
    """Shows the table until the time is up or somebody ends it."""
    board = Board(in_place=sys.stdout.isatty())
    began = time.monotonic()
    while not stop and not (seconds and time.monotonic() - began >= seconds):
        demo.check()
        try:
            board.show(demo.cameras(), demo.timelines(), demo.free_bytes(), time.monotonic() - began)
        except OSError:
            pass        # the API does not answer right now; it is started again if it must be, and the verdict asks anew
        pause = 1.0 if board.in_place else LINE_S
        until = time.monotonic() + (min(pause, began + seconds - time.monotonic()) if seconds else pause)
        while not stop and time.monotonic() < until:
            time.sleep(0.1)


@contextmanager
def interrupted() -> Iterator[list[int]]:
    """A list that gets an entry with the first SIGINT or SIGTERM; the second ends at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


