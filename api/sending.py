"""Sending virtual files: conditions, ranges, HEAD, and the end of a response whose footage is retired under it (RFC 9110 13, 14)."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from aiohttp import web

from api import keys
from api.authorise import Grant
from api.byteranges import ByteRange, match_holds, none_match, parse_range, range_holds
from api.media import MEDIA, MediaCounts
from api.problems import Problem
from recorder.base.errors import Gone, Unreadable

ALIVE_S = 2.0                 # how often a long answer asks whether its token still stands
SLOW_S = 120.0                # a client that takes so long for one piece (256 KiB, 1 MiB at most) or fragment does not read: it may come back


class Source(Protocol):
    """Bytes to be sent: those of tapes (api/tapebytes.py) or of a file (api/filebytes.py)."""

    size: int

    def pieces(self, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Bytes [start, stop) in pieces of memory that a transport may keep."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


async def send_file(request: web.Request, source: Source, *, etag: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer with the file or the part of it that was asked for; closes `source`.

    The first bytes are read before anything is said, so that retired footage is still a 410; later it ends the connection.
    """
    try:
        return await _send(request, source, etag, {**headers, "ETag": etag, "Accept-Ranges": "bytes"})
    finally:
        source.close()


class Once(Protocol):
    """Bytes of a known number that can be had once, in order."""

    size: int

    def pieces(self) -> AsyncIterator[memoryview]:
        """All of them."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


async def send_once(request: web.Request, source: Once, *, headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer with all of what can be read once only: no ranges, no tag; closes `source`. The end of its footage ends the connection."""
    try:
        response = web.StreamResponse(headers={**headers, "Accept-Ranges": "none"})
        response.content_length = source.size
        pieces = source.pieces()
        first = None if request.method == "HEAD" else await anext(pieces, None)
        await response.prepare(request)
        if first is not None:
            await _write_all(request, response, first, pieces)
        await response.write_eof()
        return response
    finally:
        source.close()


async def _send(request: web.Request, source: Source, etag: str, headers: dict[str, str]) -> web.StreamResponse:
    if not match_holds(request.headers.get("If-Match"), etag):
        raise Problem(412, "the file is not the one that If-Match names", remedy="ask for it from its begin")
    if none_match(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers={name: text for name, text in headers.items() if name != "Content-Type"})
    wanted = _range(request, source.size, etag)
    pieces = source.pieces(wanted.start, wanted.stop)
    first = None if request.method == "HEAD" else await anext(pieces, None)
    response = web.StreamResponse(status=200 if wanted.whole else 206, headers=headers)
    response.content_length = wanted.stop - wanted.start
    if not wanted.whole:
        response.headers["Content-Range"] = wanted.content_range(source.size)
    await response.prepare(request)
    if first is not None:
        await _write_all(request, response, first, pieces)
    await response.write_eof()
    return response


def _range(request: web.Request, size: int, etag: str) -> ByteRange:
    header = request.headers.get("Range") if range_holds(request.headers.get("If-Range"), etag) else None
    wanted = parse_range(header if request.method == "GET" else None, size)
    if wanted is None:
        raise Problem(416, f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return wanted


async def _write_all(request: web.Request, response: web.StreamResponse, first: memoryview, rest: AsyncIterator[memoryview]) -> None:
    counts = request.app[MEDIA].counts
    try:
        with cut_with_grant(request) as watch:
            await _write(watch, response, first, counts)
            async for piece in rest:
                await _write(watch, response, piece, counts)
    except Gone:
        counts.retired_while_sending += 1
        end_now(request)
        raise
    except Unreadable:
        counts.unreadable_while_sending += 1
        end_now(request)
        raise


async def _write(watch: "Watch", response: web.StreamResponse, piece: memoryview, counts: MediaCounts) -> None:
    await watch.write(response, piece)
    counts.bytes_sent += len(piece)


class Alive:
    """Asks at most every ALIVE_S whether the request's token still stands."""

    def __init__(self, request: web.Request) -> None:
        self._grant: Grant | None = request.get(keys.GRANT)
        self._asked_s = time.monotonic()

    def __call__(self) -> bool:
        """False once it does not."""
        now_s = time.monotonic()
        if self._grant is None or now_s < self._asked_s + ALIVE_S:
            return True
        self._asked_s = now_s
        return self._grant.alive()


class Watch:
    """Looks every ALIVE_S, by a timer, whether a request's grant stands and its client reads, until `stop`."""

    def __init__(self, request: web.Request, grace_s: float) -> None:
        self._request, self._grace_s = request, grace_s
        self._grant: Grant | None = request.get(keys.GRANT)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(ALIVE_S, self._look)
        self._since_s: float | None = None

    async def write(self, response: web.StreamResponse, data: bytes | memoryview) -> None:
        """Send `data`, waiting for the client; it is cut off if that takes SLOW_S."""
        self._since_s = self._loop.time()
        await response.write(data)
        self._since_s = None

    def _look(self) -> None:
        if self._since_s is not None and self._loop.time() > self._since_s + SLOW_S:
            self._request.app[MEDIA].counts.slow_closed += 1
            end_now(self._request)
            return
        alive = self._grant is None or self._grant.alive()
        wait_s, then = (ALIVE_S, self._look) if alive else (self._grace_s, lambda: end_now(self._request))
        self._timer = self._loop.call_later(wait_s, then)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()


@contextmanager
def cut_with_grant(request: web.Request, *, grace_s: float = 0.0) -> Iterator[Watch]:
    """Cuts the connection within ALIVE_S of the end of the request's token, also while the client takes nothing and a write waits for it.

    `grace_s` is left to an answer that ends by itself.
    """
    watch = Watch(request, grace_s)
    try:
        yield watch
    finally:
        watch.stop()


def end_now(request: web.Request) -> None:
    """Cut the connection: what has been sent cannot pass for whole."""
    if request.transport is not None:
        request.transport.abort()
