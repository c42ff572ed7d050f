"""The drain's timer: one per worker. Every 40 ms one call receives from all sockets; rare events go to those who own the connections.

While somebody watches, what is watched has beats of its own in between, each 8 ms.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from recorder._ext.drain import Drain
from recorder._ext.framing import Connection
from recorder._ext.udp import UdpMedia
from recorder.base.clock import Clock
from recorder.timeline import WallOffset

REST_BYTES = 96 << 10    # what may gather in a socket, which holds twice that and more (recorder/rtsp/connection.py)
REST_RUNS = 3
LAG_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

OnEvents = Callable[[int], None]
PUMP_BYTES = 256 << 10


class Pump(Protocol):
    """What reads a connection that the kernel cannot read by itself: TLS."""

    def pump(self, framing: Connection, buffer: memoryview, mono_ns: int, wall_offset_ns: int) -> int:
        """Feeds `framing` all that has come; EVENT_* bits. `buffer` is scratch memory."""


class LoopLag:
    """How late the timer comes: a histogram (the last bucket is beyond all bounds) and the worst of the last minute or two."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LAG_BUCKETS_MS) + 1)
        self._worst = [0.0, 0.0]

    def add(self, lag_ms: float) -> None:
        """One tick came `lag_ms` late."""
        self.counts[bisect_left(LAG_BUCKETS_MS, lag_ms)] += 1
        self._worst[1] = max(self._worst[1], lag_ms)

    def turn(self) -> None:
        """Once a minute: forget the minute before the last."""
        self._worst = [self._worst[1], 0.0]

    @property
    def max_ms(self) -> float:
        """The worst of the last one to two minutes."""
        return max(self._worst)


class Drainer:
    """Owns the Drain. All calls on the loop's thread."""

    def __init__(self, clock: Clock, wall: WallOffset, period_ms: int, log: logging.Logger, *, watched_ms: int = 8) -> None:
        self.lag = LoopLag()
        self._clock = clock
        self._wall = wall
        self._period_s = period_ms / 1000
        self._quick_s = watched_ms / 1000
        self._log = log
        self._drain = Drain(rest_bytes=REST_BYTES, rest_runs=REST_RUNS)
        self._owners: dict[Connection, OnEvents] = {}
        self._pumps: dict[Connection, Pump] = {}
        self._watched = False
        self._buffer = memoryview(bytearray())
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick on the running loop."""
        loop = asyncio.get_running_loop()
        self._schedule(loop, loop.time() + self._period_s)

    def stop(self) -> None:
        """Tick no more."""
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        self._timer = self._beat = None

    def quicken(self) -> None:
        """Somebody watches: receive what is watched now, and go on doing so until nobody does. Nothing before `start`."""
        if self._timer is None or self._quick_s >= self._period_s:
            return
        if self._beat is not None:
            self._beat.cancel()
        self.run_once(watched=True)
        loop = asyncio.get_running_loop()
        self._beat = loop.call_later(self._quick_s, self.quicken) if self._watched else None

    def add(self, connection: Connection, fd: int, on_events: OnEvents, media: Sequence[UdpMedia] = (), pump: Pump | None = None) -> None:
        """Receive for `connection` from `fd`, and for its `media` over UDP from their sockets; or through `pump`. Tell `on_events` the
        EVENT_* bits. The caller keeps all open until `remove`."""
        if pump is None:
            self._drain.add(connection, fd, media)
        else:
            self._pumps[connection] = pump
            self._buffer = self._buffer or memoryview(bytearray(PUMP_BYTES))
        self._owners[connection] = on_events

    def remove(self, connection: Connection) -> None:
        """Receive no more for it."""
        self._owners.pop(connection, None)
        if self._pumps.pop(connection, None) is None:
            self._drain.remove(connection)

    @property
    def quick(self) -> bool:
        """True while what is watched has beats of its own."""
        return self._beat is not None

    def run_once(self, *, watched: bool = False) -> None:
        """Receive all that waits (`watched`: on connections that somebody watches), and tell the owners."""
        for connection, events in self._drain.run(self._clock.mono_ns(), self._wall.offset_ns, watched):
            owner = self._owners.get(connection)
            if owner is not None:
                self._guarded(owner, events)
        pumps = [(connection, pump) for connection, pump in self._pumps.items() if not watched or connection.watched]
        for connection, pump in pumps:
            self._guarded(self._pump, connection, pump)
        self._watched = self._drain.watched > 0 or any(connection.watched for connection in self._pumps)

    def _pump(self, connection: Connection, pump: Pump) -> None:
        events = pump.pump(connection, self._buffer, self._clock.mono_ns(), self._wall.offset_ns)
        if events:
            self._owners[connection](events)

    def _guarded(self, do: Callable[..., None], *arguments: object) -> None:
        try:
            do(*arguments)
        except Exception:                # one camera's defect must not stop the others' drain
            self._log.exception("handling drain events failed")

    def __len__(self) -> int:
        return len(self._owners)

    def _schedule(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._timer = loop.call_at(due, self._tick, loop, due)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.lag.add(max(0.0, now - due) * 1000)
        self.run_once()
        following = due + self._period_s
        if following < loop.time():      # overrun: skip the beats that are past instead of running after them
            following = loop.time() + self._period_s / 4
        self._schedule(loop, following)
