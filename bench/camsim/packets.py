"""RTP payloads of a clip, made once: H.264 (RFC 6184), H.265 (RFC 7798), JPEG (RFC 2435), AAC-hbr (RFC 3640), Opus (RFC 7587), RFC 3551."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.camsim import jpeg
from bench.camsim.clip import Clip, split_nals

PAYLOAD_BYTES = 1400
PAYLOAD_TYPES = {"h264": 96, "h265": 96, "jpeg": 26, "aac": 97, "pcma": 8, "pcmu": 0, "opus": 98, "l16": 99, "g726": 100}
MARKED = {"h264", "h265", "jpeg", "aac"}      # the others mark the start of speech after a pause, and there is none


@dataclass(frozen=True, slots=True, eq=False)
class Packets:
    """Payload p is `data[offsets[p]:offsets[p + 1]]`; AU i is the payloads `first[i]` to `first[i + 1] - 1`."""

    data: bytes
    offsets: NDArray[np.int64]
    marker: NDArray[np.uint8]
    first: NDArray[np.int32]
    au_hash: NDArray[np.uint64]


def au_hash(au: bytes) -> int:
    """What a digest takes of one AU: 64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(au, digest_size=8).digest(), "little")


def fragment_h264(nal: bytes, limit: int = PAYLOAD_BYTES) -> list[bytes]:
    """The NAL as single NAL unit packet or FU-As (RFC 6184 5.6, 5.8)."""
    if len(nal) <= limit:
        return [nal]
    indicator, kind = nal[0] & 0xE0 | 28, nal[0] & 0x1F
    return [bytes([indicator, kind | bits]) + part for bits, part in _parts(nal[1:], limit - 2)]


def fragment_h265(nal: bytes, limit: int = PAYLOAD_BYTES) -> list[bytes]:
    """The NAL as single NAL unit packet or FUs (RFC 7798 4.4.1, 4.4.3)."""
    if len(nal) <= limit:
        return [nal]
    header, kind = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]), nal[0] >> 1 & 0x3F
    return [header + bytes([kind | bits]) + part for bits, part in _parts(nal[2:], limit - 3)]


def _parts(body: bytes, size: int) -> list[tuple[int, bytes]]:
    """(start and end bit, part) of a fragmented NAL."""
    starts = range(0, len(body), size)
    return [(0x80 * (at == 0) | 0x40 * (at + size >= len(body)), body[at:at + size]) for at in starts]


def _video(fragment: Callable[[bytes], list[bytes]]) -> Callable[[bytes], list[bytes]]:
    return lambda au: [payload for nal in split_nals(au) for payload in fragment(nal)]


def aac_payload(au: bytes) -> list[bytes]:
    """One AU behind its AU header section: 16 header bits, 13 bits of size, 3 of index (RFC 3640 3.2.1, 3.3.6)."""
    return [b"\x00\x10" + (len(au) << 3).to_bytes(2, "big") + au]


def jpeg_payloads(au: bytes) -> list[bytes]:
    """The image as its packets."""
    return jpeg.payloads(jpeg.parse(au), PAYLOAD_BYTES)


def g726_payload(au: bytes) -> list[bytes]:
    """Code words of four bits, the first in the least significant bits (RFC 3551 4.5.4); they are stored the other way round."""
    return [bytes(byte >> 4 | byte << 4 & 0xF0 for byte in au)]


PAYLOADS: dict[str, Callable[[bytes], list[bytes]]] = {
    "h264": _video(fragment_h264), "h265": _video(fragment_h265), "aac": aac_payload,
    "jpeg": jpeg_payloads, "g726": g726_payload, **dict.fromkeys(("pcma", "pcmu", "opus", "l16"), lambda au: [au])}


def packetise(clip: Clip) -> Packets:
    """All payloads of the loop. The marker ends an AU of video and AAC."""
    aus = [PAYLOADS[clip.codec](clip.au(i)) for i in range(clip.aus)]
    payloads = [payload for au in aus for payload in au]
    first = np.concatenate([[0], np.cumsum([len(au) for au in aus])]).astype(np.int32)
    marker = np.zeros(len(payloads), np.uint8)
    if clip.codec in MARKED:
        marker[first[1:] - 1] = 1
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in payloads])]).astype(np.int64)
    hashes = np.array([au_hash(clip.au(i)) for i in range(clip.aus)], np.uint64)
    return Packets(b"".join(payloads), offsets, marker, first, hashes)
