"""kill -9 of a recording process, at random and at every numbered step: all that was acknowledged is served, and recording goes on."""

import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from aftermath import check_clean, check_held, check_no_alarm, check_tape, held_promise, promises, seeds
from payloads import payload
from rig import Rig

from storage.steps import Step
from storage.volume import Volume

HERE = Path(__file__).parent
TOP = Path(__file__).parents[2]
BYTES_MAX = 16 * (16 << 20)
RECOVERY = {Step.RECOVERED_ZERO, Step.RECOVERED_RINGS, Step.RECOVERED_FILES}
STARTING = {Step.POOL_CREATED, Step.POOL_FILLED, Step.POOL_ADDED, Step.HEAD_TAKEN, Step.RENAMED_TAKEN, Step.TRACK_CREATED,
            Step.RING_RENAMED, Step.SEGMENT_CREATED, Step.SWITCHED, Step.HELD_WRITTEN, Step.HELD_NAMED}
TRACKS = 3                     # of a victim
PROMISE = 5                    # words
HANGS_S = 300                  # a victim that takes longer hangs
RARE = {Step.RING_GROWN}       # takes hours of footage; see tests/storage_write/test_ring_growth.py


class Scene:
    """One volume on which processes record and die, one after another."""

    def __init__(self, path: Path) -> None:
        self.volume, self.live = path / "volume", path / "live"
        self.live.mkdir()
        Volume.init(self.volume, bytes_max=BYTES_MAX, on_root=True).close()
        self.first = 0
        self.promised: dict[tuple[int, str], tuple[int, int, int]] = {}
        self.known: dict[int, dict[bytes, int]] = {}
        self.held = (0, 0)

    def record(self, step: int, count: int, gop: int, seconds: float = 0) -> bool:
        """Run a victim until it dies at `step`, or for `seconds` once it has a new durable row on each track; True if it died itself."""
        command = [sys.executable, str(HERE / "victim.py"), str(self.volume), str(self.live), str(step), str(count), str(gop),
                   str(self.first)]
        log = self.volume.parent / "promises"
        with log.open("wb") as out:
            child = subprocess.Popen(command, stdout=out, cwd=TOP, env={"PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin"})
            try:
                if step:
                    child.wait(timeout=HANGS_S)
                else:
                    self._let_record(child, log)
                    time.sleep(seconds)
            finally:
                died = child.poll() is not None
                child.kill()
                child.wait()
        assert child.returncode == -9, "the victim ended by itself"
        for live in (self.live, self.volume):       # with what it left in memory, and as after a reboot
            check_no_alarm(self.volume, live)
        lines = log.read_text().splitlines()
        made = promises(lines)
        if any(line.startswith("held ") for line in lines):
            self.held = held_promise(lines)
        self.promised.update(made)
        self.first = max([self.first, *(p[2] for p in made.values())]) + 1000
        self.first -= self.first % 1000
        return died

    @staticmethod
    def _let_record(child: "subprocess.Popen[bytes]", log: Path) -> None:
        """Return when the victim's promises name more durable rows on each track than its first ones did, however long that takes."""
        until = time.monotonic() + HANGS_S
        while child.poll() is None:
            lines = [line for line in log.read_text().splitlines()[:-1] if len(line.split()) == PROMISE]
            begun, now = promises(lines[:TRACKS]), promises(lines)
            if len(begun) == TRACKS and all(now[key][0] > row for key, (row, _, _) in begun.items()):
                return
            assert time.monotonic() < until, f"no durable rows after {HANGS_S} s: {begun} {now}"
            time.sleep(0.05)

    def check(self) -> None:
        """Open the volume as the next process would, and see that everything promised is there."""
        rig = Rig(self.volume, self.live, journal_bytes=256 << 10, quarantine_s=0.3)
        try:
            for (camera, name), (row, offset, _) in self.promised.items():
                if not row and not offset:
                    continue                # nothing had been promised: the track may not even be known
                known = self.known.setdefault(camera, {})
                if len(known) < self.first + 2000:
                    known.update(seeds(camera, self.first + 4000))
                check_tape(rig, camera, name, durable_row=row, durable_offset=offset, known=known)
            if self.held[1]:
                check_held(rig, *self.held, self.known[1])
            check_clean(rig)
        finally:
            rig.crash()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.live
@pytest.mark.parametrize("gop", [25, 500])
def test_killed_at_random(scene: Scene, gop: int) -> None:
    dice = random.Random(gop)
    for _ in range(4):
        assert not scene.record(0, 0, gop, dice.uniform(0, 1.2))
        scene.check()
    assert all(row > 0 for row, _, _ in scene.promised.values())


@pytest.mark.live
@pytest.mark.parametrize("step", [s for s in Step if s not in RARE], ids=lambda s: s.name.lower())
def test_killed_at_a_step(scene: Scene, step: Step) -> None:
    if step in RECOVERY:
        scene.record(0, 0, 50)
        scene.check()
    count = 1 if step in RECOVERY | STARTING else 2
    assert scene.record(step, count, 50), f"{step.name} is never reached"
    scene.check()
    scene.record(0, 0, 50)
    scene.check()


def test_the_checks_see_wrong_bytes_and_say_which(scene: Scene) -> None:
    scene.record(0, 0, 50)
    path = scene.volume / "tape.zarr/cam-1/main/c/0"
    with path.open("r+b") as file:
        file.seek(4096 + 1000)
        byte = file.read(1)
        file.seek(4096 + 1000)
        file.write(bytes([byte[0] ^ 1]))
        file.seek(4 * 4096)
        file.write(bytes(4096))
        file.seek(6 * 4096)
        file.write(payload(2, 7, 4096))
    with pytest.raises(AssertionError) as failed:
        scene.check()
    told = str(failed.value)
    assert "row 0 of 0 to" in told
    au = "AU 0 of the row (AU 0 of camera 1)"
    for line in (f"pages 1 to 1, {au} to {au}: bytes 1000 to 1000 of 4096 differ",
                 f"pages 2 to 3, {au} to {au}: right",
                 f"pages 4 to 4, {au} to {au}: bytes 0 to 4095 of 4096 differ, they are zeros",
                 f"pages 6 to 6, {au} to {au}: bytes 0 to 4095 of 4096 differ, they are AU 7 of camera 2",
                 "head: cam-1/main chunk 0, generation 1,", "read past it (O_DIRECT): CRC wrong"):
        assert line in told, told
    assert re.search(r"extent: pages \d+ to \d+ at \d+ of the disk: \w+", told), told


@pytest.mark.soak
def test_killed_many_times(tmp_path: Path, kills: int, record_property: Callable[[str, object], None]) -> None:
    """At any time, most often right after the start, and at any step; on a new volume after each ten."""
    seed = time.time_ns()
    dice, scene, steps = random.Random(seed), None, sorted(set(Step) - RARE - STARTING)
    record_property("seed", seed)
    promised = 0
    for kill in range(kills):
        if scene is None or kill % 10 == 0:
            promised += _promised(scene)
            scene = _scene(tmp_path / f"scene-{kill // 10}", scene)
        gop = dice.choice((25, 50, 500))
        if kill % 10 and kill % 3 == 2:
            step = dice.choice(steps)
            assert scene.record(step, 1 if step in RECOVERY else dice.randint(1, 3), gop), f"{step.name} is never reached"
        else:
            scene.record(0, 0, gop, dice.choice((0.0, dice.uniform(0, 1), dice.uniform(0, 4))))
        scene.check()
    record_property("kills", kills)
    record_property("rows acknowledged, all there", promised + _promised(scene))


def _promised(scene: Scene | None) -> int:
    return sum(row for row, _, _ in scene.promised.values()) if scene is not None else 0


def _scene(path: Path, before: Scene | None) -> Scene:
    """A new one; the volume of the one before is not needed any more."""
    if before is not None:
        shutil.rmtree(before.volume.parent)
    path.mkdir()
    return Scene(path)
