"""Tokens: scopes, reach, expiry, revocation; sessions and signed links end with them."""

import asyncio
import hashlib
import sqlite3
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from api.routes import ROOT

CAMERA = {"id": "new", "main": {"url": "rtsp://10.0.0.9/1"}}
CLIP = f"{ROOT}/cameras/north/clip.mp4?start=2026-01-01T00:00:00%2B00:00&end=2026-01-01T00:00:10Z"


async def test_nobody_gets_in_without_a_token_where_others_can_reach(proxied: Any) -> None:
    for path in ("cameras", "cameras/north", "system", "events", "/metrics", "cameras/north/timeline?start=0&end=1"):
        answer = await proxied.get(path)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="watchroom"')
    assert (await proxied.get("/healthz")).status == 200


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer wr_", "Bearer x", "Basic dXNlcjpwYXNz", "wr_abc", "Bearer " + "wr_" + "A" * 43, "Bearer \x7f"]
)
async def test_a_bad_token_is_never_nobody(api: Any, header: str) -> None:
    assert (await api.get("cameras")).status == 200
    assert (await api.raw_get(b"/api/v1/cameras", b"Authorization: " + header.encode("latin-1"))).status in {400, 401}


@pytest.mark.parametrize(
    ("scope", "opens"),
    [
        ("view", {"cameras", "cameras/north", "system", "events", "cameras/north/timeline?start=0&end=1"}),
        ("metrics", {"/metrics", "system"}),
        ("export", set()),
        ("hold", set()),
        ("publish:north", set()),
        ("admin", {"cameras", "cameras/north", "system", "events", "cameras/north/timeline?start=0&end=1", "/metrics"}),
    ],
)
async def test_a_scope_opens_its_own_doors_only(proxied: Any, scope: str, opens: set[str]) -> None:
    token = await proxied.token(scope)
    for path in ("cameras", "cameras/north", "system", "events", "/metrics", "cameras/north/timeline?start=0&end=1"):
        address = path if path.startswith("/") else f"/api/v1/{path}"
        async with proxied.client.get(proxied.origin + address, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == (200 if path in opens else 403), path


@pytest.mark.parametrize("scope", ["view", "export", "hold", "metrics", "publish:north"])
async def test_only_admin_changes_cameras(proxied: Any, scope: str) -> None:
    token = await proxied.token(scope)
    assert (await proxied.ask("POST", "cameras", token=token, json=CAMERA)).status == 403
    assert (await proxied.ask("PATCH", "cameras/north", token=token, json={"name": "x"})).status == 403
    assert (await proxied.ask("DELETE", "cameras/north", token=token)).status == 403
    assert proxied.calls == []


@pytest.mark.parametrize("reach", [{"cameras": ["north"]}, {"partner": "council"}])
async def test_cameras_out_of_reach_do_not_exist(proxied: Any, reach: dict[str, Any]) -> None:
    token = await proxied.token("admin", **reach)
    assert [item["id"] for item in (await proxied.get("cameras", token=token)).json["items"]] == ["north"]
    hidden, missing = [await proxied.get(f"cameras/{name}", token=token) for name in ("yard", "nowhere")]
    assert (hidden.status, missing.status) == (404, 404)
    assert hidden.body == missing.body
    assert (await proxied.get("cameras/yard/timeline?start=0&end=1", token=token)).status == 404
    assert (await proxied.ask("DELETE", "cameras/yard", token=token)).status == 404
    assert (await proxied.get("system", token=token)).json["cameras"] == {"unknown": 1}


async def test_a_token_of_some_cameras_neither_adds_nor_moves_any(proxied: Any) -> None:
    token = await proxied.token("admin", partner="council")
    assert (await proxied.ask("POST", "cameras", token=token, json=CAMERA)).status == 403
    assert (await proxied.ask("PATCH", "cameras/north", token=token, json={"partner": "depot"})).status == 403
    assert proxied.calls == []


async def test_an_expired_token_is_none(proxied: Any) -> None:
    token = await proxied.token("view", expires_ns=proxied.clock.wall_ns() + 60_000_000_000)
    assert (await proxied.get("cameras", token=token)).status == 200
    proxied.clock.advance(60)
    assert (await proxied.get("cameras", token=token)).status == 401


async def test_a_token_made_just_now_is_known(proxied: Any) -> None:
    _, token = proxied.catalogue.add_token("new", ["view"])
    assert (await proxied.get("cameras", token=token)).status == 200


async def test_at_rest_there_is_no_token(proxied: Any) -> None:
    token = await proxied.token("view")
    at_rest = sqlite3.connect(proxied.site.catalogue).execute("SELECT sha256 FROM token").fetchall()
    assert (hashlib.sha256(token.encode()).digest(),) in at_rest
    assert not [path for path in proxied.site.state_dir.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


async def test_a_revoked_token_ends_open_streams_within_5_s(proxied: Any) -> None:
    token = await proxied.token("view")
    async with proxied.client.get(f"{proxied.origin}/api/v1/events", headers={"Authorization": f"Bearer {token}"}) as stream:
        await stream.content.readany()
        proxied.catalogue.revoke_token(max(record.number for record in proxied.catalogue.tokens()))
        async with asyncio.timeout(120):
            await stream.content.read()  # returns at the stream's end
    assert (await proxied.get("cameras", token=token)).status == 401


async def session(api: Any, token: str) -> Any:
    return await api.ask(
        "POST", "session", headers={"Origin": f"{'https' if api.site.server.tls else 'http'}://{api.host}"}, json={"token": token}
    )


async def test_a_session_cookie_is_for_this_browser_and_server_alone(proxied: Any, api: Any) -> None:
    token = await proxied.token("view")
    secure, plain = await session(proxied, token), await session(api, token)
    assert secure.status == plain.status == 204
    for answer in (secure, plain):
        parts = {part.strip().partition("=")[0].lower() for part in answer.headers["Set-Cookie"].split(";")}
        assert {"httponly", "samesite", "path", "max-age"} <= parts and "domain" not in parts
        assert "SameSite=Strict" in answer.headers["Set-Cookie"]
        assert token not in answer.headers["Set-Cookie"]
    assert secure.headers["Set-Cookie"].startswith("__Host-watchroom=") and "Secure" in secure.headers["Set-Cookie"]
    assert "Secure" not in plain.headers["Set-Cookie"]


async def test_a_session_reads_and_ends_with_its_token(proxied: Any) -> None:
    cookie = (await session(proxied, await proxied.token("view"))).headers["Set-Cookie"].partition(";")[0]
    assert (await proxied.get("cameras", headers={"Cookie": cookie})).status == 200
    proxied.catalogue.revoke_token(max(record.number for record in proxied.catalogue.tokens()))
    await proxied.refresh()
    assert (await proxied.get("cameras", headers={"Cookie": cookie})).status == 401


async def test_a_session_ends_by_itself(proxied: Any) -> None:
    cookie = (await session(proxied, await proxied.token("view"))).headers["Set-Cookie"].partition(";")[0]
    proxied.clock.advance(30 * 86_400)
    assert (await proxied.get("cameras", headers={"Cookie": cookie})).status == 401


async def test_a_changed_cookie_is_none(proxied: Any) -> None:
    name, _, value = (await session(proxied, await proxied.token("view"))).headers["Set-Cookie"].partition(";")[0].partition("=")
    number, until, seal = value.split(".")
    for forged in (
        f"{int(number) + 1}.{until}.{seal}",
        f"{number}.{int(until) + 1}.{seal}",
        f"{number}.{until}.{'0' * 64}",
        f"{number}.{until}.",
        "",
        "x" * 5000,
    ):
        assert (await proxied.get("cameras", headers={"Cookie": f"{name}={forged}"})).status in {400, 401}


async def test_a_session_needs_a_good_token_and_our_page(proxied: Any) -> None:
    ours = f"https://{proxied.host}"
    assert (await proxied.ask("POST", "session", headers={"Origin": ours}, json={"token": "wr_" + "A" * 43})).status == 401
    assert (await proxied.ask("POST", "session", headers={"Origin": ours}, json={"token": 7})).status == 401
    assert (await proxied.ask("POST", "session", headers={"Origin": "https://evil.example"}, json={"token": "x"})).status == 403


async def make_link(api: Any, token: str, address: str = CLIP, **more: Any) -> Any:
    return await api.ask("POST", "links", token=token, json={"address": address, **more})


async def test_a_signed_link_opens_its_own_address_alone(proxied: Any) -> None:
    link = (await make_link(proxied, await proxied.token("view"))).json["address"]
    assert (await proxied.get(link)).status not in {401, 403}  # there is no footage: 404, by the handler
    assert (await proxied.get(link)).json["detail"] != "there is nothing at this address"
    signature = urlsplit(link).query.partition("&sig")[0]
    assert signature
    kept = link[link.index("&kid") :]
    for other in (
        f"{ROOT}/cameras/yard/clip.mp4?start=2026-01-01T00:00:00%2B00:00&end=2026-01-01T00:00:10Z{kept}",
        f"{ROOT}/cameras/north/clip.mp4?start=2026-01-01T00:00:00%2B00:00&end=2026-01-01T00:00:11Z{kept}",
        f"{link}&track=sub",
        link.replace("exp=", "exp=9"),
        link[:-1] + ("0" if link[-1] != "0" else "1"),
    ):
        assert (await proxied.get(other)).status in {400, 401}, other
    assert (await proxied.get(f"{ROOT}/cameras?{kept[1:]}")).status in {400, 401}


@pytest.mark.parametrize(("more", "status"), [("&_HLS_msn=7&_HLS_part=0&_HLS_skip=YES", 404), ("&_HLS_msn=7&frames=key", 401)])
async def test_a_signed_playlist_may_be_asked_to_wait(proxied: Any, more: str, status: int) -> None:
    """A player adds these names to the address it was given, and has no other credential. (There is no footage: 404, by the handler.)"""
    link = (await make_link(proxied, await proxied.token("view"), f"{ROOT}/cameras/yard/hls/live.m3u8?track=main")).json["address"]
    assert (await proxied.get(link + more)).status == status


async def test_a_signed_address_of_many_parameters_is_no_fault_of_ours(proxied: Any) -> None:
    many = "&".join(f"p{n}=1" for n in range(100))
    assert (await proxied.get(f"{ROOT}/cameras/north/clip.mp4?{many}&sig=x&exp=1&kid=1")).status == 401
    link = await make_link(proxied, await proxied.token("view"), f"{ROOT}/cameras/north/clip.mp4?{many}")
    assert link.status == 201 and (await proxied.get(link.json["address"])).status == 400


async def test_a_signed_link_ends_by_itself_and_with_its_token(proxied: Any) -> None:
    token = await proxied.token("view")
    short = (await make_link(proxied, token, seconds=60)).json["address"]
    long = (await make_link(proxied, token, seconds=7 * 86_400)).json["address"]
    proxied.clock.advance(61)
    assert (await proxied.get(short)).status == 401
    assert (await proxied.get(long)).status == 404
    proxied.catalogue.revoke_token(max(record.number for record in proxied.catalogue.tokens()))
    await proxied.refresh()
    assert (await proxied.get(long)).status == 401


async def test_a_signed_link_changes_nothing(proxied: Any) -> None:
    link = (await make_link(proxied, await proxied.token("admin"))).json["address"]
    query = parse_qs(urlsplit(link).query)
    assert set(query) >= {"sig", "exp", "kid"}
    for method in ("POST", "DELETE", "PATCH"):
        assert (await proxied.ask(method, link)).status in {403, 405}


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        "/api/v1/system",
        "//evil/api/v1/cameras/north/clip.mp4",
        "/api/v1/cameras/../system",
        "/api/v1/cameras/north/clip.mp4#x",
        "/api/v1/cameras/north/%2e%2e/x",
        "/api/v1/cameras/north/clip.mp4?sig=1",
        "http://evil/",
        7,
        None,
        "/api/v1/cameras/north/\u00e4",
    ],
)
async def test_only_addresses_of_cameras_are_signed(proxied: Any, address: Any) -> None:
    assert (await make_link(proxied, await proxied.token("view"), address)).status == 400


async def test_secrets_are_not_in_the_log(proxied: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = await proxied.token("view")
    link = (await make_link(proxied, token)).json["address"]
    await proxied.get(link)
    await proxied.get(f"cameras?token={token}", token=token)
    await proxied.raw_get(f"/api/v1/cameras?x={token} y".encode(), f"Authorization: Bearer {token}".encode())
    await session(proxied, token)
    lines = "\n".join(
        [record.getMessage() + str(record.exc_text or "") for record in caplog.records if record.name.startswith(("watchroom", "aiohttp"))]
    )
    assert "clip.mp4" in lines and "(redacted)" in lines
    assert token not in lines and parse_qs(urlsplit(link).query)["sig"][0] not in lines
