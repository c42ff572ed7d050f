"""The codec of items."""

import struct

import pytest

from recorder.base.errors import FormatError
from recorder.base.media import DeletionCause, GapCause, SampleEntry, SenderReport, TrackKind
from storage.items import (
    Checkpoint,
    CheckpointEnd,
    ChunkSealed,
    ChunkTaken,
    ClockEpoch,
    Deletion,
    EntriesItem,
    Erased,
    GapClose,
    GapOpen,
    Item,
    Kind,
    On,
    OpenRowItem,
    RowItem,
    SampleEntryItem,
    SessionEnd,
    SessionStart,
    TailMove,
    Tape,
    TapeState,
    decode,
    encode,
)

EVERY: list[Item] = [
    RowItem(7, bytes(range(64))), OpenRowItem(8, bytes(64)), EntriesItem(99, b"abc"), SessionStart(3, -5, "rtsp/tcp"),
    SessionEnd(3, 10**18, "teardown"), SampleEntryItem(2, SampleEntry("avc1", b"\x01\x64", 90000, 1920, 1080)),
    GapOpen(5, GapCause.STALL, "nothing for 10 s"), GapClose(5, 6), ClockEpoch(7, -8), SenderReport(1, 2, 3), TailMove(1, 2, 3),
    Deletion(1, 2, 3, 4, 5), Checkpoint(4), CheckpointEnd(), Tape(1, 2, 90000, TrackKind.AUDIO, "audio"), On(1),
    TailMove(1, 2, 3, 4, DeletionCause.BYTES, "camera gate: bytes_max = 5"),
    Deletion(1, 2, 3, 4, 5, 6, 7, DeletionCause.DAYS, "site Häfen: days = 7"),
    Erased(1, 2), ChunkTaken(1, 2, 3, 4), ChunkSealed(1, 2),
    TapeState(1, 2, 3, 4, 5, 6, 7, 8, -1, 10, 11, 12, 13, 14, 15.5, 1, 2**64 - 1),
]


def test_every_item_comes_back() -> None:
    blob = b"".join(encode(item) for item in EVERY)
    assert len(blob) % 8 == 0
    assert list(decode(blob)) == EVERY


def test_tail_moves_and_deletions_of_the_first_version_are_read() -> None:
    tail, deletion = (1, 2, 3), (1, 2, 3, 4, 5)
    old = struct.pack("<HHIQQq", Kind.TAIL_MOVE, 1, 24, *tail) + struct.pack("<HHIQQQqq", Kind.DELETION, 1, 40, *deletion)
    assert list(decode(old)) == [TailMove(*tail), Deletion(*deletion)]


def test_an_unknown_kind_is_skipped() -> None:
    unknown = (77).to_bytes(2, "little") + (1).to_bytes(2, "little") + (3).to_bytes(4, "little") + b"xyz\0\0\0\0\0"
    assert list(decode(unknown + encode(On(5)))) == [On(5)]


@pytest.mark.parametrize("cut", [1, 7, 9, 15])
def test_a_torn_item_is_refused(cut: int) -> None:
    with pytest.raises(FormatError):
        list(decode(encode(GapClose(5, 6))[:-cut]))


def test_a_length_beyond_the_end_is_refused() -> None:
    blob = bytearray(encode(On(5)))
    blob[4:8] = (1 << 31).to_bytes(4, "little")
    with pytest.raises(FormatError):
        list(decode(bytes(blob)))


def test_a_body_shorter_than_its_kind_is_refused() -> None:
    with pytest.raises(FormatError):
        list(decode((11).to_bytes(2, "little") + (1).to_bytes(2, "little") + (4).to_bytes(4, "little") + bytes(8)))
