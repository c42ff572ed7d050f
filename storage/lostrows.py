"""Rows that a tape's ring has lost, out of the footers of its sealed chunks. Any thread."""

import os

from storage import offline
from storage.chunkfile import ChunkHead, Footer
from storage.layout import track_path
from storage.volume import Volume


class LostRows:
    """One tape's. The footer that was read last is kept: rows that are lost lie together, and what a row was never changes."""

    def __init__(self, volume: Volume, camera: int, track: str) -> None:
        self._volume, self._folder, self._where = volume, f"{track_path(camera, track)}/c", f"cam-{camera}/{track}"
        self._last: tuple[ChunkHead, Footer] | None = None

    def row(self, number: int) -> bytes | None:
        """The 64 bytes of row `number`; None if no footer holds it. OSError."""
        last = self._last
        if last is None or not last[0].first_row <= number < last[0].first_row + last[0].rows:
            self._last = last = self._footer(number)
        return last[1].rows[number - last[0].first_row].tobytes() if last is not None else None

    def head(self, number: int) -> ChunkHead | None:
        """The head of the sealed chunk that holds row `number`, whatever has become of its footer; None if none says so. OSError."""
        fd = self._open()
        try:
            return offline.head_of_row(fd, number, self._where) if fd >= 0 else None
        finally:
            _close(fd)

    def _footer(self, number: int) -> tuple[ChunkHead, Footer] | None:
        fd = self._open()
        try:
            return offline.footer_of_row(fd, number, self._where) if fd >= 0 else None
        finally:
            _close(fd)

    def _open(self) -> int:
        try:
            return self._volume.open_file(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return -1


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
