"""A volume with the index of many cameras over many days, made in a minute: real files of the format, synthetic rows, no footage.

Every camera's ring holds the same rows (a row's CRC knows its number, not its camera), so the rows are computed once and written past the
page cache. The ring has gone round: the oldest row lies in its middle. `.frames` has its full size and no content; so has the open chunk,
which is a sparse file. A journal of one record (a checkpoint) tells the recorder of all this, as if a slot had been closed in order.
"""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recorder._ext import rowsearch
from recorder._ext.crc32c import crc32c
from recorder.base.media import NS, GapCause, SampleEntry, TrackKind
from storage.chunkpage import free_head, head_page, taken_head
from storage.disk import close_all, open_direct, syncfs, write_at
from storage.items import (
    Checkpoint,
    CheckpointEnd,
    GapClose,
    GapOpen,
    Item,
    SampleEntryItem,
    SessionStart,
    Tape,
    TapeFlag,
    TapeState,
    encode,
)
from storage.journal import Journal, pack_record
from storage.keeper import GROW_FRAMES, GROW_ROWS
from storage.layout import FORMAT_VERSION, LARGE, PAGE, RING_HEAD, RING_MAGIC, ROW, ROWS_PER_PAGE, index_path, track_path
from storage.minutes import BYTES, COLUMNS, COVERED, DAY, DAY_BYTES, FRAMES, MINUTE_NS, MISSING, day_name, minutes_document, minutes_path, pack
from storage.rings import FIRST_FRAMES, FIRST_ROWS, enlarged, is_full
from storage.tapework import NO_ROW
from storage.timeline import HOLE_NS as TOUCH_NS
from storage.volume import Volume
from storage.zarrmeta import create_track, ensure_array

TRACK = "main"
ENTRY = SampleEntry("avc1", b"\x01\x64\x00\x28", 90_000, 1920, 1080)
END_NS = 1_790_000_000 * NS         # of the newest row
DAY_NS = 86_400 * NS
HOLE_NS = 10 * NS                   # is missing once a day
ENTRY_BYTES = 5                     # of an AU of 128 bytes to 128 KiB at 25 frames a second: 3 for its size, 2 for the step of its DTS
WRITE_BYTES = 4 << 20
UNSEALED = 3                        # minutes that lie in chunks which are not sealed yet: at 2 Mbit/s one lasts 65 s


@dataclass(frozen=True, slots=True)
class Scale:
    """How much index is made."""

    cameras: int = 640
    days: float = 31.0
    fps: int = 25
    gop: int = 50
    kbps: int = 2000

    @property
    def row_ns(self) -> int:
        """Length of a row: one GOP."""
        return self.gop * NS // self.fps

    @property
    def rows(self) -> int:
        """Rows of a track."""
        return int(self.days * DAY_NS) // self.row_ns

    @property
    def start_ns(self) -> int:
        """Start of the oldest row."""
        return END_NS - self.rows * self.row_ns - self.holes * HOLE_NS

    @property
    def holes(self) -> int:
        """Gaps of a track."""
        return (self.rows - 1) * self.row_ns // DAY_NS

    @property
    def row_bytes(self) -> int:
        """Footage of a row."""
        return self.kbps * 125 * self.gop // self.fps

    @property
    def entry_bytes(self) -> int:
        """Entries of a row."""
        return self.gop * ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one track's index. `capacity`: rows that the ring has room for; `first`: number of the oldest row."""

    capacity: int
    frames: int
    first: int

    @classmethod
    def of(cls, scale: Scale) -> "Sizes":
        """What the recorder would have after so many days; the ring goes round a third behind its oldest row."""
        capacity = grown(FIRST_ROWS, scale.rows + GROW_ROWS, frames=False)
        frames = grown(FIRST_FRAMES, scale.rows * scale.entry_bytes + GROW_FRAMES, frames=True)
        return cls(capacity, frames, max(capacity - scale.rows // 3, 0) // ROWS_PER_PAGE * ROWS_PER_PAGE)


def grown(capacity: int, wanted: int, *, frames: bool) -> int:
    """The capacity of a ring that began with `capacity` and has come to hold `wanted`."""
    while is_full(wanted, capacity):
        capacity = enlarged(capacity, frames=frames)
    return capacity


def rows_of(scale: Scale, first: int) -> npt.NDArray[np.void]:
    """The rows of a track from number `first` on, [rows] ROW: one GOP each, once a day a hole."""
    step = np.arange(scale.rows, dtype=np.int64)
    rows = np.zeros(scale.rows, ROW)
    rows["t_ns"] = scale.start_ns + step * scale.row_ns + step * scale.row_ns // DAY_NS * HOLE_NS
    rows["media_pts"] = step * (scale.row_ns * 9 // 100_000)
    rows["offset"], rows["frames_off"] = step * scale.row_bytes, (step + first) * scale.entry_bytes
    rows["bytes"], rows["aus"], rows["wall_dur_us"] = scale.row_bytes, scale.gop, scale.row_ns // 1000
    rows["media_dur"], rows["sample_entry"], rows["session"] = scale.row_ns * 9 // 100_000, 1, 1
    rows["data_crc"] = np.random.default_rng(1).integers(0, 1 << 32, scale.rows, dtype=np.uint32)
    raw = rows.view(np.uint8).data
    crcs = [rowsearch.row_crc(raw[at * 64:at * 64 + 64], first + at) for at in range(scale.rows)]
    rows["crc"] = crcs
    return rows


def minute_files(rows: npt.NDArray[np.void], scale: Scale, first: int) -> dict[int, bytes]:
    """What the recorder would have written of these rows by the minute, a file for each day; nothing of the newest minutes yet."""
    start, stop = scale.start_ns // MINUTE_NS, END_NS // MINUTE_NS - UNSEALED
    base = start // DAY * DAY
    lines = np.zeros((-(-max(stop, start + 1) // DAY) * DAY - base, len(COLUMNS)), np.int64)
    covered, damaged, nbytes = (np.zeros(len(lines), np.int64) for _ in range(3))
    pairs = np.empty(2 * len(rows), np.int64)
    carry = np.array([scale.start_ns, 0, 0, 0], np.int64)
    rowsearch.tally(rows.view(np.uint8), first, carry, base * MINUTE_NS, (base + len(lines)) * MINUTE_NS, MINUTE_NS, TOUCH_NS,
                    covered, damaged, nbytes, pairs, np.empty(0, np.int64))
    lines[:, COVERED] = covered // 1_000_000
    lines[start + 1 - base:, MISSING] = MINUTE_NS // 1_000_000 - lines[start + 1 - base:, COVERED]
    lines[:, BYTES], lines[:, FRAMES] = nbytes, nbytes * scale.gop // scale.row_bytes
    lines[max(stop, start) - base:] = 0
    return {day: pack(lines[day * DAY - base:(day + 1) * DAY - base]) for day in range(base // DAY, (base + len(lines)) // DAY)}


class IndexMaker:
    """Makes volumes of one scale."""

    def __init__(self, scale: Scale) -> None:
        self.scale, self.sizes = scale, Sizes.of(scale)
        rows = rows_of(scale, self.sizes.first)
        self.end_offset = int(rows["offset"][-1]) + scale.row_bytes
        self._buffer = mmap.mmap(-1, -(-rows.nbytes // PAGE) * PAGE)       # page-aligned, as O_DIRECT wants it
        self._buffer[:rows.nbytes] = rows.tobytes()
        self._log = b"".join(encode(item) for item in self._facts(rows))
        self._minutes = minute_files(rows, scale, self.sizes.first)

    @property
    def bytes_needed(self) -> int:
        """What the volume takes on the disk, about."""
        return self.scale.cameras * (self.scale.rows * ROW.itemsize + (2 << 20))

    def _facts(self, rows: npt.NDArray[np.void]) -> list[Item]:
        """A track's log."""
        items: list[Item] = [SampleEntryItem(1, ENTRY), SessionStart(1, self.scale.start_ns, "bench")]
        ends = rows["t_ns"] + self.scale.row_ns
        for at in np.flatnonzero(rows["t_ns"][1:] != ends[:-1]).tolist():
            items += [GapOpen(int(ends[at]), GapCause.LOSS), GapClose(int(ends[at]), int(rows["t_ns"][at + 1]))]
        return [*items, GapOpen(END_NS, GapCause.STOPPED)]

    def make(self, path: Path, told: Callable[[int], None]) -> None:
        """Make the volume in `path`; `told` hears how many cameras are done. OSError."""
        Volume.init(path, bytes_max=1 << 50, on_root=True).close()
        volume = Volume.open(path, on_root=True)
        try:
            items = [encode(Checkpoint(self.scale.cameras))]
            for camera in range(1, self.scale.cameras + 1):
                self._track(volume, camera)
                if camera == self.scale.cameras:
                    self._lines(volume, camera)
                items.append(self._checkpoint(camera))
                told(camera)
            self._journal(volume, b"".join([*items, encode(CheckpointEnd())]))
            syncfs(volume.dir_fd)
        finally:
            volume.close()

    def _track(self, volume: Volume, camera: int) -> None:
        create_track(volume.dir_fd, camera, TRACK, TrackKind.VIDEO)
        volume.make_dirs(f"idx/cam-{camera}", durable=False)
        self._file(volume, index_path(camera, TRACK, "log"), self._log, len(self._log))
        os.close(self._ring_file(volume, camera, frames=True))
        fd = self._ring_file(volume, camera, frames=False)
        try:
            self._write_rows(fd)
        finally:
            os.close(fd)
        self._open_chunk(volume, camera)

    def _lines(self, volume: Volume, camera: int) -> None:
        """Figures by the minute, of the camera whose timeline is asked for: of all they would take 1 MB a camera and say nothing more."""
        folder = minutes_path(camera, TRACK)
        ensure_array(volume.dir_fd, folder, minutes_document(camera, TRACK))
        for day, data in self._minutes.items():
            self._file(volume, f"{folder}/{day_name(day)}", data, DAY_BYTES)

    def _ring_file(self, volume: Volume, camera: int, *, frames: bool) -> int:
        """A ring with its head, all of it a hole."""
        head = np.zeros(1, RING_HEAD)
        head["magic"], head["version"], head["frames"], head["camera"], head["track"] = RING_MAGIC, FORMAT_VERSION, frames, camera, TRACK
        head["capacity"], head["first_row"] = (self.sizes.frames, self.sizes.first) if frames else (self.sizes.capacity, self.sizes.first)
        head["crc"] = crc32c(head.tobytes()[:-4])
        fd = volume.open_file(index_path(camera, TRACK, "frames" if frames else "ring"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        write_at(fd, head.tobytes(), 0)
        os.ftruncate(fd, PAGE + (self.sizes.frames if frames else self.sizes.capacity * ROW.itemsize))
        return fd

    def _write_rows(self, fd: int) -> None:
        """The rows, past the page cache where the file system can."""
        direct = open_direct(fd)
        size, at = self.sizes.capacity * ROW.itemsize, self.sizes.first * ROW.itemsize
        view = memoryview(self._buffer)
        try:
            while view:
                part = view[:min(WRITE_BYTES, size - at % size)]
                write_at(direct if direct >= 0 else fd, part, PAGE + at % size)
                view, at = view[len(part):], at + len(part)
        finally:
            close_all(direct)

    def _open_chunk(self, volume: Volume, camera: int) -> None:
        head = taken_head(free_head(LARGE, 0), camera, TRACK, self.open_chunk, self.next_row)
        self._file(volume, f"{track_path(camera, TRACK)}/c/{self.open_chunk}", head_page(head), LARGE.file_bytes)

    def _file(self, volume: Volume, path: str, data: bytes, size: int) -> None:
        """A file of `size` that begins with `data`; the rest is a hole."""
        fd = volume.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_at(fd, data, 0)
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    @property
    def open_chunk(self) -> int:
        """Number of the chunk that every track goes on in."""
        return -(-self.end_offset // LARGE.tape_bytes)

    @property
    def next_row(self) -> int:
        """Number after the newest row."""
        return self.sizes.first + self.scale.rows

    def _checkpoint(self, camera: int) -> bytes:
        entries_end = self.next_row * self.scale.entry_bytes
        state = TapeState(
            self.next_row, self.open_chunk * LARGE.tape_bytes, entries_end, self.sizes.first, 0, END_NS, len(self._log), 0,
            self.open_chunk, 1, self.next_row, entries_end, 1, 0, self.scale.days, int(TapeFlag.STOPPED), NO_ROW)
        items: list[Item] = [Tape(camera, camera, ENTRY.clock_rate, TrackKind.VIDEO, TRACK), state, SampleEntryItem(1, ENTRY),
                             GapOpen(END_NS, GapCause.STOPPED)]
        return b"".join(encode(item) for item in items)

    def _journal(self, volume: Volume, items: bytes) -> None:
        volume.make_dirs("slot-0/journal", durable=False)
        journal = Journal(volume, 0)
        journal.begin_segment()
        journal.append(pack_record(0, 1, END_NS, items))
        journal.close()
