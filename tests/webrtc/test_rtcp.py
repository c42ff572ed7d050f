"""RTCP feedback, against aiortc's builders; sender reports, against its parser."""

import struct

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpPsfbPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpRtpfbPacket, RtcpSrPacket, pack_remb_fci

from recorder.base.media import NS
from recorder.webrtc.rtcp import NACKED_MAX, PACKETS_MAX, Estimate, Goodbye, Nack, Report, WantKey, goodbye, ntp, read, sender_report


def test_a_compound_packet_is_read_in_order():
    report = RtcpReceiverInfo(ssrc=5, fraction_lost=64, packets_lost=-2, highest_sequence=70000, jitter=90, lsr=1, dlsr=2)
    data = (bytes(RtcpRrPacket(ssrc=1, reports=[report])) + bytes(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=5, lost=[65520, 65535]))
            + bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=5))
            + bytes(RtcpPsfbPacket(fmt=15, ssrc=1, media_ssrc=0, fci=pack_remb_fci(2_000_000, [5])))
            + bytes(RtcpPsfbPacket(fmt=4, ssrc=1, media_ssrc=0, fci=struct.pack(">IB3x", 6, 1))) + bytes(RtcpByePacket(sources=[1])))
    assert list(read(data)) == [Report(5, 0.25, -2, 70000, 90, 1, 2),
                                Nack(5, (65520, 65535)), WantKey(5), Estimate(2_000_000), WantKey(6), Goodbye()]


def test_sequence_numbers_go_round():
    """What aiortc cannot build."""
    assert list(read(struct.pack(">BBHIIHH", 0x81, 205, 3, 1, 5, 65534, 0b101))) == [Nack(5, (65534, 65535, 1))]


def test_a_sender_report_tells_utc():
    data = sender_report(77, 1_800_000_000 * NS + NS // 2, (1 << 32) + 9, 3, 4, "name")
    report, names = RtcpPacket.parse(data)
    assert isinstance(report, RtcpSrPacket)
    info = report.sender_info
    assert (report.ssrc, info.rtp_timestamp, info.packet_count, info.octet_count) == (77, 9, 3, 4)
    assert info.ntp_timestamp == ntp(1_800_000_000 * NS + NS // 2) == (1_800_000_000 + 2_208_988_800) << 32 | 1 << 31
    assert names.chunks[0].items == [(1, b"name")]


def test_goodbye_is_a_compound_packet():
    receiver, bye = RtcpPacket.parse(goodbye(9))
    assert isinstance(receiver, RtcpRrPacket) and isinstance(bye, RtcpByePacket)
    assert bye.sources == [9]


def test_one_datagram_asks_for_no_more_than_the_limits():
    one = bytes(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=5, lost=list(range(1000))))
    assert sum(len(said.sequences) for said in read(one * 3)) == NACKED_MAX
    assert len(list(read(bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=5)) * 100))) == PACKETS_MAX


@pytest.mark.parametrize("data", [b"", b"\x80", bytes(8), bytes([0x80, 201, 0xff, 0xff]) + bytes(40), bytes([0x9f, 201, 0, 1]) + bytes(4),
                                  bytes([0x81, 205, 0, 1]) + bytes(4), bytes([0x81, 206, 0, 1]) + bytes(4),
                                  bytes([0x8f, 206, 0, 2]) + bytes(8)])
def test_what_does_not_fit_says_nothing(data):
    assert [said for said in read(data) if not (isinstance(said, Nack) and not said.sequences)] == []
