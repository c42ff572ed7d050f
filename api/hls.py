"""HLS of any range (RFC 8216): a playlist made from rows, an init segment per coding, segments that name the rows they hold.

A segment's address says all that it depends on (rows, media time's zero, codings), so it may be cached for as long as anybody likes.
Media time is UTC since midnight of the day on which the playlist starts; a break is a discontinuity with a new PROGRAM-DATE-TIME.
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlencode

import numpy as np
from aiohttp import web

from api import keys
from api.clip import CLIP_AUDIO as AUDIO
from api.clip import GAPS
from api.clips import CLIPS
from api.credentials import link
from api.cut import AUDIO_SLACK_NS
from api.derived import aac_entry, derivable, told, track_name
from api.footage import Footage, Timeline, load
from api.media import MEDIA
from api.mp4.fragment import STYP, FragmentTrack, fragments, init_segment, joined
from api.mp4.sample_entry import codec_string
from api.mp4.samples import RUNS_MAX, Int64, Samples
from api.parameters import END, START, TRACK, Parameter, identifier, time_range
from api.playlist import (
    DAY_NS,
    Addresses,
    Listed,
    Segment,
    Variant,
    multivariant,
    playlist,
    segment_ns_of,
    sound_end_ns,
    sound_settled,
)
from api.routes import ROOT, VIEW, Answer, Route
from api.segmentsound import SegmentSound, look, make
from api.sending import send_file
from api.tapebytes import MemoryBytes, TapeBytes, VirtualBytes
from api.variants import variants
from api.vod import STRETCH_NS, bounded, sound_beside, stretch
from recorder.base.errors import Gone, NotFound
from recorder.base.media import RowFlag, SampleEntry, TrackKind
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.track import Track

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
Tape = TypeVar("Tape", Track, TrackReader)
_INIT = re.compile(r"(\d{1,5})-(\d{1,5})(-aac)?(?:-v(\d{1,3}))?", re.ASCII)


def _addresses(request: web.Request, track: str) -> Addresses:
    """Of one track's segments, signed where the request was."""
    root = f"{ROOT}/cameras/{request[keys.CAMERA].id}/hls/{track}"

    def signed(address: str) -> str:
        return link(request, request[keys.GRANT], f"{root}/{address}")

    return Addresses(lambda segment: signed(f"init/{segment.coding}.mp4"),
                     lambda segment: signed(f"rows/{segment.name}.m4s"), signed("gap.m4s"))


def _shown(track: Tape) -> Tape:
    if track.kind is not TrackKind.VIDEO:
        raise NotFound("this track has no pictures", remedy="ask for a video track")
    return track


def _video_reader(request: web.Request, track: str, place: int) -> TrackReader:
    return _shown(request.app[MEDIA].store.tape(request[keys.CAMERA].number, track, place))


async def _listed(request: web.Request, track: str, start_ns: int, end_ns: int, lasts_ns: int) -> list[Listed]:
    """The segments of the range; who else waits for the index has his turn between stretches. Of more than a day it counts as a clip."""
    media, camera, audio = request.app[MEDIA], request[keys.CAMERA].number, AUDIO.of(request)
    found: list[Listed] = []
    long = end_ns - start_ns > DAY_NS
    with request.app[CLIPS].take(request[keys.GRANT].holder) if long else nullcontext():
        for at_ns in range(start_ns, end_ns, STRETCH_NS):
            part = partial(stretch, camera=camera, track=track, start_ns=at_ns, end_ns=min(at_ns + STRETCH_NS, end_ns), audio=audio,
                           day=start_ns // DAY_NS, lasts_ns=lasts_ns, last=found[-1].segment if found else None)
            found += await media.compute(part)
            bounded(found)
            if request.transport is None:
                raise ConnectionResetError("the client has gone")
    return found


async def vod_m3u8(request: web.Request) -> web.StreamResponse:
    """GET of vod.m3u8: a track's playlist; where none is named and there are two to choose from, the playlist of both."""
    start_ns, end_ns = time_range(request)
    if "track" not in request.query and (both := await _both(request, start_ns, end_ns)):
        return _answer(multivariant(both))
    media, track, camera = request.app[MEDIA], TRACK.of(request), request[keys.CAMERA].number
    shown, lasts_ns = _shown(media.store.whole(camera, track)), segment_ns_of(end_ns - start_ns)
    listed = await _listed(request, track, start_ns, end_ns, lasts_ns)
    if not listed:
        bounds = shown.bounds()
        if bounds.retired and end_ns <= bounds.first_ns:
            raise Gone("this footage has been retired", where=shown.where)
        raise NotFound("nothing was recorded in this range", remedy="see the camera's timeline for what there is")
    addresses, keep_gaps = _addresses(request, track), GAPS.of(request) == "keep"
    text = await media.compute(lambda _: playlist(listed, addresses, start_ns, keep_gaps=keep_gaps, lasts_ns=lasts_ns))
    return _answer(text, told("the camera's") if any(one.segment.aac for one in listed) else {})


def _answer(text: str, more: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": PLAYLIST_TYPE, "Cache-Control": "private, no-cache", **more})


async def _both(request: web.Request, start_ns: int, end_ns: int) -> list[Variant]:
    """The tracks to choose from, the best first; none where only one has footage in the range."""
    media, camera, audio = request.app[MEDIA], request[keys.CAMERA].number, AUDIO.of(request)
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
    place = int(found[4] or 0)
    video = _video_reader(request, request.match_info["track"], place).sample_entry(int(found[1]))
    tracks, more = [FragmentTrack((video,), video.clock_rate)], {}
    if int(found[2]):
        sound = _sound(request, place).sample_entry(int(found[2]))
        if found[3] is not None:
            more = told(_takes(sound).codec)
            tracks.append(FragmentTrack((aac_entry(sound),), sound.clock_rate, track_name(sound.codec)))
        else:
            tracks.append(FragmentTrack((sound,), sound.clock_rate))
    codecs = ",".join(codec_string(track.entries[0]) for track in tracks)
    return web.Response(body=init_segment(tracks, 0), headers={
        "Content-Type": f'video/mp4; codecs="{codecs}"', "Cache-Control": "private, max-age=86400", **more})


def _takes(sound: SampleEntry) -> SampleEntry:
    if not derivable(sound):
        raise NotFound("there is no such segment")
    return sound


def _sound(request: web.Request, place: int) -> TrackReader:
    reader = sound_beside(request.app[MEDIA].store, request[keys.CAMERA].number, request.match_info["track"], place)
    if reader is None:
        raise NotFound("there is no such track")
    return reader


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the index says of a segment: samples of its tracks (derived sound is yet to be made), the first AU if it follows on nothing,
    and whether it will stay so."""

    parts: list[tuple[int, TrackKind, Samples]]
    splice: tuple[int, int] | None
    sound: SegmentSound | None
    settled: bool


async def rows_m4s(request: web.Request) -> web.StreamResponse:
    """GET of a segment. Raises NotFound if its rows are not there (yet), Gone if they are retired."""
    segment, media = Segment.parse(request.match_info["name"]), request.app[MEDIA]
    camera, track = request[keys.CAMERA].number, request.match_info["track"]
    looked = await media.look_up(lambda store: _looked(segment, _readers(store, camera, track, segment)))
    tapes: list[TapeBytes | MemoryBytes] = [media.tape_bytes(reader) for reader in _readers(media.store, camera, track, segment)]
    headers, tag = {"Content-Type": "video/iso.segment", "Cache-Control": "private, max-age=86400, immutable"}, ""
    parts, sound = looked.parts, looked.sound
    if sound is not None:
        samples, data = await make(media, camera, f"{track}/{segment.name}", sound)
        parts, tapes[1] = [*parts, (1, TrackKind.AUDIO, samples)], MemoryBytes(data)
        headers.update(told(sound.source.entry.codec))
    if not looked.settled:
        headers["Cache-Control"], tag = "no-store", "W/"
    made = joined(STYP, fragments(parts, segment.first * (RUNS_MAX + 1)))
    source = VirtualBytes(made.head, made.extents, tapes, made.inline)
    if looked.splice is not None:
        source.link(0, *looked.splice)
    return await send_file(request, source, etag=f'{tag}"{camera}-{track}-{segment.name}"', headers=headers)


def _looked(segment: Segment, readers: list[TrackReader]) -> _Looked:
    video = readers[0]
    footage, skip, samples = _pictures(segment, video)
    spliced = segment.cut and video.sample_entry(segment.video).codec == "hvc1"
    splice = (int(samples.offset[0]), int(samples.size[0])) if spliced else None
    parts = [(0, TrackKind.VIDEO, samples)]
    if not segment.sound:
        return _Looked(parts, splice, None, settled=True)
    stop = skip + segment.rows
    start_ns, end_ns, settled = int(footage.run.rows["t_ns"][skip]), sound_end_ns(footage, stop), sound_settled(footage, stop)
    if segment.aac:
        _takes(readers[1].sample_entry(segment.sound))
        sound = look(readers[1], segment.sound, start_ns, end_ns, segment.day * DAY_NS, video.edges().visible_end_ns)
        return _Looked(parts, splice, sound if sound.count else None, settled=settled and (sound.settled or not sound.count))
    heard = _heard(readers[1], segment, start_ns, end_ns, Timeline.plain(segment.day * DAY_NS))
    return _Looked(parts + heard, splice, None, settled=settled)


def _readers(store: TapeStore, camera: int, track: str, segment: Segment) -> list[TrackReader]:
    """Of the tapes that a segment lies on."""
    readers = [_shown(store.tape(camera, track, segment.place))]
    if segment.sound:
        if (sound := sound_beside(store, camera, track, segment.place)) is None:
            raise NotFound("there is no such track")
        readers.append(sound)
    return readers


def _pictures(segment: Segment, video: TrackReader) -> tuple[Footage, int, Samples]:
    """The rows around a segment, the index of its first row in them, its pictures. Raises Gone, NotFound."""
    before = min(1, segment.first)
    footage = load(video, video.rows_from(segment.first - before, segment.rows + before + 1, provisional=False))
    skip = segment.first - footage.run.first
    if footage.run.first > segment.first:
        raise Gone("this footage has been retired", where=video.where)
    rows = footage.run.rows[skip:skip + segment.rows]
    if len(rows) < segment.rows or rows["flags"][-1] & RowFlag.OPEN or (rows["sample_entry"] != segment.video).any():
        raise NotFound("there is no such segment")
    mine = (footage.row >= skip) & (footage.row < skip + segment.rows) & footage.decodable()
    if segment.cut:
        mine &= ~(footage.leading & (footage.last_key() == int(footage.first_au[skip])))
    if not mine.any():
        raise NotFound("there is no such segment")
    samples = _placed(footage, np.flatnonzero(mine), Timeline.plain(segment.day * DAY_NS), footage.reader.sample_entry(segment.video))
    return footage, skip, samples.at_once()


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
              problems=(404, 410, 412), signable=True, answers={200: Answer("The segment.", media_type="video/iso.segment"),
                                                           206: Answer("A part of it.", media_type="video/iso.segment")}),
    ]
