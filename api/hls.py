"""HLS of any range (RFC 8216): a playlist made from rows, an init segment per coding, segments that name the rows they hold.

A segment's address says all that it depends on (rows, media time's zero, codings), so it may be cached for as long as anybody likes.
Media time is UTC since midnight of the day on which the playlist starts; a break is a discontinuity with a new PROGRAM-DATE-TIME.
"""

import re
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlencode

import numpy as np
from aiohttp import web

from api import keys
from api.clip import AUDIO, GAPS
from api.clipplan import MARGIN_NS
from api.credentials import link
from api.cut import AUDIO_SLACK_NS
from api.footage import Footage, Timeline, load, load_pieces, load_range
from api.media import MEDIA
from api.mp4.fragment import STYP, Fragment, FragmentTrack, fragment, init_segment
from api.mp4.sample_entry import codec_string
from api.mp4.samples import Int64, Samples
from api.parameters import END, START, TRACK, Parameter, identifier, time_range
from api.playlist import (
    DAY_NS,
    Addresses,
    Listed,
    Segment,
    Variant,
    end_ns_of,
    multivariant,
    on_volume,
    playlist,
    segments,
)
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import send_file
from api.variants import SHOWN, variants
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS, RowFlag, SampleEntry, TrackKind
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.track import Track

RANGE_MAX_NS = 24 * 3600 * NS
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
Tape = TypeVar("Tape", Track, TrackReader)
_INIT = re.compile(r"(\d{1,5})-(\d{1,5})(?:-v(\d{1,3}))?", re.ASCII)


def _addresses(request: web.Request, track: str) -> Addresses:
    """Of one track's segments, signed where the request was."""
    root = f"{ROOT}/cameras/{request[keys.CAMERA].id}/hls/{track}"

    def signed(address: str) -> str:
        return link(request, request[keys.GRANT], f"{root}/{address}")

    return Addresses(lambda segment: signed(f"init/{segment.video}-{segment.sound}{on_volume(segment.place)}.mp4"),
                     lambda segment: signed(f"rows/{segment.name}.m4s"), signed("gap.m4s"))


def _sound_reader(store: TapeStore, camera: int, track: str, place: int) -> TrackReader | None:
    """The sound that was recorded beside a video track, on the same volume."""
    try:
        return store.tape(camera, "audio", place) if track in SHOWN else None
    except NotFound:
        return None


def _shown(track: Tape) -> Tape:
    if track.kind is not TrackKind.VIDEO:
        raise NotFound("this track has no pictures", remedy="ask for a video track")
    return track


def _video_reader(request: web.Request, track: str, place: int) -> TrackReader:
    return _shown(request.app[MEDIA].store.tape(request[keys.CAMERA].number, track, place))


def _listed(store: TapeStore, camera: int, track: str, start_ns: int, end_ns: int, *, audio: bool) -> list[Listed]:
    found: list[Listed] = []
    for video in load_pieces(store.whole(camera, track), start_ns, end_ns + MARGIN_NS, durable=True):
        reader = _sound_reader(store, camera, track, video.reader.place) if audio else None
        sound = load_range(reader, video.run.start_ns, video.run.end_ns, durable=True) if reader is not None else None
        listed = segments(video, sound, start_ns, end_ns)
        found += [replace(one, breaks=one.breaks or (index == 0 and bool(found))) for index, one in enumerate(listed)]
    return found


async def vod_m3u8(request: web.Request) -> web.StreamResponse:
    """GET of vod.m3u8: a track's playlist; where none is named and there are two to choose from, the playlist of both."""
    start_ns, end_ns = time_range(request)
    if end_ns - start_ns > RANGE_MAX_NS:
        raise Problem(400, "one playlist holds at most 24 hours", parameter="end", remedy="ask for it in parts")
    if "track" not in request.query and (both := await _both(request, start_ns, end_ns)):
        return _answer(multivariant(both))
    media, track, camera = request.app[MEDIA], TRACK.of(request), request[keys.CAMERA].number
    shown, audio = _shown(media.store.whole(camera, track)), AUDIO.of(request) == "source"
    listed = await media.compute(lambda store: _listed(store, camera, track, start_ns, end_ns, audio=audio))
    if not listed:
        bounds = shown.bounds()
        if bounds.retired and end_ns <= bounds.first_ns:
            raise Gone("this footage has been retired", where=shown.where)
        raise NotFound("nothing was recorded in this range", remedy="see the camera's timeline for what there is")
    return _answer(playlist(listed, _addresses(request, track), start_ns, keep_gaps=GAPS.of(request) == "keep"))


def _answer(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": PLAYLIST_TYPE, "Cache-Control": "private, no-cache"})


async def _both(request: web.Request, start_ns: int, end_ns: int) -> list[Variant]:
    """The tracks to choose from, the best first; none where only one has footage in the range."""
    media, camera, audio = request.app[MEDIA], request[keys.CAMERA].number, AUDIO.of(request) == "source"
    found = await media.compute(lambda store: variants(store, camera, start_ns, end_ns, audio=audio))
    root = f"{ROOT}/cameras/{request[keys.CAMERA].id}/hls/vod.m3u8"
    same = {name: request.query[name] for name in ("start", "end", "audio", "gaps") if name in request.query}
    return [replace(one, address=link(request, request[keys.GRANT], f"{root}?{urlencode({**same, 'track': one.address})}"))
            for one in found] if len(found) > 1 else []


async def gap_m4s(request: web.Request) -> web.StreamResponse:
    """GET of what stands in for a segment that is missing: nothing to show. Players that heed EXT-X-GAP never ask for it."""
    return web.Response(body=STYP, headers={"Content-Type": "video/iso.segment", "Cache-Control": "private, max-age=86400, immutable"})


async def init_mp4(request: web.Request) -> web.StreamResponse:
    """GET of an init segment."""
    found = _INIT.fullmatch(request.match_info["name"])
    if found is None:
        raise NotFound("there is no such init segment")
    place = int(found[3] or 0)
    entries = [_video_reader(request, request.match_info["track"], place).sample_entry(int(found[1]))]
    if int(found[2]):
        entries.append(_sound(request, place).sample_entry(int(found[2])))
    data = init_segment([FragmentTrack((entry,), entry.clock_rate) for entry in entries], 0)
    codecs = ",".join(codec_string(entry) for entry in entries)
    return web.Response(body=data, headers={"Content-Type": f'video/mp4; codecs="{codecs}"', "Cache-Control": "private, max-age=86400"})


def _sound(request: web.Request, place: int) -> TrackReader:
    reader = _sound_reader(request.app[MEDIA].store, request[keys.CAMERA].number, request.match_info["track"], place)
    if reader is None:
        raise NotFound("there is no such track")
    return reader


async def rows_m4s(request: web.Request) -> web.StreamResponse:
    """GET of a segment. Raises NotFound if its rows are not there (yet), Gone if they are retired."""
    segment, media = Segment.parse(request.match_info["name"]), request.app[MEDIA]
    camera, track = request[keys.CAMERA].number, request.match_info["track"]
    made, splice = await media.look_up(lambda store: _made(segment, _readers(store, camera, track, segment)))
    head = STYP + made.head
    extents = replace(made.extents, at=made.extents.at + len(STYP))
    source = media.bytes_of(head, extents, _readers(media.store, camera, track, segment))
    if splice is not None:
        source.link(0, *splice)
    return await send_file(request, source, etag=f'"{camera}-{track}-{segment.name}"',
                           headers={"Content-Type": "video/iso.segment", "Cache-Control": "private, max-age=86400, immutable"})


def _made(segment: Segment, readers: list[TrackReader]) -> tuple[Fragment, tuple[int, int] | None]:
    """The segment, and offset and size of a first picture of H.265 that follows on nothing."""
    parts = _parts(segment, readers)
    first = parts[0][2]
    spliced = segment.cut and readers[0].sample_entry(segment.video).codec == "hvc1"
    return fragment(parts, segment.first), (int(first.offset[0]), int(first.size[0])) if spliced else None


def _readers(store: TapeStore, camera: int, track: str, segment: Segment) -> list[TrackReader]:
    """Of the tapes that a segment lies on."""
    readers = [_shown(store.tape(camera, track, segment.place))]
    if segment.sound:
        if (sound := _sound_reader(store, camera, track, segment.place)) is None:
            raise NotFound("there is no such track")
        readers.append(sound)
    return readers


def _parts(segment: Segment, readers: list[TrackReader]) -> list[tuple[int, TrackKind, Samples]]:
    video = readers[0]
    before = min(1, segment.first)
    footage = load(video, video.rows_from(segment.first - before, segment.rows + before + 1, provisional=False))
    skip = segment.first - footage.run.first
    if footage.run.first > segment.first:
        raise Gone("this footage has been retired", where=video.where)
    rows = footage.run.rows[skip:skip + segment.rows]
    if len(rows) < segment.rows or rows["flags"][-1] & RowFlag.OPEN or (rows["sample_entry"] != segment.video).any():
        raise NotFound("there is no such segment")
    zero = Timeline.plain(segment.day * DAY_NS)
    mine = (footage.row >= skip) & (footage.row < skip + segment.rows) & footage.decodable()
    if segment.cut:
        mine &= ~(footage.leading & (footage.last_key() == int(footage.first_au[skip])))
    if not mine.any():
        raise NotFound("there is no such segment")
    parts = [(0, TrackKind.VIDEO, _placed(footage, np.flatnonzero(mine), zero, footage.reader.sample_entry(segment.video)))]
    if segment.sound:
        end_ns = end_ns_of(footage, skip + segment.rows)
        parts += _heard(readers[1], segment, int(rows["t_ns"][0]), end_ns, zero)
    return parts


def _heard(reader: TrackReader, segment: Segment, start_ns: int, end_ns: int, zero: Timeline) -> list[tuple[int, TrackKind, Samples]]:
    """The sound AUs that begin in [start, end): each lies in one segment."""
    footage = load(reader, reader.rows(start_ns, end_ns))
    if not len(footage):
        return []
    coded = footage.run.rows["sample_entry"][footage.row] == segment.sound
    mine = np.flatnonzero((footage.wall_ns >= start_ns) & (footage.wall_ns < end_ns) & coded)
    return [(1, TrackKind.AUDIO, _placed(footage, mine, zero, reader.sample_entry(segment.sound)))] if len(mine) else []


def _placed(footage: Footage, chosen: Int64, zero: Timeline, entry: SampleEntry) -> Samples:
    slack_ns = AUDIO_SLACK_NS if footage.reader.kind is TrackKind.AUDIO else 0
    samples = footage.place(chosen, footage.anchors(zero, entry.clock_rate, slack_ns=slack_ns), entry.clock_rate)
    return replace(samples, entry=np.ones_like(samples.entry))


def routes() -> list[Route]:
    """What this module answers."""
    root, name = f"{ROOT}/cameras/{{camera}}/hls", r"{name:[0-9a-z-]+}"
    track = Parameter("track", identifier, {"type": "string"}, "Name of a video track.", place="path")
    part = Parameter("name", str, {"type": "string"}, "As the playlist gives it.", place="path")
    return [
        Route("GET", f"{root}/vod.m3u8", vod_m3u8, "An HLS playlist of any range", scopes=VIEW, parameters=(START, END, TRACK, AUDIO, GAPS),
              problems=(404, 410), signable=True, answers={200: Answer("The playlist, with PROGRAM-DATE-TIME.", media_type=PLAYLIST_TYPE)}),
        Route("GET", f"{root}/{{track}}/gap.m4s", gap_m4s, "What stands in for a segment that is missing", scopes=VIEW, parameters=(track,),
              signable=True, answers={200: Answer("Nothing to show.", media_type="video/iso.segment")}),
        Route("GET", f"{root}/{{track}}/init/{name}.mp4", init_mp4, "The init segment of a coding", scopes=VIEW, parameters=(track, part),
              problems=(404,), signable=True, answers={200: Answer("The init segment.", media_type="video/mp4")}),
        Route("GET", f"{root}/{{track}}/rows/{name}.m4s", rows_m4s, "Some rows as a segment", scopes=VIEW, parameters=(track, part),
              problems=(404, 410), signable=True, answers={200: Answer("The segment.", media_type="video/iso.segment"),
                                                           206: Answer("A part of it.", media_type="video/iso.segment")}),
    ]
