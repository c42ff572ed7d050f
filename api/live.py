"""`/live`: one WebSocket that carries any number of tiles, each a run of init segments, fragments, states and events with its own credit.

Binary frame: u32 tile, u8 kind, 3 zero bytes (big-endian), then the payload. A tile that has used up its credit waits; the others do not.
"""

import asyncio
import json
import logging
import struct
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import WSMsgType, web

from api import keys
from api.authorise import Grant, within_reach
from api.livetile import LiveTile
from api.pace import Pace
from api.problems import scrub
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import end_now
from api.tilefeed import EVENT, STATE, Piece, open_feed
from api.tiletrack import LOOK_S, find_track
from api.wish import MESSAGE_MAX, Message, Wish, read
from recorder.base.errors import NotFound, WatchroomError
from storage.sickdisk import sick

log = logging.getLogger("watchroom.api")
HEAD = struct.Struct(">IB3x")
TILES_MAX = 1000
ALIVE_S = 2.0
CLOSE_S = 2.0
ROOM_BYTES = 16 << 20
BACKLOG_BYTES = 4 << 20       # that a client has not taken: live tiles then wait, and go on at the newest access point
CUT_BYTES = 32 << 20          # a backlog that states alone have made so large: the client asks and asks, and takes nothing
ACK_COST, OTHER_COST = 1, 20  # of what a client says; about 20 us of the loop's time is 1
COST_S, COST_BURST = 10_000, 30_000
WS_REVOKED, WS_NONSENSE = 4001, 4002
BINARY = 0x82                 # RFC 6455 5.2: a whole message of bytes


class Room:
    """Bytes of all tiles of one connection that have been read and wait to be sent: a thousand tiles do not hold a thousand fragments."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = asyncio.Event()

    async def take(self, nbytes: int) -> None:
        """Wait for room; a piece larger than all of it has it alone."""
        while self._held and self._held + nbytes > self._limit:
            self._changed.clear()
            await self._changed.wait()
        self._held += nbytes

    def give_back(self, nbytes: int) -> None:
        """They have been sent."""
        self._held -= nbytes
        self._changed.set()


class Tile:
    """One tile's task and credit: at most `credit` bytes are sent and not acknowledged, and always at least one piece."""

    def __init__(self, number: int, wish: Wish, room: Room) -> None:
        self.number = number
        self.wish = wish
        self._room_of_all = room
        self._held = 0
        self.task: asyncio.Task[None] | None = None
        self.on_credit: Callable[[], None] | None = None      # called when there is credit again
        self._open = 0
        self._room = asyncio.Event()
        self._room.set()

    def acknowledge(self, nbytes: int) -> None:
        """The client has consumed `nbytes`."""
        self._open = max(0, self._open - nbytes)
        if self._open < self.wish.credit and not self._room.is_set():
            self._room.set()
            if self.on_credit is not None:
                self.on_credit()

    @property
    def has_credit(self) -> bool:
        """True while something may be sent."""
        return self._room.is_set()

    def spend(self, nbytes: int) -> None:
        """Use credit."""
        self._open += nbytes
        if self._open >= self.wish.credit:
            self._room.clear()

    async def credit(self) -> None:
        """Wait until there is credit. The tile holds no bytes meanwhile."""
        await self._room.wait()

    async def take(self, nbytes: int) -> None:
        """Wait until the connection has room for a fragment."""
        self.give_back()
        await self._room_of_all.take(nbytes)
        self._held = nbytes

    def give_back(self) -> None:
        """The fragment has been sent, or never will be."""
        self._room_of_all.give_back(self._held)
        self._held = 0


class LiveSocket:
    """One client's connection."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._request = request
        self._socket = socket
        self._grant: Grant = request[keys.GRANT]
        self._tiles: dict[int, Tile] = {}
        self._room = Room(ROOM_BYTES)
        self._pace = Pace(COST_S, COST_BURST)

    async def run(self) -> None:
        """Serve until the client leaves, talks nonsense, or its token ends."""
        watch = asyncio.create_task(self._watch_grant())
        try:
            async for frame in self._socket:
                if frame.type is not WSMsgType.TEXT:
                    await self._socket.close(code=WS_NONSENSE, message=b"messages are text")
                    return
                await self._handle(frame.data)
        finally:
            watch.cancel()
            await self._end([watch, *(tile.task for tile in self._tiles.values() if tile.task)])

    async def _handle(self, text: str) -> None:
        cost = OTHER_COST
        try:
            message = read(text)
            cost = ACK_COST if message.op == "ack" else OTHER_COST
            await self._obey(message)
        except WatchroomError as error:
            await self._tell(_tile_of(text), EVENT, {"error": scrub(error.message)})
        await self._pace.pay(cost)

    async def _obey(self, message: Message) -> None:
        tile = self._tiles.get(message.tile)
        if message.op == "ack":
            if tile is not None:
                tile.acknowledge(message.nbytes)
        elif message.op == "unsubscribe":
            await self._drop(message.tile)
        elif message.wish is not None:
            await self._show(message.tile, message.wish)
        elif tile is not None:
            await self._show(message.tile, replace(tile.wish, start_ns=message.start_ns))

    async def _show(self, number: int, wish: Wish) -> None:
        await self._drop(number)
        if len(self._tiles) >= TILES_MAX:
            await self._tell(number, EVENT, {"error": f"a connection carries at most {TILES_MAX} tiles"})
            return
        tile = self._tiles[number] = Tile(number, wish, self._room)
        tile.task = asyncio.create_task(self._feed(tile), name=f"tile {number}")

    async def _drop(self, number: int) -> None:
        tile = self._tiles.pop(number, None)
        if tile is not None and tile.task is not None:
            await self._end([tile.task])

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, tile: Tile) -> None:
        """The tile's task: everything its feed yields, until it ends."""
        try:
            app, wish = self._request.app, tile.wish
            camera = within_reach(self._grant, app[keys.REGISTRY], wish.camera)
            offer = await find_track(app, camera, wish, partial(self._say, tile.number, STATE))
            while wish.start_ns is None:
                await LiveTile(app, camera.number, offer.track, tile, self).run()
                await asyncio.sleep(LOOK_S)
                offer = await find_track(app, camera, wish, partial(self._say, tile.number, STATE))
            async with aclosing(open_feed(app, camera, offer.track, wish, tile.take)) as pieces:
                async for piece in pieces:
                    await self._pass_on(tile, piece)
        except WatchroomError as error:
            await self._tell(tile.number, STATE, {"state": "ended", "cause": scrub(error.message)})
        except ConnectionError:
            pass  # the socket is closing; run() ends everything
        except Exception as error:  # the tile's task is supervised here: one tile's defect ends that tile alone
            await self._tell(tile.number, STATE, {"state": "ended", "cause": _why(error, tile.wish.camera)})

    async def _pass_on(self, tile: Tile, piece: Piece) -> None:
        if isinstance(piece.payload, Mapping):
            await self._tell(tile.number, piece.kind, piece.payload)
            return
        tile.spend(len(piece.payload))
        await self._socket.send_bytes(HEAD.pack(tile.number, piece.kind) + piece.payload)
        tile.give_back()
        await tile.credit()

    def send(self, tile: int, kind: int, payload: bytes) -> None:
        """A message to the client, at once and without waiting (`full` says whether to); none once the client has gone."""
        transport = self._request.transport
        if transport is None or self._socket.closed or transport.is_closing():
            return
        if transport.get_write_buffer_size() > CUT_BYTES:
            end_now(self._request)
            return
        size = HEAD.size + len(payload)
        head = struct.pack(">BB", BINARY, size) if size < 126 else (
            struct.pack(">BBH", BINARY, 126, size) if size < 1 << 16 else struct.pack(">BBQ", BINARY, 127, size))
        transport.writelines((head + HEAD.pack(tile, kind), payload))

    @property
    def full(self) -> bool:
        """True while the client has not taken what was sent."""
        transport = self._request.transport
        return transport is None or transport.get_write_buffer_size() > BACKLOG_BYTES

    def _say(self, tile: int, kind: int, body: Mapping[str, Any]) -> None:
        self.send(tile, kind, json.dumps(body).encode())

    async def _tell(self, tile: int, kind: int, body: Mapping[str, Any]) -> None:
        with suppress(ConnectionError):
            await self._socket.send_bytes(HEAD.pack(tile, kind) + json.dumps(body).encode())

    async def _watch_grant(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_S)
            if not self._grant.alive():
                with suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(CLOSE_S):
                        await self._socket.close(code=WS_REVOKED, message=b"the token has ended")
                end_now(self._request)       # a client that takes nothing takes no close frame either
                return
            for tile in list(self._tiles.values()):
                await self._still_in_reach(tile)

    async def _still_in_reach(self, tile: Tile) -> None:
        """End a tile whose camera has been removed, or is no longer one of those that the token reaches."""
        try:
            within_reach(self._grant, self._request.app[keys.REGISTRY], tile.wish.camera)
        except NotFound as error:
            if self._tiles.get(tile.number) is tile and tile.task is not None and not tile.task.done():
                await self._drop(tile.number)
                self._say(tile.number, STATE, {"state": "ended", "cause": error.message})


def _why(error: Exception, camera: str) -> str:
    """Why a tile has ended, in words for its client."""
    if sick(error):
        log.warning("live tile of camera %s: a disk cannot be read: %s", camera, error)
        return "a disk cannot read this now"
    log.error("live tile of camera %s", camera, exc_info=error)
    return "an error of the server; it is in its log"


def _tile_of(text: str) -> int:
    """The tile a wrong message meant, for the answer; 0 if it did not say."""
    with suppress(ValueError, AttributeError, RecursionError):
        tile = json.loads(text[:MESSAGE_MAX]).get("tile")
        if isinstance(tile, int) and 0 <= tile < 1 << 32:
            return tile
    return 0


async def live(request: web.Request) -> web.WebSocketResponse:
    """Serve one client."""
    socket = web.WebSocketResponse(heartbeat=20.0, max_msg_size=MESSAGE_MAX, compress=False)
    await socket.prepare(request)
    await LiveSocket(request, socket).run()
    return socket


def routes() -> list[Route]:
    """The route of this module."""
    return [Route("GET", f"{ROOT}/live", live, "A WebSocket of tiles: any number of cameras, live or from a time", scopes=VIEW,
                  answers={101: Answer("the protocol is in docs/api.md", media_type="application/octet-stream")},
                  websocket=True, tag="media")]
