"""`clip.mp4`: any range of a camera as a seekable MP4, exact to the frame. A virtual file: only its head is ever computed."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

from aiohttp import web

from api import keys
from api.clipcontents import contents
from api.clipformat import FORMATS, extension
from api.clipplan import CLIP_MAX_NS, Clip, ClipQuery, assemble, plan_together, shoot_together
from api.clips import CLIPS
from api.credentials import link
from api.derived import derive
from api.media import MEDIA, Media
from api.parameters import END, START, TRACK, Parameter, one_of, time_range
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import send_file
from api.times import rfc3339
from recorder.base.media import NS

WAIT_S = 5.0
POLL_S = 0.1
SHORT_NS = 60 * NS            # heads of longer clips are made in a thread of their own

LONGER = "ask for it in parts, as HLS (31 days), or as an export of format zip (48 hours)"

GAPS = Parameter("gaps", one_of("keep", "close"), {"enum": ["keep", "close"]},
                 "keep: media time is wall time, the last picture before a gap stands. close: gaps take no time.", "keep")
AUDIO = Parameter("audio", one_of("source", "none"), {"enum": ["source", "none"]}, "The camera's sound as it is, or none.", "source")
CLIP_AUDIO = Parameter("audio", one_of("source", "aac", "none"), {"enum": ["source", "aac", "none"]},
                       "The camera's sound as it is; as AAC-LC, derived, for players that cannot take it; or none.", "source")
ENTRY = Parameter("entry", one_of("record", "inband"), {"enum": ["record", "inband"]},
                  "record: avc1/hvc1. inband: avc3/hev1, which tells players to heed parameter sets between the pictures.", "record")
FORMAT = Parameter("format", one_of(*FORMATS), {"enum": list(FORMATS)}, "mp4 is exact to the frame; fmp4 and ts begin at the access point "
                   "before. webm: Opus sound alone. 409 where the codec has no place in it.", "mp4")
WAIT = Parameter("wait", one_of("0", "1"), {"enum": ["0", "1"]}, "1: wait up to 5 s for an end that is not recorded yet.", "0")


async def find(media: Media, queries: Sequence[ClipQuery]) -> Clip:
    """The clip of these cameras, from the cache while its footage stands, else planned (in a thread, of its own if it is long)."""
    key = tuple(queries)
    held = media.clips.get(key)
    if isinstance(held, Clip) and held.stands(media.store):
        return held
    now_ns = media.clock.wall_ns()
    in_thread = media.look_up if sum(query.end_ns - query.start_ns for query in key) <= SHORT_NS else media.compute
    if any(query.aac for query in key):
        shots, missing = await in_thread(lambda store: shoot_together(store, key, now_ns))
        derived = [await derive(media, shot) for shot in shots]
        made = await in_thread(lambda _: assemble(derived, missing))
    else:
        made = await in_thread(lambda store: plan_together(store, key, now_ns))
    media.counts.clips += 1
    if made.complete:
        media.clips.put(key, made, made.weight + sum(len(one.data) for one in made.derived), (made,))
    return made


async def find_whole(media: Media, queries: Sequence[ClipQuery]) -> Clip:
    """The clip, waiting up to 5 s for its end to be recorded."""
    until_s = asyncio.get_running_loop().time() + WAIT_S
    while True:
        late = asyncio.get_running_loop().time() >= until_s
        try:
            made = await find(media, queries)
            if made.complete or late:
                return made
        except Problem as problem:
            if late or "Retry-After" not in problem.headers:
                raise
        await asyncio.sleep(POLL_S)


def query_of(request: web.Request) -> ClipQuery:
    """The request's parameters; Problem 400 where they are wrong."""
    start_ns, end_ns = time_range(request)
    if end_ns - start_ns > CLIP_MAX_NS:
        raise Problem(400, "one clip holds at most 12 hours", parameter="end", remedy=LONGER)
    return ClipQuery(request[keys.CAMERA].number, TRACK.of(request), start_ns, end_ns, GAPS.of(request) == "close",
                     CLIP_AUDIO.of(request) != "none", ENTRY.of(request) == "inband", format=FORMAT.of(request),
                     aac=_aac(request))


def _aac(request: web.Request) -> bool:
    """True if sound is to be derived; Problem 400 where the format is none for it."""
    wanted = CLIP_AUDIO.of(request) == "aac"
    if wanted and FORMAT.of(request) not in {"mp4", "fmp4"}:
        raise Problem(400, "derived sound comes in MP4 only", parameter="audio", remedy="ask for format=mp4 or fmp4")
    return wanted


async def clip_mp4(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of clip.mp4."""
    camera, query = request[keys.CAMERA].id, query_of(request)
    return await send_clip(request, [query], file_name(camera, query), f"{ROOT}/cameras/{camera}/clip.json")


async def send_clip(request: web.Request, queries: Sequence[ClipQuery], name: str, described: str) -> web.StreamResponse:
    """The clip of these cameras; `described` is the address of what it holds, which takes the same parameters."""
    media = request.app[MEDIA]
    with request.app[CLIPS].take(request[keys.GRANT].holder):
        made = await (find_whole if WAIT.of(request) == "1" else find)(media, queries)
        return await send_file(request, made.open(media.store, media.cold), etag=made.etag, headers={
            "Content-Type": made.media_type, "Content-Disposition": f'inline; filename="{name}"', **about(request, made, described)})


def about(request: web.Request, made: Clip, described: str) -> dict[str, str]:
    """Headers that say what a clip is, and where its gaps are listed."""
    address = link(request, request[keys.GRANT], f"{described}?{urlencode(_same(request))}")
    return {"Watchroom-Complete": "yes" if made.complete else "no", "Watchroom-Start": rfc3339(made.start_ns),
            "Watchroom-Frames": str(made.frames), "Cache-Control": "private, no-cache",
            "Link": f'<{address}>; rel="describedby"; type="application/json"',
            **({"Watchroom-Audio": f"derived; aac from {made.derived[0].codec}"} if made.derived else {})}


def _same(request: web.Request) -> dict[str, str]:
    """The request's parameters that say what the clip is of."""
    named = (parameter.name for parameter in (START, END, TRACK, GAPS, AUDIO, FORMAT))
    return {name: request.query[name] for name in ("cameras", *named) if name in request.query}


async def clip_json(request: web.Request) -> web.StreamResponse:
    """GET of what the clip with the same parameters holds and lacks."""
    return await tell(request, [query_of(request)], {request[keys.CAMERA].number: request[keys.CAMERA].id})


async def tell(request: web.Request, queries: Sequence[ClipQuery], names: dict[int, str]) -> web.StreamResponse:
    """What the clip of these cameras holds; `names` are their ids by number."""
    media = request.app[MEDIA]
    made = await find(media, queries)
    body = await media.compute(lambda store: contents(store, made, names))
    return web.json_response(body, headers={"Cache-Control": "private, no-cache"})


def file_name(camera: str, query: ClipQuery, ending: str = "") -> str:
    """Camera, track and times, fit for any file system; `ending` instead of the format's."""
    start, end = (rfc3339(ns)[:19].replace(":", "").replace("-", "") + "Z" for ns in (query.start_ns, query.end_ns))
    return f"{camera}_{query.track}_{start}_{end}.{ending or extension(query.format)}"


def routes() -> list[Route]:
    """What this module answers."""
    text = Answer("The clip: seekable, with Content-Length, ranges and an ETag; a weak one and `Watchroom-Complete: no` where the end "
                  "is not recorded yet. `Link` leads to clip.json.", media_type="video/mp4")
    described = Answer("what is in the clip, and its gaps and damage, in UTC and in the file's time", "Contents")
    root, problems = f"{ROOT}/cameras/{{camera}}", (404, 409, 410, 412, 416)
    return [Route("GET", f"{root}/clip.mp4", clip_mp4, "An MP4 of any range, exact to the frame", scopes=VIEW,
                  parameters=(START, END, TRACK, GAPS, CLIP_AUDIO, ENTRY, FORMAT, WAIT), answers={200: text, 206: text},
                  problems=(*problems, 429), signable=True),
            Route("GET", f"{root}/clip.json", clip_json, "What a clip holds and lacks", scopes=VIEW,
                  parameters=(START, END, TRACK, GAPS, CLIP_AUDIO, FORMAT), answers={200: described}, problems=problems, signable=True)]
