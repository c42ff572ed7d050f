"""Held chunks: what holds keep of a chunk whose time is over, at the same place in a file of the same layout; everything else is zeros.

Rows stay as they were, to the bit: number, offset, CRCs, entries. Of the others their leaves stay, so that the chunk's digest, which was
signed, proves those that are there (storage/rowproof.py). A chunk that is held whole keeps its file.
"""

import os
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from typing_extensions import Buffer

from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, Footer, read_footer, read_head
from storage.chunkpage import head_page, pack_footer
from storage.disk import read_at, write_at
from storage.footage import Rows, row_ends
from storage.holdshelf import Bools
from storage.layout import PAGE
from storage.rowproof import entries_base, lay_entries, split_entries


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
        return self.footer.row_entries(index)

    @property
    def entries_base(self) -> int:
        """Where `footer.entries` begin in the space of frames."""
        return entries_base(self.rows)

    def proves(self, index: int, data: Buffer) -> bool:
        """True if `data` and all else of row `index`, which is there, are those of its leaf."""
        return self.footer.proves(self.head.first_row, index, data)


def read(fd: int, where: str) -> HeldChunk:
    """The held chunk in a file; FormatError."""
    head = read_head(fd, where)
    if not head.sealed:
        raise FormatError("the held chunk is not whole", where=where, remedy="run watchroom check")
    return HeldChunk(head, read_footer(fd, head, where, cut=True))


def write(source_fd: int, source: HeldChunk, wanted: Bools, fd: int, generation: int) -> ChunkHead:
    """Make `fd`, a file of zeros, hold the `wanted` rows of the source (at least one); durable on return.

    All leaves of the chunk stay, and so does its digest: they prove the rows once the chunk itself is gone.
    """
    rows = source.rows.copy()
    rows[~wanted] = np.zeros(1, rows.dtype)[0]
    there = rows[wanted]
    pieces = split_entries(source.rows, source.footer.entries)
    entries = lay_entries(rows, [piece if keep else b"" for piece, keep in zip(pieces, wanted.tolist(), strict=True)])
    _copy(source_fd, there, source.head, fd)
    footer, digest = pack_footer(rows.tobytes(), source.footer.leaves, entries, source.footer.items)
    kind = source.head.chunk_class
    write_at(fd, footer, kind.footer_start)
    used = int(there["offset"][-1]) + int(there["bytes"][-1]) - source.head.start_offset
    head = replace(source.head, generation=generation, used_bytes=used, footer_bytes=len(footer), first_ns=int(there["t_ns"][0]),
                   end_ns=int(row_ends(there[-1:])[0]), digest=digest)
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
