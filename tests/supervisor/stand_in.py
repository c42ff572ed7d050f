"""Stands in for a child process: a worker that writes down the orders it gets, or an API that does nothing. Ends on SIGTERM."""

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recorder.base.control import ControlServer
from recorder.base.errors import Conflict, NotFound
from recorder.orphan import end_with_parent


async def main(folder: Path, role: str, arguments: list[str]) -> None:
    """Notes its start, its orders and its end in folder/log."""
    stop = asyncio.Event()
    name = f"worker-{arguments[arguments.index('--slot') + 1]}" if role == "_worker" else "api"

    def note(*words: Any) -> None:
        with (folder / "log").open("a") as log:
            log.write(json.dumps([name, os.getpid(), *words]) + "\n")

    started: set[int] = set()

    async def answer(call: str, args: dict[str, Any]) -> Any:
        if call == "camera.start":
            if args["number"] in started:
                raise Conflict("it is recorded already")
            started.add(args["number"])
        if call == "camera.stop":
            if args["number"] not in started:
                raise NotFound("it is not recorded")
            started.remove(args["number"])
        if call != "status":
            note(call, args)
        return {}

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = ControlServer(folder / "state" / "run" / f"slot-{name[7:]}.sock", answer, logging.getLogger()) if role == "_worker" else None
    if server:
        await server.start()
    note("up")
    await stop.wait()
    note("down")
    if (folder / "stubborn").exists() and role == "_api":
        await asyncio.sleep(3600)
    if server:
        await server.close()


end_with_parent(os.getppid())
asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
