"""How often and how many at a time we knock: the start storm's gate, what is known of hosts, and the backoff of one stream."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from recorder.base.clock import Clock, SystemClock
from recorder.base.errors import HungUp, SourceError, WrongPassword
from recorder.base.media import NS, GapCause

PER_ADDRESS = 2
PLACE_S = 0.5            # two handshakes of a good camera; the others go on without a place, or 1,000 dead ones would keep the good ones out
HOSTS_MAX = 4096
BACKOFF_MAX_S = 60.0
BACKOFF_MIN_S = 0.5
GOOD_S = 60.0


class HandshakeGate:
    """At most `at_once` handshakes in all, 2 per address: many cameras behind one recorder or switch come up together.

    A handshake that takes longer than `place_s` no longer counts: its place is another's, while it goes on. Those who met silence the last
    time have half of the places, so that whoever comes back does not queue behind a thousand dead ones.
    """

    def __init__(self, at_once: int, hosts: "Hosts | None" = None, *, place_s: float = PLACE_S) -> None:
        self.hosts = hosts or Hosts(SystemClock(), random.Random())  # noqa: S311
        self._all = asyncio.Semaphore(at_once)
        self._silent = asyncio.Semaphore(max(1, at_once // 2))
        self._place_s = place_s
        self._addresses: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def enter(self, address: str, *, keeps: bool = False, silent: bool = False) -> AsyncIterator[None]:
        """Wait for a place. The address's place is taken first, so that a dead one cannot fill the gate with its waiters.

        An address is a host and its port: behind one router may stand many cameras. Who `keeps` its place counts until it leaves: it costs
        us a process. `silent`: there was no answer the last time."""
        semaphore = self._addresses.setdefault(address, asyncio.Semaphore(PER_ADDRESS))
        self._users[address] = self._users.get(address, 0) + 1
        try:
            async with semaphore, self._all if keeps else self._place(silent=silent):
                yield
        finally:
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address], self._addresses[address]

    @asynccontextmanager
    async def _place(self, *, silent: bool) -> AsyncIterator[None]:
        with ExitStack() as place:
            for semaphore in (self._silent, self._all) if silent else (self._all,):
                await semaphore.acquire()
                place.callback(semaphore.release)
            late = asyncio.get_running_loop().call_later(self._place_s, place.close)
            try:
                yield
            finally:
                late.cancel()


@dataclass(frozen=True, slots=True)
class Knock:
    """Who knocks where. A user with another password is another one; never in repr."""

    source: object
    address: str             # host and port
    login: tuple[str, str]

    def __repr__(self) -> str:
        return f"Knock({self.address})"


@dataclass(slots=True)
class _Silence:
    backoff: "Backoff"
    source: object
    until_ns: int
    error: SourceError


class Hosts:
    """What one stream's failure tells the others of the same address: many channels of one recorder fail together.

    While an address is silent one stream knocks for all, and a login that was refused is not tried again by the next channel.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._silent: dict[str, _Silence] = {}
        self._refused: dict[tuple[str, tuple[str, str]], tuple[object, int, SourceError]] = {}
        self._proven: set[tuple[str, tuple[str, str]]] = set()
        self._unproven: dict[tuple[str, tuple[str, str]], asyncio.Lock] = {}

    def check(self, knock: Knock) -> None:
        """Raises the SourceError that another stream has met there, with the time that is left to wait."""
        now_ns = self._clock.mono_ns()
        silence = self._silent.get(knock.address)
        if silence is not None and silence.source is not knock.source and now_ns < silence.until_ns:
            raise _again(silence.error, silence.until_ns - now_ns)
        source, until_ns, error = self._refused.get((knock.address, knock.login), (None, 0, None))
        if error is not None and source is not knock.source and now_ns < until_ns:
            raise _again(error, until_ns - now_ns)

    @asynccontextmanager
    async def alone(self, knock: Knock) -> AsyncIterator[None]:
        """Until a login has been accepted at an address one stream tries it at a time: a wrong password costs one try, not one a channel."""
        key = (knock.address, knock.login)
        if not any(knock.login) or key in self._proven:
            yield
            return
        async with self._unproven.setdefault(key, asyncio.Lock()):
            self.check(knock)
            if key not in self._proven:
                yield
                return
        yield

    def reached(self, knock: Knock) -> None:
        """It answers, and accepts this login."""
        self._silent.pop(knock.address, None)
        self._refused.pop((knock.address, knock.login), None)
        self._proven.add((knock.address, knock.login))
        self._unproven.pop((knock.address, knock.login), None)

    def failed(self, knock: Knock, error: SourceError) -> None:
        """It does not answer, or refuses this login; other causes say that it answers."""
        now_ns, key = self._clock.mono_ns(), (knock.address, knock.login)
        if isinstance(error, HungUp):
            self._silent.pop(knock.address, None)      # one dead channel of a recorder must not keep the others away
        elif error.cause == GapCause.OFFLINE:
            before = self._silent.get(knock.address)
            backoff = before.backoff if before is not None else Backoff(self._rng)
            self._silent[knock.address] = _Silence(backoff, knock.source, now_ns + round(backoff.next_s(0, 0) * NS), error)
        elif isinstance(error, WrongPassword):
            self._proven.discard(key)
            self._refused[key] = (knock.source, now_ns + round(error.retry_s * NS), error)
        elif error.cause == GapCause.AUTH:
            self._silent.pop(knock.address, None)
        else:
            self.reached(knock)
        self._forget_some()

    def _forget_some(self) -> None:
        """Addresses come and go with redirects: the oldest is forgotten, which costs a try at most."""
        while len(self._silent) > HOSTS_MAX:
            del self._silent[next(iter(self._silent))]
        while len(self._refused) > HOSTS_MAX:
            del self._refused[next(iter(self._refused))]
        if len(self._proven) > HOSTS_MAX:
            self._proven.clear()
        if len(self._unproven) > HOSTS_MAX:
            self._unproven = {key: lock for key, lock in self._unproven.items() if lock.locked()}


def _again(error: SourceError, left_ns: int) -> SourceError:
    return SourceError(error.message, cause=error.cause, retry_s=left_ns / NS, where=error.where, remedy=error.remedy)


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
