"""Exports through the whole server: the API is killed while one is made, retention passes over its footage, and nothing of it is lost."""

import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.conftest import Site, until
from tests.cli.test_hold_live import ask
from tests.cli.test_proof_live import key
from tests.cli.test_serve_live import camera, frames, pid_of, simulated

pytestmark = pytest.mark.live
NS = 1_000_000_000
KILLS = 5


def job_of(site: Site, job_id: str, token: str) -> dict[str, Any]:
    """The job as the API says, empty while it does not answer."""
    try:
        status, found = ask(site, "GET", f"exports/{job_id}", token)
    except OSError:
        return {}
    return found if status == 200 else {}


def kill_api(site: Site) -> None:
    pid = pid_of(site, "api")
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid_of(site, "api") not in {0, pid}, "the API is back")


def fetched(site: Site, path: str, token: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{site.port}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        body: bytes = answer.read()
        return body


@contextmanager
def listener() -> Iterator[tuple[int, list[str]]]:
    """Whom webhooks are for: its port, and the ids of what has come."""
    ids: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            ids.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, ids
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def begun(site: Site, port: int, told: int, seconds: int) -> tuple[str, int, int]:
    """A token and a range of so many seconds that has been recorded; its footage expires after 26 s."""
    (site.folder / "secret").write_text("s3cret line")
    site.write("[exports]", "mb_per_s = 0.5", f'webhooks = ["http://127.0.0.1:{told}/"]', 'webhook_secret_file = "secret"',
               "[retention]", "days = 0.0003", camera("one", f"rtsp://127.0.0.1:{port}/cam0"))
    site.file.write_text(site.file.read_text().replace("[recording]", "[recording]\nchunk_close_s = 10"))
    site.start("serve", "--config", site.file, log="serve")
    until(lambda: "Test: 1 slots" in site.log() and frames(site, "one") > 10, "recording")
    token = site.run("token", "add", "test", "--scope", "export", "--scope", "view", "--scope", "hold").out.strip()
    start_ns = time.time_ns()
    until(lambda: time.time_ns() > start_ns + seconds * NS, "so much is recorded")
    return token, start_ns, start_ns + (seconds - 1) * NS


def test_an_export_outlives_five_kills_of_the_api_and_the_retention_of_its_footage(site: Site) -> None:
    site.init()
    with listener() as (told, ids), simulated("--count", 1, "--size", "640x480", "--bitrate", "12000") as port:
        token, start_ns, end_ns = begun(site, port, told, 8)
        wanted = {"items": [{"camera": "one", "start": start_ns, "end": end_ns}], "reason": "accident", "priority": "high",
                  "webhook": f"http://127.0.0.1:{told}/done"}
        status, job = ask(site, "POST", "exports", token, wanted)
        assert status == 202, job
        clip = fetched(site, f"/api/v1/cameras/one/clip.mp4?start={start_ns}&end={end_ns}&wait=1", token)
        assert len(clip) > 6 << 20
        done = 0
        for _ in range(KILLS):
            found = until(lambda done=done: (one := job_of(site, job["id"], token)) and (one["done_bytes"] > done or one["state"] == "done")
                          and one, "it gets on")
            assert found["state"] == "running"
            done = min(found["done_bytes"], len(clip) - (3 << 20))
            kill_api(site)
        until(lambda: job_of(site, job["id"], token).get("state") == "done", "it is done")
        found = until(lambda: (one := job_of(site, job["id"], token)) and one["webhook"]["delivered"] and one, "it is told")
        kill_api(site)
        until(lambda: job_of(site, job["id"], token), "the API answers")
        until(lambda: ask(site, "GET", f"cameras/one/timeline?start={start_ns}&end={end_ns}", token)[1]["spans"] == [], "retention has passed")
        body = fetched(site, found["result"]["address"], token)
        assert body == clip and hashlib.sha256(body).hexdigest() == found["result"]["sha256"]
        assert found["result"]["complete"]
        until(lambda: ask(site, "GET", "holds", token)[1]["items"] == [], "its hold is released")
        assert len(ask(site, "GET", "holds?state=all", token)[1]["items"]) == 1
        assert ids == [found["webhook"]["id"]]
        check_command_line(site, token, start_ns, end_ns)
    assert "Traceback" not in site.log()


def test_a_pack_of_held_footage_is_proved_row_by_row(site: Site) -> None:
    site.init()
    key(site)
    with simulated("--count", 1) as port:
        site.write("[signing]", 'key = "key.pem"', "every_h = 0.001", "[retention]", "days = 0.0001", camera("one", f"rtsp://127.0.0.1:{port}/cam0"))
        site.file.write_text(site.file.read_text().replace("[recording]", "[recording]\nchunk_close_s = 10"))
        site.start("serve", "--config", site.file, log="serve")
        until(lambda: "Test: 1 slots" in site.log() and frames(site, "one") > 50, "recording")
        token = site.folder / "token"
        token.write_text(site.run("token", "add", "test", "--scope", "export", "--scope", "view").out.strip())
        end_ns = time.time_ns()
        start_ns = end_ns - 3 * NS
        held = site.run("hold", "add", "one", "--start", start_ns, "--end", end_ns, "--reason", "case 9", "--json").json()
        until((site.folder / "volume/tape.zarr/cam-1/main.held").exists, "its chunk has gone, what is held is there")
        address = f"cameras/one/timeline?start={start_ns - 60 * NS}&end={start_ns - 2 * NS}"
        until(lambda: ask(site, "GET", address, token.read_text())[1]["spans"] == [], "and nothing else")
        pack = site.folder / "pack.zip"
        made = site.run("export", "make", "one", "--start", start_ns, "--end", end_ns, "--reason", "case 9", "--format", "pack", "-o", pack,
                        "--token-file", token, "--json").json()
        assert made["result"]["complete"] and made["file"] == str(pack)
        zipfile.ZipFile(pack).extract("verify.py", site.folder)
        checked = subprocess.run([sys.executable, site.folder / "verify.py", pack], capture_output=True, text=True, timeout=120, check=False)
        assert checked.returncode == 0 and "all as they were packed" in checked.stdout, checked
        found = re.search(r"(\d+) rows, (\d+) proved", checked.stdout)
        assert found and found[1] == found[2] and int(found[1]) >= 3, checked.stdout
        signed = [sys.executable, site.folder / "verify.py", "--heads", site.folder / "state/heads", pack]
        until(lambda: subprocess.run(signed, capture_output=True, timeout=120, check=False).returncode == 0, "its chunks are signed")
        site.run("hold", "release", held["hold"]["id"])
    assert "Traceback" not in site.log()


def check_command_line(site: Site, token: str, start_ns: int, end_ns: int) -> None:
    """`watchroom export` on what is recorded now, and on what has gone."""
    held = site.folder / "token"
    held.write_text(token)
    known = ("--token-file", held)
    now_ns = time.time_ns() - 3 * NS
    file = site.folder / "pack.zip"
    wanted = ("one", "--start", now_ns - NS, "--end", now_ns)
    made = site.run("export", "make", *wanted, "--reason", "case 8", "--format", "pack", "-o", file, "--json", *known).json()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == made["result"]["sha256"]
    site.run("export", "get", made["id"], "-o", file, *known).says(5, "is there already")
    assert site.run("export", "get", made["id"], "-o", file, "--force", *known).out.startswith(f"{file}: ")
    assert site.run("export", "look", "one", "--start", "4s", "--end", "3s", *known).code == 0
    gone = ("one", "--start", start_ns, "--end", end_ns)
    assert "expired" in site.run("export", "look", *gone, *known).out
    site.run("export", "make", *gone, "--reason", "too late", *known).says(4, "retired")
    assert [job["state"] for job in site.run("export", "list", "--json", *known).json()] == ["done", "done"]
    assert "case 8" in site.run("export", "list", *known).out
    site.run("export", "cancel", made["id"], *known)
    site.run("export", "get", made["id"], *known).says(4, "no such export")
    site.run("export", "make", *wanted, "--reason", "no token").says(6, "token")
