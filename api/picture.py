"""`frame.jpg`: the picture that a camera showed at a time, decoded by a decoder process."""

import hashlib

import numpy as np
from aiohttp import web

from api import keys
from api.byteranges import none_match
from api.clips import PICTURES
from api.decoder.pool import DecoderFailed
from api.decoder.wire import BODY_MAX, Job
from api.media import MEDIA, Media
from api.mp4.clip import Extents
from api.parameters import TIME_SCHEMA, TRACK, Parameter, integer
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.times import MOST_NS, parse_time, rfc3339
from api.wanted import Wanted, find

TRIES = 2                     # decoders that one picture may cost
TIME: Parameter[int | None] = Parameter("time", parse_time, TIME_SCHEMA, "When; left out: the newest picture.", None)
WIDTH = Parameter("width", integer(16, 8192), {"type": "integer", "minimum": 16, "maximum": 8192},
                  "Width in pixels, at most the camera's; left out: as the camera sends it.", 0)


async def picture(media: Media, wanted: Wanted, width: int) -> bytes:
    """The JPEG: as it was recorded where the camera sends JPEG, else from the cache or a decoder."""
    if wanted.entry.codec == "jpeg" and (not width or 0 < wanted.entry.width <= width):
        return await _recorded(media, wanted)
    return await decoded(media, wanted, width)


async def decoded(media: Media, wanted: Wanted, width: int, height: int = 0) -> bytes:
    """The picture as of Job, from the cache or a decoder; whoever asks for the same at once waits for the same decoder.

    Raises Problem: 404 when it cannot be decoded, 503 when too many wait or its decoder failed, 404 once that has happened TRIES times.
    """
    key = wanted.key(width, height)
    held = media.pictures.get(key)
    if isinstance(held, bytes):
        return held
    failed = media.pictures.get(("failed", key[:4])) or 0
    if failed >= TRIES:
        raise Problem(404, "the picture cannot be decoded: it has ended its decoder more than once")
    try:
        made = await media.making.once(key, lambda: _decode(media, wanted, width, height))
    except DecoderFailed:
        media.pictures.put(("failed", key[:4]), failed + 1, 64, (wanted,))
        raise
    return made


async def _decode(media: Media, wanted: Wanted, width: int, height: int) -> bytes:
    body = await _recorded(media, wanted)
    job = Job(wanted.entry.codec, wanted.entry.config, tuple(wanted.size.tolist()), tuple(wanted.pts.tolist()), wanted.target_pts, width, body,
              height)
    try:
        made = await media.decoders.work(job)
    except Problem:
        media.counts.pictures_failed += 1
        raise
    media.counts.pictures += 1
    media.pictures.put(wanted.key(width, height), made, len(made), (wanted,))
    return made


async def _recorded(media: Media, wanted: Wanted) -> bytes:
    """The bytes of the AUs."""
    size = wanted.size
    if int(size.sum()) > BODY_MAX:
        raise Problem(503, "the pictures before this one are too many to decode", remedy="take a clip")
    extents = Extents(np.zeros_like(size), wanted.offset, size, np.cumsum(size) - size)
    source = media.bytes_of(b"", extents, [media.store.tape(wanted.camera, wanted.track, wanted.place)])
    try:
        return await source.read()
    finally:
        source.close()


def _before_the_end(time_ns: int | None) -> int | None:
    """The time, or the last one that has another behind it."""
    return None if time_ns is None else min(time_ns, MOST_NS - 1)


async def frame_jpg(request: web.Request) -> web.StreamResponse:
    """GET of frame.jpg."""
    media, width = request.app[MEDIA], WIDTH.of(request)
    camera, track, time_ns = request[keys.CAMERA].number, TRACK.of(request), _before_the_end(TIME.of(request))
    wanted = await media.look_up(lambda store: find(store.whole(camera, track), time_ns))
    etag = etag_of(wanted.key(width))
    headers = {"ETag": etag, "Watchroom-Time": rfc3339(wanted.time_ns), "Cache-Control": "private, no-cache"}
    if none_match(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    with request.app[PICTURES].take(request[keys.GRANT].holder):
        return web.Response(body=await picture(media, wanted, width), headers={**headers, "Content-Type": "image/jpeg"})


def etag_of(key: object) -> str:
    """A strong ETag of what `key`, which has a spelling of its own, stands for."""
    return f'"{hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()}"'


def routes() -> list[Route]:
    """What this module answers."""
    return [Route("GET", f"{ROOT}/cameras/{{camera}}/frame.jpg", frame_jpg, "The picture at a time", scopes=VIEW,
                  parameters=(TIME, WIDTH, TRACK), problems=(404, 410, 429, 503), signable=True,
                  answers={200: Answer("The picture; `Watchroom-Time` is its own time.", media_type="image/jpeg")})]
