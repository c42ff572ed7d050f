"""Supervised tasks: each has a name and an owner, none ends unseen, all end with their owner.

    tasks = TaskSet(log)
    tasks.start("camera north-road", camera.run)        # a coroutine function: begun again after a crash
    await tasks.stop("camera north-road")
    await tasks.close()
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from recorder.base.errors import Conflict

RESTART_S = 1.0
RESTART_MAX_S = 60.0

Run = Callable[[], Coroutine[Any, Any, None]]


class TaskSet:
    """Tasks of one owner, on one loop. Not thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, run: Run, *, restart: bool = True) -> None:
        """Run `run()` as a task until it returns. If it raises, the error is logged with its place and, with `restart`, it is
        begun again after 1, 2, 4 .. 60 s. Raises Conflict if the name is taken."""
        if name in self._tasks:
            raise Conflict("this task runs already", where=name)
        task = asyncio.create_task(self._supervise(name, run, restart), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._forget(name, done))

    async def stop(self, name: str, timeout_s: float = 5.0) -> bool:
        """Cancel the task and wait for its end. False if it has not ended in time (it is then no longer waited for)."""
        return await self._cancel([self._tasks[name]] if name in self._tasks else [], timeout_s)

    async def close(self, timeout_s: float = 5.0) -> bool:
        """Cancel all tasks at once and wait for them. False if some have not ended in time."""
        return await self._cancel(self._tasks.values(), timeout_s)

    async def _cancel(self, tasks: Iterable[asyncio.Task[None]], timeout_s: float) -> bool:
        ending = list(tasks)
        for task in ending:
            task.cancel()
        if not ending:
            return True
        _, late = await asyncio.wait(ending, timeout=timeout_s)
        for task in late:
            self._log.error("task %s does not end", task.get_name())
        return not late

    async def _supervise(self, name: str, run: Run, restart: bool) -> None:
        wait_s = RESTART_S
        while True:
            began = asyncio.get_running_loop().time()
            try:
                return await run()
            except Exception:        # the one catch-all of this task
                self._log.exception("task %s failed", name)
            if not restart:
                return None
            wait_s = RESTART_S if asyncio.get_running_loop().time() - began > RESTART_MAX_S else wait_s
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_MAX_S)

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
