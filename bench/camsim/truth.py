"""What a recorder must have stored: the AUs of a simulated track by number, and which number a picture or a moment has."""

import json
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.camsim import clip as clips
from bench.camsim.packets import au_hash

DIGEST_FACTOR = 0x100000001B3
STATUS_S = 60       # it shares its core with whoever measures


def digest(aus: Iterable[bytes], start: int = 0) -> int:
    """The running digest of AUs as they are stored: d = d * 0x100000001b3 + BLAKE2b-64(au), modulo 2^64."""
    value = start
    for au in aus:
        value = (value * DIGEST_FACTOR + au_hash(au)) % 2**64
    return value


def fetch_status(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    """The report of a running simulation (see bench/camsim/report.py). Blocks."""
    with urllib.request.urlopen(f"http://{host}:{port}/status", timeout=STATUS_S) as response:
        result: dict[str, Any] = json.load(response)
    return result


@dataclass(frozen=True, slots=True)
class Truth:
    """One track of one camera. AUs are numbered as they are sent, from media time 0 over all loops, for all sessions alike."""

    clip: clips.Clip
    base_wall_ns: int

    @classmethod
    def of(cls, status: dict[str, Any], camera: str, track: str = "main") -> "Truth":
        """From a report. Raises KeyError if there is no such camera or track."""
        found = {c["name"]: c for c in status["cameras"]}[camera]["tracks"][track]
        return cls(clips.load(Path(found["clip"])), found["base_wall_ns"])

    def au_bytes(self, index: int) -> bytes:
        """AU `index` as it must be stored."""
        return self.clip.au(index)

    def wall_ns(self, index: int) -> int:
        """UTC at which AU `index` was captured (its presentation time by the camera's clock)."""
        return self.base_wall_ns + self.clip.pts_of(index) * 1_000_000_000 // self.clip.clock_rate

    def loop_of(self, index: int, wall_ns: int) -> bool:
        """True if a time lies nearer to AU `index` than to the same AU one loop earlier or later."""
        return abs(self.wall_ns(index) - wall_ns) * 2 * self.clip.clock_rate < self.clip.loop_ticks * 1_000_000_000

    def is_key(self, index: int) -> bool:
        """True if AU `index` is a random access point."""
        return bool(self.clip.key[index % self.clip.aus])

    def next_key(self, index: int) -> int:
        """The first random access point at or after `index`."""
        while not self.is_key(index):
            index += 1
        return index

    def picture(self, wall_ns: int) -> int:
        """The number that the pattern shows in the picture that was captured last at or before `wall_ns`."""
        ticks = (wall_ns - self.base_wall_ns) * self.clip.clock_rate // 1_000_000_000
        return int(ticks / self.clip.au_ticks + 1e-6) % self.clip.aus

    def number_of(self, index: int) -> int:
        """The number that the pattern shows in the picture of AU `index` (not `index` itself where there are B-frames)."""
        return round(int(self.clip.pts[index % self.clip.aus]) / self.clip.au_ticks)

    def sent(self, counters: dict[str, Any]) -> Iterator[int]:
        """The numbers of the AUs that a session's counters say were sent, in order."""
        at = counters["first"]
        for start, stop in [*counters["drops"], [counters["next"], counters["next"]]]:
            yield from range(at, start)
            at = stop

    def find(self, au: bytes, near: int = 0) -> int | None:
        """The first number at or after `near` whose AU is `au`; None if the loop does not hold it."""
        return next((i for i in range(near, near + self.clip.aus) if self.clip.au(i) == au), None)
