"""A power cut at any numbered step: the image of the file system is copied there, mounted elsewhere and recovered.

What the copy holds is what the disk had been sent: the file system's own cache is not in it. So everything that a syncfs had acknowledged
must be in each copy, and nothing that was not recorded may be served from it.
"""

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from aftermath import check_clean, check_no_alarm, check_tape, seeds
from held import NS, hold
from loopimage import make_image, mount, unmount
from rig import Camera, Rig

from recorder.base.media import TrackKind
from storage import steps
from storage.steps import Step

HOLD_TURNS = 40
HOLD_S = 4
NEVER = {Step.RECOVERED_ZERO, Step.RECOVERED_RINGS, Step.RECOVERED_FILES, Step.RING_GROWN}


@dataclass(frozen=True)
class Copy:
    """An image as it was at a step, and what had been acknowledged by then: per track durable row and offset."""

    path: Path
    step: Step
    durable: dict[tuple[int, str], tuple[int, int]]


def copy_sparse(source: Path, target: Path) -> None:
    """The file's data extents only."""
    src, dst = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        size = os.fstat(src).st_size
        os.ftruncate(dst, size)
        at = 0
        while at < size:
            try:
                at = os.lseek(src, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(src, at, os.SEEK_HOLE)
            while at < end:
                at += os.copy_file_range(src, dst, end - at, at, at)
    finally:
        os.close(src)
        os.close(dst)


class Filmed:
    """Records on a mounted image and copies it at chosen steps."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.image, self.point = folder, folder / f"{kind}.img", folder / "mount"
        make_image(self.image, kind)
        mount(self.image, self.point)
        self.copies: list[Copy] = []
        self.seen: dict[Step, int] = {}
        self.rig: Rig | None = None

    def run(self, wanted: Callable[[Step, int], bool], check: Callable[[Copy], None], turns: int) -> None:
        """Record; `wanted(step, n)` says whether the n-th time of that step is copied; `check` sees each copy, which is then removed."""
        def hook(step: Step) -> None:
            self.seen[step] = self.seen.get(step, 0) + 1
            if self.rig is not None and wanted(step, self.seen[step]):
                steps.hook = None
                copy = Copy(self.folder / "copy.img", step, {key: (w.core.durable[1], w.core.durable[0])
                                                             for key, w in self.rig.slot._works.items()})
                copy_sparse(self.image, copy.path)
                check(copy)
                copy.path.unlink()
                self.copies.append(copy)
                steps.hook = hook

        steps.hook = hook
        try:
            self._record(turns)
        finally:
            steps.hook = None

    def _record(self, turns: int) -> None:
        self.rig = rig = Rig(self.point / "volume", self.folder / "live", bytes_max=9 * (16 << 20), quarantine_s=2.0,
                             journal_bytes=64 << 10, chunk_close_s=6.0)
        _, main = rig.track(1, size=40_000, gop=100)
        _, audio = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=47, size=600)
        tracks: list[Camera] = [main, audio]
        for turn in range(turns):
            for camera in tracks:
                camera.put(20)
                camera.sent.clear()
            rig.clock.advance(0.4)
            rig.turn(commit=turn % 3 != 2)
            if turn % HOLD_TURNS == HOLD_TURNS - 1:
                self._hold(main, turn // HOLD_TURNS + 1)
        rig.close()

    def _hold(self, camera: Camera, number: int) -> None:
        """Hold the last seconds, no longer those of the hold before."""
        assert self.rig is not None
        now_ns = camera.start_ns + camera.au * NS // camera.fps
        if number > 1:
            self.rig.slot.release(hold(number - 1, 0, 1).id, now_ns, "test")
        self.rig.slot.hold(hold(number, now_ns - HOLD_S * NS, now_ns))

    def close(self) -> None:
        if self.rig is not None and self.rig.slot._lock_fd >= 0:
            self.rig.close()
        unmount(self.point)


@pytest.fixture
def filmed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Filmed]:
    film = Filmed(tmp_path, request.param)
    (film.point / "volume").mkdir()
    yield film
    film.close()


def checker(folder: Path, known: dict[int, dict[bytes, int]]) -> Callable[[Copy], None]:
    """Mounts a copy, recovers it as after a power cut (no live file), and checks every track."""
    def check(copy: Copy) -> None:
        point, live = folder / "other", folder / "otherlive"
        mount(copy.path, point)
        try:
            if not (point / "volume" / "volume.json").exists():
                assert not any(row for row, _ in copy.durable.values())
                return
            shutil.rmtree(live, ignore_errors=True)
            check_no_alarm(point / "volume", live)
            rig = Rig(point / "volume", live, quarantine_s=2.0, journal_bytes=256 << 10)
            try:
                for (camera, name), (row, offset) in copy.durable.items():
                    if row or offset:
                        check_tape(rig, camera, name, durable_row=row, durable_offset=offset, known=known[camera])
                rig.turn()      # a seal of which the head had reached the disk and the footer had not is made again
                check_clean(rig)
                _goes_on(rig)
                check_clean(rig)
            finally:
                rig.crash()     # its descriptors, nothing else
        finally:
            unmount(point)

    return check


def _goes_on(rig: Rig) -> None:
    if (1, "main") in rig.slot._works:
        _, camera = rig.track(1, size=4_000)
        before = rig.core().next_row
        camera.au = 10_000_000
        rig.run(camera, 30)
        assert rig.core().next_row > before


@pytest.mark.disk
@pytest.mark.parametrize("filmed", ["ext4", "xfs"], indirect=True)
def test_a_power_cut_at_a_step_loses_nothing_acknowledged(filmed: Filmed, tmp_path: Path) -> None:
    known = {1: seeds(1, 20_000)}
    dice = random.Random(5)
    at = {step: dice.randint(1, 3) for step in (Step.PASS, Step.SYNCED, Step.SEALED, Step.RENAMED_TAKEN, Step.QUARANTINED, Step.POOLED,
                                                Step.MARKED_INDEX, Step.SEGMENT_RECYCLED)}
    filmed.run(lambda step, n: at.get(step) == n, checker(tmp_path, known), 150)
    assert {copy.step for copy in filmed.copies} == set(at)


@pytest.mark.disk
@pytest.mark.soak
@pytest.mark.parametrize("filmed", ["ext4", "xfs"], indirect=True)
def test_a_power_cut_anywhere(filmed: Filmed, tmp_path: Path, copies: int, record_property: Callable[[str, object], None]) -> None:
    """Half of the copies at least on each file system, of each step about as many: those of each turn (up to the index) more seldom."""
    each = copies // 2
    turns = max(600, 6 * each)
    known = {1: seeds(1, 20 * turns + 20)}
    dice = random.Random(7)
    counts: dict[Step, int] = {}

    def wanted(step: Step, n: int) -> bool:
        if counts.get(step, 0) < each // 16 + 1 and (n <= 2 or dice.random() < (0.05 if step <= Step.MARKED_INDEX else 0.3)):
            counts[step] = counts.get(step, 0) + 1
            return True
        return False

    filmed.run(wanted, checker(tmp_path, known), turns)
    record_property("copies recovered", len(filmed.copies))
    record_property("of steps", len(counts))
    record_property("rows acknowledged, all there", sum(row for copy in filmed.copies for row, _ in copy.durable.values()))
    missing = set(Step) - NEVER - set(counts) - {Step.TRACK_CREATED, Step.POOL_CREATED, Step.POOL_FILLED}
    assert not missing, f"never copied: {sorted(missing)}"
    assert len(filmed.copies) >= each
