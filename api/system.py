"""`/system`: the site as a whole: version, slots, volumes, cameras by state. No paths: those are the administrator's own knowledge."""

import os
from collections import Counter
from importlib import metadata
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import Scope
from api.cameras import state_of
from api.connections import DOORS
from api.events import EVENTS
from api.lag import LAG
from api.routes import ROOT, Answer, Route
from api.side import SIDE
from api.times import rfc3339

SEEN_BY = frozenset({Scope.VIEW, Scope.ADMIN, Scope.METRICS})


def version() -> str:
    """The installed version, `unknown` when run from a bare tree."""
    try:
        return metadata.version("watchroom")
    except metadata.PackageNotFoundError:
        return "unknown"


def states(app: web.Application, grant: Any = None) -> Counter[str]:
    """How many cameras are in each state, of those within reach."""
    return Counter(state_of(app, camera).state for camera in app[keys.REGISTRY].cameras() if grant is None or grant.reaches(camera))


def volume_figures(_: Any, paths: list[str]) -> list[dict[str, int] | None]:
    """Size and free bytes of each volume's file system; None for one that does not answer. Waits for disks."""
    return [_figures(path) for path in paths]


def _figures(path: str) -> dict[str, int] | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return {"bytes": found.f_frsize * found.f_blocks, "free_bytes": found.f_frsize * found.f_bavail}


async def volumes(app: web.Application) -> list[dict[str, Any]]:
    """The site's volumes by number and UUID: state, declared bit rate of who records there now, the file system's figures (null where the
    disk does not answer)."""
    configured = app[keys.SITE].volumes
    figures = await app[SIDE].run(volume_figures, [str(volume.path) for volume in configured])
    return [
        {
            "number": number,
            "uuid": volume.uuid or None,
            **_used(app, number),
            "bytes": found["bytes"] if found else None,
            "free_bytes": found["free_bytes"] if found else None,
        }
        for number, (volume, found) in enumerate(zip(configured, figures, strict=True))
    ]


def _used(app: web.Application, number: int) -> dict[str, Any]:
    """What the slots say of a volume: `failed` as soon as one cannot record to it."""
    board = app[keys.STATUS]
    said = [board.slot(slot).get("volumes") or [] for slot in board.slots() if board.answers(slot)]
    here = [volumes[number] for volumes in said if number < len(volumes)]
    state = "used" if here else "unknown"
    if any(one["failed"] for one in here):
        state = "failed"
    elif any(one["drain"] for one in here):
        state = "drained"
    return {"state": state, "kbps": sum(int(one["kbps"]) for one in here),
            "slow": any(one.get("slow") for one in here), "proven": all(one.get("proven", True) for one in here)}


async def system(request: web.Request) -> web.Response:
    """The site now."""
    app, clock = request.app, request.app[keys.CLOCK]
    board, lag = app[keys.STATUS], app[LAG]
    slots = [
        {"number": slot, "state": "running" if board.answers(slot) else "unknown", **figures_of(board.slot(slot))} for slot in board.slots()
    ]
    return web.json_response(
        {
            "name": app[keys.SITE].name,
            "version": version(),
            "time": rfc3339(clock.wall_ns()),
            "cameras": dict(states(app, request[keys.GRANT])),
            "slots": slots,
            "volumes": await volumes(app),
            "api": {
                "started": rfc3339(lag.started_ns),
                "connections": app[DOORS].open,
                "listeners": app[EVENTS].listeners,
                "loop_lag_ms": lag.worst_ms,
            },
        }
    )


def figures_of(said: Any) -> dict[str, Any]:
    """The plain numbers and flags of a slot's answer: nothing else of it is passed on."""
    return {str(name): value for name, value in said.items() if type(value) in {int, float, bool} and name not in {"number", "slot", "state"}}


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/system",
            system,
            "The site as a whole",
            scopes=SEEN_BY,
            answers={200: Answer("the site now", "System")},
            problems=(503,),
            tag="system",
        )
    ]
