"""Many cameras added, changed, disabled and removed at once: those that nobody touches never notice."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from recorder.base.media import NS, GapCause
from tests.proof.kit import ALL, SMALL, ask, check_clean, compared, recording
from tests.proof.test_run_time import admin, change

pytestmark = pytest.mark.live
STEADY, MORE = 3, 9
WAIT_S = 300


def states(site: Site) -> dict[str, str]:
    """Each camera's state."""
    return {item["id"]: item["state"] for item in ask(site, "cameras", timeout_s=60).json()["items"]}


def test_cameras_come_change_and_go_beside_others(simulate: Callable[..., SimProcess], make_site: Callable[..., Site]) -> None:
    sim = simulate("--count", str(STEADY + 2 * MORE), "--codec", "h264", "--gop", "25", *SMALL)
    site = make_site({f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 400 }}'] for i in range(STEADY)}, recording=["slots = 2"])
    names = [f"more-{n}" for n in range(MORE)]

    def all_at_once(do: Callable[[int], Any], wanted: int) -> None:
        with ThreadPoolExecutor(MORE) as pool:
            assert [reply.status for reply in pool.map(do, range(MORE))] == [wanted] * MORE

    with site:
        token = admin(site)
        wait_until(lambda: recording(site), WAIT_S, "steady cameras")
        began_ns = time.time_ns()
        all_at_once(lambda n: change(site, token, "POST", "cameras", {"id": names[n], "main": {"url": sim.url(STEADY + n), "kbps": 400}}), 201)
        wait_until(lambda: [states(site).get(name) for name in names] == ["recording"] * MORE, WAIT_S, "added ones")
        all_at_once(lambda n: change(site, token, "PATCH", f"cameras/{names[n]}", {"name": "x", "rule": {"days": 2}}), 200)
        assert [len(camera["sessions"]) for camera in sim.status()["cameras"][STEADY:STEADY + MORE]] == [1] * MORE
        url = {"main": {"url": sim.url(STEADY + MORE), "kbps": 400}}
        all_at_once(lambda n: change(site, token, "PATCH", f"cameras/{names[n]}", url | {"user": "u", "password": "n"}), 200)
        wait_until(lambda: len(sim.status()["cameras"][STEADY + MORE]["sessions"]) == MORE, WAIT_S, "the other address")
        all_at_once(lambda n: change(site, token, "PATCH", f"cameras/{names[n]}", {"enabled": False}), 200)
        assert [states(site)[name] for name in names] == ["disabled"] * MORE
        all_at_once(lambda n: change(site, token, "PATCH", f"cameras/{names[n]}", {"enabled": True}), 200)
        wait_until(lambda: len(sim.status()["cameras"][STEADY + MORE]["sessions"]) == 2 * MORE, WAIT_S, "enabled again")
        all_at_once(lambda n: change(site, token, "DELETE", f"cameras/{names[n]}"), 204)
        wait_until(lambda: len(states(site)) == STEADY, WAIT_S, "removed")
        store, ended_ns = site.store(), time.time_ns()
        for number in list(site.numbers().values())[:STEADY]:
            track = store.track(number, "main")
            wait_until(lambda track=track: track.edges().durable_end_ns > ended_ns, WAIT_S, "footage")  # type: ignore[misc]
            assert [(span.start_ns, span.end_ns) for span in track.spans(began_ns, ended_ns)] == [(began_ns, ended_ns)]
            assert track.gaps(began_ns + NS, ended_ns) == []
        gone = [store.track(number, "main") for number in store.cameras() if number not in site.numbers().values()]
        assert len(gone) == MORE
        for track in gone:
            causes = [gap.cause for gap in track.gaps(*ALL)]
            assert causes[0] is GapCause.NO_KEYFRAME and set(causes[1:]) == {GapCause.OPERATOR}, causes
        store.close()
    assert [len(camera["sessions"]) for camera in sim.status()["cameras"][:STEADY]] == [1] * STEADY
    for name, found, _ in compared(site, sim, end_s=1.0):
        assert found.whole, f"{name}: {found}"
    check_clean(site)
