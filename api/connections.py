"""Connections of the HTTP server counted per client address: 200 each, and a first request within 10 s, so that nobody can take them all.

aiohttp counts requests, not connections, and waits for the first request for ever; this stands between the listening socket and its protocol.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

from aiohttp import web

PER_CLIENT = 200
IN_ALL = 4000
FIRST_REQUEST_S = 10.0


class Doors:
    """The factory that `loop.create_server` gets. `per_client` 0: not counted (behind a proxy all come from one address)."""

    def __init__(self, per_client: int = PER_CLIENT, in_all: int = IN_ALL, first_request_s: float = FIRST_REQUEST_S) -> None:
        self._inner: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self._per_client = per_client
        self._in_all = in_all
        self.first_request_s = first_request_s
        self._open: Counter[str] = Counter()
        self._doors: dict[int, Door] = {}
        self.refused = 0

    def bind(self, inner: Callable[[], asyncio.Protocol]) -> None:
        """Say where connections go: aiohttp's server, which is made after the application."""
        self._inner = inner

    def __call__(self) -> "Door":
        """A new connection's protocol."""
        return Door(self, self._inner())

    @property
    def open(self) -> int:
        """Connections that are open."""
        return self._open.total()

    def enter(self, door: "Door") -> bool:
        """Count the connection; False if there is no room for it."""
        if self._open.total() >= self._in_all or (self._per_client and self._open[door.client] >= self._per_client):
            self.refused += 1
            return False
        self._open[door.client] += 1
        self._doors[id(door.inner)] = door
        return True

    def leave(self, door: "Door") -> None:
        """The connection is closed."""
        self._doors.pop(id(door.inner), None)
        self._open[door.client] -= 1
        if self._open[door.client] <= 0:
            del self._open[door.client]

    def asked(self, request: web.BaseRequest) -> None:
        """A request has arrived whole on its connection: the wait for the first one is over."""
        door = self._doors.get(id(request.protocol))
        if door is not None:
            door.asked()


class Door(asyncio.Protocol):
    """One connection: passes everything through to aiohttp's protocol unless there was no room."""

    __slots__ = ("_doors", "_entered", "_wait", "client", "inner")

    def __init__(self, doors: Doors, inner: asyncio.Protocol) -> None:
        self._doors = doors
        self.inner = inner
        self.client = ""
        self._entered = False
        self._wait: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse by closing at once, or hand over."""
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else ""
        self._entered = self._doors.enter(self)
        if not self._entered:
            cast(asyncio.Transport, transport).abort()
            return
        self._wait = asyncio.get_running_loop().call_later(self._doors.first_request_s, cast(asyncio.Transport, transport).abort)
        self.inner.connection_made(transport)

    def asked(self) -> None:
        """The first request is here."""
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self._entered:
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self.inner.eof_received() if self._entered else None

    def pause_writing(self) -> None:
        """Pass on."""
        if self._entered:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        if self._entered:
            self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Uncount."""
        self.asked()
        if self._entered:
            self._entered = False
            self._doors.leave(self)
            self.inner.connection_lost(exc)


DOORS = web.AppKey("doors", Doors)
