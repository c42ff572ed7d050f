"""Access units as elementary streams want them: Annex B for H.264 and H.265, ADTS for AAC. Bytes in, bytes out."""

import struct
from dataclasses import dataclass

from recorder.base.errors import Conflict
from recorder.base.media import SampleEntry

START = b"\0\0\0\1"
DELIMITERS = {"avc1": START + b"\x09\xf0", "hvc1": START + b"\x46\x01\x50"}     # access unit delimiters: any picture type
ADTS = 7


@dataclass(frozen=True, slots=True)
class Coding:
    """What precedes pictures of a coding: the delimiter of each, the parameter sets of an access point."""

    codec: str
    delimiter: bytes
    sets: bytes


def coding(entry: SampleEntry) -> Coding:
    """Of H.264 or H.265. Raises Conflict if its configuration cannot be read."""
    try:
        nals = avc_sets(entry.config) if entry.codec == "avc1" else hevc_sets(entry.config)
    except (IndexError, struct.error):
        raise Conflict("the parameter sets of this footage cannot be read", remedy="ask for format=mp4") from None
    return Coding(entry.codec, DELIMITERS[entry.codec], b"".join(START + nal for nal in nals))


def avc_sets(config: bytes) -> list[bytes]:
    """AVCDecoderConfigurationRecord (ISO 14496-15 5.3.3.1)."""
    _four(config[4])
    sequence, at = _listed(config, 6, config[5] & 31)
    return sequence + _listed(config, at + 1, config[at])[0]


def hevc_sets(config: bytes) -> list[bytes]:
    """HEVCDecoderConfigurationRecord (8.3.3.1)."""
    _four(config[21])
    sets: list[bytes] = []
    at = 23
    for _ in range(config[22]):
        found, at = _listed(config, at + 3, struct.unpack_from(">H", config, at + 1)[0])
        sets += found
    return sets


def _listed(config: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """NALs with their 16-bit lengths from `at` on, and where they end."""
    found: list[bytes] = []
    for _ in range(count):
        size = struct.unpack_from(">H", config, at)[0]
        found.append(config[at + 2:at + 2 + size])
        at += 2 + size
    return found, at


def _four(size_byte: int) -> None:
    if size_byte & 3 != 3:
        raise Conflict("the NAL lengths of this footage are not of four bytes", remedy="ask for format=mp4")


def to_annex_b(au: bytearray) -> None:
    """Turn the length before each NAL into a start code, in place; from a length that leads out of the AU on it stays as it is."""
    at = 0
    while at + 4 <= len(au):
        size = int.from_bytes(au[at:at + 4])
        if size > len(au) - at - 4:
            return
        au[at:at + 4] = START
        at += 4 + size


def delimiter_bytes(codec: str, au: bytearray) -> int:
    """Bytes of the access unit delimiter that an AU (with lengths) begins with, its length field included; 0 if there is none."""
    if len(au) < 5 or ((au[4] & 31) != 9 if codec == "avc1" else (au[4] >> 1 & 63) != 35):
        return 0
    return min(len(au), 4 + int.from_bytes(au[:4]))


def adts(entry: SampleEntry, size: int) -> bytes:
    """The header (ISO 13818-7 6.2) of an AAC frame of `size` bytes."""
    kind, rate, channels = _aac(entry.config)
    size += ADTS
    return bytes([0xFF, 0xF1, kind - 1 << 6 | rate << 2 | channels >> 2, (channels & 3) << 6 | size >> 11, size >> 3 & 0xFF,
                  (size & 7) << 5 | 0x1F, 0xFC])


def _aac(config: bytes) -> tuple[int, int, int]:
    """Object type, rate index and channel configuration of an AudioSpecificConfig (ISO 14496-3 1.6.2.1)."""
    bits = int.from_bytes(config[:2].ljust(2, b"\0"))
    return bits >> 11, bits >> 7 & 15, bits >> 3 & 15


def fits_adts(entry: SampleEntry) -> bool:
    """True if ADTS has words for it: object types 1 to 4, listed rates, up to 7.1."""
    kind, rate, channels = _aac(entry.config)
    return 1 <= kind <= 4 and rate != 15 and 1 <= channels <= 7
