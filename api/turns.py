"""Turns at what everybody shares (the side thread, api/side.py): a few requests of each holder at once, the next ones of his wait for those.

Without them whoever asks often enough has all places there, and everybody else is refused.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from api.problems import RETRY_S, Problem

AT_ONCE = 8                   # of the 32 places of the side thread
WAITING = 64
WAIT_S = 20.0


@dataclass(slots=True)
class _Holder:
    gate: asyncio.Semaphore
    asking: int = field(default=0)


class Turns:
    """See the module. Loop thread only."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING, wait_s: float = WAIT_S) -> None:
        self._at_once, self._waiting, self._wait_s = at_once, waiting, wait_s
        self._holders: dict[str, _Holder] = {}
        self.refused = 0

    @asynccontextmanager
    async def take(self, holder: str) -> AsyncIterator[None]:
        """The block runs when it is its turn; Problem 429 where too many of the holder's wait, or one has waited too long."""
        mine = self._holders.setdefault(holder, _Holder(asyncio.Semaphore(self._at_once)))
        if mine.asking >= self._at_once + self._waiting:
            raise self._busy()
        mine.asking += 1
        try:
            await self._enter(mine.gate)
            try:
                yield
            finally:
                mine.gate.release()
        finally:
            mine.asking -= 1
            if not mine.asking:
                del self._holders[holder]

    async def _enter(self, gate: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await gate.acquire()
        except TimeoutError:
            raise self._busy() from None

    def _busy(self) -> Problem:
        self.refused += 1
        return Problem(429, "you ask for too much at once", remedy="wait for some answers", headers={"Retry-After": str(RETRY_S)})


TURNS = web.AppKey("turns", Turns)
