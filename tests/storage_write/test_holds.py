"""A hold outranks everything: what is held stays to the bit, nothing else does, and recording goes on."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from held import NS, held_chunks, held_rows, hold
from rig import Camera, Rig, tape

from recorder.base.config import RetentionRule
from recorder.base.errors import Conflict, VolumeError
from recorder.base.media import DeletionCause, TrackKind
from storage import deletions
from storage.events import HeldDamaged, HoldBudget, Starved
from storage.siteholds import SiteHolds
from storage.tapebook import row_end_ns

Make = Callable[..., Rig]
SMALL_CHUNK = 1 << 20
DAY = 86_400.0
AUDIO = "audio"


def sound(rig: Rig, camera: int = 1, rule: RetentionRule | None = None) -> Camera:
    """A track whose rows are 1 s of 10 AUs, and whose chunks hold 4 of them and a part of the next."""
    return rig.track(camera, AUDIO, TrackKind.AUDIO, gop=1, fps=10, size=20_000, rule=rule)[1]


def fill(rig: Rig, *cameras: Camera, rounds: int) -> None:
    """Each round one second of each camera."""
    for _ in range(rounds):
        for camera in cameras:
            camera.put(10)
        rig.turn()
        rig.clock.advance(1)


def settle(rig: Rig, rounds: int = 4) -> None:
    for _ in range(rounds):
        rig.clock.advance(20)
        rig.turn()


def times(camera: Camera, first_s: float, last_s: float) -> tuple[int, int]:
    return camera.start_ns + round(first_s * NS), camera.start_ns + round(last_s * NS)


def aus(rig: Rig, camera: int = 1) -> list[bytes]:
    rows = held_rows(rig.path, camera, AUDIO)
    return [au for number in sorted(rows) for au in rows[number]]


def near(found: list[bytes], camera: Camera, first: int, last: int, *, row: int = 10) -> bool:
    """True if these are the AUs [first, last), and no more than the rest of the rows at both ends."""
    if not found or found[0] not in camera.sent:
        return False
    start = camera.sent.index(found[0])
    return found == camera.sent[start:start + len(found)] and first - row < start <= first and last <= start + len(found) < last + row


def files(rig: Rig) -> int:
    """Bytes of all chunk files of the slot, each counted once."""
    found = [*rig.path.glob("tape.zarr/*/*/c/*"), *rig.path.glob("slot-0/pool/*"), *rig.path.glob("slot-0/quarantine/*")]
    return sum({stat.st_ino: stat.st_size for stat in (path.stat() for path in found)}.values())


def test_held_video_outlives_the_ring_to_the_bit_and_nothing_else_does(make_rig: Make) -> None:
    rig = make_rig(bytes_max=8 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    start_ns, end_ns = times(camera, 3.0, 11.0)
    wanted: set[int] = set()
    for round_ in range(130):
        camera.put(10)
        rig.turn()
        rig.clock.advance(0.4)
        if round_ == 40:
            rig.slot.hold(hold(1, start_ns, end_ns))
            raw = {number: rig.slot._works[1, "main"].row(number) or b"" for number in range(rig.core().next_row)}
            wanted = {n for n, row in raw.items() if int.from_bytes(row[:8], "little") < end_ns and row_end_ns(row) > start_ns}
    assert rig.core().tail_row > max(wanted)
    rows = held_rows(rig.path)
    assert set(rows) == wanted, "rows that overlap the time, no other"
    assert [au for number in sorted(rows) for au in rows[number]] == camera.sent[75:75 + sum(map(len, rows.values()))]
    kept = tape(rig.path, rig)
    assert kept == camera.sent[-len(kept):]


def test_a_hold_takes_the_rows_that_its_first_row_continues(make_rig: Make) -> None:
    """A group of pictures longer than a row: without its access point nothing of it can be shown."""
    rig = make_rig(bytes_max=8 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000, gop=500)
    for round_ in range(180):
        camera.put(10)
        rig.turn()
        rig.clock.advance(0.4)
        if round_ == 60:
            rig.slot.hold(hold(1, *times(camera, 8.0, 9.0)))
    rows = held_rows(rig.path)
    assert rows and min(rows) == 0 and len(rows) < rig.core().tail_row
    kept = [au for number in sorted(rows) for au in rows[number]]
    assert kept == camera.sent[:len(kept)] and len(kept) >= 225


def test_many_laps_over_holds_on_a_third_of_the_ring(make_rig: Make) -> None:
    rig = make_rig(bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0)
    one, two = sound(rig, 1), sound(rig, 2)
    fill(rig, one, two, rounds=60)
    rig.slot.hold(hold(1, *times(one, 10, 40), cameras=(1, 2)))
    fill(rig, one, two, rounds=600)
    for camera in (one, two):
        assert near(aus(rig, camera.number), camera, 100, 400)
        kept = tape(rig.path, rig, camera.number, AUDIO)
        assert kept == camera.sent[-len(kept):]
        assert len(camera.sent) == 6600
    assert not any(isinstance(event, Starved) for event in rig.events)
    assert files(rig) == rig.slot._pool.total_bytes <= 40 * SMALL_CHUNK


def test_a_chunk_that_is_held_whole_keeps_its_file(make_rig: Make) -> None:
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=50)
    before = (rig.path / "tape.zarr/cam-1/audio/c/2").stat().st_ino
    rig.slot.hold(hold(1, *times(camera, 2, 30)))
    fill(rig, camera, rounds=150)
    assert (rig.path / "tape.zarr/cam-1/audio.held/c/2").stat().st_ino == before
    assert not (rig.path / "tape.zarr/cam-1/audio/c/2").exists()
    assert near(aus(rig), camera, 20, 300)


def test_days_pass_over_held_rows(make_rig: Make) -> None:
    rig = make_rig(bytes_max=100 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig, rule=RetentionRule(days=1.0))
    fill(rig, camera, rounds=60)
    rig.slot.hold(hold(1, *times(camera, 10.5, 21)))
    rig.clock.advance(DAY - 30)
    settle(rig, 8)
    assert rig.core(1, AUDIO).tail_row == rig.core(1, AUDIO).next_row - len(rows_left(rig))
    assert near(aus(rig), camera, 100, 210)
    rig.clock.advance(30 * DAY)
    settle(rig, 8)
    assert near(aus(rig), camera, 100, 210), "a hold has no end of its own"


def rows_left(rig: Rig) -> range:
    return range(rig.core(1, AUDIO).tail_row, rig.core(1, AUDIO).next_row)


def test_a_hold_says_what_it_found_and_what_was_gone(make_rig: Make) -> None:
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=60)
    rig.slot.hold(hold(1, *times(camera, 20, 30)))
    fill(rig, camera, rounds=120)
    tail = rig.core(1, AUDIO).tail_row
    assert tail > 60
    wide = hold(2, times(camera, 10, 0)[0], rig.clock.wall_ns() - 20 * NS)
    [found] = rig.slot.hold(wide)
    first_ns = int.from_bytes((rig.slot._works[1, AUDIO].row(tail) or b"")[:8], "little")
    assert (found.camera, found.track, found.tail_ns) == (1, AUDIO, first_ns)
    start_ns, end_ns = found.saved[0][0], found.saved[-1][1]
    assert 0 <= times(camera, 20, 0)[0] - start_ns < NS and 0 <= end_ns - times(camera, 30, 0)[0] < NS, "what another hold had kept"
    assert all(before[1] == after[0] for before, after in pairwise(found.saved))
    assert rig.slot.hold(wide) == [found], "asked again it says the same"
    rig.slot.release(hold(1, 1, 2).id, rig.clock.wall_ns(), "partner")
    fill(rig, camera, rounds=60)
    kept, first = aus(rig), (first_ns - camera.start_ns) * 10 // NS
    middle = kept.index(camera.sent[first])
    assert near(kept[:middle], camera, 200, 300), "it holds them still"
    assert kept[middle:] == camera.sent[first:first + len(kept) - middle] and len(kept) - middle > 50
    [nothing] = rig.slot.hold(hold(3, *times(camera, 0, 5)))
    assert nothing.saved == () and nothing.tail_ns > times(camera, 5, 0)[0]


def test_a_release_frees_the_files_and_the_ledger_says_so(make_rig: Make) -> None:
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=50)
    rig.slot.hold(hold(1, *times(camera, 10, 30)))
    rig.slot.hold(hold(2, *times(camera, 28, 34)))
    fill(rig, camera, rounds=120)
    assert rig.slot.release(hold(1, 1, 2).id, rig.clock.wall_ns(), "partner")
    assert not rig.slot.release(hold(1, 1, 2).id, rig.clock.wall_ns(), "partner")
    settle(rig, 2)
    assert near(aus(rig), camera, 280, 340), "what the other hold keeps stays, of the same chunk too"
    rig.slot.release(hold(2, 1, 2).id, rig.clock.wall_ns(), "partner")
    fill(rig, camera, rounds=100)
    assert held_chunks(rig, 1, AUDIO) == [] and files(rig) == rig.slot._pool.total_bytes
    rig.clock.advance(700)
    settle(rig)
    said = deletions.deletions([rig.path], deletions.Asked(), 1000)
    released = [one for one in said if one.track == "audio.held"]
    assert sum(one.rows for one in released) >= 22 and all(one.cause is DeletionCause.RELEASED for one in released)
    assert all(one.erased_ns is not None for one in released)
    rows = [one.rows for one in said if one.track == AUDIO and one.first_ns < times(camera, 40, 0)[0]]
    assert sum(rows) + sum(one.rows for one in released) >= 40 and DeletionCause.HELD not in {one.cause for one in said}
    raw = b"".join(path.read_bytes() for folder in ("pool", "quarantine") for path in (rig.path / "slot-0" / folder).iterdir())
    assert not any(au[:64] in raw for au in camera.sent[100:340])


def test_holds_survive_restarts_and_crashes(make_rig: Make) -> None:
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=50)
    rig.slot.hold(hold(1, *times(camera, 10, 1000)))
    rig.crash()
    again = make_rig(clock=rig.clock, bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    second = sound(again)
    fill(again, second, rounds=20)
    first = times(camera, 10, 0)[0]
    assert [one.id for one in again.slot.holds()] == [hold(1, 1, 2).id]
    fill(again, second, rounds=30)
    again.close()
    last = make_rig(clock=rig.clock, bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0)
    sound(last)
    everything = aus(last) + tape(last.path, last, 1, AUDIO)
    wanted = camera.sent[100:]
    assert all(au in everything for au in wanted) and first
    assert files(last) == last.slot._pool.total_bytes


def test_nothing_goes_before_the_site_has_said_what_is_held(make_rig: Make) -> None:
    site = SiteHolds()
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0, holds=site)
    camera = sound(rig)
    fill(rig, camera, rounds=120)
    assert rig.core(1, AUDIO).tail_row == 0 and any(isinstance(event, Starved) for event in rig.events)
    site.tell([hold(1, *times(camera, 4, 20))])
    fill(rig, camera, rounds=60)
    assert near(aus(rig), camera, 40, 200)
    site.change(hold(1, *times(camera, 4, 20)).released(rig.clock.wall_ns(), "partner"))
    fill(rig, camera, rounds=30)
    assert aus(rig) == [] and rig.slot.holds() == []


def test_a_hold_that_only_the_slot_knows_stands(make_rig: Make) -> None:
    """The catalogue may be an old copy; what it does not know it has not released."""
    site = SiteHolds()
    site.tell([])
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0, holds=site)
    camera = sound(rig)
    fill(rig, camera, rounds=50)
    rig.slot.hold(hold(1, *times(camera, 4, 20)))
    site.tell([])
    fill(rig, camera, rounds=120)
    assert near(aus(rig), camera, 40, 200)


def test_the_budget_is_told_level_by_level_and_recording_goes_on_beyond_it(make_rig: Make) -> None:
    rig = make_rig(bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0, hold_share=0.3)
    camera = sound(rig)
    fill(rig, camera, rounds=120)
    for number in range(14):
        rig.slot.hold(hold(number, *times(camera, 100 + 5 * number, 105 + 5 * number)))
        fill(rig, camera, rounds=5)
    fill(rig, camera, rounds=200)
    assert [event.level for event in rig.events if isinstance(event, HoldBudget)] == [60, 80, 100]
    assert rig.slot.hold_usage.saved >= rig.slot.hold_usage.budget
    assert near(aus(rig), camera, 1000, 1700)
    with pytest.raises(Conflict, match=r"holds would keep .* their budget is 0\.01 GB"):
        rig.slot.hold_room(hold(14, *times(camera, 300, 310)))
    rig.slot.hold_room(hold(13, *times(camera, 165, 170)))      # it stands
    kept = tape(rig.path, rig, 1, AUDIO)
    assert kept == camera.sent[-len(kept):] and len(camera.sent) == 3900
    for number in range(14):
        rig.slot.release(hold(number, 1, 2).id, rig.clock.wall_ns(), "partner")
    settle(rig)
    assert [event.level for event in rig.events if isinstance(event, HoldBudget)][-1] == 0
    assert rig.slot.hold_usage.saved == 0 and held_chunks(rig, 1, AUDIO) == []
    recent = times(camera, 370, 375)
    rig.slot.hold_room(hold(14, *recent))
    with pytest.raises(Conflict):
        rig.slot.hold_room(hold(14, *times(camera, 0, 10_000)))


def test_a_damaged_hold_file_stops_retention_and_says_so(make_rig: Make) -> None:
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    rig.slot.hold(hold(1, *times(camera, 4, 20)))
    rig.close()
    file = rig.path / "slot-0/holds" / f"{1:032x}.json"
    file.write_bytes(file.read_bytes()[:50])
    again = make_rig(clock=rig.clock, bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    second = sound(again)
    fill(again, second, rounds=120)
    assert again.events[0] == HeldDamaged(f"slot-0/holds/{1:032x}.json")
    assert again.core(1, AUDIO).tail_row == 0


def test_a_held_chunk_in_the_making_is_taken_up_or_thrown_away(make_rig: Make) -> None:
    """A crash between the two names: whole it takes its place, torn it goes to the pool."""
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=50)
    rig.slot.hold(hold(1, *times(camera, 2, 30)))
    fill(rig, camera, rounds=100)
    wanted, chunks = aus(rig), held_chunks(rig, 1, AUDIO)
    rig.close()
    folder = rig.path / "tape.zarr/cam-1/audio.held/c"
    (folder / str(chunks[0])).rename(folder / f"{chunks[0]}.new")
    (folder / f"{chunks[1]}.new").write_bytes((folder / str(chunks[1])).read_bytes())
    (folder / f"{chunks[-1]}.new").write_bytes(bytes(SMALL_CHUNK))
    os.truncate(folder / f"{chunks[-1]}.new", SMALL_CHUNK)
    again = make_rig(clock=rig.clock, bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    sound(again)
    assert aus(again) == wanted and held_chunks(again, 1, AUDIO) == chunks
    settle(again)
    assert files(again) == again.slot._pool.total_bytes


def test_a_hold_on_a_failed_volume_is_an_error(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig()
    camera = sound(rig)
    fill(rig, camera, rounds=2)

    def broken(self: Path, *_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("storage.holdshelf.write_file", broken)
    with pytest.raises(VolumeError):
        rig.slot.hold(hold(1, *times(camera, 0, 1)))
