"""`/deletions`: the ledger, for those who must account for footage: what went, why, since when it is unreadable, since when gone."""

import base64
import binascii
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import Grant
from api.cameras import LIMIT
from api.parameters import TIME_SCHEMA, Parameter, identifier, wrong
from api.registry import Registry
from api.routes import ADMIN, ROOT, Answer, Route
from api.side import SIDE
from api.times import parse_time, rfc3339
from storage.deletions import NO_KEY, Asked, Deleted, Key, deletions
from storage.store import TapeStore

FOREVER_NS = (1 << 63) - 1


def _cursor(text: str) -> Key:
    try:
        parts = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii").split(".") if len(text) <= 160 else []
        wall_ns, volume, slot, at, place = (int(part) for part in parts)
    except (ValueError, binascii.Error):
        raise ValueError("must be the `next` of an earlier page") from None
    return wall_ns, volume, slot, at, place


def _next(key: Key) -> str:
    return base64.urlsafe_b64encode(".".join(map(str, key)).encode()).decode()


SINCE = Parameter("start", parse_time, TIME_SCHEMA, "Only what was deleted from then on.", 0)
UNTIL = Parameter("end", parse_time, TIME_SCHEMA, "Only what was deleted before.", FOREVER_NS)
CAMERA = Parameter("camera", identifier, {"type": "string"}, "Only of the camera with this id, and of removed ones that bore it.", "")
AFTER = Parameter("cursor", _cursor, {"type": "string"}, "`next` of the page before.", NO_KEY)


async def listing(request: web.Request) -> web.Response:
    """A page of the ledger, the oldest deletion first."""
    registry, limit = request.app[keys.REGISTRY], LIMIT.of(request)
    if SINCE.of(request) >= UNTIL.of(request):
        raise wrong("end", "must be after start")
    asked = Asked(SINCE.of(request), UNTIL.of(request), _cameras(registry, request[keys.GRANT], CAMERA.of(request)), AFTER.of(request))
    found = await request.app[SIDE].run(_read, asked, limit + 1)
    names = {camera.number: camera.id for camera in registry.ever()}
    items = [described(one, names.get(one.camera)) for one in found[:limit]]
    return web.json_response({"items": items, "next": _next(found[limit - 1].key) if len(found) > limit else None})


def _cameras(registry: Registry, grant: Grant, camera_id: str) -> frozenset[int] | None:
    """Numbers of the cameras within reach (removed ones only where all are); None: of all, those that no catalogue knows among them."""
    if grant.unbounded() and not camera_id:
        return None
    known = registry.ever() if grant.unbounded() else registry.cameras()
    return frozenset(camera.number for camera in known if grant.reaches(camera) and camera_id in {"", camera.id})


def _read(store: TapeStore, asked: Asked, limit: int) -> list[Deleted]:
    return deletions(store.volumes(), asked, limit)


def described(one: Deleted, camera_id: str | None) -> dict[str, Any]:
    """A deletion as JSON."""
    return {
        "camera": camera_id,
        "number": one.camera,
        "track": one.track,
        "start": rfc3339(one.first_ns),
        "end": rfc3339(one.end_ns),
        "rows": one.rows,
        "bytes": one.nbytes,
        "cause": one.cause.word,
        "rule": one.why,
        "unreadable": rfc3339(one.unreadable_ns),
        "erased": rfc3339(one.erased_ns) if one.erased_ns is not None else None,
    }


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/deletions",
            listing,
            "What was deleted, and why",
            scopes=ADMIN,
            looks=True,
            parameters=(SINCE, UNTIL, CAMERA, LIMIT, AFTER),
            answers={200: Answer("a page of the ledger", "DeletionPage")},
            problems=(503,),
            tag="system",
        )
    ]
