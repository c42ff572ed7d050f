"""A track whose tapes lie on several volumes is one: rows, gaps and figures in order of time, whatever the order of moves."""

from collections.abc import Iterator

import numpy as np
import pytest

from recorder.base.errors import NotFound
from recorder.base.media import NS, GapCause, TrackKind
from storage import items
from storage.store import TapeStore
from storage.track import Track
from tests.storage_read.reference_writer import BASE_NS, RefTrack, RefVolume, gop

S = NS
DAY = (BASE_NS, BASE_NS + 86_400 * S)


class Two:
    """Camera 7 on two volumes: `a` and `b` are its tapes, written second by second."""

    def __init__(self, first: RefVolume, second: RefVolume) -> None:
        self.a, self.b = first.track(7, "main", TrackKind.AUDIO), second.track(7, "main", TrackKind.AUDIO)
        self.store = TapeStore([first.path, second.path], first.live_dir)
        self.track: Track = self.store.whole(7, "main")

    def write(self, tape: RefTrack, start_s: int, end_s: int) -> None:
        """One row a second from `start_s` on."""
        for at in range(start_s, end_s):
            tape.write_row(gop(5, size=50, key=60, dur=18_000), t_ns=BASE_NS + at * S)

    def seconds(self, start_s: int, end_s: int) -> list[tuple[int, int]]:
        """(place of the volume, second) of the rows that overlap a range."""
        pieces = self.track.pieces(BASE_NS + start_s * S, BASE_NS + end_s * S)
        return [(piece.tape.place, (t_ns - BASE_NS) // S) for piece in pieces for t_ns in piece.run.rows["t_ns"].tolist()]


@pytest.fixture
def two(volume: RefVolume, tmp_path) -> Iterator[Two]:
    second = RefVolume(tmp_path / "second", volume.live_dir)
    made = Two(volume, second)
    yield made
    made.store.close()
    second.volume.close()


def bounds(things: list) -> list[tuple[int, int | None]]:
    return [((one.start_ns - BASE_NS) // S, None if one.end_ns is None else (one.end_ns - BASE_NS) // S) for one in things]


def test_footage_that_went_to_and_fro_is_in_order(two: Two):
    two.write(two.a, 0, 10)
    two.write(two.b, 12, 20)
    two.write(two.a, 20, 25)
    two.write(two.b, 30, 33)
    assert two.seconds(0, 100) == [(0, s) for s in range(10)] + [(1, s) for s in range(12, 20)] + [(0, s) for s in range(20, 25)] + [
        (1, s) for s in range(30, 33)]
    assert two.seconds(15, 22) == [(1, s) for s in range(15, 20)] + [(0, 20), (0, 21)]
    assert [len(piece.run) for piece in two.track.pieces(*DAY)] == [10, 8, 5, 3]
    assert two.seconds(40, 50) == []


def test_the_tape_of_a_time_is_the_one_whose_footage_is_shown_then(two: Two):
    two.write(two.a, 5, 10)
    two.write(two.b, 12, 20)
    two.write(two.a, 20, 25)
    assert [two.track.at(BASE_NS + at * S).place for at in (0, 5, 11, 12, 19, 20, 99)] == [0, 0, 0, 1, 1, 0, 0]
    assert two.track.at(None).place == 0
    two.write(two.b, 30, 31)
    assert (two.track.at(None).place, two.track.newest.place, two.store.track(7, "main").place) == (1, 1, 1)


def test_figures_count_every_second_once(two: Two):
    two.write(two.a, 0, 10)
    two.write(two.b, 10, 20)
    two.write(two.a, 25, 30)
    found = two.track.timeline(BASE_NS, BASE_NS + 30 * S, 10 * S)
    assert (found.covered // S).tolist() == [10, 10, 5]
    assert bounds(found.spans) == [(0, 20), (25, 30)]
    assert found.nbytes.sum() == sum(int(np.frombuffer(row[24:28], "<u4")[0]) for tape in (two.a, two.b) for row in tape.rows)
    assert found.expected_ns == 30 * S


def test_a_tape_that_was_left_says_nothing_of_what_came_after(two: Two):
    """The failed volume's tape says `crash` once it has been recovered, for ever; the other one knows why, and that it went on."""
    two.write(two.a, 0, 10)
    two.a.log(items.GapOpen(BASE_NS + 8 * S, GapCause.CRASH))
    two.b.log(items.GapOpen(BASE_NS + 10 * S, GapCause.DISK), items.GapClose(BASE_NS + 10 * S, BASE_NS + 13 * S))
    two.write(two.b, 13, 20)
    found = two.track.timeline(BASE_NS, BASE_NS + 40 * S)
    assert [(gap.cause, *bound) for gap, bound in zip(found.gaps, bounds(found.gaps), strict=True)] == [
        (GapCause.CRASH, 8, 10), (GapCause.DISK, 10, 13)]
    assert found.expected_ns == 20 * S


def test_of_two_gaps_that_begin_at_once_that_of_the_tape_it_came_to_holds(two: Two):
    two.write(two.b, 0, 3)
    two.write(two.a, 3, 10)
    two.a.log(items.GapOpen(BASE_NS + 10 * S, GapCause.CRASH))
    two.b.log(items.GapOpen(BASE_NS + 10 * S, GapCause.DISK))
    assert [gap.cause for gap in two.track.gaps(BASE_NS, BASE_NS + 40 * S)] == [GapCause.DISK]
    two.b.log(items.GapClose(BASE_NS + 10 * S, BASE_NS + 13 * S))
    two.write(two.b, 13, 20)
    assert [gap.cause for gap in two.track.gaps(BASE_NS, BASE_NS + 20 * S)] == [GapCause.DISK]


def test_a_gap_that_is_open_where_it_is_recorded_now_is_open(two: Two):
    two.write(two.a, 0, 10)
    two.b.log(items.GapOpen(BASE_NS + 10 * S, GapCause.DISK), items.GapClose(BASE_NS + 10 * S, BASE_NS + 11 * S))
    two.write(two.b, 11, 20)
    two.a.log(items.GapOpen(BASE_NS + 20 * S, GapCause.OFFLINE))
    found = two.track.timeline(BASE_NS, BASE_NS + 40 * S)
    assert [(gap.cause, *bound) for gap, bound in zip(found.gaps, bounds(found.gaps), strict=True)] == [
        (GapCause.DISK, 10, 11), (GapCause.OFFLINE, 20, None)]
    assert found.completeness == 19 / 40


def test_a_hole_between_two_tapes_is_a_gap(two: Two):
    two.write(two.a, 0, 10)
    two.write(two.b, 15, 20)
    assert bounds(two.track.gaps(BASE_NS, BASE_NS + 20 * S)) == [(10, 15)]


def test_bounds_are_those_of_all_tapes(two: Two):
    two.write(two.b, 3, 10)
    assert (two.track.bounds().first_ns, two.track.bounds().visible_end_ns) == (BASE_NS + 3 * S, BASE_NS + 10 * S)
    two.write(two.a, 10, 12)
    two.a.commit()
    found = two.track.bounds()
    assert (found.first_ns, found.visible_end_ns, found.durable_end_ns) == (BASE_NS + 3 * S, BASE_NS + 12 * S, BASE_NS + 12 * S)
    assert not found.retired


def test_a_tape_is_found_by_its_volumes_place(two: Two):
    assert [two.store.tape(7, "main", place).place for place in (0, 1)] == [0, 1]
    for place in (-1, 2):
        with pytest.raises(NotFound):
            two.store.tape(7, "main", place)
    with pytest.raises(NotFound):
        two.store.tape(7, "sub", 0)
