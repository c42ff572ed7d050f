"""`/cameras/{id}/timeline`: every second of a range is in a span or in a gap with a cause; how complete it is follows from both."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiohttp import web

from api import keys
from api.parameters import END, START, TRACK, Parameter, number, time_range
from api.problems import Problem
from api.routes import ROOT, VIEW_OR_ADMIN, Answer, Route
from api.side import SIDE
from api.times import rfc3339
from recorder.base.errors import NotFound
from recorder.base.media import NS, Gap, GapCause
from storage import minuteline
from storage.footage import F64
from storage.store import TapeStore
from storage.timeline import Timeline

ITEMS_MAX = 20_000
STEPS_MAX = 50_000          # 31 days by the minute
USUAL_TRACKS = frozenset({"main", "sub", "audio", "metadata"})
Stretch = tuple[int, int]

RESOLUTION = Parameter(
    "resolution",
    number(0, 31 * 86_400),
    {"type": "number", "minimum": 0, "maximum": 31 * 86_400, "default": 0},
    "Seconds. The answer then has the completeness of each step of this length, shows spans that are no farther apart as one, "
    "and leaves out closed gaps that are no longer; the figures of the whole stay exact.",
    0.0,
)


async def timeline(request: web.Request) -> web.Response:
    """Spans, gaps, damage, holds and completeness of one track."""
    start_ns, end_ns = time_range(request)
    camera, name, step_ns = request[keys.CAMERA], TRACK.of(request), round(RESOLUTION.of(request) * NS)
    if step_ns and (end_ns - start_ns) // step_ns >= STEPS_MAX:
        raise Problem(400, f"more than {STEPS_MAX} steps", parameter="resolution", remedy="raise resolution or ask for a shorter range")
    until_ns = max(start_ns, min(end_ns, request.app[keys.CLOCK].wall_ns()))  # what is yet to come is no gap
    head = {"camera": camera.id, "track": name, **_times(start_ns, end_ns)}
    text = await request.app[SIDE].run(answer, camera.number, name, head, (start_ns, end_ns), until_ns, step_ns)
    return web.json_response(text=text)


def answer(store: TapeStore, camera: int, name: str, head: dict[str, Any], asked: Stretch, until_ns: int, step_ns: int) -> str:
    """The answer as JSON, `head` first. Reads files."""
    holds = {"holds": [_times(*held) for held in merged(within(store.held_times(camera, name), *asked), 0)]}
    try:
        found = store.whole(camera, name).timeline(asked[0], until_ns, step_ns, minuteline.blocks)
    except NotFound:
        if name not in USUAL_TRACKS:
            raise NotFound("there is no such track") from None
        return json.dumps({**head, **NOTHING, **holds, "steps": None})
    text = json.dumps({**head, **describe(found, step_ns), **holds, "steps": None})
    return text.removesuffix("null}") + shares_text(steps(found)) + "}" if step_ns else text


def describe(found: Timeline, merge_ns: int) -> dict[str, Any]:
    """Figures of all that was found, and what is shown of it."""
    gaps = [gap for gap in found.gaps if gap.end_ns is None or gap.end_ns - gap.start_ns > merge_ns]
    spans = merged(((span.start_ns, span.end_ns) for span in found.spans), merge_ns)
    damage = merged((part for span in found.spans for part in span.damaged), merge_ns)
    if len(spans) + len(gaps) + len(damage) > ITEMS_MAX:
        raise Problem(
            400, f"more than {ITEMS_MAX} spans and gaps", parameter="resolution", remedy="raise resolution or ask for a shorter range"
        )
    return {
        **figures(found),
        "spans": [_times(*span) for span in spans],
        "gaps": [{**_times(*cut(gap, found)), "cause": gap.cause.word, "from": rfc3339(gap.start_ns)} for gap in gaps],
        "damage": [_times(*part) for part in damage],
        "left_out": len(found.gaps) - len(gaps),
        "unreadable": unreadable(found.unreadable),
    }


def unreadable(places: Iterable[int]) -> list[dict[str, Any]]:
    """What cannot be read now, and so is in no answer: the volumes, and why."""
    return [{"volume": place, "cause": GapCause.DISK.word} for place in sorted(places)]


def figures(found: Timeline) -> dict[str, Any]:
    """Seconds that were to be recorded, that were, and that are damaged; the share that has footage, null where nothing was to be."""
    return {
        "expected_s": found.expected_ns / NS,
        "footage_s": found.covered_ns / NS,
        "damaged_s": found.damaged_ns / NS,
        "bytes": int(found.nbytes.sum()),
        "completeness": found.completeness if found.expected_ns else None,
    }


NOTHING: dict[str, Any] = {
    "expected_s": 0.0,
    "footage_s": 0.0,
    "damaged_s": 0.0,
    "bytes": 0,
    "completeness": None,
    "spans": [],
    "gaps": [],
    "damage": [],
    "left_out": 0,
    "unreadable": [],
}


def steps(found: Timeline) -> F64:
    """The share of each step that has footage, 0 to 1."""
    shares: F64 = np.minimum(found.covered / np.float64(found.step_ns), 1.0).round(6)
    return shares


def shares_text(shares: F64) -> str:
    """A list of numbers as JSON, made run by run of equal ones: nearly all of a month's minutes are 1.0."""
    starts = np.concatenate(([0], np.flatnonzero(np.diff(shares)) + 1)) if len(shares) else np.empty(0, np.int64)
    counts = np.diff(np.append(starts, len(shares)))
    text = "".join(f"{value!r}, " * count for value, count in zip(shares[starts].tolist(), counts.tolist(), strict=True))
    return f"[{text.removesuffix(', ')}]"


def merged(stretches: Iterable[Stretch], merge_ns: int) -> list[Stretch]:
    """Stretches in order, those at most `merge_ns` apart joined."""
    joined: list[Stretch] = []
    for start_ns, end_ns in stretches:
        if joined and start_ns - joined[-1][1] <= merge_ns:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_ns))
        else:
            joined.append((start_ns, end_ns))
    return joined


def within(stretches: Iterable[Stretch], start_ns: int, end_ns: int) -> list[Stretch]:
    """What of the stretches lies in [start_ns, end_ns)."""
    return [(max(start, start_ns), min(end, end_ns)) for start, end in stretches if start < end_ns and end > start_ns]


def cut(gap: Gap, found: Timeline) -> tuple[int, int | None]:
    """The gap within the range; one that goes on stays open."""
    return max(gap.start_ns, found.start_ns), None if gap.end_ns is None else min(gap.end_ns, found.end_ns)


def _times(start_ns: int, end_ns: int | None) -> dict[str, Any]:
    return {"start": rfc3339(start_ns), "end": None if end_ns is None else rfc3339(end_ns), "start_ns": start_ns, "end_ns": end_ns}


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/cameras/{{camera}}/timeline",
            timeline,
            "Where there is footage, and where not and why",
            scopes=VIEW_OR_ADMIN,
            looks=True,
            parameters=(START, END, TRACK, RESOLUTION),
            answers={200: Answer("the timeline", "Timeline")},
            problems=(503,),
        )
    ]
