"""A thread beside the loop for what reads many files or waits for a disk: timelines of weeks, file systems. It has a TapeStore of its own.

One thread, a bounded queue, a time limit: a disk that hangs costs these answers (503), not the others.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from aiohttp import web

from api.problems import RETRY_S, Problem

P = ParamSpec("P")
T = TypeVar("T")
WAITING = 32
ANSWER_S = 20.0


class Side:
    """Runs calls one after the other on its thread; each gets the store that only this thread uses."""

    def __init__(self, store: Any, *, waiting: int = WAITING, answer_s: float = ANSWER_S) -> None:
        self._store = store
        self._waiting = waiting
        self._answer_s = answer_s
        self._pending = 0
        self._thread = ThreadPoolExecutor(1, "side")

    async def run(self, call: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call(store, *args)` on the thread; Problem 503 when too many wait or it takes too long."""
        if self._pending >= self._waiting:
            raise _busy()
        self._pending += 1
        future = self._thread.submit(functools.partial(call, self._store, *args, **kwargs))
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: self._ended(loop))
        try:
            async with asyncio.timeout(self._answer_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _busy() from None

    def _ended(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._uncount)
        except RuntimeError:  # the loop is closed: nobody counts any more
            pass

    def _uncount(self) -> None:
        self._pending -= 1

    def close(self) -> None:
        """Take nothing more; what runs is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _busy() -> Problem:
    return Problem(
        503, "the storage is too busy to answer this now", remedy="ask again, or for a shorter range", headers={"Retry-After": str(RETRY_S)}
    )


SIDE = web.AppKey("side", Side)
