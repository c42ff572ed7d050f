"""Boxes of the ISO base media file format (ISO 14496-12 4.2): values in, bytes out."""

import struct

NTP_1904 = 2_082_844_800      # seconds from 1904-01-01 to 1970-01-01, both UTC
U32 = 1 << 32
IDENTITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of `kind` around its parts; 64-bit size when 32 bits do not hold it."""
    size = 8 + sum(map(len, parts))
    if size < U32:
        return b"".join((struct.pack(">I4s", size, kind), *parts))
    return b"".join((struct.pack(">I4sQ", 1, kind, size + 8), *parts))


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A FullBox (4.2.2): a box whose content starts with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def mdat_head(content_bytes: int) -> bytes:
    """The head of a media data box (8.1.1) whose content of `content_bytes` follows elsewhere."""
    if content_bytes + 8 < U32:
        return struct.pack(">I4s", content_bytes + 8, b"mdat")
    return struct.pack(">I4sQ", 1, b"mdat", content_bytes + 16)


def seconds_1904(wall_ns: int) -> int:
    """UTC in ns since 1970 as whole seconds since 1904, the clock of mvhd, tkhd and mdhd."""
    return max(0, wall_ns // 1_000_000_000 + NTP_1904)


def _times(created: int, middle: bytes, duration: int) -> tuple[int, bytes]:
    """Version and bytes of creation time, modification time, `middle`, duration: 64-bit (version 1) only where needed."""
    if created < U32 and duration < U32:
        return 0, struct.pack(">II", created, created) + middle + struct.pack(">I", duration)
    return 1, struct.pack(">QQ", created, created) + middle + struct.pack(">Q", duration)


def mvhd(created: int, timescale: int, duration: int, next_track: int) -> bytes:
    """Movie header (8.2.2); `duration` in `timescale`, 0 for a fragmented movie."""
    version, times = _times(created, struct.pack(">I", timescale), duration)
    rest = struct.pack(">IHHII", 0x10000, 0x100, 0, 0, 0) + IDENTITY + bytes(24) + struct.pack(">I", next_track)
    return full_box(b"mvhd", version, 0, times, rest)


def tkhd(created: int, track: int, duration: int, *, audio: bool, width: int = 0, height: int = 0) -> bytes:
    """Track header (8.3.2), enabled and in the movie; `duration` in the movie's timescale."""
    version, times = _times(created, struct.pack(">II", track, 0), duration)
    rest = bytes(8) + struct.pack(">HHHH", 0, int(audio), 0x100 if audio else 0, 0) + IDENTITY
    return full_box(b"tkhd", version, 3, times, rest, struct.pack(">II", width << 16, height << 16))


def mdhd(created: int, timescale: int, duration: int) -> bytes:
    """Media header (8.4.2), language undetermined."""
    version, times = _times(created, struct.pack(">I", timescale), duration)
    return full_box(b"mdhd", version, 0, times, struct.pack(">HH", 0x55C4, 0))


def hdlr(kind: bytes, name: bytes) -> bytes:
    """Handler reference (8.4.3): `vide` or `soun`."""
    return full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), name + b"\0")


def media_header(*, audio: bool) -> bytes:
    """vmhd (12.1.2) or smhd (12.2.2)."""
    return full_box(b"smhd", 0, 0, bytes(4)) if audio else full_box(b"vmhd", 0, 1, bytes(8))


def dinf() -> bytes:
    """Data information (8.7.1): everything is in this file."""
    return box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))


def elst(edits: list[tuple[int, int]]) -> bytes:
    """Edit list (8.6.6) of (duration in the movie's timescale, media time or -1 for an empty edit)."""
    wide = any(duration >= U32 or media_time >= 1 << 31 for duration, media_time in edits)
    layout = ">QqHH" if wide else ">IiHH"
    rows = (struct.pack(layout, duration, media_time, 1, 0) for duration, media_time in edits)
    return box(b"edts", full_box(b"elst", int(wide), 0, struct.pack(">I", len(edits)), *rows))
