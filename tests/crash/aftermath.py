"""What must be true of a volume after its writer has died: checked from the files alone."""

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "storage_write"))

from held import held_rows
from payloads import SEED, seed_of
from rig import Rig, tape

from recorder._ext.crc32c import crc32c
from storage.check import check_volume
from storage.chunkfile import read_footer, read_head, read_index
from storage.layout import PAGE, ROW, class_of, track_path


def seeds(camera: int, count: int) -> dict[bytes, int]:
    """AU number by what its bytes begin with."""
    return {seed_of(camera, n): n for n in range(count)}


def numbers_of(aus: list[bytes], known: dict[bytes, int]) -> list[int]:
    """Which AUs these are; fails at one that nobody made."""
    out = []
    for au in aus:
        number = known[au[:SEED]]
        assert au == (au[:SEED] * (len(au) // SEED + 1))[:len(au)], "an AU's bytes are mixed up"
        out.append(number)
    return out


def check_clean(rig: Rig) -> None:
    """`watchroom check` at its hardest finds nothing."""
    report = check_volume(rig.path, rig.live, level=3)
    assert not report.findings, "\n".join(str(finding) for finding in report.findings[:10])


def check_no_alarm(volume: Path, live: Path) -> None:
    """`watchroom check` at its hardest finds no error before a recorder has been started again."""
    report = check_volume(volume, live, level=3)
    assert report.clean, "\n".join(str(finding) for finding in report.findings[:10])


def check_tape(rig: Rig, camera: int, name: str, *, durable_row: int, durable_offset: int, known: dict[bytes, int]) -> int:
    """Everything acknowledged is there, nothing else than what was recorded is served, and each AU once, in order; AUs found."""
    core = rig.core(camera, name)
    assert core.next_row >= durable_row, f"rows up to {durable_row} were acknowledged, {core.next_row} are there"
    aus = tape(rig.path, rig, camera, name)
    numbers = numbers_of(aus, known)
    assert numbers == sorted(set(numbers)), "AUs out of order or twice"
    size = class_of(rig.slot._works[camera, name].ident.kind).tape_bytes
    end = _end(rig, camera, name)
    if durable_offset % PAGE == 0:      # so far a recovery skipped, with nothing recorded since
        end = -(-end // PAGE) * PAGE
    assert end >= durable_offset or durable_offset % size == 0 or core.next_row == core.tail_row, f"{end} of {durable_offset} bytes are there"
    check_chunks(rig, camera, name)
    return len(aus)


def _end(rig: Rig, camera: int, name: str) -> int:
    work = rig.slot._works[camera, name]
    raw = work.row(work.core.next_row - 1) if work.core.next_row else None
    if raw is None:
        return 0
    row = np.frombuffer(raw, ROW)[0]
    return int(row["offset"]) + int(row["bytes"])


def check_chunks(rig: Rig, camera: int, name: str) -> None:
    """Marked inner chunks hold rows and zeros only; sealed chunks prove themselves."""
    work = rig.slot._works[camera, name]
    kind = work.chunk_class
    folder = rig.path / track_path(camera, name) / "c"
    rows: dict[int, list[tuple[int, int, int]]] = {}
    for number in range(work.core.tail_row, work.core.next_row):
        raw = work.row(number)
        assert raw is not None
        row = np.frombuffer(raw, ROW)[0]
        at = int(row["offset"])
        rows.setdefault(at // kind.tape_bytes, []).append((at % kind.tape_bytes, int(row["bytes"]), int(row["data_crc"])))
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            head = read_head(fd, str(path))
            assert (head.camera, head.track, head.chunk) == (camera, name, int(path.name))
            data = os.pread(fd, kind.file_bytes, 0)
            marked = read_index(data[:PAGE], kind)
            assert marked is not None, "the index' CRC is wrong after recovery"
            if head.sealed:
                footer = read_footer(fd, head, str(path))
                assert footer.digest() == head.digest
            elif int(path.name) in rows:
                _check_marked(data[PAGE:], marked, kind.inner_bytes, rows[int(path.name)])
        finally:
            os.close(fd)


def _check_marked(data: bytes, marked: "np.ndarray[tuple[int], np.dtype[np.bool_]]", inner: int, rows: list[tuple[int, int, int]]) -> None:
    end = int(marked.sum()) * inner
    assert marked[:int(marked.sum())].all()
    at = 0
    for start, size, crc in sorted(rows):
        assert crc32c(data[start:start + size]) == crc
        if at < min(start, end):
            assert not any(data[at:min(start, end)]), "a marked inner chunk holds bytes that no row owns"
        at = start + size
    if rows and at < end:
        assert not any(data[at:end]), "a marked inner chunk holds bytes behind the last row"


def check_held(rig: Rig, low: int, high: int, known: dict[bytes, int]) -> None:
    """AUs [low, high) of camera 1 are on the tape, or in what holds have kept of it, to the bit."""
    rows = held_rows(rig.path)
    there = numbers_of(tape(rig.path, rig), known)
    for number in sorted(rows):
        there += numbers_of(rows[number], known)
    missing = set(range(low, high)) - set(there)
    assert not missing, f"AUs {min(missing)} to {max(missing)} were held"


def held_promise(lines: list[str]) -> tuple[int, int]:
    """The AUs [low, high) of camera 1 that are held and durable by the last word."""
    found = [line.split() for line in lines if line.startswith("held ") and len(line.split()) == 3]
    return (int(found[-1][1]), int(found[-1][2])) if found else (0, 0)


def promises(lines: list[str]) -> dict[tuple[int, str], tuple[int, int, int]]:
    """The last promise of each track: durable row, durable offset, AUs put."""
    out: dict[tuple[int, str], tuple[int, int, int]] = {}
    for line in lines:
        parts = line.split()
        if len(parts) == 5:
            out[int(parts[0]), parts[1]] = (int(parts[2]), int(parts[3]), int(parts[4]))
    return out


