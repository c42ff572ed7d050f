"""The reading side of a large index, in a process of its own: `python -m bench.index_read VOLUME LIVE SAMPLES`; a line of JSON.

Cold first (nothing of the rings is mapped or cached yet), then memory, then warm.
"""

import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from api.timeline import answer
from bench.index_site import DAY_NS, END_NS, TRACK
from recorder.base.media import NS
from storage.footage import Edges
from storage.layout import PAGE, index_path
from storage.reader import TrackReader
from storage.ringfile import RingFile
from storage.store import TapeStore
from storage.volume import Volume

ROUNDS = 9
EACH = 100          # lookups in each ring, for memory


def main(path: str, live: str, samples: str) -> int:
    """Measure everything."""
    store = TapeStore([Path(path)], Path(live))
    dice = random.Random(5)  # noqa: S311
    cameras = store.cameras()
    found = cold(Path(path), cameras, store, int(samples), dice)
    found |= memory(store, cameras, dice)
    found |= warm(Path(path), store.track(cameras[-1], TRACK), int(samples), dice)
    found |= timeline(store, cameras[-1])
    sys.stdout.write(json.dumps(found) + "\n")
    store.close()
    return 0


def cold(path: Path, cameras: tuple[int, ...], store: TapeStore, samples: int, dice: random.Random) -> dict[str, float]:
    """Lookups in open rings of which nothing is in the page cache: us, and pages that had to come from the disk; and the first in each."""
    volume = Volume.open(path, on_root=True, lock=False)
    edges = store.track(cameras[0], TRACK).edges()
    first: list[tuple[float, int]] = []
    later: list[tuple[float, int]] = []
    for _ in range(samples):
        camera = dice.choice(cameras)
        forget(volume, camera)
        ring = RingFile(volume.dir_fd, index_path(camera, TRACK, "ring"), camera, TRACK)
        for found in (first, later):
            ring.let_go()
            forget(volume, camera)
            found.append(search(ring, edges, dice.randrange(edges.first_ns, END_NS)))
        ring.close()
    volume.close()
    times = sorted(us for us, _ in later)
    return {"first_us": statistics.median(us for us, _ in first), "first_faults": statistics.mean(faults for _, faults in first),
            "cold_us": statistics.median(times), "cold_p99_us": times[len(times) * 99 // 100],
            "cold_faults": statistics.mean(faults for _, faults in later)}


def search(ring: RingFile, edges: Edges, t_ns: int) -> tuple[float, int]:
    """us and major faults of a lookup."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_majflt, time.perf_counter_ns()
    ring.find(edges.first_row, edges.next_row, t_ns)
    us = (time.perf_counter_ns() - began) / 1000
    return us, resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before


def forget(volume: Volume, camera: int) -> None:
    """Have the page cache let go of a ring; nobody may have it mapped."""
    fd = volume.open_file(index_path(camera, TRACK, "ring"), os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def rss() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def memory(store: TapeStore, cameras: tuple[int, ...], dice: random.Random) -> dict[str, float]:
    """Resident memory that readers of all tracks add: mapped, one hour read of each; then after many lookups in each."""
    before = rss()
    readers = [store.track(camera, TRACK) for camera in cameras]
    first_ns = readers[0].edges().first_ns
    for reader in readers:
        at = dice.randrange(first_ns, END_NS)
        reader.rows(at, at + 3600 * NS)
    mapped = rss()
    for reader in readers:
        for _ in range(EACH):
            at = dice.randrange(first_ns, END_NS)
            reader.rows(at, at + 1)
    return {"mapped_mb": (mapped - before) / 1e6, "searched_mb": (rss() - before) / 1e6}


def warm(path: Path, reader: TrackReader, samples: int, dice: random.Random) -> dict[str, float]:
    """us of a lookup in one ring, all of it in the page cache: of the search alone, and of all that a reader does."""
    edges = reader.edges()
    times = [dice.randrange(edges.first_ns, END_NS) for _ in range(samples)]
    volume = Volume.open(path, on_root=True, lock=False)
    ring = RingFile(volume.dir_fd, index_path(reader.camera, TRACK, "ring"), reader.camera, TRACK)

    def search() -> None:
        for t_ns in times:
            ring.find(edges.first_row, edges.next_row, t_ns)

    def read() -> None:
        for t_ns in times:
            reader.rows(t_ns, t_ns + 1)

    found = {"search_us": best_us(search) / samples, "rows_us": best_us(read) / samples}
    ring.close()
    volume.close()
    return found


def timeline(store: TapeStore, camera: int) -> dict[str, float]:
    """ms of all days of a camera by the minute, from files to the JSON that the API sends; and its bytes."""
    reader = store.track(camera, TRACK)
    start_ns = reader.edges().first_ns
    text = ""

    def ask() -> None:
        nonlocal text
        text = answer(store, camera, TRACK, {}, (start_ns, END_NS), END_NS, 60 * NS)

    json_us = best_us(ask)
    rows_us = best_us(lambda: reader.timeline(start_ns, END_NS, 60 * NS))
    return {"timeline_json_ms": json_us / 1000, "timeline_rows_ms": rows_us / 1000, "timeline_json_bytes": len(text),
            "timeline_days": (END_NS - start_ns) / DAY_NS}


def best_us(call: Callable[[], object]) -> float:
    """us of a call: the median of some, after one that warms up."""
    call()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
