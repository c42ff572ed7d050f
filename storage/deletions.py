"""The ledgers of all slots read as one list of deleted footage, in the order in which it was written down."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recorder.base.media import DeletionCause
from storage.items import Deletion, Erased, Tape
from storage.layout import HELD
from storage.ledger import ledger_path, records, seek
from storage.numbered import slot_number
from storage.volume import Volume

Key = tuple[int, int, int, int, int]        # UTC, volume, slot, position of the record, place in it
NO_KEY: Key = (0, 0, 0, 0, 0)
SLACK_NS = 3_600_000_000_000                # a record is written after what it tells; clocks are set


@dataclass(frozen=True, slots=True)
class Deleted:
    """A stretch of a track, [first_ns, end_ns), that was deleted: why, since when nobody can read it, since when it is gone (None: not yet).

    It is one chunk: rows of several seconds each, `nbytes` of media. Times are UTC ns.
    """

    key: Key
    camera: int
    track: str
    rows: int
    first_ns: int
    end_ns: int
    nbytes: int
    cause: DeletionCause
    why: str
    unreadable_ns: int
    erased_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which deletions are wanted: written down in [start_ns, end_ns), of these cameras (None: all), after `after`."""

    start_ns: int = 0
    end_ns: int = 1 << 62
    cameras: frozenset[int] | None = None
    after: Key = NO_KEY


def deletions(volumes: Sequence[Path], asked: Asked, limit: int) -> list[Deleted]:
    """At most `limit` deletions by key. Reads files. Raises VolumeError for a volume that is not there, FormatError, OSError."""
    found: list[Deleted] = []
    for number, path in enumerate(volumes):
        volume = Volume.open(path, on_root=True, lock=False)
        try:
            for slot in _slots(volume):
                found += _of_slot(volume, (number, slot), asked, limit)
        finally:
            volume.close()
    return sorted(found, key=lambda one: one.key)[:limit]


def deleted_rows(volume: Volume) -> dict[tuple[int, str, int], int]:
    """How many rows of each (camera, track, chunk) the volume's ledgers say that they were deleted. Reads them whole. OSError.

    What a hold had kept and let go counts to the track that it came from.
    """
    found: dict[tuple[int, str, int], int] = {}
    for slot in _slots(volume):
        try:
            fd = volume.open_file(ledger_path(slot), os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            for tape, entry in (pair for record in records(fd) for pair in record.entries):
                if isinstance(entry, Deletion):
                    key = (tape.camera, tape.name.removesuffix(HELD), entry.chunk)
                    found[key] = found.get(key, 0) + entry.rows
        finally:
            os.close(fd)
    return found


def _slots(volume: Volume) -> list[int]:
    return sorted(number for name in volume.list_dir(".") if (number := slot_number(name)) is not None)


def _of_slot(volume: Volume, where: tuple[int, int], asked: Asked, limit: int) -> list[Deleted]:
    """The slot's deletions, and of each whether it is gone: that stands further on in the ledger."""
    try:
        fd = volume.open_file(ledger_path(where[1]), os.O_RDONLY)
    except FileNotFoundError:
        return []
    try:
        found: dict[tuple[int, str, int], Deleted] = {}
        missing: set[tuple[int, str, int]] = set()
        for record in records(fd, seek(fd, max(asked.start_ns, asked.after[0]) - SLACK_NS)):
            full = len(found) >= limit or record.wall_ns >= asked.end_ns
            if full and not missing:
                break
            for place, (tape, entry) in enumerate(record.entries):
                name = (tape.camera, tape.name, entry.chunk)
                if isinstance(entry, Erased) and name in missing:
                    found[name] = replace(found[name], erased_ns=entry.time_ns)
                    missing.discard(name)
                elif isinstance(entry, Deletion) and not full and _wanted(asked, key := (record.wall_ns, *where, record.at, place), tape):
                    found[name] = _deleted(key, tape, entry)
                    missing.add(name)
        return list(found.values())
    finally:
        os.close(fd)


def _wanted(asked: Asked, key: Key, tape: Tape) -> bool:
    return key > asked.after and key[0] >= asked.start_ns and (asked.cameras is None or tape.camera in asked.cameras)


def _deleted(key: Key, tape: Tape, entry: Deletion) -> Deleted:
    return Deleted(key, tape.camera, tape.name, entry.rows, entry.first_ns, entry.end_ns, entry.nbytes, entry.cause, entry.why, entry.time_ns)

