"""Several workers: one dies and the others record on; slots are lowered and no camera and no second of footage is left behind."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from recorder.base.media import NS, GapCause
from tests.proof.kit import ALL, SMALL, ask, check_clean, compared, recording

pytestmark = pytest.mark.live
BACK_S = 300


def worker_pid(site: Site, slot: int) -> int:
    """The worker of a slot."""
    (pid,) = (pid for pid in site.worker_pids() if f"--slot\0{slot}\0" in Path(f"/proc/{pid}/cmdline").read_text())
    return pid


def slots(site: Site) -> list[int]:
    """The slots that answer, as the API says."""
    return [slot["number"] for slot in ask(site, "system").json()["slots"] if slot["state"] == "running"]


def durable(site: Site) -> Callable[[], bool]:
    """True once every camera has footage newer than the call."""
    now_ns, store, numbers = time.time_ns(), site.store(), site.numbers().values()
    return lambda: all(store.track(number, "main").edges().durable_end_ns > now_ns for number in numbers)


def test_a_killed_worker_takes_no_other_with_it_and_lowered_slots_leave_nobody(simulate: Callable[..., SimProcess],
                                                                               make_site: Callable[..., Site]) -> None:
    sim = simulate("--count", "3", "--codec", "h264", "--gop", "25", *SMALL)
    cameras = {f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 400 }}'] for i in range(3)}
    site = make_site(cameras, recording=["slots = 3"])
    with site:
        wait_until(lambda: recording(site) and len(slots(site)) == 3, BACK_S, "all cameras recording")
        wait_until(durable(site), BACK_S, "footage")
        others = [worker_pid(site, 0), worker_pid(site, 2)]
        os.kill(worker_pid(site, 1), signal.SIGKILL)
        wait_until(lambda: sum(len(camera["sessions"]) for camera in sim.status()["cameras"]) == 4, BACK_S, "the killed worker's camera")
        wait_until(lambda: recording(site), BACK_S, "it records")
        wait_until(durable(site), BACK_S, "footage of all")
        assert [worker_pid(site, 0), worker_pid(site, 2)] == others
        with urllib.request.urlopen(f"http://127.0.0.1:{site.port}/readyz", timeout=30) as ready:
            assert ready.status == 200
    assert [len(camera["sessions"]) for camera in sim.status()["cameras"]] == [1, 2, 1]
    store = site.store()
    tracks = [store.track(number, "main") for number in site.numbers().values()]
    causes = [[gap.cause for gap in track.gaps(*ALL)] for track in tracks]
    assert [found[0] for found in causes] == [GapCause.NO_KEYFRAME] * 3       # before the first picture
    assert [found[1:] for found in causes] == [[GapCause.STOPPED], [GapCause.CRASH, GapCause.STOPPED], [GapCause.STOPPED]]
    assert [len(track.spans(*ALL)) for track in tracks] == [1, 2, 1]
    store.close()
    site.config.write_text(site.config.read_text().replace("slots = 3", "slots = 2"))
    with site:
        wait_until(lambda: recording(site) and slots(site) == [0, 1], BACK_S, "two workers record three cameras")
        wait_until(durable(site), BACK_S, "footage of all")
        time_ns = time.time_ns()
        rows = [ask(site, f"cameras/cam-{i}/timeline", start=time_ns - NS // 2, end=time_ns).status for i in range(3)]
        assert rows == [200] * 3
    for name, found, _ in compared(site, sim, end_s=1.0):
        assert found.whole, f"{name}: {found}"
    check_clean(site)
