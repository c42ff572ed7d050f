"""Every instant is in a span or in a gap, and the figures add up."""

import numpy as np
import pytest

from recorder.base.errors import NotFound, Refused
from recorder.base.media import NS, GapCause, RowFlag, TrackKind
from storage import items
from storage.store import TapeStore
from storage.timeline import UNEXPLAINED
from tests.storage_read.reference_writer import BASE_NS, ENTRY_H264, RefTrack, RefVolume, gop

S = NS


def second(track: RefTrack, count: int = 1, **options: int) -> None:
    for _ in range(count):
        track.write_row(gop(5, size=50, key=60, dur=18_000), **options)


def bounds(things: list) -> list[tuple[int, int | None]]:
    return [((one.start_ns - BASE_NS) // S, None if one.end_ns is None else (one.end_ns - BASE_NS) // S) for one in things]


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    return volume.track(7, "main", TrackKind.AUDIO)


def test_spans_gaps_and_completeness(store: TapeStore, track: RefTrack):
    second(track, 100)
    track.gap(20)
    second(track, 80)
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 200 * S, 50 * S)
    assert bounds(found.spans) == [(0, 100), (120, 200)]
    assert bounds(found.gaps) == [(100, 120)]
    assert found.gaps[0].cause is GapCause.OFFLINE
    assert (found.covered // S).tolist() == [50, 50, 30, 50]
    assert found.completeness == 0.9
    assert found.nbytes.sum() == sum(int(np.frombuffer(r[24:28], "<u4")[0]) for r in track.rows)


def test_an_open_gap_counts_to_the_end_of_the_question(store: TapeStore, track: RefTrack):
    second(track, 10)
    track.log(items.GapOpen(track.next_ns, GapCause.STALL, "no RTP for 10 s"))
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 40 * S)
    assert bounds(found.gaps) == [(10, None)]
    assert found.gaps[0].detail == "no RTP for 10 s"
    assert found.completeness == 0.25
    track.log(items.GapOpen(track.next_ns, GapCause.OFFLINE))
    assert [gap.cause for gap in store.track(7, "main").gaps(BASE_NS, BASE_NS + 40 * S)] == [GapCause.OFFLINE]


def test_a_camera_that_never_delivered_has_a_gap_and_no_footage(store: TapeStore, track: RefTrack):
    track.log(items.GapOpen(BASE_NS + 10 * S, GapCause.REFUSED))
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 20 * S)
    assert (bounds(found.gaps), found.spans, found.completeness, found.expected_ns) == ([(10, None)], [], 0.0, 10 * S)


def test_time_before_the_first_and_after_the_newest_footage_is_not_expected(store: TapeStore, track: RefTrack):
    second(track, 10)
    found = store.track(7, "main").timeline(BASE_NS - 100 * S, BASE_NS + 100 * S)
    assert (found.completeness, found.expected_ns, found.gaps) == (1.0, 10 * S, [])
    assert bounds(found.spans) == [(0, 10)]
    for start, end in ((-20, -10), (50, 60)):
        empty = store.track(7, "main").timeline(BASE_NS + start * S, BASE_NS + end * S)
        assert (empty.spans, empty.gaps, empty.expected_ns, empty.completeness) == ([], [], 0, 1.0)


def test_a_hole_that_nobody_wrote_down_is_still_a_gap(store: TapeStore, track: RefTrack):
    second(track, 10)
    track.next_ns += 5 * S
    track.gap(5)
    track.next_ns += 5 * S
    second(track, 10)
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 35 * S)
    assert bounds(found.gaps) == [(10, 15), (15, 20), (20, 25)]
    assert [gap.detail for gap in found.gaps] == [UNEXPLAINED, "", UNEXPLAINED]
    assert found.covered_ns + sum((gap.end_ns or 0) - gap.start_ns for gap in found.gaps) == found.expected_ns == 35 * S


def test_rounding_between_rows_is_no_gap(store: TapeStore, track: RefTrack):
    for _ in range(100):
        second(track)
        track.next_ns += 9_999_999
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 100 * S)
    assert len(found.spans) == 1
    assert found.completeness == 1.0


def test_damage_is_joined_and_lies_in_its_span(store: TapeStore, track: RefTrack):
    second(track, 5)
    second(track, 3, flags=int(RowFlag.DAMAGED))
    second(track, 2)
    track.gap(10)
    second(track, 1, flags=int(RowFlag.DAMAGED))
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 21 * S, 10 * S)
    assert [tuple(((a - BASE_NS) // S, (b - BASE_NS) // S) for a, b in span.damaged) for span in found.spans] == [((5, 8),), ((20, 21),)]
    assert (found.damaged // S).tolist() == [3, 0, 1]
    assert found.damaged_ns == 4 * S


def test_damage_across_blocks_of_rows_is_one_range(store: TapeStore, track: RefTrack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("storage.timeline.BLOCK_ROWS", 16)
    second(track, 200, flags=int(RowFlag.DAMAGED))
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 200 * S)
    assert [len(span.damaged) for span in found.spans] == [1]
    assert found.spans[0].damaged == ((BASE_NS, BASE_NS + 200 * S),)


def test_spans_are_cut_to_the_range_and_gaps_are_not(store: TapeStore, track: RefTrack):
    second(track, 10)
    track.gap(10)
    second(track, 10)
    found = store.track(7, "main").timeline(BASE_NS + 5 * S, BASE_NS + 15 * S)
    assert bounds(found.spans) == [(5, 10)]
    assert bounds(found.gaps) == [(10, 20)]
    assert found.completeness == 0.5


def test_a_gap_left_open_by_a_crash_ends_where_the_next_begins(store: TapeStore, track: RefTrack):
    second(track, 10)
    track.log(items.GapOpen(BASE_NS + 10 * S, GapCause.OFFLINE), items.GapOpen(BASE_NS + 15 * S, GapCause.CRASH),
              items.GapClose(BASE_NS + 15 * S, BASE_NS + 20 * S))
    track.next_ns = BASE_NS + 20 * S
    second(track, 1)
    found = store.track(7, "main").timeline(BASE_NS, BASE_NS + 21 * S)
    assert bounds(found.gaps) == [(10, 15), (15, 20)]


def test_too_many_steps_are_refused(store: TapeStore, track: RefTrack):
    second(track, 1)
    for end, step in ((BASE_NS + S, 1), (BASE_NS + S, -1)):
        with pytest.raises(Refused):
            store.track(7, "main").timeline(BASE_NS, end, step)
    assert store.track(7, "main").timeline(BASE_NS, BASE_NS).expected_ns == 0
    assert store.track(7, "main").timeline(BASE_NS + S, BASE_NS).spans == []


def test_the_log_is_followed_and_a_new_shorter_one_is_read_from_its_start(store: TapeStore, track: RefTrack, volume: RefVolume):
    reader = store.track(7, "main")
    track.log(items.SampleEntryItem(1, ENTRY_H264), items.SessionStart(5, BASE_NS, "rtsp-tcp"))
    assert reader.sample_entry(1) == ENTRY_H264
    assert reader.session(5).end_ns is None
    track.log(items.SessionEnd(5, BASE_NS + S, "stall"))
    assert (reader.session(5).end_ns, reader.session(5).end_reason, reader.session(5).transport) == (BASE_NS + S, "stall", "rtsp-tcp")
    with pytest.raises(NotFound):
        reader.sample_entry(2)
    with pytest.raises(NotFound):
        reader.session(6)
    path = track._path("log")
    path.unlink()
    track.files["log"], track.log_bytes = track._index_file("log"), 0
    track.log(items.SampleEntryItem(2, ENTRY_H264))
    assert reader.sample_entry(2) == ENTRY_H264
    with pytest.raises(NotFound):
        reader.sample_entry(1)


def test_log_bytes_beyond_the_mark_are_not_read(store: TapeStore, track: RefTrack):
    track.log(items.SampleEntryItem(1, ENTRY_H264))
    mark = track.log_bytes
    track.log(items.SampleEntryItem(2, ENTRY_H264))
    track.log_bytes = mark
    track.show()
    reader = store.track(7, "main")
    with pytest.raises(NotFound):
        reader.sample_entry(2)
    assert reader.sample_entry(1) == ENTRY_H264
