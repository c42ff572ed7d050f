"""recorder/_ext/rtp: headers, payload types, SSRCs, sequence and RTCP, shown on an audio track (every packet is an access unit)."""

import itertools
import struct

import pytest
from rtpkit import DAMAGED, DISCONTINUITY, KEY, PROVISIONAL, WALL, Stream, goodbye, rtp, sender_report

from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import EVENT_BYE, EVENT_FIRST_AU, EVENT_FORMAT_CHANGE, EVENT_RTCP, RtpTrack

NOW = 10**9


def speech() -> Stream:
    return Stream("pcmu", 8000, pt=0)


def packet(stream: Stream, **changes: object) -> None:
    """The stream's next packet, 20 ms of sound, with changes to its header."""
    options: dict[str, object] = {"pt": 0, "ssrc": stream.ssrc, "seq": stream.seq, "ts": stream.ts, "payload": b"\x7f" * 160, **changes}
    stream.track.packet(rtp(**options), stream.mono_ns, WALL - NOW)  # type: ignore[arg-type]
    stream.seq += 1
    stream.step(160)


def sizes(stream: Stream) -> list[int]:
    return [len(data) for _, data in stream.take()]


@pytest.mark.parametrize("data", [b"\x80", b"\x80\x00" + bytes(9), b"\x40\x00" + bytes(30), b"\x8f\x00" + bytes(30), b"\x90\x00" + bytes(10),
                                  b"\x90\x00" + bytes(12) + b"\xff\xff" + bytes(50)])
def test_headers_that_do_not_hold_together_are_dropped(data):
    stream = speech()
    stream.track.packet(data, NOW)
    assert stream.track.stats()["malformed"] == 1
    assert stream.take() == []


def test_csrcs_and_onvif_extension_are_parsed_not_assumed_absent():
    stream = speech()
    packet(stream, first=0x93, head=struct.pack(">IIIHH", 1, 2, 3, 0xABAC, 3) + bytes(12))
    packet(stream, first=0x9F, head=bytes(60) + struct.pack(">HH", 0xFFD8, 0))
    assert sizes(stream) == [160, 160]


def test_an_extension_of_65535_words_that_is_there_is_skipped():
    stream = speech()
    packet(stream, first=0x90, head=struct.pack(">HH", 0xABAC, 65535) + bytes(4 * 65535))
    assert sizes(stream) == [160]


def test_padding_of_0_or_more_than_there_is_drops_and_valid_padding_is_trimmed():
    stream = speech()
    packet(stream, first=0xA0, payload=b"abc\x00")
    packet(stream, first=0xA0, payload=b"abc\x05")
    packet(stream, first=0xA0, payload=b"abc\x00\x00\x03")
    assert [data for _, data in stream.take()] == [b"abc"]
    assert stream.track.stats()["malformed"] == 2


def test_a_packet_of_padding_alone_is_no_access_unit():
    stream = speech()
    packet(stream)
    packet(stream, first=0xA0, payload=b"\x00\x02")
    packet(stream)
    assert sizes(stream) == [160, 160]
    assert stream.track.stats()["lost"] == 0


def test_pt_50_that_shares_a_sequence_number_is_no_duplicate_and_no_loss():
    stream = speech()
    for _ in range(5):
        packet(stream, pt=50, seq=stream.seq)
        stream.seq -= 1
        packet(stream)
    stats = stream.track.stats()
    assert (stats["unknown_pt"], stats["duplicates"], stats["lost"], stats["packets"]) == (5, 0, 0, 5)
    assert len(stream.take()) == 10 - 5


def test_loss_and_duplicates_are_counted_and_the_next_frame_is_flagged():
    stream = speech()
    packet(stream)
    stream.seq += 3
    packet(stream)
    packet(stream, seq=stream.seq - 1)
    packet(stream, seq=stream.seq - 5)
    stream.seq -= 2
    packet(stream)
    assert stream.flags() == [KEY, KEY | DAMAGED, KEY]
    stats = stream.track.stats()
    assert (stats["lost"], stats["duplicates"], stats["restarts"]) == (3, 2, 0)


def test_sequence_and_timestamp_wrap_in_the_same_packet():
    stream = speech()
    stream.seq, stream.ts = 65530, 2**32 - 6 * 160
    for _ in range(12):
        packet(stream)
    pts = [au["pts"] for au, _ in stream.take()]
    assert {b - a for a, b in itertools.pairwise(pts)} == {160}
    stats = stream.track.stats()
    assert (stats["lost"], stats["discontinuities"], stats["highest_seq"], stats["base_seq"]) == (0, 0, 65541, 65530)


@pytest.mark.parametrize("jump", [-20000, 20000, 32768])
def test_a_sender_that_begins_a_new_sequence_loses_no_packet(jump):
    stream = speech()
    packet(stream)
    stream.seq += jump
    packet(stream)
    packet(stream)
    assert stream.flags() == [KEY, KEY | DAMAGED, KEY]
    assert (stream.track.stats()["restarts"], stream.track.stats()["duplicates"]) == (1, 0)


def test_64_old_packets_in_a_row_are_a_new_sequence():
    stream = speech()
    for _ in range(80):
        packet(stream)
    stream.take()
    stream.seq -= 75
    for _ in range(70):
        packet(stream)
    stats = stream.track.stats()
    assert (stats["restarts"], stats["duplicates"]) == (1, 63)
    assert len(stream.take()) == 7


def test_a_new_sequence_with_new_timestamps_starts_a_new_timeline_at_once():
    stream = speech()
    packet(stream)
    stream.seq, stream.ts = 40000, 77
    packet(stream)
    packet(stream)
    aus = [au for au, _ in stream.take()]
    assert [au["flags"] & DISCONTINUITY for au in aus] == [0, DISCONTINUITY, 0]
    assert [b["pts"] - a["pts"] for a, b in itertools.pairwise(aus)] == [160, 160]


def test_another_sessions_packets_on_the_channel_are_kept_out():
    """Reolink leaks another session (moonfire#114)."""
    stream = speech()
    packet(stream)
    packet(stream, ssrc=7, seq=9, payload=b"other")
    stream.seq -= 1
    packet(stream)
    assert sizes(stream) == [160, 160]
    stats = stream.track.stats()
    assert (stats["foreign_ssrc"], stats["lost"], stats["ssrc"]) == (1, 0, 0x1234)


def test_another_ssrc_takes_over_after_two_seconds_of_silence():
    stream = speech()
    packet(stream)
    stream.mono_ns += 2 * 10**9
    packet(stream, ssrc=7, seq=9, ts=3)
    aus = [au for au, _ in stream.take()]
    assert aus[1]["flags"] & ~PROVISIONAL == KEY | DAMAGED | DISCONTINUITY
    assert aus[1]["pts"] - aus[0]["pts"] == pytest.approx(2.02 * 8000, abs=2)
    assert stream.track.stats()["ssrc"] == 7


def test_another_ssrc_takes_over_at_once_after_bye():
    stream = speech()
    packet(stream)
    stream.track.take_events()
    stream.track.packet(goodbye(0x1234), stream.mono_ns)
    assert stream.track.take_events() == EVENT_BYE
    packet(stream, ssrc=7, seq=9, ts=3)
    assert len(stream.take()) == 2


def test_bye_of_somebody_else_is_none_of_ours():
    stream = speech()
    packet(stream)
    stream.track.take_events()
    stream.track.packet(goodbye(99), stream.mono_ns)
    assert stream.track.take_events() == 0


def test_the_ssrc_of_setup_is_a_hint_that_wins_when_it_shows_up():
    stream = Stream("pcmu", 8000, pt=0, options={"ssrc": 7})
    packet(stream)
    packet(stream, ssrc=7)
    packet(stream)
    assert stream.track.stats()["ssrc"] == 7
    assert stream.track.stats()["foreign_ssrc"] == 1


def test_a_wrong_ssrc_of_setup_does_no_harm():
    stream = Stream("pcmu", 8000, pt=0, options={"ssrc": 7})
    packet(stream)
    packet(stream)
    assert sizes(stream) == [160, 160]


def test_a_sender_report_is_kept_with_the_pts_of_its_timestamp():
    stream = speech()
    stream.ts = 2**32 - 80
    packet(stream)
    stream.take()
    stream.track.take_events()
    stream.track.packet(sender_report(0xE9000000_80000000, 80, ssrc=99), 5 * 10**9, WALL)
    assert stream.track.take_events() == EVENT_RTCP
    assert stream.track.sender_report == {"ntp": 0xE9000000_80000000, "rtp": 80, "pts": 2**32 + 80, "mono_ns": 5 * 10**9,
                                          "wall_ns": WALL + 5 * 10**9, "ssrc": 99}


def test_a_sender_report_before_the_first_packet_waits_for_it():
    stream = speech()
    stream.track.packet(sender_report(1, 4990), 7)
    assert stream.track.sender_report is None
    packet(stream)
    report = stream.track.sender_report
    assert report is not None
    assert report["pts"] == 4990


@pytest.mark.parametrize("data", [b"\x80\xc8", b"\x80\xc8\x00\x00", b"\x80\xc8\x00\x06\x00", b"\x81\xca\xff\xff\x00\x01",
                                  b"\x80\xd0\x00\x00" * 9,
                                  b"\x9f\xcb\x00\x00", b"\x00\xc8\x00\x06" + bytes(24)])
def test_malformed_rtcp_is_never_fatal(data):
    stream = speech()
    packet(stream)
    stream.track.take_events()
    stream.track.packet(data, stream.mono_ns)
    assert stream.track.take_events() == 0
    packet(stream)
    assert sizes(stream) == [160, 160]


def test_a_bye_behind_a_report_in_one_compound_packet_is_seen():
    stream = speech()
    packet(stream)
    stream.track.take_events()
    stream.track.packet(sender_report(1, 5000) + goodbye(0x1234), stream.mono_ns)
    assert stream.track.take_events() == EVENT_RTCP | EVENT_BYE


def test_jitter_is_that_of_rfc_3550():
    stream = speech()
    jitter = 0.0
    delays = [0, 5, 0, 9, 2, 7, 7, 0, 30] * 4
    for i, delay in enumerate(delays):
        stream.mono_ns = NOW + i * 20_000_000 + delay * 1_000_000
        packet(stream)
        if i:
            jitter += (abs(delay - delays[i - 1]) * 8 - jitter) / 16
    assert stream.track.stats()["jitter"] == pytest.approx(jitter, abs=1.5)


def test_first_events_and_the_take_empties_them():
    stream = speech()
    packet(stream)
    assert stream.track.take_events() == EVENT_FIRST_AU | EVENT_FORMAT_CHANGE
    assert stream.track.take_events() == 0


@pytest.mark.parametrize(("codec", "clock", "types", "options"), [
    ("h266", 90000, [96], {}), ("h264", 0, [96], {}), ("h264", 90000, [], {}), ("h264", 90000, [128], {}), ("pcma", 8000, [8], {"channels": 0}),
    ("aac", 8000, [97], {"aac_size_length": 0}), ("aac", 8000, [97], {"aac_index_length": 25}), ("aac", 8000, [97], {"aac_duration": 0})])
def test_what_a_track_cannot_do_is_said(codec, clock, types, options):
    with pytest.raises(ValueError, match=r".{20}"):
        RtpTrack(AuQueue(4096), codec, clock, types, 1, **options)
