"""A reader that loops over the oldest footage while it is being retired: each byte is its camera's and that AU's, or is gone."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorder.base.clock import SystemClock
from recorder.base.errors import Gone
from storage.footage import RowRun
from storage.reader import TrackReader
from tests.storage_read.real_slot import Site, Source, words

CAMERAS = (7, 8)
MS = 40
SIZE = 8000
HANGS_S = 300           # whatever takes longer hangs
MATCHED, GONE = 300, 20


@dataclass
class Seen:
    """What readers have met; `faults` say the camera, the AU and what was there instead."""

    aus: int = 0
    gone: int = 0
    empty: int = 0
    faults: int = 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """With its threads, in real time; files are used again at once."""
    site = Site(tmp_path, clock=SystemClock(), bytes_max=20 << 20, quarantine_s=0.0)
    site.slot.start()
    yield site
    site.close()


def look(track: TrackReader, source: Source, seen: Seen, behind: int) -> None:
    """Read some of the oldest rows, from `behind` the tail on, as a player would: rows, entries, then bytes while others are retired."""
    first = track.edges().first_row
    try:
        run = track.rows_from(first + behind, 64)
        if not len(run):
            seen.empty += 1
            return
        check_bytes(track, run, source, seen)
    except Gone:
        seen.gone += 1


def check_bytes(track: TrackReader, run: RowRun, source: Source, seen: Seen) -> None:
    entries = track.entries(run)
    buffer = bytearray(SIZE)
    for row, offset in zip(entries.row.tolist(), entries.offset.tolist(), strict=True):
        at = run.rows[row]
        number = round((int(at["t_ns"]) - source.start_ns) / (MS * 1_000_000)) + (offset - int(at["offset"])) // SIZE
        with track.open_chunk(track.chunk_of(offset)) as lease:
            got = lease.read(buffer, offset)
        if bytes(buffer[:got]) == words(source.camera, number, SIZE):
            seen.aus += 1
        else:
            seen.faults += 1


@pytest.mark.parametrize("seconds", [pytest.param(3, marks=pytest.mark.live), pytest.param(600, marks=pytest.mark.soak)])
def test_the_oldest_footage_is_right_or_gone(site: Site, seconds: int, record_property: Callable[[str, object], None]) -> None:
    sources = [Source(site.slot, camera, time.time_ns(), ms=MS, size=SIZE) for camera in CAMERAS]
    seen, done = [Seen() for _ in sources], threading.Event()

    def feed() -> None:
        while not done.wait(0.01):
            for source in sources:
                source.put(2)

    def read(source: Source, seen: Seen) -> None:
        track, behind = site.store.track(source.camera, "main"), 0
        while not done.is_set():
            look(track, source, seen, behind)
            behind = (behind + 1) % 3

    threads = [threading.Thread(target=feed), *(threading.Thread(target=read, args=pair) for pair in zip(sources, seen, strict=True))]
    for thread in threads:
        thread.start()
    try:
        least_s, until_s = time.monotonic() + seconds, time.monotonic() + seconds + HANGS_S
        while time.monotonic() < least_s or any(one.aus < MATCHED for one in seen) or sum(one.gone for one in seen) < GONE:
            assert time.monotonic() < until_s, seen
            time.sleep(0.05)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    record_property("AUs right", sum(one.aus for one in seen))
    record_property("gone while they were read", sum(one.gone for one in seen))
    record_property("stale or foreign AUs", sum(one.faults for one in seen))
    assert not sum(one.faults for one in seen)
