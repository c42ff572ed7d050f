"""What `watchroom verify` compares of a chunk file, held or not, with its leaves; and the words for it."""

from collections.abc import Callable

import numpy as np

from storage.chunkfile import ChunkHead, Footer
from storage.chunkpage import head_page
from storage.rowproof import lay_entries, split_entries

HIDDEN = "there are bytes around its rows and behind its footer where zeros were written"
ALTERED = "do not rely on this footage; compare with an export, look at who had access"


def wrong_file(head: ChunkHead, footer: Footer, page: bytes, file_bytes: int, behind: bytes) -> str:
    """What is not as sealing writes it around the rows; empty if all is. `page`: the first page, `behind`: all that follows the footer."""
    if file_bytes != head.chunk_class.file_bytes:
        return f"has {file_bytes} bytes, its class {head.chunk_class.file_bytes}"
    if page != head_page(head, -(-head.used_bytes // head.chunk_class.inner_bytes)):
        return "its shard index, or what lies around its head, is not as it was written"
    between = footer.entries != lay_entries(footer.rows, split_entries(footer.rows, footer.entries))
    return HIDDEN if between or not _zeros(behind) else ""


def wrong_rows(head: ChunkHead, footer: Footer, read: Callable[[int, int], bytes | bytearray], tail: tuple[int, int] = (0, 0)) -> str:
    """The same of every row that is there, and zeros around them. `read(start, stop)` reads the tape.

    `tail`: row and offset below which nothing is read, since it has expired.
    """
    at = max(head.start_offset, tail[1])
    for index, row in enumerate(footer.rows):
        offset, size = int(row["offset"]), int(row["bytes"])
        if head.first_row + index < tail[0] or not any(row.tobytes()):
            continue
        if not at <= offset <= offset + size <= head.start_offset + head.used_bytes:
            return f"row {head.first_row + index} does not lie where it was signed"
        if not _zeros(read(at, offset)):
            return HIDDEN
        if not footer.proves(head.first_row, index, read(offset, offset + size)):
            return f"row {head.first_row + index}, {utc(int(row['t_ns']))} by its own account, is not as it was signed"
        at = offset + size
    return HIDDEN if not _zeros(read(at, head.start_offset + head.chunk_class.tape_bytes)) else ""


def _zeros(data: bytes | bytearray) -> bool:
    return data.count(0) == len(data)


def utc(ns: int) -> str:
    """RFC 3339 to the millisecond."""
    return f"{np.datetime64(ns, 'ns').astype('datetime64[ms]')}Z"
