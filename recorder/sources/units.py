"""What libav hands over as packets, taken out of its packaging: NAL units, parameter sets, bare AAC. Bytes in, values out."""

import re
from dataclasses import dataclass

from recorder.rtp import aac

NALS_MAX = 2048
SETS_MAX = 16
START = b"\0\0\1"
_ADTS = re.compile(rb"\xff[\xf0-\xff]")


@dataclass(frozen=True, slots=True)
class VideoPackaging:
    """How a stream's pictures are packaged: `length_bytes` of each NAL unit's length, 0 for Annex B. `sets` stand outside the pictures."""

    length_bytes: int = 0
    sets: tuple[bytes, ...] = ()

    def nals(self, data: bytes) -> list[bytes]:
        """The NAL units of a picture, at most NALS_MAX; what is cut off or empty is left out."""
        return annexb_nals(data) if self.length_bytes == 0 else length_nals(data, self.length_bytes)


def annexb_nals(data: bytes) -> list[bytes]:
    """The NAL units between start codes (ISO 14496-10 Annex B); trailing zeros are no part of them."""
    return [nal for part in data.split(START, NALS_MAX)[1:] if (nal := part.rstrip(b"\0"))]


def length_nals(data: bytes, size: int) -> list[bytes]:
    """The NAL units behind their lengths of `size` bytes (ISO 14496-15 5.3.4.2)."""
    nals: list[bytes] = []
    at = 0
    while at + size < len(data) and len(nals) < NALS_MAX:
        end = at + size + int.from_bytes(data[at:at + size], "big")
        if end > len(data):
            break
        if end > at + size:
            nals.append(data[at + size:end])
        at = end
    return nals


def packaging(codec: str, extradata: bytes) -> VideoPackaging:
    """How the extradata says that the stream is packaged; extradata that cannot be read mean Annex B without sets."""
    if len(extradata) < 7 or extradata[0] != 1:
        return VideoPackaging(0, tuple(annexb_nals(extradata)[:SETS_MAX]))
    try:
        return _avcc(extradata) if codec == "h264" else _hvcc(extradata)
    except IndexError:
        return VideoPackaging()


def _avcc(record: bytes) -> VideoPackaging:
    """AVCDecoderConfigurationRecord (ISO 14496-15 5.3.3.1)."""
    sets, at = _sets(record, 6, record[5] & 31)
    more, _ = _sets(record, at + 1, record[at])
    return VideoPackaging(1 + (record[4] & 3), (*sets, *more)[:SETS_MAX])


def _hvcc(record: bytes) -> VideoPackaging:
    """HEVCDecoderConfigurationRecord (8.3.3.1)."""
    sets: list[bytes] = []
    at = 23
    for _ in range(min(record[22], SETS_MAX)):
        found, at = _sets(record, at + 3, record[at + 1] << 8 | record[at + 2])
        sets += found
    return VideoPackaging(1 + (record[21] & 3), tuple(sets[:SETS_MAX]))


def _sets(record: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    found = []
    for _ in range(min(count, SETS_MAX)):
        size = record[at] << 8 | record[at + 1]
        part = record[at + 2:at + 2 + size]
        if len(part) < size:
            raise IndexError
        found.append(part)
        at += 2 + size
    return found, at


@dataclass(frozen=True, slots=True)
class Adts:
    """The fixed header of an ADTS frame (ISO 13818-7 6.2.1): what the frames of a stream have in common."""

    object_type: int
    rate_index: int
    layout: int

    @property
    def config(self) -> bytes:
        """The AudioSpecificConfig that says the same (ISO 14496-3 1.6.2.1)."""
        return (self.object_type << 11 | self.rate_index << 7 | self.layout << 3).to_bytes(2, "big")


def adts_header(data: bytes) -> Adts | None:
    """The header at the start of `data`, None if there is none."""
    if len(data) < 7 or not _ADTS.match(data) or data[1] & 6:
        return None
    found = Adts((data[2] >> 6) + 1, data[2] >> 2 & 15, (data[2] & 1) << 2 | data[3] >> 6)
    return found if found.rate_index < len(aac.RATES) and found.layout else None


def without_adts(data: bytes) -> bytes:
    """The raw frame behind the header (and its CRC)."""
    return data[7 if data[1] & 1 else 9:]
