"""Receiver reports (RFC 3550 6.4.2) with the CNAME that must go with them (6.5.1): some cameras stop sending without them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recorder._ext.rtp import RtpStats, SenderReportSeen


RR, SDES = 201, 202


@dataclass(slots=True)
class LossWindow:
    """What had been expected and received at the report before (RFC 3550 A.3)."""

    expected: int = 0
    received: int = 0

    def fraction(self, expected: int, received: int) -> int:
        """Lost since the report before, in 1/256."""
        wanted, got = expected - self.expected, received - self.received
        self.expected, self.received = expected, received
        return min(255, max(0, wanted - got) * 256 // wanted) if wanted > 0 else 0


def receiver_report(own_ssrc: int, stats: RtpStats, window: LossWindow, report: SenderReportSeen | None, mono_ns: int) -> bytes:
    """The compound packet about one stream; without a block while its SSRC is unknown."""
    block = b""
    if stats["ssrc"] >= 0:
        expected = stats["highest_seq"] - stats["base_seq"] + 1
        lost = max(-0x800000, min(0x7FFFFF, expected - stats["received"]))
        fraction = window.fraction(expected, stats["received"])
        lsr, dlsr = _last_report(report, mono_ns)
        block = struct.pack(">IIIIII", stats["ssrc"], fraction << 24 | lost & 0xFFFFFF, stats["highest_seq"] & 0xFFFFFFFF,
                            stats["jitter"] & 0xFFFFFFFF, lsr, dlsr)
    head = struct.pack(">BBHI", 0x80 | bool(block), RR, 1 + len(block) // 4, own_ssrc)
    return head + block + _cname(own_ssrc)


def interleaved(channel: int, packet: bytes) -> bytes:
    """The packet as an interleaved frame (RFC 2326 10.12)."""
    return struct.pack(">cBH", b"$", channel, len(packet)) + packet


def _last_report(report: SenderReportSeen | None, mono_ns: int) -> tuple[int, int]:
    if report is None:
        return 0, 0
    return report["ntp"] >> 16 & 0xFFFFFFFF, max(0, mono_ns - report["mono_ns"]) * 65536 // 1_000_000_000 & 0xFFFFFFFF


def _cname(own_ssrc: int) -> bytes:
    item = b"\x01\x09watchroom\x00"
    item += bytes(-len(item) % 4)
    return struct.pack(">BBHI", 0x81, SDES, 1 + len(item) // 4, own_ssrc) + item
