"""A file's bytes for clients: by copy, on the loop while pages are warm, else in a small pool."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from api.disks import Disk
from api.tapebytes import PIECE_BYTES
from recorder.base.errors import Gone


class FileBytes:
    """A file that does not change any more. Raises FileNotFoundError at once; call `close` at the end. Loop thread only."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._disk = disk
        self._reading, self._closed = 0, False
        self.size = os.fstat(self._fd).st_size

    async def pieces(self, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Bytes [start, stop) in pieces of fresh memory, which a transport may keep as long as it likes."""
        while start < stop:
            view = np.empty(min(PIECE_BYTES, stop - start), np.uint8).data
            await self._fill(view, start)
            yield view
            start += len(view)

    def close(self) -> None:
        """Close the file, when no thread reads it any more."""
        if not self._closed:
            self._closed = True
            self._end()

    async def _fill(self, view: memoryview, at: int) -> None:
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], at + done, os.RWF_NOWAIT)
            except OSError:         # cold pages, or a file system that cannot tell
                got = await self._cold(view[done:], at + done)
            if got == 0:
                raise Gone("the file is shorter than it was", where="export")
            done += got

    async def _cold(self, view: memoryview, at: int) -> int:
        self._reading += 1
        reading = self._disk.run(os.preadv, self._fd, [view], at)
        reading.add_done_callback(self._read)
        return await asyncio.shield(reading)

    def _read(self, reading: "asyncio.Future[int]") -> None:
        self._reading -= 1
        if not reading.cancelled():
            reading.exception()
        self._end()

    def _end(self) -> None:
        if self._closed and not self._reading:
            os.close(self._fd)
