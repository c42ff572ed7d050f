"""A child comes back at once after a steady life, later and later after quick deaths, and never after `stop`."""

import asyncio
import sys

from recorder.base.clock import SimulatedClock
from recorder.child import BACKOFF_MAX_S, STEADY_S, Child


class Waits(Child):
    """Notes how long it would have waited, and lets `lives` come to their end."""

    def __init__(self, command: tuple[str, ...], clock: SimulatedClock, lives: list[float]) -> None:
        super().__init__("child", command, clock)
        self.clock, self.lives, self.waits = clock, lives, list[float]()

    async def _live_once(self) -> None:
        began = asyncio.create_task(super()._live_once())
        while self._process is None or self._process.returncode is not None:
            await asyncio.sleep(0)
        self.clock.advance(self.lives.pop(0))
        self._process.kill()
        await began

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if not self.lives:
            self._stopping.set()


async def test_the_wait_grows_with_quick_deaths_and_is_forgotten_after_a_steady_life() -> None:
    quick, steady = STEADY_S / 10, STEADY_S + 1
    child = Waits(("/bin/sleep", "1000"), SimulatedClock(), [quick, quick, quick, steady, quick, *[quick] * 8])
    await asyncio.wait_for(child.run(), 120)
    assert child.waits[:5] == [0.0, 0.25, 0.5, 0.0, 0.0]
    assert child.waits[-1] == BACKOFF_MAX_S
    assert child.state.restarts == 13
    assert (child.state.pid, child.state.last_end) == (0, "SIGKILL")


async def test_a_program_that_is_not_there_is_tried_again_without_a_rush() -> None:
    child = Child("child", ("/does/not/exist",), SimulatedClock())
    run = asyncio.create_task(child.run())
    await asyncio.sleep(0.6)
    assert not run.done()
    await child.stop(1.0)
    await asyncio.wait_for(run, 120)


async def test_orders_that_wait_are_given_up_when_the_child_dies() -> None:
    given_up = asyncio.Event()

    async def orders() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            given_up.set()

    child = Child("child", (sys.executable, "-c", "import time; time.sleep(0.3)"), SimulatedClock(), on_start=orders)
    run = asyncio.create_task(child.run())
    await asyncio.wait_for(given_up.wait(), 120)
    await child.stop(5.0)
    await run


async def test_stop_while_the_child_comes_to_life_ends_it() -> None:
    child = Child("child", ("/bin/sleep", "3600"), SimulatedClock())
    run = asyncio.create_task(child.run())
    await asyncio.sleep(0)      # run has begun, the process has not
    await asyncio.wait_for(child.stop(5.0), 120)
    await asyncio.wait_for(run, 120)
    assert child.state.restarts == 0
