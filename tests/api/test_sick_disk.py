"""What a disk cannot read now is missing from answers, and whoever asks is told so; once as an event, and in the metrics."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.events import EVENTS
from api.gapwatch import look
from api.side import SIDE
from bench.powercut.disk import PowerDisk
from recorder.base.config import VolumeConfig
from recorder.base.media import NS
from storage import items, sickdisk
from storage.sickdisk import SickTapes
from storage.store import TapeStore
from storage.volume import Volume
from tests.api.exporting import Holds, ended
from tests.api.test_metrics import samples
from tests.storage_read.reference_writer import BASE_NS, ENTRY_H264, RefVolume, gop

RANGE = {"start": str(BASE_NS), "end": str(BASE_NS + 400 * NS)}
SAID = [{"volume": 0, "cause": "disk"}]


class Disk:
    """A disk that can fail, mounted with an empty file system until the API has ended."""

    def __init__(self, below: PowerDisk) -> None:
        self.below, self.point = below, below.point
        self.stores: list[TapeStore] = []

    def mount(self) -> None:
        subprocess.run(["mount", "-t", "ext4", "-o", "loop", self.below.files / "disk", self.point], check=True)

    def fill(self, path: Path) -> None:
        """Copy a volume to it, and forget every page of that."""
        subprocess.run(["cp", "-a", path, self.point / "a"], check=True)
        subprocess.run(["umount", self.point], check=True)
        self.mount()

    def fail(self) -> None:
        """Every read is EIO from now on."""
        self.below.ask("fail")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "disk").mkdir()
    made = Disk(PowerDisk(tmp_path / "disk", "ext4", plain_bytes=400 << 20))
    made.mount()
    yield made
    made.below.ask("heal")
    for store in made.stores:       # their threads end with the process
        store.close()
    subprocess.run(["umount", made.point], check=True)
    made.below.close()


def record(volume: RefVolume, camera: int, at_s: int, rows: int) -> None:
    """So many seconds from a time on."""
    track = volume.track(camera, "main", start_ns=BASE_NS + at_s * NS)
    track.log(items.SampleEntryItem(1, ENTRY_H264))
    for _ in range(rows):
        track.write_row(gop(25))
    track.close()


@pytest.fixture
async def sick(disk: Disk, start: Any, volume: RefVolume, tmp_path: Path) -> Any:
    """north: 0-100 s on the sick disk, 200-220 s on the other one; yard: 0-50 s on the sick disk alone."""
    second = RefVolume(tmp_path / "second", tmp_path / "live")
    record(volume, 1, 0, 100)
    record(volume, 2, 0, 50)
    record(second, 1, 200, 20)
    for each in (volume, second):
        each.drop_live_file()
    disk.fill(volume.path)
    Volume.open(disk.point / "a", lock=False).close()
    disk.fail()             # that it is a volume can be read, nothing else
    api = await start(volumes=(VolumeConfig(disk.point / "a"), VolumeConfig(second.path, on_root=True)))
    api.clock.step_wall((BASE_NS + 500 * NS - api.clock.wall_ns()) / 1e9)
    disk.stores.append(api.served.app[SIDE]._store)
    yield api
    second.volume.close()


@pytest.mark.disk
async def test_who_asks_is_told_what_cannot_be_read(sick: Any) -> None:
    timeline = (await sick.get("cameras/north/timeline", params=RANGE)).json
    assert (timeline["unreadable"], timeline["footage_s"]) == (SAID, 20.0)
    assert (await sick.get("cameras/north/minutes", params=RANGE)).json["unreadable"] == SAID
    clip = await sick.get("cameras/north/clip.json", params=RANGE)
    assert clip.status == 200, clip.body
    assert (clip.json["cameras"][0]["tracks"][0]["unreadable"], clip.json["complete"]) == (SAID, False)
    found = (await sick.get("completeness", params={**RANGE, "per": "range"})).json["items"]
    assert [(item["name"], item["footage_s"], item["unreadable"], item["periods"][0]["unreadable"]) for item in found] == [
        ("north", 20.0, SAID, SAID), ("yard", 0.0, SAID, SAID)]


@pytest.mark.disk
async def test_a_clip_that_lacks_what_cannot_be_read_is_not_called_complete(sick: Any) -> None:
    asked = {"start": str(BASE_NS + 200 * NS), "end": str(BASE_NS + 210 * NS)}
    clip = await sick.get("cameras/north/clip.mp4", params=asked)
    assert (clip.status, clip.headers["Watchroom-Complete"], clip.headers["ETag"][:2]) == (200, "no", "W/")


@pytest.mark.disk
async def test_an_unreadable_disk_is_one_event_however_often_it_is_asked(sick: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        await sick.get("cameras/north/timeline", params=RANGE)
        assert (await sick.get("cameras/yard/timeline", params=RANGE)).status == 503
    log = sick.served.app[EVENTS]
    async with asyncio.timeout(120):
        while not any(event.data.get("state") == "unreadable" for event in log._events):
            await asyncio.sleep(0.05)
    await sick.get("cameras/north/timeline", params=RANGE)
    told = [dict(event.data) for event in log._events if event.kind == "disk"]
    assert [(data["state"], data["volume"]) for data in told] == [("unreadable", 0)]
    found = samples((await sick.get("/metrics")).body.decode())
    assert found['watchroom_volume_unreadable_tapes{volume="0"}'] == 2
    assert found['watchroom_volume_unreadable_tapes{volume="1"}'] == 0
    assert found['watchroom_volume_read_errors_total{volume="0"}'] >= 2
    records = [*caplog.get_records("setup"), *caplog.records]
    assert sum("its tape on the volume" in record.message for record in records) == 2, "one line for each tape"
    assert not any(record.exc_info for record in records)


@pytest.mark.disk
async def test_gaps_of_cameras_that_can_be_read_are_told_on(sick: Any) -> None:
    found = await sick.served.app[SIDE].run(look, [2, 1], BASE_NS, BASE_NS + 400 * NS)
    assert list(found) == [1], "yard lies on the sick disk alone"


@pytest.mark.disk
async def test_an_export_without_what_cannot_be_read_says_so(sick: Any, holds: Holds) -> None:
    sick.clock.advance(3600)
    key = await sick.token("export")
    item = {"camera": "north", "start": BASE_NS + 50 * NS, "end": BASE_NS + 210 * NS}
    dry = await sick.ask("POST", "exports?dry_run", token=key, json={"items": [item], "reason": "accident"})
    assert [one["unreadable"] for one in dry.json["items"]] == [SAID]
    asked = await sick.ask("POST", "exports", token=key, json={"items": [item], "reason": "accident"})
    job = await ended(sick, asked.json["id"], key)
    assert (job["state"], job["result"]["complete"]) == ("done", False)
    manifest = (await sick.get(job["result"]["manifest"], token=key)).json
    assert (manifest["volumes_missing"], manifest["files"][0]["items"][0]["unreadable"]) == ([0], SAID)


def test_a_disk_that_is_well_again_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tapes, error = SickTapes(), OSError(5, "Input/output error")
    assert tapes.news() == []
    for _ in range(3):
        tapes.add((1, 7, "main"), Path("/v"), error)
        tapes.add((1, 8, "main"), Path("/v"), error)
    assert tapes.news() == [(1, 2)]
    assert tapes.news() == []
    assert (tapes.of(7, "main"), tapes.of(9, "main"), tapes.errors[1]) == ((1,), (), 6)
    monkeypatch.setattr(sickdisk, "WELL_NS", 0)
    assert tapes.news() == [(1, 0)]
    assert tapes.news() == []
