"""As much of the FUSE protocol (linux/fuse.h, 7.31) as a folder with a few files needs that a loop device reads, writes and flushes."""

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Protocol

MAX_WRITE = 1 << 20
IN_HEAD, OUT_HEAD = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26
OPENDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 27, 29, 34, 36, 38, 42
SILENT = {FORGET, INTERRUPT, BATCH_FORGET}
MAX_PAGES_FLAG, BIG_WRITES = 1 << 22, 1 << 5
ROOT, FIRST = 1, 2
FOREVER = 1 << 30
MS_NOSUID, MS_NODEV = 2, 4
FIXED = {           # answers that are always the same
    INIT: struct.pack("<IIIIHHIIHHI28x", 7, 31, MAX_WRITE, MAX_PAGES_FLAG | BIG_WRITES, 64, 48, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0),
    OPEN: bytes(16), OPENDIR: bytes(16), RELEASE: b"", RELEASEDIR: b"", FLUSH: b"", ACCESS: b"", DESTROY: b"",
    STATFS: struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0),
}


class Disk(Protocol):
    """What a file is kept in."""

    size: int

    def read(self, at: int, size: int) -> bytes:
        """Bytes from `at`."""

    def write(self, at: int, data: bytes) -> None:
        """Put bytes there."""

    def flush(self) -> None:
        """What was written is to be durable."""


class Folder:
    """A mounted folder whose files are disks. `serve` answers the kernel until the folder is unmounted; a name once used stays used."""

    def __init__(self, point: Path) -> None:
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._names: dict[bytes, int] = {}
        self._disks: dict[int, Disk] = {}
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._fd},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"powercut", os.fsencode(point), b"fuse", MS_NOSUID | MS_NODEV, options) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot mount a FUSE file system: {os.strerror(number)}", str(point))

    def add(self, name: str, disk: Disk) -> None:
        """A new file."""
        node = FIRST + len(self._names)
        self._names[os.fsencode(name)] = node
        self._disks[node] = disk

    def drop(self, name: str) -> None:
        """The file's bytes are needed no more."""
        self._disks.pop(self._names[os.fsencode(name)], None)

    def fileno(self) -> int:
        """To wait for requests on."""
        return self._fd

    def answer(self) -> bool:
        """Read one request and answer it; False when the folder has been unmounted."""
        try:
            request = os.read(self._fd, MAX_WRITE + 4096)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINTR, errno.EAGAIN}:
                return True
            if error.errno == errno.ENODEV:
                return False
            raise
        _, opcode, unique, node, *_ = IN_HEAD.unpack_from(request)
        if opcode in SILENT:
            return True
        try:
            body, failed = self._do(opcode, node, request[IN_HEAD.size:]), 0
        except OSError as error:
            body, failed = b"", -(error.errno or errno.EIO)
        os.writev(self._fd, [OUT_HEAD.pack(OUT_HEAD.size + len(body), failed, unique), body])
        return True

    def _do(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode in {READ, WRITE, FSYNC}:
            return self._io(opcode, self._disks[node], body)
        if opcode == LOOKUP:
            return self._lookup(body.rstrip(b"\0"))
        if opcode in {GETATTR, SETATTR}:
            return struct.pack("<QII", FOREVER, 0, 0) + self._attr(node)
        fixed = FIXED.get(opcode)
        if fixed is None:
            raise OSError(errno.ENOSYS, "not served")
        return fixed

    def _lookup(self, name: bytes) -> bytes:
        node = self._names.get(name)
        if node is None or node not in self._disks:
            raise OSError(errno.ENOENT, "no such disk")
        return struct.pack("<QQQQII", node, 0, FOREVER, FOREVER, 0, 0) + self._attr(node)

    def _io(self, opcode: int, disk: Disk, body: bytes) -> bytes:
        if opcode == FSYNC:
            disk.flush()
            return b""
        _, at, size = struct.unpack_from("<QQI", body)
        if opcode == READ:
            return disk.read(at, max(0, min(size, disk.size - at)))
        disk.write(at, body[40:40 + size])
        return struct.pack("<II", size, 0)

    def _attr(self, node: int) -> bytes:
        if node == ROOT:
            return ATTR.pack(node, 4096, 8, 0, 0, 0, 0, 0, 0, 0o040755, 2, 0, 0, 0, 4096, 0)
        size = self._disks[node].size if node in self._disks else 0
        return ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)
