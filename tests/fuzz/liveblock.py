"""Fuzz target for a track's block of a live file, as live viewers read it: whatever lies in it, the kernel tells what its twin tells.

An input is the place to go on from (u64 row, u16 AUs), the block's head with its open row, one closed row, and entries. Most of the time the
block is given its owner, an even sequence number and the rows' CRCs, so that mutations get past those.
"""

import struct
import zlib
from collections.abc import Hashable

from recorder._ext.newest import Newest
from storage.layout import LIVE_BLOCK, LIVE_BLOCK_BYTES, LIVE_ENTRIES, LIVE_ENTRIES_AT, LIVE_ROWS, LIVE_ROWS_AT
from tests.storage_read import twins
from tests.storage_read.reference_writer import seeded_crc

PLACE = struct.Struct("<QH")
HEAD, ROW_BYTES = LIVE_BLOCK.itemsize, 64
OWNER = (1).to_bytes(4, "little"), b"main".ljust(48, b"\0")


def block(data: bytes) -> Hashable:
    """Take twice, in kernel and twin: the same AUs, the same place; AUs are of no row behind the block's."""
    row, aus = PLACE.unpack(data[:PLACE.size].ljust(PLACE.size, b"\0"))
    live = _lay(data[PLACE.size:], row, right=zlib.crc32(data) % 4 != 0)
    newest, twin = Newest(live, 0, 1, b"main"), twins.Newest(live, 0, 1, b"main")
    told = []
    for one in (newest, twin):
        one.seek(row, aus)
    for _ in range(2):
        found = newest.take(90_000)
        assert found == twin.take(90_000)
        assert newest.place == twin.place
        assert all(row <= au[0] <= row + 4 and 0 <= au[1] < 1 << 32 for au in found or ())
        told.append(None if found is None else (len(found), sum(au[8] for au in found), newest.place[0] - row))
    return tuple(told)


def _lay(data: bytes, row: int, *, right: bool) -> bytes:
    head, closed = bytearray(data[:HEAD].ljust(HEAD, b"\0")), bytearray(data[HEAD:HEAD + ROW_BYTES].ljust(ROW_BYTES, b"\0"))
    entries = data[HEAD + ROW_BYTES:][:LIVE_ENTRIES]
    if right:
        head[0] &= 0xFE
        head[8:12], head[16:64] = OWNER
        (following,) = struct.unpack_from("<Q", head, 64)
        _seal(head, HEAD - ROW_BYTES, following)
        _seal(closed, 0, row)
    live = bytearray(LIVE_BLOCK_BYTES)
    live[:HEAD] = head
    at = LIVE_ROWS_AT + row % LIVE_ROWS * ROW_BYTES
    live[at:at + ROW_BYTES] = closed
    live[LIVE_ENTRIES_AT:LIVE_ENTRIES_AT + len(entries)] = entries
    return bytes(live)


def _seal(raw: bytearray, at: int, number: int) -> None:
    raw[at + ROW_BYTES - 4:at + ROW_BYTES] = seeded_crc(bytes(raw[at:at + ROW_BYTES]), number).to_bytes(4, "little")
