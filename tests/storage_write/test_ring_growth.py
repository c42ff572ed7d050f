"""Rings that grow: in place while nothing has gone round, else by a copy; readers that had them open follow."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.items import TailMove
from storage.layout import PAGE, RING_HEAD, ROW
from storage.ringfile import RingFile
from storage.rings import FIRST_ROWS, IndexWriter, enlarged, is_full
from storage.steps import Step
from storage.store import TapeStore
from storage.volume import Volume
from tests.storage_write.rig import Camera, Rig, tape

Make = Callable[..., Rig]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rings", "rebuild"):
        monkeypatch.setattr(f"storage.{module}.FIRST_ROWS", 128)
        monkeypatch.setattr(f"storage.{module}.FIRST_FRAMES", 8192)
    monkeypatch.setattr("storage.keeper.GROW_ROWS", 64)
    monkeypatch.setattr("storage.keeper.GROW_FRAMES", 4096)


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """A step for each ring that has taken the place of another."""
    seen: list[Step] = []
    monkeypatch.setattr("storage.steps.hook", lambda step: seen.append(step) if step is Step.RING_RENAMED else None)
    return seen


@pytest.mark.usefixtures("small")
def test_a_ring_in_its_first_lap_grows_where_it_is(make_rig: Make, renamed: list[Step]) -> None:
    rig = make_rig()
    _, camera = rig.track(size=300, gop=1, fps=1)
    store = TapeStore([rig.path], rig.live)
    reader = store.track(1, "main")
    renamed.clear()         # those of the new track
    for _ in range(10):
        rig.run(camera, 40, batch=20)
        run = reader.rows_from(0, 10_000)
        assert run.first == 0 and len(reader.entries(run)) == camera.au
    assert rig.slot._works[1, "main"].ring.capacity >= 512
    assert not renamed
    store.close()


@pytest.mark.usefixtures("small")
def test_a_ring_that_has_gone_round_is_copied(make_rig: Make, renamed: list[Step]) -> None:
    rig = make_rig()
    _, camera = rig.track(size=300, gop=1, fps=1)
    work = rig.slot._works[1, "main"]
    renamed.clear()
    while work.core.next_row < 2 * work.ring.capacity:
        rig.run(camera, 20, batch=20)
        forget(work.core.next_row - 10, rig)
    assert not renamed and work.ring.capacity == 128
    run_on(rig, camera)
    assert renamed and work.ring.capacity > 128
    kept = tape(rig.path, rig)
    assert len(kept) > 300 and kept == camera.sent[-len(kept):]


@pytest.mark.usefixtures("small")
def test_who_reads_rows_while_a_ring_is_replaced_finds_them(make_rig: Make, renamed: list[Step]) -> None:
    """Its descriptor was closed under a keeper that read rows, which took that for a failed volume."""
    rig = make_rig()
    _, camera = rig.track(size=300, gop=1, fps=1)
    work, stop, lost = rig.slot._works[1, "main"], threading.Event(), []
    while work.core.next_row < 2 * work.ring.capacity:
        rig.run(camera, 20, batch=20)
        forget(work.core.next_row - 10, rig)

    def read() -> None:
        while not stop.is_set():
            number = work.core.ring_rows - 1
            if work.row(number) is None:
                lost.append(number)

    thread = threading.Thread(target=read)
    thread.start()
    renamed.clear()
    run_on(rig, camera)
    stop.set()
    thread.join()
    assert renamed and not lost and not rig.slot.failed
    rig.turn()
    assert work.ring._outlived == work.frames._outlived == -1, "the old file is still open"


def forget(row: int, rig: Rig) -> None:
    work = rig.slot._works[1, "main"]
    raw = work.row(row)
    assert raw is not None
    work.move_tail(TailMove(row, int(np.frombuffer(raw, ROW)["offset"][0]), 0))


def run_on(rig: Rig, camera: Camera) -> None:
    rig.run(camera, 300, batch=20)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [Step.RING_GROWN, Step.JOURNAL_WRITTEN])
def test_a_crash_while_a_ring_grows_loses_nothing(make_rig: Make, monkeypatch: pytest.MonkeyPatch, after: Step) -> None:
    rig = make_rig()
    _, camera = rig.track(size=300, gop=1, fps=1)
    seen: list[Step] = []

    def stop(step: Step) -> None:
        seen.append(step)
        if Step.RING_GROWN in seen and step is after:
            raise KeyboardInterrupt

    monkeypatch.setattr("storage.steps.hook", stop)
    with pytest.raises(KeyboardInterrupt):
        run_on(rig, camera)
    monkeypatch.setattr("storage.steps.hook", None)
    rig.crash()
    again = make_rig()
    kept = tape(again.path, again)
    assert kept == camera.sent[:len(kept)] and len(kept) >= len(camera.sent) - 40


def made(path: Path) -> tuple[Volume, IndexWriter]:
    Volume.init(path, on_root=True).close()
    volume = Volume.open(path, on_root=True)
    volume.make_dirs("idx/cam-1")
    writer = IndexWriter(volume, 1, "main", frames=False)
    writer.create(5, 128)
    return volume, writer


def test_an_extended_ring_keeps_what_its_head_says(tmp_path: Path) -> None:
    volume, writer = made(tmp_path / "v")
    old = RingFile(volume.dir_fd, writer.path, 1, "main")
    assert old.covers(100) and old.current()
    writer.allocate(256)
    assert old.current()
    writer.extend(256)
    assert old.covers(100) and not old.covers(101)
    new = RingFile(volume.dir_fd, writer.path, 1, "main")
    assert (new.capacity, new.first_row) == (256, 5)
    for file in (old, new, writer, volume):
        file.close()


def test_a_head_that_is_being_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, writer = made(tmp_path / "v")
    torn, real = [True], os.pread

    def pread(fd: int, count: int, at: int) -> bytes:
        data = real(fd, count, at)
        if torn and count == RING_HEAD.itemsize:
            torn.pop()
            return data[:64] + bytes(8) + data[72:]
        return data

    monkeypatch.setattr(os, "pread", pread)
    ring = RingFile(volume.dir_fd, writer.path, 1, "main")
    assert ring.capacity == 128 and not torn
    for file in (ring, writer, volume):
        file.close()


def test_a_month_of_rows_takes_less_than_70_bytes_each() -> None:
    for rows in range(1_000_000, 3_000_000, 100_003):
        capacity = FIRST_ROWS
        while is_full(rows + 8192, capacity):
            capacity = enlarged(capacity, frames=False)
        assert capacity * ROW.itemsize + PAGE <= 70 * rows
        assert capacity % 64 == 0
