"""kill -9 of the worker: what is lost, what is told of it, and what goes on by itself."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.site import Site, wait_until
from bench.tapes import tape_aus
from recorder.base.media import NS, GapCause
from storage.store import TapeStore
from tests.proof.kit import ALL, SMALL, check_clean, clip, compared, frames_in, recording, shown

BACK_S = 300


@dataclass(frozen=True, slots=True)
class Kill:
    """One death of the worker: when it was killed, and when every camera recorded again."""

    at_ns: int
    back_ns: int


def kill(pids: Sequence[int]) -> None:
    """kill -9 of the only process in `pids`."""
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)


def kill_worker(site: Site, sim: SimProcess) -> Kill:
    """Kill it and wait until it records again."""
    def sessions() -> int:
        return sum(len(camera["sessions"]) for camera in sim.status()["cameras"])

    before = sessions()
    at_ns = time.time_ns()
    kill(site.worker_pids())
    wait_until(lambda: sessions() >= before + len(site.cameras) and recording(site), BACK_S, "recording goes on")
    return Kill(at_ns, time.time_ns())


def wait_for_pictures(store: TapeStore, cameras: Sequence[int], after_ns: int, timeout_s: float) -> None:
    """Wait until every camera has pictures newer than `after_ns`."""
    wait_until(lambda: all(store.track(number, "main").edges().durable_end_ns > after_ns for number in cameras), timeout_s, "new pictures")


@pytest.mark.parametrize(("kills", "gop", "alive_s"), [
    pytest.param(3, 50, 3.0, marks=pytest.mark.live, id="3"),
    pytest.param(20, 50, 3.0, marks=pytest.mark.soak, id="20"),
    pytest.param(20, 500, 22.0, marks=pytest.mark.soak, id="20-long-gops"),
])
def test_killed_worker_loses_less_than_a_second(kills: int, gop: int, alive_s: float, simulate: Callable[..., SimProcess],
                                                make_site: Callable[..., Site], tmp_path: Path,
                                                record_property: Callable[[str, object], None]) -> None:
    sim = simulate("--count", "2", "--codec", "h264,h265", "--audio", "aac,pcma", "--gop", str(gop), *SMALL)
    site = make_site({f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 400 }}'] for i in range(2)})
    dice, deaths = random.Random(kills + gop), []
    with site:
        wait_until(lambda: recording(site), BACK_S, "all cameras recording")
        for _ in range(kills):
            time.sleep(alive_s * dice.uniform(0.3, 1.3))
            deaths.append(kill_worker(site, sim))
        numbers, store = list(site.numbers().values()), site.store()
        wait_for_pictures(store, numbers, deaths[-1].back_ns + 2 * NS, BACK_S)
        for n, death in enumerate(deaths):
            for camera, number in enumerate(numbers):
                pause_is_told(store, number, death)
                start_ns, end_ns = death.at_ns - 2 * NS, death.back_ns + NS
                expected = frames_in(store.track(number, "main"), start_ns, end_ns)
                if expected:
                    pictures, messages = shown(clip(site, f"cam-{camera}", start_ns, end_ns).body, tmp_path / f"{n}-{camera}.mp4")
                    assert messages == ""
                    assert None not in pictures
                    assert len(pictures) == expected
        store.close()
    assert site.stop() == 0, site.tail()
    record_property("longest s until all record again", round(max(death.back_ns - death.at_ns for death in deaths) / NS, 1))
    for name, found, sessions in compared(site, sim, end_s=1.0):
        record_property(f"{name} AUs", found.recorded)
        assert found.whole, f"{name}: {found}"
        assert sessions == kills + 1
    causes_are_right(site, kills)
    times_hold(site, sim)
    check_clean(site)


def pause_is_told(store: TapeStore, number: int, death: Kill) -> None:
    """The moment of the kill lies in a gap, of cause `crash` if footage ended there, on every track."""
    for name in store.tracks(number):
        track = store.track(number, name)
        gaps = [gap for gap in track.gaps(*ALL) if gap.start_ns <= death.at_ns + NS and (gap.end_ns is None or gap.end_ns > death.at_ns)]
        assert gaps, f"cam-{number}/{name}: the pause at {death} is in no gap: {track.gaps(*ALL)}"
        begins = all(gap.end_ns != gaps[0].start_ns for gap in track.gaps(*ALL))    # else there was no footage before it either
        if begins and gaps[0].start_ns > death.at_ns - NS:
            assert gaps[0].cause is GapCause.CRASH, f"cam-{number}/{name}: {gaps[0]}"


def causes_are_right(site: Site, kills: int) -> None:
    """Every track has a gap `crash` for each kill that cut footage, perhaps no key frame after it, and nothing else but the end."""
    store = site.store()
    for number in store.cameras():
        for name in store.tracks(number):
            causes = [gap.cause for gap in store.track(number, name).gaps(*ALL)]
            assert causes[-1] is GapCause.STOPPED
            assert set(causes[:-1]) <= {GapCause.CRASH, GapCause.NO_KEYFRAME}, causes
            assert 1 <= causes.count(GapCause.CRASH) <= kills
    store.close()


def times_hold(site: Site, sim: SimProcess) -> None:
    """Over all sessions the tape's times are those of the camera's clock, to the delay of an arrival."""
    store = site.store()
    for index, number in enumerate(site.numbers().values()):
        truth: Truth = sim.truth(index)
        at, last_ns = 0, 0
        for au in tape_aus(store.track(number, "main")):
            found = truth.find(au.data, max(at, (au.wall_ns - truth.base_wall_ns) // (NS // 25) - 12))
            assert found is not None
            assert abs(au.wall_ns - truth.wall_ns(found)) < NS // 4, f"cam-{number} row {au.row}: {(au.wall_ns - truth.wall_ns(found)) / NS} s"
            assert au.wall_ns > last_ns
            at, last_ns = found + 1, au.wall_ns
    store.close()
