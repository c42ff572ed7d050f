"""What must go goes, in time and not before; what is recycled shows no byte of its past."""

import errno
import fcntl
import os
from collections.abc import Callable

import numpy as np
import pytest
import zarr
from rig import Rig, tape

from recorder.base.config import RetentionRule
from recorder.base.media import DeletionCause, TrackKind
from storage import retention
from storage.check import check_volume
from storage.chunkfile import read_footer, read_head
from storage.events import Retired, Starved
from storage.items import TailMove
from storage.layout import LARGE, PAGE, ROW
from storage.tapebook import TapeBook, row_end_ns

Make = Callable[..., Rig]
DAY = 86_400.0


def chunks(rig: Rig, camera: int = 1, name: str = "main") -> list[int]:
    return sorted(int(p.name) for p in (rig.path / f"tape.zarr/cam-{camera}/{name}/c").iterdir())


def test_rows_go_when_their_days_are_over_and_not_before(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(rule=RetentionRule(days=1.0))
    rig.run(camera, 250)
    rig.clock.advance(DAY + 3.5)
    rig.turn()
    rig.turn()
    first = rig.core().tail_row
    assert first == 3, "rows that ended more than a day ago, and no other"
    raw = rig.slot._works[1, "main"].row(first)
    assert raw is not None and row_end_ns(raw) > rig.clock.wall_ns() - int(DAY * 1e9)


@pytest.mark.parametrize(("lost", "tail"), [(range(2, 8), 2), (range(3), 3), (range(1, 2), 3)],
                         ids=["up to rows that stay", "all of them expired", "one in between"])
def test_rows_that_cannot_be_read_go_with_the_next_one_that_has_expired(make_rig: Make, monkeypatch: pytest.MonkeyPatch, lost: range,
                                                                        tail: int) -> None:
    rig = make_rig()
    _, camera = rig.track(rule=RetentionRule(days=1.0))
    rig.run(camera, 250)
    rig.clock.advance(DAY + 3.5)
    read = TapeBook.ring_row
    with monkeypatch.context() as damaged:
        damaged.setattr(TapeBook, "ring_row", lambda book, number: None if number in lost else read(book, number))
        limit_ns = rig.clock.wall_ns() - int(DAY * 1e9)
        assert retention.expired_row(rig.slot._works[1, "main"], limit_ns) == tail
    assert retention.expired_row(rig.slot._works[1, "main"], limit_ns) == 3


def test_a_stray_file_where_a_chunk_is_to_come_is_kept_under_another_name(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(size=120_000)
    rig.run(camera, 20)
    folder = rig.path / "tape.zarr/cam-1/main/c"
    stray = folder / str(max(chunks(rig)) + 1)
    stray.write_bytes(b"somebody's footage")
    rig.run(camera, 300)
    kept = [path for path in folder.iterdir() if path.name.startswith(f"{stray.name}.found-")]
    assert [path.read_bytes() for path in kept] == [b"somebody's footage"]
    assert stray.stat().st_size == LARGE.file_bytes and not rig.slot.failed
    assert [finding.what for finding in check_volume(rig.path, rig.live, level=3).findings] == ["is no chunk"]


def test_check_finds_nothing_wrong_with_a_chunk_of_which_some_rows_have_expired(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(size=120_000, rule=RetentionRule(days=1.0))
    rig.run(camera, 150)
    rig.clock.advance(DAY + 2.5)
    rig.turn()
    rig.turn()
    assert rig.core().tail_row and rig.slot._works[1, "main"].first_chunk == 0 and 0 in chunks(rig)
    with (rig.path / "tape.zarr/cam-1/main/c/0").open("rb") as file:
        assert read_head(file.fileno(), "c/0").sealed
    assert not check_volume(rig.path, rig.live, level=3).findings
    with (rig.path / "tape.zarr/cam-1/main/c/0").open("r+b") as file:
        file.seek(PAGE + rig.core().tail_offset)
        file.write(b"no footage")
    assert check_volume(rig.path, rig.live, level=3).findings, "rows that are kept are still checked"


def test_the_last_chunk_of_a_volume_that_fell_silent_goes_too(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track(rule=RetentionRule(days=1.0))
    rig.run(camera, 250)
    writer.end_session(camera.session, rig.clock.wall_ns(), "over")
    for _ in range(3):
        rig.clock.advance(DAY)
        rig.turn()
        rig.turn()
    for _ in range(6):
        rig.clock.advance(20)
        rig.turn()
    assert 0 not in chunks(rig), "no record came after the one that says it is sealed"


def test_the_oldest_chunks_are_recycled_when_the_volume_is_full(make_rig: Make) -> None:
    rig = make_rig(bytes_max=5 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    for _ in range(90):
        camera.put(10)
        rig.turn()
        rig.clock.advance(0.4)
    kept = tape(rig.path, rig)
    assert kept == camera.sent[-len(kept):] and 100 < len(kept) < len(camera.sent)
    assert any(isinstance(e, Retired) for e in rig.events)
    files = list((rig.path / "tape.zarr/cam-1/main/c").iterdir()) + list((rig.path / "slot-0/pool").iterdir()) + list(
        (rig.path / "slot-0/quarantine").iterdir())
    assert sum(f.stat().st_size for f in files) <= 5 * (16 << 20)
    assert chunks(rig)[0] == rig.slot._works[1, "main"].first_chunk


def chunk_bytes(rig: Rig) -> int:
    """What all chunk files of the slot take."""
    folders = ("tape.zarr/cam-1/main/c", "slot-0/pool", "slot-0/quarantine")
    return sum(file.stat().st_size for folder in folders for file in (rig.path / folder).iterdir())


def test_a_slot_shrinks_to_its_share_when_another_comes_to_the_volume(make_rig: Make) -> None:
    rig = make_rig(bytes_max=10 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    for _ in range(130):
        camera.put(10)
        rig.turn()
    assert chunk_bytes(rig) > 8 * (16 << 20)
    rig.close()
    again = make_rig(bytes_max=10 * (16 << 20), quarantine_s=0.0, sharers=2)
    _, second = again.track(size=120_000)
    for _ in range(60):
        second.put(10)
        again.turn()
        again.clock.advance(0.4)
    kept = tape(again.path, again)
    assert kept == (camera.sent + second.sent)[-len(kept):] and len(second.sent) == 600
    assert chunk_bytes(again) <= 5 * (16 << 20)


def test_a_full_disk_is_tried_again(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC lowers what the slot dares to take; when another slot has shrunk, the room is there again."""
    rig = make_rig()

    def full(fd: int, start: int, count: int) -> None:
        if count == LARGE.file_bytes:
            raise OSError(errno.ENOSPC, "full")
        fallocate(fd, start, count)

    fallocate = os.posix_fallocate
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        _, camera = rig.track()
        rig.turn()
        assert rig.slot._pool.limit_bytes == 0
    rig.clock.advance(30)
    rig.turn()
    rig.run(camera, 20)
    assert tape(rig.path, rig) == camera.sent


def test_a_track_keeps_to_its_bytes(make_rig: Make) -> None:
    rig = make_rig(quarantine_s=0.0)
    _, camera = rig.track(size=120_000, rule=RetentionRule(bytes_max=3 * (16 << 20)))
    for _ in range(80):
        camera.put(10)
        rig.turn()
        rig.clock.advance(1)
    rig.clock.advance(30)
    rig.turn()
    rig.turn()
    assert len(chunks(rig)) <= 4


def test_a_chunk_that_is_read_is_not_cleared(make_rig: Make) -> None:
    rig = make_rig(quarantine_s=60.0)
    _, camera = rig.track(size=120_000, rule=RetentionRule(bytes_max=2 * (16 << 20)))
    rig.run(camera, 60)
    reader = os.open(rig.path / "tape.zarr/cam-1/main/c/0", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    head = read_head(reader, "held")
    for _ in range(50):
        camera.put(10)
        rig.turn()
        rig.clock.advance(1)
    rig.clock.advance(61)
    rig.turn()
    assert 0 not in chunks(rig) and read_head(reader, "held") == read_head(reader, "held")
    assert read_head(reader, "held").camera == head.camera == 1, "cleared under a reader's lock"
    fcntl.flock(reader, fcntl.LOCK_UN)
    rig.turn()
    assert read_head(reader, "held").camera == 0
    os.close(reader)


def test_nothing_is_cleared_before_its_quarantine_is_over(make_rig: Make) -> None:
    rig = make_rig(quarantine_s=60.0, bytes_max=4 * (16 << 20))
    _, camera = rig.track(size=120_000)
    for _ in range(60):
        camera.put(10)
        rig.turn()
    assert any(isinstance(e, Starved) for e in rig.events), "the pool is empty and quarantine not over"
    waiting = os.listdir(rig.path / "slot-0/quarantine")
    assert waiting
    rig.clock.advance(59)
    rig.turn()
    assert os.listdir(rig.path / "slot-0/quarantine") == waiting
    rig.clock.advance(2)
    for _ in range(3):
        rig.turn()
    assert set(os.listdir(rig.path / "slot-0/quarantine")) != set(waiting)
    before = rig.core().next_row
    rig.run(camera, 50)
    assert rig.core().next_row > before


def test_a_generation_only_grows(make_rig: Make) -> None:
    rig = make_rig(bytes_max=4 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    seen: dict[int, int] = {}
    for _ in range(90):
        camera.put(10)
        rig.turn()
        for path in (rig.path / "tape.zarr/cam-1/main/c").iterdir():
            fd = os.open(path, os.O_RDONLY)
            generation = read_head(fd, "x").generation
            inode = os.fstat(fd).st_ino
            os.close(fd)
            assert generation >= seen.get(inode, 0)
            seen[inode] = generation
    assert max(seen.values()) >= 2


def test_a_recycled_chunk_serves_no_stale_byte_through_zarr(make_rig: Make) -> None:
    rig = make_rig(bytes_max=4 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    for _ in range(75):
        camera.put(10)
        rig.turn()
    work = rig.slot._works[1, "main"]
    array = zarr.open_array(rig.path / "tape.zarr/cam-1/main", mode="r")
    rows = np.frombuffer(b"".join(work.row(n) or b"" for n in range(work.core.tail_row, work.core.next_row)), ROW)
    assert work.chunk is not None
    base = work.chunk.number * LARGE.tape_bytes
    got = np.asarray(array[base:base + LARGE.tape_bytes])
    marked = work.core.used // LARGE.inner_bytes * LARGE.inner_bytes
    raw = (rig.path / f"tape.zarr/cam-1/main/c/{work.chunk.number}").read_bytes()[PAGE:]
    assert bytes(got[:marked]) == raw[:marked] and not got[marked:].any()
    start = (work.chunk.number - 1) * LARGE.tape_bytes
    used = max(int(r["offset"]) + int(r["bytes"]) for r in rows if start <= int(r["offset"]) < base) - start
    old = np.asarray(array[start:base])
    assert not old[used:].any(), "bytes behind the last row of a sealed chunk"


def test_a_sealed_chunk_proves_its_rows(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(size=120_000)
    rig.run(camera, 200)
    work = rig.slot._works[1, "main"]
    fd = os.open(rig.path / "tape.zarr/cam-1/main/c/0", os.O_RDONLY)
    head = read_head(fd, "c/0")
    footer = read_footer(fd, head, "c/0")
    os.close(fd)
    assert head.sealed and footer.digest() == head.digest and len(footer.leaves) == 32 * head.rows
    assert b"".join(work.row(n) or b"" for n in range(head.rows)) == footer.rows.tobytes()


def test_a_quiet_track_closes_its_chunk_by_time(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=900.0)
    writer, audio = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=10, size=500)
    rig.run(audio, 30)
    rig.clock.advance(901)
    rig.turn()
    audio.put(5)
    for _ in range(3):
        rig.turn()
    fd = os.open(rig.path / "tape.zarr/cam-1/audio/c/0", os.O_RDONLY)
    assert read_head(fd, "c/0").sealed
    os.close(fd)
    writer.end_session(1, rig.clock.wall_ns(), "over")
    rig.clock.advance(901)
    for _ in range(4):
        rig.turn()
    assert rig.slot._works[1, "audio"].chunk is None, "a chunk must not stay open without AUs either"
    assert tape(rig.path, rig, 1, "audio") == audio.sent


def test_a_damaged_chunk_does_not_stop_the_ring(make_rig: Make) -> None:
    rig = make_rig(bytes_max=5 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    rig.run(camera, 150)
    with (rig.path / "tape.zarr/cam-1/main/c/0").open("r+b") as file:
        file.seek(2048)
        file.write(bytes(64))
    for _ in range(80):
        camera.put(10)
        rig.turn()
    assert 0 not in chunks(rig) and rig.core().tail_row > 0
    assert tape(rig.path, rig)[-1] == camera.sent[-1]


def test_a_damaged_oldest_chunk_is_judged_once(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 16 heads were read twice a second for as long as it was the oldest."""
    rig = make_rig(bytes_max=12 * (16 << 20), quarantine_s=0.0)
    _, camera = rig.track(size=120_000)
    rig.run(camera, 600)
    for number in (0, 1):
        with (rig.path / f"tape.zarr/cam-1/main/c/{number}").open("r+b") as file:
            file.seek(2048)
            file.write(bytes(64))
    work = rig.slot._works[1, "main"]
    row = next(n for n in range(work.core.next_row) if retention.tail_offset(work, n) > LARGE.tape_bytes + (4 << 20))
    work.first_head = None
    work.move_tail(TailMove(row, retention.tail_offset(work, row), retention.start_ns(work, row), 0, DeletionCause.DAYS, ""))
    asked: list[int] = []
    monkeypatch.setattr(retention, "chunk_head", lambda volume, work, number, read=retention.chunk_head: (
        asked.append(number), read(volume, work, number))[1])
    for _ in range(20):
        rig.turn()
    assert asked.count(2) == 1, "the next good one says where they end"
    for _ in range(150):
        camera.put(10)
        rig.turn()
    assert 0 not in chunks(rig) and rig.core().tail_row > 0
