"""The journal's replay: runs of plain items added up by the kernel, against the same items applied one by one."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder._ext.replay import TapeRun, plain
from recorder.base.errors import FormatError
from recorder.base.media import GapCause, TrackKind
from storage.items import (
    Checkpoint,
    CheckpointEnd,
    ChunkSealed,
    ChunkTaken,
    EntriesItem,
    GapClose,
    GapOpen,
    Item,
    On,
    OpenRowItem,
    RowItem,
    Tape,
    TapeState,
    encode,
)
from storage.replay import EMPTY, Found, Replay

TAPES = (1, 2)
NUMBERS = st.integers(0, 9)
ROW = struct.Struct("<qqQIIIHHHHIQII")


def row(t_ns: int, offset: int, size: int) -> bytes:
    return ROW.pack(t_ns, 0, offset, size, 2_000_000, 0, 50, 0, 1, 0, 1, 0, 7, 8)


ROWS = st.builds(row, st.integers(-5, 1 << 40), st.integers(0, 1 << 30), st.integers(0, 1 << 20))
PLAIN = st.one_of(st.builds(RowItem, NUMBERS, ROWS), st.builds(OpenRowItem, NUMBERS, ROWS),
                  st.builds(EntriesItem, st.integers(0, 40), st.binary(max_size=12)))
STATE = TapeState(**{**{name: getattr(EMPTY, name) for name in TapeState.__slots__}, "next_row": 3, "tape_end": 900, "end_ns": 77})
OTHER = st.sampled_from([ChunkTaken(1, 1, 2, 0), ChunkTaken(2, 1, 5, 0), ChunkSealed(1, 5), GapOpen(5, GapCause.LOSS), GapClose(5, 9), STATE])
SECTIONS = st.tuples(st.sampled_from(TAPES), st.lists(st.one_of(PLAIN, PLAIN, PLAIN, OTHER), max_size=5))
RECORDS = st.lists(st.tuples(st.booleans(), st.lists(SECTIONS, max_size=4)), max_size=6)


def record(checkpoint: bool, sections: list[tuple[int, list[Item]]]) -> bytes:
    items: list[Item] = []
    if checkpoint:
        states: list[list[Item]] = [[Tape(n, n, 90_000, TrackKind.VIDEO, "main"), STATE] for n in TAPES]
        items = [Checkpoint(2), *itertools.chain(*states), CheckpointEnd()]
    for tape, found in sections:
        items += [On(tape), *found]
    return b"".join(encode(item) for item in items)


def one_by_one(records: list[bytes]) -> Replay:
    replay = Replay()
    for segment, items in enumerate(records):
        for found, item, checkpoint in replay.walk(items):
            replay.note_row(segment // 2, found, item)
            found.apply(item, checkpoint=checkpoint)
    return replay


def joined(found: Found) -> list[tuple[int, bytes]]:
    """Entries with those that follow one another put together."""
    out: list[tuple[int, bytes]] = []
    for position, data in found.entries:
        if out and out[-1][0] + len(out[-1][1]) == position:
            out[-1] = (out[-1][0], out[-1][1] + data)
        elif data:
            out.append((position, data))
    return out


@given(RECORDS)
def test_the_kernel_adds_up_what_the_items_say_one_by_one(records: list[tuple[bool, list[tuple[int, list[Item]]]]]) -> None:
    raw = [record(True, []), *(record(*made) for made in records)]
    slow, fast = one_by_one(raw), Replay()
    for number, items in enumerate(raw):
        fast.apply(number // 2, items)
    fast.settle()
    assert fast.segment_rows == slow.segment_rows
    assert fast.tapes.keys() == slow.tapes.keys()
    for tape, found in fast.tapes.items():
        other = slow.tapes[tape]
        assert (found.state, found.rows, found.open_row, found.chunks, found.sealed, found.gap, found.log) == (
            other.state, other.rows, other.open_row, other.chunks, other.sealed, other.gap, other.log)
        assert joined(found) == joined(other)


def test_plain_sections_are_all_taken_by_the_kernel() -> None:
    items = record(False, [(1, [RowItem(0, row(0, 0, 9))]), (2, [EntriesItem(0, b"abc")])])
    assert plain(items, 0, {1: TapeRun(), 2: TapeRun()}) == len(items)


def test_a_section_that_is_not_plain_is_left_untouched() -> None:
    runs = {1: TapeRun()}
    items = record(False, [(1, [RowItem(0, row(0, 0, 9)), GapOpen(5, GapCause.LOSS)])])
    assert plain(items, 0, runs) == 0
    assert runs[1].take() is None


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_items_too_short_for_their_kind_are_refused(kind: int) -> None:
    replay = Replay()
    replay.apply(1, record(True, []))
    with pytest.raises(FormatError):
        replay.apply(1, encode(On(1)) + struct.pack("<HHI", kind, 1, 4) + bytes(8))


@given(st.binary(max_size=80), st.integers(0, 80))
def test_cut_and_foreign_bytes_are_refused_or_skipped(noise: bytes, cut: int) -> None:
    whole = record(False, [(1, [RowItem(0, row(0, 0, 9)), EntriesItem(0, b"abcdefgh")])])
    for data in (whole[:cut], whole + noise, encode(On(1)) + noise):
        runs = {1: TapeRun()}
        assert 0 <= plain(data, 0, runs) <= len(data)
