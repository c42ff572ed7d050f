"""Volumes that are slow by turns, or fail again and again: cameras are not moved to and fro for ever. Hours by a simulated clock."""

import errno
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorder.base.clock import Clock, SimulatedClock
from recorder.base.config import RecordingConfig, SiteConfig, VolumeConfig
from recorder.mender import Mender
from recorder.rack import Rack, SlotTapes
from recorder.shelf import Shelf
from storage.events import SlotEvent, VolumeBack, VolumeFailed, VolumeProven, VolumeSlow
from storage.volume import Volume

LOOK_S = 0.25           # recorder.worker.DISKS_S
HOUR_S = 3600
FIRST_HOUR, LATER_HOUR = 9, 4       # moves of a camera
ANY_HOUR = 12                       # where both disks have it
Stall = Callable[[float, bool], float]


class StandInShelf(Shelf):
    """A volume whose disk is silent as `stall` says: s since a call is under way, at a time, used by cameras or not."""

    __slots__ = ("broken", "clock", "meanwhile", "stall")
    clock: Clock
    meanwhile: Callable[[], None]       # while a probe is under way
    stall: Stall
    broken: bool

    def silent_s(self) -> float:
        return self.stall(self.clock.mono_ns() / 1e9, bool(self.kbps))

    def let_go(self) -> bool:
        return not self.silent_s()

    def is_well(self, probe: str) -> bool:
        return not self.broken and not self.silent_s()

    def try_out(self, probe: str, clock: Clock) -> float:
        self.meanwhile()
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        return self.silent_s()


class SteppedRack(Rack):
    """The test calls the menders instead of threads."""

    def _thread_of(self, mender: Mender) -> threading.Thread:
        return threading.Thread(target=int)


@dataclass(frozen=True, slots=True)
class Moved:
    """A camera has gone to a volume."""

    time_s: float
    camera: int
    to: int


class Site:
    """Cameras 0 to 3 at home on the first of two volumes and on the second by turns; `run` lets hours pass."""

    def __init__(self, site: SiteConfig, stalls: tuple[Stall, Stall]) -> None:
        self.clock = SimulatedClock()
        self.rack = SteppedRack(site, 0, self.clock, self._take, logging.getLogger("flapping"))
        self.shelves = [StandInShelf(volume) for volume in site.volumes]
        for shelf, stall in zip(self.shelves, stalls, strict=True):
            shelf.clock, shelf.stall, shelf.broken, shelf.meanwhile = self.clock, stall, False, lambda: None
        self.rack.shelves = list(self.shelves)
        self.cameras = [self.rack.tapes(0, site.volumes[number % 2].uuid, 4_000) for number in range(4)]
        self.events: list[SlotEvent] = []
        self.moves: list[Moved] = []
        self._due: dict[Mender, float] = {}
        for tapes in self.cameras:
            tapes._chosen()

    @property
    def now_s(self) -> float:
        return self.clock.mono_ns() / 1e9

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """What a worker does."""
        for _ in range(round(seconds / LOOK_S)):
            self.clock.advance(LOOK_S)
            each()
            self.rack.look()
            for shelf in self.shelves:
                self._tend(shelf.mender)

    def _tend(self, mender: Mender | None) -> None:
        if mender is not None and self.now_s >= self._due.setdefault(mender, self.now_s + 2.0):
            wait_s = mender.once()
            self._due[mender] = self.now_s + (wait_s if wait_s is not None else 1e9)

    def _take(self, event: SlotEvent) -> None:
        self.events.append(event)
        if isinstance(event, VolumeFailed):
            self._move(lambda tapes: tapes.failed)
        elif isinstance(event, VolumeBack | VolumeProven):
            self._move(lambda tapes: tapes.path is None or tapes.misplaced)

    def _move(self, wanted: Callable[[SlotTapes], bool]) -> None:
        for number, tapes in enumerate(self.cameras):
            if wanted(tapes):
                tapes.leave()
                self.moves.append(Moved(self.now_s, number, self.shelves.index(tapes._chosen())))

    def break_down(self, at: int) -> None:
        """The disk answers with EIO."""
        self.shelves[at].broken = True
        self.rack._fail(self.shelves[at], VolumeFailed(self.shelves[at].path, "Input/output error", errno.EIO))

    def most_in_an_hour(self, since_s: float = 0.0) -> int:
        """The moves of the camera that was moved most often within any hour."""
        times = [(move.camera, move.time_s) for move in self.moves if move.time_s >= since_s]
        return max((sum(other == camera and at <= when < at + HOUR_S for other, when in times) for camera, at in times), default=0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteConfig]:
    volumes = []
    for name in ("a", "b"):
        volume = Volume.init(tmp_path / name, bytes_max=256 << 20, on_root=True)
        volume.close()
        volumes.append(VolumeConfig(tmp_path / name, str(volume.uuid), on_root=True))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        yield SiteConfig("test", tmp_path / "state", Path(live), recording=RecordingConfig(slots=1), volumes=tuple(volumes))


def well(_: float, used: bool) -> float:
    """A disk that answers at once."""
    return 0.0


def every(period_s: float, stall_s: float, begin_s: float = 0.0, *, idle: bool = True) -> Stall:
    """A disk that is silent for `stall_s` once in `period_s`; not while idle, if so."""
    def silent_s(now_s: float, used: bool) -> float:
        since_s = (now_s - begin_s) % period_s
        return since_s if since_s < stall_s and (used or idle) else 0.0
    return silent_s


@pytest.mark.parametrize(("stalls", "first", "later"), [
    ((every(20, 4), every(20, 4, 10)), 2, 2),
    ((every(600, 4), every(600, 4, 300)), FIRST_HOUR, LATER_HOUR),
    ((every(5, 4), every(5, 4)), 1, 1),
    ((every(5, 4), every(5, 4, 2)), 1, 1),
    ((every(5, 4, idle=False), every(5, 4, 2, idle=False)), 2, 2),
    ((every(30, 20, idle=False), every(30, 20, 15, idle=False)), FIRST_HOUR, LATER_HOUR),
    ((every(30, 4), well), FIRST_HOUR, LATER_HOUR),
    ((every(360, 4), well), FIRST_HOUR, LATER_HOUR),
    ((every(5, 4, idle=False), well), FIRST_HOUR, LATER_HOUR),
], ids=["by turns", "seldom by turns", "both always, at once", "both always", "both while used", "both for long while used", "one always",
        "one seldom", "one while used"])
def test_cameras_are_not_moved_to_and_fro_between_slow_volumes(site: SiteConfig, stalls: tuple[Stall, Stall], first: int, later: int) -> None:
    made = Site(site, stalls)
    began_s = made.now_s
    made.run(6 * HOUR_S)
    assert made.most_in_an_hour() <= first
    assert made.most_in_an_hour(began_s + HOUR_S) <= later


@pytest.mark.parametrize("stalls", [
    (every(5, 4.5, 1, idle=False), every(700, 100, 220, idle=False)),
    (every(1900, 40, 1262), every(90, 40, 52)),
    (every(200, 20, 113, idle=False), every(5, 4.5, 4.5, idle=False)),
    (every(60, 40, 17, idle=False), every(1900, 20, 1789)),
], ids=["one always, one for long", "one seldom", "both while used", "one for long"])
def test_two_disks_that_are_slow_in_different_ways_do_not_add_up(site: SiteConfig, stalls: tuple[Stall, Stall]) -> None:
    made = Site(site, stalls)
    made.run(4 * HOUR_S)
    assert made.most_in_an_hour() <= ANY_HOUR


@pytest.mark.parametrize("period_s", [30, 100, 700, 3000])
def test_a_volume_that_fails_and_comes_back_again_and_again_gets_its_cameras_ever_later(site: SiteConfig, period_s: float) -> None:
    made = Site(site, (well, well))
    began_s = made.now_s

    def flap() -> None:
        since_s = (made.now_s - began_s) % period_s
        if since_s < LOOK_S:
            made.break_down(0)
        elif since_s > period_s / 3:
            made.shelves[0].broken = False           # repaired, mounted again

    made.run(6 * HOUR_S, flap)
    assert made.most_in_an_hour() <= FIRST_HOUR
    assert made.most_in_an_hour(began_s + HOUR_S) <= LATER_HOUR


def test_a_volume_that_fails_is_left_at_once_for_one_that_is_not_proven(site: SiteConfig) -> None:
    made = Site(site, (well, well))
    for _ in range(5):
        made.break_down(0)
        made.shelves[0].broken = False
        made.run(200)
    assert not made.rack.takes_back(made.shelves[0]), "five failures in a quarter of an hour"
    made.moves.clear()
    made.break_down(1)
    assert [(move.time_s, move.to) for move in made.moves] == [(made.now_s, 0)] * 4


@pytest.mark.parametrize(("fault_s", "limit_s"), [(1e9, 3.0), (30.0, 5.5)], ids=["the other is well", "the other has had a fault"])
def test_a_volume_that_never_answers_is_left_within_seconds(site: SiteConfig, fault_s: float, limit_s: float) -> None:
    hangs_s = [1e12]
    made = Site(site, (lambda now_s, used: max(0.0, now_s - hangs_s[0]), well))
    made.run(120)
    if fault_s < 120:
        made.shelves[1].standing.fault(made.now_s)
        made.run(fault_s)
    hangs_s[0] = made.now_s
    made.run(limit_s)
    assert [move.to for move in made.moves] == [1, 1]
    made.run(2 * HOUR_S)
    assert len(made.moves) == 2


def test_that_cameras_stay_on_a_slow_volume_is_told_once(site: SiteConfig) -> None:
    slow = [True]
    made = Site(site, (lambda now_s, used: now_s % 5 if slow[0] and now_s % 5 < 4 else 0.0, every(5, 4)))
    made.run(HOUR_S)
    said = [event for event in made.events if isinstance(event, VolumeSlow)]
    assert len(said) == 2 and {event.path for event in said} <= {shelf.path for shelf in made.shelves}
    assert any(volume["slow"] for volume in made.rack.status())


def test_a_slow_volume_that_is_well_again_is_not_called_slow(site: SiteConfig) -> None:
    until_s = [1e12]
    both: Stall = lambda now_s, used: every(5, 4)(now_s, used) if now_s < until_s[0] else 0.0  # noqa: E731
    made = Site(site, (both, both))
    made.run(60)
    assert any(volume["slow"] for volume in made.rack.status())
    until_s[0] = made.now_s
    made.run(70)
    assert not any(volume["slow"] for volume in made.rack.status())


def test_an_operators_word_goes_before_proof(site: SiteConfig) -> None:
    made = Site(site, (well, well))
    for _ in range(4):
        made.break_down(0)
        made.shelves[0].broken = False
        made.run(100)
    tapes = made.cameras[1]
    tapes.home, tapes.asked = site.volumes[0].uuid, False
    assert not tapes.misplaced
    tapes.asked = True
    assert tapes.misplaced
    tapes.leave()
    assert tapes._chosen() is made.shelves[0]


def test_a_probe_that_hung_over_a_failure_does_not_count_as_another(site: SiteConfig) -> None:
    made = Site(site, (well, well))
    made.break_down(0)
    made.shelves[0].broken = False
    made.run(4)
    hung, shelf = made.shelves[0].mender, made.shelves[0]
    assert hung is not None and not shelf.failed, "it is back, and tried out"

    def goes_on_later() -> None:
        shelf.meanwhile = lambda: None
        made.break_down(0)
        shelf.broken = False
        made.run(10)
        assert not shelf.failed and shelf.standing.failures == 2
        shelf.broken = True             # its file is gone

    shelf.meanwhile = goes_on_later
    assert hung.once() is None
    assert not shelf.failed and shelf.standing.failures == 2


def test_a_volume_without_cameras_that_hangs_does_not_cost_the_others_patience(site: SiteConfig) -> None:
    """Nobody leaves it, so the next hang of another volume is left as soon as the first one."""
    hangs_s = [1e12, 1e12]
    made = Site(site, (lambda now_s, used: max(0.0, now_s - hangs_s[0]), lambda now_s, used: max(0.0, now_s - hangs_s[1])))
    made.break_down(0)
    made.shelves[0].broken = False
    made.run(4)
    made.shelves[1].standing.fault(made.now_s)
    hangs_s[0] = made.now_s
    made.run(8)
    assert not made.shelves[0].failed
    hangs_s[:] = 1e12, made.now_s
    made.moves.clear()
    made.run(5.5)
    assert [move.to for move in made.moves] == [0] * 4
