"""Reading a chunk's bytes under its shared lock, so that the writer cannot clear or reuse the file meanwhile."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from typing_extensions import Buffer

from recorder.base.errors import Gone
from storage.chunkfile import ChunkHead, Footer, read_footer, read_head
from storage.layout import PAGE

LEASE_BYTES = 16 << 20
LEASE_NS = 30_000_000_000
VIEWS_MAX = 1024              # IOV_MAX


class ChunkLease:
    """A chunk held for reading: flock(LOCK_SH) first, then head and tail checked; Gone whenever they no longer fit.

    `tail` returns the tape offset below which footage is retired. After LEASE_BYTES or LEASE_NS a lease is stale: the next `read` renews
    it (gives the lock up, takes it again, checks again), so a slow client never keeps a chunk from being retired, and never gets a byte
    of what the file holds afterwards. Not for two threads at once. Use as a context manager, or close().
    """

    def __init__(self, dir_fd: int, chunk: int, camera: int, track: str, tail: Callable[[], int]) -> None:
        self.chunk, self._camera, self._track, self._tail = chunk, camera, track, tail
        self._fd = -1
        try:
            fd = os.open(str(chunk), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        except FileNotFoundError:
            raise self._gone() from None
        self._fd = fd
        self._generation: int | None = None
        try:
            self.head = self._take()
        except BaseException:
            self.close()
            raise
        self.start_offset = self.head.start_offset
        self.end_offset = self.start_offset + self.head.chunk_class.tape_bytes

    def read(self, buffer: Buffer, tape_offset: int, *, nowait: bool = False, tail: int | None = None) -> int:
        """Fill `buffer` from `tape_offset` on; the bytes read, fewer where the chunk ends.

        With `nowait` only what the page cache holds (RWF_NOWAIT): perhaps fewer, and -1 if the first page is cold (or the file system
        cannot tell): read again without `nowait` in a thread. `tail`: the tape's tail, of who has just looked. Raises Gone when the footage
        has been retired, ValueError outside of the chunk.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self.end_offset - tape_offset)
        at = self._allow(tape_offset, wanted, tail)
        got = _warm(self._fd, view[:wanted], at) if nowait else _full(self._fd, view[:wanted], at)
        self._bytes += max(got, 0)
        return got

    def scatter(self, views: Sequence[memoryview], size: int, tape_offset: int) -> bool:
        """Fill `views`, of `size` bytes together, from `tape_offset` on, if all of it lies in the chunk and the page cache; else False.

        What is in them is then of no use. Raises as `read` does.
        """
        if tape_offset + size > self.end_offset or len(views) > VIEWS_MAX:
            return False
        at = self._allow(tape_offset, size)
        try:
            got = os.preadv(self._fd, views, at, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
                return False
            raise
        self._bytes += got
        return got == size

    def _allow(self, tape_offset: int, wanted: int, tail: int | None = None) -> int:
        """Where in the file `tape_offset` lies; raises Gone if it may not be read any more."""
        if not self.start_offset <= tape_offset < self.end_offset:
            raise ValueError(f"offset {tape_offset} does not lie in chunk {self.chunk}")
        if (self._bytes + wanted > LEASE_BYTES and self._bytes) or time.monotonic_ns() > self._until_ns:
            self.renew()
        if tape_offset < (self._tail() if tail is None else tail):
            raise self._gone()
        return PAGE + tape_offset - self.start_offset

    def head_page(self) -> tuple[bytes, int]:
        """The chunk's first page as it is now, and the file's size (for the check)."""
        return os.pread(self._fd, PAGE, 0), os.fstat(self._fd).st_size

    def changed_ns(self) -> int:
        """When the file was last written to, UTC."""
        return os.fstat(self._fd).st_mtime_ns

    def footer(self, head: ChunkHead) -> Footer:
        """The footer of the chunk, which `head` says is sealed; raises FormatError."""
        return read_footer(self._fd, head, f"cam-{self._camera}/{self._track} chunk {self.chunk}")

    def behind_footer(self, head: ChunkHead) -> bytes:
        """What the file holds behind the footer of the chunk, which `head` says is sealed: zeros (for verify)."""
        start = head.chunk_class.footer_start + head.footer_bytes
        return os.pread(self._fd, head.chunk_class.file_bytes - start, start)

    def renew(self) -> None:
        """Give the lock up, take it again and check again; Gone (and closed) if the footage has been retired."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._take()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the chunk back; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _take(self) -> ChunkHead:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:                  # only clearing a retired chunk takes it exclusively
            raise self._gone() from None
        head = read_head(self._fd, f"cam-{self._camera}/{self._track} chunk {self.chunk}")
        same = (head.camera, head.track, head.chunk) == (self._camera, self._track, self.chunk)
        if not same or self._generation not in (None, head.generation) or head.start_offset + head.chunk_class.tape_bytes <= self._tail():
            raise self._gone()
        self._generation = head.generation
        self._bytes, self._until_ns = 0, time.monotonic_ns() + LEASE_NS
        return head

    def _gone(self) -> Gone:
        return Gone("the footage has been retired", where=f"cam-{self._camera}/{self._track} chunk {self.chunk}",
                    remedy="ask for a later time")


def _full(fd: int, view: memoryview, at: int) -> int:
    done = 0
    while done < len(view):
        got = os.preadv(fd, [view[done:]], at + done)
        if got == 0:
            break
        done += got
    return done


def _warm(fd: int, view: memoryview, at: int) -> int:
    try:
        return os.preadv(fd, [view], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return -1
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return -1
        raise
