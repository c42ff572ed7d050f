"""The file of a job in the making: written piece by piece past the page cache, hashed as it grows, taken up again where it stood.

Each second what has been written is made durable and a mark tells how far it is and with which digest. After a crash of whatever kind the
bytes up to the newest mark are read back instead of being fetched, and everything goes on from there: the digest is that of an undisturbed run.
Dirty pages on a volume's file system would sit in every commit of the recorder, so none are made (O_DIRECT) and the pace can be bounded.
"""

import asyncio
import errno
import hashlib
import json
import mmap
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from api.exports import shelf

PIECE_BYTES = 1 << 20
MARK_S = 1.0
PAGE = 4096
REST_BYTES, REST_SHIFT = 4 << 20, 11      # room that the file gives back at its end, for its manifest: a 2,048th of it and 4 MiB
MB = 1_000_000

Fill = Callable[[memoryview, int], Awaitable[None]]


class Tap(Protocol):
    """Something that wants to see the bytes of a part: a hash."""

    def update(self, data: memoryview, /) -> None:
        """The next bytes."""


class Pace:
    """Bounds bytes per second over the life of a process; 0: no bound."""

    def __init__(self, mb_per_s: float) -> None:
        self._per_s = mb_per_s * MB
        self._begun_s = time.monotonic()
        self._taken = 0

    async def take(self, nbytes: int) -> None:
        """Wait until so many more may be written."""
        if not self._per_s:
            return
        self._taken += nbytes
        wait_s = self._taken / self._per_s - (time.monotonic() - self._begun_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class Sink:
    """`part` in the job's folder. Not for two tasks at once. `tell` is called with the bytes done after each piece; `close` at the end."""

    def __init__(self, folder: Path, size: int, pace: Pace, tell: Callable[[int], None]) -> None:
        self._folder, self._size, self._pace, self._tell = folder, size, pace, tell
        self._fd = _open(folder / shelf.PART)
        self._view = memoryview(mmap.mmap(-1, PIECE_BYTES))        # page-aligned, as O_DIRECT wants it
        self.whole = hashlib.sha256()
        self._known, self._known_sha = self._mark()
        self._at = 0                # of the piece in the buffer
        self._filled = 0
        self._marked_s = time.monotonic()
        os.posix_fallocate(self._fd, 0, size + REST_BYTES + (size >> REST_SHIFT))      # a full disk is found at once, not hours later

    @property
    def done(self) -> int:
        """Bytes so far."""
        return self._at + self._filled

    async def write(self, size: int, fill: Fill, taps: Sequence[Tap] = ()) -> None:
        """The next `size` bytes: `fill(view, at)` puts those from `at` on into the view."""
        at = 0
        while at < size:
            if not self._filled and self._at < self._known:
                self._read_back()
            view = self._view[self._filled:min(PIECE_BYTES, self._filled + size - at)]
            if self._at >= self._known:
                await fill(view, at)
            for tap in taps:
                tap.update(view)
            self._filled += len(view)
            at += len(view)
            if self._filled == PIECE_BYTES:
                await self._piece()

    async def put(self, data: bytes, taps: Sequence[Tap] = ()) -> None:
        """The next bytes, as they are."""
        async def fill(view: memoryview, at: int) -> None:
            view[:] = data[at:at + len(view)]

        await self.write(len(data), fill, taps)

    async def finish(self) -> tuple[int, str]:
        """Write what is left and make the file whole and durable; its size and SHA-256."""
        size = self.done
        if self._filled:
            self.whole.update(self._view[:self._filled])
            padded = -(-self._filled // PAGE) * PAGE
            self._view[self._filled:padded] = bytes(padded - self._filled)
            self._write(self._view[:padded])
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)
        return size, self.whole.hexdigest()

    def close(self) -> None:
        """Close the file; what is there stays."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)        # the buffer goes with us: an error's frames may still look into it

    async def _piece(self) -> None:
        self.whole.update(self._view)
        if self._at >= self._known:
            await self._pace.take(PIECE_BYTES)
            self._write(self._view)
        self._at, self._filled = self._at + PIECE_BYTES, 0
        if self._at == self._known and self.whole.hexdigest() != self._known_sha:
            raise Torn
        if self._at > self._known and time.monotonic() - self._marked_s > MARK_S:
            self._marked_s = time.monotonic()
            os.fdatasync(self._fd)
            self._set_mark()
        self._tell(self._at)

    def _set_mark(self) -> None:
        mark = {"bytes": self._at, "sha256": self.whole.hexdigest()}
        try:
            shelf.write_whole(self._folder / shelf.MARK, json.dumps(mark).encode(), durable=False)
        except OSError as error:
            if error.errno not in shelf.NO_SPACE:       # a full disk costs work after a kill, not the file, which has its room
                raise

    def _write(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._fd, view[done:], self._at + done)

    def _read_back(self) -> None:
        done = 0
        while done < PIECE_BYTES:
            got = os.preadv(self._fd, [self._view[done:]], self._at + done)
            if got == 0:
                raise Torn
            done += got

    def _mark(self) -> tuple[int, str]:
        """How far the file is known to be good, and its digest there."""
        try:
            found = json.loads((self._folder / shelf.MARK).read_bytes())
            known, sha = int(found["bytes"]), str(found["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""
        return (known, sha) if 0 < known <= os.fstat(self._fd).st_size and known % PIECE_BYTES == 0 else (0, "")


class Torn(Exception):
    """What lies in the file is not what its mark says: it must be made anew."""


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError as error:
        if error.errno != errno.EINVAL:     # a file system without it, such as tmpfs
            raise
        return os.open(path, flags, 0o600)
