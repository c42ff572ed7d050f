"""Sealing a closed chunk: zeros behind its last byte (where the file holds stale bytes, up to the footer), the footer, the head that says so.

Off the writer's thread.
"""

import os
from bisect import bisect_right

import numpy as np

from recorder.base.errors import FormatError
from recorder.base.media import SenderReport
from storage.chunkfile import ChunkHead
from storage.chunkpage import head_page, pack_footer
from storage.disk import PastCache, close_all, open_direct, write_at, zero_range
from storage.footage import Rows
from storage.items import decode, encode
from storage.layout import FOOTER_HEAD, PAGE, ROW
from storage.rowproof import lay_entries, leaf, split_entries
from storage.steps import Step, step
from storage.tapebook import ClosedChunk, row_end_ns
from storage.tapework import TapeWork


def ready(work: TapeWork, chunk: ClosedChunk) -> bool:
    """True if everything in the chunk is durable and has its final time, and no commit will write its index any more."""
    offset, row = work.core.durable
    start = chunk.number * work.chunk_class.tape_bytes
    marked = work.core.marking != chunk.fd
    return marked and row >= chunk.end_row and offset >= start + chunk.used and work.core.provisional_row >= chunk.end_row


def seal(work: TapeWork, chunk: ClosedChunk, reader: PastCache) -> ChunkHead:
    """Seal the chunk and return its head; the caller closes it. FormatError if a row of it cannot be found any more."""
    kind = work.chunk_class
    inner_end = -(-chunk.used // kind.inner_bytes) * kind.inner_bytes
    zero_range(chunk.fd, PAGE + chunk.used, PAGE + inner_end if chunk.past is None else kind.footer_start)
    step(Step.PADDED)
    rows = _rows(work, chunk)
    pieces = _entries(work, chunk, np.frombuffer(rows, ROW))
    entries = lay_entries(np.frombuffer(rows, ROW), pieces)
    items = _fitting(chunk.items, kind.footer_bytes - FOOTER_HEAD.itemsize - len(rows) * 96 // 64 - len(entries))
    footer, digest = pack_footer(rows, _digests(work, chunk, rows, pieces, reader), entries, items)
    write_at(chunk.fd, footer, kind.footer_start)
    step(Step.FOOTER_WRITTEN)
    count = len(rows) // ROW.itemsize
    first_ns = int.from_bytes(rows[:8], "little", signed=True) if rows else 0
    end_ns = row_end_ns(rows[-64:]) if rows else 0
    head = ChunkHead(kind, True, work.ident.camera, work.ident.name, chunk.number, chunk.generation, chunk.first_row, count, chunk.used,
                     len(footer), first_ns, end_ns, digest)
    write_at(chunk.fd, head_page(head, inner_end // kind.inner_bytes), 0)
    step(Step.SEALED)
    return head


def _rows(work: TapeWork, chunk: ClosedChunk) -> bytes:
    out = []
    for number in range(chunk.first_row, chunk.end_row):
        row = work.row(number)
        if row is None:
            raise FormatError(f"row {number} is neither in the ring nor in the live file",
                              where=f"cam-{work.ident.camera}/{work.ident.name} chunk {chunk.number}", remedy="run watchroom check")
        out.append(row)
    return b"".join(out)


def _entries(work: TapeWork, chunk: ClosedChunk, rows: Rows) -> list[bytes]:
    """The entries of each row; what recovery has skipped between them is left out."""
    return split_entries(rows, work.entry_bytes(int(rows["frames_off"][0]), chunk.frames_end)) if len(rows) else []


def _digests(work: TapeWork, chunk: ClosedChunk, rows: bytes, entries: list[bytes], reader: PastCache) -> bytes:
    """The rows' leaves (storage/rowproof.py); many rows are read at once."""
    table = np.frombuffer(rows, ROW)
    starts = (table["offset"].astype(np.int64) - chunk.number * work.chunk_class.tape_bytes).tolist()
    stops = [start + size for start, size in zip(starts, table["bytes"].tolist(), strict=True)]
    found: list[bytes] = []
    direct_fd = open_direct(chunk.fd)
    try:
        while len(found) < len(table):
            base = starts[len(found)]
            after = max(bisect_right(stops, base + reader.PIECE), len(found) + 1)
            piece = reader.read(chunk.fd, direct_fd, stops[after - 1] - base, PAGE + base)
            for at in range(len(found), after):
                found.append(leaf(chunk.first_row + at, rows[at * 64:at * 64 + 64], entries[at], piece[starts[at] - base:stops[at] - base]))
    finally:
        close_all(direct_fd)
    return b"".join(found)


def _fitting(items: bytes, room: int) -> bytes:
    """The items, without sender reports if they would not all fit (the journal and the log have had them)."""
    if len(items) <= room:
        return items
    kept = b"".join(encode(item) for item in decode(items, where="footer") if not isinstance(item, SenderReport))
    return kept if len(kept) <= room else b""


def drop_cache(fd: int) -> None:
    """Sealed footage is rarely read at once: let its pages go."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
