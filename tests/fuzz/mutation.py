"""Makes an input worse: bytes, lines, packets or interleaved frames changed, left out, repeated, swapped, or taken from another input.

A pack is how an input holds packets: for each of them u16 length, u8 milliseconds to wait, bytes. Any bytes can be read as a pack.
"""

import random
import struct
from collections.abc import Callable, Sequence

SIZE_MAX = 96 << 10
PACKETS_MAX, PACKET_MAX = 400, 65535
ODD = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF, 0x8000, 0xFFFFFFFF, 0x80000000]

Parts = list[bytes]


def pack(packets: Sequence[bytes], wait_ms: int = 3) -> bytes:
    """The packets as one input."""
    return b"".join(struct.pack(">HB", len(packet[:PACKET_MAX]), wait_ms) + packet[:PACKET_MAX] for packet in packets)


def unpack(data: bytes) -> list[tuple[int, bytes]]:
    """(milliseconds, packet) of an input; what is cut off at its end is a shorter packet."""
    found, at = [], 0
    while at + 3 <= len(data) and len(found) < PACKETS_MAX:
        size, wait_ms = struct.unpack_from(">HB", data, at)
        found.append((wait_ms, data[at + 3:at + 3 + size]))
        at += 3 + size
    return found


def bytes_of(rng: random.Random, data: bytes, other: bytes, tokens: Sequence[bytes]) -> bytes:
    """A few changes of bytes."""
    out = bytearray(data or b"\0")
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at = rng.randrange(len(out) + 1)
        here = min(at, len(out) - 1)
        match rng.randrange(9):
            case 0:
                out[here] ^= 1 << rng.randrange(8)
            case 1:
                out[here] = rng.randrange(256)
            case 2:
                out[at:at] = rng.choice(tokens) if tokens else rng.randbytes(4)
            case 3:
                del out[at:at + rng.choice([1, 2, 4, 30, 500])]
            case 4:
                out[at:at] = out[here:here + rng.choice([1, 4, 60])] * rng.choice([1, 1, 3, 40])
            case 5:
                value = rng.choice(ODD)
                size = 1 if value < 256 else 2 if value < 65536 else 4
                out[here:here + size] = value.to_bytes(size, rng.choice(["big", "little"]))
            case 6:
                start = rng.randrange(len(other) + 1)
                out[at:at + rng.choice([0, 20])] = other[start:start + rng.choice([3, 40, 400])]
            case 7:
                del out[max(1, at):]
            case _:
                out[here] = (out[here] + rng.choice([1, -1, 2, -2])) % 256
        if not out:
            out = bytearray(b"\0")
    return bytes(out[:SIZE_MAX])


def _reorder(rng: random.Random, parts: Parts, others: Parts) -> Parts:
    """One change of the order: a part less, twice, elsewhere, or from another input."""
    at = rng.randrange(len(parts))
    match rng.randrange(6):
        case 0:
            del parts[at:at + rng.choice([1, 1, 2, 10])]
        case 1:
            parts[at:at] = parts[at:at + rng.choice([1, 2, 5])] * rng.choice([1, 1, 8])
        case 2:
            parts.insert(rng.randrange(len(parts)), parts.pop(at))
        case 3 if others:
            start = rng.randrange(len(others))
            parts[at:at] = others[start:start + rng.choice([1, 3, 20])]
        case 4:
            del parts[at:]
        case _:
            parts[at:] = parts[at:][::-1] if rng.random() < 0.3 else parts[at:]
    return parts


def _parts(split: Callable[[bytes], Parts], join: Callable[[Parts], bytes]) -> "Mutator":
    def change(rng: random.Random, data: bytes, other: bytes, tokens: Sequence[bytes]) -> bytes:
        parts = split(data)
        if not parts or rng.random() < 0.15:
            return bytes_of(rng, data, other, tokens)
        for _ in range(rng.choice([0, 1, 1, 2, 5])):
            parts = _reorder(rng, parts, split(other)) or [b""]
        if rng.random() < 0.8:
            at = rng.randrange(len(parts))
            parts[at] = bytes_of(rng, parts[at], other, tokens)
        return join(parts)[:SIZE_MAX]

    return change


def _rtp_header(rng: random.Random, packet: bytes) -> bytes:
    """One field of the RTP header changed (RFC 3550 5.1)."""
    if len(packet) < 12:
        return packet
    first, second, seq, ts, ssrc = struct.unpack_from(">BBHII", packet)
    match rng.randrange(6):
        case 0:
            seq += rng.choice([1, -1, 2, 5, 100, -100, 20000, 32768])
        case 1:
            ts += rng.choice([0, 3600, -3600, 90000, 10**9, -(10**9), 2**31])
        case 2:
            ssrc ^= rng.choice([1, 0xFFFFFFFF])
        case 3:
            second ^= 0x80
        case 4:
            first ^= rng.choice([0x20, 0x10, 1, 0xF, 0x40])
        case _:
            second = second & 0x80 | rng.choice([96, 97, 0, 8, 72, 127])
    return struct.pack(">BBHII", first & 255, second & 255, seq % 65536, ts % 2**32, ssrc % 2**32) + packet[12:]


def packets(rng: random.Random, data: bytes, other: bytes, tokens: Sequence[bytes]) -> bytes:
    """A pack made worse, half of the time in a field of a header only."""
    found = [packet for _, packet in unpack(data)]
    if found and rng.random() < 0.4:
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(len(found))
            found[at] = _rtp_header(rng, found[at])
        return _waits(rng, found)
    return _pack_parts(rng, data, other, tokens)


def _waits(rng: random.Random, found: Parts) -> bytes:
    return b"".join(pack([packet], rng.choice([0, 3, 3, 40, 250])) for packet in found)[:SIZE_MAX]


def frames_of(data: bytes) -> Parts:
    """Interleaved frames, and whatever text stands between them."""
    parts, at = [], 0
    while at < len(data):
        if data[at] == 0x24 and at + 4 <= len(data):
            stop = at + 4 + int.from_bytes(data[at + 2:at + 4], "big")
        else:
            end = data.find(b"$", at + 1)
            stop = end if end > 0 else len(data)
        parts.append(data[at:stop])
        at = stop
    return parts


Mutator = Callable[[random.Random, bytes, bytes, Sequence[bytes]], bytes]
_pack_parts = _parts(lambda data: [packet for _, packet in unpack(data)], pack)
lines: Mutator = _parts(lambda data: data.split(b"\n"), b"\n".join)
frames: Mutator = _parts(frames_of, b"".join)
