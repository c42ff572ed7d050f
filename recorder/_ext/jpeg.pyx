"""JPEG over RTP (RFC 2435): packets in, whole JPEG images out; every one is an access unit and an access point.

The image's head is written from the packet headers: quantisation tables in band (Q 128 to 255) or by Q (1 to 99), restart intervals (types 64 to 127), the
Huffman tables of ITU-T T.81 annex K. Pictures over 2040 pixels say size 0 and send their own segments in a header extension 0xFFD8 (ONVIF Streaming
5.1.3.1), or leave their size to the SDP. A hole in the fragments drops the picture; the next one is flagged.
"""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset
from recorder._ext.aubuild cimport aubuild_t, frame_begin, frame_end, frame_put
from recorder._ext.auqueue cimport queue_abort, queue_at
from recorder._ext.paramsets cimport sets_single

cdef extern from "jpegtables.h" nogil:
    const unsigned char wr_jpeg_luma[64]
    const unsigned char wr_jpeg_chroma[64]
    const unsigned char wr_jpeg_huffman[]
    const size_t HUFFMAN_BYTES "sizeof(wr_jpeg_huffman)"

cdef enum:
    HEADER = 8
    SEGMENTS_MAX = 32
    HAS_DQT = 1
    HAS_DHT = 2
    HAS_SOF = 4
    HAS_DRI = 8

cdef struct head_t:             # of the picture that begins
    int kind                    # type without the restart bit
    int width
    int height
    int q
    uint32_t restart
    int has                     # HAS_*: segments that the extension brings
    int components
    unsigned char ids[3]


cdef void jpeg_lost(jpeg_t* j, aubuild_t* b) noexcept nogil:
    """The picture in the making is of no use."""
    if j.open:
        b.broken_aus += 1
        queue_abort(b.q)
    j.open = 0


# ---- tables

cdef void tables_by_q(jpeg_t* j, int q) noexcept nogil:
    """RFC 2435 4.2."""
    cdef int scale = 5000 // q if q < 50 else 200 - 2 * q
    cdef int i, v
    for i in range(128):
        v = ((wr_jpeg_luma[i] if i < 64 else wr_jpeg_chroma[i & 63]) * scale + 50) // 100
        j.tables[i] = <unsigned char>(1 if v < 1 else 255 if v > 255 else v)
    j.tables_bytes, j.precision, j.tables_q = 128, 0, q


cdef size_t tables_in_band(jpeg_t* j, int q, const unsigned char* p, size_t n) noexcept nogil:
    """The quantisation table header (RFC 2435 3.1.8) of n bytes at most: its length, 0 if it cannot be. Without tables the last ones with this Q hold."""
    cdef size_t size
    cdef size_t at = 0
    cdef int k = 0
    if n < 4:
        return 0
    size = p[2] << 8 | p[3]
    if size == 0:
        return 4 if j.tables_bytes and j.tables_q == q else 0
    if 4 + size > n or size > JPEG_TABLES_MAX:
        return 0
    while at < size and k < 4:
        at += 128 if p[1] >> k & 1 else 64
        k += 1
    if at != size:
        return 0
    memcpy(j.tables, p + 4, size)
    j.tables_bytes, j.precision, j.tables_q = <uint32_t>size, p[1], q
    return 4 + size


cdef int table_count(const jpeg_t* j) noexcept nogil:
    cdef uint32_t at = 0
    cdef int k = 0
    while at < j.tables_bytes:
        at += 128 if j.precision >> k & 1 else 64
        k += 1
    return k


# ---- the head of the image

cdef void put_tables(const jpeg_t* j, aubuild_t* b) noexcept nogil:
    """DQT (T.81 B.2.4.1)."""
    cdef unsigned char head[5]
    cdef uint32_t at = 0
    cdef uint32_t size
    cdef int k = 0
    while at < j.tables_bytes:
        size = 128 if j.precision >> k & 1 else 64
        head[0], head[1], head[2], head[3], head[4] = 0xFF, 0xDB, 0, <unsigned char>(size + 3), <unsigned char>((size > 64) << 4 | k)
        frame_put(b, head, 5)
        frame_put(b, j.tables + at, size)
        at += size
        k += 1


cdef void put_frame_header(const jpeg_t* j, aubuild_t* b, head_t* h) noexcept nogil:
    """SOF0, or SOF1 for 16 bit tables (B.2.2): Y with 2x1 (type 0) or 2x2 (type 1) samples, Cb, Cr."""
    cdef unsigned char chroma = 1 if table_count(j) > 1 else 0
    cdef unsigned char out[19]
    memcpy(out, <const unsigned char*>b"\xff\xc0\0\x11\x08\0\0\0\0\x03\x01\x21\0\x02\x11\0\x03\x11\0", 19)
    if j.precision:
        out[1] = 0xC1
    out[5], out[6], out[7], out[8] = <unsigned char>(h.height >> 8), <unsigned char>h.height, <unsigned char>(h.width >> 8), <unsigned char>h.width
    if h.kind == 1:
        out[11] = 0x22
    out[15] = out[18] = chroma
    frame_put(b, out, 19)
    h.components = 3
    h.ids[0], h.ids[1], h.ids[2] = 1, 2, 3


cdef void put_scan_header(aubuild_t* b, const head_t* h) noexcept nogil:
    """SOS (B.2.3)."""
    cdef unsigned char out[14]
    cdef int i
    memset(out, 0, 14)
    out[0], out[1], out[3], out[4] = 0xFF, 0xDA, <unsigned char>(6 + 2 * h.components), <unsigned char>h.components
    for i in range(h.components):
        out[5 + 2 * i] = h.ids[i]
        out[6 + 2 * i] = 0x11 if i else 0
    out[5 + 2 * h.components + 1] = 63
    frame_put(b, out, 8 + 2 * h.components)


cdef void put_restart(aubuild_t* b, uint32_t interval) noexcept nogil:
    """DRI (B.2.4.4)."""
    cdef unsigned char out[6]
    out[0], out[1], out[2], out[3], out[4], out[5] = 0xFF, 0xDD, 0, 4, <unsigned char>(interval >> 8), <unsigned char>interval
    frame_put(b, out, 6)


cdef int wanted(int marker) noexcept nogil:
    """Whether a segment of the extension goes into the image, as HAS_*; -1 = yes, and it replaces nothing; 0 = no."""
    if marker == 0xDB:
        return HAS_DQT
    if marker == 0xC4:
        return HAS_DHT
    if marker == 0xC0 or marker == 0xC1:
        return HAS_SOF
    if marker == 0xDD:
        return HAS_DRI
    return -1 if 0xE0 <= marker <= 0xEF or marker == 0xFE else 0


cdef int sof_segment(head_t* h, const unsigned char* p, size_t size) noexcept nogil:
    """Learn size and components; 0 if it cannot be."""
    cdef int i
    if size < 8 or p[7] not in (1, 3) or size != 8 + 3 * <size_t>p[7]:
        return 0
    h.height, h.width, h.components = p[3] << 8 | p[4], p[5] << 8 | p[6], p[7]
    for i in range(min(h.components, 3)):
        h.ids[i] = p[8 + 3 * i]
    return h.width > 0 and h.height > 0


cdef void put_segments(aubuild_t* b, head_t* h, const unsigned char* p, size_t n) noexcept nogil:
    """Segments of the extension: bytes of 0xFF fill it up."""
    cdef size_t at = 0
    cdef size_t size
    cdef int has, count = 0
    while at + 4 <= n and count < SEGMENTS_MAX and p[at] == 0xFF:
        if p[at + 1] == 0xFF:
            at += 1
            continue
        if p[at + 1] == 0xD8:
            at += 2
            continue
        size = p[at + 2] << 8 | p[at + 3]
        has = wanted(p[at + 1])
        if size < 2 or at + 2 + size > n:
            return
        if has == HAS_SOF and not sof_segment(h, p + at + 2, size):
            has = 0
        if has:
            frame_put(b, p + at, 2 + size)
            h.has |= has if has > 0 else 0
        at += 2 + size
        count += 1


cdef int put_head(jpeg_t* j, aubuild_t* b, head_t* h, const unsigned char* ext, size_t ext_bytes) noexcept nogil:
    """Everything before the scan's data; 0 if the size is known to nobody, or tables are missing."""
    frame_begin(b)
    frame_put(b, <const unsigned char*>b"\xff\xd8", 2)
    put_segments(b, h, ext, ext_bytes)
    if not h.has & HAS_SOF and (h.width == 0 or h.height == 0):
        h.width, h.height = j.width, j.height
    if h.width == 0 or h.height == 0 or not h.has & HAS_DQT and j.tables_bytes == 0:
        return 0
    if not h.has & HAS_DQT:
        put_tables(j, b)
    if not h.has & HAS_SOF:
        put_frame_header(j, b, h)
    if not h.has & HAS_DHT:
        frame_put(b, wr_jpeg_huffman, HUFFMAN_BYTES)
    if h.restart and not h.has & HAS_DRI:
        put_restart(b, h.restart)
    put_scan_header(b, h)
    return 1


cdef void learn_size(jpeg_t* j, aubuild_t* b, const head_t* h) noexcept nogil:
    """The size makes the format: 16 bits of width and height."""
    cdef unsigned char size[4]
    if h.width == j.format_width and h.height == j.format_height:
        return
    size[0], size[1], size[2], size[3] = <unsigned char>(h.width >> 8), <unsigned char>h.width, <unsigned char>(h.height >> 8), <unsigned char>h.height
    b.format = sets_single(&b.sets, size, 4)
    j.format_width, j.format_height = h.width, h.height


# ---- packets

cdef void finish(jpeg_t* j, aubuild_t* b) noexcept nogil:
    """The picture is whole; cameras leave its EOI on or not."""
    cdef unsigned char* last
    j.open = 0
    if not b.discard:
        last = queue_at(b.q, b.q.write_pos - 2)
        if last[0] != 0xFF or last[1] != 0xD9:
            frame_put(b, <const unsigned char*>b"\xff\xd9", 2)
    if b.format > 0:
        frame_end(b, j.ts, 0)
    else:
        queue_abort(b.q)


cdef size_t begin(jpeg_t* j, aubuild_t* b, const unsigned char* p, size_t n, size_t at, uint32_t restart, const unsigned char* ext,
                  size_t ext_bytes) noexcept nogil:
    """The first fragment: write the head. Returns where the scan's data begin, 0 if the picture cannot be."""
    cdef head_t h
    cdef size_t used
    memset(&h, 0, sizeof(head_t))
    h.kind, h.q, h.width, h.height, h.restart = p[4] & 63, p[5], 8 * p[6], 8 * p[7], restart
    if h.q >= 128:
        used = tables_in_band(j, h.q, p + at, n - at)
        if used == 0:
            return 0
        at += used
    elif 1 <= h.q <= 99:
        if j.tables_q != h.q:
            tables_by_q(j, h.q)
    else:
        j.tables_bytes = 0          # reserved: only the extension can bring tables
        j.tables_q = -1
    if not put_head(j, b, &h, ext, ext_bytes):
        return 0
    learn_size(j, b, &h)
    return at


cdef void refuse(jpeg_t* j, aubuild_t* b) noexcept nogil:
    b.malformed += 1
    jpeg_lost(j, b)
    queue_abort(b.q)


cdef void jpeg_payload(jpeg_t* j, aubuild_t* b, const unsigned char* p, size_t n, const unsigned char* ext, size_t ext_bytes, int marker) noexcept nogil:
    """One RTP payload, `ext` the content of a header extension 0xFFD8; the caller has called au_packet."""
    cdef size_t at = HEADER
    cdef uint32_t offset, restart = 0
    if j.open and j.ts != b.pkt_ts:     # no marker came
        finish(j, b)
    if n < HEADER or p[4] >= 128 or p[4] & 63 > 1 or p[4] & 64 and n < HEADER + 4:
        refuse(j, b)
        return
    offset = <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
    if p[4] & 64:
        restart = p[8] << 8 | p[9]
        at += 4
    if offset == 0:
        jpeg_lost(j, b)
        at = begin(j, b, p, n, at, restart, ext, ext_bytes)
        if at == 0:
            refuse(j, b)
            return
        j.open, j.want, j.ts = 1, 0, b.pkt_ts
    elif not j.open:
        return                          # of a picture that is lost already
    elif offset != j.want:
        jpeg_lost(j, b)
        b.loss_before = 1
        return
    frame_put(b, p + at, n - at)
    j.want += <uint32_t>(n - at)
    if marker:
        finish(j, b)
