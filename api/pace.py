"""How much work a client may make by what it says: a debt that time pays off. Who says too much is read later; nothing is lost."""

import asyncio
import time
from collections.abc import Callable

TURN = 32               # messages that are dealt with in a row, though more have come


class Pace:
    """Costs of `per_s` in a second on average, and of `burst` at once."""

    def __init__(self, per_s: float, burst: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._now_s = per_s, burst, now_s
        self._paid_s = now_s()
        self._debt = 0.0
        self._turn = 0

    def owe(self, cost: float) -> float:
        """Something has been done; seconds to wait until the next thing may be."""
        now_s = self._now_s()
        self._debt = max(0.0, self._debt - (now_s - self._paid_s) * self._per_s) + cost
        self._paid_s = now_s
        return max(0.0, (self._debt - self._burst) / self._per_s)

    async def pay(self, cost: float) -> None:
        """The same, and wait. Others have their turn after `TURN` of these in any case: what has come already is read without a pause."""
        wait_s = self.owe(cost)
        self._turn += 1
        if wait_s or self._turn >= TURN:
            self._turn = 0
            await asyncio.sleep(wait_s)
