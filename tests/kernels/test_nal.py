"""recorder/_ext/nal: classes of NAL units, ids, recovery points, start codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtpkit import head265, noise, pps264, pps265, recovery264, slice264, slice265, sps264, sps265, vps265

from recorder._ext.nal import describe, start_code

VCL, FIRST, KEY, LEADING, PREFIX, SET, SEI, DROP = (1 << i for i in range(8))
MIN = st.integers(0, 31)


@pytest.mark.parametrize(("kinds", "bits"), [
    ([1, 2], VCL | FIRST), ([3, 4], VCL), ([5], VCL | FIRST | KEY), ([6], PREFIX | SEI), ([7, 8], PREFIX | SET),
    ([9, 14, 15, 16, 17, 18], PREFIX), ([10, 11, 12, 13, 19, 20, 21, 22, 23], 0), ([0, 24, 25, 26, 27, 28, 29, 30, 31], DROP)])
def test_h264_types(kinds, bits):
    assert [describe(bytes([0x60 | kind, 0x80, 1]), False)[0] for kind in kinds] == [bits] * len(kinds)


@pytest.mark.parametrize(("kinds", "bits"), [
    (range(6), VCL | FIRST), ([6, 7, 8, 9], VCL | FIRST | LEADING), (range(16, 22), VCL | FIRST | KEY), ([32, 33, 34], PREFIX | SET),
    ([35, 39, 41, 44], PREFIX), ([10, 15, 22, 31, 36, 37, 38, 40, 45, 47], 0), (range(48, 64), DROP)])
def test_h265_types(kinds, bits):
    assert [describe(head265(kind) + b"\x80", True)[0] for kind in kinds] == [bits] * len(list(kinds))


def test_forbidden_bit_and_enhancement_layers_are_dropped_and_temporal_id_0_is_tolerated():
    assert describe(b"\xe1\x80", False)[0] == DROP
    assert describe(b"\x82\x01\x80", True)[0] == DROP
    assert describe(b"\x02\x09\x80", True)[0] == DROP
    assert describe(b"\x03\x01\x80", True)[0] == DROP
    assert describe(b"\x02\x00\x80", True)[0] == VCL | FIRST
    assert describe(b"\x02", True)[0] == DROP


@given(MIN, st.integers(0, 255))
def test_ids_of_h264_sets(sps, pps):
    assert describe(sps264(sps), False)[1] == (1, sps, 0)
    assert describe(pps264(pps, sps), False)[1] == (2, pps, sps)
    assert describe(slice264(pps=pps), False)[2] == pps


@given(st.integers(0, 15), st.integers(0, 15), st.integers(0, 63), st.integers(0, 6))
def test_ids_of_h265_sets_behind_sub_layers(vps, sps, pps, layers):
    assert describe(vps265(vps), True)[1] == (0, vps, 0)
    assert describe(sps265(sps, vps, layers), True)[1] == (1, sps, vps)
    assert describe(pps265(pps, sps), True)[1] == (2, pps, sps)
    assert describe(slice265(1, pps=pps), True)[2] == describe(slice265(19, pps=pps), True)[2] == pps


@pytest.mark.parametrize("nal", [b"\x67", b"\x67\x42\x00", b"\x68", b"\x68\x00\x00\x00", b"\x67\x42\x00\x1e\x00\x00\x00\x00\x00\x00"])
def test_sets_too_short_to_tell_have_no_ids(nal):
    assert describe(nal, False)[1] is None


def test_a_slice_that_is_cut_off_refers_to_nothing():
    assert describe(b"\x65", False)[2] == -1
    assert describe(b"\x65\x00\x00\x00\x00\x00", False)[2] == -1


@given(st.integers(0, 65535), st.booleans(), st.sampled_from([0, 1, 20, 254, 255, 256, 700]), st.booleans())
def test_recovery_points_behind_other_messages(frames, exact, size, zeros):
    body = b"\x00\x00\x03\x01" * (size // 3) + noise(size % 3) if zeros else noise(size)
    number = bytes([255] * (size // 255) + [size % 255])
    assert describe(recovery264(frames, exact, b"\x05" + number + body), False)[3] == (frames, exact)


@pytest.mark.parametrize("nal", [b"\x06", b"\x06\x06", b"\x06\xff\xff\xff", b"\x06\x05\xff\xff\xff\x01",
                                 b"\x06\x06\x01\x00", b"\x06\x05\x02ab\x80"])
def test_sei_without_a_readable_recovery_point(nal):
    assert describe(nal, False)[3] is None


@given(st.lists(st.sampled_from([b"\0", b"\0\0", b"\1", b"\0\0\3", b"\xff" * 5, b"x" * 63, b"\0" * 64]), max_size=40).map(b"".join))
def test_start_codes_are_found_where_find_finds_them(data):
    at = data.find(b"\0\0\1")
    assert start_code(data) == (len(data) if at < 0 else at)


@pytest.mark.parametrize("at", range(140))
def test_start_codes_at_any_place_of_a_vector(at):
    assert start_code(b"\xaa" * at + b"\0\0\1" + b"\xaa" * 70) == at
    assert start_code(b"\xaa" * at + b"\0\0\1") == at
    assert start_code(b"\xaa" * at + b"\0\0") == at + 2
