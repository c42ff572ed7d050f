"""What the recorder writes, by what it is for: the kernels' own counts, and every pwrite(2) of Python code, in whole pages."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.layout import LARGE, PAGE

Counts = Callable[[], dict[str, int]]
LOOK = 64           # bytes at a write's start that tell zeros from a footer, which begins with its magic
FOLDERS = (("/journal/", "journal"), (".minutes/", "minutes"), ("/idx/", "logs"))
CHUNK = re.compile(r"/(c/\d+|pool/[^/]+|quarantine/[^/]+)$")


def kind_of(path: str, data: bytes | memoryview, at: int) -> str:
    """What a write is for."""
    for part, kind in FOLDERS:
        if part in path:
            return kind
    if not CHUNK.search(path):
        return "others"
    if at == 0 and len(data) <= PAGE:
        return "heads"
    if not any(memoryview(data)[:LOOK]):
        return "zeros"
    return "footers" if at == LARGE.footer_start else "others"


def pages(size: int, at: int) -> int:
    """Bytes of the pages over which so many bytes at `at` lie: what comes to the disk of them."""
    return -(-(at + size) // PAGE) * PAGE - at // PAGE * PAGE


@contextmanager
def counted(kernels: Counts) -> Iterator[Counts]:
    """Counts while the block lasts, for the whole process; `kernels` are the counts of writes that Python does not see. Gives what tells
    the bytes so far. A page that is written twice between two syncs counts twice, though the page cache may send it once."""
    done: Counter[str] = Counter()
    pwrite = os.pwrite

    def counting(fd: int, data: bytes | memoryview, at: int, /) -> int:
        written = pwrite(fd, data, at)
        done[kind_of(os.readlink(f"/proc/self/fd/{fd}"), data, at)] += pages(written, at)
        return written

    setattr(os, "pwrite", counting)  # noqa: B010
    try:
        yield lambda: {**kernels(), **done}
    finally:
        setattr(os, "pwrite", pwrite)  # noqa: B010
