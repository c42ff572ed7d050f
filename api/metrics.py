"""`/metrics` in Prometheus' text format (0.0.4), written by hand. Labels are ids and words of ours; nothing a camera says becomes one."""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from api import keys
from api.access import ANSWERS
from api.authorise import Scope
from api.connections import DOORS
from api.events import EVENTS
from api.lag import LAG
from api.problems import Problem
from api.routes import Answer, Route
from api.status import CameraStatus
from api.system import figures_of, states, volumes
from recorder.base.errors import WatchroomError

SUPERVISOR_S = 2.0
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
TRACK_COUNTERS = (
    ("watchroom_track_bytes_total", "bytes", "Bytes recorded since the slot began."),
    ("watchroom_track_aus_total", "aus", "Access units recorded."),
    ("watchroom_track_lost_packets_total", "lost_packets", "Packets that never came."),
    ("watchroom_track_overrun_packets_total", "overrun_packets", "Of those, packets that our own socket had no room for."),
    ("watchroom_track_damaged_aus_total", "damaged_aus", "Access units with missing parts, kept and flagged."),
    ("watchroom_track_dropped_aus_total", "dropped_aus", "Access units dropped because the recorder could not keep up."),
)
Labels = dict[str, str]


class Page:
    """A page of metrics in the making."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float | str]]) -> None:
        """One metric with its samples."""
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        self._lines += [f"{name}{_labels(labels)} {value}" for labels, value in samples]

    def text(self) -> str:
        """The page."""
        return "\n".join(self._lines) + "\n"


def _labels(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def metrics(request: web.Request) -> web.Response:
    """Everything that is counted."""
    page = Page()
    _cameras(page, request.app)
    _slots(page, request.app)
    _commits(page, request.app)
    await _volumes(page, request.app)
    _unreadable(page, request.app)
    await _signing(page, request.app)
    _server(page, request.app)
    for more in request.app[EXTRA]:
        more(page, request.app)
    return web.Response(body=page.text().encode(), headers={"Content-Type": MEDIA_TYPE})


def _cameras(page: Page, app: web.Application) -> None:
    board = app[keys.STATUS]
    known = [(camera.id, board.camera(camera.number)) for camera in app[keys.REGISTRY].cameras()]
    page.family("watchroom_cameras", "gauge", "Cameras by state.", [({"state": state}, count) for state, count in sorted(states(app).items())])
    page.family(
        "watchroom_camera_recording",
        "gauge",
        "1 while the camera is recorded.",
        [({"camera": camera}, int(status.state == "recording")) for camera, status in known],
    )
    _tracks(page, known)


def _tracks(page: Page, known: list[tuple[str, CameraStatus]]) -> None:
    tracks = [({"camera": camera, "track": name}, track) for camera, status in known for name, track in sorted(status.tracks.items())]
    for name, member, text in TRACK_COUNTERS:
        page.family(name, "counter", text, [(labels, getattr(track, member)) for labels, track in tracks])
    page.family("watchroom_track_kilobits_per_second", "gauge", "Bit rate.", [(labels, track.kbps) for labels, track in tracks])
    page.family(
        "watchroom_track_newest_timestamp_seconds",
        "gauge",
        "UTC of the newest access unit.",
        [(labels, f"{track.last_au_ns / 1e9:.3f}") for labels, track in tracks if track.last_au_ns],
    )


def _slots(page: Page, app: web.Application) -> None:
    board = app[keys.STATUS]
    page.family(
        "watchroom_slot_up", "gauge", "1 while the slot answers.", [({"slot": str(slot)}, int(board.answers(slot))) for slot in board.slots()]
    )
    said = {slot: figures_of(board.slot(slot)) for slot in board.slots()}
    for name in sorted({name for figures in said.values() for name in figures if NAME.fullmatch(name)}):
        page.family(
            f"watchroom_slot_{name}",
            "gauge",
            "As the slot reports it (commit latency, drain lag, ...).",
            [({"slot": str(slot)}, float(figures[name])) for slot, figures in said.items() if name in figures],
        )


def _commits(page: Page, app: web.Application) -> None:
    """From the live files, so also of a worker that hangs: an age above a second is a broken promise."""
    now_ns = app[keys.CLOCK].wall_ns()
    found = [({"slot": str(file.slot), "volume": str(file.volume)}, *file.commit()) for file in app[keys.STORE].live_files()]
    page.family("watchroom_commits_total", "counter", "Acknowledged commits.", [(labels, epoch) for labels, epoch, _ in found])
    ages = [(labels, f"{(now_ns - commit_ns) / 1e9:.3f}") for labels, _, commit_ns in found if commit_ns]
    page.family("watchroom_commit_age_seconds", "gauge", "Time since the last acknowledged commit.", ages)


async def _volumes(page: Page, app: web.Application) -> None:
    try:
        known: list[dict[str, Any]] = await volumes(app)
    except Problem:
        known = []
    page.family("watchroom_volume_failed", "gauge", "1 while a slot cannot record to the volume.",
                [({"volume": str(volume["number"])}, int(volume["state"] == "failed")) for volume in known])
    page.family("watchroom_volume_slow", "gauge", "1 while cameras stay on the volume although it is slow, because no other one is better.",
                [({"volume": str(volume["number"])}, int(volume["slow"])) for volume in known])
    page.family("watchroom_volume_proven", "gauge", "0 while the volume's cameras wait elsewhere until it has been well for long enough.",
                [({"volume": str(volume["number"])}, int(volume["proven"])) for volume in known])
    for name, member, text in (
        ("watchroom_volume_kilobits_per_second", "kbps", "Declared bit rate of the cameras that record to the volume now."),
        ("watchroom_volume_bytes", "bytes", "Size of the volume's file system."),
        ("watchroom_volume_free_bytes", "free_bytes", "Free bytes of the volume's file system."),
    ):
        page.family(
            name, "gauge", text, [({"volume": str(volume["number"])}, volume[member]) for volume in known if volume[member] is not None]
        )


def _unreadable(page: Page, app: web.Application) -> None:
    """What disks could not read when it was asked for."""
    sickness, places = app[keys.STORE].sickness, range(len(app[keys.SITE].volumes))
    now = sickness.now()
    page.family("watchroom_volume_unreadable_tapes", "gauge", "Tapes that the volume's disk could not read within the last minute.",
                [({"volume": str(place)}, now[place]) for place in places])
    page.family("watchroom_volume_read_errors_total", "counter", "Errors of the volume's disk that readers met.",
                [({"volume": str(place)}, sickness.errors[place]) for place in places])


async def _signing(page: Page, app: web.Application) -> None:
    """Of sites that sign the heads of their volumes."""
    try:
        async with asyncio.timeout(SUPERVISOR_S):
            said = (await app[keys.SUPERVISOR].call("signing", {})).get("volumes") or []
    except (Problem, WatchroomError, TimeoutError):
        said = []
    now_ns = app[keys.CLOCK].wall_ns()
    known = [({"volume": str(int(one["volume"]))}, one) for one in said]
    page.family("watchroom_signing_age_seconds", "gauge", "Time since the volume's heads were signed.",
                [(labels, f"{(now_ns - one['signed_ns']) / 1e9:.3f}") for labels, one in known if one["signed_ns"]])
    page.family("watchroom_signing_failed", "gauge", "1 if the last signing of the volume's heads found something wrong, or is overdue.",
                [(labels, int(one["failed"] or one["overdue"])) for labels, one in known])


def _server(page: Page, app: web.Application) -> None:
    page.family(
        "watchroom_api_answers_total",
        "counter",
        "Answers by status; cut: ended without one.",
        [({"status": status}, count) for status, count in sorted(app[ANSWERS].items())],
    )
    page.family("watchroom_api_connections", "gauge", "Open connections.", [({}, app[DOORS].open)])
    page.family("watchroom_api_connections_refused_total", "counter", "Connections beyond the limits.", [({}, app[DOORS].refused)])
    page.family("watchroom_api_loop_lag_milliseconds", "gauge", "Worst delay of the event loop in the last 10 s.", [({}, app[LAG].worst_ms)])
    page.family("watchroom_api_event_listeners", "gauge", "Clients of /events.", [({}, app[EVENTS].listeners)])
    page.family("watchroom_api_events_dropped_total", "counter", "Events that slow clients did not get.", [({}, app[EVENTS].dropped)])


EXTRA = web.AppKey[list[Callable[[Page, web.Application], None]]]("extra", list)  # other modules' families


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            "/metrics",
            metrics,
            "Figures for Prometheus",
            scopes=frozenset({Scope.METRICS, Scope.ADMIN}),
            tag="system",
            answers={200: Answer("the figures", media_type="text/plain")},
        )
    ]
