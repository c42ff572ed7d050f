"""Held chunks: what holds keep of a chunk whose time is over, at the same place in a file of the same layout; everything else is zeros.

Rows stay as they were, to the bit: number, offset, CRCs, entries, digests. A chunk that is held whole keeps its file.
"""

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recorder._ext.entries import entry_bytes
from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, Footer, read_footer, read_head
from storage.chunkpage import head_page, pack_footer
from storage.disk import read_at, write_at
from storage.footage import Rows, row_ends
from storage.holdshelf import Bools
from storage.layout import PAGE


@dataclass(frozen=True, slots=True)
class HeldChunk:
    """Head and footer of a chunk, held or not; `there` says which of `footer.rows` are there, the others are zeros."""

    head: ChunkHead
    footer: Footer

    @property
    def rows(self) -> Rows:
        """Rows `head.first_row`, `head.first_row + 1`, ..."""
        return self.footer.rows

    @property
    def there(self) -> Bools:
        """Which rows are there."""
        found: Bools = self.footer.rows["aus"] != 0
        return found

    def entries(self, index: int) -> bytes:
        """The entries of row `index`, which is there."""
        row = self.rows[index]
        data = self.footer.entries[int(row["frames_off"]) - int(self.rows["frames_off"][0]):]
        return data[:max(entry_bytes(data, int(row["aus"])), 0)]


def read(fd: int, where: str) -> HeldChunk:
    """The held chunk in a file; FormatError."""
    head = read_head(fd, where)
    if not head.sealed:
        raise FormatError("the held chunk is not whole", where=where, remedy="run watchroom check")
    return HeldChunk(head, read_footer(fd, head, where, cut=True))


def write(source_fd: int, source: HeldChunk, wanted: Bools, fd: int, generation: int) -> ChunkHead:
    """Make `fd`, a file of zeros, hold the `wanted` rows of the source (at least one); durable on return."""
    first, last = (int(np.flatnonzero(wanted)[at]) for at in (0, -1))
    keep = wanted[first:last + 1]
    rows = source.rows[first:last + 1].copy()
    rows[~keep] = np.zeros(1, rows.dtype)[0]
    digests = np.frombuffer(source.footer.digests, "V32")[first:last + 1].copy()
    digests[~keep] = np.zeros(1, "V32")[0]
    entries = bytearray()
    for index in np.flatnonzero(keep).tolist():
        entries = entries.ljust(int(rows["frames_off"][index]) - int(rows["frames_off"][0]), b"\0") + source.entries(first + index)
    _copy(source_fd, rows[keep], source.head, fd)
    footer, digest = pack_footer(rows.tobytes(), digests.tobytes(), bytes(entries), source.footer.items)
    kind = source.head.chunk_class
    write_at(fd, footer, kind.footer_start)
    used = int(rows["offset"][-1]) + int(rows["bytes"][-1]) - source.head.start_offset
    head = ChunkHead(kind, True, source.head.camera, source.head.track, source.head.chunk, generation, source.head.first_row + first, len(rows),
                     used, len(footer), int(rows["t_ns"][0]), int(row_ends(rows[-1:])[0]), digest)
    write_at(fd, head_page(head, -(-used // kind.inner_bytes)), 0)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return head


def _copy(source_fd: int, rows: Rows, head: ChunkHead, fd: int) -> None:
    """The rows' bytes, those that follow each other at once."""
    starts = rows["offset"].astype(np.int64) - head.start_offset
    ends = starts + rows["bytes"]
    breaks = [0, *(np.flatnonzero(starts[1:] != ends[:-1]) + 1).tolist(), len(rows)]
    for first, after in pairwise(breaks):
        at, size = int(starts[first]), int(ends[after - 1] - starts[first])
        write_at(fd, read_at(source_fd, size, PAGE + at), PAGE + at)


def runs(chosen: Bools) -> list[tuple[int, int]]:
    """[first, after) of the indices of chosen rows that follow each other."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    return [(int(first), int(after)) for first, after in edges.reshape(-1, 2)]
