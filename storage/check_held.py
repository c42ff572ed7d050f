"""The check of what holds keep: their files, held chunks, rows, bytes and digests. storage/check.py says what each level means."""

import os
from pathlib import Path

import numpy as np

from recorder._ext.crc32c import crc32c
from recorder._ext.entries import decode
from recorder.base.errors import FormatError
from storage import heldfile
from storage.finding import Finding, Report, error, warning
from storage.heldfile import HeldChunk
from storage.layout import HELD, PAGE, class_of, track_path
from storage.numbered import chunk_number
from storage.reader import TrackReader

LOST = "what was held there cannot be trusted; export what can be read"


def check_held(track: TrackReader, volume: Path, report: Report) -> list[Finding]:
    """What is wrong with the track's held chunks."""
    folder = volume / f"{track_path(track.camera, track.name)}{HELD}/c"
    if not os.path.lexists(folder):
        return []
    if folder.is_symlink() or not folder.is_dir():
        return [error(str(folder.relative_to(volume)), "is no folder: what was held cannot be read", "put it back where it was")]
    found: list[Finding] = []
    for file in sorted(folder.iterdir()):
        where = str(file.relative_to(volume))
        if chunk_number(file.name) is not None:
            found += _chunk(track, file, where, report)
        elif not file.name.endswith(".new"):
            found.append(warning(where, "is no chunk", "move it away: the recorder uses its room when it starts"))
    return found


def _chunk(track: TrackReader, file: Path, where: str, report: Report) -> list[Finding]:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []           # released meanwhile
    except OSError as failed:
        return [error(where, f"cannot be read: {failed.strerror}", "look at the disk's health")]
    try:
        chunk = heldfile.read(fd, where)
        report.chunks += 1
        found = _structure(track, chunk, int(file.name), os.fstat(fd).st_size, where)
        return found or (_rows(fd, track, chunk, where, report) if report.level >= 2 else [])
    except FormatError as failed:
        return [error(where, failed.message, LOST)]
    finally:
        os.close(fd)


def _structure(track: TrackReader, chunk: HeldChunk, number: int, size: int, where: str) -> list[Finding]:
    head = chunk.head
    if (head.camera, head.track, head.chunk) != (track.camera, track.name, number):
        return [error(where, "its head says that it is another chunk", LOST)]
    if head.chunk_class is not class_of(track.kind) or size != head.chunk_class.file_bytes:
        return [error(where, f"has {size} bytes of class {head.chunk_class.name}", LOST)]
    if chunk.footer.digest() != head.digest:
        return [error(where, "the digest of its footer is another one than its head says", LOST)]
    rows = chunk.rows[chunk.there]
    ends = rows["offset"] + rows["bytes"]
    if not len(rows) or int(rows["offset"][0]) < head.start_offset or int(ends[-1]) > head.start_offset + head.used_bytes or (
            rows["offset"][1:] < ends[:-1]).any():
        return [error(where, "the rows of its footer do not lie in it in order", LOST)]
    return []


def _rows(fd: int, track: TrackReader, chunk: HeldChunk, where: str, report: Report) -> list[Finding]:
    found = []
    for index in np.flatnonzero(chunk.there).tolist():
        row = chunk.rows[index]
        data = os.pread(fd, int(row["bytes"]), PAGE + int(row["offset"]) - chunk.head.start_offset)
        report.rows, report.bytes_read = report.rows + 1, report.bytes_read + len(data)
        number = chunk.head.first_row + index
        if crc32c(data) != int(row["data_crc"]):
            found.append(error(where, f"the bytes of row {number}, {int(row['t_ns'])} ns, are not those that were recorded", LOST))
        elif decode(chunk.entries(index), int(row["frames_off"]), row.tobytes(), 90_000)[0] != -1:
            found.append(error(where, f"the entries of row {number} do not add up", LOST))
        elif report.level >= 3 and not chunk.proves(index, data):
            found.append(error(where, f"row {number}, {int(row['t_ns'])} ns, has another digest", LOST))
    return found
