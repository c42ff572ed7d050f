"""The first door: other people's pages, rebinding names and unexpected proxies get nothing."""

from typing import Any

import pytest

from api.application import all_routes
from api.guard import check_exposure, is_loopback
from recorder.base.config import ServerConfig, TlsConfig
from recorder.base.errors import ConfigError


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8080",
        b"127.0.0.1.evil.example",
        b"127.0.0.1@evil.example",
        b"evil.example#127.0.0.1",
        b"127.0.0.2",
        b"localhost.",
        b"[::1]:80:80",
        b"127.0.0.1:",
        b"127.0.0.1:999999",
        b"127.0.0.1:80a",
        b"",
        b"127.0.0.1, evil.example",
        b"127.0.0.1:80/x",
    ],
)
async def test_a_rebinding_host_gets_nothing(api: Any, host: bytes) -> None:
    for path in (b"/", b"/api/v1/cameras", b"/api/v1/cameras/north", b"/main.js", b"/metrics", b"/nothing"):
        answer = await api.raw_get(path, host=host or b" ")
        assert answer.status in {400, 421}
        assert b"north" not in answer.body and b"<html" not in answer.body


async def test_two_hosts_are_not_one(api: Any) -> None:
    assert (await api.raw_get(b"/api/v1/cameras", b"Host: evil.example")).status == 400


async def test_a_request_without_a_host_is_refused(api: Any) -> None:
    assert (await api.raw(b"GET /api/v1/cameras HTTP/1.0\r\n\r\n")).status == 421


@pytest.mark.parametrize(
    "target", [b"http://evil.example/api/v1/cameras", b"http://127.0.0.1/api/v1/cameras", b"*", b"evil.example:443", b"api/v1/cameras"]
)
async def test_a_target_that_is_no_path_is_refused(api: Any, target: bytes) -> None:
    answer = await api.raw_get(target)
    assert 400 <= answer.status < 500
    assert b"north" not in answer.body


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto", "X-FORWARDED-ANYTHING"])
async def test_loopback_behind_an_unknown_proxy_is_not_loopback(api: Any, name: str) -> None:
    assert (await api.get("cameras", headers={name: "1.2.3.4"})).status == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example", ""]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_foreign_origin_gets_nothing(api: Any, origin: str, method: str) -> None:
    answer = await api.ask(method, "cameras", headers={"Origin": origin.format(port=api.served.port)})
    assert answer.status == 403
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert b"north" not in answer.body


async def test_our_own_origin_may_read_and_change(api: Any) -> None:
    assert (await api.get("cameras", headers={"Origin": api.origin})).status == 200
    made = await api.ask("POST", "cameras", headers={"Origin": api.origin}, json={"id": "new", "main": {"url": "rtsp://10.0.0.9/1"}})
    assert made.status == 201


async def test_a_change_with_neither_origin_nor_token_is_refused_even_on_loopback(api: Any) -> None:
    answer = await api.ask("POST", "cameras", json={"id": "new", "main": {"url": "rtsp://10.0.0.9/1"}})
    assert answer.status == 403
    assert api.calls == []


async def test_a_cookie_alone_changes_nothing(api: Any) -> None:
    token = await api.token("admin")
    session = await api.ask("POST", "session", headers={"Origin": api.origin}, json={"token": token})
    cookie = session.headers["Set-Cookie"].partition(";")[0]
    assert (await api.ask("DELETE", "cameras/north", headers={"Cookie": cookie})).status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "video"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 200),
    ],
)
async def test_another_site_cannot_embed_what_it_cannot_read(api: Any, headers: dict[str, str], status: int) -> None:
    assert (await api.get("cameras", headers=headers)).status == status


async def test_a_websocket_needs_our_origin_or_a_token(api: Any) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert (await api.get("cameras", headers=upgrade)).status == 403
    assert (await api.get("cameras", headers={**upgrade, "Origin": "https://evil.example"})).status == 403
    assert (await api.get("cameras", headers={**upgrade, "Origin": api.origin})).status == 200


async def test_only_a_configured_origin_hears_cors_and_never_with_credentials(start: Any) -> None:
    api: Any = await start(origins=("https://wall.example",))
    answer = await api.get("cameras", headers={"Origin": "https://wall.example"})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"], answer.headers["Vary"]) == (200, "https://wall.example", "Origin")
    assert "Access-Control-Allow-Credentials" not in answer.headers
    preflight = await api.ask("OPTIONS", "cameras", headers={"Origin": "https://wall.example", "Access-Control-Request-Method": "POST"})
    assert preflight.status == 204
    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {one.name.lower() for route in all_routes() for one in route.parameters if one.place == "header"}
    assert (await api.ask("DELETE", "cameras/north", headers={"Origin": "https://wall.example"})).status == 403
    assert (await api.get("cameras")).headers["Vary"] == "Origin"
    foreign = await api.get("cameras", headers={"Origin": "https://wall.example.evil"})
    assert foreign.status == 403 and "Access-Control-Allow-Origin" not in foreign.headers


async def test_every_answer_bears_the_headers_that_contain_it(api: Any) -> None:
    for path in ("/", "/docs", "/nothing", "/api/v1/cameras", "/healthz"):
        headers = (await api.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "aiohttp" not in headers["Server"]


async def test_behind_the_configured_proxy_its_headers_are_welcome(proxied: Any) -> None:
    token = await proxied.token("view")
    answer = await proxied.get("cameras", token=token, headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    assert answer.status == 200
    assert (await proxied.get("cameras", headers={"X-Forwarded-For": "127.0.0.1"})).status == 401


@pytest.mark.parametrize(
    ("server", "tokens", "says"),
    [
        (ServerConfig(listen="0.0.0.0"), 1, "no TLS"),
        (ServerConfig(listen="192.168.1.5"), 5, "no TLS"),
        (ServerConfig(listen="::"), 1, "no TLS"),
        (ServerConfig(listen="nvr.example"), 1, "no TLS"),
        (ServerConfig(listen="0.0.0.0", tls=TlsConfig(proxy=True)), 0, "no token"),
        (ServerConfig(listen="127.0.0.1", tls=TlsConfig(proxy=True)), 0, "no token"),
        (ServerConfig(listen="127.0.0.1", tls=TlsConfig()), 1, "both cert and key"),
    ],
)
def test_a_server_others_can_reach_does_not_start_unguarded(server: ServerConfig, tokens: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_exposure(server, tokens)


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")))
    check_exposure(ServerConfig(), 0)
