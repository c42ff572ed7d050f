"""Slots without a worker: handed over, recorded on, kept; never two journals for one tape, and a volume's bytes are shared."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig, RetentionRule, SiteConfig, VolumeConfig
from recorder.base.errors import Conflict, StorageError, VolumeError, WatchroomError
from recorder.base.media import GapCause, TrackKind
from recorder.rack import Rack
from storage.check import check_volume
from storage.store import TapeStore
from storage.volume import Volume
from tests.storage_write.rig import ENTRY, Camera

ALL = (0, 1 << 62)
LOG = logging.getLogger("rack")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteConfig]:
    volumes = []
    for name in ("a", "b"):
        Volume.init(tmp_path / name, bytes_max=256 << 20, on_root=True).close()
        volumes.append(VolumeConfig(tmp_path / name, on_root=True))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        yield SiteConfig("test", tmp_path / "state", Path(live), recording=RecordingConfig(slots=3), volumes=tuple(volumes[:1]))


def with_slots(site: SiteConfig, slots: int) -> SiteConfig:
    return replace(site, recording=replace(site.recording, slots=slots))


class Worker:
    """A worker's rack; cameras put 2 s of AUs at a time."""

    def __init__(self, site: SiteConfig, number: int, clock: SimulatedClock) -> None:
        self.clock, self.events = clock, []
        self.rack = Rack(site, number, clock, self.events.append, LOG)
        self.rack.own()
        self.rack.others()

    def record(self, camera: int, slot: int) -> None:
        """Two seconds of a camera."""
        queue = AuQueue(4 << 20)
        tape = self.rack.tapes(slot).open_track(camera, "main", TrackKind.VIDEO, clock_rate=90_000, queue=queue, rule=RetentionRule(),
                                                describe=lambda _: ENTRY)
        source = Camera(camera, queue, session=tape.next_session, start_ns=max(tape.end_ns, self.clock.wall_ns()), size=2_000)
        tape.begin_session(source.session, source.start_ns, "test")
        assert source.put(50) == 50
        until(lambda: tape.counts[0] >= 50)


def until(ready: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def record(site: SiteConfig, workers: dict[int, dict[int, int]], clock: SimulatedClock) -> None:
    """Workers (by number) record cameras (slot by number), one after the other, then all end in order."""
    racks = []
    for number, cameras in workers.items():
        worker = Worker(site, number, clock)
        racks.append(worker.rack)
        for camera, slot in cameras.items():
            worker.record(camera, slot)
    clock.advance(4)
    for rack in racks:
        rack.close()


def causes(site: SiteConfig, camera: int) -> list[GapCause]:
    store = TapeStore([volume.path for volume in site.volumes], site.live_dir)
    try:
        return [gap.cause for gap in store.track(camera, "main").gaps(*ALL)]
    finally:
        store.close()


def test_cameras_of_slots_without_a_worker_go_on_in_place(site: SiteConfig) -> None:
    clock = SimulatedClock()
    record(site, {0: {1: 0}, 1: {2: 1}, 2: {3: 2}}, clock)
    record(with_slots(site, 2), {0: {1: 0, 3: 2}, 1: {2: 1}}, clock)
    record(with_slots(site, 1), {0: {1: 0, 2: 1, 3: 2}}, clock)
    record(site, {0: {1: 0}, 1: {2: 1}, 2: {3: 2}}, clock)
    for camera in (1, 2, 3):
        assert causes(site, camera) == [GapCause.STOPPED] * 4
    report = check_volume(site.volumes[0].path, site.live_dir, level=3)
    assert (report.findings, report.tracks) == ([], 3)
    assert sorted(path.name for path in site.volumes[0].path.glob("slot-*")) == ["slot-0", "slot-1", "slot-2"]


def test_a_slot_that_was_left_is_recovered_although_no_camera_needs_it(site: SiteConfig, caplog: pytest.LogCaptureFixture) -> None:
    clock = SimulatedClock()
    record(site, {2: {3: 2}}, clock)
    caplog.set_level(logging.INFO, "rack")
    record(with_slots(site, 2), {1: {}}, clock)
    assert "slot 2" not in caplog.text                       # it is worker 0's
    record(with_slots(site, 2), {0: {}}, clock)
    assert "slot 2 on" in caplog.text


def test_a_slot_whose_volume_changed_is_kept_where_it_is(site: SiteConfig, tmp_path: Path) -> None:
    clock = SimulatedClock()
    record(site, {1: {2: 1}}, clock)
    more = replace(site, volumes=(*site.volumes, VolumeConfig(tmp_path / "b", on_root=True)))
    worker = Worker(more, 1, clock)
    worker.record(2, 1)
    assert [sorted(shelf.slots) for shelf in worker.rack.shelves] == [[1], [1]]      # the old one for retention, the new one to record in
    worker.rack.close()
    assert (tmp_path / "b" / "tape.zarr" / "cam-2").is_dir()


def test_slots_share_their_volume(site: SiteConfig) -> None:
    clock = SimulatedClock()
    first = Worker(with_slots(site, 2), 0, clock)
    slot = first.rack.slot(0)
    assert slot._pool.limit_bytes == 256 << 20               # the only slot of its volume
    second = Worker(with_slots(site, 2), 1, clock)
    assert second.rack.slot(1)._pool.limit_bytes == 128 << 20
    clock.advance(21)
    until(lambda: slot._pool.limit_bytes == 128 << 20)
    second.rack.close()
    first.rack.close()


def test_a_left_slot_that_cannot_be_opened_stops_nobody(site: SiteConfig, caplog: pytest.LogCaptureFixture) -> None:
    clock = SimulatedClock()
    record(site, {0: {1: 0}, 2: {3: 2}}, clock)
    foreign = Worker(site, 2, clock)                         # a worker of yesterday still has slot 2
    fewer = Worker(with_slots(site, 2), 0, clock)
    assert "slot 2 is in use by another process" in caplog.text
    fewer.record(1, 0)
    with pytest.raises(VolumeError, match="in use"):
        fewer.record(3, 2)
    foreign.rack.close()
    fewer.record(3, 2)                                       # tried again when its camera is
    fewer.rack.close()
    with pytest.raises(WatchroomError, match="ending"):
        fewer.rack.slot(5)


def test_names_that_are_no_slots_are_passed_over(site: SiteConfig) -> None:
    for name in ("slot-x", "slot-", "slot-03", "slot--1", "slot-1.old"):
        (site.volumes[0].path / name).mkdir()
    worker = Worker(with_slots(site, 1), 0, SimulatedClock())
    assert [list(shelf.slots) for shelf in worker.rack.shelves] == [[]]
    worker.rack.close()


def test_neither_a_full_slot_nor_an_open_track_sends_a_camera_to_another_volume(site: SiteConfig, tmp_path: Path) -> None:
    """The volume is well: going elsewhere would leave a tape on each for nothing."""
    both = replace(site, volumes=(*site.volumes, VolumeConfig(tmp_path / "b", on_root=True)))
    worker = Worker(with_slots(both, 1), 0, SimulatedClock())
    worker.record(1, 0)
    live = worker.rack.slot(0)._live
    live._blocks = live._used
    for error, camera in ((StorageError, 2), (Conflict, 1)):
        with pytest.raises(error) as caught:
            worker.record(camera, 0)
        assert not isinstance(caught.value, VolumeError)
    assert [sorted(shelf.slots) for shelf in worker.rack.shelves] == [[0], []]
    assert not any(shelf.failed for shelf in worker.rack.shelves) and worker.events == []
    worker.rack.close()
