"""recorder/_ext/jpeg: the images that come out are those that FFmpeg's encoder made, and what is damaged is dropped and said."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtpkit import DAMAGED, KEY, WALL, Stream, noise, rtp

from bench.camsim import jpeg
from bench.camsim.jpeg import Jpeg

LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 """ + "99 " * 32


def images(count: int = 3, width: int = 320, height: int = 240) -> list[bytes]:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 25)
    codec.options, codec.thread_count = {"huffman": "default"}, 1
    out = []
    for number in range(count):
        shades = np.add.outer(np.arange(height), np.arange(width) + 20 * number).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.repeat(shades[..., None], 3, 2), format="rgb24")
        frame = frame.reformat(format="yuvj420p", dst_color_range="JPEG")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        out += [bytes(p) for p in codec.encode(frame)]
    return out


PICTURES = [jpeg.parse(image) for image in images()]


def decode(image: bytes) -> np.ndarray:
    (frame,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(image))
    return frame.to_ndarray(format="rgb24")


def send(stream: Stream, payloads: list[bytes], *, lose: tuple[int, ...] = (), mark: bool = True) -> None:
    for i, payload in enumerate(payloads):
        stream.send(payload, marker=mark and i == len(payloads) - 1, lose=i in lose)
    stream.step()


def test_images_of_an_encoder_come_out_whole_and_decode_alike():
    stream, sent = Stream("jpeg"), images()
    for image in sent:
        send(stream, jpeg.payloads(jpeg.parse(image), 700))
    aus = stream.take()
    assert [data for _, data in aus] == [jpeg.rebuilt(jpeg.parse(image)) for image in sent]
    assert all(np.array_equal(decode(data), decode(image)) for (_, data), image in zip(aus, sent, strict=True))
    assert [(au["pts"] - 5000, au["dts"], au["flags"] & KEY) for au, _ in aus] == [(3600 * i, 5000 + 3600 * i, KEY) for i in range(3)]
    assert stream.track.format_sets(1) == (struct.pack(">HH", 320, 240),)


def test_pictures_of_4_2_2_say_so():
    picture = Jpeg(320, 240, 0, PICTURES[0].tables, PICTURES[0].huffman, PICTURES[0].scan)
    stream = Stream("jpeg")
    send(stream, jpeg.payloads(picture))
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(picture)]
    assert jpeg.parse(jpeg.rebuilt(picture)).kind == 0


@pytest.mark.parametrize("q", [1, 10, 49, 50, 75, 99])
def test_tables_follow_from_q(q):
    """RFC 2435 4.2, from the tables of ITU-T T.81 K.1 and K.2 in zigzag order."""
    scale = 5000 // q if q < 50 else 200 - 2 * q
    order = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
    tables = tuple(bytes(min(255, max(1, (int(text.split()[i]) * scale + 50) // 100)) for i in order) for text in (LUMA, CHROMA))
    picture = Jpeg(320, 240, 1, tables, PICTURES[0].huffman, PICTURES[0].scan)
    stream = Stream("jpeg")
    send(stream, jpeg.payloads(picture, q=q))
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(picture)]
    assert decode(jpeg.rebuilt(picture)).shape == (240, 320, 3)


@pytest.mark.parametrize("sizes", [(64,), (64, 64), (64, 64, 64), (128, 128), (128, 64)])
def test_tables_in_band_of_any_number_and_precision(sizes):
    tables = tuple(noise(size, size + i) for i, size in enumerate(sizes))
    picture = Jpeg(320, 240, 1, tables, PICTURES[0].huffman, PICTURES[0].scan)
    stream = Stream("jpeg")
    send(stream, jpeg.payloads(picture))
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(picture)]


def test_tables_that_are_sent_once_hold_for_their_q():
    stream = Stream("jpeg")
    send(stream, jpeg.payloads(PICTURES[0], q=200))
    later = jpeg.payloads(PICTURES[0], q=200)
    later[0] = later[0][:8] + b"\0\0\0\0" + later[0][12 + 64:]
    send(stream, later)
    send(stream, [b"\0\0\0\0\1\xc9" + later[0][6:]])            # another Q: nobody has its tables
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(PICTURES[0])] * 2
    assert stream.track.stats()["malformed"] == 1


def test_a_restart_interval_stands_in_the_image():
    picture = Jpeg(320, 240, 1, PICTURES[0].tables, PICTURES[0].huffman, PICTURES[0].scan, restart=20)
    stream = Stream("jpeg")
    send(stream, jpeg.payloads(picture, 300))
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(picture)]


@pytest.mark.parametrize("lost", range(4))
def test_a_picture_with_a_hole_is_dropped_and_the_next_is_flagged(lost):
    stream = Stream("jpeg")
    payloads = jpeg.payloads(PICTURES[0], -(-len(PICTURES[0].scan) // 4) + 20)
    assert len(payloads) >= 4
    send(stream, jpeg.payloads(PICTURES[1]))
    send(stream, payloads, lose=(lost,))
    send(stream, jpeg.payloads(PICTURES[2]))
    aus = stream.take()
    assert [(au["flags"] & DAMAGED, au["pts"] - 5000, data) for au, data in aus] == [
        (0, 0, jpeg.rebuilt(PICTURES[1])), (DAMAGED, 7200, jpeg.rebuilt(PICTURES[2]))]


def test_a_hole_that_the_sequence_numbers_do_not_show_is_found_by_the_offset():
    stream, payloads = Stream("jpeg"), jpeg.payloads(PICTURES[0], 500)
    send(stream, payloads[:1] + payloads[2:])
    send(stream, jpeg.payloads(PICTURES[1]))
    assert [(au["flags"] & DAMAGED, data) for au, data in stream.take()] == [(DAMAGED, jpeg.rebuilt(PICTURES[1]))]
    assert stream.track.stats()["broken_aus"] == 1


def test_pictures_of_a_camera_that_never_marks_end_with_the_next():
    stream = Stream("jpeg")
    for picture in PICTURES:
        send(stream, jpeg.payloads(picture, 500), mark=False)
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(p) for p in PICTURES[:2]]


def test_a_missing_end_of_image_is_put_there():
    stream, payloads = Stream("jpeg"), jpeg.payloads(PICTURES[0], 500)
    payloads[-1] = payloads[-1][:-2]
    send(stream, payloads)
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(PICTURES[0])]


def test_another_size_is_another_format():
    stream, small = Stream("jpeg"), jpeg.parse(images(1, 160, 120)[0])
    for picture in (PICTURES[0], small, PICTURES[1]):
        send(stream, jpeg.payloads(picture))
    assert [au["format"] for au, _ in stream.take()] == [1, 2, 1]
    assert stream.track.format_sets(2) == (struct.pack(">HH", 160, 120),)


# ---- pictures over 2040 pixels

def send_extended(stream: Stream, payloads: list[bytes], segments: bytes) -> None:
    """The first packet with the ONVIF header extension 0xFFD8."""
    content = segments + b"\xff" * (-len(segments) % 4)
    for i, payload in enumerate(payloads):
        head = struct.pack(">HH", 0xFFD8, len(content) // 4) + content if i == 0 else b""
        stream.track.packet(rtp(stream.seq, stream.ts, payload, marker=i == len(payloads) - 1, first=0x90 if head else 0x80, head=head),
                            stream.mono_ns, WALL)
        stream.seq += 1
    stream.step()


LARGE = Jpeg(2592, 1944, 1, PICTURES[0].tables, PICTURES[0].huffman, PICTURES[0].scan)
SOF = jpeg.segment(0xC0, struct.pack(">BHHB", 8, 1944, 2592, 3) + bytes([1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0]))


def test_a_size_over_2040_comes_from_the_onvif_extension():
    stream = Stream("jpeg")
    send_extended(stream, jpeg.payloads(LARGE), SOF)
    ((_, data),) = stream.take()
    assert stream.track.format_sets(1) == (struct.pack(">HH", 2592, 1944),)
    found = jpeg.parse(data)
    assert (found.width, found.height, found.tables, found.scan) == (2592, 1944, LARGE.tables, LARGE.scan)
    assert data.count(SOF) == 1


def test_segments_of_the_extension_replace_what_the_packet_header_says():
    tables = jpeg.segment(0xDB, b"\0" + noise(64, 5)) + jpeg.segment(0xDB, b"\1" + noise(64, 6))
    stream = Stream("jpeg")
    send_extended(stream, jpeg.payloads(LARGE, q=0), b"\xff\xd8" + tables + SOF + LARGE.huffman + jpeg.segment(0xFE, b"hello"))
    ((_, data),) = stream.take()
    found = jpeg.parse(data)
    assert found.tables == (noise(64, 5), noise(64, 6))
    assert (data.count(LARGE.huffman), data.count(SOF), data.count(b"hello")) == (1, 1, 1)


def test_a_size_over_2040_comes_from_the_sdp():
    stream = Stream("jpeg", options={"width": 2592, "height": 1944})
    send(stream, jpeg.payloads(LARGE))
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(LARGE)]


def test_pictures_whose_size_nobody_says_are_refused():
    stream = Stream("jpeg")
    send(stream, jpeg.payloads(LARGE))
    assert (stream.take(), stream.track.stats()["malformed"]) == ([], 1)


@pytest.mark.parametrize("segments", [b"\xff\xc0\xff\xff", b"\xff\xc0\0\1abcd", SOF[:9], SOF[:4] + bytes(15), b"\xff" * 40, b"\0" * 40,
                                      jpeg.segment(0xDA, bytes(10)), SOF[:9] + b"\2" + SOF[10:]])
def test_broken_segments_are_left_out(segments):
    stream = Stream("jpeg")
    send_extended(stream, jpeg.payloads(PICTURES[0]), segments)
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(PICTURES[0])]


@pytest.mark.parametrize("payload", [b"\0" * 7, bytes([0, 0, 0, 0, 2, 50, 40, 30]) + b"x", bytes([0, 0, 0, 0, 128, 50, 40, 30]) + b"x",
                                     bytes([0, 0, 0, 0, 65, 50, 40, 30]) + b"abc", bytes([0, 0, 0, 0, 1, 0, 40, 30]) + b"x",
                                     bytes([0, 0, 0, 0, 1, 110, 40, 30]) + b"x", bytes([0, 0, 0, 0, 1, 255, 40, 30, 0, 0, 1]),
                                     bytes([0, 0, 0, 0, 1, 255, 40, 30, 0, 0, 0, 65]) + bytes(80)])
def test_broken_headers_are_refused_and_cost_one_picture(payload):
    stream = Stream("jpeg")
    send(stream, [payload])
    send(stream, jpeg.payloads(PICTURES[1]))
    assert [data for _, data in stream.take()] == [jpeg.rebuilt(PICTURES[1])]
    assert stream.track.stats()["malformed"] == 1


def test_refused_pictures_never_turn_the_video_off():
    stream = Stream("jpeg")
    for _ in range(150):
        send(stream, [b"\0" * 7])
    send(stream, jpeg.payloads(PICTURES[1]))
    assert len(stream.take()) == 1


def test_a_picture_without_room_is_dropped_as_overload():
    stream = Stream("jpeg", capacity=1 << 14)
    big = Jpeg(320, 240, 1, PICTURES[0].tables, PICTURES[0].huffman, noise(20_000))
    send(stream, jpeg.payloads(big))
    send(stream, jpeg.payloads(Jpeg(320, 240, 1, PICTURES[0].tables, PICTURES[0].huffman, noise(900))))
    assert [len(data) > 900 for _, data in stream.take()] == [True]
    assert stream.track.stats()["overload_aus"] == stream.queue.dropped_aus == 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 64, 65, 7]), st.sampled_from([0, 1, 50, 99, 128, 255]),
                          st.binary(max_size=120), st.binary(max_size=24), st.booleans(), st.booleans()), max_size=12))
def test_any_bytes_as_jpeg_give_images_or_nothing(packets):
    stream = Stream("jpeg", capacity=8192)
    for offset, kind, q, rest, ext, marker, step in packets:
        payload = bytes([0, 0, 0, offset, kind, q, 4, 4]) + rest
        content = ext + b"\xff" * (-len(ext) % 4)
        head = struct.pack(">HH", 0xFFD8, len(content) // 4) + content if ext else b""
        stream.track.packet(rtp(stream.seq, stream.ts, payload, marker=marker, first=0x90 if ext else 0x80, head=head), stream.mono_ns, WALL)
        stream.seq += 1
        if step:
            stream.step()
    for _, data in stream.end():
        assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
