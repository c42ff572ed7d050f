"""`/session`: a browser's cookie for a token; `/links`: an address that a player can open by itself for a while."""

import re

from aiohttp import web

from api import keys
from api.authorise import LINK_S, Grant, Scope
from api.credentials import AUTHORITY, cookie_name, signed_address
from api.guard import GUARD
from api.parameters import json_body, wrong
from api.problems import Problem
from api.routes import ROOT, Answer, Route
from api.times import rfc3339
from recorder.base.media import NS

ANY = frozenset(Scope)
CAMERAS = re.escape(f"{ROOT}/cameras/") + r"[a-z0-9][a-z0-9-]{0,47}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){1,3}"
EXPORT = rf"{re.escape(ROOT)}/exports/[0-9a-f]{{32}}/(?:result|manifest)"
ADDRESS = re.compile(rf"(?:{CAMERAS}|{re.escape(ROOT)}/clip\.(?:mp4|zip|json)|{EXPORT})(?:\?[!$-;=?-Z_a-z~]*)?")
ADDRESS_MAX = 2048
SESSION_BODY = {
    "type": "object",
    "required": ["token"],
    "additionalProperties": False,
    "properties": {"token": {"type": "string", "format": "password", "description": "wr_ and 43 characters"}},
}
LINK_BODY = {
    "type": "object",
    "required": ["address"],
    "additionalProperties": False,
    "properties": {
        "address": {"type": "string", "description": "path and query of a GET here, e.g. /api/v1/cameras/north/clip.mp4?start=...&end=..."},
        "seconds": {"type": "integer", "minimum": 1, "maximum": LINK_S, "default": 3600},
    },
}


async def begin(request: web.Request) -> web.Response:
    """Trade a token for a cookie that scripts cannot read and other sites cannot send."""
    body = await json_body(request)
    text = body.get("token")
    authority = request.app[AUTHORITY]
    await request.app[keys.REGISTRY].refresh_if_stale()
    grant = authority.bearer(text) if isinstance(text, str) else None
    if grant is None:
        raise Problem(401, "this token is not known, has expired or was revoked")
    value, life_s = authority.session(grant)
    answer = web.Response(status=204)
    secure = request.app[GUARD].scheme == "https"
    answer.set_cookie(cookie_name(secure), value, max_age=life_s, path="/", httponly=True, samesite="Strict", secure=secure)
    return answer


async def end(request: web.Request) -> web.Response:
    """Forget the cookie."""
    answer = web.Response(status=204)
    secure = request.app[GUARD].scheme == "https"
    answer.set_cookie(cookie_name(secure), "", max_age=0, path="/", httponly=True, samesite="Strict", secure=secure)
    return answer


async def make_link(request: web.Request) -> web.Response:
    """Sign an address for a player: bound to path and parameters, ends by itself, and with the token."""
    body = await json_body(request)
    address, seconds = body.get("address"), body.get("seconds", 3600)
    if not isinstance(address, str) or not _signable(address):
        raise wrong("address", f"must be a path below {ROOT}/cameras/, {ROOT}/clip.*, or an export's result, as it will be asked for")
    if type(seconds) is not int or not 1 <= seconds <= LINK_S:
        raise wrong("seconds", f"must be an integer from 1 to {LINK_S}")
    grant: Grant = request[keys.GRANT]
    until_s = request.app[keys.CLOCK].wall_ns() // NS + seconds
    url = signed_address(request.app[AUTHORITY], grant, address, until_s)
    return web.json_response({"address": url, "expires": rfc3339(until_s * NS)}, status=201)


def _signable(address: str) -> bool:
    return len(address) <= ADDRESS_MAX and ADDRESS.fullmatch(address) is not None and "sig=" not in address


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "POST",
            f"{ROOT}/session",
            begin,
            "Trade a token for a browser's cookie",
            scopes=None,
            body=SESSION_BODY,
            tag="access",
            answers={204: Answer("the cookie is set")},
            problems=(401,),
        ),
        Route(
            "DELETE",
            f"{ROOT}/session",
            end,
            "Forget the browser's cookie",
            scopes=None,
            tag="access",
            answers={204: Answer("the cookie is gone")},
        ),
        Route(
            "POST",
            f"{ROOT}/links",
            make_link,
            "Sign an address for a player",
            scopes=ANY,
            body=LINK_BODY,
            tag="access",
            answers={201: Answer("the signed address", "Link")},
        ),
    ]
