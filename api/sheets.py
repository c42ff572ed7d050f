"""`sheet.jpg`: a contact sheet of any range. `strip.jpg`: a camera's hour for a scrub bar. Beside each its times as JSON and as WebVTT."""

from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from api import keys
from api.byteranges import none_match
from api.clips import PICTURES
from api.credentials import link
from api.media import MEDIA
from api.parameters import END, START, TIME_SCHEMA, TRACK, Parameter, integer, one_of, time_range, wrong
from api.routes import ROOT, VIEW, Answer, Route
from api.sheet import Sheet, SheetQuery, jpeg, plan
from api.times import MOST_NS, parse_time, rfc3339
from recorder.base.media import NS

HOUR_NS = 3600 * NS
CELLS_MAX = 400
STRIP_COLUMNS = 10
STEPS = ("10", "15", "20", "30", "60", "120", "300")


def _hour(text: str) -> int:
    """The start of the hour in which a time lies; ValueError."""
    start_ns = parse_time(text) // HOUR_NS * HOUR_NS
    if start_ns + HOUR_NS > MOST_NS:
        raise ValueError("must lie between 1970 and 2262")
    return start_ns


COLUMNS = Parameter("columns", integer(1, 20), {"type": "integer", "minimum": 1, "maximum": 20}, "Pictures beside each other.", 6)
ROWS = Parameter("rows", integer(1, 100), {"type": "integer", "minimum": 1, "maximum": 100}, "Rows; at most 400 pictures in all.", 5)
WIDTH = Parameter("width", integer(32, 640), {"type": "integer", "minimum": 32, "maximum": 640}, "Width of a picture, made even.", 240)
FRAMES = Parameter("frames", one_of("key", "exact"), {"enum": ["key", "exact"]},
                   "key: the access point nearest to each time, which costs least. exact: the picture shown then.", "key")
HOUR = Parameter("hour", _hour, TIME_SCHEMA, "Any time of the hour (UTC).")
STEP = Parameter("step", one_of(*STEPS), {"enum": list(STEPS)}, "Seconds from picture to picture.", "30")
STRIP_WIDTH = Parameter("width", integer(32, 320), {"type": "integer", "minimum": 32, "maximum": 320}, "Width of a picture, made even.", 160)
SHEET_PARAMETERS = (START, END, COLUMNS, ROWS, WIDTH, FRAMES, TRACK)
STRIP_PARAMETERS = (HOUR, STEP, STRIP_WIDTH, TRACK)


def sheet_query(request: web.Request) -> SheetQuery:
    """The parameters of a contact sheet; Problem 400."""
    start_ns, end_ns = time_range(request)
    count = COLUMNS.of(request) * ROWS.of(request)
    if count > CELLS_MAX:
        raise wrong("rows", f"times columns must be at most {CELLS_MAX}")
    return SheetQuery(request[keys.CAMERA].number, TRACK.of(request), start_ns, end_ns, COLUMNS.of(request), count, WIDTH.of(request) & ~1,
                      FRAMES.of(request) == "exact")


def strip_query(request: web.Request) -> SheetQuery:
    """The parameters of a strip; Problem 400."""
    start_ns = HOUR.of(request)
    count = HOUR_NS // NS // int(STEP.of(request))
    return SheetQuery(request[keys.CAMERA].number, TRACK.of(request), start_ns, start_ns + HOUR_NS, STRIP_COLUMNS, count,
                      STRIP_WIDTH.of(request) & ~1)


def _query(request: web.Request) -> SheetQuery:
    return strip_query(request) if "/strip." in request.path else sheet_query(request)


async def _planned(request: web.Request) -> Sheet:
    query = _query(request)
    return await request.app[MEDIA].compute(lambda store: plan(store, query))


async def as_jpeg(request: web.Request) -> web.StreamResponse:
    """GET of sheet.jpg and strip.jpg."""
    sheet = await _planned(request)
    headers = {"ETag": sheet.etag, "Cache-Control": "private, no-cache"}
    if none_match(request.headers.get("If-None-Match"), sheet.etag):
        return web.Response(status=304, headers=headers)
    with request.app[PICTURES].take(request[keys.GRANT].holder):
        return web.Response(body=await jpeg(request.app[MEDIA], sheet), headers={**headers, "Content-Type": "image/jpeg"})


async def as_json(request: web.Request) -> web.StreamResponse:
    """GET of sheet.json and strip.json: the time that each picture stands for, its own, and where it is."""
    sheet = await _planned(request)
    items = []
    for number, (cell, cause) in enumerate(zip(sheet.cells, sheet.causes, strict=True)):
        x, y = sheet.place(number)
        items.append({"time": rfc3339(sheet.query.at(number)), "shown": rfc3339(cell.time_ns) if cell is not None else None, "cause": cause,
                      "x": x, "y": y})
    return web.json_response({"picture": _picture(request), "columns": sheet.query.columns, "rows": sheet.rows, "width": sheet.query.width,
                              "height": sheet.height, "items": items}, headers={"Cache-Control": "private, no-cache"})


async def as_vtt(request: web.Request) -> web.StreamResponse:
    """GET of sheet.vtt and strip.vtt: WebVTT cues from the range's start on, each a part of the picture (Media Fragments 4.2.2)."""
    sheet, address = await _planned(request), _picture(request)
    lines = ["WEBVTT", ""]
    for number, cell in enumerate(sheet.cells):
        if cell is not None:
            x, y = sheet.place(number)
            place = f"{x},{y},{sheet.query.width},{sheet.height}"
            lines += [f"{_clock(sheet, number)} --> {_clock(sheet, number + 1)}", f"{address}#xywh={place}", ""]
    return web.Response(text="\n".join(lines), headers={"Content-Type": "text/vtt; charset=utf-8", "Cache-Control": "private, no-cache"})


def _clock(sheet: Sheet, cell: int) -> str:
    ms = (sheet.query.at(cell) - sheet.query.start_ns) // 1_000_000
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _picture(request: web.Request) -> str:
    """Address of the JPEG that this request's answer is about, signed if the request was."""
    path = request.rel_url.raw_path.rpartition(".")[0] + ".jpg"
    said = {name: value for name, value in request.query.items() if name not in {"sig", "exp", "kid"}}
    return link(request, request[keys.GRANT], f"{path}?{urlencode(said, quote_via=quote)}")


SCHEMA = {
    "type": "object",
    "properties": {
        "picture": {"type": "string"}, "columns": {"type": "integer"}, "rows": {"type": "integer"}, "width": {"type": "integer"},
        "height": {"type": "integer"},
        "items": {"type": "array", "items": {"type": "object", "properties": {
            "time": {"type": "string"}, "shown": {"type": ["string", "null"]}, "cause": {"type": ["string", "null"]},
            "x": {"type": "integer"}, "y": {"type": "integer"}}}},
    },
}


def routes() -> list[Route]:
    """What this module answers."""
    def three(name: str, text: str, parameters: tuple[Parameter[Any], ...]) -> list[Route]:
        root = f"{ROOT}/cameras/{{camera}}/{name}"
        return [
            Route("GET", f"{root}.jpg", as_jpeg, text, scopes=VIEW, parameters=parameters, problems=(404, 410, 429, 503), signable=True,
                  answers={200: Answer("All pictures in one; black where there is none.", media_type="image/jpeg")}),
            Route("GET", f"{root}.json", as_json, f"{text}: its times", scopes=VIEW, parameters=parameters, problems=(404, 410, 503),
                  signable=True, answers={200: Answer("Times and places of the pictures.", SCHEMA)}),
            Route("GET", f"{root}.vtt", as_vtt, f"{text}: its times as WebVTT", scopes=VIEW, parameters=parameters, problems=(404, 410, 503),
                  signable=True, answers={200: Answer("Cues with `#xywh=` fragments.", media_type="text/vtt")}),
        ]
    return [*three("sheet", "A contact sheet of any range", SHEET_PARAMETERS), *three("strip", "An hour for a scrub bar", STRIP_PARAMETERS)]
