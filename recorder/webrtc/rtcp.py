"""What a receiver of media says over RTCP, and what a sender says: feedback in, sender reports out (RFC 3550 6.4, RFC 4585, RFC 5104).

A compound packet, or a reduced one (RFC 5506), is read packet by packet; what is not known is skipped, what does not fit ends the reading. The
limits bound what one datagram can ask for.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from recorder.base.media import NS

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206
NACK, PLI, FIR, AFB = 1, 1, 4, 15
PACKETS_MAX = 32
NACKED_MAX = 340            # sequence numbers that one datagram may ask for: 20 of its entries, all bits set
BLOCK = struct.Struct(">IIIIII")
NTP_EPOCH_S = 2_208_988_800     # from 1900 to 1970


@dataclass(frozen=True, slots=True)
class Report:
    """A reception report block (RFC 3550 6.4.1) about `ssrc`: share lost since the one before, packets lost in all, jitter in ticks."""

    ssrc: int
    fraction_lost: float
    lost: int
    highest: int
    jitter: int
    last_sr: int
    delay: int


@dataclass(frozen=True, slots=True)
class Nack:
    """Packets of `ssrc` that did not come (RFC 4585 6.2.1), by sequence number."""

    ssrc: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WantKey:
    """A picture that needs no other is asked for (RFC 4585 6.3.1, or FIR, RFC 5104 4.3.1)."""

    ssrc: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The receiver's estimate of what the way to it carries, bit/s (draft-alvestrand-rmcat-remb)."""

    bits_per_s: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The other side leaves (RFC 3550 6.6)."""


Said = Report | Nack | WantKey | Estimate | Goodbye


def read(data: bytes) -> Iterator[Said]:
    """Everything in the datagram that is understood, in order."""
    at, asked = 0, 0
    for _ in range(PACKETS_MAX):
        if at + 8 > len(data) or data[at] >> 6 != 2:
            return
        count, kind = data[at] & 31, data[at + 1]
        size = 4 * (1 + int.from_bytes(data[at + 2:at + 4]))
        body = data[at + 4:at + size]
        if at + size > len(data):
            return
        at += size
        if kind in {SR, RR}:
            yield from _reports(body[24 if kind == SR else 4:], count)
        elif kind == RTPFB and count == NACK:
            nack = _nack(body, NACKED_MAX - asked)
            if nack.sequences:
                asked += len(nack.sequences)
                yield nack
        elif kind == PSFB:
            yield from _payload_feedback(body, count)
        elif kind == BYE:
            yield Goodbye()


def _reports(body: bytes, count: int) -> Iterator[Report]:
    for at in range(0, min(count * BLOCK.size, len(body) - BLOCK.size + 1), BLOCK.size):
        ssrc, lost, highest, jitter, last_sr, delay = BLOCK.unpack_from(body, at)
        total = (lost & 0xFFFFFF) - (0x1000000 if lost & 0x800000 else 0)
        yield Report(ssrc, (lost >> 24) / 256, total, highest, jitter, last_sr, delay)


def _nack(body: bytes, most: int) -> Nack:
    ssrc = int.from_bytes(body[4:8])
    sequences: list[int] = []
    for at in range(8, len(body) - 3, 4):
        first, following = struct.unpack_from(">HH", body, at)
        sequences.append(first)
        sequences += [(first + 1 + bit) & 0xFFFF for bit in range(16) if following >> bit & 1]
        if len(sequences) >= most:
            break
    return Nack(ssrc, tuple(sequences[:max(0, most)]))


def _payload_feedback(body: bytes, kind: int) -> Iterator[Said]:
    if kind == PLI and len(body) >= 8:
        yield WantKey(int.from_bytes(body[4:8]))
    elif kind == FIR:
        for at in range(8, min(len(body) - 7, 8 + 8 * 8), 8):
            yield WantKey(int.from_bytes(body[at:at + 4]))
    elif kind == AFB and body[8:12] == b"REMB" and len(body) >= 16:
        word = int.from_bytes(body[13:16])
        yield Estimate((word & 0x3FFFF) << (word >> 18))


def ntp(wall_ns: int) -> int:
    """UTC as the 64 bits of NTP (RFC 3550 4)."""
    seconds, rest = divmod(wall_ns, NS)
    return ((seconds + NTP_EPOCH_S) & 0xFFFFFFFF) << 32 | (rest << 32) // NS


def sender_report(ssrc: int, wall_ns: int, timestamp: int, packets: int, octets: int, cname: str) -> bytes:
    """SR and SDES (RFC 3550 6.4.1, 6.5.1): `timestamp` of the media's clock is `wall_ns` UTC."""
    head = struct.pack(">BBHIQIII", 0x80, SR, 6, ssrc, ntp(wall_ns), timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    item = struct.pack(">BB", 1, len(cname)) + cname.encode() + b"\0"
    item += bytes(-len(item) % 4)
    return head + struct.pack(">BBHI", 0x81, SDES, 1 + len(item) // 4, ssrc) + item


def goodbye(ssrc: int) -> bytes:
    """BYE of one source (RFC 3550 6.6), behind the empty report that a compound packet begins with."""
    return struct.pack(">BBHI", 0x80, RR, 1, ssrc) + struct.pack(">BBHI", 0x81, BYE, 1, ssrc)
