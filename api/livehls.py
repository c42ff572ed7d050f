"""Low-latency live HLS (RFC 8216bis): playlists that wait for the next part, and the parts and segments that they name."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlencode

from aiohttp import web

from api import keys
from api.clips import STREAMS
from api.credentials import link
from api.feed import visible_bytes
from api.hls import PLAYLIST_TYPE
from api.liveparts import KnownRows, LiveName, LiveWindow, samples_of, window
from api.liveplaylist import LiveAddresses, Newest, live_playlist, newest
from api.media import MEDIA
from api.mp4.fragment import STYP, FragmentTrack, fragments, init_segment, joined
from api.mp4.sample_entry import codec_string
from api.mp4.samples import Samples
from api.parameters import Parameter, identifier, integer, one_of
from api.playlist import Variant, multivariant, on_volume
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import send_file
from api.tapebytes import VirtualBytes
from api.variants import SHOWN, variants
from recorder.base.errors import NotFound, WatchroomError
from recorder.base.media import NS, TrackKind
from storage.live import watch
from storage.reader import TrackReader
from storage.store import TapeStore

T = TypeVar("T")
POLL_S = 0.02
LOOK_S = 0.05                 # between two looks at the index: a part takes half a second to come
WATCH_NS = 4 * NS
WAIT_S = 12.0                 # a blocking request is answered with what there is then
AHEAD = 2                     # segments that a request may wait for beyond the newest (6.2.5.2)
RATES_NS = 60 * NS
SEQUENCE_MAX = (1 << 53) - 1
SOUND = "audio"
KNOWN = web.AppKey("known rows", KnownRows)
_INIT = re.compile(r"(\d{1,5})(?:-v(\d{1,3}))?", re.ASCII)

LIVE_TRACK: Parameter[str] = Parameter("track", identifier, {"type": "string"}, "A track; left out: a playlist of all that a player may "
                                       "choose from.", "")
MSN: Parameter[int] = Parameter("_HLS_msn", integer(0, SEQUENCE_MAX), {"type": "integer"}, "Wait for this segment (RFC 8216bis 6.2.5.2).", -1)
PART: Parameter[int] = Parameter("_HLS_part", integer(0, 10_000), {"type": "integer"}, "Wait for this part of it.", -1)
SKIP = Parameter("_HLS_skip", one_of("", "YES", "v2"), {"enum": ["YES", "v2"]}, "A delta update (6.2.5.1).", "")


def _window(store: TapeStore, camera: int, track: str, known: KnownRows) -> LiveWindow:
    """What there is of a track now. NotFound if players cannot be shown it."""
    whole = store.whole(camera, track)
    if whole.kind not in {TrackKind.VIDEO, TrackKind.AUDIO}:
        raise NotFound("this track has neither pictures nor sound", remedy="ask for another track")
    return window(whole.newest, sum(_rows(tape) for tape in whole.tapes if tape is not whole.newest), known)


def _rows(tape: TrackReader) -> int:
    try:
        return tape.edges().next_row
    except (WatchroomError, OSError):       # its volume is gone, or sick: segments are numbered anew
        return 0


async def _wait(request: web.Request, reader: TrackReader, look: Callable[[], Awaitable[T | None]]) -> T | None:
    """What `look` finds, asked whenever something new is visible; None after WAIT_S or when nobody waits any more."""
    with request.app[STREAMS].take(request[keys.GRANT].holder):
        until_s, seen, watched_s, looked_s = time.monotonic() + WAIT_S, -1, 0.0, 0.0
        while request.transport is not None and (now_s := time.monotonic()) < until_s:
            if now_s > watched_s + 1:
                watch(reader, time.monotonic_ns() + WATCH_NS)
                watched_s = now_s
            if now_s > looked_s + LOOK_S and (visible := visible_bytes(reader)) != seen:
                seen, looked_s = visible, now_s
                if (found := await look()) is not None:
                    return found
            await asyncio.sleep(POLL_S)
    return None


async def live_m3u8(request: web.Request) -> web.StreamResponse:
    """GET of live.m3u8."""
    track = LIVE_TRACK.of(request)
    if not track:
        return await _choice(request)
    media, known, camera, msn, part = request.app[MEDIA], request.app[KNOWN], request[keys.CAMERA].number, MSN.of(request), PART.of(request)
    if part >= 0 > msn:
        raise Problem(400, "_HLS_part is of a segment, so _HLS_msn is needed as well", parameter="_HLS_part")
    reader = media.store.whole(camera, track).newest
    watch(reader, time.monotonic_ns() + WATCH_NS)
    shown = await media.look_up(lambda store: _window(store, camera, track, known))
    if msn > shown.sequence + len(shown.rows) + AHEAD:
        raise Problem(400, "that segment is too far ahead", parameter="_HLS_msn")
    if msn >= 0 and not shown.has(msn, part if part >= 0 else None):
        shown = await _awaited(request, reader, track, msn, part if part >= 0 else None)
    if not shown.rows:
        raise NotFound("nothing is recorded here yet", remedy="see the camera's status")
    others = await media.look_up(lambda store: _others(store, camera, track, known)) if shown.quick else []
    return _answer(live_playlist(shown, _addresses(request, track), skip=bool(SKIP.of(request)), others=others))


async def _awaited(request: web.Request, reader: TrackReader, track: str, sequence: int, part: int | None) -> LiveWindow:
    media, known, camera = request.app[MEDIA], request.app[KNOWN], request[keys.CAMERA].number

    async def look() -> LiveWindow | None:
        shown = await media.look_up(lambda store: _window(store, camera, track, known))
        return shown if shown.has(sequence, part) else None

    found = await _wait(request, reader, look)
    return found if found is not None else await media.look_up(lambda store: _window(store, camera, track, known))


def _others(store: TapeStore, camera: int, track: str, known: KnownRows) -> list[Newest]:
    """The newest parts of the camera's other renditions."""
    found = []
    for name in (*SHOWN, SOUND):
        with suppress(NotFound):
            found += [one] if name != track and (one := newest(name, _window(store, camera, name, known))) else []
    return found


def _answer(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": PLAYLIST_TYPE, "Cache-Control": "private, no-cache"})


def _addresses(request: web.Request, track: str) -> LiveAddresses:
    root = f"{ROOT}/cameras/{request[keys.CAMERA].id}/hls"

    def signed(address: str) -> str:
        return link(request, request[keys.GRANT], f"{root}/{address}")

    return LiveAddresses(lambda name: signed(f"{track}/live/init-{name.entry}{on_volume(name.place)}.mp4"),
                         lambda name: signed(f"{track}/live/{name}.m4s"), lambda other: signed(f"live.m3u8?{urlencode({'track': other})}"))


async def _choice(request: web.Request) -> web.Response:
    """The playlist of playlists: main and sub, and the sound where players can take it as it is."""
    media, camera = request.app[MEDIA], request[keys.CAMERA].number
    end_ns = media.clock.wall_ns()
    found = await media.compute(lambda store: variants(store, camera, end_ns - RATES_NS, end_ns, audio="source"))
    addresses = _addresses(request, "main")
    if not found:
        raise NotFound("nothing has been recorded in the last minute", remedy="see the camera's status")
    sounds = any("mp4a.40.2" in one.codecs for one in found)
    chosen = [replace(one, codecs=_taken(one, sounds=sounds), address=addresses.other(one.address)) for one in found]
    return _answer(multivariant(chosen, addresses.other(SOUND) if sounds else ""))


def _taken(one: Variant, *, sounds: bool) -> tuple[str, ...]:
    """The codings of a variant without sound that is not sent."""
    return one.codecs if sounds else tuple(codec for codec in one.codecs if codec.startswith(("avc", "hvc", "hev")))


async def init_mp4(request: web.Request) -> web.StreamResponse:
    """GET of an init segment."""
    found = _INIT.fullmatch(request.match_info["name"])
    if found is None:
        raise NotFound("there is no such init segment")
    entry = _reader(request, int(found[2] or 0)).sample_entry(int(found[1]))
    return web.Response(body=init_segment([FragmentTrack((entry,), entry.clock_rate)], 0), headers={
        "Content-Type": f'{entry.kind.value}/mp4; codecs="{codec_string(entry)}"', "Cache-Control": "private, max-age=86400"})


def _reader(request: web.Request, place: int) -> TrackReader:
    return request.app[MEDIA].store.tape(request[keys.CAMERA].number, request.match_info["track"], place)


async def media_m4s(request: web.Request) -> web.StreamResponse:
    """GET of a segment or part; the one that is announced is waited for."""
    name, track, media = LiveName.parse(request.match_info["name"]), request.match_info["track"], request.app[MEDIA]
    camera, reader = request[keys.CAMERA].number, _reader(request, name.place)

    async def look() -> Samples | None:
        return await media.look_up(lambda store: samples_of(store.tape(camera, track, name.place), name))

    samples = await look()
    if samples is None and name.row <= reader.edges().next_row + 1:
        samples = await _wait(request, reader, look)
    if samples is None:
        raise NotFound("there is no such segment yet", remedy="take the newest playlist")
    made = joined(STYP, fragments([(0, reader.kind, samples)], name.row))
    source = VirtualBytes(made.head, made.extents, [media.tape_bytes(reader)], made.inline)
    if name.cut and not name.part and reader.sample_entry(name.entry).codec == "hvc1":
        source.link(0, int(samples.offset[0]), int(samples.size[0]))
    return await send_file(request, source, etag=f'"{camera}-{track}-live-{name}"',
                           headers={"Content-Type": "video/iso.segment", "Cache-Control": "private, max-age=86400, immutable"})


def routes() -> list[Route]:
    """What this module answers."""
    root, name = f"{ROOT}/cameras/{{camera}}/hls", r"{name:[0-9a-z-]+}"
    track = Parameter("track", identifier, {"type": "string"}, "Name of a track.", place="path")
    part = Parameter("name", str, {"type": "string"}, "As the playlist gives it.", place="path")
    return [
        Route("GET", f"{root}/live.m3u8", live_m3u8, "A live HLS playlist, with parts (low latency)", scopes=VIEW,
              parameters=(LIVE_TRACK, MSN, PART, SKIP), problems=(404, 429, 503), signable=True,
              answers={200: Answer("The playlist, with PROGRAM-DATE-TIME.", media_type=PLAYLIST_TYPE)}),
        Route("GET", f"{root}/{{track}}/live/init-{name}.mp4", init_mp4, "The init segment of a coding, of one track", scopes=VIEW,
              parameters=(track, part), problems=(404,), signable=True, answers={200: Answer("The init segment.", media_type="video/mp4")}),
        Route("GET", f"{root}/{{track}}/live/{name}.m4s", media_m4s, "A row as a segment, or half a second of one", scopes=VIEW,
              parameters=(track, part), problems=(404, 410, 429), signable=True,
              answers={200: Answer("The segment or part.", media_type="video/iso.segment"),
                       206: Answer("A part of it.", media_type="video/iso.segment")}),
    ]
