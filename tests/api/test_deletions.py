"""`/deletions`: the ledger in pages, for administrators, within their reach, with the names of removed cameras."""

from pathlib import Path
from typing import Any

import pytest

from recorder.base.config import CameraConfig, SiteConfig, StreamConfig
from recorder.base.media import NS, DeletionCause, TrackKind
from storage.items import Deletion, Erased, Tape
from storage.ledger import Ledger
from storage.volume import Volume

BASE_NS = 1_780_000_000 * NS
HOUR = 3600 * NS


def tape(camera: int, name: str = "main") -> Tape:
    return Tape(camera, camera, 90_000, TrackKind.VIDEO, name)


def went(chunk: int, hour: int, cause: DeletionCause = DeletionCause.DAYS, why: str = "site-wide: days = 31") -> Deletion:
    """A chunk of an hour that went a day later."""
    start_ns = BASE_NS + hour * HOUR
    return Deletion(chunk, chunk * 100, 100, start_ns, start_ns + HOUR, 5_000_000, start_ns + 25 * HOUR, cause, why)


def write(path: Path, slot: int, *records: tuple[int, list[tuple[Tape, Deletion | Erased]]]) -> None:
    """A ledger with these records: (UTC in hours, entries)."""
    volume = Volume.open(path, on_root=True, lock=False, write=True)
    now = [0]
    ledger = Ledger(volume, slot, next_epoch=lambda: 1, acknowledged=lambda: 1, wall_ns=lambda: now[0])
    try:
        volume.make_dirs(f"slot-{slot}")
        ledger.open([])
        for hours, entries in records:
            now[0] = BASE_NS + hours * HOUR
            for item in entries:
                ledger.expect(*item, 1)
            ledger.settle()
    finally:
        ledger.close()
        volume.close()


@pytest.fixture
async def told(api: Any, site: SiteConfig) -> Any:
    """Cameras 1 and 2 of the fixture's site, and a removed one; two slots."""
    gone = api.catalogue.add_camera(CameraConfig("gone", StreamConfig("rtsp://10.0.0.1/"), partner="council"), "api", 0)
    api.catalogue.remove_camera("gone")
    await api.refresh()
    path = site.volumes[0].path
    write(path, 0, (25, [(tape(1), went(0, 0)), (tape(gone.number), went(0, 0))]), (26, [(tape(1), Erased(0, BASE_NS + 26 * HOUR)),
                   (tape(1), went(1, 1, DeletionCause.BYTES, "partner council: bytes_max = 5"))]))
    write(path, 1, (27, [(tape(2), went(7, 2)), (tape(99), went(0, 2))]))
    return api


async def ask(api: Any, token: str = "", **query: Any) -> Any:
    answer = await api.get("deletions", params={name: str(value) for name, value in query.items()}, token=token)
    assert answer.status == 200, answer.body
    return answer.json


async def test_the_ledger_says_what_went_and_why(told: Any) -> None:
    page = await ask(told)
    assert [(one["camera"], one["number"], one["cause"]) for one in page["items"]] == [
        ("north", 1, "days"), ("gone", 3, "days"), ("north", 1, "bytes"), ("yard", 2, "days"), (None, 99, "days")]
    first, last = page["items"][0], page["items"][2]
    assert page["next"] is None and (first["bytes"], first["rows"], first["rule"]) == (5_000_000, 100, "site-wide: days = 31")
    assert first["erased"] > first["unreadable"] > first["end"] > first["start"] and last["erased"] is None


async def test_pages_lose_and_repeat_nothing(told: Any) -> None:
    whole = (await ask(told))["items"]
    for limit in (1, 2, 4):
        found, cursor = [], {}
        while True:
            page = await ask(told, limit=limit, **cursor)
            found += page["items"]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert found == whole


async def test_a_range_and_a_camera_narrow_it(told: Any) -> None:
    assert len((await ask(told, camera="north"))["items"]) == 2
    assert [one["number"] for one in (await ask(told, start=BASE_NS + 26 * HOUR, end=BASE_NS + 27 * HOUR))["items"]] == [1]
    assert (await ask(told, camera="nobody"))["items"] == []


async def test_only_administrators_read_it_and_only_of_their_cameras(told: Any) -> None:
    viewer = await told.token("view")
    assert (await told.get("deletions", token=viewer)).status == 403
    council = await told.token("admin", partner="council")
    assert {one["camera"] for one in (await ask(told, council))["items"]} == {"north"}
    one = await told.token("admin", cameras=("yard",))
    assert [item["camera"] for item in (await ask(told, one))["items"]] == ["yard"]


@pytest.mark.parametrize(("query", "says"), [({"cursor": "x"}, "cursor"), ({"start": "2", "end": "1"}, "end"), ({"camera": "../x"}, "camera"),
                                             ({"cursor": "MS4yLjMuNC41LjY="}, "cursor")])
async def test_what_cannot_be_asked_is_named(told: Any, query: dict[str, str], says: str) -> None:
    answer = await told.get("deletions", params=query)
    assert (answer.status, answer.json["parameter"]) == (400, says)
