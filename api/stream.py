"""`stream.mp4`: a camera as one endless fragmented MP4, live or from a time at a speed, for players that take a plain address."""

from contextlib import AsyncExitStack, aclosing

from aiohttp import web

from api import keys
from api.clip import CLIP_AUDIO
from api.clips import DERIVING, STREAMS
from api.cursor import Cursor, CursorQuery, Init, Part
from api.derived import told
from api.media import MEDIA
from api.parameters import TIME_SCHEMA, TRACK, Parameter, number, one_of
from api.problems import Problem
from api.rewind import Rewind
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import ALIVE_S, Alive, cut_with_grant
from api.times import parse_time, rfc3339
from recorder.base.errors import Gone, Unreadable
from recorder.base.media import NS

AUDIO_TYPES = frozenset({"mp4a", "alaw", "ulaw", "Opus", "twos", "g726"})
STREAM_START: Parameter[int | None] = Parameter("start", parse_time, TIME_SCHEMA, "From when on; left out: live (backwards: the newest).", None)
SLOWEST, FASTEST = 0.1, 64.0
AHEAD_NS = 60 * NS           # a start that lies ahead by less, as clocks differ, is waited for


def _speed(text: str) -> float:
    speed = number(-FASTEST, FASTEST)(text)
    if abs(speed) < SLOWEST:
        raise ValueError(f"must be a number from {SLOWEST} to {FASTEST:.0f}, or from -{FASTEST:.0f} to -{SLOWEST}")
    return speed


SPEED = Parameter("speed", _speed, {"type": "number", "minimum": -FASTEST, "maximum": FASTEST},
                  "How fast; below 0 backwards. From 4 on, and backwards, only access points; no sound but at 1.", 1.0)
FRAMES = Parameter("frames", one_of("all", "key"), {"enum": ["all", "key"]}, "key: access points only.", "all")


def query_of(request: web.Request) -> CursorQuery:
    """The request's parameters."""
    audio = AUDIO_TYPES if CLIP_AUDIO.of(request) != "none" else frozenset[str]()
    return CursorQuery(request[keys.CAMERA].number, TRACK.of(request), audio, STREAM_START.of(request), SPEED.of(request),
                       FRAMES.of(request) == "key", scaled=True, aac=CLIP_AUDIO.of(request) == "aac")


async def stream_mp4(request: web.Request) -> web.StreamResponse:
    """GET of stream.mp4. Ends when the client goes, the token is revoked, the pictures' coding changes, retention overtakes it or, backwards,
    where the track begins."""
    media, alive = request.app[MEDIA], Alive(request)
    query, now_ns = query_of(request), media.clock.wall_ns()
    if query.speed > 0 and query.start_ns is not None and query.start_ns > now_ns + AHEAD_NS:
        raise Problem(416, "the start lies in the future", now=rfc3339(now_ns))
    cursor = (Cursor if query.speed > 0 else Rewind)(media, query, lambda: request.transport is not None and alive())
    response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Cache-Control": "no-store"})
    media.counts.streams_open += 1
    try:
        async with AsyncExitStack() as held:
            held.enter_context(request.app[STREAMS].take(request[keys.GRANT].holder))
            if query.aac:
                held.enter_context(request.app[DERIVING].take(request[keys.GRANT].holder))
            watch = held.enter_context(cut_with_grant(request, grace_s=ALIVE_S))
            events = await held.enter_async_context(aclosing(cursor.events()))
            async for event in events:
                if isinstance(event, Init):
                    response.headers["Watchroom-Start"] = rfc3339(event.wall_ns)
                    if query.aac and event.audio is not None and event.audio.codec != "mp4a":
                        response.headers.update(told(event.audio.codec))
                    await response.prepare(request)
                if isinstance(event, Init | Part):
                    await watch.write(response, event.data)
                if not alive():
                    break
    except Gone:
        media.counts.retired_while_sending += 1
        raise
    except Unreadable:
        media.counts.unreadable_while_sending += 1
        raise
    finally:
        media.counts.streams_open -= 1
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


def routes() -> list[Route]:
    """What this module answers."""
    return [Route("GET", f"{ROOT}/cameras/{{camera}}/stream.mp4", stream_mp4, "A fragmented MP4, live or from a time", scopes=VIEW, head=False,
                  parameters=(STREAM_START, SPEED, FRAMES, TRACK, CLIP_AUDIO), problems=(404, 410, 416, 429), signable=True,
                  answers={200: Answer("An endless fragmented MP4; media time 0 is `Watchroom-Start`.", media_type="video/mp4")})]
