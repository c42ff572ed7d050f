"""A reader holds what it reads, lets go in time, and never gets a byte of what comes after."""

import fcntl
import os

import pytest

from recorder.base.errors import FormatError, Gone
from recorder.base.media import TrackKind
from storage import chunklease
from storage.layout import PAGE, SMALL, track_path
from storage.store import TapeStore
from tests.storage_read.reference_writer import Au, RefTrack, RefVolume, payload

BIG = [Au(200_000, 90_000, 0, 1)]


def fill(volume: RefVolume, rows: int, camera: int = 7) -> RefTrack:
    track = volume.track(camera, "main", TrackKind.AUDIO)
    for _ in range(rows):
        track.write_row(BIG)
    track.commit()
    return track


def test_reads_end_at_the_chunk_and_begin_inside(store: TapeStore, volume: RefVolume):
    fill(volume, 9)
    track = store.track(7, "main")
    with track.open_chunk(0) as lease:
        buffer = bytearray(SMALL.tape_bytes)
        assert lease.read(buffer, 5) == SMALL.tape_bytes - 5
        assert bytes(buffer[:799_000]) == payload(7, 5, 799_000)
        for offset in (SMALL.tape_bytes, -1):
            with pytest.raises(ValueError):
                lease.read(buffer, offset)
    with track.open_chunk(1) as lease:
        with pytest.raises(ValueError):
            lease.read(buffer, 0)
        assert lease.read(memoryview(buffer)[:1000], SMALL.tape_bytes) == 1000
        assert bytes(buffer[:1000]) == payload(7, SMALL.tape_bytes, 1000)


def test_warm_bytes_come_without_waiting_and_cold_ones_are_told(store: TapeStore, volume: RefVolume, monkeypatch: pytest.MonkeyPatch):
    fill(volume, 3)
    with store.track(7, "main").open_chunk(0) as lease:
        buffer = bytearray(1000)
        assert lease.read(buffer, 0, nowait=True) == 1000
        assert bytes(buffer) == payload(7, 0, 1000)

        def cold(*args: object) -> int:
            raise BlockingIOError

        monkeypatch.setattr(os, "preadv", cold)
        assert lease.read(buffer, 0, nowait=True) == -1

        def unable(*args: object) -> int:
            raise OSError(95, "not supported")

        monkeypatch.setattr(os, "preadv", unable)
        assert lease.read(buffer, 0, nowait=True) == -1

        def broken(*args: object) -> int:
            raise OSError(5, "input/output error")

        monkeypatch.setattr(os, "preadv", broken)
        with pytest.raises(OSError, match="input/output"):
            lease.read(buffer, 0, nowait=True)


def test_a_held_chunk_cannot_be_cleared_and_a_released_one_can(store: TapeStore, volume: RefVolume):
    written = fill(volume, 9)
    lease = store.track(7, "main").open_chunk(0)
    assert not written.retire()
    with pytest.raises(Gone):
        lease.read(bytearray(10), 0)
    lease.close()
    lease.close()
    assert volume.pool == []
    written.write_row(BIG)


def test_a_renewed_lease_never_reads_what_the_file_has_become(store: TapeStore, volume: RefVolume):
    written = fill(volume, 9)
    lease = store.track(7, "main").open_chunk(0)
    fcntl.flock(lease._fd, fcntl.LOCK_UN)             # as between two leases
    assert written.retire()
    other = fill(volume, 1, camera=8)                 # takes the file out of the pool
    assert os.fstat(other.chunks[0].fd).st_ino == os.fstat(lease._fd).st_ino
    with pytest.raises(Gone):
        lease.renew()
    assert lease._fd == -1


def test_the_same_number_in_a_later_life_of_the_file_is_not_the_same_chunk(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3)
    lease = store.track(7, "main").open_chunk(0)
    written.chunks[0].generation += 1
    written._write_head(written.chunks[0])
    with pytest.raises(Gone):
        lease.renew()


@pytest.mark.parametrize("change", [{"camera": 8}, {"track": b"sub"}, {"chunk": 3}])
def test_the_head_decides_not_the_name(store: TapeStore, volume: RefVolume, change: dict[str, object]):
    written = fill(volume, 3)
    written._write_head(written.chunks[0], **change)
    with pytest.raises(Gone):
        store.track(7, "main").open_chunk(0)


def test_a_damaged_head_is_an_error(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3)
    os.pwrite(written.chunks[0].fd, b"\xff", 2060)
    with pytest.raises(FormatError, match="chunk 0"):
        store.track(7, "main").open_chunk(0)


def test_a_symlink_is_not_followed(store: TapeStore, volume: RefVolume, tmp_path):
    fill(volume, 3)
    path = volume.path / track_path(7, "main") / "c"
    os.rename(path / "0", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", path / "0")
    with pytest.raises(OSError, match="symbolic"):
        store.track(7, "main").open_chunk(0)


def test_a_lease_is_renewed_after_its_bytes_and_after_its_time(store: TapeStore, volume: RefVolume, monkeypatch: pytest.MonkeyPatch):
    fill(volume, 3)
    monkeypatch.setattr(chunklease, "LEASE_BYTES", 25_000)
    lease = store.track(7, "main").open_chunk(0)
    renewals: list[int] = []
    monkeypatch.setattr(chunklease.ChunkLease, "renew", lambda self: (renewals.append(1), setattr(self, "_bytes", 0)))
    for _ in range(5):
        lease.read(bytearray(10_000), 0)
    assert len(renewals) == 2
    lease._until_ns = 0
    lease.read(bytearray(10), 0)
    assert len(renewals) == 3
    lease.close()


def test_a_lock_held_for_clearing_means_gone_not_waiting(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3)
    fd = os.open(volume.path / track_path(7, "main") / "c/0", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(Gone):
        store.track(7, "main").open_chunk(0)
    os.close(fd)
    assert written.chunks[0].number == 0


def test_no_descriptor_is_left_after_errors(store: TapeStore, volume: RefVolume):
    written = fill(volume, 9)
    track = store.track(7, "main")
    track.open_chunk(0).close()
    before = len(os.listdir("/proc/self/fd"))
    for chunk in (5, 77):
        with pytest.raises(Gone):
            track.open_chunk(chunk)
    written.retire(clear=False)
    with pytest.raises(Gone):
        track.open_chunk(0)
    assert len(os.listdir("/proc/self/fd")) == before
    assert PAGE == 4096


def test_slow_readers_through_five_laps_get_no_foreign_byte(store: TapeStore, volume: RefVolume):
    """A 20 kB/s reader and a stopped one on the oldest footage, while the files go round through two cameras."""
    mine, other = fill(volume, 12), fill(volume, 12, camera=8)
    track = store.track(7, "main")
    stopped, slow, at = track.open_chunk(0), track.open_chunk(0), 0
    foreign = checked = 0
    inodes: set[int] = set()
    for _ in range(60):                              # one turn: 200 kB recorded per camera, 20 kB read
        for written in (mine, other):
            written.write_row(BIG)
            written.commit()
            if len(written.chunks) > 3:
                written.retire()
            inodes.add(os.fstat(written.chunks[-1].fd).st_ino)
        try:
            buffer = bytearray(20_000)
            got = slow.read(buffer, at)
            row = track.rows_from(0, 1).rows
            if at >= int(row["offset"][0]):
                wanted = payload(7, at, got)
                foreign += sum(a != b and a != 0 for a, b in zip(buffer[:got], wanted, strict=True))
                checked += got
            at += got
            slow.renew()
        except (Gone, ValueError):
            slow.close()
            row = track.rows_from(0, 1).rows[0]
            at = int(row["offset"])
            slow = track.open_chunk(track.chunk_of(at))
    assert foreign == 0
    assert checked > 500_000
    assert len(inodes) < mine.chunks[-1].number + other.chunks[-1].number      # files did go round
    with pytest.raises(Gone):
        stopped.read(bytearray(1000), 0)
    stopped.close()
    slow.close()
