"""`/cameras/{id}/minutes`: figures of a track by the minute, or by several, for charts."""

from typing import Any

from aiohttp import web

from api import keys
from api.parameters import END, START, TRACK, Parameter, integer, time_range
from api.problems import Problem
from api.routes import ROOT, VIEW_OR_ADMIN, Answer, Route
from api.side import SIDE
from api.timeline import USUAL_TRACKS, unreadable
from api.times import rfc3339
from recorder.base.errors import NotFound
from storage.footage import I64
from storage.minuteread import minutes
from storage.minutes import BYTES, COLUMNS, COVERED, DAMAGED, FRAMES, KEYS, MINUTE_NS, MISSING
from storage.store import TapeStore

STEPS_MAX = 10_000
EACH = Parameter(
    "minutes",
    integer(1, 31 * 1440),
    {"type": "integer", "minimum": 1, "maximum": 31 * 1440, "default": 1},
    "How many minutes each figure is of.",
    1,
)


async def figures_by_minute(request: web.Request) -> web.Response:
    """Bytes, pictures, key frames, missing and damaged time of one track, step by step."""
    start_ns, end_ns = time_range(request)
    each = EACH.of(request)
    start = start_ns // MINUTE_NS
    steps = -(-(-(-end_ns // MINUTE_NS) - start) // each)
    if steps > STEPS_MAX:
        raise Problem(400, f"more than {STEPS_MAX} steps", parameter="minutes", remedy="raise minutes or ask for a shorter range")
    camera, name = request[keys.CAMERA], TRACK.of(request)
    body = await request.app[SIDE].run(answer, camera.number, name, start, each, steps)
    return web.json_response({"camera": camera.id, **body})


def answer(store: TapeStore, camera: int, name: str, start: int, each: int, steps: int) -> dict[str, Any]:
    """The answer without the camera's id: `steps` steps of `each` minutes from minute `start` on. Reads files."""
    places: tuple[int, ...] = ()
    try:
        track = store.whole(camera, name)
        lines = minutes(track, start, start + each * steps)
        places = track.unreadable
    except NotFound:
        if name not in USUAL_TRACKS:
            raise NotFound("there is no such track") from None
        lines = None
    summed = None if lines is None else lines.reshape(steps, each, len(COLUMNS)).sum(axis=1)
    start_ns = start * MINUTE_NS
    return {"track": name, "start": rfc3339(start_ns), "start_ns": start_ns, "step_s": 60 * each, "steps": steps, **columns(summed),
            "unreadable": unreadable(places)}


def columns(lines: I64 | None) -> dict[str, list[Any]]:
    """One list for each figure, an element per step; empty lists of a track that has no footage yet."""
    if lines is None:
        return {name: [] for name in ("bytes", "frames", "key_interval_s", "footage_s", "missing_s", "damaged_s")}
    seconds = {"footage_s": COVERED, "missing_s": MISSING, "damaged_s": DAMAGED}
    return {
        "bytes": lines[:, BYTES].tolist(),
        "frames": lines[:, FRAMES].tolist(),
        "key_interval_s": [round(ms / keys_ / 1000, 3) if keys_ else None for ms, keys_ in lines[:, [COVERED, KEYS]].tolist()],
        **{name: (lines[:, column] / 1000).tolist() for name, column in seconds.items()},
    }


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/cameras/{{camera}}/minutes",
            figures_by_minute,
            "Figures of a track by the minute, for charts",
            scopes=VIEW_OR_ADMIN,
            looks=True,
            parameters=(START, END, TRACK, EACH),
            answers={200: Answer("the figures", "Minutes")},
            problems=(503,),
        )
    ]
