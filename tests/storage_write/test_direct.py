"""Past the page cache: the same tape as through it, whatever somebody watches in between and wherever runs begin."""

import ctypes
import mmap
import os
import struct
import threading
import time
from pathlib import Path

import pytest
from rig import Camera, Rig, tape

from recorder._ext.tapewriter import TapeCore
from recorder.base.media import TrackKind
from storage.check import check_volume
from storage.disk import PastCache, open_direct, zero_range
from storage.events import Watched
from storage.layout import LARGE, PAGE
from storage.store import TapeStore

KIB = 1 << 10


def goes_direct(core: TapeCore) -> bool:
    return core.direct_fd >= 0


def watch(rig: Rig, seconds: float) -> None:
    """Say that somebody watches the only track, for so long."""
    lease = next(rig.live.glob("*.lease"))
    with lease.open("r+b") as file:
        file.write(struct.pack("<Q", time.monotonic_ns() + round(seconds * 1e9) if seconds else 0))


def cached_pages(path: Path) -> int:
    """Pages of a file that the page cache holds (mincore(2)), without its head."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        view = mmap.mmap(file.fileno(), size)
        where = ctypes.addressof(ctypes.c_char.from_buffer(view))
        vector = (ctypes.c_ubyte * (size // PAGE))()
        assert libc.mincore(ctypes.c_void_p(where), ctypes.c_size_t(size), vector) == 0
        return sum(flag & 1 for flag in vector[1:])


def test_unwatched_video_leaves_nothing_in_the_page_cache_and_all_of_it_on_the_tape(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    _, camera = rig.track(size=30_000)
    rig.run(camera, 100)
    assert goes_direct(rig.core()), f"{tmp_path} lies on a file system without O_DIRECT"
    chunk = tmp_path / "volume/tape.zarr/cam-1/main/c/0"
    rig.slot._committer.wait()
    os.sync()
    with chunk.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    rig.run(camera, 100)
    assert cached_pages(chunk) <= 2, "the pages of 3 MB went through the page cache"
    assert tape(rig.path, rig) == camera.sent
    rig.close()


def test_audio_goes_through_the_page_cache(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    _, camera = rig.track(1, "audio", TrackKind.AUDIO, gop=1, size=2000)
    rig.run(camera, 50)
    assert not goes_direct(rig.core(1, "audio"))
    assert tape(rig.path, rig, 1, "audio") == camera.sent
    rig.close()


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("size", [37, 4096, 5000, 16 * KIB + 1, 300_000])
def test_the_tape_is_the_same_however_its_pieces_were_written(tmp_path: Path, size: int, leave: bool) -> None:
    """Pieces of every size, watched and not by turns, skipped AUs between (so that memory and tape differ in phase), chunks that end."""
    rig = Rig(tmp_path / "volume", tmp_path / "live", bytes_max=1 << 29)
    _, camera = rig.track(size=size)
    rig.slot.whole_pages, camera.recv_ns = leave, rig.clock.mono_ns()
    skipped = set()
    for turn in range(60):
        watch(rig, 3600 if turn % 12 in {4, 5} else 0)
        camera.put(1 + turn % 5, force_key=True)
        rig.turn(commit=turn % 4 == 0)
        if turn % 7 == 6:       # an AU is passed over, that which was left behind or another: what follows lies elsewhere in its page
            if turn % 14 == 6:
                rig.core().take()
            camera.put(1, size=123)
            skipped.add(rig.core().taken)
            rig.core().skip()
    rig.slot.whole_pages = False
    rig.turn()
    assert rig.core().counts[3] == len(skipped) > 0
    assert tape(rig.path, rig) == [data for n, data in enumerate(camera.sent) if n not in skipped]
    rig.close()


def record_whole_pages(rig: Rig, camera: Camera, turns: int, count: int = 5) -> None:
    """As with its threads: passes of AUs that have just come, a commit after every other one."""
    rig.slot.whole_pages = True
    for turn in range(turns):
        rig.clock.advance(count / camera.fps)
        camera.recv_ns = rig.clock.mono_ns()
        assert camera.put(count) == count
        rig.turn(commit=turn % 2 == 1)


@pytest.mark.parametrize("size", [300, 3_000, 9_000, 40_000])
def test_no_page_is_written_twice(tmp_path: Path, size: int) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live", bytes_max=1 << 29)
    _, camera = rig.track(size=size)
    watch(rig, 0)
    record_whole_pages(rig, camera, 3, count=max(5, 100_000 // size))      # a chunk's first piece goes through the page cache
    before, kept = rig.slot._writer.written["tape"], rig.core().used
    record_whole_pages(rig, camera, 60)
    written, kept = rig.slot._writer.written["tape"] - before, rig.core().used - kept
    if size < PAGE:                     # of pages that no young AU fills some are written twice
        assert written < kept + 60 * PAGE
    else:
        assert abs(written - kept) <= 2 * PAGE
    assert tape(rig.path, rig) == camera.sent[:rig.core().taken] and rig.core().au_head - rig.core().taken <= 2 + 3 * (size < PAGE)
    rig.clock.advance(1)
    rig.turn()
    assert tape(rig.path, rig) == camera.sent, "what stayed behind is taken when it is old"
    rig.close()


def test_a_command_waits_for_no_page(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    writer, camera = rig.track(size=9_000)
    record_whole_pages(rig, camera, 9)
    writer.end_session(camera.session, rig.clock.wall_ns(), "test")
    rig.turn()
    assert rig.core().taken == len(camera.sent) and not rig.core().has_open_row
    assert tape(rig.path, rig) == camera.sent
    rig.close()


@pytest.mark.parametrize("dies", [False, True])
def test_bytes_of_an_au_that_went_elsewhere_do_not_stay(tmp_path: Path, dies: bool) -> None:
    """The last page of a chunk was filled up with an AU that then began the next chunk, or was lost in a crash."""
    rig = Rig(tmp_path / "volume", tmp_path / "live", bytes_max=1 << 29)
    _, camera = rig.track(size=9_000)
    record_whole_pages(rig, camera, 9)
    used = rig.core().used
    chunk = tmp_path / "volume/tape.zarr/cam-1/main/c/0"
    assert used % PAGE and any(chunk.read_bytes()[PAGE + used:PAGE + used + PAGE - used % PAGE]), "the page was filled up"
    if dies:
        rig.crash()
        rig = Rig(tmp_path / "volume", tmp_path / "live", bytes_max=1 << 29)
        _, camera = rig.track(size=9_000)
        rig.run(camera, 20)
        again = used + -used % PAGE
        assert not any(chunk.read_bytes()[PAGE + used:PAGE + again])
        assert any(chunk.read_bytes()[PAGE + again:PAGE + again + 100])
    else:
        rig.core().want_close()
        record_whole_pages(rig, camera, 9)
        assert not any(chunk.read_bytes()[PAGE + used:PAGE + LARGE.inner_bytes]), "sealed with zeros behind its last byte"
        assert tape(rig.path, rig) == camera.sent[:rig.core().taken]
    assert not check_volume(rig.path, rig.live, level=3).findings
    rig.close()


def test_recovery_goes_on_past_the_page_cache(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    _, camera = rig.track(size=30_000)
    rig.run(camera, 40)
    rig.crash()
    again = Rig(tmp_path / "volume", tmp_path / "live")
    assert goes_direct(again.core())
    before = len(tape(again.path, again))
    _, camera = again.track(size=30_000)
    again.run(camera, 40)
    assert goes_direct(again.core()) and len(tape(again.path, again)) == before + 40
    again.close()


@pytest.mark.parametrize(("start", "stop"), [(0, 1 << 20), (1, 5), (100, 200_000), (4096, 4096), (5000, 300_001), (0, 1_000_000)])
def test_zeros_go_where_they_belong_and_nowhere_else(tmp_path: Path, start: int, stop: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xff" * (1 << 20))
    fd = os.open(path, os.O_RDWR)
    zero_range(fd, start, stop)
    os.close(fd)
    data = path.read_bytes()
    assert data == b"\xff" * start + bytes(stop - start) + b"\xff" * ((1 << 20) - stop)


@pytest.mark.parametrize(("at", "size"), [(0, 0), (0, 1), (4095, 2), (5000, 100_000), (1, (1 << 20) + 9), ((3 << 20) - 10, 100)])
def test_reads_past_the_page_cache_are_what_the_file_holds(tmp_path: Path, at: int, size: int) -> None:
    data = os.urandom(3 << 20)
    path = tmp_path / "file"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    direct = open_direct(fd)
    reader = PastCache()
    for way in (direct, -1):
        assert bytes(reader.read(fd, way, size, at)) == data[at:at + size]
    os.close(fd)
    if direct >= 0:
        os.close(direct)


def test_who_reads_the_newest_pages_while_they_are_written_never_sees_old_ones(tmp_path: Path) -> None:
    """Readers fill the page cache with the very pages, and with those ahead of them, that the next direct write replaces."""
    rig = Rig(tmp_path / "volume", tmp_path / "live", bytes_max=1 << 29)
    _, camera = rig.track(size=9_000)
    rig.run(camera, 20)
    store = TapeStore([rig.path], rig.live)
    reader, stop, faults, seen = store.track(1, "main"), threading.Event(), [], [0]

    def read() -> None:
        known = {data[:32]: data for data in camera.sent}
        while not stop.is_set():
            run = reader.rows_from(max(0, reader.edges().next_row - 1), 2)
            entries = reader.entries(run)
            for i in range(len(entries.size)):
                buffer = bytearray(int(entries.size[i]))
                with reader.open_chunk(int(entries.offset[i]) // reader.chunk_class.tape_bytes) as lease:
                    lease.read(buffer, int(entries.offset[i]))
                if bytes(buffer[:32]) not in known:
                    known = {data[:32]: data for data in list(camera.sent)}
                if known.get(bytes(buffer[:32])) != bytes(buffer):
                    faults.append(int(entries.offset[i]))
                seen[0] += 1

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        camera.put(3)
        rig.turn(commit=False)
    stop.set()
    for thread in threads:
        thread.join()
    assert goes_direct(rig.core()) and not faults and seen[0] > 300
    store.close()
    rig.close()


def test_what_is_watched_is_told_at_once_and_passed_over_alone(tmp_path: Path) -> None:
    """The event comes with the pass that sees the lease, once; the passes between are of the watched track and none of the other's."""
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    (_, seen), (_, other) = rig.track(1), rig.track(2)
    watch(rig, 3600)        # the first block of the lease file: camera 1
    for camera in (seen, other):
        camera.put(3)
    rig.slot.pass_once(all_tracks=False)
    told = [event for event in rig.events if isinstance(event, Watched)]
    assert told == [Watched(rig.volume.path)]
    taken = [core.counts[0] for core in (rig.core(1), rig.core(2))]
    for camera in (seen, other):
        camera.put(3)
    for _ in range(20):
        rig.slot.pass_once(all_tracks=False, only_watched=True)
    assert [core.counts[0] for core in (rig.core(1), rig.core(2))] == [taken[0] + 3, taken[1]]
    assert [event for event in rig.events if isinstance(event, Watched)] == told
    rig.close()
