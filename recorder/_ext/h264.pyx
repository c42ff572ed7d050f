"""H.264 payloads (RFC 6184, non-interleaved mode): single NAL units, STAP-A, FU-A.

Tolerated: Annex B streams in a payload, zero-length units and zero padding in a STAP-A, the R bit, FU-A whose later fragments name another type (Tiandy),
that start and end in one packet (CostarHD, OpenIPC), or are empty. Dropped and counted: F bit, types 0, 25-27, 29-31.
"""
from recorder._ext.aubuild cimport aubuild_t, fragment, fragment_break, hurt_au, nal_whole

cdef enum:
    STAP_A = 24
    FU_A = 28


cdef void stap_a(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """RFC 6184 5.7.1: 16 bit sizes and units."""
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


cdef void h264_payload(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """One RTP payload; the caller has called au_packet."""
    cdef int kind
    cdef unsigned char head
    if n == 0:
        b.malformed += 1
        return
    kind = p[0] & 31
    if kind == FU_A and not p[0] & 0x80:
        if n < 2:
            b.malformed += 1
            return
        head = (p[0] & 0x60) | (p[1] & 31)
        fragment(b, p[1] & 0x80, p[1] & 0x40, &head, 1, p + 2, n - 2)
        return
    fragment_break(b)
    if kind == STAP_A and not p[0] & 0x80:
        stap_a(b, p + 1, n - 1)
    else:
        nal_whole(b, p, n)
