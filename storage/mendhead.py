"""Heads of chunks that are still written: where one does not hold together any more, the journal says what stood in it."""

import os
from collections.abc import Iterable

from recorder._ext.crc32c import crc32c
from storage.chunkfile import ChunkHead
from storage.chunkpage import head_page
from storage.disk import read_at, write_at
from storage.items import ChunkTaken
from storage.layout import CHUNK_HEAD, CHUNK_HEAD_AT, track_path
from storage.replay import Found
from storage.volume import Volume


def mend_heads(volume: Volume, found: Found, chunks: Iterable[ChunkTaken]) -> int:
    """Write the heads of these unsealed chunks of the tape anew where their CRC is wrong, without marks; how many."""
    mended = 0
    ident, kind = found.ident, found.chunk_class
    for taken in chunks:
        try:
            fd = volume.open_file(f"{track_path(ident.camera, ident.name)}/c/{taken.chunk}", os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            raw = read_at(fd, CHUNK_HEAD.itemsize, CHUNK_HEAD_AT)
            if os.fstat(fd).st_size == kind.file_bytes and crc32c(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
                head = ChunkHead(kind, False, ident.camera, ident.name, taken.chunk, taken.generation, taken.first_row, 0, 0, 0, 0, 0,
                                 bytes(32))
                write_at(fd, head_page(head), 0)
                mended += 1
        finally:
            os.close(fd)
    return mended
