"""The keeper has more to do than one thing: none of it may keep tracks waiting for their next chunks."""

from collections.abc import Callable

import pytest
from rig import Rig

from recorder.base.config import RetentionRule
from storage import keeper, pool, seal
from storage.chunkfile import ChunkHead
from storage.disk import PastCache
from storage.pool import STALE_NS
from storage.tapebook import ClosedChunk
from storage.tapework import TapeWork

Make = Callable[..., Rig]
TRACKS = 9


def test_chunks_that_close_at_once_are_sealed_in_several_rounds_all_of_them(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig()
    for number in range(1, TRACKS + 1):
        writer, camera = rig.track(number)
        camera.put(100)
        rig.turn()
        writer.end_session(camera.session, rig.clock.wall_ns(), "over")
    rig.turn()
    rounds: list[list[int]] = []
    real = seal.seal

    def slow(work: TapeWork, chunk: ClosedChunk, reader: PastCache) -> ChunkHead:
        rounds[-1].append(work.ident.camera)
        rig.clock.advance(keeper.SEAL_NS / 1e9 * 0.4)
        return real(work, chunk, reader)

    monkeypatch.setattr(seal, "seal", slow)
    rig.clock.advance(1000)
    for _ in range(8):
        rounds.append([])
        rig.slot.keep_once()
        rig.slot.pass_once()
        rig.slot.commit_once()
    assert max(len(cameras) for cameras in rounds) == 3, "a round ends when its time is over"
    assert sorted(camera for cameras in rounds for camera in cameras) == list(range(1, TRACKS + 1)), "each in its turn"


def test_a_prepared_chunk_shows_nothing_of_its_past_once_the_camera_is_silent(make_rig: Make) -> None:
    rig = make_rig(bytes_max=4 * (16 << 20), quarantine_s=0.0)
    writer, camera = rig.track(size=100_000, rule=RetentionRule(days=1.0))
    rig.run(camera, 900)
    work = rig.slot._works[1, "main"]
    while work.next_chunk is None or work.next_chunk.past is None:
        rig.run(camera, 10)
    file = rig.path / f"tape.zarr/cam-1/main/c/{work.next_chunk.number}"
    assert any(data[:48] in file.read_bytes() for data in camera.sent), "it held older footage"
    writer.end_session(camera.session, rig.clock.wall_ns(), "over")
    rig.clock.advance(STALE_NS / 1e9 + 1)
    rig.turn()
    assert work.next_chunk is not None and work.next_chunk.past is None
    held = file.read_bytes()
    assert not any(data[:48] in held for data in camera.sent)


def test_a_camera_that_waits_for_its_first_chunk_does_not_wait_for_zeros_as_well(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    zeroed: list[str] = []
    zero = pool.zero_tail
    monkeypatch.setattr(pool, "zero_tail", lambda volume, path, kind: (zeroed.append(path), zero(volume, path, kind)))
    rig = make_rig(bytes_max=4 * (16 << 20), quarantine_s=0.0)
    _, first = rig.track(size=100_000, rule=RetentionRule(days=1.0))
    rig.run(first, 900)
    rig.close()
    rig = make_rig(bytes_max=4 * (16 << 20), quarantine_s=0.0)
    zeroed.clear()
    _, second = rig.track(2, size=100_000)
    rig.run(second, 1)
    work = rig.slot._works[2, "main"]
    assert work.chunk is not None and work.chunk.past is not None and not zeroed, "what the file held is known to be there"
    rig.run(second, 100)
    assert work.core.used * 2 > work.chunk_class.tape_bytes
    for _ in range(3):
        rig.turn()
    assert work.next_chunk is not None and work.next_chunk.past is not None and not zeroed, "by half a chunk it is seen to be a busy track"
