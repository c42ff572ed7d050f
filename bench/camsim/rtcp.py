"""The two RTCP compounds that a camera sends (RFC 3550 6)."""

import struct

NTP_EPOCH_S = 2_208_988_800   # 1900 to 1970
CNAME = b"camsim"


def _source_description(ssrc: int) -> bytes:
    items = bytes([1, len(CNAME)]) + CNAME
    items += bytes(4 - len(items) % 4)
    return struct.pack(">BBHI", 0x81, 202, 1 + len(items) // 4, ssrc) + items


def sender_report(ssrc: int, wall_ns: int, rtp_timestamp: int, packets: int, octets: int) -> bytes:
    """SR without report blocks, and SDES CNAME."""
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    report = struct.pack(">BBHIIIIII", 0x80, 200, 6, ssrc, seconds + NTP_EPOCH_S & 0xFFFFFFFF, (ns << 32) // 1_000_000_000,
                         rtp_timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    return report + _source_description(ssrc)


def bye(ssrc: int) -> bytes:
    """An empty receiver report (a compound begins with a report), SDES and BYE."""
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc) + _source_description(ssrc) + struct.pack(">BBHI", 0x81, 203, 1, ssrc)
