"""Audio payloads of one access unit a packet: G.711, L16, G.726 (RFC 3551 4.5), Opus (RFC 7587). Pauses stand in the timestamps.

G.726 comes in two bit orders: RFC 3551 puts the first code word into the least significant bits, AAL2 (ITU-T I.366.2 annex E) into the most
significant ones. Both are stored in the AAL2 order, which is what files have.
"""
from libc.stdint cimport uint32_t
from libc.string cimport memset
from recorder._ext.aubuild cimport au_audio, aubuild_t

cdef enum:
    G726_MAX = 4096             # bytes of a packet; 1 s at 32 kbit/s
    OPUS_MAX_TICKS = 5760       # 120 ms (RFC 6716 3.2.5)


cdef void samples_payload(aubuild_t* b, const unsigned char* p, size_t n, int channels, int sample_bytes) noexcept nogil:
    """G.711 or L16: whole samples of all channels."""
    cdef size_t frame = channels * sample_bytes
    if n == 0 or n % frame:
        b.malformed += 1
        return
    au_audio(b, p, n, b.pkt_ts, <uint32_t>(n // frame))


cdef void g726_payload(aubuild_t* b, const unsigned char* p, size_t n, int bits, int msb_first) noexcept nogil:
    """G.726 with code words of 2 to 5 bits, mono; bits that make no whole code word are left out."""
    cdef unsigned char out[G726_MAX]
    cdef size_t words = 8 * n // bits
    cdef size_t i, at, bit
    cdef int k
    if words == 0 or n > G726_MAX:
        b.malformed += 1
        return
    if msb_first:
        au_audio(b, p, n, b.pkt_ts, <uint32_t>words)
        return
    memset(out, 0, n)
    for i in range(words):
        for k in range(bits):
            at = i * bits + k               # RFC 3551: bit k of the word, from the least significant on
            bit = i * bits + bits - 1 - k   # in the stored order, from the most significant bit of the first byte on
            if p[at >> 3] >> (at & 7) & 1:
                out[bit >> 3] |= <unsigned char>(0x80 >> (bit & 7))
    au_audio(b, out, n, b.pkt_ts, <uint32_t>words)


cdef uint32_t opus_ticks(const unsigned char* p, size_t n) noexcept nogil:
    """Ticks of 1/48000 s by the TOC byte and the frame count (RFC 6716 3.1, 3.2); 0 for what is no Opus packet."""
    cdef int config, count
    cdef uint32_t each
    if n == 0:
        return 0
    config = p[0] >> 3
    if config < 12:
        each = 2880 if config & 3 == 3 else 480 << (config & 3)
    elif config < 16:
        each = 480 << (config & 1)
    else:
        each = 120 << (config & 3)
    count = p[0] & 3
    if count == 3:
        count = p[1] & 63 if n > 1 else 0
    else:
        count = 1 if count == 0 else 2
    return count * each if count * each <= OPUS_MAX_TICKS else 0


cdef void opus_payload(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """One Opus packet."""
    cdef uint32_t ticks = opus_ticks(p, n)
    if ticks == 0:
        b.malformed += 1
        return
    au_audio(b, p, n, b.pkt_ts, ticks)


def opus_duration(const unsigned char[::1] packet not None):
    """For tests and tools."""
    return opus_ticks(&packet[0], packet.shape[0]) if packet.shape[0] else 0
