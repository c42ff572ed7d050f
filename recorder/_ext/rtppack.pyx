"""Access units as they lie on the tape to RTP packets: H.264 (RFC 6184), H.265 (RFC 7798), AAC-hbr (RFC 3640), Opus (RFC 7587), G.711, L16 and
G.726 (RFC 3551 4.5), JPEG (RFC 2435; jpegpack.pyx), ONVIF metadata (ONVIF Streaming 5.2.1). Python twin: tests/kernels/rtp_out.py.

All packets of a unit lie in one buffer, so that an interleaved connection takes them in one write, and every viewer the same bytes.

Safety: a unit is read behind comparisons with its length alone; packets are counted by the same code that then writes them, and every write is
behind a comparison with what was counted (packets.pxd).
"""
from array import array

from cpython cimport array as carray
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from recorder._ext.jpegpack cimport pack_jpeg
from recorder._ext.packets cimport LEAD_MAX, packet_begin, packet_end, packet_put, packet_space, packets_t

cdef enum:
    UNIT_MAX = 1 << 26
    PACKET_LEAST = 256
    PACKET_MOST = 65000
    EXTENSION_MAX = 128
    AAC_MAX = (1 << 13) - 1     # sizeLength 13
    WORDS = 8                   # code words of G.726 that make whole bytes

    AVC = 1
    HEVC = 2
    AAC = 3
    WHOLE = 4                   # one packet, whatever its length
    SAMPLES = 5                 # cut between samples, timestamps go on
    G726 = 6
    JPEG = 7
    DOCUMENT = 8

_CODINGS = {"avc1": AVC, "avc3": AVC, "hvc1": HEVC, "hev1": HEVC, "mp4a": AAC, "Opus": WHOLE, "alaw": SAMPLES, "ulaw": SAMPLES, "twos": SAMPLES,
            "g726": G726, "jpeg": JPEG, "metx": DOCUMENT}

cdef carray.array UINT32 = array("I")
assert UINT32.itemsize == 4


# ---- H.264, H.265

cdef inline int nal_at(const uint8_t* p, uint64_t n, uint64_t at, uint64_t* size) noexcept nogil:
    """1 and the size of the NAL whose length field is at `at`; 0 if it does not lie in the unit."""
    if n - at < 4:
        return 0
    size[0] = <uint64_t>p[at] << 24 | <uint64_t>p[at + 1] << 16 | <uint64_t>p[at + 2] << 8 | p[at + 3]
    return size[0] <= n - at - 4


cdef inline bint sent(const uint8_t* nal, uint64_t size, int coding) noexcept nogil:
    """Whether it is a NAL of the stream: types that RTP has for itself are not (RFC 6184 5.2, RFC 7798 4.4)."""
    if coding == AVC:
        return size >= 1 and 1 <= nal[0] & 31 <= 23
    return size >= 2 and nal[0] >> 1 & 63 < 48


cdef uint64_t run_length(const uint8_t* p, uint64_t n, uint64_t at, int coding, uint64_t space, uint32_t* nals) noexcept nogil:
    """Where the NALs end that fit into one packet of `space` bytes together, from `at` on, and how many there are of them."""
    cdef uint64_t used = coding, size = 0
    nals[0] = 0
    while at < n and nal_at(p, n, at, &size):
        if sent(p + at + 4, size, coding):
            used += 2 + size
            if used > space or size > 0xFFFF:
                break
            nals[0] += 1
        at += 4 + size
    return at


cdef void aggregate(packets_t* o, const uint8_t* p, uint64_t at, uint64_t end, int coding) noexcept nogil:
    """STAP-A (RFC 6184 5.7.1) or AP (RFC 7798 4.4.2) of the NALs between `at` and `end`, which nal_at has seen."""
    cdef uint8_t head[2]
    cdef uint64_t i = at, size = 0
    cdef uint8_t forbidden = 0, importance = 0, layer = 63, tid = 7
    while i < end and nal_at(p, end, i, &size):
        if sent(p + i + 4, size, coding):
            forbidden |= p[i + 4] & 0x80
            importance = max(importance, p[i + 4] & 0x60)
            if coding == HEVC:
                layer = min(layer, <uint8_t>((p[i + 4] & 1) << 5 | p[i + 5] >> 3))
                tid = min(tid, <uint8_t>(p[i + 5] & 7))
        i += 4 + size
    if coding == AVC:
        head[0] = forbidden | importance | 24
    else:
        head[0], head[1] = forbidden | 48 << 1 | layer >> 5, <uint8_t>(layer << 3) | tid
    packet_put(o, head, coding)
    while at < end and nal_at(p, end, at, &size):
        if sent(p + at + 4, size, coding):
            packet_put(o, p + at + 2, 2 + size)     # the low half of the length field is the one that the packet wants
        at += 4 + size


cdef int fragment(packets_t* o, const uint8_t* nal, uint64_t size, int coding) noexcept nogil:
    """FU-As (RFC 6184 5.8) or FUs (RFC 7798 4.4.3)."""
    cdef uint8_t head[3]
    cdef uint64_t at = coding, part
    cdef uint8_t kind
    if coding == AVC:
        head[0], kind = nal[0] & 0xE0 | 28, nal[0] & 31
    else:
        head[0], head[1], kind = nal[0] & 0x81 | 49 << 1, nal[1], nal[0] >> 1 & 63
    while at < size:
        part = packet_space(o)
        part = part - coding - 1 if part > <uint64_t>coding + 1 else 1
        part = min(part, size - at)
        head[coding] = kind | (at == <uint64_t>coding) << 7 | (at + part == size) << 6
        packet_begin(o)
        packet_put(o, head, coding + 1)
        packet_put(o, nal + at, part)
        if not packet_end(o, 0):
            return 0
        at += part
    return 1


cdef int pack_nals(packets_t* o, const uint8_t* p, uint64_t n, int coding) noexcept nogil:
    """A picture; 0 if its NALs do not fill it."""
    cdef uint64_t at = 0, end, size = 0
    cdef uint32_t nals = 0
    while at < n:
        if not nal_at(p, n, at, &size):
            return 0
        if not sent(p + at + 4, size, coding):
            at += 4 + size
            continue
        if size > packet_space(o):
            if not fragment(o, p + at + 4, size, coding):
                return 0
            at += 4 + size
            continue
        end = run_length(p, n, at, coding, packet_space(o), &nals)
        packet_begin(o)
        if nals > 1:
            aggregate(o, p, at, end, coding)
            at = end
        else:
            packet_put(o, p + at + 4, size)
            at += 4 + size
        if not packet_end(o, 0):
            return 0
    return 1


# ---- the rest

cdef int pack_pieces(packets_t* o, const uint8_t* p, uint64_t n, uint64_t grain, uint32_t ticks) noexcept nogil:
    """Pieces of whole grains, as long as a packet takes; timestamps rise by `ticks` a grain."""
    cdef uint64_t at = 0, part
    cdef uint32_t first = o.timestamp
    while at < n:
        part = packet_space(o) // grain * grain
        part = min(max(part, grain), n - at)
        o.timestamp = first + <uint32_t>(at // grain) * ticks
        packet_begin(o)
        packet_put(o, p + at, part)
        if not packet_end(o, 0):
            return 0
        at += part
    return 1


cdef int pack_aac(packets_t* o, const uint8_t* p, uint64_t n) noexcept nogil:
    """One AU behind its AU header (RFC 3640 3.2.1), or its fragments, each with the whole AU's size (3.2.3.1)."""
    cdef uint8_t head[4]
    cdef uint64_t at = 0, part
    if n > AAC_MAX:
        return 0
    head[0], head[1], head[2], head[3] = 0, 16, <uint8_t>(n >> 5), <uint8_t>(n << 3)
    while at < n:
        part = min(packet_space(o) - 4, n - at)
        packet_begin(o)
        packet_put(o, head, 4)
        packet_put(o, p + at, part)
        if not packet_end(o, at + part == n):
            return 0
        at += part
    return 1


cdef int swap_words(uint8_t* out, const uint8_t* p, uint64_t n, int bits) noexcept nogil:
    """Code words of G.726 from the order of files (the first in the most significant bits) to RFC 3551's; `out` is n zeros."""
    cdef uint64_t words = 8 * n // <uint64_t>bits, i, start, bit
    cdef int k
    for i in range(words):
        start = i * <uint64_t>bits
        for k in range(bits):
            bit = start + <uint64_t>(bits - 1 - k)
            if p[bit >> 3] & (0x80 >> (bit & 7)):
                out[(start + <uint64_t>k) >> 3] |= <uint8_t>(1 << ((start + <uint64_t>k) & 7))
    return 1


cdef class Packer:
    """RTP packets of one stream's access units. Not for two threads at once."""
    cdef packets_t base
    cdef int coding
    cdef uint32_t grain
    cdef bint closes
    cdef readonly uint64_t packets
    cdef readonly uint64_t octets

    def __cinit__(self, str codec not None, int payload_type, uint32_t ssrc, *, uint32_t sequence=0, uint32_t packet_max=1400, uint32_t lead=0,
                  int channel=-1, int grain=1):
        """A stream; see rtppack.pyi."""
        if codec not in _CODINGS:
            raise ValueError(f"{codec[:20]!r} is not sent over RTP")
        if not 0 <= payload_type <= 127:
            raise ValueError("a payload type has 7 bits")
        if not PACKET_LEAST <= packet_max <= PACKET_MOST:
            raise ValueError(f"a packet has {PACKET_LEAST} to {PACKET_MOST} bytes")
        if not 1 <= grain <= 64:
            raise ValueError("a grain has 1 to 64 bytes")
        if lead > LEAD_MAX or not -1 <= channel <= 255 or channel >= 0 and lead != 4:
            raise ValueError(f"at most {LEAD_MAX} bytes stand before a packet, 4 of a channel from 0 to 255")
        memset(&self.base, 0, sizeof(packets_t))
        self.coding, self.grain = _CODINGS[codec], grain
        self.closes = self.coding in (AVC, HEVC, JPEG, DOCUMENT)
        self.base.payload_type, self.base.ssrc, self.base.sequence = <uint8_t>payload_type, ssrc, sequence & 0xFFFF
        self.base.packet_max, self.base.lead, self.base.channel = packet_max, lead, channel

    @property
    def sequence(self):
        """Sequence number of the next packet."""
        return self.base.sequence

    @sequence.setter
    def sequence(self, uint32_t value):
        self.base.sequence = value & 0xFFFF

    def pack(self, const uint8_t[::1] unit not None, uint32_t timestamp, const uint8_t[::1] extension=None):
        """The packets of a unit; see rtppack.pyi."""
        cdef packets_t counted = self.base, o
        cdef uint64_t n = <uint64_t>unit.shape[0]
        cdef bytes swapped, out
        cdef const uint8_t* p = &unit[0] if n else NULL
        cdef carray.array offsets
        if n > UNIT_MAX:
            raise ValueError(f"a unit of {n} bytes; the longest has {UNIT_MAX}")
        counted.timestamp = timestamp
        if extension is not None and extension.shape[0]:
            if not 4 <= extension.shape[0] <= EXTENSION_MAX or extension.shape[0] % 4:
                raise ValueError(f"a header extension has 4 to {EXTENSION_MAX} bytes in whole words")
            counted.extension, counted.extension_bytes = &extension[0], <uint32_t>extension.shape[0]
        if self.coding == G726 and n:
            swapped = bytes(n)
            swap_words(<uint8_t*>PyBytes_AS_STRING(swapped), p, n, min(max(self.grain, 2), 5))
            p = <const uint8_t*>PyBytes_AS_STRING(swapped)
        o = counted
        self._write(&counted, p, n)
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>counted.at)
        offsets = carray.clone(UINT32, <Py_ssize_t>counted.count + 1, False)
        o.data, o.offsets = <uint8_t*>PyBytes_AS_STRING(out), <uint32_t*>offsets.data.as_uints
        o.room_bytes, o.room_packets = counted.at, counted.count
        self._write(&o, p, n)
        o.offsets[counted.count] = <uint32_t>counted.at
        if self.closes and counted.count:
            o.data[o.offsets[counted.count - 1] + o.lead + 1] |= 0x80
        self.base.sequence = (self.base.sequence + counted.count) & 0xFFFF
        self.packets += counted.count
        self.octets += counted.media
        return out, offsets

    cdef int _write(self, packets_t* o, const uint8_t* p, uint64_t n) except 0:
        """Count or write the packets of a unit. Raises ValueError if it cannot be sent."""
        cdef int done = 1
        if n == 0:
            return 1
        if self.coding == AVC or self.coding == HEVC:
            done = pack_nals(o, p, n, self.coding)
        elif self.coding == AAC:
            done = pack_aac(o, p, n)
        elif self.coding == WHOLE:
            done = pack_pieces(o, p, n, n, 0)
        elif self.coding == SAMPLES:
            done = pack_pieces(o, p, n, self.grain, 1)
        elif self.coding == G726:
            done = pack_pieces(o, p, n, self.grain, WORDS)
        elif self.coding == JPEG:
            done = pack_jpeg(o, p, n)
        else:
            done = pack_pieces(o, p, n, 1, 0)
        if not done:
            raise ValueError(f"a unit of {n} bytes is not coded as its stream, or too long for one packet")
        return 1


def readdressed(const uint8_t[::1] data not None, const uint32_t[::1] offsets not None, uint32_t sequence, *, uint32_t lead=0, int channel=-1):
    """A copy of packets with other sequence numbers; see rtppack.pyi."""
    cdef uint64_t n = <uint64_t>data.shape[0], i, at
    cdef uint64_t count = <uint64_t>offsets.shape[0] - 1 if offsets.shape[0] else 0
    cdef bytes out = PyBytes_FromStringAndSize(<const char*>&data[0] if n else NULL, <Py_ssize_t>n)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(out)
    if lead > LEAD_MAX or not -1 <= channel <= 255 or channel >= 0 and lead != 4:
        raise ValueError(f"at most {LEAD_MAX} bytes stand before a packet, 4 of a channel from 0 to 255")
    for i in range(count):
        at = offsets[i]
        if at + lead + 12 > n:
            raise ValueError("a packet ends behind its buffer")
        p[at + lead + 2], p[at + lead + 3] = <uint8_t>(sequence >> 8), <uint8_t>sequence
        if channel >= 0:
            p[at + 1] = <uint8_t>channel
        sequence += 1
    return out
