"""What H.265 alone does: PACI, layers, IRAP types, leading pictures."""

import pytest
from rtpkit import DAMAGED, KEY, LEADING, Stream, aggregate, head265, noise, pps265, prefixed, slice265, sps265, vps265


def live() -> Stream:
    stream = Stream("h265")
    stream.warm()
    return stream


@pytest.mark.parametrize("payload", [head265(50) + noise(9), head265(63) + noise(9), b"\x82\x01\x80x", b"\x02\x11\x80x", b"\x03\x01\x80x",
                                     b"\xe2\x01\xc1x", aggregate([head265(50) + noise(3)], h265=True), b"\x62\x01\xf2xx", b"\x62\x11\xc1xx"])
def test_unusable_payloads_are_dropped_and_the_picture_survives(payload):
    """PACI, unspecified, F bit, layers above the base, in single NAL units, AP and FU."""
    stream = live()
    stream.send(payload)
    stream.inter()
    aus = stream.end()
    assert [(au["flags"] & DAMAGED, data) for au, data in aus] == [(0, stream.sent[-1])]
    assert stream.track.stats()["dropped_nals"] == 1


@pytest.mark.parametrize("payload", [b"\x02", b"\x62\x01", b"\x60\x01"])
def test_payloads_too_short_to_be_anything_are_malformed(payload):
    stream = live()
    stream.send(payload)
    stream.inter()
    assert stream.flags() == [0]
    assert stream.track.stats()["malformed"] == 1


def test_trail_n_is_a_picture():
    """retina#123: type 0 is a valid NAL unit."""
    stream = live()
    stream.picture(slice265(0))
    assert [data for _, data in stream.end()] == stream.sent


@pytest.mark.parametrize("kind", range(16, 22))
def test_every_irap_is_an_access_point(kind):
    stream = Stream("h265")
    stream.picture(vps265(), sps265(), pps265(), slice265(kind))
    stream.inter()
    assert [au["flags"] & 15 for au, _ in stream.end()] == [KEY, 0]


def test_leading_pictures_are_flagged_by_type():
    stream = live()
    for kind in (21, 8, 9, 6, 7, 1):
        stream.picture(*([vps265(), sps265(), pps265()] if kind == 21 else []), slice265(kind))
    assert stream.flags() == [KEY, LEADING, LEADING, LEADING, LEADING, 0]


def test_suffix_sei_and_end_of_sequence_stay_with_their_picture():
    stream = Stream("h265")
    tail = [head265(40) + b"\x84\x01a\x80", head265(36)]
    stream.picture(vps265(), sps265(), pps265(), slice265(19), *tail)
    stream.inter()
    assert [data for _, data in stream.end()] == stream.sent


def test_a_key_frame_without_its_vps_is_not_decodable():
    stream = Stream("h265")
    stream.picture(sps265(), pps265(), slice265(19))
    stream.inter()
    stream.key()
    aus = stream.end()
    assert [data for _, data in aus] == [prefixed([vps265(), sps265(), pps265(), slice265(19)])]
    assert stream.track.stats()["early_aus"] == 2
