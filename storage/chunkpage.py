"""Chunk files, writing side: the bytes of heads, indexes and footers. storage/chunkfile.py reads what these make."""

import struct
from dataclasses import replace

import numpy as np

from recorder._ext.crc32c import crc32c
from storage.chunkfile import MISSING, ChunkHead
from storage.layout import (
    CHUNK_HEAD,
    CHUNK_HEAD_AT,
    CHUNK_MAGIC,
    FOOTER_HEAD,
    FOOTER_MAGIC,
    FORMAT_VERSION,
    PAGE,
    ROW,
    ChunkClass,
)
from storage.rowproof import root

_HEAD = struct.Struct("<8sHBBI48sQQQIIIIqq32s")
_FOOT = struct.Struct("<8sIII")
assert _HEAD.size + 4 == CHUNK_HEAD.itemsize and _FOOT.size + 4 == FOOTER_HEAD.itemsize


def free_head(chunk_class: ChunkClass, generation: int) -> ChunkHead:
    """The head of a file that belongs to nobody."""
    return ChunkHead(chunk_class, False, 0, "", 0, generation, 0, 0, 0, 0, 0, 0, bytes(32))


def taken_head(head: ChunkHead, camera: int, track: str, chunk: int, first_row: int = 0) -> ChunkHead:
    """The head of the same file as chunk `chunk` of a track: a new generation of it."""
    free = free_head(head.chunk_class, head.generation + 1)
    return replace(free, camera=camera, track=track, chunk=chunk, first_row=first_row)


def pack_head(head: ChunkHead) -> bytes:
    """layout.CHUNK_HEAD with its CRC."""
    body = _HEAD.pack(CHUNK_MAGIC, FORMAT_VERSION, head.chunk_class.number, head.sealed, head.camera, head.track.encode(), head.chunk,
                      head.generation, head.first_row, head.rows, head.used_bytes, head.footer_bytes, 0, head.first_ns, head.end_ns,
                      head.digest)
    return body + crc32c(body).to_bytes(4, "little")


def shard_index(chunk_class: ChunkClass, marked: int) -> bytes:
    """Zarr's shard index naming the first `marked` inner chunks (Zarr v3 sharding_indexed, index at the start)."""
    table = np.full((chunk_class.inner_count, 2), MISSING, "<u8")
    table[:marked, 0] = PAGE + np.arange(marked) * chunk_class.inner_bytes
    table[:marked, 1] = chunk_class.inner_bytes
    body = table.tobytes()
    return body + crc32c(body).to_bytes(4, "little")


def head_page(head: ChunkHead, marked: int = 0) -> bytes:
    """The whole first page: index, zeros, our fields, zeros."""
    page = shard_index(head.chunk_class, marked).ljust(CHUNK_HEAD_AT, b"\0") + pack_head(head)
    return page.ljust(PAGE, b"\0")


def pack_footer(rows: bytes, leaves: bytes, entries: bytes, items: bytes) -> tuple[bytes, bytes]:
    """The footer's bytes, and the chunk's digest (storage/rowproof.py)."""
    sections = rows + leaves + entries + items
    head = _FOOT.pack(FOOTER_MAGIC, len(rows) // ROW.itemsize, len(entries), len(items))
    return head + crc32c(sections).to_bytes(4, "little") + sections, root(leaves, items)
