"""What holds have kept is footage like any other for readers: timeline, rows, bytes; nothing else of that time is shown."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from held import NS, hold
from rig import Camera, Rig, tape
from test_holds import AUDIO, SMALL_CHUNK, fill, settle, sound, times

from api.disks import Disks
from api.tapebytes import TapeBytes
from recorder.base.errors import Gone
from storage import heldfile
from storage.check import check_volume
from storage.heldtape import HELD_PLACE
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.track import Track

Make = Callable[..., Rig]


@pytest.fixture
def make_store() -> Iterator[Callable[[Rig], TapeStore]]:
    opened: list[TapeStore] = []

    def make(rig: Rig) -> TapeStore:
        opened.append(TapeStore([rig.path], rig.live))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def aus_of(reader: TrackReader, start_ns: int, end_ns: int) -> list[bytes]:
    """All AUs of the rows that a tape says lie there, read under its leases."""
    run, found = reader.rows(start_ns, end_ns), []
    entries = reader.entries(run)
    for offset, size in zip(entries.offset.tolist(), entries.size.tolist(), strict=True):
        with reader.open_chunk(reader.chunk_of(offset)) as lease:
            data = bytearray(size)
            assert lease.read(data, offset) == size
            found.append(bytes(data))
    return found


def read(track: Track, start_ns: int, end_ns: int) -> list[list[bytes]]:
    """The AUs of each piece."""
    return [aus_of(piece.tape, max(start_ns, piece.run.start_ns), min(end_ns, piece.run.end_ns))
            for piece in track.pieces(start_ns, end_ns)]


def is_run(found: list[bytes], camera: Camera) -> bool:
    """True if these AUs follow each other as they were sent."""
    at = camera.sent.index(found[0])
    return found == camera.sent[at:at + len(found)]


def held_rig(make_rig: Make, **more: object) -> tuple[Rig, Camera]:
    """A ring that has gone round; 8 s and 20 s of what it held are held."""
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0, **more)
    camera = sound(rig)
    fill(rig, camera, rounds=60)
    rig.slot.hold(hold(1, *times(camera, 10.2, 18.1)))
    rig.slot.hold(hold(2, *times(camera, 30.2, 50.1)))
    fill(rig, camera, rounds=120)
    assert rig.core(1, AUDIO).tail_row > 60
    return rig, camera


def test_held_rows_are_read_after_the_tape_has_moved_on(make_rig: Make, make_store: Callable[[Rig], TapeStore]) -> None:
    rig, camera = held_rig(make_rig)
    track = make_store(rig).whole(1, AUDIO)
    first, second, rest = read(track, 0, 1 << 62)
    assert is_run(first, camera) and set(camera.sent[102:181]) <= set(first) and len(first) <= 100
    assert is_run(second, camera) and set(camera.sent[302:501]) <= set(second) and len(second) <= 220
    assert rest == tape(rig.path, rig, 1, AUDIO)
    shown = track.timeline(*times(camera, 0, 60))
    assert [(span.start_ns, span.end_ns) for span in shown.spans] == [
        (one.bounds().first_ns, one.bounds().visible_end_ns) for one in track.tapes[:2]]
    assert shown.gaps == [] and shown.completeness == 1.0, "what has been retired is no gap"
    everything = track.timeline(camera.start_ns, rig.clock.wall_ns())
    assert everything.gaps == [] and 0.99 < everything.completeness <= 1.0
    assert track.bounds().first_ns > times(camera, 60, 0)[0]
    assert track.newest is track.tapes[-1] and [one.place for one in track.tapes] == [HELD_PLACE, HELD_PLACE, 0]


def test_a_picture_or_a_playback_finds_the_held_tape_of_its_time(make_rig: Make, make_store: Callable[[Rig], TapeStore]) -> None:
    rig, camera = held_rig(make_rig)
    store = make_store(rig)
    track = store.whole(1, AUDIO)
    inside = times(camera, 40, 0)[0]
    held = track.at(inside)
    number, start_ns = held.row_at(inside) or (0, 0)
    assert held.place == HELD_PLACE and 0 <= inside - start_ns < NS
    again = store.tape(1, AUDIO, HELD_PLACE)
    run = again.rows_from(number - 1, 4, provisional=False)
    assert run.first == number - 1 and len(run) == 4 and run.rows["t_ns"][1] == start_ns
    assert held.sample_entry(int(run.rows["sample_entry"][0])).codec
    before_hole = track.at(times(camera, 18, 0)[0])
    last = before_hole.edges().next_row - 1
    assert len(again.rows_from(last, 10)) == 1, "rows that follow each other, no further"
    assert again.rows_from(last + 1, 100).first == track.at(times(camera, 31, 0)[0]).edges().first_row


def test_a_held_chunk_hands_out_nothing_that_is_not_held(make_rig: Make, make_store: Callable[[Rig], TapeStore]) -> None:
    rig, _ = held_rig(make_rig)
    held = make_store(rig).whole(1, AUDIO).tapes[0]
    last = held.rows(0, 1 << 62).rows[-1]
    offset, size = int(last["offset"]), int(last["bytes"])
    with held.open_chunk(held.chunk_of(offset)) as lease:
        assert lease.read(bytearray(size), offset) == size
        assert lease.read(bytearray(size + 1), offset) == size and lease.read(bytearray(2), offset + size - 1) == 1
        for wrong in (offset + size, offset + size + 100):
            with pytest.raises(Gone):
                lease.read(bytearray(1), wrong)


async def test_what_is_being_sent_is_read_on_from_the_held_copy(make_rig: Make, make_store: Callable[[Rig], TapeStore]) -> None:
    """The tail passed held rows under a clip in transit, which ended as if they were gone."""
    rig = make_rig(bytes_max=20 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=75)
    store = make_store(rig)
    main = store.track(1, AUDIO)
    asked = main.entries(main.rows(*times(camera, 40, 75)))
    aus = list(zip(asked.offset.tolist(), asked.size.tolist(), strict=True))
    rig.slot.hold(hold(1, *times(camera, 40, 50)))
    with closing(Disks()) as disks:
        client = TapeBytes(main, disks, lambda: store.held(main))

        async def sent(offset: int, size: int) -> bytes:
            data = bytearray(size)
            await client.read_into(memoryview(data), offset)
            return bytes(data)

        got = [await sent(*au) for au in aus]
        assert is_run(got, camera)
        while main.edges().tail_offset <= aus[100][0]:
            fill(rig, camera, rounds=1)
        assert [await sent(*au) for au in aus[:100]] == got[:100]
        assert aus[-1][0] > main.edges().tail_offset and await sent(*aus[-1]) == got[-1], "of the tape again"
        assert [await sent(*au) for au in aus[:100]] == got[:100]
        with pytest.raises(Gone):
            await sent(*next(au for au in reversed(aus) if au[0] < main.edges().tail_offset))
        client.close()


def test_what_is_released_can_be_read_no_more(make_rig: Make, make_store: Callable[[Rig], TapeStore]) -> None:
    rig, camera = held_rig(make_rig)
    track = make_store(rig).whole(1, AUDIO)
    first, second, _ = track.tapes
    run = second.rows(0, 1 << 62)
    offsets = second.entries(run).offset.astype(np.int64)
    lease = second.open_chunk(second.chunk_of(int(offsets[0])))
    assert second.stands(offsets)
    rig.slot.release(hold(2, 1, 2).id, rig.clock.wall_ns(), "partner")
    settle(rig, 2)
    assert len(track.tapes) == 2 and track.tapes[0] is first
    assert not second.stands(offsets)
    for _ in range(2):
        with pytest.raises(Gone):
            second.open_chunk(second.chunk_of(int(offsets[0])))
    with pytest.raises(Gone):
        lease.renew()
    assert track.timeline(*times(camera, 30, 50)).spans == []


def test_holds_are_read_without_a_worker(make_rig: Make, make_store: Callable[[Rig], TapeStore]) -> None:
    rig, _ = held_rig(make_rig)
    live = read(make_store(rig).whole(1, AUDIO), 0, 1 << 62)
    rig.close()
    for path in rig.live.iterdir():
        path.unlink()
    assert read(make_store(rig).whole(1, AUDIO), 0, 1 << 62) == live


def test_the_check_reads_held_chunks_to_the_last_byte(make_rig: Make) -> None:
    rig, _ = held_rig(make_rig)
    rig.close()
    report = check_volume(rig.path, rig.live, level=3)
    assert report.findings == [] and report.rows >= 50
    held = sorted((rig.path / "tape.zarr/cam-1/audio.held/c").iterdir(), key=lambda path: int(path.name))
    with held[0].open("rb") as file:
        chunk = heldfile.read(file.fileno(), "")
    row = chunk.rows[chunk.there][0]
    damage(held[0], 4096 + int(row["offset"]) - chunk.head.start_offset + 100)
    damage(held[-1], 2048 + 40)
    shelved = next((rig.path / "slot-0/holds").iterdir())
    shelved.write_bytes(shelved.read_bytes()[:60])
    found = check_volume(rig.path, rig.live, level=2).findings
    assert sorted((finding.where.rpartition("/")[2], finding.what.partition(" row ")[0]) for finding in found) == sorted([
        (held[0].name, "the bytes of"), (held[-1].name, "the chunk head does not hold together"), (shelved.name, "is no hold")])


def damage(path: Path, at: int) -> None:
    """Turn one byte over."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def test_what_is_held_is_shown_between_its_expiry_and_its_saving(make_rig: Make) -> None:
    """Readers refuse by rule what a writer has not passed yet; what is held has no such age."""
    rig = make_rig(bytes_max=100 * SMALL_CHUNK)
    camera = sound(rig)
    fill(rig, camera, rounds=40)
    start_ns, end_ns = times(camera, 10, 12)
    limit_ns = times(camera, 30, 0)[0]
    store = TapeStore([rig.path], rig.live, lambda camera, track: limit_ns)
    try:
        track = store.whole(1, AUDIO)
        assert track.spans(start_ns, end_ns) == [] and track.bounds().first_ns >= limit_ns - NS
        rig.slot.hold(hold(1, start_ns, end_ns))
        again = TapeStore([rig.path], rig.live, lambda camera, track: limit_ns)
        try:
            whole = again.whole(1, AUDIO)
            assert [(span.start_ns, span.end_ns) for span in whole.spans(start_ns, end_ns)] == [(start_ns, end_ns)]
            assert whole.spans(*times(camera, 0, 9)) == []
        finally:
            again.close()
    finally:
        store.close()
