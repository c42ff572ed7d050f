"""Python twin of recorder/_ext/rtppack and jpegpack: payloads of a unit by the RFCs' words, one list after the other."""

import struct
from dataclasses import dataclass

from bench.camsim import jpeg


@dataclass(frozen=True, slots=True)
class Shape:
    """What a Packer is told."""

    codec: str
    payload_type: int
    ssrc: int
    packet_max: int = 1400
    lead: int = 0
    channel: int = -1
    grain: int = 1


def packets(shape: Shape, unit: bytes, sequence: int, timestamp: int, extension: bytes = b"") -> list[bytes]:
    """The packets with their room, in order."""
    space = shape.packet_max - 12
    made = _payloads(shape, unit, space - len(extension), space)
    closes = shape.codec in {"avc1", "hvc1", "jpeg", "metx", "mp4a"}
    out = []
    for i, (ticks, payload) in enumerate(made):
        marker = closes and i == len(made) - 1
        extended = bool(extension) and i == 0
        head = struct.pack(">BBHII", 0x90 if extended else 0x80, marker << 7 | shape.payload_type, (sequence + i) & 0xFFFF,
                           (timestamp + ticks) & 0xFFFFFFFF, shape.ssrc)
        packet = head + extension * extended + payload
        lead = struct.pack(">BBH", 0x24, shape.channel, len(packet)) if shape.channel >= 0 else bytes(shape.lead)
        out.append(lead + packet)
    return out


def _payloads(shape: Shape, unit: bytes, first: int, space: int) -> list[tuple[int, bytes]]:
    """(ticks behind the unit's timestamp, payload)."""
    if not unit:
        return []
    if shape.codec in {"avc1", "hvc1"}:
        return [(0, payload) for payload in _picture(nals(unit), 1 if shape.codec == "avc1" else 2, first, space)]
    if shape.codec == "mp4a":
        head = struct.pack(">HH", 16, len(unit) << 3)
        return [(0, head + part) for _, part in _cut(unit, first - 4, space - 4)]
    if shape.codec == "Opus":
        return [(0, unit)]
    if shape.codec == "g726":
        return [(at // shape.grain * 8, part) for at, part in _cut(_lsb_first(unit, shape.grain), first, space, shape.grain)]
    if shape.codec == "metx":
        return [(0, part) for _, part in _cut(unit, first, space)]
    if shape.codec == "jpeg":
        return [(0, payload) for payload in _jpeg(unit, first, space)]
    return [(at // shape.grain, part) for at, part in _cut(unit, first, space, shape.grain)]


def _cut(data: bytes, first: int, space: int, grain: int = 1) -> list[tuple[int, bytes]]:
    out, at, room = [], 0, first
    while at < len(data):
        size = max(room // grain * grain, grain)
        out.append((at, data[at:at + size]))
        at += size
        room = space
    return out


def nals(unit: bytes) -> list[bytes]:
    """The NAL units of an access unit."""
    out, at = [], 0
    while at < len(unit):
        size = int.from_bytes(unit[at:at + 4])
        if at + 4 + size > len(unit):
            raise ValueError("a NAL does not fit")
        out.append(unit[at + 4:at + 4 + size])
        at += 4 + size
    return out


def _of_the_stream(nal: bytes, head: int) -> bool:
    if head == 1:
        return len(nal) >= 1 and 1 <= nal[0] & 31 <= 23
    return len(nal) >= 2 and nal[0] >> 1 & 63 < 48


def _picture(found: list[bytes], head: int, first: int, space: int) -> list[bytes]:
    left, out = [nal for nal in found if _of_the_stream(nal, head)], []
    while left:
        room = space if out else first
        fits = [sum(2 + len(nal) for nal in left[:n]) + head <= room and max(map(len, left[:n])) < 65536 for n in range(1, len(left) + 1)]
        together = fits.index(False) if False in fits else len(left)
        if len(left[0]) > room:
            out += _fragments(left.pop(0), head, room, space)
        elif together > 1:
            out.append(_aggregate(left[:together], head))
            del left[:together]
        else:
            out.append(left.pop(0))
    return out


def _aggregate(some: list[bytes], head: int) -> bytes:
    forbidden = max(nal[0] & 0x80 for nal in some)
    if head == 1:
        start = bytes([forbidden | max(nal[0] & 0x60 for nal in some) | 24])
    else:
        layer = min((nal[0] & 1) << 5 | nal[1] >> 3 for nal in some)
        start = bytes([forbidden | 48 << 1 | layer >> 5, layer << 3 & 255 | min(nal[1] & 7 for nal in some)])
    return start + b"".join(struct.pack(">H", len(nal)) + nal for nal in some)


def _fragments(nal: bytes, head: int, first: int, space: int) -> list[bytes]:
    start = bytes([nal[0] & 0xE0 | 28]) if head == 1 else bytes([nal[0] & 0x81 | 49 << 1, nal[1]])
    kind = nal[0] & 31 if head == 1 else nal[0] >> 1 & 63
    parts = _cut(nal[head:], first - head - 1, space - head - 1)
    return [start + bytes([kind | (i == 0) << 7 | (i == len(parts) - 1) << 6]) + part for i, (_, part) in enumerate(parts)]


def _lsb_first(unit: bytes, bits: int) -> bytes:
    text = "".join(format(byte, "08b") for byte in unit)
    words = [text[at:at + bits][::-1] for at in range(0, len(text) // bits * bits, bits)]
    stream = "".join(words).ljust(len(text), "0")
    return bytes(int(stream[at:at + 8][::-1], 2) for at in range(0, len(text), 8))


def _jpeg(image: bytes, first: int, space: int) -> list[bytes]:
    """Images that need no extension: tables of annex K, sides in eights up to 2040."""
    parts, out, at = jpeg.parse(image.replace(b"\xff\xc1\0\x11", b"\xff\xc0\0\x11", 1)), [], 0      # SOF1 says the same
    while at < len(parts.scan):
        head = at.to_bytes(4) + bytes([parts.kind | 64 * bool(parts.restart), 255, parts.width // 8, parts.height // 8])
        head += struct.pack(">HH", parts.restart, 0xFFFF) if parts.restart else b""
        if at == 0:
            tables = (parts.tables * 2)[:2]
            precision = sum((len(t) > 64) << k for k, t in enumerate(tables))
            head += struct.pack(">BBH", 0, precision, sum(map(len, tables))) + b"".join(tables)
        piece = parts.scan[at:at + (space if out else first) - len(head)]
        out.append(head + piece)
        at += len(piece)
    return out
