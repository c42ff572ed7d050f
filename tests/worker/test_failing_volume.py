"""A volume on a real file system fails in every way a disk can: its camera is recorded on the other one, and comes back."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.powercut.disk import PowerDisk
from recorder.base.config import CameraConfig, SiteConfig, StreamConfig, VolumeConfig
from recorder.base.control import ControlClient
from recorder.base.media import Gap, GapCause
from storage.store import TapeStore
from storage.volume import Volume
from tests.session.fake_camera import FakeCamera
from tests.worker.recorded import ALL, worker

pytestmark = pytest.mark.disk
LIMIT_S = 100


@dataclass
class Bay:
    """A site whose first volume lies on a disk that can be made to fail; camera 1 is at home there."""

    site: SiteConfig
    disk: PowerDisk
    point: Path
    client: ControlClient | None = None

    def places(self) -> list[int]:
        """On which volumes the camera's footage lies, in order of time."""
        with closing(TapeStore([volume.path for volume in self.site.volumes], self.site.live_dir)) as store:
            found = store.whole(1, "main").pieces(*ALL)
        return [piece.tape.place for piece in found]

    def gaps(self) -> list[Gap]:
        """All gaps behind the first picture."""
        with closing(TapeStore([volume.path for volume in self.site.volumes], self.site.live_dir)) as store:
            track = store.whole(1, "main")
            first_ns = track.bounds().first_ns
            return [gap for gap in track.gaps(*ALL) if gap.start_ns >= first_ns]

    def has_every_picture(self) -> None:
        """From the first to the last, over all volumes, each once: what the failed disk had not kept was recorded again on the other."""
        assert [gap.cause for gap in self.gaps()] == [GapCause.STOPPED]
        with closing(TapeStore([volume.path for volume in self.site.volumes], self.site.live_dir)) as store:
            times = np.concatenate([piece.tape.entries(piece.run).wall_ns for piece in store.whole(1, "main").pieces(*ALL)])
        assert np.diff(times).min() > 30_000_000 and np.diff(times).max() < 50_000_000, "25 pictures a second"

    async def status(self) -> dict[str, Any]:
        """The worker's."""
        assert self.client is not None
        return dict(await self.client.call("status"))

    async def until(self, ready: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Wait until the worker's status is so."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while not ready(await self.status()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{what}: {await self.status()}") from None

    async def grows(self, more: int = 30) -> None:
        """Wait for `more` AUs of the camera from now on."""
        def aus(status: dict[str, Any]) -> int:
            return int(status["cameras"]["fake"]["tracks"].get("main", {}).get("aus", 0))
        await self.until(lambda status: status["cameras"]["fake"]["state"] == "recording", "a session")
        had = aus(await self.status())
        await self.until(lambda status: aus(status) >= had + more, "the camera records")

    async def records_on(self, place: int, of: int = 2) -> None:
        """Wait until the camera records there, and longer than its session's first rows wait for their place in time."""
        await self.until(lambda s: [bool(v["kbps"]) for v in s["volumes"]] == [at == place for at in range(of)], f"a tape on volume {place}")
        await self.grows(100)

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """The camera recorded by a worker."""
        async with FakeCamera() as camera:
            config = CameraConfig("fake", StreamConfig(camera.url))
            async with worker(self.site, {1: config}) as self.client:
                await self.records_on(0, len(self.site.volumes))
                yield

    def unmount(self) -> None:
        """As somebody does who wants his disk back whoever uses it."""
        subprocess.run(["umount", "-l", self.point], check=True)

    async def let_go(self) -> None:
        """Unmount it as one should: the worker has nothing open there any more."""
        async with asyncio.timeout(LIMIT_S):
            while subprocess.run(["umount", self.point], check=False, capture_output=True).returncode:
                await asyncio.sleep(0.1)

    def mount(self) -> None:
        """The file system again. Others may take the loop device that mount(8) has just found free: then it looks again."""
        deadline = time.monotonic() + LIMIT_S
        while subprocess.run(["mount", "-t", "ext4", "-o", "loop", self.disk.files / "disk", self.point], check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture
def bay(site: SiteConfig, tmp_path: Path) -> Iterator[Bay]:
    folder = tmp_path / "bay"
    folder.mkdir()
    disk = PowerDisk(folder, "ext4")
    made = Bay(site, disk, disk.point)
    made.mount()
    Volume.init(disk.point, bytes_max=160 << 20).close()
    made.site = replace(site, volumes=(VolumeConfig(disk.point), *site.volumes))
    try:
        yield made
    finally:
        disk.ask("heal")
        subprocess.run(["umount", "-l", disk.point], check=False, capture_output=True)
        disk.close()


async def test_a_disk_that_fails_loses_its_camera_to_the_other_and_gets_it_back(bay: Bay) -> None:
    async with bay.recording():
        bay.disk.ask("fail")
        await bay.records_on(1)
        assert (await bay.status())["volumes"][0]["failed"]
        bay.disk.ask("heal")
        await bay.let_go()
        subprocess.run(["e2fsck", "-fy", bay.disk.files / "disk"], check=False, capture_output=True)
        bay.mount()
        await bay.records_on(0)
        assert not (await bay.status())["volumes"][0]["failed"]
    assert bay.places() == [0, 1, 0]
    bay.has_every_picture()


async def test_a_failed_disk_is_not_written_to_again_before_it_is_mounted_anew(bay: Bay) -> None:
    async with bay.recording():
        bay.disk.ask("fail")
        await bay.records_on(1)
        bay.disk.ask("heal")
        await bay.grows(400)                     # several looks at the volumes
        assert [bool(volume["failed"]) for volume in (await bay.status())["volumes"]] == [True, False]


async def test_a_volume_that_vanished_is_left_and_found_again(bay: Bay) -> None:
    async with bay.recording():
        bay.unmount()
        await bay.records_on(1)
        bay.mount()
        await bay.records_on(0)
    assert bay.places() == [0, 1, 0]
    bay.has_every_picture()


async def test_a_file_system_that_turns_read_only_is_left(bay: Bay) -> None:
    async with bay.recording():
        subprocess.run(["mount", "-o", "remount,abort", bay.point], check=True)
        await bay.records_on(1)
        await bay.grows(200)
        assert [bool(volume["failed"]) for volume in (await bay.status())["volumes"]] == [True, False]
    assert bay.places() == [0, 1]


async def test_a_disk_that_stands_still_is_left_and_used_again_when_it_goes_on(bay: Bay) -> None:
    async with bay.recording():
        bay.disk.ask("stall")
        await bay.records_on(1)
        bay.disk.ask("heal")
        await bay.records_on(0)
    assert bay.places() == [0, 1, 0]
    assert {gap.cause for gap in bay.gaps()[:-1]} <= {GapCause.DISK, GapCause.OVERLOAD}


async def test_a_short_stall_costs_nothing(bay: Bay) -> None:
    async with bay.recording():
        for _ in range(3):
            bay.disk.ask("stall")
            await asyncio.sleep(0.5)
            bay.disk.ask("heal")
            await bay.grows(25)
        assert not any(volume["failed"] for volume in (await bay.status())["volumes"])
    assert bay.places() == [0]
    assert [gap.cause for gap in bay.gaps()] == [GapCause.STOPPED]


async def test_the_only_volume_is_used_again_once_it_is_back(bay: Bay) -> None:
    bay.site = replace(bay.site, volumes=bay.site.volumes[:1])
    async with bay.recording():
        bay.unmount()
        await bay.until(lambda status: status["cameras"]["fake"]["cause"] == "disk", "the camera says why")
        bay.mount()
        await bay.records_on(0, 1)
    assert bay.places() in ([0], [0, 0])
    assert [gap.cause for gap in bay.gaps()][-2:] == [GapCause.DISK, GapCause.STOPPED]


async def test_a_worker_starts_without_a_volume_that_is_missing(bay: Bay) -> None:
    bay.unmount()
    async with FakeCamera() as camera, worker(bay.site, {1: CameraConfig("fake", StreamConfig(camera.url))}) as bay.client:
        await bay.records_on(1)
        bay.mount()
        await bay.records_on(0)
    assert bay.places() == [1, 0]
