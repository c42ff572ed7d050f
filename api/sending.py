"""Sending virtual files: conditions, ranges, HEAD, and the end of a response whose footage is retired under it (RFC 9110 13, 14)."""

import time
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from api import keys
from api.authorise import Grant
from api.byteranges import ByteRange, none_match, parse_range, range_holds
from api.media import MEDIA, MediaCounts
from api.problems import Problem
from api.tapebytes import VirtualBytes
from recorder.base.errors import Gone

ALIVE_S = 2.0                 # how often a long answer asks whether its token still stands


async def send_file(request: web.Request, source: VirtualBytes, *, etag: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer with the file or the part of it that was asked for; closes `source`.

    The first bytes are read before anything is said, so that retired footage is still a 410; later it ends the connection.
    """
    try:
        return await _send(request, source, etag, {**headers, "ETag": etag, "Accept-Ranges": "bytes"})
    finally:
        source.close()


async def _send(request: web.Request, source: VirtualBytes, etag: str, headers: dict[str, str]) -> web.StreamResponse:
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
    counts, alive = request.app[MEDIA].counts, Alive(request)
    await _write(response, first, counts)
    try:
        async for piece in rest:
            if not alive():
                end_now(request)
                return
            await _write(response, piece, counts)
    except Gone:
        counts.retired_while_sending += 1
        end_now(request)
        raise


async def _write(response: web.StreamResponse, piece: memoryview, counts: MediaCounts) -> None:
    await response.write(piece)
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


def end_now(request: web.Request) -> None:
    """Cut the connection: what has been sent cannot pass for whole."""
    if request.transport is not None:
        request.transport.abort()
