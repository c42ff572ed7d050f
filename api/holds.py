"""`/holds`: footage that retention must not touch, for as long as somebody says so. The supervisor takes and releases; reads ask it too."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import Grant, Scope
from api.cameras import LIMIT
from api.exports.job import AUTHOR
from api.hold_body import HOLD_SCHEMA, read_hold
from api.parameters import Parameter, json_body, one_of, wrong
from api.registry import Registry
from api.routes import ROOT, Answer, Route
from api.times import rfc3339
from recorder.base.errors import Conflict, NotFound
from storage.camera_record import CameraRecord

HOLD = frozenset({Scope.HOLD})
AUTHOR_MAX = 100


def _after(text: str) -> str:
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise ValueError("must be the `next` of an earlier page")
    return text


AFTER = Parameter("cursor", _after, {"type": "string"}, "`next` of the page before.", "")
STATE = Parameter("state", one_of("standing", "all"), {"enum": ["standing", "all"]}, "all: released ones too.", "standing")


async def listing(request: web.Request) -> web.Response:
    """A page of the holds all of whose cameras are within reach, by id."""
    registry, grant, limit = request.app[keys.REGISTRY], request[keys.GRANT], LIMIT.of(request)
    after, more = AFTER.of(request), True
    items: list[dict[str, Any]] = []
    while more and len(items) < limit:
        page = await request.app[keys.SUPERVISOR].call("hold.list", {"after": after, "released": STATE.of(request) == "all"})
        more = bool(page["more"])
        for hold in page["holds"]:
            if len(items) == limit:
                more = True
                break
            after = hold["id"]
            if _reaches(grant, registry, hold):
                items.append(described(hold, registry))
    return web.json_response({"items": items, "next": after if more else None})


async def create(request: web.Request) -> web.Response:
    """Hold from now on: 201 when every slot has it durably, 202 while some have not."""
    registry, grant = request.app[keys.REGISTRY], request[keys.GRANT]
    asked = read_hold(await json_body(request), request.app[keys.CLOCK].wall_ns())
    numbers = sorted({camera.number for name in asked.cameras for camera in camera_records(registry, grant, "cameras", name)})
    spans = [{"camera": number, "track": asked.track, "start_ns": asked.start_ns, "end_ns": asked.end_ns} for number in numbers]
    hold = {"reason": asked.reason, "reference": asked.reference, "author": asked.owner or author(grant), "review_ns": asked.review_ns,
            "spans": spans}
    said = await request.app[keys.SUPERVISOR].call("hold.add", {"hold": hold})
    names = _names(registry)
    body = {**described(said["hold"], registry), "found": [_found(one, names) for one in said["found"]], "pending": said["pending"]}
    return web.json_response(body, status=202 if said["pending"] else 201, headers={"Location": f"{ROOT}/holds/{said['hold']['id']}"})


async def release(request: web.Request) -> web.Response:
    """Hold no more: what nothing else keeps goes within the hour. 202 while some slots have not been told."""
    registry, grant = request.app[keys.REGISTRY], request[keys.GRANT]
    hold_id = request.match_info["hold"]
    found = await _known(request, hold_id)
    if found is None:
        raise NotFound("there is no such hold", remedy="see the list of holds")
    if found["author"] == AUTHOR and not found["released_ns"]:
        raise Conflict("an export needs this footage, and releases it when it has ended", remedy="cancel the " + found["reference"])
    said = await request.app[keys.SUPERVISOR].call("hold.release", {"id": hold_id, "by": author(grant)})
    return web.json_response({**described(said["hold"], registry), "pending": said["pending"]}, status=202 if said["pending"] else 200)


async def _known(request: web.Request, hold_id: str) -> Mapping[str, Any] | None:
    """The hold, if there is such a one within reach."""
    try:
        _after(hold_id)
    except ValueError:
        return None
    before = f"{int(hold_id, 16) - 1:032x}" if int(hold_id, 16) else ""
    page = await request.app[keys.SUPERVISOR].call("hold.list", {"after": before, "released": True})
    found: Mapping[str, Any] | None = next((hold for hold in page["holds"] if hold["id"] == hold_id), None)
    return found if found is not None and _reaches(request[keys.GRANT], request.app[keys.REGISTRY], found) else None


def camera_records(registry: Registry, grant: Grant, where: str, camera_id: str) -> Iterable[CameraRecord]:
    """The camera of this id within reach; for who reaches all, removed ones that bore it too: their footage may still be there."""
    found = registry.camera(camera_id)
    ever = [camera for camera in registry.ever() if camera.id == camera_id] if grant.unbounded() else []
    if found is not None and grant.reaches(found):
        return {found.number: found, **{camera.number: camera for camera in ever}}.values()
    if not ever:
        raise wrong(where, f"there is no camera {camera_id}")
    return ever


def _reaches(grant: Grant, registry: Registry, hold: Mapping[str, Any]) -> bool:
    return reaches_all(grant, registry, {span["camera"] for span in hold["spans"]})


def reaches_all(grant: Grant, registry: Registry, numbers: Iterable[int]) -> bool:
    """True if all cameras of these numbers are within reach."""
    known = [registry.camera_by_number(number) for number in numbers]
    return grant.unbounded() or all(camera is not None and grant.reaches(camera) for camera in known)


def author(grant: Grant) -> str:
    """Who asks, by the name of the token; nobody goes by the name of the exports, which release what bears it."""
    name = grant.token.name[:AUTHOR_MAX] if grant.token is not None else ""
    return name if name and name != AUTHOR else grant.holder


def _names(registry: Registry) -> dict[int, str]:
    return {camera.number: camera.id for camera in registry.ever()}


def described(hold: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """A hold as JSON."""
    names = _names(registry)
    return {
        "id": hold["id"],
        "reason": hold["reason"],
        "reference": hold["reference"],
        "owner": hold["author"],
        "created": rfc3339(hold["created_ns"]),
        "review": rfc3339(hold["review_ns"]) if hold["review_ns"] else None,
        "released": rfc3339(hold["released_ns"]) if hold["released_ns"] else None,
        "released_by": hold["released_by"],
        "spans": [
            {"camera": names.get(span["camera"]), "number": span["camera"], "track": span["track"], **_range(span["start_ns"], span["end_ns"])}
            for span in hold["spans"]
        ],
    }


def _found(one: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "camera": names.get(one["camera"]),
        "number": one["camera"],
        "track": one["track"],
        "kept": [_range(*pair) for pair in one["kept"]],
        "too_late": [_range(*pair) for pair in one["late"]],
    }


def _range(start_ns: int, end_ns: int) -> dict[str, Any]:
    return {"start": rfc3339(start_ns), "end": rfc3339(end_ns), "start_ns": start_ns, "end_ns": end_ns}


def routes() -> list[Route]:
    """The routes of this module."""
    one = Parameter("hold", str, {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "The hold's id.", place="path")
    taken = Answer("the hold, what of its time is kept, and what was gone before it came; 202: slots that have yet to take it", "HoldTaken")
    over = Answer("the hold; 202: slots that have yet to be told", "HoldReleased")
    return [
        Route("GET", f"{ROOT}/holds", listing, "List holds", scopes=HOLD, parameters=(STATE, LIMIT, AFTER),
              answers={200: Answer("a page of holds", "HoldPage")}, tag="holds"),
        Route("POST", f"{ROOT}/holds", create, "Keep footage from retention", scopes=HOLD, body=HOLD_SCHEMA,
              answers={201: taken, 202: taken}, problems=(409, 503), tag="holds"),
        Route("DELETE", f"{ROOT}/holds/{{hold}}", release, "Release a hold", scopes=HOLD, parameters=(one,),
              answers={200: over, 202: over}, problems=(404, 409), tag="holds"),
    ]
