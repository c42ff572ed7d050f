"""`/cameras`: pages, filters, changes through the supervisor, and nothing that must stay inside."""

from typing import Any

import pytest

from api import keys
from recorder.base.config import CameraConfig, RetentionRule, StreamConfig, TrackRule
from recorder.base.errors import Conflict, NotFound, Refused, WatchroomError

NEW = {"id": "new-cam", "main": {"url": "rtsp://10.0.0.9/1"}}
PASSWORD = "s3cret p@ss/word"
SLOT = {
    "slot": 0,
    "cameras": {
        "north": {
            "number": 1,
            "state": "recording",
            "since_ns": 1_767_225_600_000_000_000,
            "cause": None,
            "tracks": {
                "main": {
                    "codec": "avc1",
                    "kbps": 4000,
                    "fps": 25.0,
                    "last_au_ns": 1_767_225_601_000_000_000,
                    "aus": 250,
                    "bytes": 500_000,
                    "lost_packets": 3,
                },
                "audio": {"codec": None, "kbps": 64},
            },
        },
        "yard": {"number": 2, "state": "offline", "since_ns": 1_767_225_600_500_000_000, "cause": "auth", "tracks": {}},
    },
}


async def admin(api: Any) -> str:
    return str(await api.token("admin"))


async def test_the_list_pages_by_cursor_without_gap_or_repeat(api: Any) -> None:
    for number in range(25):
        api.catalogue.add_camera(CameraConfig(f"c{number:02}", StreamConfig("rtsp://10.0.0.1/")), "api", 0)
    await api.refresh()
    seen, cursor = [], ""
    for _ in range(20):
        page = (await api.get("cameras", params={"limit": "4", **({"cursor": cursor} if cursor else {})})).json
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == sorted([f"c{number:02}" for number in range(25)] + ["north", "yard"])


async def test_a_page_that_is_exactly_full_has_no_next(api: Any) -> None:
    assert (await api.get("cameras?limit=2")).json["next"] is None
    assert (await api.get("cameras?limit=1")).json["next"] is not None


async def test_the_list_goes_on_where_a_camera_was_removed_meanwhile(api: Any) -> None:
    page = (await api.get("cameras?limit=1")).json
    api.catalogue.remove_camera("north")
    await api.refresh()
    rest = (await api.get("cameras", params={"limit": "1", "cursor": page["next"]})).json
    assert [item["id"] for item in rest["items"]] == ["yard"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("partner=council", ["north"]),
        ("site=yard", ["yard"]),
        ("state=offline", ["yard"]),
        ("state=recording&site=yard", []),
        ("partner=nobody", []),
    ],
)
async def test_the_list_filters(api: Any, query: str, ids: list[str]) -> None:
    api.served.app[keys.STATUS].record(0, SLOT)
    assert [item["id"] for item in (await api.get(f"cameras?{query}")).json["items"]] == ids


async def test_a_camera_says_how_it_fares(api: Any) -> None:
    api.served.app[keys.STATUS].record(0, SLOT)
    north, yard = (await api.get("cameras/north")).json, (await api.get("cameras/yard")).json
    assert (north["state"], north["kbps"], north["gap"], north["last_au"]) == ("recording", 4064, None, "2026-01-01T00:00:01.000000000Z")
    assert [track["name"] for track in north["tracks"]] == ["main", "audio"]
    assert yard["gap"] == {"cause": "auth", "start": "2026-01-01T00:00:00.500000000Z"}
    assert north["position"] == {"latitude": 51.5, "longitude": -0.1}
    every = {track: {"days": 3660.0, "days_min": 0.0, "by": "site-wide"} for track in ("main", "sub", "audio", "metadata")}
    assert north["rule"] == {"days": 3660.0, "bytes_max": 0, "own": False, "by": "site-wide", "days_min": 0.0, "tracks": every}


async def test_a_slot_that_has_fallen_silent_is_not_believed(api: Any) -> None:
    api.served.app[keys.STATUS].record(0, SLOT)
    api.clock.advance(5.1)
    assert (await api.get("cameras/north")).json["state"] == "unknown"
    assert (await api.get("/readyz")).status == 503


async def test_no_password_and_no_address_leaves(api: Any, proxied: Any) -> None:
    viewer = await proxied.token("view")
    for answer in (await api.get("cameras"), await api.get("cameras/north"), await api.get("/metrics"), await api.get("system")):
        assert PASSWORD.encode() not in answer.body
    for answer in (await proxied.get("cameras", token=viewer), await proxied.get("cameras/north", token=viewer)):
        assert b"10.1.2.3" not in answer.body and b"operator" not in answer.body
    assert (await api.get("cameras/north")).json["source"]["password_set"] is True


async def test_a_camera_is_added_changed_and_removed(api: Any) -> None:
    token = await admin(api)
    body = {
        **NEW,
        "name": "New",
        "password": PASSWORD,
        "user": "u",
        "position": {"latitude": 1, "longitude": 2},
        "rule": {"days": 7},
        "sub": {"url": "rtsp://10.0.0.9/2"},
    }
    made = await api.ask("POST", "cameras", token=token, json=body)
    assert (made.status, made.headers["Location"], made.json["rule"]["days"]) == (201, "/api/v1/cameras/new-cam", 7.0)
    assert api.catalogue.camera("new-cam").config.password == PASSWORD and PASSWORD.encode() not in made.body
    changed = await api.ask("PATCH", "cameras/new-cam", token=token, json={"name": "Newer", "position": None, "enabled": False, "rule": None})
    assert (changed.status, changed.json["name"], changed.json["position"], changed.json["state"]) == (200, "Newer", None, "disabled")
    kept = api.catalogue.camera("new-cam").config
    assert (kept.password, kept.sub, kept.rule) == (PASSWORD, StreamConfig("rtsp://10.0.0.9/2"), None)
    patient = {"url": "rtsp://10.0.0.9/1", "transport": "udp", "reorder_ms": 2000}
    changed = await api.ask("PATCH", "cameras/new-cam", token=token, json={"main": patient})
    assert changed.status == 200 and api.catalogue.camera("new-cam").config.main.reorder_ms == 2000
    assert (await api.ask("PATCH", "cameras/new-cam", token=token, json={"main": {**patient, "reorder_ms": 0}})).status == 400
    assert (await api.ask("DELETE", "cameras/new-cam", token=token)).status == 204
    assert (await api.get("cameras/new-cam")).status == 404


async def test_a_camera_of_the_file_is_the_files(api: Any) -> None:
    token = await admin(api)
    for answer in (
        await api.ask("PATCH", "cameras/yard", token=token, json={"name": "x"}),
        await api.ask("DELETE", "cameras/yard", token=token),
    ):
        assert answer.status == 409 and "configuration file" in answer.json["detail"]
    assert api.calls == []


async def test_an_id_in_use_is_a_conflict(api: Any) -> None:
    assert (await api.ask("POST", "cameras", token=await admin(api), json={**NEW, "id": "north"})).status == 409


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "id"),
        ({"id": "x"}, "main"),
        ({**NEW, "id": "../x"}, "id"),
        ({**NEW, "id": 7}, "id"),
        ({**NEW, "number": 3}, "number"),
        ({**NEW, "owner": "file"}, "owner"),
        ({**NEW, "password_file": "/etc/shadow"}, "password_file"),
        ({**NEW, "main": {}}, "main.url"),
        ({**NEW, "main": {"url": "file:///etc/passwd"}}, "main.url"),
        ({**NEW, "main": {"url": "ftp://10.0.0.1/"}}, "main.url"),
        ({**NEW, "main": {"url": "rtsp://u:p@10.0.0.1/"}}, "main.url"),
        ({**NEW, "main": {"url": "rtsp://10.0.0.1/\r\nX: y"}}, "main.url"),
        ({**NEW, "main": {"url": "rtsp://"}}, "main.url"),
        ({**NEW, "main": {"url": "rtsp://" + "a" * 2000}}, "main.url"),
        ({**NEW, "main": {"url": "rtsp://10.0.0.1/", "kbps": 0}}, "main.kbps"),
        ({**NEW, "main": {"url": "rtsp://10.0.0.1/", "kbps": True}}, "main.kbps"),
        ({**NEW, "main": {"url": "rtsp://10.0.0.1/", "transport": "sctp"}}, "main.transport"),
        ({**NEW, "main": {"url": "rtsp://10.0.0.1/", "transport": ["udp"]}}, "main.transport"),
        ({**NEW, "main": None}, "main"),
        ({**NEW, "name": "x\x00"}, "name"),
        ({**NEW, "name": "n" * 201}, "name"),
        ({**NEW, "name": 1}, "name"),
        ({**NEW, "enabled": "yes"}, "enabled"),
        ({**NEW, "stall_s": "10"}, "stall_s"),
        ({**NEW, "position": {"latitude": 91, "longitude": 0}}, "position.latitude"),
        ({**NEW, "position": {"latitude": 1}}, "position.longitude"),
        ({**NEW, "rule": {"days": -1}}, "rule.days"),
        ({**NEW, "rule": {"audio": {"day": 1}}}, "rule.audio.day"),
        ({**NEW, "rule": {"days": 1, "bytes_max": 1.5}}, "rule.bytes_max"),
        ({**NEW, "password": "a\nb"}, "password"),
    ],
)
async def test_a_wrong_member_is_named_and_nothing_is_done(api: Any, body: dict[str, Any], names: str) -> None:
    answer = await api.ask("POST", "cameras", token=await admin(api), json=body)
    assert (answer.status, answer.json["parameter"]) == (400, names)
    assert api.calls == []


async def test_a_change_cannot_rename_nor_be_empty(api: Any) -> None:
    token = await admin(api)
    assert (await api.ask("PATCH", "cameras/north", token=token, json={"id": "other"})).status == 400
    assert (await api.ask("PATCH", "cameras/north", token=token, json={})).status == 400


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("the address 10.99.0.1 lies outside camera_networks", where="camera x", remedy="see /etc/watchroom.toml"), 403),
        (Conflict("it exists"), 409),
        (NotFound("no such camera", where="x"), 404),
        (WatchroomError("no idea"), 500),
    ],
)
async def test_what_the_supervisor_refuses_is_said_without_addresses(api: Any, supervisor: Any, error: WatchroomError, status: int) -> None:
    supervisor.fails = error
    answer = await api.ask("POST", "cameras", token=await admin(api), json=NEW)
    assert answer.status == status
    assert b"10.99" not in answer.body and b"/etc" not in answer.body


async def test_a_supervisor_that_is_away_is_a_503(api: Any) -> None:
    token = await admin(api)
    api.site.supervisor_socket.unlink()
    answer = await api.ask("POST", "cameras", token=token, json=NEW)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert (await api.get("cameras/north")).status == 200


async def test_a_rule_of_its_own_is_shown(api: Any) -> None:
    rule = RetentionRule(2.0, 5, audio=TrackRule(days=1.0, days_min=0.5))
    api.catalogue.add_camera(CameraConfig("short", StreamConfig("rtsp://10.0.0.1/"), rule=rule), "api", 0)
    await api.refresh()
    rule = (await api.get("cameras/short")).json["rule"]
    assert (rule["days"], rule["bytes_max"], rule["own"], rule["by"]) == (2.0, 5, True, "camera short")
    assert rule["tracks"]["audio"] == {"days": 1.0, "days_min": 0.5, "by": "camera short, audio"}
