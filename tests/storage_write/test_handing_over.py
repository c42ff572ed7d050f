"""A track goes to another volume in the midst of a session: what the one it leaves does not keep for sure is taken from the queue once more."""

from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from payloads import payload
from rig import ENTRY, Camera, Rig

from bench.tapes import run_aus
from recorder._ext.auqueue import AuQueue
from recorder.base.config import RetentionRule
from recorder.base.media import NS, AuFlag, GapCause, TrackKind
from storage.events import VolumeFailed
from storage.store import TapeStore
from storage.tape import Come, TapeWriter

Make = Callable[..., Rig]
ALL = (0, 1 << 62)


@pytest.fixture
def pair(make_rig: Make, tmp_path: Path) -> tuple[Rig, Rig]:
    """Two volumes on one clock."""
    first = make_rig()
    return first, make_rig(path=tmp_path / "second", clock=first.clock)


def come(rig: Rig, source: Camera, kept_ns: int) -> TapeWriter:
    """Open the camera's track there, its session going on."""
    writer = rig.slot.open_track(1, "main", TrackKind.VIDEO, clock_rate=90_000, queue=source.queue, rule=RetentionRule(),
                                 describe=lambda _: ENTRY, come=Come(kept_ns, GapCause.DISK, "the volume has failed", source.session,
                                                                    source.start_ns, "test"))
    rig.turn()
    return writer


def read(first: Rig, second: Rig) -> tuple[list[bytes], list[tuple[int, int | None, GapCause]], list[int]]:
    """AUs over both volumes, the gaps behind the first picture, and on which volumes the pieces lie."""
    with closing(TapeStore([first.path, second.path], first.live)) as store:
        track = store.whole(1, "main")
        pieces = track.pieces(*ALL)
        found = [au.data for piece in pieces for au in run_aus(piece.tape, piece.run)]
        gaps = [(gap.start_ns, gap.end_ns, gap.cause) for gap in track.gaps(*ALL) if gap.start_ns >= pieces[0].run.start_ns]
        return found, gaps, [piece.tape.place for piece in pieces]


def published(rig: Rig, source: Camera, count: int) -> None:
    rig.run(source, count, batch=5)


def test_nothing_is_lost_with_a_disk_that_took_nothing_since_the_last_commit(pair: tuple[Rig, Rig]) -> None:
    first, second = pair
    writer, source = first.track()
    published(first, source, 110)
    for _ in range(4):
        source.put(5)
        first.turn(commit=False)                    # visible, not durable
    source.put(5)                                   # not even taken
    first.slot.give_up(OSError(5, "EIO"))
    au, kept_ns = writer.seam
    assert au == 100, "the row that was not closed and durable begins there"
    assert source.queue.rewind(au) == 100
    moved = come(second, source, kept_ns)
    published(second, source, 40)
    assert moved.counts[0] == len(source.sent) - 100
    assert read(first, second) == (source.sent, [], [0, 1])


def test_a_healthy_tape_is_left_without_a_seam(pair: tuple[Rig, Rig]) -> None:
    first, second = pair
    writer, source = first.track()
    published(first, source, 110)
    source.put(7)
    found: list[tuple[int, int]] = []
    writer.part(found.append)
    first.turn()
    ((au, kept_ns),) = found
    writer.detach()
    source.queue.rewind(au)
    first.turn()
    assert not first.slot.failed and not first.slot._works[1, "main"].attached
    moved = come(second, source, kept_ns)
    published(second, source, 40)
    assert read(first, second) == (source.sent, [], [0, 1])
    moved.part(found.append)
    second.turn()
    moved.detach()
    source.queue.rewind(found[-1][0])
    second.turn()
    come(first, source, found[-1][1])
    published(first, source, 60)
    assert read(first, second) == (source.sent, [], [0, 1, 0])
    first.close()
    second.close()
    assert read(first, second)[0] == source.sent


def test_what_the_queue_has_lost_is_a_gap_of_that_length(pair: tuple[Rig, Rig]) -> None:
    """The producer has overwritten the row's beginning: the new tape begins at the next access point."""
    first, second = pair
    writer, source = first.track(queue=AuQueue(1 << 20, 64))
    published(first, source, 110)
    while source.queue.waiting_bytes < 900_000:
        source.put(1)
    first.slot.give_up(OSError(5, "EIO"))
    au, kept_ns = writer.seam
    assert source.queue.rewind(au) > au == 100
    come(second, source, kept_ns)
    published(second, source, 60)
    found, gaps, places = read(first, second)
    assert places == [0, 1]
    assert found == source.sent[:110] + source.sent[125:], "what is readable on the failed disk, then from the next key frame on"
    assert gaps == [(source.start_ns + 110 * NS // 25, source.start_ns + 125 * NS // 25, GapCause.DISK)]


def test_a_writer_that_hung_makes_nothing_visible_once_its_queue_is_gone(pair: tuple[Rig, Rig]) -> None:
    """It comes back from the disk after another has taken the queue: what it wrote then may not be what was meant."""
    first, second = pair
    writer, source = first.track()
    published(first, source, 50)
    source.put(5)
    before = first.core().counts, first.core().next_row, first.core().tape_end
    source.queue.rewind(writer.seam[0])
    first.slot.pass_once()
    assert first.slot.failed and isinstance(first.events[-1], VolumeFailed)
    assert (first.core().next_row, first.core().tape_end) == before[1:]
    come(second, source, writer.seam[1])
    published(second, source, 20)
    assert read(first, second)[0] == source.sent


def test_the_failed_volume_shows_the_same_after_it_has_recovered(pair: tuple[Rig, Rig], make_rig: Make) -> None:
    first, second = pair
    writer, source = first.track()
    published(first, source, 110)
    source.put(5)
    first.turn(commit=False)
    first.slot.give_up(OSError(5, "EIO"))
    au, kept_ns = writer.seam
    source.queue.rewind(au)
    moved = come(second, source, kept_ns)
    published(second, source, 60)
    first.crash()
    again = make_rig(path=first.path, clock=first.clock)
    assert read(again, second) == (source.sent, [], [0, 1])
    moved.end_session(source.session, second.clock.wall_ns(), "gone")
    moved.open_gap(GapCause.OFFLINE)
    second.turn()
    gaps = read(again, second)[1]
    assert [(end, cause) for _, end, cause in gaps] == [(None, GapCause.OFFLINE)], "not the crash of the tape that was left"


def filled(count: int, *, max_aus: int = 64, size: int = 1000, flags: int = 0) -> AuQueue:
    """A queue from which everything was taken, by hand."""
    queue = AuQueue(1 << 16, max_aus)
    for n in range(count):
        assert queue.append(payload(1, n, size), n, n, n * NS, 0, 1, flags=flags)
        queue.take()
    return queue


def test_a_queue_goes_back_as_far_as_its_aus_are_whole() -> None:
    for count, wanted, first in ((30, 10, 10), (30, 30, 30), (30, 99, 30), (100, 0, 100 - 63), (30, 0, 1)):
        queue = filled(count)
        assert queue.rewind(wanted) == first
        assert [data for _, data in queue.take()] == [payload(1, n, 1000) for n in range(first, count)]
    queue = filled(100, max_aus=1024)
    first = queue.rewind(0)
    assert 100 - 65 <= first <= 100 - 60 and queue.waiting_aus == 100 - first, "65,536 bytes hold no more"
    assert [data for _, data in queue.take()] == [payload(1, n, 1000) for n in range(first, 100)]


def test_a_queue_does_not_go_back_to_a_first_guess_of_time() -> None:
    queue = filled(20, flags=AuFlag.PROVISIONAL)
    assert queue.rewind(0) == 20 and queue.waiting_aus == 0


def test_the_producer_finds_no_room_where_the_queue_went_back_to() -> None:
    queue = filled(30)
    queue.rewind(1)
    put = 0
    while queue.append(payload(1, 30 + put, 1000), put, put, put, 0, 1):
        put += 1
    assert 30 <= put <= 64
    taken = [data for _, data in queue.take()]
    assert taken == [payload(1, n, 1000) for n in range(1, 30 + put)]
    assert all(a != b for a, b in pairwise(taken))
