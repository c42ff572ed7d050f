"""The reader, the check and the leases against the product's own writer: by hand, and beside its threads."""

import os
import random
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.base.clock import SimulatedClock, SystemClock
from recorder.base.errors import Gone
from recorder.base.media import GapCause
from storage.check import check_volume
from storage.footage import row_ends
from storage.layout import PAGE, SMALL, track_path
from storage.reader import TrackReader
from tests.storage_read.real_slot import Site, Source, foreign, words


@pytest.fixture
def hand(tmp_path: Path) -> Iterator[Site]:
    """Driven by hand, twelve small chunks, no quarantine."""
    site = Site(tmp_path, clock=SimulatedClock(), bytes_max=20 << 20, quarantine_s=0)
    yield site
    site.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Site]:
    """With its threads, in real time."""
    site = Site(tmp_path, clock=SystemClock(), bytes_max=24 << 20, quarantine_s=2)
    site.slot.start()
    yield site
    site.close()


def test_every_level_of_the_check_is_clean_while_it_records_and_after(hand: Site):
    sources = [Source(hand.slot, camera, hand.clock.wall_ns()) for camera in (7, 8)]
    for turn in range(260):
        for source in sources:
            source.put(5)
        if turn == 100:
            sources[0].writer.open_gap(GapCause.STALL)
        hand.turn()
        if turn % 60 == 59:
            report = check_volume(hand.path, hand.live, level=3)
            assert report.findings == []
            assert report.chunks > 2
    edges = hand.store.track(7, "main").edges()
    assert edges.first_row > 0                      # the files have gone round
    hand.slot.close()
    for _ in range(2):
        report = check_volume(hand.path, hand.live, level=3)
        assert report.findings == []
        assert report.rows > 50
        for file in hand.live.iterdir():
            file.unlink()


def test_a_damaged_byte_is_found_in_what_the_writer_wrote(hand: Site):
    source = Source(hand.slot, 7, hand.clock.wall_ns())
    for _ in range(40):
        source.put(5)
        hand.turn()
    path = hand.path / track_path(7, "main") / "c/0"
    with path.open("r+b") as file:
        file.seek(PAGE + 1000)
        file.write(b"\x00\x01\x02")
    assert check_volume(hand.path, hand.live, level=1).findings == []
    found = check_volume(hand.path, hand.live, level=2).findings
    assert [finding.what for finding in found] == ["its bytes in chunk 0 do not match their CRC"]
    assert len(check_volume(hand.path, hand.live, level=3).findings) == 2


def test_slow_and_stopped_readers_get_no_foreign_byte_through_five_laps(hand: Site):
    """20 kB a second from the oldest footage, and a reader that has stopped with a lease in its hand."""
    sources = [Source(hand.slot, camera, hand.clock.wall_ns()) for camera in (7, 8)]
    for _ in range(60):
        for source in sources:
            source.put(5)
        hand.turn()
    track = hand.store.track(7, "main")
    first = track.edges().tail_offset
    stopped = track.open_chunk(track.chunk_of(first))
    held = os.fstat(stopped._fd).st_ino
    slow, at = track.open_chunk(track.chunk_of(first)), first
    wrong = read = gone = 0
    stop = 12 * 5 * SMALL.tape_bytes // 2           # five times what the volume holds
    while track.edges().visible_offset < stop:
        for source in sources:
            source.put(10)
        hand.turn()
        buffer = bytearray(20_000)
        try:
            got = slow.read(buffer, at)
            slow.renew()
        except (Gone, ValueError):
            gone += 1
            slow.close()
            row = track.rows_from(0, 1).rows[0]
            at = int(row["offset"])
            slow = track.open_chunk(track.chunk_of(at))
            continue
        wrong += foreign(bytes(buffer[:got - got % 8]), 7, zeros=True)
        read += got
        at += got
    assert wrong == 0
    assert read > 1_000_000
    assert gone > 3
    assert track.edges().tail_offset > first + 5 * SMALL.tape_bytes
    with pytest.raises(Gone):
        stopped.read(bytearray(100), first)
    assert foreign(os.pread(stopped._fd, 80_000, PAGE), 7, zeros=True) == 0      # the held file was never given to anybody
    assert os.fstat(stopped._fd).st_ino == held
    stopped.close()
    slow.close()


def judge(track: TrackReader, camera: int, rng: random.Random) -> int:
    """Look at the newest rows and at random ones; returns the bytes that were compared."""
    edges = track.edges()
    assert edges.durable_offset <= edges.visible_offset
    assert edges.first_ns <= edges.durable_end_ns <= edges.visible_end_ns
    number = rng.choice((edges.next_row - 3, rng.randint(edges.first_row, edges.next_row)))
    run = track.rows_from(max(number, edges.first_row), 5)
    if not len(run):
        return 0
    assert (row_ends(run.rows)[:-1] == run.rows["t_ns"][1:]).all()
    try:
        found = track.entries(run)
    except Gone:
        return 0
    pick = rng.randrange(len(found))
    offset, size = int(found.offset[pick]), int(found.size[pick])
    try:
        with track.open_chunk(track.chunk_of(offset)) as lease:
            buffer = bytearray(size)
            assert lease.read(buffer, offset) == size
    except Gone:
        return 0
    first = struct.unpack_from("<Q", buffer)[0] & (1 << 48) - 1
    assert bytes(buffer) == words(camera, first, size)
    assert first * 100 * 8 == int(found.pts[pick])
    return size


@pytest.mark.live
def test_reading_and_checking_beside_the_writers_threads(running: Site):
    sources = [Source(running.slot, camera, time.time_ns(), ms=100, size=8000) for camera in (7, 8)]
    done = threading.Event()

    def feed() -> None:
        while not done.wait(0.01):
            for source in sources:
                source.put(3)

    feeder = threading.Thread(target=feed)
    feeder.start()
    rng, compared, looks = random.Random(4), 0, 0
    try:
        until = time.monotonic() + 8
        while time.monotonic() < until:
            for camera in (7, 8):
                if len((track := running.store.track(camera, "main")).rows_from(0, 1)):
                    compared += judge(track, camera, rng)
                    looks += 1
            if looks % 500 == 499:
                assert check_volume(running.path, running.live, level=2).findings == []
    finally:
        done.set()
        feeder.join()
    assert looks > 50
    assert compared > 100_000
    assert check_volume(running.path, running.live, level=3).findings == []
