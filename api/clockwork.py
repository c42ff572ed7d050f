"""`/cameras/{id}/clock`: what is known of clocks in a range: the camera's own, by its sender reports, and the steps of ours. Evidence only."""

from typing import Any

from aiohttp import web

from api import keys
from api.parameters import END, START, TRACK, time_range
from api.routes import ROOT, VIEW_OR_ADMIN, Answer, Route
from api.side import SIDE
from api.times import rfc3339
from recorder.base.errors import NotFound
from recorder.base.media import NS
from storage.evidence import Evidence
from storage.store import TapeStore

REPORTS_MAX = 2_000


async def clocks(request: web.Request) -> web.Response:
    """Sender reports (thinned evenly to 2,000) and steps of our clock."""
    camera, name = request[keys.CAMERA], TRACK.of(request)
    found = await request.app[SIDE].run(_read, camera.number, name, *time_range(request))
    return web.json_response({"camera": camera.id, "track": name, **described(found)})


def _read(store: TapeStore, camera: int, name: str, start_ns: int, end_ns: int) -> Evidence:
    try:
        return store.whole(camera, name).evidence(start_ns, end_ns)
    except NotFound:
        return Evidence()


def described(found: Evidence) -> dict[str, Any]:
    """The evidence as JSON."""
    every = -(-len(found.reports) // REPORTS_MAX) or 1
    return {
        "reports": [
            {"arrival": rfc3339(report.arrival_ns), "camera_time_ns": report.ntp_ns, "ahead_s": (report.ntp_ns - report.arrival_ns) / NS}
            for report in found.reports[::every]
        ],
        "left_out": len(found.reports) - len(found.reports[::every]),
        "steps": [{"time": rfc3339(epoch.wall_ns), "step_s": epoch.step_ns / NS} for epoch in found.epochs],
    }


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/cameras/{{camera}}/clock",
            clocks,
            "The camera's clock beside ours",
            scopes=VIEW_OR_ADMIN,
            looks=True,
            parameters=(START, END, TRACK),
            answers={200: Answer("sender reports and steps of the server's clock", "Clocks")},
            problems=(503,),
        )
    ]
