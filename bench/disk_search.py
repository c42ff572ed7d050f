"""What lies in a volume's files, whatever they are called: space, and tags of AUs."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bench.simulated import MAGIC, whose

TAGS = re.compile(re.escape(MAGIC) + rb"(.{10})", re.DOTALL)
CHUNK_FOLDERS = ("c", "pool", "quarantine")


def chunk_files(volume: Path) -> Iterator[Path]:
    """Every chunk file, in tracks, pool and quarantine; one that is renamed meanwhile may be missed."""
    for folder, _, names in os.walk(volume):
        if Path(folder).name in CHUNK_FOLDERS:
            yield from (Path(folder) / name for name in names)


def chunk_space(volume: Path) -> int:
    """Bytes of disk that chunk files take."""
    return sum(path.stat().st_blocks * 512 for path in chunk_files(volume))


def other_space(volume: Path) -> int:
    """Bytes of disk that everything else takes: journal, rings, logs, ledger."""
    every = sum(path.stat().st_blocks * 512 for path in volume.rglob("*") if path.is_file())
    return every - chunk_space(volume)


def aus_on_disk(volume: Path) -> dict[tuple[int, str], set[int]]:
    """By track the numbers of all AUs of which a whole sector lies in any chunk file."""
    found: dict[tuple[int, str], set[int]] = {}
    for path in chunk_files(volume):
        for tag in set(TAGS.findall(path.read_bytes())):
            track, number = whose(tag)
            found.setdefault(track, set()).add(number)
    return found
