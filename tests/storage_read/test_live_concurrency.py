"""A reader beside a writer that never pauses: every answer is whole, none is torn or lapped."""

import multiprocessing
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from recorder.base.errors import Gone
from recorder.base.media import TrackKind
from storage.footage import row_ends
from storage.store import TapeStore
from tests.storage_read.reference_writer import Au, RefVolume, payload

ROWS = 900


def write(path: Path, live_dir: Path, ready: "multiprocessing.synchronize.Event") -> None:
    """Rows of five AUs, each grown AU by AU; chunks retired behind."""
    volume = RefVolume(path, live_dir)
    track = volume.track(7, "main", TrackKind.AUDIO, ring_rows=256, frames_bytes=16_384)
    ready.set()
    for number in range(ROWS):
        for index in range(5):
            track.grow([Au(2000 + number % 100 + index, 18_000, 0, int(index == 0))], reserve=11_000)
        track.close_row()
        if number % 3 == 0:
            track.commit()
        if len(track.rows) - track.tail_row > 180 and len(track.chunks) > 1:
            track.retire(clear=False)
    track.close()


def check(track, buffer: bytearray) -> int:
    """One look at the newest rows and one at the oldest; returns the number of the next row."""
    edges = track.edges()
    for first in (edges.first_row, max(edges.next_row - 6, 0)):
        run = track.rows_from(first, 8)
        assert (run.rows["offset"][1:] >= run.rows["offset"][:-1] + run.rows["bytes"][:-1]).all()
        assert (np.diff(run.rows["t_ns"]) == 1_000_000_000).all()
        assert (row_ends(run.rows) == run.rows["t_ns"] + run.rows["aus"].astype(np.int64) * 200_000_000).all()
        try:
            found = track.entries(run)
        except Gone:
            continue
        assert len(found) == run.rows["aus"].sum()
        number = run.first + found.row.astype(np.int64)
        place = np.concatenate([np.arange(n) for n in run.rows["aus"]]) if len(run) else np.empty(0)
        assert (found.size == 2000 + number % 100 + place).all()
        if len(run):
            read_back(track, int(run.rows["offset"][-1]), int(run.rows["bytes"][-1]), buffer)
    return edges.next_row


def read_back(track, offset: int, size: int, buffer: bytearray) -> None:
    """The bytes of a row are the camera's own, or gone."""
    try:
        with track.open_chunk(track.chunk_of(offset)) as lease:
            got = lease.read(memoryview(buffer)[:size], offset)
    except Gone:
        return
    assert bytes(buffer[:got]) == payload(7, offset, size)


def test_no_torn_row_entry_or_byte_beside_a_writer(tmp_path: Path):
    live_dir = Path(mkdtemp(dir="/dev/shm"))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=write, args=(tmp_path / "volume", live_dir, ready))
    writer.start()
    looks = newest = 0
    try:
        assert ready.wait(300)
        store = TapeStore([tmp_path / "volume"], live_dir)
        track, buffer = store.track(7, "main"), bytearray(20_000)
        while newest < ROWS and (writer.is_alive() or looks == 0):
            newest = max(newest, check(track, buffer))
            looks += 1
        writer.join(300)
        assert writer.exitcode == 0
        assert check(track, buffer) == ROWS
        assert looks > 50
        store.close()
    finally:
        writer.kill()
        writer.join()
        writer.close()
        shutil.rmtree(live_dir)
        assert os.path.exists(tmp_path)
