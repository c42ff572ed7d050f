"""Whole writes, zeros and syncfs on descriptors."""

import ctypes
import functools
import mmap
import os

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


def zero_range(fd: int, start: int, stop: int) -> None:
    """Write zeros over [start, stop)."""
    while start < stop:
        start += os.pwrite(fd, memoryview(ZEROS)[:min(len(ZEROS), stop - start)], start)


def syncfs(fd: int) -> None:
    """Make everything written to the file system of `fd` durable (syncfs(2)). OSError: something was lost; never try again."""
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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


def fill_direct(dir_fd: int, name: str, size: int) -> None:
    """Write zeros over the whole file `name` past the page cache (O_DIRECT) where the file system can, else through it."""
    try:
        fd = os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        fd = -1
    if fd >= 0:
        zeros = _zero_pages()
        try:
            at = 0
            while at < size:
                at += os.pwrite(fd, zeros[:min(len(zeros), size - at)], at)
        except OSError:
            at = 0
        finally:
            os.close(fd)
        if at >= size:
            return
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        zero_range(fd, 0, size)
    finally:
        os.close(fd)
