"""A crowd before one camera, beside a measurement: a process that throws away what comes (bench/crowd.py), and some viewers that look at it."""

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
from bench.late import Ages
from bench.viewers import tile_viewer

CAMERA = "cam-0"
SAMPLED = 4             # of the viewers, one connection each, look at what they get
START_S, END_S = 120.0, 30.0


class Crowded:
    """`watch` is a window's viewers; `spread` says afterwards whether all of them got the same."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    async def watch(self, port: int, count: int, ages_ms: Ages) -> None:
        """So many, until cancelled. RuntimeError if the crowd does not come in."""
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.crowd", str(port), CAMERA, str(count - SAMPLED),
                                                       stdout=asyncio.subprocess.PIPE, cwd=Path(bench.__file__).parent.parent)
        assert process.stdout
        try:
            async with asyncio.timeout(START_S):
                if not await process.stdout.readline():
                    raise RuntimeError(f"{count} viewers of one camera did not come in")
            await asyncio.sleep(1.0)
            process.send_signal(signal.SIGUSR1)
            await asyncio.gather(*(tile_viewer(port, 1, ages_ms, CAMERA) for _ in range(SAMPLED)))
        finally:
            await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.terminate()
        async with asyncio.timeout(END_S):
            told, _ = await process.communicate()
        self.told = json.loads(told.splitlines()[-1]) if told else {}

    def spread(self, count: int) -> float:
        """Percent between the middle viewer's bytes and those farthest from them. RuntimeError if one was not served to the end."""
        if self.told.get("viewers") != count:
            raise RuntimeError(f"of {count} viewers of one camera {self.told.get('viewers', 0)} were served to the end")
        return apart(self.told["bytes"])

    def kbps(self) -> int:
        """What the viewer in the middle got, frames and all."""
        rising: list[int] = self.told["bytes"]
        seconds: float = self.told["seconds"]
        return round(rising[len(rising) // 2] * 8 / 1000 / seconds)


def apart(rising: Sequence[int]) -> float:
    """Percent between the middle of rising numbers and the one farthest from it."""
    middle = rising[len(rising) // 2]
    return round(100 * max(middle - rising[0], rising[-1] - middle) / max(middle, 1), 2)
