"""Pairs of UDP ports, even and odd (RFC 3550 11), each pair connected to one client's."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator

from api.rtspout.fault import Fault

DATAGRAM_MAX = 2048
READS = 16                  # datagrams that are read for one wake-up
PAIRS_MAX = 512             # two open files each
TRIES = 32                  # pairs that are tried before a client is told that there is none


class PortPair:
    """Two sockets. `heard` is called for whatever the client sends to them."""

    def __init__(self, sockets: tuple[socket.socket, socket.socket], forget: Callable[[], None]) -> None:
        self._sockets = sockets
        self._forget = forget
        self._closed = False
        self.heard: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for one in sockets:
            loop.add_reader(one, self._read, one)

    @property
    def first(self) -> int:
        """The even port."""
        return int(self._sockets[0].getsockname()[1])

    def send(self, packet: memoryview) -> bool:
        """A packet to the client's first port; False if the socket is full. That nobody listens there shows by the session's timeout."""
        try:
            self._sockets[0].send(packet)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def control(self, packet: bytes) -> None:
        """A packet to the client's second port."""
        try:
            self._sockets[1].send(packet)
        except OSError:
            pass

    def _read(self, one: socket.socket) -> None:
        for _ in range(READS):
            try:
                one.recv(DATAGRAM_MAX)
            except OSError:
                return
            self.heard()

    def close(self) -> None:
        """Give the ports back."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.remove_reader(one)
            one.close()
        self._forget()


class PortPool:
    """The pairs between `first` and `last` at one address."""

    def __init__(self, address: str, first: int, last: int) -> None:
        self._address = address
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._even = range(first + first % 2, last, 2)
        self._next = 0
        self.taken = 0

    def take(self, peer: str, ports: tuple[int, int]) -> PortPair:
        """A pair that sends to these ports of the client and hears only from there. Raises Fault 503 if none is free."""
        for even in self._candidates():
            made = self._bound(even)
            if made is None:
                continue
            try:
                for one, port in zip(made, ports, strict=True):
                    one.connect((peer, port))
            except OSError:
                _close(made)
                raise Fault(461, "the client's ports cannot be reached") from None
            self.taken += 1
            return PortPair(made, self._give_back)
        raise Fault(503, "no UDP port is free; ask for RTP/AVP/TCP")

    def _candidates(self) -> Iterator[int]:
        for _ in range(min(TRIES, len(self._even)) if self.taken < PAIRS_MAX else 0):
            self._next = (self._next + 1) % len(self._even)
            yield self._even[self._next]

    def _bound(self, even: int) -> tuple[socket.socket, socket.socket] | None:
        made: list[socket.socket] = []
        try:
            for port in (even, even + 1):
                made.append(socket.socket(self._family, socket.SOCK_DGRAM))
                made[-1].setblocking(False)
                made[-1].bind((self._address, port))
        except OSError:
            _close(made)
            return None
        return made[0], made[1]

    def _give_back(self) -> None:
        self.taken -= 1


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()
