"""Every route there is, asked by a token that may do everything with another partner's cameras: what it does not reach does not exist."""

import json
import re
from typing import Any

import pytest

from api.application import all_routes
from api.parameters import Parameter
from api.routes import ROOT, Route
from recorder.base.media import NS
from tests.api.exporting import Holds, footage
from tests.storage_read.reference_writer import BASE_NS, RefVolume

SCOPES = ("view", "export", "hold", "admin", "metrics")
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/docs"), ("GET", "/docs.css"), ("GET", f"{ROOT}/openapi.json"),
        ("POST", f"{ROOT}/session"), ("DELETE", f"{ROOT}/session")}
RANGE = {"start": str(BASE_NS + 2 * NS), "end": str(BASE_NS + 8 * NS)}
VALUES = {**RANGE, "time": str(BASE_NS + 5 * NS), "hour": str(BASE_NS), "cameras": "{camera}", "camera": "{camera}", "by": "camera"}
PLACES = {"track": "main", "name": "1-0-0", "export": "0" * 32, "hold": "0" * 32, "session": "0" * 32}
BODIES: dict[str, Any] = {
    f"{ROOT}/exports": {"items": [{"camera": "{camera}", "start": BASE_NS + 2 * NS, "end": BASE_NS + 8 * NS}], "reason": "x"},
    f"{ROOT}/holds": {"cameras": ["{camera}"], "start": BASE_NS, "end": BASE_NS + NS, "reason": "x"},
    f"{ROOT}/links": {"address": f"{ROOT}/cameras/{{camera}}/clip.mp4"},
    f"{ROOT}/cameras/{{camera}}": {"name": "x"},
    f"{ROOT}/cameras": {"id": "{camera}", "main": {"url": "rtsp://10.0.0.9/1"}},
}


def routes() -> list[Route]:
    return [route for route in all_routes() if not route.websocket and route.path != f"{ROOT}/events"]


def named(route: Route) -> bool:
    """True if a request of the route can name a camera."""
    return "camera" in route.places or any(parameter.name in {"camera", "cameras"} for parameter in route.parameters) or (
        route.method == "POST" and route.path in BODIES)


@pytest.fixture
async def shared(start: Any, volume: RefVolume, holds: Holds) -> Any:
    """Two partners' cameras with footage, and the token of one partner with every scope."""
    footage(volume, 12, au_bytes=400)
    footage(volume, 12, au_bytes=400, camera=2)
    api = await start()
    api.clock.advance(3600)
    api.key = await api.token(*SCOPES, partner="council")
    return api


def wanted(parameter: Parameter[Any]) -> bool:
    return parameter.place == "query" and (parameter.required or parameter.name in {"camera", "cameras"})


def path_of(route: Route, camera: str) -> str:
    path = route.plain_path
    for place, value in {**PLACES, "camera": camera}.items():
        path = path.replace("{" + place + "}", value)
    return path


async def ask(api: Any, route: Route, camera: str, method: str = "", token: str = "") -> Any:
    path = path_of(route, camera)
    query = "&".join(f"{name}={VALUES[name].replace('{camera}', camera)}" for name in (one.name for one in route.parameters if wanted(one)))
    body = BODIES.get(route.path)
    more = {"json": json.loads(json.dumps(body).replace("{camera}", camera))} if body is not None and route.body is not None else {}
    return await api.ask(method or route.method, f"{path}?{query}" if query else path, token=token or api.key, **more)


def said(answer: Any, camera: str) -> tuple[int, bytes, list[tuple[str, str]]]:
    """The whole answer but for the time of day and the name that was asked for."""
    headers = [(name, value) for name, value in answer.headers.items() if name not in {"Date", "Content-Length"}]
    return answer.status, re.sub(rb"sig=[0-9a-f]{64}", b"sig=", answer.body.replace(camera.encode(), b"?")), headers


@pytest.mark.parametrize("route", [route for route in routes() if named(route)], ids=lambda route: f"{route.method} {route.path}")
async def test_another_partners_camera_is_one_that_is_not_there(shared: Any, route: Route) -> None:
    for method in [route.method, *(["HEAD"] if route.method == "GET" and route.head else [])]:
        hidden, missing = [await ask(shared, route, camera, method) for camera in ("yard", "nope")]
        assert said(hidden, "yard") == said(missing, "nope"), method
        if route.method == "GET" and not route.places:
            assert hidden.status in {404, 400} or json.loads(hidden.body or b'{"items": []}')["items"] == []
        else:
            assert hidden.status in ({201} if route.path.endswith("/links") else {400, 403, 404}), hidden.body
    assert {call for call, _ in shared.calls} <= {"hold.list"}


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_asks_who_it_is_and_what_for(proxied: Any, route: Route) -> None:
    """A route that is open to all stands in OPEN."""
    if (route.method, route.path) in OPEN:
        assert route.scopes is None
        return
    assert route.scopes
    publisher = await proxied.token("publish:north")
    headers = {"Origin": f"https://{proxied.host}"}
    nobody = await proxied.ask(route.method, path_of(route, "north"), headers=headers)
    assert nobody.status == 401 and "WWW-Authenticate" in nobody.headers
    if not route.path.endswith("/links"):
        assert (await ask(proxied, route, "north", token=publisher)).status == 403
    assert proxied.calls == []


async def test_lists_and_figures_hold_nothing_of_others(shared: Any) -> None:
    everything = await shared.token(*SCOPES)
    for body, path in ((BODIES[f"{ROOT}/exports"], "exports"), (BODIES[f"{ROOT}/holds"], "holds")):
        text = json.dumps(body).replace("{camera}", "yard")
        assert (await shared.ask("POST", path, token=everything, json=json.loads(text))).status in {201, 202}
    query = f"start={RANGE['start']}&end={RANGE['end']}"
    for path in ("cameras", "cameras?partner=depot", "holds?state=all", "exports", "deletions", f"completeness?{query}",
                 f"completeness?{query}&by=partner", f"completeness?{query}&by=site", "system"):
        answer = await shared.get(path, token=shared.key)
        assert answer.status == 200 and b"yard" not in answer.body and b"depot" not in answer.body, path


async def test_a_job_with_one_foreign_item_is_refused_whole(shared: Any, holds: Holds) -> None:
    for camera in ("yard", "nope"):
        items = [{"camera": one, "start": BASE_NS + 2 * NS, "end": BASE_NS + 8 * NS} for one in ("north", camera)]
        for query in ("", "?dry_run"):
            refused = await shared.ask("POST", f"exports{query}", token=shared.key, json={"items": items, "reason": "x", "format": "zip"})
            assert refused.status == 400 and refused.json["parameter"] == "items.1.camera"
            assert refused.json["detail"].replace(camera, "?") == "items.1.camera there is no camera ?"
    assert not holds.standing()
