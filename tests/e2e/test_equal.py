"""What is on the tapes is what the cameras sent, byte for byte, for every codec; and its time is right."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.site import Site, wait_until
from bench.tapes import TapeAu, compare, tape_aus
from recorder.base.media import AuFlag

pytestmark = pytest.mark.live
SMALL = ("--size", "320x180", "--bitrate", "400", "--gop", "25")
PASSWORD = "p@ss:w/rd \\\"q\\\" ?&ü"


def sessions_of(status: dict[str, Any], camera: int, path: str) -> list[dict[str, Any]]:
    return [s for s in status["cameras"][camera]["sessions"] if s["path"] == path]


def record(sim: SimProcess, site: Site, streams: int, seconds: float) -> dict[str, Any]:
    """Record until every stream has played for `seconds`; the report after the recorder has stopped."""
    def playing() -> bool:
        site.check_alive()
        return sum(s["end_ns"] is None for c in sim.status()["cameras"] for s in c["sessions"]) == streams

    with site:
        wait_until(playing, 300, "all streams playing")
        time.sleep(seconds)
        site.check_alive()
    assert site.stop() == 0, site.tail()
    return sim.status()


@pytest.mark.parametrize(("codec", "audio", "bframes"), [("h264", "aac", 0), ("h265", "pcma", 0), ("h264", "pcmu", 2), ("h265", "aac", 2),
                                                         ("jpeg", "opus", 0), ("h264", "l16", 0), ("h265", "g726", 0)])
def test_tapes_hold_what_was_sent(codec: str, audio: str, bframes: int, simulate: Callable[..., SimProcess],
                                  make_site: Callable[..., Site]) -> None:
    sim = simulate("--count", "2", "--codec", codec, "--audio", audio, "--bframes", str(bframes), "--sub", "--sub-size", "160x96", *SMALL)
    cameras = {f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 400 }}', f'sub = {{ url = "{sim.url(i, sub=True)}", kbps = 512 }}']
               for i in range(2)}
    site = make_site(cameras)
    status = record(sim, site, streams=4, seconds=5)
    store = site.store()
    try:
        for number in range(2):
            for track in ("main", "audio", "sub"):
                path = f"cam{number}/sub" if track == "sub" else f"cam{number}"
                sessions = [s["tracks"][track] for s in sessions_of(status, number, path)]
                assert len(sessions) == 1
                assert sessions[0]["dropped_aus"] == 0
                found = compare(store.track(number + 1, track), Truth.of(status, f"cam{number}", track), sessions, ended_ok=25)
                assert found.whole, f"cam{number}/{track}: {found}"
                assert found.recorded > 60
    finally:
        store.close()


def test_times_are_those_of_the_camera(simulate: Callable[..., SimProcess], make_site: Callable[..., Site]) -> None:
    sim = simulate("--audio", "aac", *SMALL)
    site = make_site({"cam-0": [f'main = {{ url = "{sim.url(0)}", kbps = 400 }}']})
    status = record(sim, site, streams=1, seconds=6)
    store = site.store()
    try:
        for track, slack_ms in (("main", 100), ("audio", 150)):
            truth = Truth.of(status, "cam0", track)
            aus = list(tape_aus(store.track(1, track)))
            index = truth.find(aus[0].data, sessions_of(status, 0, "cam0")[0]["tracks"][track]["first"])
            assert index is not None
            errors_ms = [(au.wall_ns - truth.wall_ns(index + i)) / 1e6 for i, au in enumerate(aus)]
            assert max(errors_ms) - min(errors_ms) < 10, track
            assert abs(errors_ms[0]) < slack_ms, track
            assert aus[0].flags & AuFlag.KEY
    finally:
        store.close()


def test_password_full_of_special_characters(simulate: Callable[..., SimProcess], make_site: Callable[..., Site]) -> None:
    sim = simulate("--auth", "digest", "--digest-algorithm", "both", "--user", "vi ewer", "--password", PASSWORD.replace('\\"', '"'), *SMALL)
    site = make_site({"cam-0": [f'main = {{ url = "{sim.url(0)}", kbps = 400 }}', 'user = "vi ewer"', f'password = "{PASSWORD}"']})
    status = record(sim, site, streams=1, seconds=4)
    store = site.store()
    try:
        aus: list[TapeAu] = list(tape_aus(store.track(1, "main")))
        truth = Truth.of(status, "cam0")
        assert len(aus) > 40
        assert truth.find(aus[0].data) is not None
    finally:
        store.close()
