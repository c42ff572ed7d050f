"""Builds NAL units, RTP packets and interleaved frames for the kernels' tests."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack

if TYPE_CHECKING:
    from recorder._ext.auqueue import Au

MS = 1_000_000
WALL = 1_767_225_600_000_000_000
KEY, LEADING, DAMAGED, DISCONTINUITY, PROVISIONAL = 1, 2, 4, 8, 16


def ue(value: int) -> str:
    """Exp-Golomb code as text of bits (H.264 9.1)."""
    code = format(value + 1, "b")
    return "0" * (len(code) - 1) + code


def rbsp(*bits: str, tail: bytes = b"") -> bytes:
    """Bits, a stop bit, and bytes behind; emulation prevention put in (H.264 7.4.1)."""
    text = "".join(bits) + "1"
    text += "0" * (-len(text) % 8)
    raw = int(text, 2).to_bytes(len(text) // 8, "big") + tail
    out = bytearray()
    for byte in raw:
        if len(out) >= 2 and out[-1] == out[-2] == 0 and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes without zeros."""
    return bytes(random.Random(seed).choices(range(1, 256), k=size))


def sps264(number: int = 0, tail: bytes = b"\x11") -> bytes:
    return b"\x67\x42\xc0\x1e" + rbsp(ue(number), tail=tail)


def pps264(number: int = 0, sps: int = 0, tail: bytes = b"\x22") -> bytes:
    return b"\x68" + rbsp(ue(number), ue(sps), tail=tail)


def slice264(kind: int = 1, *, first: bool = True, pps: int = 0, size: int = 60, seed: int = 1) -> bytes:
    return bytes([0x60 | kind]) + rbsp(ue(0 if first else 40), ue(7 if kind == 5 else 5), ue(pps), tail=noise(size, seed))


def recovery264(frames: int = 0, exact: bool = True, before: bytes = b"") -> bytes:
    """An SEI NAL unit with a recovery point, behind other messages."""
    body = rbsp(ue(frames), "1" if exact else "0", "0", "00")
    return b"\x06" + before + bytes([6, len(body)]) + body + b"\x80"


AUD264 = b"\x09\xf0"


def head265(kind: int) -> bytes:
    return bytes([kind << 1, 1])


def vps265(number: int = 0, tail: bytes = b"\x11") -> bytes:
    return head265(32) + rbsp(format(number, "04b"), "11110000", tail=tail)


def sps265(number: int = 0, vps: int = 0, layers: int = 0, tail: bytes = b"\x22") -> bytes:
    """`layers` sub-layers with profile and level of their own stand before the id (H.265 7.3.3)."""
    flags = ("11" * layers + "00" * (8 - layers)) if layers else ""
    return head265(33) + rbsp(format(vps, "04b"), format(layers, "03b"), "1", "01" * 48, flags, "01" * 48 * layers, ue(number), tail=tail)


def pps265(number: int = 0, sps: int = 0, tail: bytes = b"\x33") -> bytes:
    return head265(34) + rbsp(ue(number), ue(sps), tail=tail)


def slice265(kind: int = 1, *, first: bool = True, pps: int = 0, size: int = 60, seed: int = 1) -> bytes:
    return head265(kind) + rbsp("1" if first else "0", "0" if 16 <= kind <= 23 else "", ue(pps), "1", tail=noise(size, seed))


def prefixed(nals: Iterable[bytes]) -> bytes:
    """NAL units as they lie in an access unit."""
    return b"".join(struct.pack(">I", len(n)) + n for n in nals)


def split(data: bytes) -> list[bytes]:
    """NAL units of an access unit; fails unless the lengths fit exactly."""
    out, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        assert 0 < size <= len(data) - at - 4, "a length does not fit"
        out.append(data[at + 4:at + 4 + size])
        at += 4 + size
    return out


def rtp(seq: int, ts: int, payload: bytes, *, marker: bool = False, pt: int = 96, ssrc: int = 0x1234, first: int = 0x80,
        head: bytes = b"") -> bytes:
    return struct.pack(">BBHII", first, marker << 7 | pt, seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc) + head + payload


def sender_report(ntp: int, ts: int, ssrc: int = 0x1234) -> bytes:
    return struct.pack(">BBHIQIII", 0x80, 200, 6, ssrc, ntp, ts & 0xFFFFFFFF, 1, 2)


def goodbye(*ssrcs: int) -> bytes:
    return struct.pack(f">BBH{len(ssrcs)}I", 0x80 | len(ssrcs), 203, len(ssrcs), *ssrcs)


def interleaved(channel: int, packet: bytes) -> bytes:
    return struct.pack(">BBH", 36, channel, len(packet)) + packet


def fragments(nal: bytes, size: int, *, h265: bool = False) -> list[bytes]:
    """FU-A (RFC 6184 5.8) or FU (RFC 7798 4.4.3) payloads of at most `size` bytes of the NAL unit each."""
    head = 2 if h265 else 1
    kind = nal[0] >> 1 & 63 if h265 else nal[0] & 31
    first = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]) if h265 else bytes([nal[0] & 0x60 | 28])
    parts = [nal[i:i + size] for i in range(head, len(nal), size)]
    return [first + bytes([(i == 0) << 7 | (i == len(parts) - 1) << 6 | kind]) + part for i, part in enumerate(parts)]


def aggregate(nals: Sequence[bytes], *, h265: bool = False) -> bytes:
    """STAP-A (RFC 6184 5.7.1) or AP (RFC 7798 4.4.2)."""
    return (head265(48) if h265 else b"\x18") + b"".join(struct.pack(">H", len(n)) + n for n in nals)


@dataclass
class Stream:
    """A track under test and the sender that feeds it: 25 pictures a second unless told otherwise."""

    codec: str = "h264"
    clock: int = 90000
    options: dict[str, object] = field(default_factory=dict)
    capacity: int = 1 << 20
    mtu: int = 400
    seq: int = 1000
    ts: int = 5000
    ssrc: int = 0x1234
    pt: int = 96
    mono_ns: int = 10**9

    def __post_init__(self) -> None:
        self.queue = AuQueue(self.capacity)
        self.track = RtpTrack(self.queue, self.codec, self.clock, [self.pt], 1, **self.options)  # type: ignore[arg-type]
        self.sent: list[bytes] = []

    @property
    def h265(self) -> bool:
        return self.codec == "h265"

    def send(self, payload: bytes, *, marker: bool = False, lose: bool = False, ts: int | None = None) -> bytes:
        """One packet; `lose`: it gets a number and never arrives."""
        packet = rtp(self.seq, self.ts if ts is None else ts, payload, marker=marker, pt=self.pt, ssrc=self.ssrc)
        self.seq += 1
        if not lose:
            self.track.packet(packet, self.mono_ns, WALL - 10**9)
        return packet

    def payloads(self, nals: Iterable[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for nal in nals:
            out += [nal] if len(nal) <= self.mtu else fragments(nal, self.mtu, h265=self.h265)
        return out

    def picture(self, *nals: bytes, lose: Iterable[int] = (), marker: str = "last", step: int = 3600) -> None:
        """An access unit; packets `lose` do not arrive; marker last | none | all."""
        payloads = self.payloads(nals)
        for i, payload in enumerate(payloads):
            self.send(payload, marker=marker == "all" or (marker == "last" and i == len(payloads) - 1), lose=i in set(lose))
        self.sent.append(prefixed(nals))
        self.step(step)

    def step(self, ticks: int = 3600) -> None:
        self.ts += ticks
        self.mono_ns += ticks * 10**9 // self.clock

    def key(self, *, lose: Iterable[int] = (), marker: str = "last", seed: int = 1, size: int = 60,
            sets: Sequence[bytes] | None = None) -> None:
        if self.h265:
            self.picture(*(sets or (vps265(), sps265(), pps265())), slice265(19, seed=seed, size=size), lose=lose, marker=marker)
        else:
            self.picture(*(sets or (sps264(), pps264())), slice264(5, seed=seed, size=size), lose=lose, marker=marker)

    def inter(self, *, lose: Iterable[int] = (), marker: str = "last", seed: int = 1, size: int = 60) -> None:
        nal = slice265(1, seed=seed, size=size) if self.h265 else slice264(1, seed=seed, size=size)
        self.picture(nal, lose=lose, marker=marker)

    def warm(self) -> None:
        """A key frame and inter frames until markers are believed; taken out of the queue."""
        self.key()
        for i in range(5):
            self.inter(seed=i)
        assert len(self.take()) == 6
        self.sent.clear()

    def take(self) -> list[tuple[Au, bytes]]:
        return self.queue.take()

    def end(self) -> list[tuple[Au, bytes]]:
        self.track.flush()
        return self.take()

    def flags(self) -> list[int]:
        """Flags of what waits, without PROVISIONAL."""
        return [au["flags"] & ~PROVISIONAL for au, _ in self.take()]
