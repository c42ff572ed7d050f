"""What breaks, and what holds nevertheless."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rig import ENTRY, Rig, tape

import storage.commit
from recorder._ext.auqueue import AuQueue
from recorder.base.config import RetentionRule
from recorder.base.errors import VolumeError
from recorder.base.media import AuFlag, GapCause, TrackKind
from storage.events import AusRefused, SlotBroken, VolumeFailed
from storage.rings import FIRST_ROWS
from storage.slot import Slot
from storage.store import TapeStore
from storage.tapework import REFUSED_FORMAT

Make = Callable[..., Rig]
END = 1 << 62


def test_a_failed_syncfs_is_the_end_and_never_tried_again(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 50)
    durable = rig.core().durable
    calls = []

    def fail(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(storage.commit, "syncfs", fail)
    rig.run(camera, 30)
    assert calls and len(calls) == 1 and rig.core().durable == durable
    assert [e for e in rig.events if isinstance(e, VolumeFailed)] == [VolumeFailed(rig.path, "Input/output error")]
    while camera.put(10):
        rig.turn()
    assert camera.queue.waiting_aus > 0, "AUs wait in the queue, then overflow"
    with pytest.raises(VolumeError, match="has failed"):
        rig.track(2)


def test_a_failed_write_to_a_chunk_is_reported(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 30)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, rig.core().fd)
    if rig.core().direct_fd >= 0:
        os.dup2(full, rig.core().direct_fd)
    camera.put(10)
    before = rig.core().next_row, rig.core().tape_end
    rig.turn()
    os.close(full)
    assert isinstance(rig.events[-1], VolumeFailed)
    assert (rig.core().next_row, rig.core().tape_end) == before, "what was not written must not become visible"


def test_two_processes_cannot_have_one_slot(make_rig: Make) -> None:
    rig = make_rig()
    other = Slot(rig.volume, 0, config=rig.slot._config, live_dir=rig.live, clock=rig.clock, on_event=rig.events.append)
    with pytest.raises(VolumeError, match="in use"):
        other.open()


def test_lost_rings_and_logs_are_made_again(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track(size=60_000)
    rig.run(camera, 300)
    writer.open_gap(GapCause.STALL)
    rig.turn()
    rig.close()
    for file in (rig.path / "idx/cam-1").iterdir():
        file.unlink()
    for file in rig.live.iterdir():
        file.unlink()
    again = make_rig()
    assert tape(again.path, again) == camera.sent
    store = TapeStore([again.path], again.live)
    track = store.track(1, "main")
    assert [g.cause for g in track.gaps(0, END)] == [GapCause.STALL] and track.sample_entry(1).codec == "avc1"
    store.close()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000])
def test_a_damaged_ring_head_is_noticed(make_rig: Make, damage: bytes) -> None:
    rig = make_rig()
    _, camera = rig.track(size=60_000)
    rig.run(camera, 300)
    rig.close()
    path = rig.path / "idx/cam-1/main.ring"
    with path.open("r+b") as file:
        file.write(damage)
        if not damage:
            file.truncate(100)
    again = make_rig()
    assert tape(again.path, again) == camera.sent


def test_a_lost_journal_costs_only_what_neither_footers_nor_rings_held(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(size=120_000)
    rig.run(camera, 300)
    sealed = rig.slot._works[1, "main"].safe_row
    assert 0 < sealed < rig.core().next_row
    rig.crash()
    shutil.rmtree(rig.path / "slot-0")
    for file in rig.live.iterdir():
        file.unlink()
    again = make_rig()
    _, second = again.track()
    assert again.core().next_row == sealed
    second.au = 5000
    again.run(second, 50)
    found = tape(again.path, again)
    assert found[-50:] == second.sent and found[:-50] == camera.sent[:len(found) - 50]
    store = TapeStore([again.path], again.live)
    assert [g.cause for g in store.track(1, "main").gaps(0, END)] == [GapCause.CRASH]
    store.close()


def test_one_unreadable_record_between_good_ones_costs_nothing(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 200)
    rig.close()
    segment = min((rig.path / "slot-0/journal").iterdir())
    with segment.open("r+b") as file:
        file.seek(10 * 4096 + 100)
        file.write(b"\xff" * 20)
    again = make_rig()
    assert again.slot._journal.damaged == 1
    assert tape(again.path, again) == camera.sent


def test_a_torn_last_record_falls_back_to_the_one_before(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 60)
    kept = len(camera.sent)
    rig.run(camera, 10)
    journal, at = rig.slot._journal, rig.slot._journal._at
    segment = rig.path / f"slot-0/journal/{journal.segments[-1].number:08d}"
    rig.crash()
    with segment.open("r+b") as file:
        file.seek(at - 4096 + 200)
        file.write(b"\xff" * 100)
    for file in rig.live.iterdir():
        file.unlink()
    again = make_rig()
    assert tape(again.path, again) == camera.sent[:kept]


def test_a_last_record_without_its_bytes_is_not_believed(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 80)
    kept, end = list(camera.sent), rig.core().tape_end
    rig.run(camera, 10)
    rig.crash()
    with (rig.path / "tape.zarr/cam-1/main/c/0").open("r+b") as file:
        file.seek(4096 + end + 50_000)
        file.write(bytes(1 << 20))
    for file in rig.live.iterdir():
        file.unlink()
    again = make_rig()
    assert again.report.tapes_fallen_back == 1
    assert tape(again.path, again) == kept
    _, second = again.track()
    second.au = 900
    again.run(second, 30)
    assert tape(again.path, again) == kept + second.sent


def test_a_ring_grows_while_it_is_written(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rings", "rebuild"):
        monkeypatch.setattr(f"storage.{module}.FIRST_ROWS", 128)
        monkeypatch.setattr(f"storage.{module}.FIRST_FRAMES", 8192)
    monkeypatch.setattr("storage.keeper.GROW_ROWS", 64)
    monkeypatch.setattr("storage.keeper.GROW_FRAMES", 4096)
    rig = make_rig()
    _, camera = rig.track(size=300, gop=5, fps=5)
    rig.run(camera, 2500, batch=20)
    assert 512 <= rig.slot._works[1, "main"].ring.capacity < FIRST_ROWS
    assert tape(rig.path, rig) == camera.sent
    rig.crash()
    again = make_rig()
    assert tape(again.path, again) == camera.sent


def test_aus_of_an_unknown_format_do_not_fill_the_queue_for_ever(make_rig: Make) -> None:
    rig = make_rig()
    queue = AuQueue(1 << 16)
    from recorder.base.config import RetentionRule
    rig.slot.open_track(1, "main", TrackKind.VIDEO, clock_rate=90000, queue=queue, rule=RetentionRule(), describe=lambda _: None)
    for n in range(60):
        assert queue.append(b"x" * 2000, n * 3600, n * 3600, n, 1, 0, 0, 1)
        rig.turn()
    assert any(isinstance(e, AusRefused) for e in rig.events) and queue.dropped_aus == 0


def test_a_live_file_of_another_history_is_not_believed(make_rig: Make, tmp_path: Path) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 60)
    rig.crash()
    shutil.copytree(rig.path, tmp_path / "backup")
    sent = list(camera.sent)
    forward = make_rig()
    _, second = forward.track()
    second.au = 700
    forward.run(second, 200)
    forward.crash()
    shutil.rmtree(rig.path)
    shutil.copytree(tmp_path / "backup", rig.path)
    again = make_rig()
    assert tape(again.path, again) == sent


def test_threads_record_commit_and_stop(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.slot.start()
    for _ in range(10):
        assert camera.put(10) == 10
    rig.slot.close()

    assert not any(isinstance(e, VolumeFailed) for e in rig.events)
    rig.volume.close()
    again = make_rig()
    assert again.report.clean and tape(again.path, again) == camera.sent


@pytest.mark.parametrize("place", ["storage.slot.Slot._pass", "storage.keeper.Keeper.keep_once", "storage.commit.Committer._commit"])
def test_a_defect_in_a_thread_is_told_and_does_not_leave_a_slot_without_a_writer(
        make_rig: Make, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def defect(*_: object) -> None:
        raise AttributeError("a defect")

    rig = make_rig()
    _, camera = rig.track()
    monkeypatch.setattr(place, defect)
    camera.put(5)
    rig.slot.start()
    for _ in range(500):
        if rig.slot.failed and rig.events:
            break
        time.sleep(0.01)
    rig.close()
    broken = [event for event in rig.events if isinstance(event, SlotBroken)]
    assert len(broken) == 1 and "a defect" in broken[0].traceback


def test_parameter_sets_that_never_repeat_end_in_a_gap_and_spare_the_other_tracks(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """65,535 sample entries failed the whole volume, and every checkpoint held them all."""
    monkeypatch.setattr("storage.tapework.ENTRIES_MAX", 3)
    rig = make_rig()
    entries = {number: replace(ENTRY, config=bytes([1, 100, 0, 40, number])) for number in range(1, 9)}
    queue = AuQueue(1 << 20)
    writer = rig.slot.open_track(1, "main", TrackKind.VIDEO, clock_rate=90_000, queue=queue, rule=RetentionRule(), describe=entries.get)
    writer.begin_session(1, rig.clock.wall_ns(), "test")
    rig.turn()
    _, other = rig.track(camera=2)
    sent = []
    for step, number in enumerate([1, 2, 3, 4, 5, 6, 7, 8, 2]):
        sent.append(bytes([number]) * 100)
        assert queue.append(sent[-1], step * 90_000, step * 90_000, rig.clock.wall_ns() + step * 10**9, 1, 1, number,
                            flags=AuFlag.KEY)
        rig.run(other, 5)
    work = rig.slot._works[1, "main"]
    assert len(tape(rig.path, rig, 2)) == 45
    assert len(work.sample_entries) == 3
    assert [e.why for e in rig.events if isinstance(e, AusRefused)] == [REFUSED_FORMAT]
    assert tape(rig.path, rig, 1) == [*sent[:3], sent[8]] and work.gap is None


def test_a_sample_entry_larger_than_any_camera_needs_is_refused(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(entry=replace(ENTRY, config=bytes(17 << 10)))
    rig.run(camera, 30)
    assert tape(rig.path, rig) == [] and not rig.slot.failed
    assert rig.slot._works[1, "main"].chunk is None or not rig.slot._works[1, "main"].chunk.entries
