"""How often and how many at a time we knock: the start storm's gate and the backoff of one stream."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PER_HOST = 2
BACKOFF_MAX_S = 60.0
BACKOFF_MIN_S = 0.5
GOOD_S = 60.0


class HandshakeGate:
    """At most `at_once` handshakes in all, 2 per host: many cameras behind one recorder or switch come up together."""

    def __init__(self, at_once: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def enter(self, host: str) -> AsyncIterator[None]:
        """Wait for a place. The host's place is taken first, so that one dead host cannot fill the gate with its waiters."""
        semaphore = self._hosts.setdefault(host, asyncio.Semaphore(PER_HOST))
        self._users[host] = self._users.get(host, 0) + 1
        try:
            async with semaphore, self._all:
                yield
        finally:
            self._users[host] -= 1
            if not self._users[host]:
                del self._users[host], self._hosts[host]


class Backoff:
    """1, 2, 4 .. 60 s with full jitter; begins anew only after 60 s of good frames, else a flapping camera would be hammered."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def next_s(self, least_s: float, good_s: float) -> float:
        """Seconds to wait after a session that had good frames for `good_s`; at least `least_s` (plus up to a tenth, to spread)."""
        if good_s >= GOOD_S:
            self._failures = 0
        ceiling = min(BACKOFF_MAX_S, 2.0 ** min(self._failures, 10))
        self._failures += 1
        wait = max(BACKOFF_MIN_S, self._rng.uniform(0, ceiling))
        return wait if wait > least_s else least_s * self._rng.uniform(1.0, 1.1)
