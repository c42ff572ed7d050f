"""The slot's live file and lease file, writing side. Both lie on tmpfs and are made anew whenever the slot is opened."""

import errno
import mmap
import os
import struct
from pathlib import Path
from uuid import UUID

from recorder.base.errors import StorageError
from storage.layout import FORMAT_VERSION, LIVE_BLOCK_BYTES, LIVE_HEAD, LIVE_MAGIC, PAGE, lease_name, live_name
from storage.live import boot_id

_HEAD = struct.Struct("<8sHHI16s16sIIQq")
_COMMIT_AT = _HEAD.size - 16
assert _HEAD.size == LIVE_HEAD.itemsize
BLOCKS = 1024
_POPULATE_WRITE = 23        # MADV_POPULATE_WRITE, Linux 5.14: pages now, or an error where touching them would end the process


class LiveWriter:
    """Maps a new live file and lease under temporary names; `publish` puts them in place of the old ones.

    Blocks are handed out for good: a track keeps its block until the slot is opened again.
    """

    def __init__(self, live_dir: Path, volume: UUID, slot: int, blocks: int = BLOCKS) -> None:
        self._names = [live_dir / lease_name(volume, slot), live_dir / live_name(volume, slot)]
        self._blocks, self._used = blocks, 0
        try:
            self._lease = _map(_temporary(self._names[0]), blocks * 8)
            self._live = _map(_temporary(self._names[1]), PAGE + blocks * LIVE_BLOCK_BYTES)
            _populate(self._lease, 0, blocks * 8)
            _populate(self._live, 0, PAGE)
        except OSError as error:
            raise _no_room(live_dir, error) from error
        head = _HEAD.pack(LIVE_MAGIC, FORMAT_VERSION, slot, blocks, volume.bytes, boot_id(), os.getpid(), 0, 0, 0)
        self._live[:len(head)] = head
        self._live_view, self._lease_view = memoryview(self._live), memoryview(self._lease)

    def block(self) -> tuple[memoryview, memoryview, int]:
        """A free block, its lease and its number. StorageError when there is none left, or no memory for it."""
        self.check_room()
        number, at = self._used, PAGE + self._used * LIVE_BLOCK_BYTES
        try:
            _populate(self._live, at, LIVE_BLOCK_BYTES)
        except OSError as error:
            raise _no_room(self._names[1].parent, error) from error
        self._used += 1
        return self._live_view[at:at + LIVE_BLOCK_BYTES], self._lease_view[number * 8:number * 8 + 8], number

    def check_room(self) -> None:
        """StorageError when no block is left."""
        if self._used == self._blocks:
            raise StorageError(f"a slot has at most {self._blocks} tracks", remedy="add a slot")

    def publish(self) -> None:
        """Readers find these files from now on."""
        for name in self._names:
            os.rename(_temporary(name), name)

    def commit(self, epoch: int, wall_ns: int) -> None:
        """Show the last acknowledged commit."""
        self._live[_COMMIT_AT:_COMMIT_AT + 16] = struct.pack("<Qq", epoch, wall_ns)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _no_room(live_dir: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot make the live file: {error.strerror}", where=str(live_dir), remedy="live_dir must be a tmpfs with room for it")


def _populate(memory: mmap.mmap, at: int, size: int) -> None:
    """Give these pages their memory. OSError if there is none; a kernel that does not know the call finds out when they are touched."""
    try:
        memory.madvise(_POPULATE_WRITE, at, size)
    except OSError as error:
        if error.errno == errno.EFAULT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        if error.errno != errno.EINVAL:
            raise


def _map(path: Path, size: int) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.ftruncate(fd, size)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)
