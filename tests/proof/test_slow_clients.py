"""Clients that take their time over the oldest footage while the ring goes round under them: not one byte that is not that camera's."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path

import pytest

from api.times import parse_time
from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.site import Site, wait_until
from recorder.base.media import NS
from storage.store import TapeStore
from tests.proof.kit import ALL, check_clean, recording

CLIENT = Path(__file__).parent / "slow_client.py"
FPS = 12
BIG = ("--size", "1280x720", "--bitrate", "60000", "--fps", str(FPS), "--gop", str(FPS))
KINDS = ((20_000, False), (1_000_000, False), (8_000_000, True))     # bytes a second, stopped now and then


@dataclass
class Client:
    """One download after the other of a camera's oldest footage. `stops`: it is stopped for seconds, again and again."""

    site: Site
    folder: Path
    camera: int
    number: int
    rate: int
    stops: bool
    files: list[Path] = field(default_factory=list)
    ended: int = 0          # downloads that the server ended
    process: subprocess.Popen[bytes] | None = None
    stopped_until_s: float = 0.0

    def step(self, store: TapeStore, dice: random.Random) -> None:
        """Begin a download if none runs; stop and let go as its kind does."""
        if self.process is None or self.process.poll() is not None:
            self.ended += self.process is not None
            start_ns = store.track(self.number, "main").edges().first_ns
            self.files.append(self.folder / f"{self.camera}-{self.rate}-{self.stops}-{len(self.files)}")
            target = f"/api/v1/cameras/cam-{self.camera}/clip.mp4?start={start_ns}&end={start_ns + 30 * NS}"
            self.process = subprocess.Popen([sys.executable, CLIENT, str(self.site.port), target, self.files[-1], str(self.rate)])
        elif self.stops and time.monotonic() > self.stopped_until_s:
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.1)
            self.process.send_signal(signal.SIGSTOP)
            self.stopped_until_s = time.monotonic() + dice.choice((0.3, 2.0, 8.0))

    def end(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Got:
    """What a client was sent: the status, media bytes checked, and whether the whole file came."""

    status: int
    media_bytes: int
    whole: bool


def media_of(body: bytes) -> bytes:
    """What follows the head of mdat, as far as it came."""
    at = 0
    while at + 8 <= len(body):
        size, name = int.from_bytes(body[at:at + 4], "big"), body[at + 4:at + 8]
        if name == b"mdat":
            return body[at + (16 if size == 1 else 8):]
        at += size
    return b""


def judge(path: Path, truth: Truth) -> Got:
    """Every media byte in a client's file against the camera's AUs from the one on that belongs to the clip's start."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    if not head:
        return Got(0, 0, False)
    line, _, fields = head.partition(b"\r\n")
    status, headers = int(line.split()[1]), message_from_bytes(fields)
    if status != 200:
        assert status == 410, (status, body)
        return Got(status, 0, True)
    media, at = media_of(body), 0
    start_ns = parse_time(headers["Watchroom-Start"])
    number = round((start_ns - truth.base_wall_ns) * FPS / NS)
    number = min((n for n in range(number - FPS, number + FPS) if truth.is_key(n)), key=lambda n: abs(n - number))
    while at < len(media):
        expected = truth.au_bytes(number)[:len(media) - at]
        assert media[at:at + len(expected)] == expected, f"{path.name}: foreign bytes in AU {number} at {at} of {len(media)}"
        at, number = at + len(expected), number + 1
    return Got(status, len(media), len(body) == int(headers["Content-Length"]))


@pytest.mark.parametrize(("laps", "ring_mb"), [pytest.param(1, 80, marks=pytest.mark.live), pytest.param(5, 128, marks=pytest.mark.soak)])
def test_slow_clients_get_no_foreign_byte(laps: int, ring_mb: int, simulate: Callable[..., SimProcess], make_site: Callable[..., Site],
                                          tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    sim = simulate("--count", "2", *BIG)
    cameras = {f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 60000 }}'] for i in range(2)}
    site = make_site(cameras, bytes_max=ring_mb << 20, module="tests.proof.hasty")
    dice = random.Random(laps)
    with site:
        wait_until(lambda: recording(site), 300, "all cameras recording")
        store, numbers = site.store(), list(site.numbers().values())
        clients = [Client(site, tmp_path, i, numbers[i], rate, stops) for i in range(2) for rate, stops in KINDS]
        began = [store.track(number, "main").edges().visible_offset for number in numbers]
        try:
            wait_until(lambda: all(len(store.track(number, "main").rows(*ALL, durable=True)) for number in numbers), 300, "footage")

            def laps_done() -> bool:
                site.check_alive()
                for client in clients:
                    client.step(store, dice)
                ends = [store.track(number, "main").edges().visible_offset for number in numbers]
                return sum(ends) - sum(began) >= laps * ring_mb << 20 and any(client.ended for client in clients)

            wait_until(laps_done, 400, f"{laps} laps, and that the ring ends a download")
        finally:
            for client in clients:
                client.end()
            store.close()
    assert site.stop() == 0, site.tail()
    began_to_load = [(client, path) for client in clients for path in client.files if path.exists()]     # not one that was ended at once
    found = [judge(path, sim.truth(client.camera)) for client, path in began_to_load]
    assert sum(got.media_bytes for got in found) > 4 << 20
    record_property("laps", laps)
    record_property("downloads", len(found))
    record_property("MB compared", round(sum(got.media_bytes for got in found) / 1e6))
    record_property("ended by the server", sum(client.ended for client in clients))
    record_property("foreign bytes", 0)
    check_clean(site)
