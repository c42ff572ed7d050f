"""What proves rows one by one: the leaves under which they were sealed (storage/rowproof.py, in their chunks' footers), for readers."""

from dataclasses import dataclass
from itertools import groupby

from recorder.base.errors import FormatError, Gone
from storage.footage import RowRun
from storage.reader import TrackReader
from storage.rowproof import LEAF_BYTES

SAME = ("t_ns", "offset", "bytes", "data_crc")


@dataclass(frozen=True, slots=True)
class RowSeal:
    """`leaf` is the digest over the row's number, `record` (64 bytes, layout.ROW), `entries` and bytes on the tape; one of those of `chunk`."""

    leaf: bytes
    record: bytes
    entries: bytes
    chunk: "ChunkSeal"


@dataclass(frozen=True, slots=True)
class ChunkSeal:
    """What a signed head (storage/heads.py) names by `digest`, which is over the `leaves` of all its rows and its `items`."""

    chunk: int
    generation: int
    first_row: int
    digest: bytes
    leaves: bytes
    items: bytes


def row_seals(tape: TrackReader, run: RowRun) -> list[RowSeal | None]:
    """For each row its seal; None while its chunk is not sealed, and where the footer does not vouch for this very row."""
    found: list[RowSeal | None] = []
    chunks = [tape.chunk_of(int(offset)) for offset in run.rows["offset"]]
    for chunk, rows in groupby(range(len(run)), lambda index: chunks[index]):
        found += _of_chunk(tape, run, chunk, list(rows))
    return found


def _of_chunk(tape: TrackReader, run: RowRun, chunk: int, indices: list[int]) -> list[RowSeal | None]:
    try:
        with tape.open_chunk(chunk) as lease:
            if not lease.head.sealed:
                return [None] * len(indices)
            head = lease.head
            footer, first = lease.footer(head), head.first_row
    except (FormatError, Gone):         # `check` says so, or retention went by
        return [None] * len(indices)
    whole = ChunkSeal(chunk, head.generation, first, head.digest, footer.leaves, footer.items)
    out: list[RowSeal | None] = []
    for index in indices:
        at = run.first + index - first
        there = 0 <= at < len(footer.rows) and all(footer.rows[name][at] == run.rows[name][index] for name in SAME)
        leaf = footer.leaves[at * LEAF_BYTES:(at + 1) * LEAF_BYTES]
        out.append(RowSeal(leaf, footer.rows[at].tobytes(), footer.row_entries(at), whole) if there else None)
    return out
