"""Holds through the whole server: footage that is held outlives its days, can be seen and saved, and goes when it is released."""

import json
import time
import urllib.request
from typing import Any

import pytest

from tests.cli.conftest import Site, until
from tests.cli.test_serve_live import camera, frames, probed, simulated

pytestmark = pytest.mark.live
NS = 1_000_000_000
SHORT = ["[retention]", "days = 0.0001"]        # 8.6 s


def ask(site: Site, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{site.port}/api/v1/{path}", method=method,
                                     data=None if body is None else json.dumps(body).encode(),
                                     headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def spans(site: Site, token: str, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    """What the timeline shows there."""
    status, found = ask(site, "GET", f"cameras/one/timeline?start={start_ns}&end={end_ns}", token)
    assert status == 200, found
    return [(span["start_ns"], span["end_ns"]) for span in found["spans"]]


def exactly(found: list[tuple[int, int]], start_ns: int, end_ns: int) -> bool:
    """True if these spans are one, and that one this range with less than two rows around it."""
    return len(found) == 1 and start_ns - 2 * NS < found[0][0] <= start_ns and end_ns <= found[0][1] < end_ns + 2 * NS


def test_what_is_held_outlives_its_days_and_goes_when_it_is_released(site: Site) -> None:
    site.init()
    with simulated("--count", 2) as port:
        site.write(*SHORT, camera("one", f"rtsp://127.0.0.1:{port}/cam0"), camera("two", f"rtsp://127.0.0.1:{port}/cam1"))
        site.file.write_text(site.file.read_text().replace("[recording]", "[recording]\nchunk_close_s = 10"))
        site.start("serve", "--config", site.file, log="serve")
        until(lambda: "Test: 1 slots" in site.log() and frames(site, "one") > 50 and frames(site, "two") > 50, "recording")
        token = site.run("token", "add", "test", "--scope", "hold", "--scope", "view").out.strip()
        end_ns = time.time_ns()
        start_ns = end_ns - 3 * NS
        until(lambda: spans(site, token, start_ns, end_ns) == [(start_ns, end_ns)], "the range is recorded")
        wanted = {"cameras": ["one", "two"], "start": start_ns, "end": end_ns, "reason": "accident", "reference": "case 7"}
        status, held = ask(site, "POST", "holds", token, wanted)
        assert status == 201, held
        assert held["owner"] == "test" and held["pending"] == [] and [span["camera"] for span in held["spans"]] == ["one", "two"]
        assert [(one["camera"], one["track"], one["too_late"]) for one in held["found"]] == [("one", "main", []), ("two", "main", [])]
        assert all((one["kept"][0]["start_ns"], one["kept"][0]["end_ns"]) == (start_ns, end_ns) for one in held["found"])
        assert ask(site, "GET", "holds", token)[1]["items"] == [{key: held[key] for key in held if key not in {"found", "pending"}}]
        by_hand = site.run("hold", "add", "one", "--start", end_ns, "--end", end_ns + NS, "--reason", "neighbour", "--json").json()

        held_folder = site.folder / "volume/tape.zarr/cam-1/main.held"
        until(lambda: held_folder.exists() and exactly(spans(site, token, start_ns - 60 * NS, end_ns + 5 * NS), start_ns, end_ns + NS),
              "what is held is there, and of the time around it no more than the rest of two rows")
        saved = site.folder / "held.mp4"
        site.run("clip", "one", "--start", start_ns, "--end", end_ns, "-o", saved, "--json").json()
        assert probed(saved)["video"] == 30

        assert held["id"] in site.run("hold", "list").out and by_hand["hold"]["id"] in site.run("hold", "list").out
        status, released = ask(site, "DELETE", f"holds/{held['id']}", token)
        assert status == 200 and released["released_by"] == "test" and released["pending"] == []
        site.run("hold", "release", by_hand["hold"]["id"])
        until(lambda: not spans(site, token, start_ns - 60 * NS, end_ns + 2 * NS), "what was held has gone")
        assert ask(site, "GET", f"cameras/one/clip.mp4?start={start_ns}&end={end_ns}", token)[0] == 410
        assert ask(site, "GET", "holds", token)[1]["items"] == []
        assert len(ask(site, "GET", "holds?state=all", token)[1]["items"]) == 2
    assert "Traceback" not in site.log()
