"""A ring that is nearly full is replaced by one twice as large, whoever reads it and whenever the process dies."""

import threading
from collections.abc import Callable

import pytest
from rig import Camera, Rig, tape

from storage import steps
from storage.rings import row_is
from storage.steps import Step

Make = Callable[..., Rig]
CAPACITY, GROW = 1024, 128      # of a new ring; rows for which there must be room
ROWS, BATCH = 880, 80           # more than fit then; rows that a commit takes


@pytest.fixture(autouse=True)
def small_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.rebuild.FIRST_ROWS", CAPACITY)
    monkeypatch.setattr("storage.keeper.GROW_ROWS", GROW)


class Killed(BaseException):
    """The process is gone."""


def record(rig: Rig, camera: Camera, rows: int) -> None:
    """So many rows of one AU."""
    for _ in range(rows // BATCH):
        assert camera.put(BATCH) == BATCH
        rig.turn()


def small(rig: Rig) -> Camera:
    return rig.track(fps=1, gop=1, size=64)[1]


def test_a_ring_grows_under_who_reads_it(make_rig: Make) -> None:
    """Its descriptor was closed under a keeper that read rows, which took that for a failed volume."""
    rig = make_rig()
    camera = small(rig)
    record(rig, camera, 160)
    work, stop, lost = rig.slot._works[1, "main"], threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            for number in range(0, 128, 7):
                raw = work.row(number)
                if raw is None or not row_is(raw, number):
                    lost.append(number)

    thread = threading.Thread(target=read)
    thread.start()
    record(rig, camera, ROWS)
    stop.set()
    thread.join()
    assert work.ring.capacity == 2 * CAPACITY and work.ring._outlived == -1
    assert not lost and not rig.slot.failed
    assert tape(rig.path, rig) == camera.sent


@pytest.mark.parametrize("step", [Step.RING_GROWN, Step.RING_RENAMED], ids=lambda step: step.name.lower())
def test_killed_while_a_ring_grows(make_rig: Make, monkeypatch: pytest.MonkeyPatch, step: Step) -> None:
    rig = make_rig()
    camera = small(rig)

    def die(done: Step) -> None:
        if done is step:
            raise Killed

    monkeypatch.setattr(steps, "hook", die)
    with pytest.raises(Killed):
        record(rig, camera, ROWS)
    monkeypatch.setattr(steps, "hook", None)
    rig.crash()
    again = make_rig(clock=rig.clock)
    kept = tape(again.path, again)
    assert kept == camera.sent[:len(kept)] and len(kept) > ROWS // 2
    second = small(again)
    second.au = camera.au
    record(again, second, ROWS)
    assert tape(again.path, again) == kept + second.sent
    assert again.slot._works[1, "main"].ring.capacity == 2 * CAPACITY
