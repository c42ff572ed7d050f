"""Cameras that come and go at run time, and a server that is killed whole: footage stays with the camera it is of, and is still there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bench
from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from recorder.base.media import NS
from tests.proof.kit import SMALL, Reply, answers, ask, check_clean, clip, recording, shown

pytestmark = pytest.mark.live


def admin(site: Site) -> str:
    """A token for everything, made as people make it."""
    run = subprocess.run([sys.executable, "-m", "recorder", "token", "add", "boss", "--scope", "admin", "--config", site.config],
                         capture_output=True, text=True, check=True, timeout=300, cwd=site.folder,
                         env={**os.environ, "PYTHONPATH": str(Path(bench.__file__).parent.parent)})
    return run.stdout.split()[-1]


def change(site: Site, token: str, method: str, path: str, body: object = None) -> Reply:
    """A change, with the token."""
    return ask(site, path, method=method, body=json.dumps(body).encode() if body is not None else None,
               headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"})


def records(site: Site, camera: str) -> Callable[[], bool]:
    """True once the camera has a clip of the second before the last two."""
    return lambda: ask(site, f"cameras/{camera}/clip.mp4", start=time.time_ns() - 3 * NS, end=time.time_ns() - 2 * NS).status == 200


def test_a_name_given_again_is_another_camera(simulate: Callable[..., SimProcess], make_site: Callable[..., Site], tmp_path: Path) -> None:
    sim = simulate("--count", "3", "--gop", "25", *SMALL)
    site = make_site({"cam-0": [f'main = {{ url = "{sim.url(0)}", kbps = 400 }}']})
    with site:
        wait_until(lambda: recording(site), 300, "recording")
        token, began_ns = admin(site), time.time_ns()
        first = change(site, token, "POST", "cameras", {"id": "yard", "main": {"url": sim.url(1), "kbps": 400}})
        assert first.status == 201
        wait_until(records(site, "yard"), 300, "the new camera is recorded")
        old_ns = time.time_ns() - 3 * NS
        assert change(site, token, "DELETE", "cameras/yard").status == 204
        assert ask(site, "cameras/yard/clip.mp4", start=old_ns, end=old_ns + NS).status == 404
        again = change(site, token, "POST", "cameras", {"id": "yard", "main": {"url": sim.url(2), "kbps": 400}})
        assert again.json()["number"] == first.json()["number"] + 1
        wait_until(records(site, "yard"), 300, "the camera of the same name is recorded")
        assert ask(site, "cameras/yard/clip.mp4", start=old_ns, end=old_ns + NS).status == 404
        assert change(site, token, "DELETE", "cameras/cam-0").status == 409
        os.kill(site.pids()[0], signal.SIGKILL)
        killed_ns = time.time_ns()
        assert site.stop() == -signal.SIGKILL
    with site:
        wait_until(lambda: answers(site), 300, "the API is back")
        wait_until(records(site, "cam-0"), 300, "recording goes on")
        reply = clip(site, "cam-0", max(began_ns, killed_ns - 4 * NS), time.time_ns() - 2 * NS)
        pictures, messages = shown(reply.body, tmp_path / "clip.mp4")
        assert messages == ""
        assert None not in pictures
        found = ask(site, "cameras/cam-0/timeline", start=killed_ns - 4 * NS, end=time.time_ns()).json()
        assert [gap["cause"] for gap in found["gaps"]] in (["stopped"], ["crash"])
    assert site.stop() == 0, site.tail()
    check_clean(site)
