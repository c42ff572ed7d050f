"""The HTTP application: every route declared, every door in front of it, put together in one place."""

import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from api import (
    cameras,
    clip,
    clockwork,
    completeness,
    deletions,
    docs,
    documents,
    edge,
    events,
    health,
    hls,
    holds,
    keys,
    live,
    livehls,
    media,
    metrics,
    minutes,
    openapi,
    pages,
    picture,
    sessions,
    sheets,
    stream,
    system,
    timeline,
    together,
)
from api.access import ANSWERS, access
from api.authorise import Authority, within_reach
from api.clips import CLIPS, DERIVING, PICTURES, PICTURES_PER_HOLDER, STREAMS, STREAMS_PER_HOLDER, ClipSlots
from api.connections import DOORS, Doors
from api.credentials import AUTHORITY, find_grant
from api.events import EVENTS, EventLog
from api.exports import routes as exports
from api.exports.desk import Desk
from api.guard import GUARD, Guard, guard, is_loopback, seal_headers
from api.lag import LAG, Lag
from api.livehub import HUBS, Hubs
from api.liveparts import KnownRows
from api.parameters import BODY_MAX, check_names
from api.problems import Problem, problems
from api.registry import Registry
from api.replay import presentation as replay
from api.routes import Route
from api.side import SIDE, Side
from api.status import StatusBoard
from api.turns import TURNS, Turns
from api.whep import routes as whep
from recorder.base.clock import Clock
from recorder.base.config import SiteConfig
from recorder.base.errors import NotFound
from recorder.base.media import valid_id
from storage.store import TapeStore


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of. `key` (32 bytes) seals sessions and signed URLs."""

    site: SiteConfig
    clock: Clock
    store: TapeStore
    registry: Registry
    status: StatusBoard
    supervisor: keys.Supervisor
    side: Side
    key: bytes = field(repr=False)
    per_client: int = 200


def all_routes() -> list[Route]:
    """Every route of the API, described; the pages come besides."""
    own = (
        cameras, timeline, minutes, completeness, deletions, clockwork, clip, together, hls, livehls, stream, picture, sheets,
        documents, live, whep, holds, exports, events, system, sessions, health, metrics, openapi, docs,
    )
    return [route for module in own for route in module.routes()]


def make_application(parts: Parts, routes: Iterable[Route] | None = None) -> web.Application:
    """The application, not started."""
    app = web.Application(middlewares=[access, problems, guard], client_max_size=BODY_MAX)
    _furnish(app, parts)
    app.on_response_prepare.append(seal_headers)
    described = list(all_routes() if routes is None else routes)
    app[openapi.DESCRIPTION] = openapi.describe(described)
    for route in described:
        add(app, route)
    pages.add(app)
    app.cleanup_ctx.append(media.context)
    app.cleanup_ctx.append(edge.context)
    app.cleanup_ctx.append(replay.context)
    app.cleanup_ctx.append(whep.context)
    return app


def _furnish(app: web.Application, parts: Parts) -> None:
    server = parts.site.server
    open_door = is_loopback(server.listen) and not (server.tls and server.tls.proxy)
    app[keys.SITE], app[keys.CLOCK], app[keys.STORE] = parts.site, parts.clock, parts.store
    app[keys.REGISTRY], app[keys.STATUS], app[keys.SUPERVISOR] = parts.registry, parts.status, parts.supervisor
    app[GUARD] = Guard.of(server)
    app[AUTHORITY] = Authority(parts.registry, parts.clock, parts.key, open_door=open_door)
    app[CLIPS], app[STREAMS] = ClipSlots(), ClipSlots(STREAMS_PER_HOLDER, "streams")
    app[DERIVING] = ClipSlots(what="streams with derived sound")
    app[PICTURES] = ClipSlots(PICTURES_PER_HOLDER, "pictures")
    app[DOORS] = Doors(0 if app[GUARD].proxied else parts.per_client)
    app[EVENTS], app[livehls.KNOWN], app[HUBS] = EventLog(parts.clock), KnownRows(), Hubs(app)
    app[SIDE], app[LAG] = parts.side, Lag(parts.clock)
    app[ANSWERS], app[TURNS] = Counter(), Turns()
    app[completeness.COMPLETE] = completeness.Completeness(parts.clock)
    app[metrics.EXTRA] = []
    app[metrics.EXTRA].append(completeness.figures)
    app[exports.DESK] = Desk(parts.site, parts.clock, parts.supervisor, functools.partial(exports.tell, app))
    app[metrics.EXTRA].append(exports.figures)
    parts.status.watch(functools.partial(events.state_changed, app[EVENTS], parts.registry))


def add(app: web.Application, route: Route) -> None:
    """Put a declared route behind its door."""
    entry = functools.partial(enter, route)
    app.router.add_route(route.method, route.path, entry)
    if route.method == "GET" and route.head and not route.websocket:
        app.router.add_route("HEAD", route.path, entry)


async def enter(route: Route, request: web.Request) -> web.StreamResponse:
    """The route's door: ids, who asks, what is asked; then the handler."""
    for place in route.places:
        if place in {"camera", "track"} and not valid_id(request.match_info[place]):
            raise NotFound(f"there is no such {place}")
    if route.scopes is not None:
        grant = await find_grant(request, signable=route.signable)
        request[keys.GRANT] = grant
        grant.require(route.scopes)
        if "camera" in route.places:
            request[keys.CAMERA] = within_reach(grant, request.app[keys.REGISTRY], request.match_info["camera"])
    check_names(request, route.parameters, route.signable)
    _check_body(route, request)
    if not route.looks:
        return await route.handler(request)
    async with request.app[TURNS].take(request[keys.GRANT].holder):
        return await route.handler(request)


def _check_body(route: Route, request: web.Request) -> None:
    if route.body is None:
        return
    if request.content_type != route.body_type or hdrs.CONTENT_ENCODING in request.headers:
        raise Problem(415, "the body must be plain " + route.body_type, remedy="send Content-Type: " + route.body_type)
    if (request.content_length or 0) > BODY_MAX:
        raise Problem(413, "the body is larger than 64 KiB")
