"""The oracle of the H.264 and H.265 depacketisers for streams without loss.

NAL units by RFC 6184 5 and RFC 7798 4.4, one access unit per timestamp.
"""

import struct
from collections.abc import Sequence
from itertools import groupby


def kind_of(nal: bytes, h265: bool) -> int:
    return nal[0] >> 1 & 63 if h265 else nal[0] & 31


def is_slice(nal: bytes, h265: bool) -> bool:
    return kind_of(nal, h265) <= 21 if h265 else 1 <= kind_of(nal, h265) <= 5


def aggregated(payload: bytes, at: int) -> list[bytes]:
    out = []
    while at < len(payload):
        (size,) = struct.unpack_from(">H", payload, at)
        out.append(payload[at + 2:at + 2 + size])
        at += 2 + size
    return out


def nal_units(packets: Sequence[bytes], h265: bool) -> list[tuple[int, bytes]]:
    """(timestamp, NAL unit) in order."""
    out: list[tuple[int, bytes]] = []
    head = 2 if h265 else 1
    whole = b""
    for packet in packets:
        (ts,), p = struct.unpack_from(">I", packet, 4), packet[12:]
        if kind_of(p, h265) == (48 if h265 else 24):
            out += [(ts, nal) for nal in aggregated(p, head)]
        elif kind_of(p, h265) == (49 if h265 else 28):
            if p[head] & 0x80:
                whole = bytes([p[0] & 0x81 | (p[2] & 63) << 1, p[1]]) if h265 else bytes([p[0] & 0x60 | p[1] & 31])
            whole += p[head + 1:]
            if p[head] & 0x40:
                out.append((ts, whole))
        else:
            out.append((ts, p))
    return out


def access_units(packets: Sequence[bytes], h265: bool) -> list[tuple[int, bytes]]:
    """(timestamp, length-prefixed bytes); a timestamp without a slice joins the next one."""
    out: list[tuple[int, bytes]] = []
    held = b""
    for ts, group in groupby(nal_units(packets, h265), key=lambda pair: pair[0]):
        nals = [nal for _, nal in group]
        held += b"".join(struct.pack(">I", len(n)) + n for n in nals)
        if any(is_slice(n, h265) for n in nals):
            out.append((ts, held))
            held = b""
    return out
