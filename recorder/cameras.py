"""All cameras of one worker: begin, end, the look at each of them once a second, what is known of them."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from recorder.base.config import CameraConfig, RetentionRule
from recorder.base.errors import Conflict, NotFound, Refused
from recorder.base.media import NS, GapCause
from recorder.base.tasks import TaskSet
from recorder.camera import STOP_S, Camera
from recorder.stream import Services
from recorder.tapes import Places

CAMERAS_MAX = 4096
FEW = 8                  # up to so many cameras nobody is asked to wait at the start
SPREAD_S = 2.0
LAG_TURN_NS = 60 * NS
MOVE_S = 0.05            # between two cameras that move without need, so that none waits long for its turn to connect


class Cameras:
    """Owns the cameras' tasks. All calls on the loop's thread."""

    def __init__(self, services: Services, default_rule: RetentionRule, log: logging.Logger) -> None:
        self._with = services
        self._default_rule = default_rule
        self._log = log
        self._tasks = TaskSet(log)
        self._cameras: dict[int, Camera] = {}
        self._tapes: dict[int, Places] = {}
        self.moves = 0                           # from a volume to another
        self._turn_ns = services.clock.mono_ns()

    def start(self, number: int, config: CameraConfig, tapes: Places | None = None, *, at_once: bool = False) -> None:
        """Begin to record, on `tapes` if they are not the worker's own. Raises Conflict if this number records already, Refused if
        there are too many.

        Many cameras are not all asked in the same moment, unless it must be `at_once`: after a death of ours every second counts, and the
        gate alone limits how many handshakes there are."""
        if number in self._cameras:
            raise Conflict("this camera is recorded already", where=config.id, remedy="stop it first")
        if len(self._cameras) >= CAMERAS_MAX:
            raise Refused(f"a slot takes at most {CAMERAS_MAX} cameras", where=config.id, remedy="add a slot")
        tapes = tapes or self._with.tapes
        camera = Camera(number, config, config.rule or self._default_rule, replace(self._with, tapes=tapes))
        spread_s = SPREAD_S if len(self._cameras) >= FEW and not at_once else 0.0
        self._tasks.start(_task(number), lambda: camera.run(spread_s))
        self._cameras[number], self._tapes[number] = camera, tapes

    async def update(self, number: int, config: CameraConfig) -> None:
        """Other words about a camera, another rule of retention, or another sub stream: its main stream goes on untouched. Raises
        NotFound."""
        camera = self._cameras.get(number)
        if camera is None:
            raise NotFound("this camera is not recorded here", where=str(number))
        await camera.update(config, config.rule or self._default_rule)

    async def stop(self, number: int, *, removed: bool = False) -> None:
        """End the recording: TEARDOWN, last AUs, a gap of cause `operator` (none if the camera is `removed`). Raises NotFound."""
        camera = self._cameras.pop(number, None)
        if camera is None:
            raise NotFound("this camera is not recorded here", where=str(number))
        tapes = self._tapes.pop(number)      # with the camera: whoever moves cameras meanwhile must not meet half of it
        camera.stopping(None if removed else GapCause.OPERATOR)
        if not await self._tasks.stop(_task(number), STOP_S):
            camera.cut_off()                 # it may have to begin anew at once, and must not find itself still there
            await self._tasks.stop(_task(number), STOP_S)
        camera.detach()
        tapes.leave()

    def flee(self) -> int:
        """A volume has failed: every camera that records to one that has goes to another at once. Returns how many."""
        fleeing = [number for number, tapes in self._tapes.items() if tapes.failed]
        for number in fleeing:
            self._move(number, GapCause.DISK, "the volume has failed")
        return len(fleeing)

    def rehome(self, number: int, home: str) -> None:
        """The camera's home is the volume of this UUID from now on; `go_home` takes it there. Raises NotFound."""
        if number not in self._tapes:
            raise NotFound("this camera is not recorded here", where=str(number))
        self._tapes[number].home, self._tapes[number].asked = home, True

    async def go_home(self) -> None:
        """Cameras that record elsewhere than at home go there, one after the other; those without any volume begin at once."""
        for number in [number for number, tapes in self._tapes.items() if tapes.path is None and not self._cameras[number].moving]:
            self._move(number, GapCause.DISK, "no volume took it")
        for number in list(self._tapes):
            if number in self._tapes and self._tapes[number].misplaced:
                asked = self._tapes[number].asked
                self._move(number, *((GapCause.OPERATOR, "it goes to another volume") if asked else (GapCause.DISK, "its volume is back")))
                await asyncio.sleep(MOVE_S)
            elif number in self._tapes:
                self._tapes[number].asked = False

    def _move(self, number: int, cause: GapCause, why: str) -> None:
        tapes = self._tapes[number]
        failed = tapes.failed
        tapes.leave()
        self.moves += 1
        self._cameras[number].move(cause, why, failed=failed)

    async def close(self) -> None:
        """The process ends: TEARDOWN of all in parallel, at most 3 s. The tapes stay with the slot, which writes the gaps."""
        for camera in self._cameras.values():
            camera.stopping(None)
        await self._tasks.close(STOP_S)

    def sweep(self) -> None:
        """Once a second: the clock, then every camera. A defect at one camera does not keep the others waiting."""
        step_ns = self._with.wall.measure()
        mono_ns = self._with.clock.mono_ns()
        if step_ns:
            self._log.warning("our wall clock was set by %+.3f s", step_ns / NS)
            self._each(lambda camera: camera.step(self._with.wall.wall_ns(), step_ns))
        self._each(lambda camera: camera.sweep(mono_ns))
        if mono_ns - self._turn_ns > LAG_TURN_NS:
            self._turn_ns = mono_ns
            self._with.drainer.lag.turn()

    def status(self) -> dict[str, Any]:
        """All cameras by id, and how the loop does."""
        lag = self._with.drainer.lag
        return {"cameras": {camera.config.id: {"number": number, **camera.status()} for number, camera in self._cameras.items()},
                "connections": len(self._with.drainer), "camera_moves": self.moves, "loop_lag_max_ms": round(lag.max_ms, 1),
                "loop_lag_counts": lag.counts,
                "cpu_s": round(time.process_time(), 3)}

    def _each(self, do: Callable[[Camera], None]) -> None:
        for camera in list(self._cameras.values()):
            try:
                do(camera)
            except Exception:                # see above
                self._log.exception("camera %s: the look at it failed", camera.config.id)


def _task(number: int) -> str:
    return f"camera {number}"
