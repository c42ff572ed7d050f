"""H.265 payloads (RFC 7798, without DONL): single NAL units, AP, FU.

Tolerated: Annex B streams in a payload, zero-length units and zero padding in an AP, TID 0, FUs that start and end in one packet or are
empty. Dropped and counted: F bit, PACI and types above, layers above the base.
"""
from recorder._ext.aubuild cimport aubuild_t, fragment, fragment_break, hurt_au, nal_whole

cdef enum:
    AP = 48
    FU = 49


cdef void aggregate(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """RFC 7798 4.4.2: 16 bit sizes and units."""
    cdef size_t size, at = 0
    cdef int units = 0
    while at + 2 <= n:
        size = p[at] << 8 | p[at + 1]
        at += 2
        if size > n - at:
            b.malformed += 1
            hurt_au(b)
            return
        if size:
            nal_whole(b, p + at, size)
            units += 1
        at += size
    b.malformed += units == 0


cdef void h265_payload(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """One RTP payload; the caller has called au_packet."""
    cdef int kind
    cdef unsigned char head[2]
    if n < 2:
        b.malformed += 1
        return
    kind = p[0] >> 1 & 63
    if kind == FU and not p[0] & 0x80:
        if n < 3:
            b.malformed += 1
            return
        head[0] = (p[0] & 0x81) | (p[2] & 63) << 1
        head[1] = p[1]
        fragment(b, p[2] & 0x80, p[2] & 0x40, head, 2, p + 3, n - 3)
        return
    fragment_break(b)
    if kind == AP and not p[0] & 0x80:
        aggregate(b, p + 2, n - 2)
    else:
        nal_whole(b, p, n)
