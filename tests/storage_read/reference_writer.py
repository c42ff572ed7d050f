"""A plain, slow, single-threaded writer of valid volumes, made from storage/layout.py alone: the oracle of the reading side.

It knows nothing of queues, threads or recovery. What it writes, the product's writer must also write (and the product's reader read).
"""

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from blake3 import blake3

from recorder._ext.crc32c import crc32c
from recorder.base.media import NS, GapCause, SampleEntry, TrackKind
from storage import items, zarrmeta
from storage import layout as lay
from storage.volume import Volume

BASE_NS = 1_767_225_600 * NS
MISSING = 0xFFFF_FFFF_FFFF_FFFF
ENTRY_H264 = SampleEntry("avc1", b"\x01\x64\x00\x1f", 90_000, 1920, 1080)


@dataclass(frozen=True, slots=True)
class Au:
    """An AU to be written: its bytes follow from camera and tape offset."""

    size: int
    dur: int = 3600
    cts: int = 0
    flags: int = 0


def gop(count: int = 25, *, size: int = 1000, key: int = 4000, dur: int = 3600, cts: int = 0) -> list[Au]:
    """One access point and count - 1 others."""
    return [Au(key if i == 0 else size + i, dur, cts, 1 if i == 0 else 0) for i in range(count)]


def payload(camera: int, offset: int, size: int) -> bytes:
    """What camera `camera` has at tape offset `offset`: 8-byte words of camera << 48 | word number."""
    first = offset // 8
    words = (np.arange(first, (offset + size + 7) // 8, dtype=np.uint64)) | np.uint64(camera << 48)
    return words.tobytes()[offset - first * 8:offset - first * 8 + size]


def varint(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_entry(au: Au, step: int) -> bytes:
    """The entry of an AU whose DTS lies `step` ticks after the one before."""
    out = varint(au.size << 4 | au.flags & 7 | (8 if au.cts else 0)) + varint(step)
    return out + varint((au.cts << 1) ^ (au.cts >> 63) if au.cts >= 0 else (-au.cts << 1) - 1) if au.cts else out


def seeded_crc(row: bytes, number: int) -> int:
    """The CRC of row `number`."""
    return crc32c(row[:60], crc32c(struct.pack("<Q", number)))


def with_crc(record: np.ndarray[Any, Any]) -> bytes:
    """The record's bytes, its last four being the CRC of those before."""
    raw = record.tobytes()
    return raw[:-4] + struct.pack("<I", crc32c(raw[:-4]))


@dataclass
class Chunk:
    number: int
    fd: int
    generation: int
    first_row: int
    frames_start: int
    log_start: int
    rows: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    marked: int = 0


class RefVolume:
    """A volume with one slot, its live and lease file."""

    def __init__(self, path: Path, live_dir: Path, *, blocks: int = 8) -> None:
        Volume.init(path, bytes_max=1 << 30, on_root=True).close()
        self.path, self.live_dir, self.blocks = path, live_dir, blocks
        self.volume = Volume.open(path, on_root=True, lock=False)
        self.fd, self.uuid = self.volume.dir_fd, self.volume.uuid
        for name in ("slot-0/journal", "slot-0/pool", "slot-0/quarantine"):
            (path / name).mkdir(parents=True)
        self.tracks: list[RefTrack] = []
        self.pool: list[Path] = []
        self.generations: dict[int, int] = {}
        self.map: mmap.mmap | None = None
        self.new_live_file()

    def new_live_file(self) -> None:
        """What a starting worker does: a new file renamed into place."""
        boot = UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
        head = np.zeros(1, lay.LIVE_HEAD)
        for name, value in {"magic": lay.LIVE_MAGIC, "version": 1, "slot": 0, "blocks": self.blocks, "volume": self.uuid.bytes,
                            "boot_id": boot, "pid": os.getpid()}.items():
            head[name] = np.void(value) if name in {"volume", "boot_id"} else value
        name = self.live_dir / lay.live_name(self.uuid, 0)
        temporary = name.with_suffix(".new")
        temporary.write_bytes(head.tobytes().ljust(lay.PAGE, b"\0") + bytes(self.blocks * lay.LIVE_BLOCK_BYTES))
        os.rename(temporary, name)
        (self.live_dir / lay.lease_name(self.uuid, 0)).write_bytes(bytes(8 * self.blocks))
        with open(name, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        for track in self.tracks:
            track.show()

    def drop_live_file(self) -> None:
        """What a reboot does."""
        (self.live_dir / lay.live_name(self.uuid, 0)).unlink()
        self.map = None

    def record(self, epoch: int, *found: items.Item, segment: int = 1, at: int = 0, slot: int = 0) -> int:
        """A journal record at byte `at` of a segment; returns where the next may lie."""
        body = b"".join(map(items.encode, found))
        head = np.zeros(1, lay.RECORD_HEAD)
        head["magic"], head["slot"], head["bytes"], head["epoch"], head["items_crc"] = lay.JOURNAL_MAGIC, slot, len(body), epoch, crc32c(body)
        raw = with_crc(head) + body
        path = self.path / f"slot-0/journal/{segment:08d}"
        path.touch()
        with path.open("r+b") as file:
            file.seek(at)
            file.write(raw)
        return at + -(-len(raw) // lay.PAGE) * lay.PAGE

    def track(self, camera: int, name: str, kind: TrackKind = TrackKind.VIDEO, **options: Any) -> "RefTrack":
        """A new track."""
        made = RefTrack(self, len(self.tracks), camera, name, kind, **options)
        self.tracks.append(made)
        made.show()
        return made


class RefTrack:
    """One tape. `grow` and `close_row` write AUs; `commit` makes them durable; `retire` takes the oldest chunk away."""

    def __init__(self, volume: RefVolume, block: int, camera: int, name: str, kind: TrackKind, *, clock_rate: int = 90_000,
                 ring_rows: int = 4096, frames_bytes: int = 1 << 20, start_ns: int = BASE_NS) -> None:
        self.volume, self.block, self.camera, self.name, self.kind = volume, block, camera, name, kind
        self.cls, self.clock_rate = lay.class_of(kind), clock_rate
        self.ring_capacity, self.frames_capacity = ring_rows, frames_bytes
        zarrmeta.create_track(volume.fd, camera, name, kind)
        volume.record(0, items.Tape(block, camera, clock_rate, kind, name), segment=0, at=block * lay.PAGE)
        (volume.path / f"idx/cam-{camera}").mkdir(parents=True, exist_ok=True)
        self.files = {suffix: self._index_file(suffix) for suffix in ("ring", "frames", "log")}
        self.rows: list[bytes] = []             # closed rows, all that ever were
        self.open: np.ndarray[Any, Any] | None = None
        self.entries = bytearray()              # the endless frames space
        self.offset = self.durable_offset = self.durable_row = self.ring_rows = self.frames_end = 0
        self.tail_row = self.tail_offset = self.log_bytes = self.provisional = 0
        self.next_ns, self.dts, self.session = start_ns, 0, 1
        self.chunks: list[Chunk] = []
        self.quarantined: list[tuple[Path, Chunk]] = []

    def _path(self, suffix: str) -> Path:
        return self.volume.path / lay.index_path(self.camera, self.name, suffix)

    def _index_file(self, suffix: str) -> int:
        fd = os.open(self._path(suffix), os.O_RDWR | os.O_CREAT, 0o640)
        if suffix != "log":
            head = np.zeros(1, lay.RING_HEAD)
            capacity = self.ring_capacity if suffix == "ring" else self.frames_capacity
            values = {"magic": lay.RING_MAGIC, "version": 1, "frames": int(suffix == "frames"), "camera": self.camera,
                      "track": self.name.encode(), "capacity": capacity}
            for key, value in values.items():
                head[key] = value
            os.ftruncate(fd, lay.PAGE + capacity * (64 if suffix == "ring" else 1))
            os.pwrite(fd, with_crc(head), 0)
        return fd

    # -- AUs --

    def write_row(self, aus: list[Au], **options: Any) -> int:
        """A whole closed row; returns its number."""
        self.grow(aus, **options)
        self.close_row()
        return len(self.rows) - 1

    def grow(self, aus: list[Au], *, t_ns: int | None = None, flags: int = 0, entry: int = 1, reserve: int = 0) -> None:
        """Append AUs to the open row, beginning it if there is none, in a chunk with room for `reserve` bytes."""
        if self.open is None:
            self._begin(max(reserve, sum(au.size for au in aus)), aus[0].cts, self.next_ns if t_ns is None else t_ns, flags | 1, entry)
        row, chunk = self.open, self.chunks[-1]
        assert row is not None
        for au in aus:
            data = payload(self.camera, self.offset, au.size)
            os.pwrite(chunk.fd, data, lay.PAGE + self.offset - chunk.number * self.cls.tape_bytes)
            self.entries += encode_entry(au, 0 if row["aus"][0] == 0 else self._step)
            self._step = au.dur
            row["data_crc"] = crc32c(data, int(row["data_crc"][0]))
            row["aus"] += 1
            row["bytes"] += au.size
            row["media_dur"] += au.dur
            row["wall_dur_us"] = int(row["media_dur"][0]) * 1_000_000 // self.clock_rate
            self.offset += au.size
            self.dts += au.dur
        self.next_ns = int(row["t_ns"][0]) + int(row["wall_dur_us"][0]) * 1000
        self.show()

    def _begin(self, size: int, cts: int, t_ns: int, flags: int, entry: int) -> None:
        if not self.chunks or self.offset + size > (self.chunks[-1].number + 1) * self.cls.tape_bytes or self._footer_full():
            self._next_chunk()
        row = np.zeros(1, lay.ROW)
        row["t_ns"], row["media_pts"], row["offset"], row["flags"] = t_ns, self.dts + cts, self.offset, flags
        row["sample_entry"], row["session"], row["frames_off"] = entry, self.session, len(self.entries)
        self.open, self._step = row, 0

    def close_row(self) -> None:
        """Close the open row."""
        row = self.open
        assert row is not None
        row["flags"] &= ~np.uint16(1)
        number = len(self.rows)
        raw = row.tobytes()
        raw = raw[:60] + struct.pack("<I", seeded_crc(raw, number))
        self.rows.append(raw)
        chunk = self.chunks[-1]
        chunk.rows.append(raw)
        start = int(row["offset"][0]) - chunk.number * self.cls.tape_bytes
        data = os.pread(chunk.fd, int(row["bytes"][0]), lay.PAGE + start)
        chunk.leaves.append(blake3(struct.pack("<Q", number) + raw + bytes(self.entries[int(row["frames_off"][0]):]) + data).digest())
        self.open = None
        self._flush(full_pages=True)
        self.show()

    def _flush(self, *, full_pages: bool) -> None:
        """Closed rows and entries into ring and frames: whole pages, or (when closing) everything."""
        to = len(self.rows) - self.provisional
        to = to // lay.ROWS_PER_PAGE * lay.ROWS_PER_PAGE if full_pages else to
        for number in range(self.ring_rows, to):
            os.pwrite(self.files["ring"], self.rows[number], lay.PAGE + number % self.ring_capacity * 64)
        self.ring_rows = max(self.ring_rows, to)
        to = len(self.entries) // lay.PAGE * lay.PAGE if full_pages else len(self.entries)
        for at in range(self.frames_end, to):
            os.pwrite(self.files["frames"], self.entries[at:at + 1], lay.PAGE + at % self.frames_capacity)
        self.frames_end = max(self.frames_end, to)

    # -- chunks --

    def _footer_full(self) -> bool:
        chunk = self.chunks[-1]
        needs = 24 + 96 * (len(chunk.rows) + 1) + len(self.entries) - chunk.frames_start + lay.ROW_MAX_ENTRIES
        return needs + self.log_bytes - chunk.log_start > self.cls.footer_bytes

    def _next_chunk(self) -> None:
        number = 0
        if self.chunks:
            self._seal(self.chunks[-1])
            number = self.chunks[-1].number + 1
        self.offset = number * self.cls.tape_bytes
        path = self.volume.path / lay.track_path(self.camera, self.name) / "c" / str(number)
        if self.volume.pool:
            os.rename(self.volume.pool.pop(0), path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        os.ftruncate(fd, self.cls.file_bytes)
        inode = os.fstat(fd).st_ino
        self.volume.generations[inode] = self.volume.generations.get(inode, 0) + 1
        chunk = Chunk(number, fd, self.volume.generations[inode], len(self.rows), len(self.entries), self.log_bytes)
        self.chunks.append(chunk)
        self._write_index(chunk, 0)
        self._write_head(chunk)

    def _write_head(self, of: Chunk, /, *, camera: int | None = None, **sealed: Any) -> None:
        head = np.zeros(1, lay.CHUNK_HEAD)
        values = {"magic": lay.CHUNK_MAGIC, "version": 1, "chunk_class": self.cls.number, "camera": self.camera if camera is None else camera,
                  "track": self.name.encode(), "chunk": of.number, "generation": of.generation,
                  "first_row": of.first_row if sealed else 0, **sealed}
        for key, value in values.items():
            head[key] = np.void(value) if key == "digest" else value
        os.pwrite(of.fd, with_crc(head), lay.CHUNK_HEAD_AT)

    def _write_index(self, chunk: Chunk, marked: int) -> None:
        pairs = [(lay.PAGE + k * self.cls.inner_bytes, self.cls.inner_bytes) if k < marked else (MISSING, MISSING)
                 for k in range(self.cls.inner_count)]
        raw = b"".join(struct.pack("<QQ", *pair) for pair in pairs)
        os.pwrite(chunk.fd, raw + struct.pack("<I", crc32c(raw)), 0)
        chunk.marked = marked

    def _seal(self, chunk: Chunk) -> None:
        used = self.offset - chunk.number * self.cls.tape_bytes
        padded = -(-used // self.cls.inner_bytes) * self.cls.inner_bytes
        os.pwrite(chunk.fd, bytes(padded - used), lay.PAGE + used)
        entries = bytes(self.entries[chunk.frames_start:])
        log = os.pread(self.files["log"], self.log_bytes - chunk.log_start, chunk.log_start)
        sections = b"".join(chunk.rows) + b"".join(chunk.leaves) + entries + log
        lead = np.zeros(1, lay.FOOTER_HEAD)
        lead["magic"], lead["rows"], lead["entries_bytes"], lead["items_bytes"] = lay.FOOTER_MAGIC, len(chunk.rows), len(entries), len(log)
        lead["crc"] = crc32c(sections)
        os.pwrite(chunk.fd, lead.tobytes() + sections, self.cls.footer_start)
        digest = blake3(struct.pack("<I", len(chunk.rows)) + b"".join(chunk.leaves) + log).digest()
        first, last = (np.frombuffer(raw, lay.ROW)[0] for raw in (chunk.rows[0], chunk.rows[-1]))
        self.commit()
        self._write_head(chunk, sealed=1, rows=len(chunk.rows), used_bytes=used, footer_bytes=len(lead.tobytes()) + len(sections),
                         first_ns=first["t_ns"], end_ns=int(last["t_ns"]) + int(last["wall_dur_us"]) * 1000, digest=digest)
        self._write_index(chunk, padded // self.cls.inner_bytes)

    def commit(self) -> None:
        """Everything visible becomes durable; full inner chunks are marked."""
        self.durable_offset, self.durable_row = self.offset, len(self.rows)
        self.show()                     # first our own mark, then the foreign readers' index
        if self.chunks:
            full = (self.offset - self.chunks[-1].number * self.cls.tape_bytes) // self.cls.inner_bytes
            if full > self.chunks[-1].marked:
                self._write_index(self.chunks[-1], full)

    def retire(self, *, clear: bool = True) -> bool:
        """The oldest chunk leaves the track and, unless a reader holds it, goes to the pool cleared; False while it is held."""
        chunk = self.chunks.pop(0)
        self.tail_row, self.tail_offset = self.chunks[0].first_row, self.chunks[0].number * self.cls.tape_bytes
        self.log(items.TailMove(self.tail_row, self.tail_offset, 0))
        path = self.volume.path / lay.track_path(self.camera, self.name) / "c" / str(chunk.number)
        kept = self.volume.path / f"slot-0/quarantine/{os.fstat(chunk.fd).st_ino}"
        os.rename(path, kept)
        self.quarantined.append((kept, chunk))
        return clear and self.clear_oldest()

    def clear_oldest(self) -> bool:
        """The file that was retired first goes to the pool; False while somebody holds it."""
        kept, chunk = self.quarantined[0]
        lock = os.open(kept, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._write_index(chunk, 0)
        chunk.number = 0
        self._write_head(chunk, camera=0)
        pooled = self.volume.path / f"slot-0/pool/{kept.name}"
        os.rename(kept, pooled)
        self.volume.pool.append(pooled)
        os.close(lock)
        os.close(chunk.fd)
        del self.quarantined[0]
        return True

    # -- log and live --

    def log(self, *found: items.Item) -> None:
        """Append items."""
        for item in found:
            raw = items.encode(item)
            os.pwrite(self.files["log"], raw, self.log_bytes)
            self.log_bytes += len(raw)
        self.show()

    def gap(self, seconds: float, cause: GapCause = GapCause.OFFLINE) -> tuple[int, int]:
        """A closed gap at the end of what there is; the next row begins after it."""
        start, end = self.next_ns, self.next_ns + round(seconds * NS)
        self.log(items.GapOpen(start, cause), items.GapClose(start, end))
        self.next_ns = end
        return start, end

    def publish(self, shift_ns: int = 0) -> None:
        """Provisional rows move and become final."""
        for number in range(len(self.rows) - self.provisional, len(self.rows)):
            row = np.frombuffer(self.rows[number], lay.ROW).copy()
            row["t_ns"] += shift_ns
            row["flags"] &= ~np.uint16(16)
            raw = row.tobytes()
            self.rows[number] = raw[:60] + struct.pack("<I", seeded_crc(raw, number))
        if self.open is not None:
            self.open["t_ns"] += shift_ns
            self.open["flags"] &= ~np.uint16(16)
        self.next_ns += shift_ns
        self.provisional = 0
        self._flush(full_pages=True)
        self.show()

    def show(self) -> None:
        """Write the live block under its sequence lock."""
        live = self.volume.map
        if live is None or not hasattr(self, "chunks"):
            return
        base = lay.PAGE + self.block * lay.LIVE_BLOCK_BYTES
        for number in range(max(self.ring_rows, len(self.rows) - lay.LIVE_ROWS), len(self.rows)):
            at = base + lay.LIVE_ROWS_AT + number % lay.LIVE_ROWS * 64
            live[at:at + 64] = self.rows[number]
        for at in range(max(self.frames_end, len(self.entries) - lay.LIVE_ENTRIES), len(self.entries)):
            live[base + lay.LIVE_ENTRIES_AT + at % lay.LIVE_ENTRIES] = self.entries[at]
        block = np.zeros(1, lay.LIVE_BLOCK)
        values = {
            "camera": self.camera, "open": int(self.open is not None), "track": self.name.encode(), "next_row": len(self.rows),
            "ring_rows": self.ring_rows, "tail_row": self.tail_row, "tail_offset": self.tail_offset, "entries_end": len(self.entries),
            "frames_end": self.frames_end, "visible_offset": self.offset, "durable_offset": self.durable_offset,
            "durable_row": self.durable_row, "visible_end_ns": self.next_ns if self.rows or self.open is not None else 0,
            "log_bytes": self.log_bytes, "session": self.session, "provisional_from": self.provisional}
        for key, value in values.items():
            block[key] = value
        if self.open is not None:
            self.open["crc"] = seeded_crc(self.open.tobytes(), len(self.rows))
            block["open_row"] = self.open[0]
        (seq,) = struct.unpack_from("<Q", live, base)
        struct.pack_into("<Q", live, base, seq + 1)
        live[base + 8:base + lay.LIVE_BLOCK.itemsize] = block.tobytes()[8:]
        struct.pack_into("<Q", live, base, seq + 2)

    def close(self) -> None:
        """What an orderly stop leaves: ring and frames hold everything."""
        if self.open is not None:
            self.close_row()
        self.commit()
        self._flush(full_pages=False)
        self.show()
