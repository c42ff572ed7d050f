"""The holds of a slot as it has them: one small file each in `slot-<k>/holds/`, replaced durably, never deleted.

They stand on the volume whose footage they keep, so that a lost catalogue loses no hold. A hold says of each tape from which row on it
counts: what had gone out of sight before it came is not brought back, unless another hold had kept it.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from recorder.base.errors import Refused
from recorder.base.media import RowFlag
from storage.disk import read_at
from storage.document import parsed
from storage.footage import Rows, row_ends
from storage.hold import Hold, hold_from_json, hold_to_json
from storage.volume import Volume, write_file

FILE_MAX = 4 << 20
FORMAT = "watchroom-hold-1"
Ranges = tuple[tuple[int, int], ...]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Taken:
    """A hold as a slot has taken it. Per tape ("<camera>/<track>") rows from `from_row` on count, and `kept`, which other holds had saved."""

    hold: Hold
    from_row: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, Ranges] = field(default_factory=dict)

    def counts(self, camera: int, track: str, first_row: int, rows: Rows) -> Bools:
        """Which of the rows `first_row`, `first_row + 1`, ... it holds."""
        number = first_row + np.arange(len(rows))
        known = number >= self.from_row.get(f"{camera}/{track}", 0)
        for start, stop in self.kept.get(f"{camera}/{track}", ()):
            known |= (number >= start) & (number < stop)
        return known & overlapping(rows, self.hold.stretches(camera, track))


def overlapping(rows: Rows, stretches: Iterable[tuple[int, int]]) -> Bools:
    """Which of the rows have something in one of the stretches of time."""
    found = np.zeros(len(rows), np.bool_)
    t_ns, ends = rows["t_ns"], row_ends(rows)
    for start_ns, end_ns in stretches:
        found |= (t_ns < end_ns) & ((ends > start_ns) | (t_ns >= start_ns))
    return found


def held_rows(takens: Iterable[Taken], camera: int, track: str, first_row: int, rows: Rows) -> Bools:
    """Which of the rows any of the holds keeps, those that they continue (and cannot be decoded without) among them."""
    found = np.zeros(len(rows), np.bool_)
    for taken in takens:
        found |= taken.counts(camera, track, first_row, rows)
    continued = (rows["flags"] & RowFlag.CONTINUED) != 0
    for index in np.flatnonzero(continued)[::-1].tolist():
        if index and found[index]:
            found[index - 1] = True
    return found


class Shelf:
    """The files. The keeper's thread only. OSError means that the volume has failed."""

    def __init__(self, volume: Volume, slot: int) -> None:
        self._volume, self._folder = volume, f"slot-{slot}/holds"

    def open(self) -> tuple[list[Taken], list[str]]:
        """What stands there, released holds among it; and the names of files that cannot be understood."""
        self._volume.make_dirs(self._folder)
        found, damaged = [], []
        for name in self._volume.list_dir(self._folder):
            if name.endswith(".new"):
                self._volume.unlink(f"{self._folder}/{name}")
                continue
            try:
                found.append(self._read(name))
            except (ValueError, IsADirectoryError):
                damaged.append(f"{self._folder}/{name}")
        return found, damaged

    def put(self, taken: Taken) -> None:
        """Write a hold down; durable on return."""
        kept = {tape: [list(pair) for pair in ranges] for tape, ranges in taken.kept.items()}
        text = {"format": FORMAT, "hold": hold_to_json(taken.hold), "from_row": dict(taken.from_row), "kept": kept}
        write_file(self._volume.dir_fd, f"{self._folder}/{taken.hold.id}.json", json.dumps(text, indent=1).encode())

    def _read(self, name: str) -> Taken:
        fd = self._volume.open_file(f"{self._folder}/{name}", os.O_RDONLY)
        try:
            return taken_from(read_at(fd, FILE_MAX, 0), name)
        finally:
            os.close(fd)


def taken_from(raw: bytes, name: str) -> Taken:
    """The hold as the file `name` has it; ValueError if that cannot be understood."""
    text = parsed(raw)
    try:
        if text["format"] != FORMAT:
            raise ValueError(name)
        from_row = {str(tape): int(row) for tape, row in text["from_row"].items()}
        kept = {str(tape): tuple((int(a), int(b)) for a, b in ranges) for tape, ranges in text["kept"].items()}
        taken = Taken(hold_from_json(text["hold"]), from_row, kept)
    except (Refused, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(name) from error
    if name != f"{taken.hold.id}.json":
        raise ValueError(name)
    return taken


def release(taken: Taken, time_ns: int, by: str) -> Taken:
    """The same hold after its release."""
    return replace(taken, hold=taken.hold.released(time_ns, by))
