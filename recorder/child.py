"""A child process that is kept alive: started, started again when it dies (at once, then with growing waits), ended in bounded time."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from recorder.base.clock import Clock

log = logging.getLogger(__name__)

STEADY_S = 3.0          # a child that lived this long is started again at once
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 10.0


@dataclass(frozen=True, slots=True)
class ChildState:
    """What is known of a child. `pid` 0: it does not run; `restarts` counts its deaths."""

    name: str
    pid: int = 0
    started_ns: int = 0
    restarts: int = 0
    last_end: str = ""


class Child:
    """One child of the supervisor; belongs to the event loop's thread.

    `told` is its standard input; `on_start` is awaited after each start, in a task that is cancelled if the child dies before it returns.
    """

    def __init__(self, name: str, command: Sequence[str], clock: Clock, *, told: bytes = b"",
                 on_start: Callable[[], Awaitable[None]] | None = None) -> None:
        self._command = tuple(command)
        self.told = told
        self._clock = clock
        self._on_start = on_start
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._gone = asyncio.Event()
        self._quick_deaths = 0
        self.state = ChildState(name)

    async def run(self) -> None:
        """Keeps the child alive until `stop` is called; returns when it is gone."""
        try:
            while not self._stopping.is_set():
                await self._live_once()
                if not self._stopping.is_set():
                    await self._wait(self._backoff_s())
        finally:
            self._gone.set()

    async def _live_once(self) -> None:
        """One life of the child, from start to end."""
        try:
            # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then ends its children in order.
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE, start_new_session=True)
        except OSError as error:
            log.error("%s cannot be started: %s", self.state.name, error.strerror)
            self._quick_deaths += 1
            return
        if self._stopping.is_set():     # `stop` was called while the child came to life
            self._process.terminate()
        began_ns = self._clock.mono_ns()
        self.state = replace(self.state, pid=self._process.pid, started_ns=self._clock.wall_ns())
        starter = asyncio.ensure_future(self._begin(self._process))
        try:
            code = await self._process.wait()
        finally:
            await settled(starter)
        lived_s = (self._clock.mono_ns() - began_ns) / 1e9
        self._quick_deaths = 0 if lived_s >= STEADY_S else self._quick_deaths + 1
        self._note_end(code, lived_s)

    async def _begin(self, process: asyncio.subprocess.Process) -> None:
        """Tells the child what it is to know, then gives it its first orders."""
        assert process.stdin is not None
        try:
            process.stdin.write(self.told)
            await process.stdin.drain()
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            return      # it died first, which `run` notices by itself
        if self._on_start is not None:
            await self._on_start()

    def _note_end(self, code: int, lived_s: float) -> None:
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.state = replace(self.state, pid=0, last_end=end, restarts=self.state.restarts + (not self._stopping.is_set()))
        if not self._stopping.is_set():
            log.error("%s ended after %.1f s (%s); starting it again", self.state.name, lived_s, end)

    def _backoff_s(self) -> float:
        if self._quick_deaths <= 1:     # the first death, and any after a steady life
            return 0.0
        return min(BACKOFF_FIRST_S * 2.0 ** (self._quick_deaths - 2), BACKOFF_MAX_S)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            pass

    def renew(self) -> None:
        """Ends the child in order; it is started again, and told what is true now."""
        self._signal(signal.SIGTERM)

    async def stop(self, grace_s: float) -> None:
        """Ends the child: SIGTERM, and after `grace_s` SIGKILL. It is gone on return. `run` must have been started."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._gone.wait(), grace_s)
        except TimeoutError:
            log.error("%s did not end within %.1f s and is killed", self.state.name, grace_s)
            self._signal(signal.SIGKILL)
            await self._gone.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


async def settled(task: "asyncio.Future[None]") -> None:
    """Cancels a task that still runs, waits for it and logs how it failed."""
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Exception):
        log.error("a child's first orders failed", exc_info=result)


def own_command(*arguments: str) -> tuple[str, ...]:
    """The command line that runs one of our processes with this same Python."""
    return (sys.executable, "-m", "recorder", *arguments, "--parent", str(os.getpid()))
