"""recorder/_ext/aac, and G.711 in audio."""

import itertools
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtpkit import DAMAGED, KEY, Stream, noise


def aac(**options: object) -> Stream:
    return Stream("aac", 48000, options=options)


def headers(sizes: list[int], size_bits: int = 13, index_bits: int = 3, delta_bits: int = 3, index: int = 0) -> bytes:
    text = "".join(format(size, f"0{size_bits}b") + (format(index, f"0{bits}b") if bits else "")
                   for size, bits in zip(sizes, [index_bits] + [delta_bits] * 99, strict=False))
    raw = int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big")
    return struct.pack(">H", len(text)) + raw


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 20), st.sampled_from([(13, 3, 3), (6, 2, 2), (16, 0, 0), (13, 3, 0)]))
def test_any_grouping_gives_the_frames_with_their_times(seed, lengths):
    rng = random.Random(seed)
    frames = [noise(rng.randint(1, 60), i) for i in range(30)]
    size_bits, index_bits, delta_bits = lengths
    stream = aac(aac_size_length=size_bits, aac_index_length=index_bits, aac_index_delta_length=delta_bits)
    at = 0
    while at < len(frames):
        part = frames[at:at + rng.choice([1, 1, 2, 5])]
        stream.send(headers([len(f) for f in part], *lengths) + b"".join(part), marker=True)
        stream.step(1024 * len(part))
        at += len(part)
    aus = stream.take()
    assert [data for _, data in aus] == frames
    assert [au["pts"] - 5000 for au, _ in aus] == [1024 * i for i in range(30)]
    assert all(au["pts"] == au["dts"] and au["dur"] == 1024 and au["format"] == 1 and au["flags"] & KEY for au, _ in aus)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 900))
def test_a_fragmented_frame_is_put_together(size, part):
    frame = noise(size)
    stream = aac()
    parts = [frame[i:i + part] for i in range(0, size, part)]
    for i, piece in enumerate(parts):
        stream.send(headers([size]) + piece, marker=i == len(parts) - 1)
    stream.step(1024)
    stream.send(headers([3]) + b"abc", marker=True)
    assert [data for _, data in stream.take()] == [frame, b"abc"]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_fragmented_frame_with_a_hole_is_dropped_and_the_next_is_flagged(lost):
    stream = aac()
    stream.send(headers([3]) + b"abc", marker=True)
    stream.step(1024)
    for i in range(3):
        stream.send(headers([30]) + noise(10), marker=i == 2, lose=i == lost)
    stream.step(1024)
    stream.send(headers([3]) + b"def", marker=True)
    aus = stream.take()
    assert [(data, au["flags"] & DAMAGED) for au, data in aus] == [(b"abc", 0), (b"def", DAMAGED)]
    assert stream.track.stats()["broken_aus"] == 1
    assert [au["pts"] - 5000 for au, _ in aus] == [0, 2048]


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x10", b"\0\0abc", b"\xff\xff" + bytes(20), headers([3], index=1) + b"abc",
                                     headers([2] * 65) + bytes(130),
                                     headers([3, 9]) + b"abcde"[:4]])
def test_broken_headers_and_interleaving_are_refused(payload):
    stream = aac()
    stream.send(payload, marker=True)
    stream.step(1024)
    stream.send(headers([3]) + b"def", marker=True)
    assert [data for _, data in stream.take()][-1] == b"def"
    assert stream.track.stats()["malformed"] == (1 if payload else 0)


def test_fragments_that_say_more_than_16_kib_are_refused():
    stream = aac(aac_size_length=16, aac_index_length=0, aac_index_delta_length=0)
    stream.send(headers([16385], 16, 0, 0) + noise(500))
    assert stream.track.stats()["malformed"] == 1


@pytest.mark.parametrize("crc", [0, 1])
def test_an_adts_header_inside_is_taken_off(crc):
    frame = noise(50)
    size = len(frame) + (7 if crc else 9)
    adts = bytes([0xFF, 0xF0 | crc, 0x50, 0x80 | size >> 11, size >> 3 & 255, (size & 7) << 5 | 0x1F, 0xFC]) + (b"" if crc else b"\x12\x34")
    stream = aac()
    stream.send(headers([size]) + adts + frame, marker=True)
    assert [data for _, data in stream.take()] == [frame]


def test_bytes_that_only_look_like_adts_stay():
    frame = b"\xff\xf1\x50\x80\x10\x1f\xfc" + noise(50)
    stream = aac()
    stream.send(headers([len(frame)]) + frame, marker=True)
    assert [data for _, data in stream.take()] == [frame]


def test_a_duration_of_960_or_of_another_clock_is_used():
    stream = Stream("aac", 90000, options={"aac_duration": 1920})
    stream.send(headers([3, 3]) + b"abcdef", marker=True)
    assert [(au["pts"] - 5000, au["dur"]) for au, _ in stream.take()] == [(0, 1920), (1920, 1920)]


@pytest.mark.parametrize(("codec", "channels"), [("pcma", 1), ("pcmu", 1), ("pcma", 2)])
def test_each_g711_packet_is_an_access_unit_with_the_duration_of_its_samples(codec, channels):
    stream = Stream(codec, 8000, pt=8, options={"channels": channels})
    for i in range(5):
        stream.send(noise(320 * channels, i))
        stream.step(320)
    aus = stream.take()
    assert [data for _, data in aus] == [noise(320 * channels, i) for i in range(5)]
    assert [(au["pts"] - 5000, au["dur"]) for au, _ in aus] == [(i * 320, 320) for i in range(5)]
    assert stream.track.format_sets(1) == ()


def test_pauses_of_silence_suppression_stand_in_the_timestamps():
    stream = Stream("pcma", 8000, pt=8)
    for pause in (0, 80000, 0, 400000):
        stream.step(160 + pause)
        stream.send(noise(160))
    pts = [au["pts"] for au, _ in stream.take()]
    assert [b - a for a, b in itertools.pairwise(pts)] == [80160, 160, 400160]
    assert stream.track.stats()["discontinuities"] == 0
