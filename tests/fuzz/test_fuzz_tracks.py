"""Hostile payloads into the depacketisers of sound, JPEG and documents: what is given out is whole and adds up, whatever came in."""

import random

import pytest
from rtpkit import MS, WALL, rtp
from watched import Watched

from bench.camsim.jpeg import Jpeg, payloads

OTHERS = ("latm", "l16", "opus", "g726-24", "aal2-g726-40", "jpeg", "metadata")
SEEDS = [*range(12), 1009, 77777]
HUFFMAN = b"\xff\xc4\0\4ab"
CONFIG = "0" + f"{0x400028103FC0:048b}"[:44]


def payload(rng: random.Random, codec: str) -> list[bytes]:
    """Mostly what a camera would send."""
    noise = rng.randbytes(rng.choice([1, 2, 80, 700]))
    if rng.random() < 0.15:
        return [noise]
    if codec == "latm":
        sizes = b"\xff" * (len(noise) // 255) + bytes([len(noise) % 255])
        bits = (CONFIG if rng.random() < 0.3 else "1") + "".join(f"{b:08b}" for b in sizes + noise)
        data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
        return [data[i:i + 300] for i in range(0, len(data), 300)]
    if codec == "opus":
        return [bytes([rng.randrange(256)]) + noise]
    if codec == "jpeg":
        tables = tuple(rng.randbytes(rng.choice([64, 64, 128])) for _ in range(rng.choice([1, 2, 2, 3])))
        size = rng.choice([16, 320, 2592]), rng.choice([16, 240, 1944])
        picture = Jpeg(*size, rng.choice([0, 1]), tables, HUFFMAN, noise * 3, rng.choice([0, 0, 5]))
        return payloads(picture, rng.choice([200, 600]), rng.choice([255, 255, 130, 60, 0]))
    return [noise] * rng.choice([1, 1, 4])


def one_track(codec: str, seed: int, count: int = 120) -> int:
    rng = random.Random(seed)
    watched, now, seq, ts = Watched(codec, rng), 10**9, rng.randrange(65536), rng.randrange(1 << 32)
    for _ in range(count):
        parts = payload(rng, codec)
        for part in parts:
            seq += rng.choice([1] * 40 + [0, 2, -1])
            extension = rng.random() < 0.1
            head = b"\xff\xd8\0\2\xff\xc0\0\x11\x08\0\x10\0" if extension else b""
            marker = part is parts[-1] and rng.random() < 0.9
            packet = bytearray(rtp(seq, ts, part, marker=marker, first=0x90 if extension else 0x80, head=head))
            if rng.random() < 0.1:
                packet[rng.randrange(12, len(packet))] = rng.randrange(256)
            watched.track.packet(bytes(packet), now, WALL)
            watched.check()
        ts += rng.choice([0, 960, 960, 960, 3600, 1 << 31])
        now += rng.choice([0, 20 * MS, 40 * MS])
    watched.finish()
    return watched.taken


@pytest.mark.parametrize("codec", OTHERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_payloads_keep_the_invariants(codec, seed):
    one_track(codec, seed)


@pytest.mark.parametrize("codec", OTHERS)
def test_the_payloads_get_through_to_access_units(codec):
    """Fuzzing that everything refuses shows nothing."""
    assert sum(one_track(codec, seed) for seed in SEEDS) > 100


@pytest.mark.soak
@pytest.mark.parametrize("codec", OTHERS)
def test_many_more_seeds(codec):
    for seed in range(100_000, 102_000):
        one_track(codec, seed)
