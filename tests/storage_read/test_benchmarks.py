"""Lookup and timeline of a long track, beside the same rows in SQLite. Run once as tests; `soak` has 31 days of rows of 2 s.

Figures: pytest tests/storage_read/test_benchmarks.py -m "" --benchmark-columns=min,median,rounds
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder._ext import rowsearch
from recorder.base.media import NS, TrackKind
from storage.layout import PAGE, ROW
from storage.reader import TrackReader
from storage.store import TapeStore
from tests.storage_read.reference_writer import BASE_NS, RefVolume

SIZES = [pytest.param(50_000, id="28h"), pytest.param(1_339_200, id="31d", marks=pytest.mark.soak)]


class Long:
    """A track of `count` rows of 2 s (one hour in a thousand missing), as ring and as SQLite table."""

    def __init__(self, volume: RefVolume, store: TapeStore, path: Path, count: int) -> None:
        self.rows = np.zeros(count, ROW)
        step = np.arange(count, dtype=np.int64)
        self.rows["t_ns"] = BASE_NS + step * 2 * NS + step // 1800 // 1000 * 3600 * NS
        self.rows["wall_dur_us"], self.rows["media_dur"], self.rows["bytes"], self.rows["aus"] = 2_000_000, 180_000, 1_000_000, 50
        self.rows["offset"] = step.astype(np.uint64) * 1_000_000
        raw = self.rows.view(np.uint8).reshape(count, 64)
        for number in range(count):
            self.rows["crc"][number] = rowsearch.row_crc(raw[number], number)
        track = volume.track(7, "main", TrackKind.VIDEO, ring_rows=-(-count // 64) * 64 + 64)
        os.pwrite(track.files["ring"], self.rows.tobytes(), PAGE)
        track.rows = [b""] * count
        track.ring_rows, track.next_ns = count, int(self.rows["t_ns"][-1]) + 2 * NS
        track.show()
        self.reader: TrackReader = store.track(7, "main")
        self.end_ns = track.next_ns
        self.db = sqlite3.connect(path / "rows.db")
        names = ", ".join(f"{name} INTEGER" for name in ("offset", "bytes", "dur_us", "aus", "flags"))
        self.db.execute(f"CREATE TABLE row (t_ns INTEGER PRIMARY KEY, {names})")
        columns = (self.rows[name].tolist() for name in ("t_ns", "offset", "bytes", "wall_dur_us", "aus", "flags"))
        self.db.executemany("INSERT INTO row VALUES (?, ?, ?, ?, ?, ?)", zip(*columns, strict=True))
        self.db.commit()
        random = np.random.default_rng(3)
        self.numbers = random.integers(0, count, 256).tolist()
        self.times = [int(self.rows["t_ns"][number]) + 700_000_000 for number in self.numbers]


@pytest.fixture(params=SIZES)
def long(request: pytest.FixtureRequest, volume: RefVolume, store: TapeStore, tmp_path: Path) -> Iterator[Long]:
    made = Long(volume, store, tmp_path, request.param)
    yield made
    made.db.close()


def test_lookup_in_the_mapped_ring(long: Long, benchmark: Any):
    ring, count = long.reader._ring(0), len(long.rows)
    found = benchmark.pedantic(lambda: [ring.find(0, count, t) for t in long.times], rounds=20)
    assert found == long.numbers


def test_lookup_through_the_reader(long: Long, benchmark: Any):
    found = benchmark.pedantic(lambda: [long.reader.rows(t, t + 1).first for t in long.times], rounds=10)
    assert found == long.numbers


def test_lookup_in_sqlite(long: Long, benchmark: Any):
    query = "SELECT offset, bytes, dur_us FROM row WHERE t_ns <= ? ORDER BY t_ns DESC LIMIT 1"
    found = benchmark.pedantic(lambda: [long.db.execute(query, (t,)).fetchone()[0] for t in long.times], rounds=10)
    assert found == [number * 1_000_000 for number in long.numbers]


def test_an_hour_of_rows(long: Long, benchmark: Any):
    start = int(long.rows["t_ns"][1000])
    run = benchmark.pedantic(lambda: long.reader.rows(start, start + 3600 * NS), rounds=20)
    assert (run.first, len(run)) == (1000, 1800)


def test_timeline_of_everything_by_the_minute(long: Long, benchmark: Any):
    found = benchmark.pedantic(lambda: long.reader.timeline(BASE_NS, long.end_ns, 60 * NS), rounds=5)
    assert found.covered_ns == len(long.rows) * 2 * NS


def test_the_same_sums_in_sqlite(long: Long, benchmark: Any):
    query = "SELECT (t_ns - ?) / 60000000000, sum(dur_us), sum(bytes) FROM row GROUP BY 1"
    found = benchmark.pedantic(lambda: long.db.execute(query, (BASE_NS,)).fetchall(), rounds=2)
    assert sum(row[1] for row in found) == len(long.rows) * 2_000_000
