"""Tapes against truth: which AUs of a simulated track were recorded, byte for byte."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.camsim.truth import Truth
from recorder.base.media import AuFlag
from storage.footage import RowRun
from storage.reader import TrackReader

ROWS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class TapeAu:
    """One AU as the tape holds it."""

    data: bytes
    wall_ns: int
    flags: AuFlag
    row: int
    session: int


def tape_aus(track: TrackReader) -> Iterator[TapeAu]:
    """All AUs of a track in decode order that can be read now, provisional ones included: up to the open row as it is met."""
    number = track.edges().first_row
    while len(run := track.rows_from(number, ROWS_AT_ONCE)):
        yield from run_aus(track, run)
        if run.open:        # it grows while we read: what comes after it is not what follows what we have seen of it
            return
        number = run.next


def run_aus(track: TrackReader, run: RowRun) -> Iterator[TapeAu]:
    """All AUs of these rows in decode order."""
    entries, data = track.entries(run), _bytes_of(track, run)
    for i in range(len(entries.size)):
        row, at = int(entries.row[i]), int(entries.offset[i])
        start = at - int(run.rows["offset"][row])
        yield TapeAu(data[row][start:start + int(entries.size[i])], int(entries.wall_ns[i]), AuFlag(int(entries.flags[i])),
                     run.first + row, int(run.rows["session"][row]))


def _bytes_of(track: TrackReader, run: RowRun) -> list[bytes]:
    """The bytes of each row; a row lies in one chunk."""
    found = []
    for row in run.rows:
        buffer = bytearray(int(row["bytes"]))
        with track.open_chunk(int(row["offset"]) // track.chunk_class.tape_bytes) as lease:
            got = lease.read(buffer, int(row["offset"]))
        found.append(bytes(buffer[:got]))
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """`expected`: AUs sent from the first recordable one on; `recorded`: those of them on the tape; `missing`: sent and not on the tape;
    `wrong`: on the tape and never sent, or in another place; `waiting`: sent before the first key frame, which no recorder can use.
    `first_wrong` says where, for a person.
    """

    expected: int
    recorded: int
    missing: int
    wrong: int
    waiting: int
    first_wrong: str = ""

    @property
    def whole(self) -> bool:
        """True if the tape holds exactly what was sent."""
        return self.expected == self.recorded > 0 and not self.missing and not self.wrong


def compare(track: TrackReader, truth: Truth, sessions: list[dict[str, Any]], *, ended_ok: int = 0) -> Comparison:
    """Compare a tape with what the sessions of a report sent, in order.

    `sessions`: the counters of this track, one per session. Each session's expectation begins at its first key frame, or at its first AU if it
    is `cut` there. At most `ended_ok` AUs at
    the end of each session may be missing: they were on their way when somebody cut it.
    """
    expected, waiting = [], 0
    for counters in sessions:
        sent = list(truth.sent(counters))
        start = counters["first"] if counters.get("cut") else truth.next_key(counters["first"])
        usable = [i for i in sent if i >= start]
        waiting += len(sent) - len(usable)
        expected.append(usable)
    return _match(tape_aus(track), truth, expected, waiting, ended_ok)


def first_index(track: TrackReader, truth: Truth) -> int | None:
    """The number of the AU that a tape begins with, if its tail has moved; None if it still holds all (or nothing)."""
    if not track.edges().first_row:
        return None
    first = next(tape_aus(track), None)
    if first is None:
        return None
    loop = (first.wall_ns - truth.base_wall_ns) * truth.clip.clock_rate // 1_000_000_000 // truth.clip.loop_ticks - 1
    near = max(0, loop * truth.clip.aus)
    candidates = (i for i in range(near, near + 3 * truth.clip.aus) if truth.loop_of(i, first.wall_ns))
    return next((i for i in candidates if truth.au_bytes(i) == first.data), None)


def _match(aus: Iterator[TapeAu], truth: Truth, expected: list[list[int]], waiting: int, ended_ok: int) -> Comparison:
    """Walk tape and expectation together; after a miss go on where the tape's AU is found again: its bytes, in its loop of the content."""
    queue = [i for usable in expected for i in usable]
    optional = {i for usable in expected for i in usable[max(0, len(usable) - ended_ok):]} if ended_ok else set()
    at = recorded = wrong = 0
    absent: list[int] = []
    note = ""
    for number, au in enumerate(aus):
        near = range(at, min(at + truth.clip.aus, len(queue)))
        found = next((k for k in near if truth.au_bytes(queue[k]) == au.data and truth.loop_of(queue[k], au.wall_ns)), None)
        if found is None:
            wrong += 1
            note = note or f"AU {number} of the tape ({len(au.data)} bytes, row {au.row}) was not sent after AU {queue[at - 1] if at else '-'}"
            continue
        absent += queue[at:found]
        recorded += 1
        at = found + 1
    absent += queue[at:]
    missing = [i for i in absent if i not in optional]
    note = note or (f"{len(missing)} AUs are missing, the first is AU {missing[0]}" if missing else "")
    return Comparison(recorded + len(missing), recorded, len(missing), wrong, waiting, note)
