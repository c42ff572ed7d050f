"""Transport stream packets (ISO 13818-1): values in, bytes out. A PES packet becomes whole packets of 188 bytes, the last one stuffed."""

import struct

import numpy as np
from numpy.typing import NDArray

from recorder.base.media import SampleEntry

PACKET = 188
PAYLOAD = 184
PCR_FIELD = 8                 # an adaptation field with a PCR and nothing else
PES_HEADER = 19               # with PTS and DTS
PMT_PID = 0x1000
PIDS = (0x100, 0x101)         # the first track (it bears the PCR), the second
STREAM_TYPES = {"avc1": 0x1B, "hvc1": 0x24, "mp4a": 0x0F}     # 2.4.4.9, table 2-34
PES_VIDEO, PES_AUDIO = 0xE0, 0xC0
TIME_MASK = (1 << 33) - 1


def packets_of(size: int, *, pcr: bool) -> int:
    """How many packets a PES packet of `size` bytes takes."""
    first = PAYLOAD - PCR_FIELD * pcr
    return 1 + max(0, -(-(size - first) // PAYLOAD))


def _time(mark: int, ticks: int) -> bytes:
    """A PTS or DTS (2.4.3.7)."""
    ticks &= TIME_MASK
    return struct.pack(">BHH", mark << 4 | (ticks >> 30) << 1 | 1, (ticks >> 15 & 0x7FFF) << 1 | 1, (ticks & 0x7FFF) << 1 | 1)


def pes_header(stream: int, size: int, pts: int, dts: int, stuffing: int = 0) -> bytes:
    """The header (2.4.3.6) of a PES packet with `size` bytes behind it; ticks of 90 kHz. `stuffing` bytes lengthen it. Video's is unbounded."""
    length = size + PES_HEADER + stuffing - 6 if stream == PES_AUDIO else 0
    head = struct.pack(">3sBHBBB", b"\0\0\1", stream, length, 0x84, 0xC0, 10 + stuffing)
    return head + _time(3, pts) + _time(1, dts) + b"\xff" * stuffing


def _pcr(ticks: int) -> bytes:
    ticks &= TIME_MASK
    return struct.pack(">IBB", ticks >> 1, (ticks & 1) << 7 | 0x7E, 0)


def packetise(pid: int, counter: int, pes: bytes | bytearray, pcr: int | None, *, key: bool) -> NDArray[np.uint8]:
    """A PES packet as packets, shape (n, 188) uint8; `counter` is the continuity counter of the first. `key` marks random access (2.4.3.5)."""
    count = packets_of(len(pes), pcr=pcr is not None)
    out = np.full((count, PACKET), 0xFF, np.uint8)
    out[:, 0], out[:, 1], out[:, 2] = 0x47, pid >> 8, pid & 0xFF
    out[:, 3] = 0x10 | (counter + np.arange(count)) & 15
    out[0, 1] |= 0x40
    field = b"" if pcr is None else bytes([PCR_FIELD - 1, 0x10 | key << 6]) + _pcr(pcr)
    data = np.frombuffer(pes, np.uint8)
    done = min(len(data), PAYLOAD - len(field))
    _fill(out[0], field, data[:done])
    middle = (len(data) - done) // PAYLOAD
    out[1:1 + middle, 4:] = data[done:done + middle * PAYLOAD].reshape(middle, PAYLOAD)
    done += middle * PAYLOAD
    if done < len(data):
        _fill(out[-1], b"", data[done:])
    return out


def _fill(packet: NDArray[np.uint8], field: bytes, data: NDArray[np.uint8]) -> None:
    """Adaptation field, stuffing, payload of one packet whose header stands."""
    room = PAYLOAD - len(data)
    packet[PACKET - len(data):] = data
    if not room:
        return
    packet[3] |= 0x20
    if field:
        packet[4:4 + len(field)] = np.frombuffer(field, np.uint8)
    elif room > 1:
        packet[5] = 0
    packet[4] = room - 1


def _crc(data: bytes) -> int:
    """CRC-32/MPEG-2 (annex A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 * (crc >> 31)) & 0xFFFFFFFF
    return crc


def _section(pid: int, counter: int, table: int, number: int, body: bytes) -> bytes:
    """One packet with a section (2.4.4)."""
    section = struct.pack(">BHHBBB", table, 0xB000 | len(body) + 9, number, 0xC1, 0, 0) + body
    section += struct.pack(">I", _crc(section))
    packet = struct.pack(">BHBB", 0x47, 0x4000 | pid, 0x10 | counter & 15, 0) + section
    return packet.ljust(PACKET, b"\xff")


def tables(entries: tuple[SampleEntry, ...], counter: int) -> bytes:
    """PAT and PMT (2.4.4.3, 2.4.4.8) of one programme with these tracks: two packets."""
    streams = b"".join(struct.pack(">BHH", STREAM_TYPES[entry.codec], 0xE000 | pid, 0xF000) for pid, entry in zip(PIDS, entries, strict=False))
    pmt = struct.pack(">HH", 0xE000 | PIDS[0], 0xF000) + streams
    return _section(0, counter, 0, 1, struct.pack(">HH", 1, 0xE000 | PMT_PID)) + _section(PMT_PID, counter, 2, 1, pmt)
