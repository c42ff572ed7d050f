"""Whether a file system has been unmounted since: only then what is read of it comes from the disk again (inotify(7), IN_UNMOUNT)."""

import ctypes
import os
import struct
from pathlib import Path

IN_DELETE_SELF, IN_UNMOUNT, IN_IGNORED = 0x400, 0x2000, 0x8000
EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Unmounted:
    """Watches the file system at `path` from now on, without keeping it from being unmounted. `close` at the end.

    Mount numbers would not do: they are given again at once. What cannot be watched is taken for gone.
    """

    def __init__(self, path: Path) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watched = self._fd >= 0 and _libc.inotify_add_watch(self._fd, os.fsencode(path), IN_DELETE_SELF) >= 0
        self._happened = not watched

    @property
    def happened(self) -> bool:
        """True once the last mount of it is gone and nobody holds a file of it open."""
        while not self._happened:
            try:
                data = os.read(self._fd, 4096)
            except BlockingIOError:
                break
            self._happened = any(mask & (IN_UNMOUNT | IN_IGNORED) for mask in _masks(data))
        return self._happened

    def close(self) -> None:
        """Watch no more; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _masks(data: bytes) -> list[int]:
    masks, at = [], 0
    while at + EVENT.size <= len(data):
        _, mask, _, size = EVENT.unpack_from(data, at)
        masks.append(mask)
        at += EVENT.size + size
    return masks
