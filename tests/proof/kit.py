"""What the proofs share: a client of the site, a strict decoder, the tapes against the simulation's truth."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from bench.camsim import pattern
from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.site import Site
from bench.tapes import Comparison, compare
from recorder.base.media import NS, AuFlag
from storage.check import LEVELS, check_volume
from storage.reader import TrackReader

ALL = (0, 1 << 62)
WIDTH, HEIGHT = 320, 180
SMALL = ("--size", f"{WIDTH}x{HEIGHT}", "--bitrate", "400")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the site answered."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


def ask(site: Site, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None, timeout_s: float = 30,
        **query: object) -> Reply:
    """One request below /api/v1, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=timeout_s)
    try:
        parameters = f"?{urlencode(query)}" if query else ""
        connection.request(method, f"/api/v1/{path}{parameters}", body=body, headers=headers or {})
        with connection.getresponse() as answer:
            return Reply(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def clip(site: Site, camera: str, start_ns: int, end_ns: int, **query: object) -> Reply:
    """A clip that must be there."""
    reply = ask(site, f"cameras/{camera}/clip.mp4", start=start_ns, end=end_ns, **query)
    assert reply.status == 200, (reply.status, reply.body[:400])
    return reply


def answers(site: Site) -> bool:
    """True if the API answers."""
    try:
        return ask(site, "cameras", timeout_s=60).status == 200
    except (OSError, http.client.HTTPException):
        return False


def recording(site: Site) -> bool:
    """True if every camera records, as the API says."""
    site.check_alive()
    try:
        cameras = ask(site, "cameras", timeout_s=60).json()["items"]
    except (OSError, http.client.HTTPException):
        return False
    return len(cameras) == len(site.cameras) and all(camera["state"] == "recording" for camera in cameras)


def shown(data: bytes, path: Path) -> tuple[list[int | None], str]:
    """The numbers in all pictures that ffmpeg shows of a clip (of SMALL's size), and its messages."""
    path.write_bytes(data)
    run = subprocess.run(["ffmpeg", "-nostdin", "-v", "warning", "-i", path, "-map", "0:v", "-fps_mode", "passthrough",
                          "-enc_time_base", "-1", "-f", "rawvideo", "-pix_fmt", "gray", "-", "-map", "0:a?", "-f", "null", "/dev/null"],
                         capture_output=True, check=True, timeout=300)
    pictures = np.frombuffer(run.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH)
    return [pattern.read(picture) for picture in pictures], run.stderr.decode()


def frames_in(track: TrackReader, start_ns: int, end_ns: int) -> int:
    """How many pictures of the tape have their time in [start, end)."""
    entries = track.entries(track.rows(start_ns - 15 * NS, end_ns + 2 * NS))
    return int(((entries.wall_ns >= start_ns) & (entries.wall_ns < end_ns) & (entries.flags & AuFlag.DAMAGED == 0)).sum())


def check_clean(site: Site) -> None:
    """`watchroom check` finds nothing, at any level."""
    for level in LEVELS:
        report = check_volume(site.volume, site.live_dir, level=level)
        assert report.tracks > 0
        assert not report.findings, f"level {level}: {report.findings[:5]}"


def compared(site: Site, sim: SimProcess, *, end_s: float) -> Iterator[tuple[str, Comparison, int]]:
    """Every tape against what the simulation has sent; the last `end_s` of each session may be missing. Yields name, result, sessions."""
    status, numbers, store = sim.status(), site.numbers(), site.store()
    try:
        for index, number in enumerate(numbers[name] for name in site.cameras):
            for name in store.tracks(number):
                truth = Truth.of(status, f"cam{index}", name)
                sessions = [s["tracks"][name] for s in status["cameras"][index]["sessions"] if name in s["tracks"]]
                assert not any(session["dropped_aus"] for session in sessions)
                ended_ok = round(end_s * truth.clip.aus * truth.clip.clock_rate / truth.clip.loop_ticks) + 1
                yield f"cam{index}/{name}", compare(store.track(number, name), truth, sessions, ended_ok=ended_ok), len(sessions)
    finally:
        store.close()
