"""Whole writes, zeros and syncfs on descriptors."""

import contextlib
import ctypes
import functools
import mmap
import os

from storage.layout import PAGE

DIRECT_LEAST = 64 << 10
HUGE = 2 << 20
ZEROS = bytes(1 << 20)
_libc = ctypes.CDLL(None, use_errno=True)


def write_at(fd: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at `at`. OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def read_at(fd: int, count: int, at: int) -> bytes:
    """`count` bytes from `at`; fewer only at the end of the file."""
    data = os.pread(fd, count, at)
    while len(data) < count:
        more = os.pread(fd, count - len(data), at + len(data))
        if not more:
            break
        data += more
    return data


def read_into(fd: int, buffer: memoryview, at: int) -> int:
    """Fill `buffer` from `at`; the bytes read are fewer only at the end of the file."""
    done = 0
    while done < len(buffer):
        got = os.preadv(fd, [buffer[done:]], at + done)
        if not got:
            break
        done += got
    return done


class PastCache:
    """Reads files past the page cache (O_DIRECT) into one buffer that is used again and again; through it where that cannot be.

    `PIECE` bytes are best read at once. The buffer lies in huge pages where the kernel has any: it pins each page for each read, and by small
    ones reading costs five times the CPU.
    """

    PIECE = (4 << 20) - 2 * PAGE

    def __init__(self) -> None:
        self._buffer = _huge(4 << 20)

    def read(self, fd: int, direct_fd: int, size: int, at: int) -> memoryview:
        """`size` bytes from `at`, fewer only at the end of the file; good until the next call. `direct_fd`: as of `open_direct`."""
        first = at // PAGE * PAGE
        span = -(-(at + size) // PAGE) * PAGE - first
        if span > len(self._buffer):
            self._buffer = _huge(span * 5 // 4)
        if direct_fd >= 0:
            with contextlib.suppress(OSError):
                got = read_into(direct_fd, self._buffer[:span], first)
                return self._buffer[at - first:min(at - first + size, got)]
        return self._buffer[:read_into(fd, self._buffer[:size], at)]


def _huge(size: int) -> memoryview:
    """A buffer of at least `size` bytes on a page's border, and on one of huge pages where the kernel maps so."""
    size = -(-size // HUGE) * HUGE
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):      # a kernel without huge pages
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(buffer)


def zero_range(fd: int, start: int, stop: int) -> None:
    """Write zeros over [start, stop): whole pages past the page cache where the file system can."""
    first, last = -(-start // PAGE) * PAGE, stop // PAGE * PAGE
    if last - first >= DIRECT_LEAST and _zero_direct(fd, first, last):
        _zero_cached(fd, start, first)
        _zero_cached(fd, last, stop)
    else:
        _zero_cached(fd, start, stop)


def _zero_cached(fd: int, start: int, stop: int) -> None:
    while start < stop:
        start += os.pwrite(fd, memoryview(ZEROS)[:min(len(ZEROS), stop - start)], start)


def _zero_direct(fd: int, start: int, stop: int) -> bool:
    """Zeros over the whole pages [start, stop) by O_DIRECT; False if that cannot be, or has failed (the page cache's way will say why)."""
    direct = open_direct(fd)
    if direct < 0:
        return False
    zeros = _zero_pages()
    try:
        while start < stop:
            start += os.pwrite(direct, zeros[:min(len(zeros), stop - start)], start)
    except OSError:
        return False
    finally:
        os.close(direct)
    return True


def syncfs(fd: int) -> None:
    """Make everything written to the file system of `fd` durable (syncfs(2)). OSError: something was lost; never try again."""
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def flush_disk(fd: int) -> None:
    """After `syncfs`: have the disk empty its own write cache. `fd`: a file of the file system. OSError as of `syncfs`.

    XFS' syncfs(2) asks the disk only when its log has something to write; fdatasync(2) always does.
    """
    os.fdatasync(fd)


def open_direct(fd: int) -> int:
    """The file of `fd` once more, to be written past the page cache (O_DIRECT); -1 where that cannot be."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return -1


def close_all(*fds: int) -> None:
    """Close those that are open (not -1)."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


@functools.cache
def _zero_pages() -> memoryview:
    """1 MiB of page-aligned zeros. Private and never written, so every page is the kernel's one page of zeros: nothing is cleared or kept."""
    return memoryview(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ))
