"""Every fixed-size structure of the storage format, as numpy dtypes, and its constants. docs/storage-format.md is this file in prose.

All numbers are little-endian. A `crc` field is the CRC-32C of the structure's bytes before it, unless it says otherwise.
"""

from dataclasses import dataclass
from uuid import UUID

import numpy as np

from recorder.base.media import TrackKind

FORMAT_VERSION = 1
PAGE = 4096
HELD = ".held"          # behind a track's name: no name of a track has a dot


def track_path(camera: int, track: str) -> str:
    """The Zarr array of a track, relative to the volume; its chunk files are `c/<n>` below."""
    return f"tape.zarr/cam-{camera}/{track}"


def index_path(camera: int, track: str, suffix: str) -> str:
    """The track's `ring`, `frames` or `log`, relative to the volume."""
    return f"idx/cam-{camera}/{track}.{suffix}"


def held_path(camera: int, track: str) -> str:
    """The Zarr array of what holds keep of a track's chunks: chunk `n` there is what is left of chunk `n` of the track."""
    return f"{track_path(camera, track)}{HELD}"


def live_name(volume: UUID, slot: int) -> str:
    """The slot's live file in `live_dir`; a worker that starts renames a new one there and never truncates the old one."""
    return f"watchroom-{volume.hex}-{slot}.live"


def lease_name(volume: UUID, slot: int) -> str:
    """The lease file beside it, made by the slot: one u64 per block, CLOCK_MONOTONIC ns until which its track is watched."""
    return f"watchroom-{volume.hex}-{slot}.lease"


@dataclass(frozen=True, slots=True)
class ChunkClass:
    """A size of chunk file: head page | `inner_count` inner chunks of `inner_bytes` (the tape) | footer."""

    number: int
    name: str
    file_bytes: int
    inner_bytes: int
    inner_count: int

    @property
    def tape_bytes(self) -> int:
        """Bytes of tape that a chunk holds; chunk n starts at tape offset n * tape_bytes."""
        return self.inner_bytes * self.inner_count

    @property
    def footer_start(self) -> int:
        """Byte position of the footer in the file."""
        return PAGE + self.tape_bytes

    @property
    def footer_bytes(self) -> int:
        """Bytes that the footer may take."""
        return self.file_bytes - self.footer_start

    @property
    def index_bytes(self) -> int:
        """Bytes of zarr's shard index at the start of the file: 16 per inner chunk and a CRC-32C."""
        return 16 * self.inner_count + 4


LARGE = ChunkClass(0, "large", 16 << 20, 512 << 10, 31)
SMALL = ChunkClass(1, "small", 1 << 20, 64 << 10, 15)
CLASSES = (LARGE, SMALL)


def class_of(kind: TrackKind) -> ChunkClass:
    """The chunk class of a kind of track."""
    return LARGE if kind is TrackKind.VIDEO else SMALL


# A row: a run of AUs. `crc` is seeded with the row's number (its 8 bytes little-endian come first), so a stale lap never validates.
ROW = np.dtype([
    ("t_ns", "<i8"),          # presentation time of its access point, UTC
    ("media_pts", "<i8"),     # the same in ticks
    ("offset", "<u8"),        # tape offset of its first byte
    ("bytes", "<u4"),
    ("wall_dur_us", "<u4"),
    ("media_dur", "<u4"),     # ticks from its first DTS to the next row's first DTS, or to the end of its last AU as far as known
    ("aus", "<u2"),
    ("flags", "<u2"),         # recorder.base.media.RowFlag
    ("sample_entry", "<u2"),
    ("reserved", "<u2"),
    ("session", "<u4"),
    ("frames_off", "<u8"),    # position of its entries in the endless space of the frames ring
    ("data_crc", "<u4"),      # of its bytes on the tape
    ("crc", "<u4"),
])
assert ROW.itemsize == 64
ROWS_PER_PAGE = PAGE // 64
ROW_MAX_S = 10
ROW_MAX_BYTES = 4 << 20
ROW_MAX_AUS = 1024
ROW_MAX_ENTRIES = 8 << 10     # bytes of entries

# Entry of an AU in `frames`: varint(size << 4 | key 1 | leading 2 | damaged 4 | has_cts 8), varint(dts - dts of the AU before, 0 for the
# row's first), and only with has_cts zigzag varint(pts - dts). Varints are LEB128, at most 10 bytes.

CHUNK_HEAD_AT = 2048
CHUNK_MAGIC = b"WRCHUNK1"
CHUNK_HEAD = np.dtype([       # at byte 2048 of the head page, inside one sector
    ("magic", "S8"),
    ("version", "<u2"),
    ("chunk_class", "u1"),
    ("sealed", "u1"),
    ("camera", "<u4"),        # 0: in the pool
    ("track", "S48"),
    ("chunk", "<u8"),
    ("generation", "<u8"),    # only grows, for the life of the file
    ("first_row", "<u8"),
    ("rows", "<u4"),          # of a sealed chunk
    ("used_bytes", "<u4"),    # tape bytes of a sealed chunk
    ("footer_bytes", "<u4"),
    ("reserved", "<u4"),
    ("first_ns", "<i8"),      # of a sealed chunk: start of its first row and end of its last
    ("end_ns", "<i8"),
    ("digest", "V32"),        # of a sealed chunk, over the leaves of its rows and its items (storage/rowproof.py)
    ("crc", "<u4"),
])

FOOTER_MAGIC = b"WRFOOT01"
FOOTER_HEAD = np.dtype([      # at the start of the footer; sections follow in this order without padding
    ("magic", "S8"),
    ("rows", "<u4"),          # section 1: rows * 64 bytes
    ("entries_bytes", "<u4"),  # section 3, after section 2: rows * 32 bytes, the rows' leaves
    ("items_bytes", "<u4"),   # section 4: journal items (sample entries, sessions, gaps, epochs, sender reports) of its span
    ("crc", "<u4"),           # of all sections
])

RING_MAGIC = b"WRRING01"
RING_HEAD = np.dtype([        # first page of .ring and .frames; the data follows in whole pages, item n at n % capacity
    ("magic", "S8"),
    ("version", "<u2"),
    ("frames", "u1"),         # 1 in .frames
    ("reserved", "u1"),
    ("camera", "<u4"),
    ("track", "S48"),
    ("capacity", "<u8"),      # rows, or bytes
    ("first_row", "<u8"),     # number of the oldest row when this ring was made
    ("crc", "<u4"),
])

# The live file of a slot: a head page, then one block per track. Everything that is newer than what the rings hold.
LIVE_MAGIC = b"WRLIVE01"
LIVE_HEAD = np.dtype([
    ("magic", "S8"),
    ("version", "<u2"),
    ("slot", "<u2"),
    ("blocks", "<u4"),        # that the file has room for
    ("volume", "V16"),        # UUID
    ("boot_id", "V16"),
    ("pid", "<u4"),
    ("reserved", "<u4"),
    ("epoch", "<u8"),         # number of the last acknowledged commit
    ("commit_ns", "<i8"),     # UTC when it was acknowledged
])
LIVE_ROWS = 128               # newest closed rows, number n at n % LIVE_ROWS
LIVE_ENTRIES = 16 << 10       # newest entry bytes, position p at p % LIVE_ENTRIES
LIVE_BLOCK = np.dtype([       # seqlock: odd while the writer changes it; rows and entries below the counts never change until lapped
    ("seq", "<u8"),
    ("camera", "<u4"),        # 0: block is free
    ("open", "<u4"),          # 1 while open_row holds a row
    ("track", "S48"),
    ("next_row", "<u8"),      # number of the open row = closed rows so far
    ("ring_rows", "<u8"),     # rows below are in .ring
    ("tail_row", "<u8"),      # oldest row that may be read
    ("tail_offset", "<u8"),
    ("entries_end", "<u8"),   # frames position after the newest visible entry
    ("frames_end", "<u8"),    # positions below are in .frames
    ("visible_offset", "<u8"),  # tape bytes below are in the page cache
    ("durable_offset", "<u8"),  # tape bytes below are on the disk
    ("durable_row", "<u8"),   # rows below are durable whole
    ("visible_end_ns", "<i8"),  # UTC: end of the newest visible AU as far as known
    ("visible_recv_ns", "<i8"),  # CLOCK_MONOTONIC of the drain of the newest visible AU
    ("log_bytes", "<u8"),     # valid bytes of the track's .log
    ("session", "<u4"),
    ("provisional_from", "<u4"),  # 0, or the number of closed rows (counted from the newest) that still wait for their session's base
    ("open_row", ROW),
])
LIVE_ROWS_AT = PAGE
LIVE_ENTRIES_AT = LIVE_ROWS_AT + LIVE_ROWS * 64
LIVE_BLOCK_BYTES = LIVE_ENTRIES_AT + LIVE_ENTRIES

# Journal, ledger, .log and footers share one item: a head, a body, padding to 8 bytes.
ITEM_HEAD = np.dtype([("kind", "<u2"), ("version", "<u2"), ("bytes", "<u4")])
JOURNAL_MAGIC = 0x314A5257    # "WRJ1"
RECORD_HEAD = np.dtype([      # one per commit; items follow
    ("magic", "<u4"),
    ("slot", "<u4"),
    ("bytes", "<u4"),         # of all items
    ("reserved", "<u4"),
    ("epoch", "<u8"),         # rises by 1 with each record of the slot
    ("wall_ns", "<i8"),
    ("items_crc", "<u4"),
    ("crc", "<u4"),
])
