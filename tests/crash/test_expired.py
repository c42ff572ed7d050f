"""What has expired: unreadable within a minute, and an hour later the image of the file system holds no sector of it."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from aftermath import check_clean, seeds
from loopimage import make_image, mount, unmount
from payloads import SEED, first_turned
from rig import Camera, Rig

from recorder.base.clock import SimulatedClock
from recorder.base.config import RetentionRule
from recorder.base.errors import Gone
from storage.disk import syncfs
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.tape import TapeWriter

SECOND, STEP_S = 1_000_000_000, 20
HOUR_S, DAY_S = 3600, 86_400
UNREADABLE_S = 60       # what DESIGN promises
SECTOR = 512
WINDOW = 8 << 20
SIZE = 3_000            # of an AU: any piece of one on a disk covers an end of a sector


def aus_on_disk(image: Path, known: dict[bytes, int]) -> set[int]:
    """Numbers of the AUs of which any sector of the image begins or ends with a piece; `known`: number by `first_turned` seed."""
    found: set[int] = set()
    fd = os.open(image, os.O_RDONLY)
    try:
        for at in range(0, os.fstat(fd).st_size, WINDOW):
            sectors = np.frombuffer(os.pread(fd, WINDOW, at), np.uint8).reshape(-1, SECTOR)
            for piece in (sectors[:, :2 * SEED], sectors[:, -2 * SEED:]):
                halves = piece[:, :SEED], piece[:, SEED:]
                for row in halves[0][(halves[0] == halves[1]).all(axis=1) & halves[0].any(axis=1)]:
                    number = known.get(first_turned(row.tobytes()))
                    if number is not None:
                        found.add(number)
    finally:
        os.close(fd)
    return found


@dataclass
class Site:
    """A volume on a mounted image, its clock, and when each camera's AUs were recorded (UTC ns by AU number)."""

    folder: Path
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    times: dict[int, dict[int, int]] = field(default_factory=dict)
    known: dict[int, dict[bytes, int]] = field(default_factory=dict)
    days: dict[int, float] = field(default_factory=dict)
    writers: dict[int, TapeWriter] = field(default_factory=dict)

    def start(self) -> None:
        """The worker starts; it finds no live file, as after the machine's restart."""
        for file in (self.folder / "live").glob("*"):
            file.unlink()
        self.rig = Rig(self.folder / "mount" / "volume", self.folder / "live", clock=self.clock, bytes_max=18 * (16 << 20))
        self.store = TapeStore([self.rig.path], self.rig.live)

    def stop(self) -> None:
        """The worker stops in order."""
        self.store.close()
        self.rig.close()

    def camera(self, number: int, days: float) -> Camera:
        """A camera of one picture a second under a rule of `days`."""
        self.writers[number], camera = self.rig.track(number, rule=RetentionRule(days=days), fps=1, gop=10, size=SIZE)
        self.times[number], self.days[number] = {}, days
        self.known[number] = {first_turned(seed): au for seed, au in seeds(number, 10_000).items()}
        return camera

    def stall(self, camera: Camera) -> None:
        """The camera falls silent: its session ends, as `recorder/stream.py` has it."""
        self.writers[camera.number].end_session(camera.session, self.clock.wall_ns(), "stall")

    def pass_time(self, seconds: int, *cameras: Camera) -> None:
        """`seconds` of recording by these cameras; the others are silent."""
        for _ in range(seconds // STEP_S):
            for camera in cameras:
                for number in range(camera.au, camera.au + STEP_S):
                    self.times[camera.number][number] = camera.start_ns + number * SECOND
                assert camera.put(STEP_S) == STEP_S
                camera.sent.clear()
            self.clock.advance(STEP_S)
            self.rig.turn()
            self.check_minute()

    def check_minute(self) -> None:
        """No track shows a row a minute after its time."""
        for number, days in self.days.items():
            run = self.reader(number).rows_from(self.reader(number).edges().first_row, 1)
            if len(run):
                end_ns = int(run.rows["t_ns"][0]) + int(run.rows["wall_dur_us"][0]) * 1000
                age_ns = self.clock.wall_ns() - end_ns
                assert age_ns <= round(days * DAY_S * SECOND) + UNREADABLE_S * SECOND, f"camera {number} shows a row that is {age_ns} ns old"

    def reader(self, number: int) -> TrackReader:
        """What the API reads by."""
        return self.store.track(number, "main")

    def expired(self, number: int, days: float, since_s: int = 0) -> set[int]:
        """AUs whose rows had ended more than `days` and `since_s` ago (a row is as long as 10 of them)."""
        limit_ns = self.clock.wall_ns() - round(days * DAY_S * SECOND) - (since_s + 10) * SECOND
        return {au for au, t_ns in self.times[number].items() if t_ns < limit_ns}

    def young(self, number: int, days: float) -> set[int]:
        """AUs that no rule lets go yet."""
        limit_ns = self.clock.wall_ns() - round(days * DAY_S * SECOND)
        return {au for au, t_ns in self.times[number].items() if t_ns >= limit_ns}

    def on_disk(self, number: int) -> set[int]:
        """The AUs of which the image holds anything."""
        syncfs(self.rig.volume.dir_fd)
        return aus_on_disk(self.folder / "volume.img", self.known[number])

    def readable(self, number: int) -> set[int]:
        """The AUs that a reader is shown."""
        run = self.reader(number).rows(0, self.clock.wall_ns() + HOUR_S * SECOND)
        ends = run.rows["t_ns"] + run.rows["wall_dur_us"].astype(np.int64) * 1000
        spans = list(zip(run.rows["t_ns"].tolist(), ends.tolist(), strict=True))
        return {au for au, t_ns in self.times[number].items() if any(start <= t_ns < end for start, end in spans)}

    def check_promises(self, number: int, days: float) -> None:
        """Nothing is read a minute after its time; nothing is missing before it."""
        shown = self.readable(number)
        assert not shown & self.expired(number, days, UNREADABLE_S), "expired footage can be read"
        missing = self.young(number, days) - shown
        assert not missing, f"gone before its time: {sorted(missing)[:5]}"


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    make_image(tmp_path / "volume.img", request.param)
    mount(tmp_path / "volume.img", tmp_path / "mount")
    try:
        (tmp_path / "mount" / "volume").mkdir()
        (tmp_path / "live").mkdir()
        made = Site(tmp_path)
        made.start()
        yield made
        made.stop()
    finally:
        unmount(tmp_path / "mount")


@pytest.mark.disk
@pytest.mark.parametrize("site", ["ext4", "xfs"], indirect=True)
def test_expired_footage_is_unreadable_in_a_minute_and_off_the_disk_in_an_hour(site: Site) -> None:
    days = 1800 / DAY_S
    steady, brief = site.camera(1, days), site.camera(2, days)
    site.pass_time(600, steady, brief)
    site.stall(brief)
    assert site.on_disk(1) == set(site.times[1]) and site.on_disk(2) == set(site.times[2]), "the search must find what is there"
    for _ in range(14):
        site.pass_time(600, steady)
        site.check_promises(1, days)
        site.check_promises(2, days)
        for number in (1, 2):
            left = site.on_disk(number)
            assert not left & site.expired(number, days, HOUR_S), "expired footage is on the disk an hour later"
            assert left >= site.young(number, days)
    assert len(site.expired(2, days, HOUR_S)) == 600, "all of the silent camera's footage had to go"
    check_clean(site.rig)


@pytest.mark.disk
@pytest.mark.parametrize("site", ["ext4", "xfs"], indirect=True)
def test_after_a_week_switched_off_what_expired_meanwhile_goes_and_nothing_else(site: Site) -> None:
    days = 8.0
    camera = site.camera(1, days)
    site.pass_time(600, camera)
    offset = site.reader(1).edges().visible_offset - SIZE
    site.clock.advance(2 * DAY_S)
    camera.start_ns += 2 * DAY_S * SECOND
    site.pass_time(1200, camera)
    site.stop()
    site.clock.advance(7 * DAY_S)
    site.start()
    old, kept = site.expired(1, days), site.young(1, days)
    assert (len(old), len(kept)) == (600, 1200)
    assert site.on_disk(1) == old | kept, "while it was off nothing could go"
    site.pass_time(UNREADABLE_S)
    assert site.readable(1) == kept
    with pytest.raises(Gone), site.reader(1).open_chunk(site.reader(1).chunk_of(offset)) as lease:
        lease.read(memoryview(bytearray(SIZE)), offset, nowait=False)
    site.pass_time(HOUR_S)
    assert site.on_disk(1) == kept
    assert site.readable(1) == kept
    check_clean(site.rig)
