"""What a tape's bytes are where they are not what was recorded: told so fully that the failure need not happen twice."""

import fcntl
import os
import struct
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from payloads import SEED, first_turned, seed_of

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from storage.chunkfile import read_head
from storage.disk import PastCache, open_direct
from storage.layout import PAGE

CAMERAS, AUS = (1, 2, 3), 40_000        # whose bytes are known
LATER_S = 1.0
FIEMAP, EXTENTS = 0xC020660B, 64
FLAGS = {0x2: "unknown", 0x4: "delayed", 0x8: "encoded", 0x800: "unwritten", 0x2000: "shared"}     # linux/fiemap.h


def explain(path: Path, at: int, data_crc: int, sizes: Sequence[int], what: str) -> str:
    """Why the bytes at file position `at` of a chunk file are not those of `data_crc`: `sizes` are those of the row's AUs, one after another.

    Reads through the page cache, past it, and once more a second later; names the pages that differ, what they hold, and their extents.
    """
    size = sum(sizes)
    with path.open("rb") as file:
        fd = file.fileno()
        direct = open_direct(fd)
        try:
            cached = os.pread(fd, size, at)
            past = bytes(PastCache().read(fd, direct, size, at))
            time.sleep(LATER_S)
            later = os.pread(fd, size, at)
            told = [f"{what}: {size} bytes at {at} of {path} are not what was recorded", *_head(fd, str(path)),
                    *(f"{name}: CRC {'right' if crc32c(data) == data_crc else 'wrong'}" for name, data in
                      (("read through the page cache", cached), ("read past it (O_DIRECT)", past), ("through it, a second later", later)))]
            known = _known()
            told += [f"page cache: {line}" for line in _pages(cached, at, sizes, known)]
            if past != cached:
                told += [f"disk: {line}" for line in _pages(past, at, sizes, known)]
            told += [f"extent: {line}" for line in extents(fd, at, size)]
        finally:
            if direct >= 0:
                os.close(direct)
    return "\n  ".join(told)


def _head(fd: int, path: str) -> list[str]:
    try:
        head = read_head(fd, path)
    except FormatError as error:
        return [f"head: {error}"]
    return [f"head: cam-{head.camera}/{head.track} chunk {head.chunk}, generation {head.generation}, sealed {head.sealed}, "
            f"first row {head.first_row}, {head.used_bytes} bytes used"]


def _known() -> dict[bytes, str]:
    """Whose a seed is, whatever its rotation."""
    return {first_turned(seed_of(camera, n)): f"AU {n} of camera {camera}" for camera in CAMERAS for n in range(AUS)}


def _pages(data: bytes, at: int, sizes: Sequence[int], known: dict[bytes, str]) -> Iterator[str]:
    """Runs of file pages that hold the same: what they should, or what else."""
    found, start = [], 0
    for number, size in enumerate(sizes):
        au = data[start:start + size]
        seed = _seed(au)
        whose = f"AU {number} of the row ({known.get(first_turned(seed), 'of nobody') if any(seed) else 'all zeros'})"
        right = (seed * (size // SEED + 1))[:size]
        for low in range(-((at + start) % PAGE), size, PAGE):
            piece, wanted = au[max(low, 0):low + PAGE], right[max(low, 0):low + PAGE]
            found.append(((at + start + low) // PAGE, whose, _state(piece, wanted, known)))
        start += size
    for state, run in groupby(found, key=lambda one: one[2]):
        pages = list(run)
        yield f"pages {pages[0][0]} to {pages[-1][0]}, {pages[0][1]} to {pages[-1][1]}: {state}"


def _seed(au: bytes) -> bytes:
    """What most of an AU repeats; zeros only if there is nothing else."""
    whole = np.frombuffer(au[:len(au) // SEED * SEED], np.uint8).reshape(-1, SEED)
    seeds, counts = np.unique(whole[whole.any(axis=1)], axis=0, return_counts=True)
    return bytes(seeds[counts.argmax()]) if len(seeds) else bytes(SEED)


def _state(piece: bytes, wanted: bytes, known: dict[bytes, str]) -> str:
    if piece == wanted:
        return "right" if any(piece) else "zeros"
    if len(piece) < len(wanted):
        return "behind the end of the file"
    wrong = [n for n in range(len(piece)) if piece[n] != wanted[n]]
    part = piece[wrong[0]:wrong[-1] + 1]
    where = f"bytes {wrong[0]} to {wrong[-1]} of {len(piece)} differ, they are"
    if not any(part):
        return f"{where} zeros"
    return f"{where} {known.get(first_turned(part[:SEED].ljust(SEED, bytes(1))), 'of nobody: ' + part[:SEED].hex())}"


def extents(fd: int, at: int, size: int) -> list[str]:
    """How the file system has these bytes (FIEMAP, nothing is flushed for it)."""
    raw = bytearray(struct.pack("<QQIIII", at, size, 0, 0, EXTENTS, 0) + bytes(56 * EXTENTS))
    try:
        fcntl.ioctl(fd, FIEMAP, raw)
    except OSError as error:
        return [f"not told: {error.strerror}"]
    count = struct.unpack_from("<I", raw, 20)[0]
    out = []
    for n in range(min(count, EXTENTS)):
        logical, physical, length = struct.unpack_from("<QQQ", raw, 32 + 56 * n)
        flags = struct.unpack_from("<I", raw, 32 + 56 * n + 40)[0]
        words = ", ".join(word for bit, word in FLAGS.items() if flags & bit) or "written"
        out.append(f"pages {logical // PAGE} to {(logical + length) // PAGE - 1} at {physical // PAGE} of the disk: {words}")
    return out or ["none: a hole"]
