"""ONVIF metadata (ONVIF Streaming 5.2.1): documents over several packets, the marker ends one. They are kept as they are, compressed or not."""
from libc.stdint cimport uint32_t
from recorder._ext.aubuild cimport aubuild_t, frame_begin, frame_end, frame_put
from recorder._ext.auqueue cimport queue_abort


cdef void document_lost(document_t* d, aubuild_t* b) noexcept nogil:
    """What there is of a document is of no use, nor is the rest of the one that the next packet belongs to, unless it begins there."""
    if d.open:
        b.broken_aus += 1
        queue_abort(b.q)
        d.broken = 1
    d.open = 0


cdef void document_payload(document_t* d, aubuild_t* b, const unsigned char* p, size_t n, int marker) noexcept nogil:
    """One RTP payload of n > 0 bytes; the caller has called au_packet."""
    if d.open and d.ts != b.pkt_ts:     # no marker came
        d.open = 0
        frame_end(b, d.ts, 0)
    if d.broken and d.ts == b.pkt_ts:
        return
    d.broken = 0
    if not d.open:
        if b.loss_before and p[0] not in (0x3C, 0xEF, 0x1F, 0x24, 0x20, 0x0A, 0x0D):    # no XML, BOM, gzip or EXI begins so: a document's rest
            d.broken, d.ts = not marker, b.pkt_ts
            b.broken_aus += 1
            return
        frame_begin(b)
        d.open, d.ts = 1, b.pkt_ts
    frame_put(b, p, n)
    if marker:
        d.open = 0
        frame_end(b, d.ts, 0)
