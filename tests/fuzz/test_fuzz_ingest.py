"""Hostile bytes into the ingest kernels. After every call the invariants hold; the seeds are the corpus, `soak` runs more of them.

A failing seed is kept for ever by adding it to SEEDS.
"""

import random
from collections.abc import Iterator

import pytest
import rtpkit
from rtpkit import MS, WALL, aggregate, fragments, interleaved, rtp
from watched import CODECS, Watched

from recorder._ext.drain import Drain
from recorder._ext.framing import Connection
from recorder._ext.rtp import EVENT_DAMAGED_STREAM

SEEDS = [*range(40), 1009, 5040, 77777]


def nal(rng: random.Random, h265: bool) -> bytes:
    """Mostly sensible NAL units, some that are none."""
    size = rng.choice([0, 1, 10, 200, 3000])
    if rng.random() < 0.15:
        return rng.randbytes(rng.choice([1, 2, 3, 40]))
    first, tail = rng.random() < 0.8, bytes([rng.randint(0, 3)])
    if h265:
        sets = [rtpkit.vps265(), rtpkit.sps265(rng.choice([0, 0, 1]), tail=tail), rtpkit.pps265(rng.choice([0, 0, 3]))]
        return rng.choice([*sets, rtpkit.slice265(rng.choice([1, 1, 0, 8, 19, 21]), first=first, size=size, seed=size)])
    sets = [rtpkit.sps264(rng.choice([0, 0, 1]), tail=tail), rtpkit.pps264(rng.choice([0, 0, 3])), rtpkit.AUD264]
    picture = rtpkit.slice264(rng.choice([1, 1, 5, 2]), first=first, size=size, seed=size)
    return rng.choice([*sets, rtpkit.recovery264(rng.choice([0, 3])), picture])


def payloads(rng: random.Random, codec: str) -> list[bytes]:
    h265 = codec == "h265"
    if codec == "pcma":
        return [rng.randbytes(rng.choice([0, 1, 160]))]
    if codec == "aac":
        sizes = [rng.choice([1, 30, 400]) for _ in range(rng.choice([1, 1, 3]))]
        text = "".join(format(s, "013b") + rng.choice(["000"] * 20 + ["001"]) for s in sizes)
        data = int(text, 2).to_bytes(len(text) // 8, "big")
        return [len(text).to_bytes(2, "big") + data + rng.randbytes(max(sum(sizes) - rng.choice([0, 0, 0, 5]), 0))]
    way = rng.random()
    if way < 0.3:
        return fragments(nal(rng, h265) + b"xy", rng.choice([5, 100, 1400]), h265=h265)
    if way < 0.5:
        return [aggregate([nal(rng, h265) for _ in range(rng.randint(0, 4))], h265=h265)]
    if way < 0.6:
        return [rng.choice([b"\0\0\1", b"\0\0\0\1"]).join(nal(rng, h265) for _ in range(3))]
    return [nal(rng, h265)]


def packets(rng: random.Random, codec: str, count: int) -> Iterator[bytes]:
    """A stream with loss, repeats, restarts, jumps, broken headers and bytes."""
    seq, ts, ssrc = rng.randrange(65536), rng.randrange(1 << 32), 1
    for _ in range(count):
        for payload in payloads(rng, codec):
            seq += rng.choice([1] * 60 + [0, 2, -1, 5, 20000])
            packet = rtp(seq, ts, payload, marker=rng.random() < 0.4, pt=rng.choice([96] * 30 + [50]), ssrc=ssrc,
                         first=rng.choice([0x80] * 40 + [0xA0, 0x90, 0x83, 0x00]))
            if rng.random() < 0.03:
                broken = bytearray(packet)
                broken[rng.randrange(len(broken))] = rng.randrange(256)
                packet = bytes(broken[:rng.randint(1, len(broken))])
            yield packet
        ts += rng.choice([0, 3600, 3600, 3600, 3600, -3600, 7200] + [10**9] * (rng.random() < 0.1))
        ssrc += rng.random() < 0.01
        if rng.random() < 0.05:
            yield rng.choice([rtpkit.sender_report(1, ts), rtpkit.goodbye(ssrc), rng.randbytes(30), b"\x80\xc8"])


def one_track(seed: int, count: int = 150) -> int:
    rng = random.Random(seed)
    codec = CODECS[seed % 4]
    watched = Watched(codec, rng)
    now = 10**9
    for packet in packets(rng, codec, count):
        now += rng.choice([0, MS, 40 * MS] + [5000 * MS] * (rng.random() < 0.02))
        watched.track.packet(packet, now, WALL)
        if rng.random() < 0.02:
            watched.track.mark_damaged()
        if rng.random() < 0.7:
            watched.check()
    watched.track.flush()
    watched.check()
    assert watched.queue.waiting_bytes == 0
    return watched.taken


def one_connection(seed: int, count: int = 60) -> int:
    """All codecs on one connection, with messages, garbage and cut frames, in random splits."""
    rng = random.Random(seed)
    connection, tracks = Connection(), [Watched(codec, rng) for codec in CODECS]
    for i, watched in enumerate(tracks):
        connection.bind(2 * i, 2 * i + 1, watched.track)
    streams = [packets(rng, codec, 10**9) for codec in CODECS]
    out = bytearray()
    for _ in range(count * 4):
        channel = rng.randrange(len(streams))
        frame = interleaved(rng.choice([2 * channel] * 30 + [2 * channel + 1, 77]), next(streams[channel]))
        if rng.random() < 0.02:
            frame = frame[:rng.randint(1, len(frame))]
        out += frame
        if rng.random() < 0.03:
            message = b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"
            out += rng.choice([b"\r\n", message, rng.randbytes(rng.randint(1, 50)), b"$", b"RTSP", b"GET"])
    at = 0
    while at < len(out):
        size = rng.choice([1, 3, 17, 500, 5000])
        piece = bytes(out[at:at + size])
        if connection.feed(piece, len(piece), 10**9 + at * 1000, WALL) & EVENT_DAMAGED_STREAM:
            assert connection.error
            break
        at += size
        for watched in tracks:
            watched.check()
        assert len(connection.take_messages()) <= 64
    return sum(w.taken for w in tracks)


@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_packets_keep_the_invariants(seed):
    one_track(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_streams_keep_the_invariants(seed):
    one_connection(seed)


def test_the_fuzz_targets_get_through_to_access_units():
    """Fuzzing that everything refuses shows nothing."""
    assert all(sum(one_track(seed) for seed in range(k, 40, 4)) > 100 for k in range(4))
    assert sum(one_connection(seed) for seed in range(10)) > 100


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_pure_noise_does_no_harm(seed):
    rng = random.Random(seed)
    connection, tracks = Connection(), [Watched(codec, rng) for codec in CODECS]
    for i, watched in enumerate(tracks):
        connection.bind(2 * i, 2 * i + 1, watched.track)
    for _ in range(300):
        piece = rng.choice([rng.randbytes(900), b"$\0" + rng.randbytes(70), b"$" * 9, b"\r\n", b"RTSP/1.0 " + rng.randbytes(9)])
        connection.feed(piece, len(piece), 1, WALL)
    for watched in tracks:
        watched.check()


@pytest.mark.soak
def test_many_more_seeds():
    for seed in range(100_000, 103_000):
        one_track(seed, 300)
        one_connection(seed, 100)


def test_a_drain_survives_its_connections(tmp_path):
    """Objects may die in any order: the drain holds what it receives for."""
    drain = Drain()
    drain.add(Connection(), 0)
    assert len(drain) == 1
    del drain
