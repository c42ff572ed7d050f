"""JPEG images as RFC 2435 sends them: taken apart, put together as a receiver does, cut into payloads."""

import struct
from dataclasses import dataclass

DQT, SOF0, SOF1, DHT, DRI, SOS = 0xDB, 0xC0, 0xC1, 0xC4, 0xDD, 0xDA
LUMA_2X2 = 0x22


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An image: `tables` of 64 or 128 bytes each, `kind` 0 (4:2:2) or 1 (4:2:0), `restart` interval, entropy-coded `scan` without EOI."""

    width: int
    height: int
    kind: int
    tables: tuple[bytes, ...]
    huffman: bytes
    scan: bytes
    restart: int = 0


def parse(image: bytes) -> Jpeg:
    """The parts of a baseline image with three components and one scan. Raises ValueError."""
    tables: dict[int, bytes] = {}
    huffman, at, size, kind, restart = b"", 2, (0, 0), 0, 0
    while image[at] == 0xFF:
        marker, length = image[at + 1], int.from_bytes(image[at + 2:at + 4])
        body = image[at + 4:at + 2 + length]
        at += 2 + length
        if marker == SOS:
            end = image.rindex(b"\xff\xd9")
            return Jpeg(*size, kind, tuple(tables[k] for k in sorted(tables)), huffman, image[at:end], restart)
        if marker == DQT:
            tables |= _tables(body)
        elif marker == SOF0:
            size, kind = (int.from_bytes(body[3:5]), int.from_bytes(body[1:3])), int(body[7] == LUMA_2X2)
        elif marker == DHT:
            huffman += segment(DHT, body)
        elif marker == DRI:
            restart = int.from_bytes(body)
    raise ValueError("no scan in this image")


def _tables(body: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(body):
        size = 128 if body[at] >> 4 else 64
        found[body[at] & 15] = body[at + 1:at + 1 + size]
        at += 1 + size
    return found


def segment(marker: int, body: bytes) -> bytes:
    """A marker segment (ITU-T T.81 B.1.1.4)."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def rebuilt(jpeg: Jpeg) -> bytes:
    """The whole image as a receiver of its packets writes it (RFC 2435 appendix B)."""
    wide = any(len(table) == 128 for table in jpeg.tables)
    chroma = int(len(jpeg.tables) > 1)
    parts = [segment(DQT, bytes([(len(t) > 64) << 4 | k]) + t) for k, t in enumerate(jpeg.tables)]
    components = bytes([1, LUMA_2X2 if jpeg.kind else 0x21, 0, 2, 0x11, chroma, 3, 0x11, chroma])
    parts += [segment(SOF1 if wide else SOF0, struct.pack(">BHHB", 8, jpeg.height, jpeg.width, 3) + components), jpeg.huffman]
    if jpeg.restart:
        parts.append(segment(DRI, struct.pack(">H", jpeg.restart)))
    parts.append(segment(SOS, bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])))
    return b"".join([b"\xff\xd8", *parts, jpeg.scan, b"\xff\xd9"])


def payloads(jpeg: Jpeg, limit: int = 1400, q: int = 255) -> list[bytes]:
    """The image's RTP payloads; tables go in band with Q 128 to 255, sizes that a byte of eights does not hold as 0."""
    scan, out, at = jpeg.scan + b"\xff\xd9", [], 0
    sides = (jpeg.width, jpeg.height)
    size = bytes(side // 8 for side in sides) if all(side <= 2040 and side % 8 == 0 for side in sides) else bytes(2)
    while at < len(scan):
        head = at.to_bytes(4) + bytes([jpeg.kind | 64 * bool(jpeg.restart), q]) + size
        head += struct.pack(">HH", jpeg.restart, 0xFFFF) if jpeg.restart else b""
        if at == 0 and q >= 128:
            precision = sum((len(t) > 64) << k for k, t in enumerate(jpeg.tables))
            head += struct.pack(">BBH", 0, precision, sum(map(len, jpeg.tables))) + b"".join(jpeg.tables)
        part = scan[at:at + max(1, limit - len(head))]
        out.append(head + part)
        at += len(part)
    return out
