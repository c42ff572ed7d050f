"""A sealed chunk whose head is lost: its footer, and the chunks beside it, say what stood in it."""

import os
from collections.abc import Sequence

import numpy as np

from recorder._ext import rowsearch
from recorder._ext.crc32c import crc32c
from storage.chunkfile import ChunkHead
from storage.chunkpage import head_page
from storage.disk import read_at, write_at
from storage.footage import row_ends
from storage.layout import FOOTER_HEAD, FOOTER_MAGIC, ROW, ChunkClass
from storage.pool import LATER_LIFE
from storage.rowproof import LEAF_BYTES, root


def reseal(fd: int, kind: ChunkClass, camera: int, track: str, chunk: int, first_rows: Sequence[int]) -> bool:
    """Write the head anew from the footer; False if there is no whole footer whose rows begin at one of `first_rows`.

    The generation is lost: it becomes one above any that the file can have had, so that readers and `watchroom verify` notice.
    """
    if os.fstat(fd).st_size != kind.file_bytes:
        return False
    raw = _footer_bytes(fd, kind)
    rows = np.frombuffer(raw, ROW, int.from_bytes(raw[8:12], "little"), FOOTER_HEAD.itemsize) if raw else np.empty(0, ROW)
    first_row = next((number for number in first_rows if len(rows) and rowsearch.first_bad(rows.view(np.uint8), number) == len(rows)), -1)
    base = chunk * kind.tape_bytes
    if first_row < 0 or not base <= int(rows["offset"][0]) < base + kind.tape_bytes:
        return False
    used = int(rows["offset"][-1]) + int(rows["bytes"][-1]) - base
    at = FOOTER_HEAD.itemsize + 64 * len(rows)
    digest = root(raw[at:at + LEAF_BYTES * len(rows)], raw[len(raw) - int.from_bytes(raw[16:20], "little"):])
    head = ChunkHead(kind, True, camera, track, chunk, LATER_LIFE, first_row, len(rows), used, len(raw), int(rows["t_ns"][0]),
                     int(row_ends(rows[-1:])[0]), digest)
    write_at(fd, head_page(head, -(-used // kind.inner_bytes)), 0)
    os.fsync(fd)
    return True


def _footer_bytes(fd: int, kind: ChunkClass) -> bytes:
    """The footer's bytes, its lengths and CRC checked; b"" if there is none."""
    raw = read_at(fd, kind.footer_bytes, kind.footer_start)
    lead = np.frombuffer(raw, FOOTER_HEAD, 1)[0]
    size = FOOTER_HEAD.itemsize + int(lead["rows"]) * 96 + int(lead["entries_bytes"]) + int(lead["items_bytes"])
    whole = bytes(lead["magic"]) == FOOTER_MAGIC and size <= len(raw) and crc32c(raw[FOOTER_HEAD.itemsize:size]) == int(lead["crc"])
    return raw[:size] if whole else b""
