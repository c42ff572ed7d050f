"""The RTSP server of the API process: listens, counts connections, looks after them each second, and is made of one application's parts."""

import asyncio
import functools
import itertools
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from api import keys
from api.credentials import AUTHORITY
from api.edge import BOARD
from api.guard import is_loopback
from api.metrics import EXTRA, Page
from api.rtspout.connection import Connection
from api.rtspout.desk import House
from api.rtspout.live import LiveOpener
from api.rtspout.login import Login
from api.rtspout.ports import PortPool
from api.rtspout.presentation import Open
from api.rtspout.relay import Relays
from recorder.base.config import RtspOutConfig
from recorder.base.errors import ConfigError

log = logging.getLogger("watchroom.rtsp")

IN_ALL = 1000
PER_CLIENT = 100
LOOK_S = 1.0
BACKLOG = 256


class RtspServer:
    """`port` is the real one while it serves."""

    def __init__(self, app: web.Application, config: RtspOutConfig, openers: Mapping[str, Open], *, open_door: bool) -> None:
        """`open_door`: nobody needs a token."""
        self._app, self._config, self._open_door = app, config, open_door
        self._connections: dict[int, Connection] = {}
        self._clients: Counter[str] = Counter()
        numbers = itertools.count(secrets.randbits(30))
        self._house = House(app[keys.REGISTRY], openers, PortPool(config.bind, config.udp_port_first, config.udp_port_last),
                            functools.partial(next, numbers))
        self._answers: Counter[int] = Counter()
        self.refused = 0
        self.port = 0

    # -- Doors --

    def enter(self, connection: Connection) -> bool:
        """As connection.Doors."""
        if len(self._connections) >= IN_ALL or self._clients[connection.peer] >= PER_CLIENT:
            self.refused += 1
            return False
        self._connections[id(connection)] = connection
        self._clients[connection.peer] += 1
        return True

    def leave(self, connection: Connection) -> None:
        """As connection.Doors."""
        del self._connections[id(connection)]
        self._clients[connection.peer] -= 1
        if self._clients[connection.peer] <= 0:
            del self._clients[connection.peer]

    def answered(self, status: int) -> None:
        """As connection.Doors."""
        self._answers[status] += 1

    # -- life --

    def _login(self, peer: str) -> Login:
        """Whose bytes do not leave this machine may use Basic."""
        return Login(self._app[AUTHORITY], self._app[keys.REGISTRY], open_door=self._open_door, plain=is_loopback(peer))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["RtspServer"]:
        """Serve while the block runs. Raises ConfigError if the port cannot be had."""
        server = await self._listen()
        self.port = int(server.sockets[0].getsockname()[1])
        log.info("RTSP on port %d", self.port)
        watch = asyncio.create_task(self._watch(), name="rtsp connections")
        try:
            yield self
        finally:
            watch.cancel()
            server.close()
            for connection in tuple(self._connections.values()):
                connection.desk.close()
                connection.wire.close()
            await asyncio.gather(watch, return_exceptions=True)

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.get_running_loop().create_server(
                lambda: Connection(self._house, self, self._login), self._config.bind, self._config.port, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(f"cannot listen on {self._config.bind} port {self._config.port}: "
                              f"{os.strerror(error.errno) if error.errno else error}", where="rtsp_out.port",
                              remedy="stop what uses it, or choose another") from None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            for connection in tuple(self._connections.values()):
                try:
                    connection.look(now_s)
                except Exception:           # one connection's end, not the watch's over all others
                    log.exception("the connection from %s", connection.peer)
                    connection.wire.abort()

    def figures(self, page: Page, app: web.Application) -> None:
        """Metrics."""
        sessions = [session for connection in self._connections.values() for session in connection.desk.sessions.values()]
        page.family("watchroom_rtsp_connections", "gauge", "Connections of the RTSP server.", [({}, len(self._connections))])
        page.family("watchroom_rtsp_refused_total", "counter", "Connections for which there was no room.", [({}, self.refused)])
        page.family("watchroom_rtsp_answers_total", "counter", "Answers by status.",
                    [({"status": str(status)}, count) for status, count in sorted(self._answers.items())])
        ways = Counter("udp" if session.udp else "tcp" for session in sessions if session.playing)
        page.family("watchroom_rtsp_viewers", "gauge", "Sessions that play, by the way of their media.",
                    [({"transport": way}, ways[way]) for way in ("tcp", "udp")])
        page.family("watchroom_rtsp_waiting_bytes", "gauge", "What clients have not taken.",
                    [({}, sum(connection.wire.waiting for connection in self._connections.values()))])
        page.family("watchroom_rtsp_skipped_units", "gauge", "Units left out for clients that are too slow, of the sessions of now.",
                    [({}, sum(session.presentation.skipped for session in sessions))])


Openers = dict[str, Open]
OPENERS = web.AppKey("rtsp_openers", dict[str, Open])


def check_reach(config: RtspOutConfig, tokens: int) -> None:
    """ConfigError unless the server may listen where it is told to: off loopback it takes a token that can log in."""
    if config.port and tokens == 0 and not is_loopback(config.bind):
        raise ConfigError("other machines can reach this server, and no token exists that would let anybody in over RTSP",
                          where="rtsp_out.bind", remedy="make one first: watchroom token add (those made before RTSP came cannot log in there)")


def _openers(app: web.Application) -> Openers:
    """Live, and what else has been put on the application."""
    found: Openers = {"": LiveOpener(Relays(app[BOARD].join))}
    if OPENERS in app:
        more: Openers = app[OPENERS]
        found.update(more)
    return found


@asynccontextmanager
async def rtsp_serving(app: web.Application, config: RtspOutConfig) -> AsyncIterator[RtspServer | None]:
    """The server of a running application (BOARD is on it), while the block runs; None if it is off.

    What keeps it from listening is logged and keeps nothing else from being served: `watchroom serve` has refused to start with it.
    """
    async with AsyncExitStack() as stack:
        yield await _start(app, config, stack) if config.port else None


async def _start(app: web.Application, config: RtspOutConfig, stack: AsyncExitStack) -> RtspServer | None:
    tokens = sum(1 for token in app[keys.REGISTRY].tokens() if token.valid(app[keys.CLOCK].wall_ns()) and token.login_md5)
    server = RtspServer(app, config, _openers(app), open_door=is_loopback(config.bind))
    try:
        check_reach(config, tokens)
        await stack.enter_async_context(server.serving())
    except ConfigError as error:
        log.error("RTSP is not served: %s", error)
        return None
    app[EXTRA].append(server.figures)
    return server
