"""What recovery will read of hundreds of tapes, one after another, read ahead by many threads at once: a cold disk then answers in parallel.

Nothing is kept but the page cache; what cannot be read here is met again, and answered, where it is needed.
"""

import contextlib
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from recorder.base.errors import StorageError
from storage.disk import read_at
from storage.layout import PAGE, ROWS_PER_PAGE, index_path, track_path
from storage.replay import Found
from storage.rings import IndexWriter
from storage.volume import Volume

THREADS = 16


def prefetch(volume: Volume, tapes: Collection[Found]) -> None:
    """Read heads and ends of the tapes' rings, logs and open chunks."""
    with ThreadPoolExecutor(THREADS, "prefetch") as pool:
        for _ in pool.map(lambda found: _tape(volume, found), tapes):
            pass


def _tape(volume: Volume, found: Found) -> None:
    state, ident = found.state, found.ident
    first_row = min(found.rows, default=state.next_row) // ROWS_PER_PAGE * ROWS_PER_PAGE
    first_entry = min((position for position, _ in found.entries), default=state.entries_end) // PAGE * PAGE
    for frames, first, stop in ((False, first_row, state.next_row), (True, first_entry, state.entries_end)):
        with contextlib.suppress(OSError, StorageError):
            _ring(IndexWriter(volume, ident.camera, ident.name, frames=frames), first, stop)
    pages = [(index_path(ident.camera, ident.name, "log"), state.log_bytes)]
    for number in found.chunks:
        used = max(0, state.tape_end - number * found.chunk_class.tape_bytes)
        pages.append((f"{track_path(ident.camera, ident.name)}/c/{number}", PAGE + used))
    for path, end in pages:
        with contextlib.suppress(OSError):
            _file(volume, path, end)


def _ring(ring: IndexWriter, first: int, stop: int) -> None:
    try:
        if ring.open():
            ring.read(max(first, stop - ring.capacity), min(stop - first, ring.capacity))
    finally:
        ring.close()


def _file(volume: Volume, path: str, end: int) -> None:
    fd = volume.open_file(path, os.O_RDONLY)
    try:
        read_at(fd, PAGE, 0)
        read_at(fd, PAGE, max(0, end - PAGE))
    finally:
        os.close(fd)
