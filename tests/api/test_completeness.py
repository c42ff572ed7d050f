"""`/completeness`: figures by camera, partner and site that add up, in pages, within a token's reach, and as metrics."""

from typing import Any

import pytest

from api import keys
from api.completeness import COMPLETE
from recorder.base.config import CameraConfig, StreamConfig
from recorder.base.media import NS, GapCause, TrackKind
from storage import items
from tests.api.test_metrics import samples
from tests.storage_read.reference_writer import BASE_NS, RefVolume, gop


def record(volume: RefVolume, camera: int, seconds: int, gap: int, more: int) -> None:
    """Footage, a gap `offline`, footage."""
    track = volume.track(camera, "main", TrackKind.AUDIO)
    for _ in range(seconds):
        track.write_row(gop(5, size=50, key=60, dur=18_000))
    track.gap(gap)
    for _ in range(more):
        track.write_row(gop(5, size=50, key=60, dur=18_000))
    track.log(items.GapOpen(track.next_ns, GapCause.STALL))


@pytest.fixture
async def site(api: Any, volume: RefVolume) -> Any:
    """north (council, town): 60 of 100 s; yard (depot, yard): 90 of 100; park (council, town): nothing yet; 100 s after the beginning."""
    api.catalogue.add_camera(CameraConfig("park", StreamConfig("rtsp://10.0.0.1/"), partner="council", site="town"), "api", 0)
    await api.refresh()
    record(volume, 1, 40, 30, 20)
    record(volume, 2, 50, 5, 40)
    api.clock.step_wall((BASE_NS + 100 * NS - api.clock.wall_ns()) / 1e9)
    return api


async def ask(api: Any, token: str = "", **query: Any) -> Any:
    asked = {"start": str(BASE_NS), "end": str(BASE_NS + 200 * NS), **{name: str(value) for name, value in query.items()}}
    answer = await api.get("completeness", params=asked, token=token)
    assert answer.status == 200, answer.body
    return answer.json


async def test_cameras_have_figures_of_their_own(site: Any) -> None:
    found = await ask(site)
    assert (found["by"], found["per"], found["next"]) == ("camera", "day", None)
    north, park, yard = found["items"]
    assert [item["name"] for item in found["items"]] == ["north", "park", "yard"]
    assert (north["expected_s"], north["footage_s"], north["completeness"]) == (100.0, 60.0, 0.6)
    assert north["missing_s"] == {"offline": 30.0, "stall": 10.0}
    assert (yard["completeness"], yard["missing_s"]) == (0.9, {"offline": 5.0, "stall": 5.0})
    assert (park["completeness"], park["expected_s"], park["missing_s"]) == (None, 0.0, {})
    assert [(part["start_ns"], part["end_ns"]) for part in north["periods"]] == [(BASE_NS, BASE_NS + 100 * NS)]   # the rest is yet to come


async def test_partners_and_sites_are_the_sums_of_their_cameras(site: Any) -> None:
    for by, names in (("partner", ["council", "depot"]), ("site", ["town", "yard"])):
        found = await ask(site, by=by, per="range")
        assert [(item["name"], item["cameras"]) for item in found["items"]] == [(names[0], 2), (names[1], 1)]
        assert [item["completeness"] for item in found["items"]] == [0.6, 0.9]
    assert [item["name"] for item in (await ask(site, by="camera", partner="council"))["items"]] == ["north", "park"]
    assert [item["name"] for item in (await ask(site, by="partner", site="yard"))["items"]] == ["depot"]


async def test_days_are_cut_at_midnight_and_add_up(site: Any) -> None:
    midnight = BASE_NS // (86_400 * NS) * 86_400 * NS
    found = await ask(site, start=midnight - 86_400 * NS, per="day")
    north = found["items"][0]
    assert north["periods"][0]["completeness"] is None
    assert sum(part["expected_s"] for part in north["periods"]) == north["expected_s"] == 100.0


async def test_pages_show_every_item_once(site: Any) -> None:
    names, cursor = [], {}
    while True:
        page = await ask(site, limit=1, **cursor)
        names += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert names == ["north", "park", "yard"]


async def test_a_camera_without_a_partner_is_on_the_first_page(site: Any) -> None:
    site.catalogue.add_camera(CameraConfig("bare", StreamConfig("rtsp://10.0.0.1/")), "api", 0)
    await site.refresh()
    first = await ask(site, by="partner", limit=1)
    assert [item["name"] for item in first["items"]] == [""]
    assert [item["name"] for item in (await ask(site, by="partner", limit=1, cursor=first["next"]))["items"]] == ["council"]


async def test_a_token_sees_only_its_cameras(site: Any) -> None:
    token = await site.token("view", partner="depot")
    assert [item["name"] for item in (await ask(site, token=token, by="site"))["items"]] == ["yard"]


@pytest.mark.parametrize("query", [
    "start=0&end=0", "start=5&end=1", f"start=0&end={40 * 86_400 * NS}", f"per=month&start=0&end={400 * 86_400 * NS}", "start=0&end=1&by=moon",
    "start=0&end=1&per=year", "start=0&end=1&cursor=bm9uZQ==", "start=0&end=1&cursor=%ff", "start=0", "start=0&end=1&limit=0"])
async def test_nonsense_is_refused(site: Any, query: str) -> None:
    assert (await site.get(f"completeness?{query}")).status == 400


async def test_a_year_of_months_may_be_asked_for(site: Any) -> None:
    answer = await site.get(f"completeness?per=month&start={BASE_NS - 300 * 86_400 * NS}&end={BASE_NS + 60 * 86_400 * NS}")
    assert answer.status == 200
    periods = answer.json["items"][0]["periods"]
    assert len(periods) in (10, 11) and all(part["start"][8:] == "01T00:00:00.000000000Z" for part in periods[1:])


async def test_the_last_day_of_each_camera_is_a_metric(site: Any) -> None:
    app = site.served.app
    for camera in app[keys.REGISTRY].cameras():
        await app[COMPLETE]._look(app, camera)
    found = samples((await site.get("/metrics")).body.decode())
    assert found['watchroom_camera_completeness_ratio{camera="north"}'] == 0.6
    assert found['watchroom_camera_missing_seconds{camera="north",cause="offline"}'] == 30
    assert found['watchroom_camera_expected_seconds{camera="yard"}'] == 100
    assert 'watchroom_camera_completeness_ratio{camera="park"}' not in found
