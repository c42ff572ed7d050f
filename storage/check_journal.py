"""The chain of a slot's journal: every record leads on from the one before, until it ends once and for all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from recorder.base.media import TrackKind
from storage.finding import Finding, Report, error, warning
from storage.items import Tape, decode
from storage.journal import segment_name, segment_numbers
from storage.layout import JOURNAL_MAGIC, PAGE, RECORD_HEAD
from storage.numbered import file_names, slot_number

RECORD_MAX = 1 << 30


def check_journal(slot: Path, report: Report) -> list[Finding]:
    """Findings about `slot`/journal. Records behind the chain's end may only be older ones, of an earlier life of their segment.

    Of a segment's records the first that is wrong is named: all may be alike, and there are thousands.
    """
    own = slot_number(slot.name)
    last, records = 0, 0
    found = _strangers(slot)
    for segment in _segments(slot / "journal"):
        wrong: list[Finding] = []
        for at, number, epoch, items in _records(segment):
            where = f"{slot.name}/journal/{segment.name} at {at}"
            wrong = wrong or [*_foreign(number, own, where), *_check_items(items, where)]
            if last and epoch <= last:
                break                # from an earlier life of the segment; the chain may lead on in the next one
            if last and epoch != last + 1:
                return [*found, *wrong, error(where, f"record {epoch} follows {last}: some in between are missing",
                                              "footage near their time may lack its rows; start the recorder, then check at level 2")]
            last, records = epoch, records + 1
        found += wrong
    report.records = max(report.records, records)
    return found


def known_tapes(volume: Path) -> dict[tuple[int, str], TrackKind]:
    """Camera, name and kind of every tape that a journal of the volume names."""
    found: dict[tuple[int, str], TrackKind] = {}
    for slot in volume.glob("slot-*/journal"):
        for segment in _segments(slot):
            for at, _, _, items in _records(segment):
                with contextlib.suppress(FormatError):
                    tapes = [item for item in decode(items, where=f"{segment} at {at}") if isinstance(item, Tape)]
                    found |= {(tape.camera, tape.name): tape.kind for tape in tapes}
    return found


def foreign_records(segment: Path, slot: str) -> bool:
    """True if the segment holds a valid record of another slot than the one of the folder `slot`."""
    return any(number != slot_number(slot) for _, number, _, _ in _records(segment))


def _segments(folder: Path) -> list[Path]:
    """The files of a journal, the oldest first."""
    return [folder / segment_name(number) for number in segment_numbers(_files(folder))]


def _files(folder: Path) -> list[str]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return file_names(fd)
    finally:
        os.close(fd)


def _strangers(slot: Path) -> list[Finding]:
    """What lies in the journal's folder and is no segment, nor one in the making."""
    folder = slot / "journal"
    if not folder.is_dir() or folder.is_symlink():
        return []
    known = {segment.name for segment in _segments(folder)}
    names = [name for name in sorted(os.listdir(folder)) if name not in known and not name.endswith(".new")]
    return [_stranger(f"{slot.name}/journal/{name}", name) for name in names]


def _stranger(where: str, name: str) -> Finding:
    if segment_numbers([name]):
        return error(where, "is no file: the recorder does not start with it", "put the segment back in its place, or move this away")
    return warning(where, "is no segment of the journal", "move it away")


def _records(segment: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """(position, slot, epoch, items) of the valid records from the segment's start on."""
    try:
        fd = os.open(segment, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at = 0
        while len(raw := os.pread(fd, RECORD_HEAD.itemsize, at)) == RECORD_HEAD.itemsize:
            head = np.frombuffer(raw, RECORD_HEAD)[0]
            if int(head["magic"]) != JOURNAL_MAGIC or crc32c(raw[:-4]) != int(head["crc"]) or int(head["bytes"]) > RECORD_MAX:
                return
            items = os.pread(fd, int(head["bytes"]), at + len(raw))
            if len(items) != int(head["bytes"]) or crc32c(items) != int(head["items_crc"]):
                return
            yield at, int(head["slot"]), int(head["epoch"]), items
            at += -(-(len(raw) + len(items)) // PAGE) * PAGE
    finally:
        os.close(fd)


def _foreign(number: int, own: int | None, where: str) -> list[Finding]:
    if number == own:
        return []
    return [error(where, f"is a record of slot {number}", "has the folder been renamed? give it its name back")]


def _check_items(items: bytes, where: str) -> list[Finding]:
    try:
        for _ in decode(items, where=where):
            pass
    except FormatError as failed:
        return [error(where, failed.message, "use the version that wrote it")]
    return []
