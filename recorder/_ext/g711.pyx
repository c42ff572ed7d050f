"""G.711 payloads (RFC 3551 4.5.14): one byte a sample and channel; every packet is an access unit, pauses stand in the timestamps."""
from libc.stdint cimport uint32_t
from recorder._ext.aubuild cimport au_audio, aubuild_t


cdef void g711_payload(aubuild_t* b, const unsigned char* p, size_t n, int channels) noexcept nogil:
    """One RTP payload; the caller has called au_packet."""
    if n == 0:
        b.malformed += 1
        return
    au_audio(b, p, n, b.pkt_ts, <uint32_t>(n // channels))
