"""The whole server on simulated cameras: a bad camera keeps nobody from recording, and everything said about it is true."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recorder.base.control import ControlClient
from recorder.base.errors import NotFound
from tests.cli.conftest import ROOT, Site, command, environment, free_port, until, watchroom

pytestmark = pytest.mark.live
SIZE = ("--size", "320x240", "--bitrate", "300", "--fps", "10", "--gop", "10")


@contextmanager
def simulated(*options: object) -> Iterator[int]:
    """A running camsim; its port."""
    process = subprocess.Popen(command("camsim", "--port", 0, "--quiet", *SIZE, *options), cwd=ROOT, env=environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def camera(name: str, url: str, *more: str) -> str:
    return "\n".join(["[[camera]]", f'id = "{name}"', f'main = {{ url = "{url}", kbps = 500 }}', *more])


def states(site: Site) -> dict[str, tuple[str, str | None]]:
    return {name: (found["status"]["state"], found["status"]["cause"]) for name, found in site.cameras().items()}


def frames(site: Site, name: str) -> int:
    """Pictures that the worker has counted since its start."""
    found = asked(site, "slot-0", "status").get("cameras", {}).get(name, {})
    return int(found.get("tracks", {}).get("main", {}).get("aus", 0))


def probed(path: Path) -> dict[str, Any]:
    done = subprocess.run(["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_type,nb_read_frames", "-of", "json", path],
                          capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {stream["codec_type"]: int(stream["nb_read_frames"]) for stream in json.loads(done.stdout)["streams"]}


def test_bad_cameras_are_named_and_good_ones_record_on(site: Site) -> None:
    site.init()
    (site.folder / "wrong").write_text("not it")
    with simulated("--auth", "digest", "--user", "u", "--password", "p@ss:w/rd") as locked, simulated("--audio", "aac") as good:
        site.write(camera("good", f"rtsp://127.0.0.1:{good}/cam0"),
                   camera("no-such-path", f"rtsp://127.0.0.1:{good}/cam77"),
                   camera("locked", f"rtsp://127.0.0.1:{locked}/cam0", 'user = "u"', 'password_file = "wrong"'),
                   camera("nobody", f"rtsp://127.0.0.1:{free_port()}/"),
                   camera("stranger", "rtsp://10.0.0.1/"))
        server = site.start("serve", "--config", site.file, log="serve")
        until(lambda: server.poll() is not None or "serve: Test: 1 slots" in site.log(), "serving")
        wanted = {"good": ("recording", None), "locked": ("offline", "auth"), "nobody": ("offline", "offline"),
                  "no-such-path": ("offline", "refused"), "stranger": ("offline", "refused")}
        until(lambda: {name: cause for name, (_, cause) in states(site).items()} == {name: cause for name, (_, cause) in wanted.items()}
              and frames(site, "good") > 20, "every camera's state: " + str(states(site)))
        assert states(site)["good"][0] == "recording"
        assert "password" in site.cameras()["locked"]["status"]["message"]
        check_clip_from_both_sides(site, server)
    assert watchroom("check", site.folder / "volume").code == 0
    assert "not it" not in site.log()
    assert "Traceback" not in site.log()


def check_clip_from_both_sides(site: Site, server: "subprocess.Popen[bytes]") -> None:
    """A clip from the running server is the clip from the volume after it has ended."""
    last_ns = site.cameras()["good"]["status"]["tracks"]["main"]["last_au_ns"]
    start, end = last_ns - 1_500_000_000, last_ns - 500_000_000
    until(lambda: time.time_ns() > last_ns + 2_000_000_000, "the range is durable")
    for path in ("api.mp4", "volume.mp4"):
        site.run("clip", "good", "--start", start, "--end", end, "-o", site.folder / path, "--json").json()
        if path == "api.mp4":
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
            assert not (site.folder / "state" / "run" / "supervisor.sock").exists()
    assert (site.folder / "api.mp4").read_bytes() == (site.folder / "volume.mp4").read_bytes()
    assert probed(site.folder / "api.mp4")["video"] == 10


def test_a_killed_worker_records_on_and_a_killed_api_answers_again(site: Site) -> None:
    site.init()
    with simulated() as port:
        site.write(camera("good", f"rtsp://127.0.0.1:{port}/cam0"))
        site.start("serve", "--config", site.file, log="serve")
        until(lambda: "Test: 1 slots" in site.log() and frames(site, "good") > 10, "recording")
        site.file.write_text("an edit that went wrong")      # a restarted child must not meet it
        for process in ("worker-0", "api"):
            pid = pid_of(site, process)
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid, process=process: pid_of(site, process) not in {0, pid}, f"{process} is back")
        until(lambda: frames(site, "good") > 10, "recording again")
    assert site.log().count("(SIGKILL); starting it again") == 2


def test_children_end_with_a_killed_supervisor(site: Site) -> None:
    site.init()
    server = site.start("serve", "--config", site.file, log="serve")
    until(lambda: "Test: 1 slots" in site.log() and pid_of(site, "worker-0") and pid_of(site, "api"), "serving")
    pids = [pid_of(site, "worker-0"), pid_of(site, "api")]
    until(lambda: "listening on port" in site.log() and asked(site, "slot-0", "status"), "children that have tied themselves to it")
    server.kill()
    server.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "no child left")


def pid_of(site: Site, process: str) -> int:
    """The pid that the supervisor's status gives, 0 if there is none."""
    processes = asked(site, "supervisor", "status").get("processes", [])
    return next((int(child["pid"]) for child in processes if child["name"] == process), 0)


def asked(site: Site, socket: str, call: str) -> dict[str, Any]:
    """What a control socket answers; empty while nobody listens."""
    try:
        found: dict[str, Any] = asyncio.run(ControlClient(site.folder / "state" / "run" / f"{socket}.sock").call(call))
    except NotFound:
        return {}
    return found
