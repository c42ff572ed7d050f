"""The tree of digests over rows: a leaf for each row, over the leaves of a chunk its root, over roots the signed log (storage/heads.py).

A leaf covers all that a row is, so each row can be proved without the others: all it takes is the leaves of its chunk, 32 bytes a row.
"""

from collections.abc import Sequence

import numpy as np
from blake3 import blake3
from typing_extensions import Buffer

from recorder._ext.entries import entry_bytes
from storage.footage import Rows
from storage.layout import ROW_MAX_ENTRIES

LEAF_BYTES = 32


def leaf(number: int, row: bytes, entries: Buffer, data: Buffer) -> bytes:
    """The digest of row `number`: of its 64 bytes (layout.ROW), its entries and its bytes on the tape."""
    found = blake3(number.to_bytes(8, "little") + row)
    found.update(entries)
    found.update(data)
    return found.digest()


def root(leaves: bytes, items: bytes) -> bytes:
    """A chunk's digest: over the leaves of its rows and the items of its footer."""
    return blake3((len(leaves) // LEAF_BYTES).to_bytes(4, "little") + leaves + items).digest()


def entries_base(rows: Rows) -> int:
    """Where the entries of a chunk begin in the space of frames: at those of its first row that is there."""
    there = np.flatnonzero(rows["aus"])
    return int(rows["frames_off"][there[0]]) if len(there) else 0


def row_entries(rows: Rows, index: int, entries: bytes, base: int) -> bytes:
    """The entries of row `index`, which is there, out of its chunk's; b"" if they are cut."""
    start = int(rows["frames_off"][index]) - base
    data = entries[start:start + ROW_MAX_ENTRIES] if start >= 0 else b""
    return data[:max(entry_bytes(data, int(rows["aus"][index])), 0)]


def split_entries(rows: Rows, entries: bytes) -> list[bytes]:
    """The entries of each row; b"" of one that is not there, or whose entries are cut."""
    base, there = entries_base(rows), rows["aus"].tolist()
    return [row_entries(rows, index, entries, base) if aus else b"" for index, aus in enumerate(there)]


def lay_entries(rows: Rows, pieces: Sequence[bytes]) -> bytes:
    """Rows' entries at their places in one run, zeros between them: the entries of a footer."""
    base, out = entries_base(rows), bytearray()
    for start, piece in zip(rows["frames_off"].tolist(), pieces, strict=True):
        if piece:
            out += bytes(max(start - base - len(out), 0)) + piece
    return bytes(out)
