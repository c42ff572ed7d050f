"""`frame.jpg`: the picture that a camera showed at a time, decoded by a decoder process."""

import hashlib
from dataclasses import dataclass

import numpy as np
from aiohttp import web

from api import keys
from api.byteranges import none_match
from api.cut import pick
from api.decoder.wire import BODY_MAX, Job
from api.feed import first_row_from
from api.footage import Footage, from_access_point, load
from api.media import MEDIA, Media
from api.mp4.clip import Extents
from api.parameters import TIME_SCHEMA, TRACK, Parameter, integer
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.times import MOST_NS, parse_time, rfc3339
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS, SampleEntry, TrackKind
from storage.track import Track

SHOWN_NS = 5 * NS             # a picture older than this was not "shown" at a time without footage
TIME: Parameter[int | None] = Parameter("time", parse_time, TIME_SCHEMA, "When; left out: the newest picture.", None)
WIDTH = Parameter("width", integer(16, 8192), {"type": "integer", "minimum": 16, "maximum": 8192},
                  "Width in pixels, at most the camera's; left out: as the camera sends it.", 0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The AUs that make one picture: the footage they lie in, their indices in decode order, the picture's own index."""

    footage: Footage
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]]
    target: int

    @property
    def time_ns(self) -> int:
        """UTC of the picture."""
        return int(self.footage.wall_ns[self.target])

    def key(self, width: int) -> tuple[int, str, int, int, int]:
        """What makes this picture this picture."""
        reader = self.footage.reader
        return reader.camera, reader.name, reader.place, int(self.footage.aus.offset[self.target]), width


def find(track: Track, time_ns: int | None) -> Wanted:
    """The last picture with t <= time that can be decoded (None: the newest). Raises NotFound, Gone, Problem 404 with the gap's cause."""
    if track.kind is not TrackKind.VIDEO:
        raise NotFound("this track has no pictures", remedy="ask for a video track")
    reader = track.at(time_ns)
    edges = reader.edges()
    stop = edges.next_row + int(edges.has_open)
    number = stop if time_ns is None else first_row_from(reader, time_ns + 1)
    first = max(number - 2, edges.first_row)
    footage = load(reader, from_access_point(reader, reader.rows_from(first, number + 2 - first)))
    good = np.flatnonzero(footage.decodable() & (footage.wall_ns <= (MOST_NS if time_ns is None else time_ns)))
    if not len(good):
        raise _none(track, time_ns)
    target = int(good[np.argmax(footage.wall_ns[good])])
    shown_ns = int(footage.wall_ns[target])
    lasts_ns = int(footage.aus.dur[target]) * NS // int(footage.rates()[2][footage.row[target]])
    if time_ns is not None and time_ns - shown_ns > SHOWN_NS + lasts_ns:
        raise _none(track, time_ns)
    found = pick(footage, shown_ns, shown_ns + 1)
    if found is None:
        raise _none(track, time_ns)
    return Wanted(footage, found.chosen[:int(np.searchsorted(found.chosen, target)) + 1], target)


def _none(track: Track, time_ns: int | None) -> Exception:
    bounds = track.bounds()
    if time_ns is None:
        return NotFound("nothing has been recorded yet", remedy="ask again later")
    if bounds.retired and time_ns < bounds.first_ns:
        return Gone("this footage has been retired", where=track.where)
    gaps = track.gaps(time_ns, time_ns + 1)
    if gaps:
        return Problem(404, "nothing was recorded at this time", gaps=[{"start": rfc3339(gaps[0].start_ns), "cause": gaps[0].cause.word}])
    return NotFound("there is no picture at this time")


async def picture(media: Media, wanted: Wanted, width: int) -> bytes:
    """The JPEG: as it was recorded where the camera sends JPEG, else from the cache or a decoder."""
    entry = _entry(wanted)
    if entry.codec == "jpeg" and (not width or 0 < entry.width <= width):
        return await _recorded(media, wanted)
    held = media.pictures.get(wanted.key(width))
    if isinstance(held, bytes):
        return held
    job = await _job(media, wanted, width)
    try:
        made = await media.decoders.picture(job)
    except Problem:
        media.counts.pictures_failed += 1
        raise
    media.counts.pictures += 1
    media.pictures.put(wanted.key(width), made, len(made))
    return made


def _entry(wanted: Wanted) -> SampleEntry:
    """How the picture is coded."""
    entries, of_row, _ = wanted.footage.rates()
    return entries[int(of_row[wanted.footage.row[wanted.target]])]


async def _recorded(media: Media, wanted: Wanted) -> bytes:
    """The bytes of the AUs."""
    footage, chosen = wanted.footage, wanted.chosen
    sizes = footage.aus.size[chosen].astype(np.int64)
    if int(sizes.sum()) > BODY_MAX:
        raise Problem(503, "the pictures before this one are too many to decode", remedy="take a clip")
    extents = Extents(np.zeros_like(sizes), footage.aus.offset[chosen].astype(np.int64), sizes, np.cumsum(sizes) - sizes)
    source = media.bytes_of(b"", extents, [footage.reader])
    try:
        return await source.read()
    finally:
        source.close()


async def _job(media: Media, wanted: Wanted, width: int) -> Job:
    footage, chosen = wanted.footage, wanted.chosen
    body = await _recorded(media, wanted)
    sizes, pts, entry = footage.aus.size[chosen], footage.aus.pts[chosen], _entry(wanted)
    return Job(entry.codec, entry.config, tuple(sizes.tolist()), tuple(pts.tolist()), int(footage.aus.pts[wanted.target]), width, body)


async def frame_jpg(request: web.Request) -> web.StreamResponse:
    """GET of frame.jpg."""
    media, width = request.app[MEDIA], WIDTH.of(request)
    wanted = find(media.store.whole(request[keys.CAMERA].number, TRACK.of(request)), TIME.of(request))
    etag = f'"{hashlib.blake2b(repr(wanted.key(width)).encode(), digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Watchroom-Time": rfc3339(wanted.time_ns), "Cache-Control": "private, no-cache"}
    if none_match(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=await picture(media, wanted, width), headers={**headers, "Content-Type": "image/jpeg"})


def routes() -> list[Route]:
    """What this module answers."""
    return [Route("GET", f"{ROOT}/cameras/{{camera}}/frame.jpg", frame_jpg, "The picture at a time", scopes=VIEW,
                  parameters=(TIME, WIDTH, TRACK), problems=(404, 410, 503), signable=True,
                  answers={200: Answer("The picture; `Watchroom-Time` is its own time.", media_type="image/jpeg")})]
