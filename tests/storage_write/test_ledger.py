"""The ledger says of every deleted chunk what it was, why it went, since when it is out of sight and since when it is gone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import Camera, Rig, tape

from recorder.base.config import RetentionRule
from recorder.base.media import DeletionCause
from storage.items import Deletion, Erased
from storage.ledger import LedgerRecord, ledger_path, records, seek

Make = Callable[..., Rig]
CHUNK = 16 << 20
NS = 1_000_000_000


def written(rig: Rig) -> list[LedgerRecord]:
    fd = os.open(rig.path / ledger_path(0), os.O_RDONLY)
    try:
        return list(records(fd))
    finally:
        os.close(fd)


def deletions(rig: Rig) -> dict[int, Deletion]:
    found = [entry for record in written(rig) for _, entry in record.entries if isinstance(entry, Deletion)]
    assert len({one.chunk for one in found}) == len(found), "a deletion is told twice"
    return {one.chunk: one for one in found}


def erasures(rig: Rig) -> dict[int, int]:
    found = [entry for record in written(rig) for _, entry in record.entries if isinstance(entry, Erased)]
    assert len({one.chunk for one in found}) == len(found), "an erasure is told twice"
    return {one.chunk: one.time_ns for one in found}


def wait(rig: Rig, seconds: float, step_s: float = 10.0) -> None:
    while seconds > 0:
        rig.clock.advance(min(step_s, seconds))
        rig.turn()
        seconds -= step_s


def on_disk(rig: Rig, aus: list[bytes]) -> list[int]:
    """Which of these AUs can be found anywhere on the volume, in whatever file: the first, the last and some between are looked for."""
    wanted = {aus[number][:64]: number for number in sampled(aus)}
    found = set()
    for path in rig.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {number for mark, number in wanted.items() if mark in data}
    return sorted(found)


def sampled(aus: list[bytes]) -> list[int]:
    return sorted({*range(0, len(aus), 17), len(aus) - 1})


def recorded(rig: Rig, count: int = 200, **rule: float) -> tuple[Camera, list[bytes]]:
    """A camera of some chunks whose connection then ends."""
    writer, camera = rig.track(size=120_000, rule=RetentionRule(**rule))  # type: ignore[arg-type]
    rig.run(camera, count)
    writer.end_session(camera.session, camera.start_ns + camera.au * NS // camera.fps, "over")
    rig.turn()
    return camera, camera.sent


def test_what_days_take_is_told_and_then_gone(make_rig: Make) -> None:
    rig = make_rig()
    camera, aus = recorded(rig, days=1.0)
    wait(rig, 1000)
    end_ns = camera.start_ns + camera.au * NS // camera.fps
    rig.clock.advance(86_400 - 1000 - 30)
    expired_ns = end_ns + 86_400 * NS
    wait(rig, 600)
    told = deletions(rig)
    assert sorted(told) == list(range(len(told))) and len(told) >= 2
    work = rig.slot._works[1, "main"]
    for one in told.values():
        assert one.cause is DeletionCause.DAYS and one.why == "camera: days = 1"
        assert one.end_ns + 86_400 * NS <= one.time_ns <= one.end_ns + (86_400 + 60) * NS
        assert 0 < one.nbytes <= work.chunk_class.tape_bytes
    assert sum(one.rows for one in told.values()) == work.core.next_row
    assert sum(one.nbytes for one in told.values()) >= sum(map(len, aus))
    wait(rig, 1800)
    assert sorted(erasures(rig)) == sorted(told)
    assert max(erasures(rig).values()) <= expired_ns + 3600 * NS
    assert on_disk(rig, aus) == []


def test_stale_bytes_do_not_outlive_a_chunk_that_closed_early(make_rig: Make) -> None:
    """A file taken over by a busy track that then falls silent holds the former footage behind its few rows."""
    rig = make_rig(bytes_max=6 * CHUNK, quarantine_s=0.0)
    writer, camera = rig.track(size=120_000, rule=RetentionRule(days=30.0))
    for _ in range(90):
        camera.put(10)
        rig.turn()
        rig.clock.advance(0.4)
    work = rig.slot._works[1, "main"]
    assert work.first_chunk > 0 and work.chunk is not None and work.chunk.past is not None
    writer.end_session(camera.session, camera.start_ns + camera.au * NS // camera.fps, "over")
    wait(rig, 1800)
    assert work.chunk is None or work.chunk.past is None
    assert sorted(erasures(rig)) == sorted(deletions(rig))
    kept = tape(rig.path, rig)
    gone = camera.sent[:len(camera.sent) - len(kept)]
    assert gone and on_disk(rig, gone) == [] and on_disk(rig, kept) == sampled(kept)


def test_room_and_bytes_are_told_apart(make_rig: Make) -> None:
    rig = make_rig(bytes_max=8 * CHUNK, quarantine_s=0.0)
    _, one = rig.track(1, size=120_000, rule=RetentionRule(bytes_max=2 * CHUNK))
    for _ in range(85):
        one.put(10)
        rig.turn()
        rig.clock.advance(1)
    assert {deletion.cause for deletion in deletions(rig).values()} == {DeletionCause.BYTES}
    assert {deletion.why for deletion in deletions(rig).values()} == {f"track: bytes_max = {2 * CHUNK}"}


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 3, 8, 70])
def test_the_ledger_is_whole_after_a_crash(make_rig: Make, turns: int, power: bool) -> None:
    """Crashed at some moment between expiry and erasure, it tells each deletion and each erasure once, and the bytes are gone in the end."""
    rig = make_rig(journal_bytes=64 << 10)
    _, aus = recorded(rig, days=1.0)
    wait(rig, 1000)
    rig.clock.advance(86_400)
    for _ in range(turns):
        rig.clock.advance(10)
        rig.turn()
    rig.crash()
    if power:
        for file in rig.live.iterdir():
            file.unlink()
    again = make_rig(clock=rig.clock, journal_bytes=64 << 10)
    wait(again, 3000)
    assert sorted(deletions(again)) == sorted(erasures(again)) == list(range(len(deletions(again))))
    assert sum(one.rows for one in deletions(again).values()) == again.core().next_row
    assert on_disk(again, aus) == []


def test_a_ledger_that_lost_its_end_is_made_whole_from_the_journal(make_rig: Make) -> None:
    rig = make_rig()
    recorded(rig, days=1.0)
    wait(rig, 1000)
    rig.clock.advance(86_400)
    wait(rig, 60)
    before = deletions(rig)
    assert before
    rig.crash()
    (rig.path / ledger_path(0)).write_bytes(b"")
    again = make_rig(clock=rig.clock)
    assert deletions(again) == before


def test_damage_in_the_ledger_costs_one_record(make_rig: Make, tmp_path: Path) -> None:
    rig = make_rig(bytes_max=6 * CHUNK, quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    for _ in range(90):
        camera.put(10)
        rig.turn()
        rig.clock.advance(0.4)
    whole = written(rig)
    assert len(whole) > 4
    file = rig.path / ledger_path(0)
    data = bytearray(file.read_bytes())
    data[whole[1].at + 50] ^= 1
    file.write_bytes(data)
    assert written(rig) == [whole[0], *whole[2:]]
    fd = os.open(file, os.O_RDONLY)
    try:
        assert next(records(fd, seek(fd, whole[3].wall_ns))).wall_ns <= whole[3].wall_ns
    finally:
        os.close(fd)

