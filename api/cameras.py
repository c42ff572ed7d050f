"""`/cameras`: what is recorded and how it fares. Reads answer from the registry and the status board; changes go to the supervisor."""

import base64
import binascii
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import Grant
from api.camera_body import CHANGE_SCHEMA, NEW_SCHEMA, read_change, read_new
from api.parameters import Parameter, integer, json_body, text_of
from api.routes import ADMIN, ROOT, VIEW_OR_ADMIN, Answer, Route
from api.status import UNKNOWN, CameraStatus, TrackStatus
from api.times import rfc3339
from recorder.base.config import SiteConfig, StreamConfig
from recorder.base.config_file import TRACK_NAMES
from recorder.base.errors import Conflict, Refused
from recorder.base.media import valid_id
from recorder.base.rulebook import Member, rule_book
from storage.camera_record import CameraRecord

DISABLED = "disabled"
RECORDING = "recording"


def _cursor(text: str) -> str:
    try:
        found = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii") if len(text) <= 128 else ""
    except (ValueError, binascii.Error):
        found = ""
    if not valid_id(found):
        raise ValueError("must be the `next` of an earlier page")
    return found


def _next(camera_id: str) -> str:
    return base64.urlsafe_b64encode(camera_id.encode()).decode()


LIMIT = Parameter("limit", integer(1, 1000), {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Items per page.", 100)
CURSOR = Parameter("cursor", _cursor, {"type": "string"}, "`next` of the page before.", "")
PARTNER = Parameter("partner", text_of(200), {"type": "string"}, "Only cameras of this partner.", "")
SITE = Parameter("site", text_of(200), {"type": "string"}, "Only cameras of this site.", "")
STATE = Parameter(
    "state", text_of(40), {"type": "string"}, "Only cameras in this state: recording, connecting, offline, disabled, unknown, ...", ""
)


def state_of(app: web.Application, camera: CameraRecord) -> CameraStatus:
    """What the camera does now; `disabled` when it is switched off."""
    return CameraStatus(DISABLED) if not camera.config.enabled else app[keys.STATUS].camera(camera.number)


async def listing(request: web.Request) -> web.Response:
    """A page of the cameras within reach, by id."""
    grant, after, limit = request[keys.GRANT], CURSOR.of(request), LIMIT.of(request)
    partner, site, state = PARTNER.of(request), SITE.of(request), STATE.of(request)
    items: list[dict[str, Any]] = []
    for camera in request.app[keys.REGISTRY].cameras():
        if camera.id <= after or not grant.reaches(camera) or (partner and camera.config.partner != partner):
            continue
        if (site and camera.config.site != site) or (state and state_of(request.app, camera).state != state):
            continue
        if len(items) == limit:
            return web.json_response({"items": items, "next": _next(items[-1]["id"])})
        items.append(describe(request.app, grant, camera))
    return web.json_response({"items": items, "next": None})


async def single(request: web.Request) -> web.Response:
    """One camera."""
    return web.json_response(describe(request.app, request[keys.GRANT], request[keys.CAMERA]))


async def create(request: web.Request) -> web.Response:
    """Add a camera; it is recorded from now on."""
    grant = _unbounded(request)
    args = read_new(await json_body(request))
    if request.app[keys.REGISTRY].camera(args["id"]) is not None:
        raise Conflict("a camera with this id exists already", remedy="choose another id, or change that camera")
    await request.app[keys.SUPERVISOR].call("camera.add", args)
    return await _answer(request, grant, args["id"], 201)


async def change(request: web.Request) -> web.Response:
    """Change a camera of the catalogue; its session starts again if it must."""
    camera = _ours(request)
    changes = read_change(await json_body(request))
    if "partner" in changes and not request[keys.GRANT].unbounded():
        raise Refused("partner can only be changed with a token that reaches every camera")
    await request.app[keys.SUPERVISOR].call("camera.change", {"id": camera.id, "changes": changes})
    return await _answer(request, request[keys.GRANT], camera.id, 200)


async def remove(request: web.Request) -> web.Response:
    """Stop and hide a camera; its footage stays under its rule."""
    camera = _ours(request)
    await request.app[keys.SUPERVISOR].call("camera.remove", {"id": camera.id})
    await request.app[keys.REGISTRY].refresh()
    return web.Response(status=204)


def _unbounded(request: web.Request) -> Grant:
    grant = request[keys.GRANT]
    if not grant.unbounded():
        raise Refused("cameras can only be added with a token that reaches every camera")
    return grant


def _ours(request: web.Request) -> CameraRecord:
    camera = request[keys.CAMERA]
    if camera.owner == "file":
        raise Conflict("this camera is owned by the site's configuration file", remedy="change it there and reload")
    return camera


async def _answer(request: web.Request, grant: Grant, camera_id: str, status: int) -> web.Response:
    registry = request.app[keys.REGISTRY]
    await registry.refresh()
    camera = registry.camera(camera_id)
    if camera is None:
        raise Conflict("the camera was removed meanwhile")
    headers = {"Location": f"{ROOT}/cameras/{camera_id}"} if status == 201 else None
    return web.json_response(describe(request.app, grant, camera), status=status, headers=headers)


def rule_of(site: SiteConfig, camera: CameraRecord) -> dict[str, Any]:
    """How long the camera's footage stays, all rules together, and which of them says so."""
    book = rule_book(site, [Member.of(camera.number, camera.config)])
    kept = {track: found for track in TRACK_NAMES if (found := book.keep(camera.number, track)) is not None}
    main, quotas = kept["main"], book.quotas()
    return {
        "days": main.days,
        "bytes_max": next((quota.bytes_max for quota in quotas if quota.by == f"camera {camera.id}"), 0),
        "own": camera.config.rule is not None,
        "by": main.days_by,
        "days_min": main.days_min,
        "tracks": {track: {"days": keep.days, "days_min": keep.days_min, "by": keep.days_by} for track, keep in kept.items()},
    }


def describe(app: web.Application, grant: Grant, camera: CameraRecord) -> dict[str, Any]:
    """A camera as JSON. Its addresses and user only for an administrator; its password for nobody."""
    config, status = camera.config, state_of(app, camera)
    described = {
        "id": camera.id,
        "number": camera.number,
        "name": config.name,
        "partner": config.partner,
        "site": config.site,
        "purpose": config.purpose,
        "position": position(config.latitude, config.longitude),
        "enabled": config.enabled,
        "owner": camera.owner,
        "rule": rule_of(app[keys.SITE], camera),
        "state": status.state,
        "since": _time(status.since_ns),
        "last_au": _time(status.last_au_ns),
        "kbps": status.kbps,
        "gap": gap_in_progress(status),
        "tracks": tracks(app, camera, status),
    }
    if grant.may(ADMIN):
        described["source"] = source(camera)
    return described


def position(latitude: float | None, longitude: float | None) -> dict[str, float] | None:
    """WGS 84 degrees, None unless both are known."""
    return None if latitude is None or longitude is None else {"latitude": latitude, "longitude": longitude}


def gap_in_progress(status: CameraStatus) -> dict[str, Any] | None:
    """The gap that goes on now, as the slot knows it; where it began is in the timeline if the session goes on."""
    if status.state in {UNKNOWN, DISABLED} or not status.cause:
        return None
    return {"cause": status.cause, "start": None if status.state == RECORDING else _time(status.since_ns)}


def tracks(app: web.Application, camera: CameraRecord, status: CameraStatus) -> list[dict[str, Any]]:
    """The camera's tracks as its slot knows them; those that have footage when no slot answers."""
    names = status.tracks or app[keys.STORE].tracks(camera.number)
    return [_track(name, status.tracks.get(name)) for name in sorted(names, key=lambda name: (name != "main", name))]


def _track(name: str, status: TrackStatus | None) -> dict[str, Any]:
    if status is None:
        return {"name": name, "codec": None, "kbps": 0, "fps": 0.0, "last_au": None}
    return {"name": name, "codec": status.codec or None, "kbps": status.kbps, "fps": status.fps, "last_au": _time(status.last_au_ns)}


def source(camera: CameraRecord) -> dict[str, Any]:
    """Where the pictures come from; whether there is a password, never which."""
    config = camera.config
    return {
        "main": _stream(config.main),
        "sub": _stream(config.sub) if config.sub else None,
        "user": config.user,
        "password_set": None if camera.owner == "file" else bool(config.password),
        "audio": config.audio,
        "metadata": config.metadata,
        "g726_order": config.g726_order,
        "basic_without_tls": config.basic_without_tls,
        "tls_fingerprint": config.tls_fingerprint,
        "tls_insecure": config.tls_insecure,
        "stall_s": config.stall_s,
    }


def _stream(stream: StreamConfig) -> dict[str, Any]:
    return {"url": stream.url, "kbps": stream.kbps, "ceiling_kbps": stream.ceiling_kbps, "transport": stream.transport,
            "reorder_ms": stream.reorder_ms}


def _time(ns: int) -> str | None:
    return rfc3339(ns) if ns else None


def routes() -> list[Route]:
    """The routes of this module."""
    one = f"{ROOT}/cameras/{{camera}}"
    filters = (LIMIT, CURSOR, PARTNER, SITE, STATE)
    return [
        Route(
            "GET",
            f"{ROOT}/cameras",
            listing,
            "List cameras",
            scopes=VIEW_OR_ADMIN,
            parameters=filters,
            answers={200: Answer("a page of cameras", "CameraPage")},
        ),
        Route(
            "POST",
            f"{ROOT}/cameras",
            create,
            "Add a camera",
            scopes=ADMIN,
            body=NEW_SCHEMA,
            problems=(409, 422),
            answers={201: Answer("the camera as it is now", "Camera")},
        ),
        Route("GET", one, single, "One camera", scopes=VIEW_OR_ADMIN, answers={200: Answer("the camera", "Camera")}),
        Route(
            "PATCH",
            one,
            change,
            "Change a camera",
            scopes=ADMIN,
            body=CHANGE_SCHEMA,
            problems=(409, 422),
            answers={200: Answer("the camera as it is now", "Camera")},
        ),
        Route(
            "DELETE",
            one,
            remove,
            "Stop and hide a camera; footage stays under its rule",
            scopes=ADMIN,
            problems=(409,),
            answers={204: Answer("it is gone")},
        ),
    ]
