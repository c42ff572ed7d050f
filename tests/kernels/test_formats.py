"""recorder/_ext/paramsets: formats by parameter sets, in band and from the SDP."""

import pytest
from rtpkit import DAMAGED, KEY, Stream, pps264, pps265, slice264, slice265, sps264, sps265, vps265

from recorder._ext.rtp import EVENT_DAMAGED_STREAM, EVENT_FIRST_AU, EVENT_FORMAT_CHANGE

A, B = b"\x11", b"\x12\x34"


def numbers(stream: Stream) -> list[int]:
    return [au["format"] for au, _ in stream.end()]


def test_the_first_format_is_1_and_holds_the_sets_as_sent():
    stream = Stream()
    stream.key()
    stream.inter()
    stream.track.flush()
    assert stream.track.take_events() == EVENT_FIRST_AU | EVENT_FORMAT_CHANGE
    assert numbers(stream) == [1, 1]
    assert stream.track.format_sets(1) == (sps264(), pps264())
    with pytest.raises(KeyError):
        stream.track.format_sets(2)
    with pytest.raises(KeyError):
        stream.track.format_sets(0)


def test_sets_that_change_at_a_key_frame_make_a_new_format_there():
    stream = Stream()
    stream.key()
    stream.inter()
    stream.key(sets=[sps264(tail=B), pps264()])
    stream.inter()
    assert numbers(stream) == [1, 1, 2, 2]
    assert stream.track.format_sets(2) == (sps264(tail=B), pps264())
    assert stream.track.take_events() & EVENT_FORMAT_CHANGE


def test_ping_pong_between_two_contents_of_one_id_makes_two_formats():
    stream = Stream()
    for i in range(20):
        stream.key(sets=[sps264(tail=A if i % 2 else B), pps264()])
    assert numbers(stream) == [1, 2] * 10
    assert stream.track.stats()["formats"] == 2


def test_ping_pong_between_two_ids_makes_two_formats():
    """mediamtx#4262."""
    stream = Stream()
    for i in range(20):
        stream.picture(sps264(i % 2), pps264(i % 2, i % 2), slice264(5, pps=i % 2))
    assert numbers(stream) == [1, 2] * 10
    assert stream.track.format_sets(2) == (sps264(1), pps264(1, 1))


def test_repeated_sets_with_trailing_zeros_are_the_same_format():
    stream = Stream()
    stream.key()
    stream.key(sets=[sps264() + b"\0\0", pps264() + b"\0"])
    assert numbers(stream) == [1, 1]


def test_every_pps_of_the_sps_is_in_the_format_in_the_order_of_ids():
    stream = Stream()
    stream.picture(sps264(), pps264(2), pps264(0), pps264(1, 7), slice264(5, pps=2))
    stream.inter()
    stream.end()
    assert stream.track.format_sets(1) == (sps264(), pps264(0), pps264(2))


def test_sdp_sets_serve_where_none_come_in_band():
    stream = Stream(options={"parameter_sets": [b"\0\0\0\1" + sps264(), pps264() + b"\0\0\0\1", b""]})
    stream.picture(slice264(5))
    stream.inter()
    assert numbers(stream) == [1, 1]
    assert stream.track.format_sets(1) == (sps264(), pps264())


def test_stale_sdp_sets_lose_against_in_band_ones_from_the_first_picture():
    stream = Stream(options={"parameter_sets": [sps264(tail=B), pps264(), pps264(1)]})
    stream.key()
    stream.inter()
    assert numbers(stream) == [1, 1]
    assert stream.track.format_sets(1) == (sps264(), pps264())


def test_without_sets_recording_waits_for_the_key_frame_that_brings_them():
    stream = Stream()
    stream.picture(slice264(5))
    stream.inter()
    stream.key()
    stream.inter()
    assert [au["flags"] & 15 for au, _ in stream.end()] == [KEY, 0]
    assert stream.track.stats()["early_aus"] == 2


def test_a_key_frame_that_refers_to_an_unknown_pps_later_on_is_kept_and_flagged():
    stream = Stream()
    stream.warm()
    stream.picture(slice264(5, pps=9))
    aus = stream.end()
    assert [(au["flags"] & 15, au["format"]) for au, _ in aus] == [(KEY | DAMAGED, 1)]


def test_an_sps_that_nobody_can_parse_is_recorded_all_the_same():
    sps = b"\x67\xff\xff\xff\x80" + b"\xff" * 300
    stream = Stream()
    stream.key(sets=[sps, pps264()])
    stream.inter()
    assert numbers(stream) == [1, 1]
    assert stream.track.format_sets(1) == (sps, pps264())


def test_h265_formats_hold_vps_sps_pps():
    stream = Stream("h265")
    stream.picture(vps265(3), sps265(2, 3, 2), pps265(5, 2), slice265(19, pps=5))
    stream.picture(vps265(3, tail=B), sps265(2, 3, 2), pps265(5, 2), slice265(21, pps=5))
    assert numbers(stream) == [1, 2]
    assert stream.track.format_sets(1) == (vps265(3), sps265(2, 3, 2), pps265(5, 2))
    assert stream.track.format_sets(2)[0] == vps265(3, tail=B)


def test_a_sender_with_ever_new_sets_is_stopped():
    from rtpkit import interleaved, rtp

    from recorder._ext.framing import Connection
    stream = Stream(capacity=1 << 22)
    connection = Connection()
    connection.bind(0, 1, stream.track)
    events = 0
    for i in range(300):
        for nal in (sps264(tail=bytes([1 + i % 250, 1 + i // 250])), pps264(), slice264(5)):
            packet = interleaved(0, rtp(stream.seq, stream.ts, nal))
            events |= connection.feed(packet, len(packet), stream.mono_ns, 0)
            stream.seq += 1
        stream.step()
        stream.take()
    assert events & EVENT_DAMAGED_STREAM
    assert "formats" in connection.error
    assert stream.track.stats()["formats"] == 255


def test_too_many_and_too_large_sets_are_bounded():
    stream = Stream(mtu=9000)
    stream.picture(*(pps264(n) for n in range(200)), sps264(tail=b"x" * 5000), sps264(), slice264(5))
    stream.inter()
    assert numbers(stream) == [1, 1][:0]
    assert stream.track.stats()["early_aus"] == 2


def test_sets_of_a_quarter_megabyte_make_no_format():
    """64 sets of 4 KiB, all new with each key frame, filled memory and chunk footers."""
    stream = Stream()
    stream.key(sets=[sps264(), *(pps264(i, tail=b"\x55" * 4000) for i in range(8))])
    stream.key(sets=[sps264(1), pps264(1, 1)])
    assert stream.track.stats()["formats"] == 0 or stream.track.format_sets(1) == (sps264(1), pps264(1, 1))
