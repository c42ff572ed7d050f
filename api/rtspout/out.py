"""One track of one session on its way to one client: interleaved over TCP (RFC 2326 10.12), or as datagrams."""

import asyncio
from array import array
from collections import deque
from itertools import pairwise
from typing import Protocol

from api.rtspout.coding import LEAD
from api.rtspout.ports import PortPair
from api.rtspout.rtcp import goodbye, interleaved, sender_report
from api.rtspout.wire import Wire

BURST = 32                  # datagrams that leave at once
BURST_S = 0.002
UDP_WAITING_MAX = 16 << 20


class Out(Protocol):
    """Where packets of a track go. All calls on the loop; none blocks or raises, and after the end none does anything.

    `channel` is what the packets must say that are sent (`Packer(lead=4, channel=...)`); over UDP it is 0 and left out.
    """

    ssrc: int
    payload_type: int
    channel: int

    @property
    def waiting(self) -> int:
        """Bytes that the client, or the socket, has not taken yet; over TCP of all tracks of the connection."""
        ...

    def send(self, data: bytes, offsets: "array[int]") -> None:
        """The packets of one unit, as `Packer.pack` returns them."""
        ...

    def report(self, wall_ns: int, rtp_timestamp: int, packets: int, octets: int) -> None:
        """A sender report: at the first packet, and every 5 s."""
        ...

    def goodbye(self) -> None:
        """Say that nothing more comes."""
        ...

    async def room(self) -> None:
        """Returns when the client has taken most of what it was sent."""
        ...

    def close(self) -> None:
        """Send nothing more, forget what waits."""
        ...


class TcpOut:
    """In interleaved frames, between the answers."""

    def __init__(self, wire: Wire, ssrc: int, payload_type: int, channels: tuple[int, int]) -> None:
        self._wire = wire
        self.ssrc, self.payload_type = ssrc, payload_type
        self.channel, self._control = channels
        self._open = True

    @property
    def waiting(self) -> int:
        """As Out."""
        return self._wire.waiting

    def send(self, data: bytes, offsets: "array[int]") -> None:
        """As Out."""
        if self._open:
            self._wire.write(data)

    def report(self, wall_ns: int, rtp_timestamp: int, packets: int, octets: int) -> None:
        """As Out."""
        if self._open:
            self._wire.write(interleaved(self._control, sender_report(self.ssrc, wall_ns, rtp_timestamp, packets, octets)))

    def goodbye(self) -> None:
        """As Out."""
        if self._open:
            self._wire.write(interleaved(self._control, goodbye(self.ssrc)))

    async def room(self) -> None:
        """As Out."""
        await self._wire.room()

    def close(self) -> None:
        """As Out."""
        self._open = False


class UdpOut:
    """As datagrams from a pair of ports, a burst at a time: a picture group at once would overrun the client's socket."""

    channel = 0

    def __init__(self, ports: PortPair, ssrc: int, payload_type: int) -> None:
        self.ports = ports
        self.ssrc, self.payload_type = ssrc, payload_type
        self._queue: deque[memoryview] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._open = True
        self.lost = 0

    @property
    def waiting(self) -> int:
        """As Out."""
        return self._waiting

    def send(self, data: bytes, offsets: "array[int]") -> None:
        """As Out."""
        if not self._open:
            return
        if self._waiting + len(data) > UDP_WAITING_MAX:
            self.lost += len(offsets) - 1
            return
        view = memoryview(data)
        self._queue.extend(view[start + LEAD:end] for start, end in pairwise(offsets))
        self._waiting += len(data) - LEAD * (len(offsets) - 1)
        self._free.clear()
        if self._timer is None:
            self._burst()

    def _burst(self) -> None:
        self._timer = None
        for _ in range(min(BURST, len(self._queue))):
            if not self.ports.send(self._queue[0]):
                break
            self._waiting -= len(self._queue.popleft())
        if self._queue:
            self._timer = asyncio.get_running_loop().call_later(BURST_S, self._burst)
        else:
            self._free.set()

    def report(self, wall_ns: int, rtp_timestamp: int, packets: int, octets: int) -> None:
        """As Out."""
        if self._open:
            self.ports.control(sender_report(self.ssrc, wall_ns, rtp_timestamp, packets, octets))

    def goodbye(self) -> None:
        """As Out."""
        if self._open:
            self.ports.control(goodbye(self.ssrc))

    async def room(self) -> None:
        """As Out."""
        await self._free.wait()

    def close(self) -> None:
        """As Out; gives the ports back."""
        self._open = False
        self._queue.clear()
        self._waiting = 0
        self._free.set()
        if self._timer is not None:
            self._timer.cancel()
        self.ports.close()
