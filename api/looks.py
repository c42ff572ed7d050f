"""Threads for short looks at the index, each with a store of its own: an index page that is cold does not hold up the loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from api.problems import RETRY_S, Problem
from storage.store import TapeStore

T = TypeVar("T")
THREADS = 2
WAITING_MAX = 256
ANSWER_S = 15.0


class _Looker:
    """One thread and its store."""

    def __init__(self, open_store: Callable[[], TapeStore]) -> None:
        self.thread = ThreadPoolExecutor(1, "look")
        self._open_store = open_store
        self.store: TapeStore | None = None
        self.waiting = 0

    def run(self, work: Callable[[TapeStore], T]) -> T:
        """On the thread."""
        if self.store is None:
            self.store = self._open_store()
        return work(self.store)


class Looks:
    """Runs looks on the thread that has fewest before it. Loop thread only; `close` at the end."""

    def __init__(self, open_store: Callable[[], TapeStore], *, threads: int = THREADS, answer_s: float = ANSWER_S) -> None:
        self._lookers = [_Looker(open_store) for _ in range(threads)]
        self._answer_s = answer_s
        self.refused = 0

    async def run(self, work: Callable[[TapeStore], T]) -> T:
        """`work(store)`; nothing of the store may be returned. Problem 503 when too many wait or it takes too long."""
        looker = min(self._lookers, key=lambda one: one.waiting)
        if looker.waiting >= WAITING_MAX // len(self._lookers):
            raise self._busy()
        try:
            async with asyncio.timeout(self._answer_s):
                return await asyncio.shield(self._start(looker, work))
        except TimeoutError:
            raise self._busy() from None

    async def look(self) -> None:
        """See which volumes are still mounted. A thread that hangs on one is not waited for."""
        for looker in self._lookers:
            if looker.store is not None and not looker.waiting:
                await self._start(looker, TapeStore.look)

    def _start(self, looker: _Looker, work: Callable[[TapeStore], T]) -> "asyncio.Future[T]":
        looker.waiting += 1
        started = asyncio.get_running_loop().run_in_executor(looker.thread, looker.run, work)
        started.add_done_callback(lambda done: self._ended(looker, done))
        return started

    def _ended(self, looker: _Looker, done: "asyncio.Future[T]") -> None:
        looker.waiting -= 1
        if not done.cancelled():
            done.exception()                # nobody may be left to ask

    def _busy(self) -> Problem:
        self.refused += 1
        return Problem(503, "the index is too busy to look at now", remedy="ask again", headers={"Retry-After": str(RETRY_S)})

    def close(self) -> None:
        """End the threads and close their stores; blocks until what runs has ended."""
        for looker in self._lookers:
            looker.thread.shutdown(cancel_futures=True)
            if looker.store is not None:
                looker.store.close()
