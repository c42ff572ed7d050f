"""`/cameras/{camera}/whep`: an offer is traded for a session of live pictures over WebRTC (draft-ietf-wish-whep); the session is a resource."""

import asyncio
import functools
import ipaddress
import logging
import re
from collections.abc import AsyncIterator

from aiohttp import web

from api import keys
from api.authorise import Grant
from api.edge import BOARD
from api.guard import CLIENT
from api.metrics import EXTRA, Page
from api.parameters import BODY_S, Parameter, one_of
from api.problems import Problem
from api.registry import Registry
from api.routes import ROOT, VIEW, Answer, Route
from api.whep.desk import WHEP, Asked, WhepDesk
from api.whep.viewer import Viewer
from recorder.base.errors import NotFound, Refused
from recorder.base.media import SampleEntry
from recorder.base.tasks import TaskSet
from recorder.webrtc.offer import parse_offer
from storage.store import TapeStore

_log = logging.getLogger("watchroom.api")
SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
SMALL = Parameter("small", lambda text: one_of("0", "1")(text) == "1", {"type": "integer", "enum": [0, 1], "default": 0},
                  "1: the sub track, if it can be played.", False)
ICE_NAMES = re.compile(r"^a=ice-(ufrag|pwd):(\S{1,256})\s*$", re.MULTILINE)


async def begin(request: web.Request) -> web.Response:
    """201 with the answer; where the session is, in Location."""
    camera = request[keys.CAMERA]
    body = await _body(request)
    try:
        offer = parse_offer(body)
    except Refused as error:
        raise Problem(400, error.message, remedy=error.remedy) from None
    asked = Asked(request[keys.GRANT], camera.id, camera.number, SMALL.of(request), request.get(CLIENT, ""), _host(request))
    viewer, answer = await request.app[WHEP].answer(asked, offer)
    headers = {"Location": f"{ROOT}/cameras/{camera.id}/whep/{viewer.name}", "ETag": _etag(viewer), "Accept-Patch": FRAGMENT}
    return web.Response(status=201, body=answer.encode(), content_type=SDP, headers=headers)


async def look(request: web.Request) -> web.Response:
    """What becomes of the session: track, key pictures alone or all, what the browser reports; of one that has ended, why."""
    found = _find(request)
    return web.json_response(found.figures() if isinstance(found, Viewer) else found)


async def trickle(request: web.Request) -> web.Response:
    """204 for candidates, of which an ICE-lite server needs none (RFC 8445 2.5); 422 for an ICE restart: end the session, begin another."""
    viewer = _live(request)
    text = (await _body(request)).decode("utf-8", "replace")
    match = request.headers.get("If-Match")
    if match is not None and match not in {"*", _etag(viewer)}:
        raise Problem(412, "the session is another one by now", remedy="take its ETag")
    names = dict(ICE_NAMES.findall(text))
    if match == "*" or ("ufrag" in names and viewer.peer is not None and names["ufrag"] != viewer.peer.remote_ufrag):
        raise Problem(422, "ICE is not restarted here", remedy="DELETE this session and POST a new offer")
    return web.Response(status=204)


async def end(request: web.Request) -> web.Response:
    """End it."""
    found = _find(request)
    if isinstance(found, Viewer):
        request.app[WHEP].end(found, "its viewer has ended it")
    return web.Response(status=200)


def _find(request: web.Request) -> "Viewer | dict[str, object]":
    return request.app[WHEP].find(request.match_info["session"], request[keys.CAMERA].id, request[keys.GRANT])


def _live(request: web.Request) -> Viewer:
    found = _find(request)
    if not isinstance(found, Viewer):
        raise NotFound("this session has ended")
    return found


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise Problem(408, "the body did not arrive in time") from None


def _etag(viewer: Viewer) -> str:
    """Of the ICE session; it never changes, since ICE is not restarted."""
    return f'"{viewer.name[:16]}"'


def _host(request: web.Request) -> str:
    """The address of ours that the request came to."""
    found = request.transport.get_extra_info("sockname") if request.transport is not None else None
    address = ipaddress.ip_address(str(found[0]).partition("%")[0]) if found else ipaddress.IPv4Address("127.0.0.1")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def newest_entry(store: TapeStore, number: int, name: str) -> SampleEntry | None:
    """How the track's newest row is coded; None if nothing has been recorded."""
    try:
        reader = store.track(number, name)
    except NotFound:
        return None
    edges = reader.edges()
    run = reader.rows_from(max(edges.next_row - (0 if edges.has_open else 1), edges.first_row), 1)
    return reader.sample_entry(int(run.rows["sample_entry"][0])) if len(run) else None


def _reaches(registry: Registry, grant: Grant, camera_id: str) -> bool:
    camera = registry.camera(camera_id)
    return camera is not None and grant.reaches(camera)


async def context(app: web.Application) -> AsyncIterator[None]:
    """For `app.cleanup_ctx`, behind that of the edge: puts WHEP on the application, and ends it."""
    desk = app[WHEP] = WhepDesk(app[keys.SITE].webrtc, app[keys.CLOCK], app[BOARD], functools.partial(newest_entry, app[keys.STORE]),
                                functools.partial(_reaches, app[keys.REGISTRY]))
    tasks = TaskSet(_log)
    desk.open()
    tasks.start("webrtc", desk.run)
    app[EXTRA].append(figures)
    yield
    await tasks.close()
    desk.close()


def figures(page: Page, app: web.Application) -> None:
    """For /metrics."""
    desk = app[WHEP]
    viewers = desk.viewers
    page.family("watchroom_whep_sessions", "gauge", "WebRTC sessions by state.",
                [({"state": state}, sum(one.state == state for one in viewers)) for state in ("connecting", "waiting", "playing")])
    page.family("watchroom_whep_thinned_sessions", "gauge", "Sessions that are sent key pictures alone because their way carries no more.",
                [({}, sum(one.rung.keys_only for one in viewers))])
    page.family("watchroom_whep_refused_total", "counter", "Offers that were refused, by why.",
                [({"why": why}, n) for why, n in sorted(desk.refused.items())])
    for name, place, text in (("packets", 0, "RTP packets sent over WebRTC."), ("octets", 1, "Payload bytes of those."),
                              ("dropped", 2, "Packets that the socket did not take.")):
        page.family(f"watchroom_whep_{name}_total", "counter", text, [({}, desk.totals[name] + sum(one.sent[place] for one in viewers))])
    for name, text in (("nacked", "Packets that viewers asked for again."), ("repaired", "Of those, packets that were sent again."),
                       ("plis", "Wishes for a key picture."), ("restarts", "Picture groups that were sent again for that.")):
        page.family(f"watchroom_whep_{name}_total", "counter", text,
                    [({}, desk.totals[name] + sum(getattr(one.told, name) for one in viewers))])
    if desk.mux is not None:
        counts = desk.mux.counts
        page.family("watchroom_webrtc_datagrams_refused_total", "counter", "Datagrams that came to the WebRTC port and meant nothing, by kind.",
                    [({"kind": "stun"}, counts.stun_refused), ({"kind": "stranger"}, counts.strangers),
                     ({"kind": "srtp"}, counts.srtp_refused),
                     ({"kind": "flood"}, counts.flood)])


def routes() -> list[Route]:
    """The routes of this module."""
    place = f"{ROOT}/cameras/{{camera}}/whep"
    session = place + "/{session}"
    return [
        Route("POST", place, begin, "Watch live over WebRTC (WHEP): an SDP offer for its answer", scopes=VIEW, parameters=(SMALL,), tag="media",
              body={"type": "string"}, body_type=SDP, problems=(404, 406, 415, 429, 501, 503),
              answers={201: Answer("the answer; Location is the session", media_type=SDP)}),
        Route("GET", session, look, "How a WebRTC session fares", scopes=VIEW, tag="media", problems=(404,),
              answers={200: Answer("track, pictures, what the browser reports", {"type": "object"})}),
        Route("PATCH", session, trickle, "Candidates of a WebRTC session (none is needed)", scopes=VIEW, tag="media",
              body={"type": "string"}, body_type=FRAGMENT, problems=(404, 412, 415, 422), answers={204: Answer("understood")}),
        Route("DELETE", session, end, "End a WebRTC session", scopes=VIEW, tag="media", problems=(404,), answers={200: Answer("it has ended")}),
    ]
