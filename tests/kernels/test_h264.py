"""What H.264 alone does: dropped types, recovery points, gradual refresh."""

import pytest
from rtpkit import AUD264, DAMAGED, KEY, LEADING, Stream, aggregate, pps264, prefixed, recovery264, slice264, sps264


def live() -> Stream:
    stream = Stream()
    stream.warm()
    return stream


@pytest.mark.parametrize("payload", [b"\x60" + b"x" * 9, b"\x7e" + b"x" * 9, b"\x7f" + b"x" * 9, b"\x7d\x85xx", b"\x79\0\0xx",
                                     b"\x7a\0\0xx", b"\x7b\0\0xx", b"\xe1\x80xx", b"\xfc\x85xx", b"\x78\0\2\x60x", b"\x7c\xc0xx",
                                     b"\x7c\xd8xx"])
def test_unusable_payloads_are_dropped_and_the_picture_survives(payload):
    """Types 0, 30, 31, FU-B, STAP-B, MTAP, F bit on single and FU-A, type 0 inside STAP-A and FU-A, an aggregate inside FU-A."""
    stream = live()
    stream.send(payload)
    nal = slice264()
    stream.send(nal, marker=True)
    aus = stream.end()
    assert [(au["flags"] & DAMAGED, data) for au, data in aus] == [(0, prefixed([nal]))]
    assert stream.track.stats()["dropped_nals"] == 1


@pytest.mark.parametrize("payload", [b"\x7c", b"\x18"])
def test_payloads_too_short_to_be_anything_are_malformed(payload):
    stream = live()
    stream.send(payload)
    stream.inter()
    assert stream.flags() == [0]
    assert stream.track.stats()["malformed"] == 1


def test_the_reserved_bit_of_fragments_is_ignored():
    stream = live()
    stream.send(b"\x7c\xa1" + slice264()[1:30])
    stream.send(b"\x7c\x61" + slice264()[30:], marker=True)
    assert [data for _, data in stream.end()] == [prefixed([slice264()])]


def test_sei_and_sets_are_kept_in_band_as_sent():
    stream = Stream()
    nals = [AUD264, sps264(), pps264(), recovery264(before=b"\x05\x03abc"), slice264(5)]
    stream.send(aggregate(nals), marker=True)
    stream.step()
    stream.inter()
    assert stream.end()[0][1] == prefixed(nals)


def test_an_exact_recovery_point_is_an_access_point_and_heals():
    stream = live()
    stream.inter(lose=[0])
    stream.inter()
    stream.picture(recovery264(0), slice264(1))
    stream.inter()
    assert stream.flags() == [DAMAGED, KEY, 0]


@pytest.mark.parametrize("sei", [recovery264(0, exact=False), recovery264(5)])
def test_inexact_and_gradual_recovery_points_are_none_where_there_are_idrs(sei):
    stream = live()
    stream.picture(sei, slice264(1))
    assert stream.flags() == [0]


def test_a_stream_that_only_refreshes_gradually_is_recorded_and_heals_when_the_refresh_is_done():
    stream = Stream()
    for i in range(30):
        start = [sps264(), pps264(), recovery264(3, exact=False)] if i % 10 == 2 else []
        stream.picture(*start, slice264(1, seed=i), lose=[0] if i == 17 else [])
    expected = [KEY if i % 10 == 2 else 0 for i in range(2, 30) if i != 17]
    for i in [18, 19, 20, 21, 22, 23, 24, 25]:
        expected[i - 3] |= DAMAGED
    aus = stream.end()
    assert [au["flags"] & 15 for au, _ in aus] == expected


def test_recovery_point_behind_the_slice_belongs_to_the_next_picture():
    stream = live()
    stream.inter(marker="none")
    stream.send(recovery264(0), ts=stream.ts - 3600)
    stream.inter()
    stream.inter()
    assert [au["flags"] & 15 for au, _ in stream.end()] == [0, KEY, 0]


def test_pictures_after_an_idr_are_never_leading():
    stream = live()
    stream.key()
    stream.ts -= 7200
    stream.inter()
    assert not any(flags & LEADING for flags in stream.flags())


def test_data_partitions_b_and_c_belong_to_the_picture():
    stream = Stream()
    nals = [slice264(2), b"\x63abc", b"\x64abc"]
    stream.key(marker="all")
    stream.picture(*nals, marker="all")
    stream.inter()
    assert [data for _, data in stream.end()] == stream.sent


def test_a_new_picture_with_a_data_partition_ends_the_one_before():
    stream = Stream()
    stream.key(marker="none")
    for i in range(3):
        stream.picture(slice264(2, seed=i), marker="none", step=0)
    assert [data for _, data in stream.end()] == stream.sent
