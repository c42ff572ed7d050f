"""One live track on its way to one client, and what happens to a client that is slower than the track.

| what waits for it | then |
|---|---|
| over 2 MiB, or twice the picture group that it began with | nothing is sent up to the next access point at which it has caught up |
| the same again within 10 s | access points alone, until it has had 10 s without waiting |

The server ends a connection that takes nothing for 30 s (connection.py). Packets that are left out leave no holes: those behind them are
renumbered.
"""

import time

from api.rtspout.coding import LEAD
from api.rtspout.out import Out
from api.rtspout.relay import Packets, Relay
from recorder._ext.rtppack import readdressed

WAITING_MAX = 2 << 20
CAUGHT_UP = 128 << 10
CALM_S = 10.0
REPORT_S = 5.0


class Viewer:
    """A Watcher of a relay. `skipped` units were left out."""

    def __init__(self, relay: Relay, out: Out) -> None:
        self._relay, self.out = relay, out
        self._next: int | None = None       # sequence number that it is sent next
        self._limit = WAITING_MAX
        self._resting = False               # waits for an access point
        self._leading = False               # leaves out pictures that refer to what it has not
        self._sparse_until_s = 0.0
        self._late_s = -CALM_S
        self._report_s = 0.0
        self.skipped = 0
        self.done = False

    @property
    def late(self) -> bool:
        """True if so much waits that a picture group on top would only make it later."""
        return self.out.waiting > WAITING_MAX

    def first(self, group: list[Packets]) -> tuple[int, int] | None:
        """Sequence number and timestamp that `begin` will send first; None while nobody knows."""
        if not group:
            return None
        return group[0].sequence if self._next is None else self._next, group[0].timestamp

    def begin(self, group: list[Packets], *, access_point: bool) -> None:
        """Send `group`, then all that comes; with an empty one from the next access point on."""
        self._limit = max(WAITING_MAX, 2 * sum(len(one.data) for one in group))
        self._resting = access_point and not group
        self._leading = access_point
        self._report_s = 0.0
        for number, packets in enumerate(group):
            if not (self._leading and packets.leading and number):
                self._send(packets)
        self._leading = access_point and not any(not one.leading and not one.key for one in group)
        self._relay.add(self)

    def rest(self) -> None:
        """Send nothing more."""
        self._relay.remove(self)

    def take(self, packets: Packets) -> None:
        """As Watcher."""
        if packets.key:
            self._leading = self._resting
        if self._left_out(packets):
            self.skipped += 1
            return
        self._send(packets)
        if self.out.waiting > self._limit:
            self._late()

    def end(self) -> None:
        """As Watcher."""
        self.done = True
        self.out.goodbye()

    def _left_out(self, packets: Packets) -> bool:
        if packets.leading and self._leading:
            return True
        if not packets.key:
            if not packets.leading:
                self._leading = False
            return self._resting or self._sparse_until_s > 0.0
        if self._resting and self.out.waiting > CAUGHT_UP:
            return True
        self._resting = False
        if self._sparse_until_s > 0.0:
            self._leading = True
            if self.out.waiting > CAUGHT_UP:
                self._sparse_until_s = time.monotonic() + CALM_S
                return True
            if time.monotonic() >= self._sparse_until_s:
                self._sparse_until_s = 0.0
        return False

    def _late(self) -> None:
        now_s = time.monotonic()
        if now_s - self._late_s < CALM_S:
            self._sparse_until_s = now_s + CALM_S
        self._late_s = now_s
        self._resting = True

    def _send(self, packets: Packets) -> None:
        out = self.out
        if self._next is None:
            self._next = packets.sequence
        data = packets.data
        if self._next != packets.sequence or out.channel != self._relay.channel:
            data = readdressed(data, packets.offsets, self._next, lead=LEAD, channel=out.channel)
        now_s = time.monotonic()
        if now_s >= self._report_s:
            self._report_s = now_s + REPORT_S
            out.report(packets.wall_ns, packets.timestamp, *self._relay.counters())
        out.send(data, packets.offsets)
        self._next = (self._next + len(packets.offsets) - 1) & 0xFFFF
