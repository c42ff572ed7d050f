"""The egress kernel in Python: what each receiver must get, before it is protected."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

MASK = 0xFFFFFFFF


@dataclass
class TwinOutlet:
    """As recorder/_ext/srtpout.pyx keeps one."""

    ssrc: int
    payload_type: int
    sequence: int
    shift: int = 0
    packets: int = 0
    octets: int = 0
    ring: dict[int, tuple[int, int]] = field(default_factory=dict)


def send(outlet: TwinOutlet, packets: Sequence[bytes], number: int, timestamp: int | None = None) -> list[bytes]:
    """The packets as this outlet's own."""
    out = []
    for k, packet in enumerate(packets):
        stamp = timestamp & MASK if timestamp is not None else (int.from_bytes(packet[4:8]) + outlet.shift) & MASK
        out.append(struct.pack(">BBHII", packet[0], packet[1] & 0x80 | outlet.payload_type, outlet.sequence, stamp, outlet.ssrc) + packet[12:])
        outlet.ring[outlet.sequence] = (number + k & MASK, stamp)
        outlet.sequence = (outlet.sequence + 1) & 0xFFFF
        outlet.packets += 1
        outlet.octets += len(packet) - 12
    return out


def again(outlet: TwinOutlet, packet: bytes, timestamp: int, sequence: int, rtx: bool) -> bytes:
    """RFC 4588 4, or the packet as it was."""
    if not rtx:
        return struct.pack(">BBHII", packet[0], packet[1] & 0x80 | outlet.payload_type, sequence, timestamp, outlet.ssrc) + packet[12:]
    kind = packet[1] & 0x80 | outlet.payload_type
    made = struct.pack(">BBHIIH", packet[0], kind, outlet.sequence, timestamp, outlet.ssrc, sequence) + packet[12:]
    outlet.sequence = (outlet.sequence + 1) & 0xFFFF
    return made
