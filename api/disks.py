"""Threads that read cold pages, a few per volume: a disk that is slow or hangs holds up neither the loop nor readers of other disks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from api.problems import RETRY_S, Problem
from storage.heldtape import HELD_PLACE

T = TypeVar("T")
THREADS = 4
WAITING_MAX = 64


class Disk:
    """One volume's threads. `waiting` reads are in hand; loop thread only."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self.waiting = self.reads = self.refused = 0

    def admit(self) -> None:
        """Problem 503 when so many readers wait for the disk that one more would only make all slower. For who has said nothing yet."""
        if self.waiting >= WAITING_MAX:
            self.refused += 1
            raise Problem(503, "the disk is too busy to read this now", remedy="ask again", headers={"Retry-After": str(RETRY_S)})

    def run(self, work: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        """`work(*args)` in a thread."""
        self.waiting += 1
        self.reads += 1
        reading = asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        reading.add_done_callback(self._done)
        return reading

    def _done(self, _: object) -> None:
        self.waiting -= 1

    def close(self) -> None:
        """Take nothing more; what runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Disks:
    """The disks by the place of their volume. Threads start with the first cold read of each."""

    def __init__(self) -> None:
        self._disks: dict[str, Disk] = {}

    def of(self, place: int) -> Disk:
        """The disk of a tape's place."""
        return self._named(str(place % HELD_PLACE))

    @property
    def exports(self) -> Disk:
        """The disk that files of exports lie on."""
        return self._named("exports")

    def _named(self, name: str) -> Disk:
        if name not in self._disks:
            self._disks[name] = Disk(ThreadPoolExecutor(THREADS, f"cold-{name}"))
        return self._disks[name]

    def items(self) -> list[tuple[str, Disk]]:
        """Volumes' places (or `exports`) and disks that were read from."""
        return sorted(self._disks.items())

    def close(self) -> None:
        """Of all disks."""
        for disk in self._disks.values():
            disk.close()
