"""The reading side finds what the writing side wrote, while it runs and after it has stopped."""

from collections.abc import Callable

from rig import Rig

from recorder.base.media import GapCause
from storage.reader import TrackReader
from storage.store import TapeStore

Make = Callable[..., Rig]
END = 1 << 62


def read_all(track: TrackReader) -> list[bytes]:
    run = track.rows(0, END, provisional=True)
    entries = track.entries(run)
    out = []
    buffer = bytearray(1 << 20)
    for offset, size in zip(entries.offset, entries.size, strict=True):
        with track.open_chunk(track.chunk_of(int(offset))) as chunk:
            assert chunk.read(memoryview(buffer)[:int(size)], int(offset)) == int(size)
        out.append(bytes(buffer[:int(size)]))
    return out


def test_readers_see_every_au_at_once_and_after_the_stop(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 330, batch=30)
    store = TapeStore([rig.path], rig.live)
    track = store.track(1, "main")
    assert read_all(track) == camera.sent
    edges = track.edges()
    assert edges.live and edges.durable_offset == edges.visible_offset
    rig.close()
    assert read_all(track) == camera.sent
    store.close()


def test_the_pause_of_a_crash_is_a_gap_with_its_cause(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 50)
    end = rig.core().end_ns
    rig.crash()
    again = make_rig()
    again.clock.advance(30)
    _, second = again.track()
    again.run(second, 30)
    store = TapeStore([again.path], again.live)
    gaps = store.track(1, "main").gaps(0, END)
    assert [(g.cause, g.start_ns, g.end_ns) for g in gaps] == [(GapCause.CRASH, end, second.start_ns)]
    assert len(store.track(1, "main").spans(0, END)) == 2
    store.close()


def test_readers_find_the_tape_without_a_live_file(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 200)
    rig.close()
    for file in rig.live.iterdir():
        file.unlink()
    store = TapeStore([rig.path], rig.live)
    assert read_all(store.track(1, "main")) == camera.sent
    store.close()
