"""`/cameras/{id}/metadata`: what the camera said about its pictures (ONVIF metadata), document by document, as it was sent."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
from aiohttp import web

from api import keys
from api.feed import first_row_from
from api.footage import Footage, load
from api.media import MEDIA, Media
from api.mp4.clip import Extents
from api.mp4.samples import Int64
from api.parameters import END, START, Parameter, integer, time_range
from api.routes import ROOT, VIEW, Answer, Route
from api.times import rfc3339
from recorder.base.media import SampleEntry
from storage.track import Track, stretches

TRACK = "metadata"
PLAIN = "vnd.onvif.metadata"
ROWS_AT_ONCE = 64
BYTES_MAX = 4 << 20           # of the documents in one answer; the first is always there
LIMIT = Parameter("limit", integer(1, 1000), {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200},
                  "Documents in the answer.", 200)


async def documents(request: web.Request) -> web.Response:
    """GET of metadata."""
    start_ns, end_ns = time_range(request)
    media, camera = request.app[MEDIA], request[keys.CAMERA]
    track = media.store.whole(camera.number, TRACK)
    items, after_ns = await collect(media, track, start_ns, end_ns, LIMIT.of(request))
    return web.json_response({"camera": camera.id, "items": items, "next": rfc3339(after_ns) if after_ns is not None else None})


async def collect(media: Media, track: Track, start_ns: int, end_ns: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    """The documents of [start, end), at most `limit` and about 4 MiB, and the time of the first one left out. Raises Gone."""
    items: list[dict[str, Any]] = []
    room = BYTES_MAX
    for footage in _footage(track, start_ns, end_ns):
        wanted = np.flatnonzero((footage.wall_ns >= start_ns) & (footage.wall_ns < end_ns))
        fits = wanted[:limit - len(items)]
        fits = fits[:max(int(np.searchsorted(np.cumsum(footage.aus.size[fits].astype(np.int64)), room, side="right")), not items)]
        items += await _read(media, footage, fits)
        room -= int(footage.aus.size[fits].sum())
        if len(fits) < len(wanted):
            return items, int(footage.wall_ns[wanted[len(fits)]])
    return items, None


def _footage(track: Track, start_ns: int, end_ns: int) -> Iterator[Footage]:
    """The rows of [start, end) in order, a few at a time, tape by tape."""
    for tape, begin_ns, stop_ns in stretches(track.tapes, start_ns, end_ns):
        number = max(first_row_from(tape, begin_ns + 1) - 1, tape.edges().first_row)
        while len(footage := load(tape, tape.rows_from(number, ROWS_AT_ONCE, provisional=False))):
            yield footage
            if int(footage.wall_ns[-1]) >= stop_ns:
                break
            number = footage.run.next


async def _read(media: Media, footage: Footage, chosen: Int64) -> list[dict[str, Any]]:
    sizes = footage.aus.size[chosen].astype(np.int64)
    ends = np.cumsum(sizes)
    extents = Extents(np.zeros_like(sizes), footage.aus.offset[chosen].astype(np.int64), sizes, ends - sizes)
    source = media.bytes_of(b"", extents, [footage.reader])
    try:
        data = await source.read()
    finally:
        source.close()
    entries, of_row, _ = footage.rates()
    return [_item(int(footage.wall_ns[au]), entries[int(of_row[footage.row[au]])], data[end - size:end])
            for au, size, end in zip(chosen.tolist(), sizes.tolist(), ends.tolist(), strict=True)]


def _item(wall_ns: int, entry: SampleEntry, document: bytes) -> dict[str, Any]:
    """XML as text, if it is UTF-8; all else as base64, with the encoding's name."""
    encoding = entry.config.decode("ascii", "replace")
    text = _text(document) if encoding == PLAIN else None
    coded = base64.b64encode(document).decode() if text is None else None
    return {"time": rfc3339(wall_ns), "time_ns": wall_ns, "encoding": encoding, "text": text, "base64": coded}


def _text(document: bytes) -> str | None:
    try:
        return document.decode("utf-8")
    except UnicodeDecodeError:
        return None


def routes() -> list[Route]:
    """What this module answers."""
    return [Route("GET", f"{ROOT}/cameras/{{camera}}/metadata", documents, "ONVIF metadata of a range", scopes=VIEW,
                  parameters=(START, END, LIMIT), problems=(404, 410),
                  answers={200: Answer("the documents in order; `next` is where the next answer should start, null at the end", "Documents")})]
