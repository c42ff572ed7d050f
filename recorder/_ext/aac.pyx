"""AAC payloads (RFC 3640 mpeg4-generic: AAC-hbr, AAC-lbr): several access units in a packet, or one in several packets.

Tolerated: an ADTS header inside an access unit is taken off. Refused and counted: interleaving (AU-Index-delta not 0), sizes that do not fit.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from recorder._ext.aubuild cimport au_audio, aubuild_t

cdef enum:
    AAC_MAX_AUS = 64            # in a packet


cdef void aac_init(aac_t* a, int size_bits, int index_bits, int delta_bits, uint32_t dur) noexcept nogil:
    memset(a, 0, sizeof(aac_t))
    a.size_bits = size_bits
    a.index_bits = index_bits
    a.delta_bits = delta_bits
    a.dur = dur


cdef void aac_free(aac_t* a) noexcept nogil:
    free(a.whole)
    a.whole = NULL


cdef void aac_lost(aac_t* a, aubuild_t* b) noexcept nogil:
    """What there is of a fragmented access unit is of no use."""
    if a.want:
        b.broken_aus += 1
        a.broken = 1
    a.want = a.have = 0


cdef void give(aac_t* a, aubuild_t* b, const unsigned char* p, size_t n, uint32_t ts) noexcept nogil:
    """An access unit, without the ADTS header (ISO 14496-3 1.A.2.2) that some cameras leave on."""
    cdef size_t head
    if n >= 7 and p[0] == 0xFF and (p[1] & 0xF6) == 0xF0:
        head = 7 if p[1] & 1 else 9
        if ((p[3] & 3) << 11 | p[4] << 3 | p[5] >> 5) == n and n > head:
            p += head
            n -= head
    au_audio(b, p, n, ts, a.dur)


cdef uint32_t bits_at(const unsigned char* p, size_t at, int count) noexcept nogil:
    """`count` <= 24 bits from bit `at`; the caller has checked that they are there."""
    cdef uint32_t v = 0
    cdef int i
    for i in range(count):
        v = v << 1 | (p[(at + i) >> 3] >> (7 - ((at + i) & 7)) & 1)
    return v


cdef int headers(const aac_t* a, const unsigned char* p, size_t bits, uint32_t* sizes) noexcept nogil:
    """The AU headers (RFC 3640 3.2.1): how many, their sizes in `sizes`; -1 if they cannot be."""
    cdef size_t at = 0
    cdef int count = 0
    cdef int index_bits = a.index_bits
    while at + a.size_bits + index_bits <= bits:
        if count == AAC_MAX_AUS:
            return -1
        sizes[count] = bits_at(p, at, a.size_bits)
        if bits_at(p, at + a.size_bits, index_bits):
            return -1
        at += a.size_bits + index_bits
        index_bits = a.delta_bits
        count += 1
    return count


cdef void part(aac_t* a, aubuild_t* b, const unsigned char* p, size_t n, uint32_t size, int marker) noexcept nogil:
    """A fragment of an access unit of `size` bytes; the marker is on the last one."""
    if a.want and (a.want != size or a.ts != b.pkt_ts):
        aac_lost(a, b)
    if a.want == 0:
        if a.broken and a.ts == b.pkt_ts:
            return
        a.broken = 0
        if size > AAC_MAX_BYTES:
            b.malformed += 1
            return
        if a.whole is NULL:
            a.whole = <unsigned char*>malloc(AAC_MAX_BYTES)
        if a.whole is NULL:
            return
        a.want, a.have, a.ts = size, 0, b.pkt_ts
    if n > a.want - a.have:
        b.malformed += 1
        aac_lost(a, b)
        return
    memcpy(a.whole + a.have, p, n)
    a.have += <uint32_t>n
    if a.have == a.want:
        a.want = 0
        give(a, b, a.whole, a.have, a.ts)
    elif marker:
        aac_lost(a, b)


cdef void aac_payload(aac_t* a, aubuild_t* b, const unsigned char* p, size_t n, int marker) noexcept nogil:
    """One RTP payload; the caller has called au_packet."""
    cdef uint32_t sizes[AAC_MAX_AUS]
    cdef size_t bits, head
    cdef int count, i
    bits = p[0] << 8 | p[1] if n >= 2 else 0
    head = 2 + (bits + 7) // 8
    count = headers(a, p + 2, bits, sizes) if bits and head <= n else -1
    if count <= 0:
        b.malformed += 1
        return
    p += head
    n -= head
    if count == 1 and sizes[0] > n:
        part(a, b, p, n, sizes[0], marker)
        return
    if a.want == sizes[0] and a.want and count == 1 and a.ts == b.pkt_ts:
        part(a, b, p, n, sizes[0], marker)
        return
    aac_lost(a, b)
    for i in range(count):
        if sizes[i] > n:
            b.malformed += 1
            return
        if sizes[i]:
            give(a, b, p, sizes[i], b.pkt_ts + i * a.dur)
        p += sizes[i]
        n -= sizes[i]
