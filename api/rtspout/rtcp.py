"""RTCP that a sender says (RFC 3550 6): reports with the name that goes with them, and goodbye."""

import struct

NTP_UNIX_S = 2_208_988_800
NS = 1_000_000_000
CNAME = b"watchroom"


def ntp(wall_ns: int) -> int:
    """UTC in ns as 64 bits of NTP (RFC 5905 6)."""
    seconds, ns = divmod(wall_ns, NS)
    return (seconds + NTP_UNIX_S << 32 | (ns << 32) // NS) & (1 << 64) - 1


def sender_report(ssrc: int, wall_ns: int, rtp_timestamp: int, packets: int, octets: int) -> bytes:
    """SR (6.4.1) that places an RTP timestamp in UTC, and SDES."""
    return struct.pack(">BBHIQIII", 0x80, 200, 6, ssrc, ntp(wall_ns), rtp_timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF,
                       octets & 0xFFFFFFFF) + _name(ssrc)


def goodbye(ssrc: int) -> bytes:
    """An empty receiver report, since a compound begins with a report (6.1), SDES and BYE (6.6)."""
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc) + _name(ssrc) + struct.pack(">BBHI", 0x81, 203, 1, ssrc)


def interleaved(channel: int, packet: bytes) -> bytes:
    """The packet as an interleaved frame (RFC 2326 10.12)."""
    return struct.pack(">BBH", 0x24, channel, len(packet)) + packet


def _name(ssrc: int) -> bytes:
    item = bytes([1, len(CNAME)]) + CNAME + b"\0"
    item += bytes(-len(item) % 4)
    return struct.pack(">BBHI", 0x81, 202, 1 + len(item) // 4, ssrc) + item
