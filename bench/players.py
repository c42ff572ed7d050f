"""Playback beside recording: rows read back as a player would have them, the oldest first, so that the disk must be asked."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from recorder.base.errors import Gone
from storage.reader import TrackReader
from storage.store import TapeStore

TICK_S = 0.1


class Players:
    """`with Players(store, tracks, count, bytes_s) as players:` each plays a track at `bytes_s` from its oldest row on, and again from there
    when that has been retired. One thread; the store is its own while the block lasts. `nbytes` and `behind_s` are what came of it."""

    def __init__(self, store: TapeStore, tracks: Sequence[tuple[int, str]], count: int, bytes_s: float) -> None:
        self._store, self._bytes_s = store, bytes_s
        self._readers = [store.track(*tracks[n * len(tracks) // count]) for n in range(count)]
        self._next = [-1] * count
        self._due_s = [0.0] * count
        self.nbytes = 0
        self.restarts = 0
        self.behind_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="players")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            now_s = time.monotonic()
            self.behind_s = 0.0
            for n, reader in enumerate(self._readers):
                if self._due_s[n] <= now_s:
                    self.behind_s = max(self.behind_s, now_s - self._due_s[n] if self._due_s[n] else 0.0)
                    self._play(n, reader, now_s)

    def _play(self, n: int, reader: TrackReader, now_s: float) -> None:
        """One row; the next is due when this one has been seen."""
        run = reader.rows_from(self._next[n] if self._next[n] >= 0 else reader.edges().first_row, 1)
        if not len(run):
            self._next[n] = -1
            return
        row = run.rows[0]
        buffer = bytearray(int(row["bytes"]))
        try:
            with reader.open_chunk(reader.chunk_of(int(row["offset"]))) as lease:
                self.nbytes += lease.read(buffer, int(row["offset"]))
        except Gone:
            self._next[n] = -1
            self.restarts += 1
            return
        self._next[n] = run.first + 1
        self._due_s[n] = max(self._due_s[n], now_s - 1) + len(buffer) / self._bytes_s
