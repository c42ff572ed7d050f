"""The slot's live file, read side: what is newer than the rings, copied out under its sequence lock; and the lease of watchers.

A live file is mapped read-only. Its block of a track is copied by a seqlock; rows below the counts stay as they are until lapped, which
their CRC (seeded with the row's number) and a second look at the counts reveal.
"""

import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

import numpy as np

from recorder._ext import rowsearch
from recorder.base.errors import FormatError
from storage.footage import Rows
from storage.layout import (
    FORMAT_VERSION,
    LIVE_BLOCK,
    LIVE_BLOCK_BYTES,
    LIVE_ENTRIES,
    LIVE_ENTRIES_AT,
    LIVE_HEAD,
    LIVE_MAGIC,
    LIVE_ROWS,
    LIVE_ROWS_AT,
    PAGE,
    ROW,
)

SEQLOCK_TRIES = 2_000       # then the writer has been put off the CPU inside: wait for it in naps
NAP_S = 0.000_2
STUCK_S = 0.5
LAP_TRIES = 16
MAX_BLOCKS = 65_536
OPEN_ROW_AT = LIVE_BLOCK.itemsize - ROW.itemsize
_BLOCK = struct.Struct("<II48s9QqqQII")
_NO_ROW = np.empty(0, ROW)
assert _BLOCK.size + 8 == OPEN_ROW_AT
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LiveState(NamedTuple):
    """One consistent copy of a track's block (layout.LIVE_BLOCK); `open_row` has one element, or none while no row is open.

    (A tuple, and unpacked by struct: every question begins with one.)
    """

    next_row: int
    ring_rows: int
    tail_row: int
    tail_offset: int
    entries_end: int
    frames_end: int
    visible_offset: int
    durable_offset: int
    durable_row: int
    visible_end_ns: int
    visible_recv_ns: int
    log_bytes: int
    session: int
    provisional: int
    open_row: Rows


class LiveFile:
    """One mapped live file. Raises FormatError if it is not one of this format; OSError as the system gives it."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            stat = os.fstat(fd)
            self.identity = (stat.st_dev, stat.st_ino)
            if stat.st_size < PAGE:
                raise FormatError("is shorter than its head", where=path.name, remedy="restart the worker")
            self._map = mmap.mmap(fd, stat.st_size, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self.path = path
        self._stuck: dict[int, int] = {}
        self.bytes = np.frombuffer(self._map, np.uint8)
        head = np.frombuffer(self._map, LIVE_HEAD, 1)[0]
        if bytes(head["magic"]) != LIVE_MAGIC or int(head["version"]) != FORMAT_VERSION:
            raise FormatError("is not a live file of this format", where=path.name, remedy="restart the worker with this version")
        self.slot = int(head["slot"])
        self.volume = UUID(bytes=bytes(head["volume"]))
        self.boot_id = bytes(head["boot_id"])
        self.pid = int(head["pid"])
        self.blocks = int(head["blocks"])
        if self.blocks > MAX_BLOCKS or PAGE + self.blocks * LIVE_BLOCK_BYTES > stat.st_size:
            raise FormatError("is shorter than its blocks", where=path.name, remedy="restart the worker")

    def commit(self) -> tuple[int, int]:
        """Number and UTC ns of the last acknowledged commit."""
        head = np.frombuffer(self._map, LIVE_HEAD, 1)[0]
        return int(head["epoch"]), int(head["commit_ns"])

    def find(self, camera: int, track: str) -> int | None:
        """Index of the track's block, None if the file has none."""
        for block in range(self.blocks):
            found = np.frombuffer(self._map, LIVE_BLOCK, 1, PAGE + block * LIVE_BLOCK_BYTES)[0]
            if int(found["camera"]) == camera and bytes(found["track"]) == track.encode():
                return block
        return None

    def state(self, block: int, camera: int, track: str) -> LiveState | None:
        """A consistent copy of the block; None if it does not belong to this track (any more), or its writer died while writing it."""
        out = bytearray(LIVE_BLOCK.itemsize)
        at = PAGE + block * LIVE_BLOCK_BYTES
        if not rowsearch.copy_block(self.bytes, at, out, SEQLOCK_TRIES) and not self._wait(block, at, out):
            return None
        found, is_open, name, *numbers = _BLOCK.unpack_from(out, 8)
        if found != camera or name.rstrip(b"\0") != track.encode():
            return None
        return LiveState._make((*numbers, np.frombuffer(out, ROW, 1, OPEN_ROW_AT) if is_open else _NO_ROW))

    def _wait(self, block: int, at: int, out: bytearray) -> bool:
        """Wait for a block that is being written, STUCK_S at most and once per standstill; True when `out` holds it."""
        (seq,) = struct.unpack_from("<Q", self._map, at)
        until = time.monotonic() + STUCK_S
        while self._stuck.get(block) != seq and time.monotonic() < until:
            time.sleep(NAP_S)
            if rowsearch.copy_block(self.bytes, at, out, SEQLOCK_TRIES):
                return True
        self._stuck[block] = seq
        return rowsearch.copy_block(self.bytes, at, out, 1)

    def rows(self, block: int, first: int, stop: int) -> Rows:
        """A copy of the valid closed rows from `first` on, at most up to `stop`; fewer if they have been lapped meanwhile."""
        count = min(stop - first, LIVE_ROWS)
        out = np.empty(max(count, 0), ROW)
        at = PAGE + block * LIVE_BLOCK_BYTES + LIVE_ROWS_AT
        good = rowsearch.copy_rows(self.bytes[at:at + LIVE_ROWS * 64], LIVE_ROWS, first, out.view(np.uint8)) if count > 0 else 0
        return out[:good]

    def entries(self, block: int, start: int, stop: int) -> bytes:
        """Entry bytes [start, stop) of the endless frames space; the caller has seen that they are not lapped and looks again."""
        at = PAGE + block * LIVE_BLOCK_BYTES + LIVE_ENTRIES_AT
        here, length = start % LIVE_ENTRIES, stop - start
        head = min(length, LIVE_ENTRIES - here)
        return bytes(self._map[at + here:at + here + head]) + bytes(self._map[at:at + length - head])


class LiveDir:
    """The live files of one volume, found again when a worker has renamed a new one into place."""

    def __init__(self, path: Path, volume: UUID) -> None:
        self.path, self._path = path, os.fspath(path)
        self._prefix = f"watchroom-{volume.hex}-"
        self._volume = volume
        self._files: dict[str, LiveFile] = {}

    def files(self) -> list[LiveFile]:
        """All live files of this boot; none where the folder itself is missing: the worker makes it."""
        try:
            names = [name for name in os.listdir(self.path) if name.startswith(self._prefix) and name.endswith(".live")]
        except FileNotFoundError:
            return []
        return [found for name in sorted(names) if (found := self.current(name)) is not None]

    def current(self, name: str) -> LiveFile | None:
        """The file that bears the name now, mapped; None if there is none, or it is of another boot or volume."""
        try:
            stat = os.stat(f"{self._path}/{name}", follow_symlinks=False)
        except FileNotFoundError:
            self._files.pop(name, None)
            return None
        have = self._files.get(name)
        if have is None or have.identity != (stat.st_dev, stat.st_ino):
            have = self._files[name] = LiveFile(self.path / name)
        return have if have.volume == self._volume and have.boot_id in (boot_id(), bytes(16)) else None


class LiveTrack:
    """A track's block, wherever it lies now."""

    def __init__(self, files: LiveDir, camera: int, track: str) -> None:
        self._files, self._camera, self._track = files, camera, track
        self._at: tuple[str, int] | None = None

    def locate(self) -> tuple[LiveFile, int, LiveState] | None:
        """The file, the block and a copy of it; None when no worker has held this track since boot."""
        known = self._at            # a lease asks from another thread
        if known is not None:
            file = self._files.current(known[0])
            state = file.state(known[1], self._camera, self._track) if file is not None else None
            if file is not None and state is not None:
                return file, known[1], state
            self._at = None
        for file in self._files.files():
            block = file.find(self._camera, self._track)
            state = file.state(block, self._camera, self._track) if block is not None else None
            if block is not None and state is not None:
                self._at = (file.path.name, block)
                return file, block, state
        return None


class Watchable(Protocol):
    """What `watch` needs of a TrackReader."""

    live: LiveTrack


def watch(track: Watchable, until_mono_ns: int) -> bool:
    """Put the track on the writer's fast pass until CLOCK_MONOTONIC `until_mono_ns`; False if no worker holds it.

    A later expiry of somebody else stays. Two watchers that write at once may lose one's later expiry: watchers renew well before it.
    """
    found = track.live.locate()
    if found is None:
        return False
    file, block, _ = found
    try:
        fd = os.open(file.path.with_suffix(".lease"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        raw = os.pread(fd, 8, block * 8)
        if len(raw) == 8 and struct.unpack("<Q", raw)[0] < until_mono_ns:
            os.pwrite(fd, struct.pack("<Q", until_mono_ns), block * 8)
        return len(raw) == 8
    finally:
        os.close(fd)


def boot_id() -> bytes:
    """The 16 bytes that name this boot of the machine."""
    global _BOOT  # noqa: PLW0603
    if _BOOT is None:
        _BOOT = UUID(BOOT_ID.read_text().strip()).bytes
    return _BOOT


_BOOT: bytes | None = None
