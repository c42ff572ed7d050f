"""Things in the making, by key: whoever asks for the same waits for the same work, and what is in hand at once is bounded."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from api.problems import Problem


class Making:
    """At most `limit` things at once. Loop thread only; `close` at the end. Work goes on when nobody waits for it any more: it is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: dict[Any, asyncio.Task[bytes]] = {}
        self.refused = 0

    async def once(self, key: Any, make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """What `make` gives, or gave somebody who asked before. Raises what it raises; Problem 503 when too much is in hand."""
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= self._limit:
                self.refused += 1
                raise Problem(503, "too many pictures are asked for at once", remedy="ask again", headers={"Retry-After": "1"})
            task = self._running[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: Any, task: asyncio.Task[bytes]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()              # nobody may be left to ask

    async def close(self) -> None:
        """End what is in hand."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

