"""Chunk files as bytes: head, footer, shard index. Reading only; every length is bounded by the chunk class before it is believed."""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from recorder._ext import rowsearch
from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from storage.footage import Rows
from storage.layout import CHUNK_HEAD, CHUNK_HEAD_AT, CHUNK_MAGIC, CLASSES, FOOTER_HEAD, FOOTER_MAGIC, FORMAT_VERSION, PAGE, ROW, ChunkClass
from storage.rowproof import LEAF_BYTES, entries_base, leaf, root, row_entries

MISSING = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """layout.CHUNK_HEAD as values; camera 0 is a chunk of the pool."""

    chunk_class: ChunkClass
    sealed: bool
    camera: int
    track: str
    chunk: int
    generation: int
    first_row: int
    rows: int
    used_bytes: int
    footer_bytes: int
    first_ns: int
    end_ns: int
    digest: bytes

    @property
    def start_offset(self) -> int:
        """Tape offset of the chunk's first byte."""
        return self.chunk * self.chunk_class.tape_bytes


@dataclass(frozen=True, slots=True)
class Footer:
    """A sealed chunk's footer: its rows (checked), their leaves (storage/rowproof.py), entries and journal items."""

    rows: Rows
    leaves: bytes
    entries: bytes
    items: bytes

    def digest(self) -> bytes:
        """The chunk's digest as its leaves and items have it; whether rows are those of the leaves is `proves`' to say."""
        return root(self.leaves, self.items)

    def row_entries(self, index: int) -> bytes:
        """The entries of row `index`, which is there."""
        return row_entries(self.rows, index, self.entries, entries_base(self.rows))

    def proves(self, first_row: int, index: int, data: Buffer) -> bool:
        """True if row `index`, its entries and `data`, its bytes, are those of its leaf. `first_row`: the number of row 0."""
        found = leaf(first_row + index, self.rows[index].tobytes(), self.row_entries(index), data)
        return found == self.leaves[index * LEAF_BYTES:(index + 1) * LEAF_BYTES]


def parse_head(page: bytes, where: str) -> ChunkHead:
    """The head in a chunk's first page; raises FormatError."""
    if len(page) < CHUNK_HEAD_AT + CHUNK_HEAD.itemsize:
        raise FormatError("the chunk file is cut before its head", where=where, remedy="run watchroom check")
    raw = page[CHUNK_HEAD_AT:CHUNK_HEAD_AT + CHUNK_HEAD.itemsize]
    head = np.frombuffer(raw, CHUNK_HEAD)[0]
    if bytes(head["magic"]) != CHUNK_MAGIC or crc32c(raw[:-4]) != int(head["crc"]):
        raise FormatError("the chunk head does not hold together", where=where, remedy="run watchroom check")
    if int(head["version"]) != FORMAT_VERSION or int(head["chunk_class"]) >= len(CLASSES):
        raise FormatError(f"the chunk is of format {int(head['version'])}", where=where, remedy="use the version that wrote it")
    kind = CLASSES[int(head["chunk_class"])]
    if int(head["used_bytes"]) > kind.tape_bytes or int(head["footer_bytes"]) > kind.footer_bytes:
        raise FormatError("the chunk head claims more than a chunk holds", where=where, remedy="run watchroom check")
    return ChunkHead(
        kind, bool(head["sealed"]), int(head["camera"]), bytes(head["track"]).decode("ascii", "replace"), int(head["chunk"]),
        int(head["generation"]), int(head["first_row"]), int(head["rows"]), int(head["used_bytes"]), int(head["footer_bytes"]),
        int(head["first_ns"]), int(head["end_ns"]), head["digest"].tobytes())


def read_head(fd: int, where: str) -> ChunkHead:
    """The head of an open chunk file; raises FormatError."""
    return parse_head(os.pread(fd, PAGE, 0), where)


def read_footer(fd: int, head: ChunkHead, where: str, *, cut: bool = False) -> Footer:
    """The footer of a sealed chunk, its CRC and its rows checked; raises FormatError. In a `cut` one rows may be missing (zeros)."""
    raw = os.pread(fd, head.footer_bytes, head.chunk_class.footer_start)
    if len(raw) != head.footer_bytes or len(raw) < FOOTER_HEAD.itemsize:
        raise FormatError("the footer is cut", where=where, remedy="run watchroom check")
    lead = np.frombuffer(raw, FOOTER_HEAD, 1)[0]
    rows, entries, items = int(lead["rows"]), int(lead["entries_bytes"]), int(lead["items_bytes"])
    at = FOOTER_HEAD.itemsize
    leaves_at, entries_at, items_at = at + rows * 64, at + rows * 96, at + rows * 96 + entries
    if bytes(lead["magic"]) != FOOTER_MAGIC or items_at + items != len(raw) or rows != head.rows or crc32c(raw[at:]) != int(lead["crc"]):
        raise FormatError("the footer does not hold together", where=where, remedy="run watchroom check")
    if not _rows_hold(memoryview(raw)[at:leaves_at], head.first_row, cut=cut):
        raise FormatError("a row in the footer is wrong", where=where, remedy="run watchroom check")
    return Footer(np.frombuffer(raw, ROW, rows, at).copy(), raw[leaves_at:entries_at], raw[entries_at:items_at], raw[items_at:])


def _rows_hold(raw: memoryview, first_row: int, *, cut: bool) -> bool:
    """True if each row is that of its number, or (in a cut chunk) zeros."""
    at, rows = 0, len(raw) // ROW.itemsize
    while at < rows:
        at += rowsearch.first_bad(raw[at * 64:], first_row + at)
        if at < rows and not (cut and not any(raw[at * 64:at * 64 + 64])):
            return False
        at += 1
    return True


def read_index(page: bytes, kind: ChunkClass) -> npt.NDArray[np.bool_] | None:
    """Which inner chunks the shard index marks as present (Zarr v3 sharding_indexed); None if its CRC is wrong.

    Raises FormatError if an entry points anywhere but at its own inner chunk.
    """
    raw = page[:kind.index_bytes]
    if crc32c(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        return None
    pairs = np.frombuffer(raw, "<u8", kind.inner_count * 2).reshape(-1, 2)
    marked: npt.NDArray[np.bool_] = pairs[:, 0] != MISSING
    starts = PAGE + np.arange(kind.inner_count, dtype=np.uint64) * np.uint64(kind.inner_bytes)
    right = (pairs[:, 0] == starts) & (pairs[:, 1] == kind.inner_bytes) | (pairs == MISSING).all(axis=1)
    if not right.all():
        raise FormatError("the shard index points outside of its inner chunks", where="shard index", remedy="run watchroom check")
    return marked
