"""How late the event loop is: a timer that should fire every 100 ms, and the worst it was late in the last 10 s."""

import asyncio
from collections import deque

from aiohttp import web

from recorder.base.clock import Clock

TICK_S = 0.1
KEPT = 100


class Lag:
    """Measured by `run`; `worst_ms` is what a request had to wait at worst before anybody looked at it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_ns = clock.wall_ns()
        self._late_ms: deque[float] = deque(maxlen=KEPT)

    @property
    def worst_ms(self) -> float:
        """The worst of the last 10 s."""
        return round(max(self._late_ms, default=0.0), 3)

    def note(self, late_ms: float) -> None:
        """The timer was that late."""
        self._late_ms.append(max(0.0, late_ms))

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            before_ns = self._clock.mono_ns()
            await asyncio.sleep(TICK_S)
            self.note((self._clock.mono_ns() - before_ns) / 1e6 - TICK_S * 1e3)


LAG = web.AppKey("lag", Lag)
