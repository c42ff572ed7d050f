"""recorder/_ext/rtppack: the packets are its Python twin's, and what the recorder's own depacketisers make of them is the unit that went in."""

import itertools
import random
import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtpkit import AUD264, WALL, noise, pps264, pps265, prefixed, slice264, slice265, sps264, sps265, vps265
from test_jpeg import decode, images
from twin_rtppack import Shape, packets

from bench.camsim import jpeg
from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack
from recorder._ext.rtppack import Packer, readdressed

PARTS = jpeg.parse(images(1)[0])
EXTENSION = b"\xab\xac\0\3" + bytes(range(12))


def packer(shape: Shape, sequence: int = 0) -> Packer:
    return Packer(shape.codec, shape.payload_type, shape.ssrc, sequence=sequence, packet_max=shape.packet_max, lead=shape.lead,
                  channel=shape.channel, grain=shape.grain)


def cut(data: bytes, offsets) -> list[bytes]:
    return [data[a:b] for a, b in itertools.pairwise(offsets)]


def agree(shape: Shape, unit: bytes, *, sequence: int = 65534, timestamp: int = 0xFFFFFFF0, extension: bytes = b"") -> list[bytes]:
    made = packer(shape, sequence)
    data, offsets = made.pack(unit, timestamp, extension or None)
    found = cut(data, offsets)
    assert found == packets(shape, unit, sequence, timestamp, extension)
    assert (offsets[0], offsets[-1]) == (0, len(data))
    assert made.sequence == (sequence + len(found)) & 0xFFFF
    assert made.packets == len(found)
    assert all(len(packet) - shape.lead <= shape.packet_max for packet in found)
    return found


def received(codec: str, clock: int, found: list[bytes], lead: int = 0, *, channels: int = 1, size: tuple[int, int] = (0, 0)) -> list[bytes]:
    """What the recorder takes from packets, and nothing malformed on the way."""
    queue = AuQueue(1 << 22, 256)
    track = RtpTrack(queue, codec, clock, [96], 1, reorder_depth=0, floor_wall_ns=WALL, channels=channels)
    for i, packet in enumerate(found):
        track.packet(packet[lead:], 10**9 + i * 10**6, WALL)
    track.flush()
    assert track.stats()["malformed"] == 0
    return [bytes(data) for _, data in queue.take()]


SIZES = st.sampled_from([0, 3, 60, 700, 1386, 1387, 1388, 5000])
SIX_BITS = st.integers(0, 63)
NAL264 = st.builds(lambda kind, size, seed: bytes([0x60 | kind]) + noise(size, seed), st.integers(0, 31), SIZES, st.integers(0, 9))
NAL265 = st.builds(lambda kind, layer, size, seed: bytes([kind << 1 | layer >> 5, layer << 3 & 255 | 1]) + noise(size, seed),
                   SIX_BITS, SIX_BITS, SIZES, st.integers(0, 9))
CODINGS = [("mp4a", 1), ("alaw", 1), ("twos", 4), *(("g726", bits) for bits in (2, 3, 4, 5)), ("metx", 1)]
SHAPES = st.sampled_from([(256, 0, -1), (1200, 0, -1), (1400, 4, -1), (1400, 4, 6), (65000, 16, -1)])


@settings(max_examples=150, deadline=None)
@given(st.lists(NAL264, max_size=8), SHAPES, st.booleans())
def test_pictures_of_h264_are_the_twins(nals, shape, extended):
    agree(Shape("avc1", 96, 7, *shape), prefixed(nals), extension=EXTENSION * extended)


@settings(max_examples=150, deadline=None)
@given(st.lists(NAL265, max_size=8), SHAPES, st.booleans())
def test_pictures_of_h265_are_the_twins(nals, shape, extended):
    agree(Shape("hvc1", 96, 7, *shape), prefixed(nals), extension=EXTENSION * extended)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=5000), SHAPES, st.sampled_from(CODINGS))
def test_units_of_the_others_are_the_twins(unit, shape, coding):
    agree(Shape(coding[0], 97, 7, *shape, grain=coding[1]), unit)


def test_a_picture_comes_out_of_the_recorder_as_it_went_in():
    small = [slice264(5, first=False, size=size) for size in (300, 200)]
    unit = prefixed([AUD264, sps264(), pps264(), slice264(5, size=9000), *small])
    found = agree(Shape("avc1", 96, 7, 1400, 4, 0), unit)
    assert [packet[16] & 31 for packet in found] == [24, *[28] * 7, 24]
    assert [packet[5] >> 7 for packet in found] == [0] * 8 + [1]
    assert received("h264", 90000, found, 4) == [unit]


def test_a_picture_of_h265_comes_out_of_the_recorder_as_it_went_in():
    small = [slice265(19, first=False, size=size) for size in (300, 200)]
    unit = prefixed([vps265(), sps265(), pps265(), slice265(19, size=9000), *small])
    found = agree(Shape("hvc1", 96, 7), unit)
    assert received("h265", 90000, found) == [unit]


@pytest.mark.parametrize("name", ["g726-16", "g726-24", "g726-32", "g726-40"])
def test_code_words_of_g726_come_out_in_the_order_of_files(name):
    unit = random.Random(4).randbytes(120)
    found = agree(Shape("g726", 96, 7, grain=int(name[-2:]) // 8), unit)
    assert received(name, 8000, found) == [unit]


def test_sound_too_long_for_a_packet_goes_on_in_time():
    unit = random.Random(5).randbytes(4000)
    found = agree(Shape("twos", 96, 7, grain=4), unit)
    times = [struct.unpack_from(">I", packet, 4)[0] for packet in found]
    assert [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(times)] == [347, 347]
    assert b"".join(received("l16", 48000, found, channels=2)) == unit


def test_documents_end_with_the_marker():
    unit = b"<tt:MetadataStream>" + noise(5000) + b"</tt:MetadataStream>"
    found = agree(Shape("metx", 96, 7), unit)
    assert [packet[1] >> 7 for packet in found] == [0, 0, 0, 1]
    assert received("metadata", 90000, found) == [unit]


def test_images_of_an_encoder_come_out_of_the_recorder_alike():
    """FFmpeg's have one table for all components; receivers count on two."""
    for image in images():
        (got,) = received("jpeg", 90000, agree(Shape("jpeg", 96, 7), image))
        assert jpeg.parse(got).scan == jpeg.parse(image).scan
        assert jpeg.parse(got).tables == jpeg.parse(image).tables * 2
        assert np.array_equal(decode(got), decode(image))


def test_an_image_with_two_tables_comes_out_of_the_recorder_as_it_went_in():
    unit = jpeg.rebuilt(replace(PARTS, tables=(PARTS.tables[0], bytes(range(1, 65)))))
    assert received("jpeg", 90000, agree(Shape("jpeg", 96, 7), unit)) == [unit]


@pytest.mark.parametrize("restart", [0, 4])
def test_images_with_restarts_and_coarse_tables_come_out_whole(restart):
    wide = b"".join(bytes([0, value]) for value in PARTS.tables[0])
    unit = jpeg.rebuilt(replace(PARTS, kind=0, tables=(wide, wide), restart=restart))
    assert received("jpeg", 90000, agree(Shape("jpeg", 96, 7), unit)) == [unit]


@pytest.mark.parametrize("size", [(324, 242), (2048, 160), (160, 3000)])
def test_sides_that_a_header_cannot_say_go_in_the_extension(size):
    image = images(1, *size)[0]
    unit = jpeg.rebuilt(jpeg.parse(image))
    data, offsets = Packer("jpeg", 96, 7).pack(unit, 0)
    found = cut(data, offsets)
    assert found[0][12:14] == b"\xff\xd8"
    assert [packet[0] for packet in found] == [0x90, *[0x80] * (len(found) - 1)]
    large = max(size) > 2040
    words = struct.unpack_from(">H", found[0], 14)[0]
    assert tuple(found[0][16 + 4 * words + 6:][:2]) == ((0, 0) if large else (-(-size[0] // 8), -(-size[1] // 8)))
    (got,) = received("jpeg", 90000, found)
    assert np.array_equal(decode(got), decode(image))


def test_huffman_tables_of_their_own_go_in_the_extension():
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 320, 240, "yuvj420p", Fraction(1, 25)
    codec.options = {"huffman": "optimal"}
    frame = av.VideoFrame.from_ndarray(np.random.default_rng(3).integers(0, 255, (360, 320), np.uint8), format="yuvj420p")
    (packet,) = [*codec.encode(frame), *codec.encode(None)]
    image = bytes(packet)
    data, offsets = Packer("jpeg", 96, 7).pack(image, 0)
    (got,) = received("jpeg", 90000, cut(data, offsets))
    assert np.array_equal(decode(got), decode(image))


def test_an_image_in_grey_goes_with_its_frame_header():
    frame = jpeg.segment(jpeg.SOF0, struct.pack(">BHHB", 8, 240, 320, 1) + b"\1\x11\0")
    head = jpeg.segment(jpeg.DQT, b"\0" + PARTS.tables[0]) + frame + PARTS.huffman
    unit = b"\xff\xd8" + head + jpeg.segment(jpeg.SOS, b"\1\1\0\0\x3f\0") + PARTS.scan + b"\xff\xd9"
    data, offsets = Packer("jpeg", 96, 7).pack(unit, 0)
    (got,) = received("jpeg", 90000, cut(data, offsets))
    assert (len(got), got[-len(PARTS.scan) - 12:]) == (len(unit), unit[-len(PARTS.scan) - 12:])
    assert frame in got


def test_both_extensions_stand_in_one():
    """ONVIF Streaming 6.3.2: the image's words follow those of the replay."""
    unit = jpeg.rebuilt(jpeg.parse(images(1, 324, 242)[0]))
    data, offsets = Packer("jpeg", 96, 7).pack(unit, 0, EXTENSION)
    words = struct.unpack_from(">H", data, 14)[0]
    assert data[12:14] == EXTENSION[:2]
    assert data[16:28] == EXTENSION[4:]
    assert data[28:30] == b"\xff\xd8"
    assert struct.unpack_from(">H", data, 30)[0] == words - 4
    assert data[16 + 4 * words:][:4] == bytes(4)
    assert offsets[1] == 1400


@pytest.mark.parametrize("unit", [b"\0\0\0\x05abcd", b"\0\0", b"\0\0\0\1a\0\0\0", b"\xff\xff\xff\xffabc"])
def test_a_picture_whose_lengths_do_not_fit_is_refused_and_leaves_no_trace(unit):
    made = Packer("avc1", 96, 7, sequence=5)
    with pytest.raises(ValueError, match="not coded as its stream"):
        made.pack(unit, 0)
    assert (made.sequence, made.packets, made.octets) == (5, 0, 0)


@pytest.mark.parametrize(("codec", "unit"), [("mp4a", bytes(8192)), ("Opus", bytes(70000)), ("jpeg", b"\xff\xd8\xff\xd9"), ("jpeg", b"nothing"),
                                             ("jpeg", b"\xff\xd8\xff\xc2\0\x02\xff\xda\0\x02x")])
def test_what_rtp_cannot_carry_is_refused(codec, unit):
    with pytest.raises(ValueError, match="not coded as its stream, or too long"):
        Packer(codec, 96, 7).pack(unit, 0)


def test_a_cut_image_is_sent_up_to_the_cut_or_refused():
    image = images(1)[0]
    scan = image.index(jpeg.parse(image).scan)
    for end in range(1, 700):
        made = Packer("jpeg", 96, 7)
        if end <= scan:
            with pytest.raises(ValueError, match="not coded as its stream"):
                made.pack(memoryview(image)[:end], 0)
        else:
            data, _ = made.pack(memoryview(image)[:end], 0)
            assert data.endswith(image[scan:end])
            assert len(data) == 12 + 8 + 4 + 2 * 64 + end - scan


@pytest.mark.parametrize("asked", [{"codec": "vp09"}, {"payload_type": 128}, {"packet_max": 100}, {"packet_max": 66000}, {"lead": 17},
                                   {"channel": 256, "lead": 4}, {"channel": 1}, {"grain": 0}])
def test_what_a_stream_cannot_be_is_refused(asked):
    with pytest.raises(ValueError, match=r"bytes|bits|RTP"):
        Packer(**{"codec": "avc1", "payload_type": 96, "ssrc": 7} | asked)


@pytest.mark.parametrize("extension", [b"\xab\xac\0", b"\xab\xac\0\1abc", bytes(132)])
def test_an_extension_is_whole_words(extension):
    with pytest.raises(ValueError, match="whole words"):
        Packer("avc1", 96, 7).pack(b"\0\0\0\1e", 0, extension)


def test_octets_count_payload_alone():
    made = Packer("alaw", 8, 7, lead=4, channel=2)
    made.pack(bytes(160), 0, EXTENSION)
    made.pack(bytes(2000), 160)
    assert (made.packets, made.octets) == (3, 2160)


def test_readdressed_packets_differ_in_sequence_and_channel_alone():
    made = Packer("alaw", 8, 7, sequence=65535, lead=4, channel=0)
    data, offsets = made.pack(bytes(range(256)) * 8, 9)
    again = readdressed(data, offsets, 17, lead=4, channel=9)
    assert cut(again, offsets) == packets(Shape("alaw", 8, 7, 1400, 4, 9), bytes(range(256)) * 8, 17, 9)
    assert readdressed(data, offsets, 65535, lead=4) == data
    with pytest.raises(ValueError, match="behind its buffer"):
        readdressed(data[:100], offsets, 1, lead=4)
