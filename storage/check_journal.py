"""The chain of a slot's journal: every record leads on from the one before, until it ends once and for all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from recorder.base.media import TrackKind
from storage.finding import Finding, Report, error
from storage.items import Tape, decode
from storage.layout import JOURNAL_MAGIC, PAGE, RECORD_HEAD

RECORD_MAX = 1 << 30


def check_journal(slot: Path, report: Report) -> list[Finding]:
    """Findings about `slot`/journal. Records behind the chain's end may only be older ones, of an earlier life of their segment."""
    number = slot.name.removeprefix("slot-")
    folder = slot / "journal"
    last, records = 0, 0
    found: list[Finding] = []
    for segment in sorted(file for file in folder.iterdir() if file.name.isdigit()) if folder.is_dir() else ():
        for at, slot_number, epoch, items in _records(segment):
            where = f"{slot.name}/journal/{segment.name} at {at}"
            if slot_number != int(number):
                found.append(error(where, f"is a record of slot {slot_number}", "has the folder been renamed? give it its name back"))
            if last and epoch <= last:
                break                # from an earlier life of the segment; the chain may lead on in the next one
            if last and epoch != last + 1:
                return [*found, error(where, f"record {epoch} follows {last}: some in between are missing",
                                      "footage near their time may lack its rows; start the recorder, then check at level 2")]
            last, records = epoch, records + 1
            found += _check_items(items, where)
    report.records = max(report.records, records)
    return found


def known_tapes(volume: Path) -> dict[tuple[int, str], TrackKind]:
    """Camera, name and kind of every tape that a journal of the volume names."""
    found: dict[tuple[int, str], TrackKind] = {}
    for slot in volume.glob("slot-*/journal"):
        for segment in (file for file in slot.iterdir() if file.name.isdigit()):
            for at, _, _, items in _records(segment):
                with contextlib.suppress(FormatError):
                    tapes = [item for item in decode(items, where=f"{segment} at {at}") if isinstance(item, Tape)]
                    found |= {(tape.camera, tape.name): tape.kind for tape in tapes}
    return found


def foreign_records(segment: Path, slot: str) -> bool:
    """True if the segment holds a valid record of another slot than the one of the folder `slot`."""
    return any(number != int(slot.removeprefix("slot-")) for _, number, _, _ in _records(segment))


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


def _check_items(items: bytes, where: str) -> list[Finding]:
    try:
        for _ in decode(items, where=where):
            pass
    except FormatError as failed:
        return [error(where, failed.message, "use the version that wrote it")]
    return []
