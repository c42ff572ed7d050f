"""The slot's ledger: what was deleted, of which camera, why, since when it is unreadable and since when gone. Never recycled, never rewritten.

An append-only file of records as the journal has them, without padding. What it says has been said in the journal before, so a record
that a power cut takes from its end is written again at the next start. A reader that meets damage goes on at the next record.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from recorder._ext.crc32c import crc32c
from storage.disk import read_at, write_at
from storage.erasure import Deleted
from storage.items import Deletion, Erased, Tape, decode, encode
from storage.journal import pack_record, record_head
from storage.layout import JOURNAL_MAGIC, RECORD_HEAD
from storage.volume import Volume

MAGIC = JOURNAL_MAGIC.to_bytes(4, "little")
RECORD_MAX = 16 << 20
WINDOW = 1 << 20
RECENT = 64 << 20       # of its end are read at a start: half a day of the largest sites
Entry = Deletion | Erased


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One record: where it lies, when it was written (UTC), and its entries, each with the tape it speaks of."""

    at: int
    number: int
    wall_ns: int
    entries: tuple[tuple[Tape, Entry], ...]


def ledger_path(slot: int) -> str:
    """Relative to the volume."""
    return f"slot-{slot}/ledger"


def records(fd: int, start: int = 0, stop: int | None = None) -> Iterator[LedgerRecord]:
    """The records that begin in [start, stop), in order; damaged stretches are passed over."""
    stop = os.fstat(fd).st_size if stop is None else stop
    at = start
    while at < stop:
        found = _record(fd, at)
        if found is not None:
            yield found[0]
            at = found[1]
        else:
            at = _next_magic(fd, at + 1, stop)


def seek(fd: int, wall_ns: int) -> int:
    """A position at or before the first record that was written at or after `wall_ns`, near it."""
    low, high = 0, os.fstat(fd).st_size
    while high - low > WINDOW:
        middle = (low + high) // 2
        first = next(records(fd, middle, high), None)
        if first is None or first.wall_ns >= wall_ns:
            high = middle
        else:
            low = first.at
    return low


def _record(fd: int, at: int) -> tuple[LedgerRecord, int] | None:
    """The record at a position and the position after it; None if there is none."""
    head = record_head(read_at(fd, RECORD_HEAD.itemsize, at))
    if head is None or head.nbytes > RECORD_MAX:
        return None
    start = at + RECORD_HEAD.itemsize
    items = read_at(fd, head.nbytes, start)
    if len(items) != head.nbytes or crc32c(items) != head.items_crc:
        return None
    entries: list[tuple[Tape, Entry]] = []
    tape: Tape | None = None
    for item in decode(items, where=f"ledger at {at}"):
        if isinstance(item, Tape):
            tape = item
        elif tape is not None and isinstance(item, Deletion | Erased):
            entries.append((tape, item))
    return LedgerRecord(at, head.epoch, head.wall_ns, tuple(entries)), start + head.nbytes


def _next_magic(fd: int, at: int, stop: int) -> int:
    while at < stop:
        data = read_at(fd, min(WINDOW, stop - at) + len(MAGIC) - 1, at)
        found = data.find(MAGIC)
        if found >= 0:
            return at + found
        at += WINDOW
    return stop


class Ledger:
    """The writing side. `open`, then the keeper's thread only; OSError means that the volume has failed."""

    def __init__(self, volume: Volume, slot: int, *, next_epoch: Callable[[], int], acknowledged: Callable[[], int],
                 wall_ns: Callable[[], int]) -> None:
        self._volume, self._slot = volume, slot
        self._next_epoch, self._acknowledged, self._wall_ns = next_epoch, acknowledged, wall_ns
        self._fd, self._end, self._number = -1, 0, 0
        self._expected: deque[tuple[int, Tape, Entry]] = deque()     # first the number of the journal's record that says it
        self._said: dict[Deleted, Entry] = {}                   # the last word about each chunk, as it was found at the start
        self._unsynced = 0                                      # the journal's record whose syncfs makes the newest entry durable

    def open(self, said: Iterable[tuple[Tape, Entry]]) -> set[Deleted]:
        """Write down what the journal has `said` and the ledger has not; deleted chunks that are not erased yet."""
        self._fd = self._volume.open_file(ledger_path(self._slot), os.O_RDWR | os.O_CREAT)
        self._end = os.fstat(self._fd).st_size
        gone: dict[Deleted, bool] = {}
        for record in records(self._fd, max(0, self._end - RECENT)):
            self._number = record.number
            for tape, entry in record.entries:
                gone[tape.camera, tape.name, entry.chunk] = isinstance(entry, Erased)
                self._said[tape.camera, tape.name, entry.chunk] = entry
        missing = []
        for tape, entry in said:
            key = (tape.camera, tape.name, entry.chunk)
            if key not in gone or (isinstance(entry, Erased) and not gone[key]):
                missing.append((tape, entry))
                gone[key] = isinstance(entry, Erased)
        self._append(missing)
        return {key for key, erased in gone.items() if not erased}

    def expect(self, tape: Tape, entry: Entry, epoch: int) -> None:
        """The journal's record `epoch` says this; it is written down here when that record is durable. Any thread."""
        self._expected.append((epoch, tape, entry))

    def say(self, tape: Tape, entry: Entry) -> None:
        """Write down, durably on return, what no record of the journal says. What was the last word before a crash is not said again."""
        last = self._said.pop((tape.camera, tape.name, entry.chunk), None)
        if isinstance(last, Deletion) and isinstance(entry, Deletion) and (last.first_row, last.rows) == (entry.first_row, entry.rows):
            return
        self._append([(tape, entry)])
        os.fsync(self._fd)

    def settle(self) -> None:
        """Write down what has become durable."""
        done = []
        while self._expected and self._expected[0][0] <= self._acknowledged():
            done.append(self._expected.popleft()[1:])
        self._append(done)

    @property
    def behind(self) -> bool:
        """True while the journal alone says something durably: none of its segments may be used again."""
        return bool(self._expected) or self._unsynced > self._acknowledged()

    def _append(self, entries: list[tuple[Tape, Entry]]) -> None:
        if not entries:
            return
        blob: list[bytes] = []
        last: Tape | None = None
        for tape, entry in entries:
            if tape != last:
                blob.append(encode(tape))
                last = tape
            blob.append(encode(entry))
        self._number += 1
        record = pack_record(self._slot, self._number, self._wall_ns(), b"".join(blob), align=8)
        write_at(self._fd, record, self._end)
        self._end += len(record)
        self._unsynced = self._next_epoch()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
