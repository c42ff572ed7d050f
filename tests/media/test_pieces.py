"""How a virtual file is cut into pieces, and that reading many extents at once gives the same bytes as reading them one by one."""

import itertools
import random

import numpy as np
import pytest

from api.disks import Disks
from api.mp4.clip import Extents
from api.tapebytes import FIRST_BYTES, PIECE_BYTES, QUICK_BYTES, MemoryBytes, TapeBytes, VirtualBytes
from recorder.base.media import NS
from storage.store import TapeStore


def virtual(head, parts, tapes, inline=b""):
    """`parts`: (track, offset, size)."""
    track, offset, size = (np.array(column, np.int64) for column in zip(*parts, strict=True))
    return VirtualBytes(head, Extents(track, offset, size, len(head) + np.cumsum(size) - size), tapes, inline)


async def test_quick_clients_get_larger_pieces():
    data = random.Random(1).randbytes(4 << 20)
    file = virtual(b"head", [(0, 0, len(data))], [MemoryBytes(data)])
    got = [bytes(piece) async for piece in file.pieces(0, file.size)]
    assert b"".join(got) == b"head" + data
    assert len(got[0]) == FIRST_BYTES
    assert [len(piece) for piece in got[1:4]] == [PIECE_BYTES, 2 * PIECE_BYTES, QUICK_BYTES]
    assert max(map(len, got)) == QUICK_BYTES


async def test_slow_clients_hold_small_ones(monkeypatch):
    monkeypatch.setattr("api.tapebytes.QUICK_S", -1.0)
    data = bytes(2 << 20)
    file = virtual(b"", [(0, 0, len(data))], [MemoryBytes(data)])
    assert max([len(piece) async for piece in file.pieces(0, file.size)]) == PIECE_BYTES


@pytest.mark.parametrize("seed", range(20))
async def test_any_part_of_interleaved_extents(seed):
    """Tapes that go on where they were, that jump, and bytes that lie in the plan itself."""
    dice = random.Random(seed)
    sources = [dice.randbytes(50_000) for _ in range(3)]
    at, parts = [0, 0], []
    for _ in range(40):
        track = dice.choice((0, 1, 1, -1))
        at[max(track, 0)] += 0 if track < 0 or dice.random() < 0.7 else dice.randrange(300)
        size = dice.randrange(1, 900)
        parts.append((track, dice.randrange(40_000) if track < 0 else at[track], size))
        if track >= 0:
            at[track] += size
    file = virtual(b"h" * dice.randrange(9), parts, [MemoryBytes(sources[0]), MemoryBytes(sources[1])], sources[2])
    whole = bytes(file._head) + b"".join(sources[track][offset:offset + size] for track, offset, size in parts)
    for _ in range(40):
        start = dice.randrange(len(whole))
        stop = dice.randrange(start, len(whole)) + 1
        assert await file.read(start, stop) == whole[start:stop]


async def test_one_read_for_all_that_follows_on_a_tape(maker, volume):
    """Of a real tape: interleaved views are filled by one call, and are what single reads give."""
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=100))
    store = TapeStore([volume.path], volume.live_dir)
    track = store.tape(1, "main", 0)
    run = track.rows(maker.T0, maker.T0 + 4 * NS)
    start, size = int(run.rows["offset"][0]), int(run.rows["bytes"].sum())
    disks = Disks()
    tape = TapeBytes(track, disks)
    try:
        single, many = bytearray(size), bytearray(size)
        await tape.read_into(memoryview(single), start)
        cuts = sorted({0, size, *random.Random(2).sample(range(1, size), 9)})
        await tape.scatter([memoryview(many)[a:b] for a, b in itertools.pairwise(cuts)], start)
        assert single == many and any(single)
    finally:
        tape.close()
        disks.close()
        store.close()
