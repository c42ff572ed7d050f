"""One client's connection: bytes in, requests one after the other, answers out, and the ends that it may come to.

| what | ends it after |
|---|---|
| no request that could be answered with 200, or one that does not become whole | 10 s |
| no session | 120 s |
| nothing that plays and no word of the client | 60 s |
| UDP: neither a request nor RTCP | 60 s (the session) |
| TCP: something waits and the client takes nothing | 30 s |
| TCP: nothing waits, and the client's machine has gone | 120 s |
| it is closed, and the client does not take what waits | 30 s |
| its token is revoked or has run out | 1 s |
| five wrong logins, or bytes that are no RTSP | at once, behind the answer |
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Protocol, cast

from api.rtspout.answer import refusal
from api.rtspout.desk import Desk, House
from api.rtspout.login import WRONG_MAX, Login
from api.rtspout.request import Broken, Request, RequestReader
from api.rtspout.session import TIMEOUT_S
from api.rtspout.wire import Wire

log = logging.getLogger("watchroom.rtsp")

WHOLE_S = 10.0
STUCK_S = 30.0
UNUSED_S = 120.0
KEEPALIVE = (((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1), ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
             ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 10), ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 6))
UNREAD_MAX = 96 << 10       # bytes of requests that wait; one request is shorter
ANSWERS_MAX = 64 << 10      # bytes of answers to one that plays, before it is looked whether it reads them


class Doors(Protocol):
    """Counts connections."""

    def enter(self, connection: "Connection") -> bool:
        """False if there is no room for it."""
        ...

    def leave(self, connection: "Connection") -> None:
        """It is over."""
        ...

    def answered(self, status: int) -> None:
        """A request has been answered."""
        ...


class Connection(asyncio.Protocol):
    """A protocol of the event loop. `login` makes the login of a peer's address."""

    def __init__(self, house: House, doors: Doors, login: Callable[[str], Login]) -> None:
        self._house, self._doors, self._make_login = house, doors, login
        self._reader = RequestReader()
        self._task: asyncio.Task[None] | None = None
        self._read = True
        self._known = False         # it has been answered with success: it speaks RTSP and may be here
        self._entered = False
        self._said = 0              # bytes of answers since the client had taken most of what it was sent
        self._closed_s = 0.0
        self.peer = ""
        self.heard_s = self._begun_s = self._used_s = time.monotonic()

    # -- asyncio's calls --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse by closing at once, or begin."""
        self._transport = cast(asyncio.Transport, transport)
        with contextlib.suppress(OSError):          # it has gone already
            for option, value in KEEPALIVE:
                transport.get_extra_info("socket").setsockopt(*option, value)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.peer = str(peer[0]) if peer else ""
        self.wire = Wire(self._transport)
        self._login = self._make_login(self.peer)
        self.desk = Desk(self._house, self._login, self.wire, self.peer, str(own[0]) if own else "127.0.0.1")
        self._entered = self._doors.enter(self)
        if not self._entered:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Requests wait for their turn."""
        if not self._entered:
            return
        now_s = time.monotonic()
        if self.desk.sessions:
            self.heard_s = now_s
        if self._reader.idle:
            self._begun_s = now_s
        self._reader.feed(data)
        if self._task is None and (request := self._reader.take()) is not None:
            self.heard_s = now_s
            self._task = asyncio.get_running_loop().create_task(self._work(request), name=f"rtsp {self.peer}")
        self._throttle()

    def pause_writing(self) -> None:
        """The client is slower than we are."""
        self.wire.pause()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.wire.resume()

    def eof_received(self) -> bool:
        """It says no more: then neither do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that was begun here."""
        self.wire.resume()
        if self._task is not None:
            self._task.cancel()
        self.desk.close()
        if self._entered:
            self._entered = False
            self._doors.leave(self)

    # -- requests --

    async def _work(self, first: Request | Broken) -> None:
        """Answer it and what waits behind it."""
        request: Request | Broken | None = first
        try:
            while request is not None and not self.wire.closed:
                await self._answer(request)
                await self._read_answers()
                self.heard_s = self._begun_s = time.monotonic()
                request = self._reader.take()
                self._throttle()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a request of a connection from %s", self.peer)
            self._transport.abort()
        finally:
            self._task = None

    async def _answer(self, request: Request | Broken) -> None:
        if isinstance(request, Broken):
            self._doors.answered(request.fault.status)
            self.wire.write(refusal(request.cseq, request.fault))
            self.wire.close()
            return
        reply = await self.desk.handle(request)
        self._doors.answered(reply.status)
        self._known |= reply.status == 200
        self.wire.write(reply.data)
        self._said += len(reply.data)
        reply.then()
        if self._login.wrong >= WRONG_MAX:
            self.wire.close()

    async def _read_answers(self) -> None:
        """A client that asks on and reads nothing is answered no further. One that plays may be late; its viewers see to the pictures."""
        if not self._playing or self._said > ANSWERS_MAX:
            await self.wire.room()
            self._said = 0

    def _throttle(self) -> None:
        """Read on only while there is room for what comes."""
        read = self._reader.waiting < UNREAD_MAX
        if read != self._read and not self.wire.closed:
            self._read = read
            (self._transport.resume_reading if read else self._transport.pause_reading)()

    # -- ends --

    def look(self, now_s: float) -> None:
        """Once a second: is this still a connection?"""
        if self.wire.closed:
            self._closed_s = self._closed_s or now_s
            if now_s - self._closed_s > STUCK_S:
                self._transport.abort()
            return
        if self.desk.sessions:
            self._used_s = now_s
        for session in tuple(self.desk.sessions.values()):
            session.look()
            if not session.grant.alive():
                self.desk.end(session)
                self.wire.close()
                return
            if session.udp and now_s - session.heard_s > TIMEOUT_S:
                self.desk.end(session)
        if self._over(now_s):
            self._transport.abort()

    def _over(self, now_s: float) -> bool:
        if self.wire.stuck_s(now_s) > STUCK_S:
            return True
        if not self._reader.idle and self._task is None and now_s - self._begun_s > WHOLE_S and not self._playing:
            return True
        if not self.desk.sessions and now_s - self._used_s > UNUSED_S:
            return True
        return not self._playing and now_s - self.heard_s > (TIMEOUT_S if self._known else WHOLE_S)

    @property
    def _playing(self) -> bool:
        return any(session.playing for session in self.desk.sessions.values())
