"""JPEG images to RTP (RFC 2435), the way back from jpeg.pyx.

The image's head becomes packet headers: quantisation tables in band (Q 255), restart intervals (types 64, 65), 2x1 and 2x2 sampling (types 0, 1). What these
cannot say goes in a header extension 0xFFD8 besides (ONVIF Streaming 5.1.3.1): sides that are no multiples of 8 or over 2040 pixels (SOF), Huffman tables other
than those of ITU-T T.81 annex K (DHT), other components.

Safety: segments are read behind comparisons with the image's length; tables and segments go into fixed arrays behind comparisons with their sizes.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from recorder._ext.packets cimport packet_begin, packet_end, packet_put, packet_space, packets_t

cdef extern from "jpegtables.h" nogil:
    const unsigned char wr_jpeg_huffman[]
    const size_t HUFFMAN_BYTES "sizeof(wr_jpeg_huffman)"

cdef enum:
    TABLES = 4
    TABLE_MAX = 128
    MORE_MAX = 1024             # an extension must leave room for the picture
    DQT = 0xDB
    SOF0 = 0xC0
    SOF1 = 0xC1
    DHT = 0xC4
    DRI = 0xDD
    SOS = 0xDA
    SIDE_MAX = 2040

cdef struct image_t:
    int width
    int height
    int kind                    # 0: 2x1, 1: 2x2, -1: only SOF can say it
    int chroma                  # quantisation table of Cb and Cr
    int components
    uint8_t ids[4]
    uint8_t tables[TABLES][TABLE_MAX]
    uint32_t table_bytes[TABLES]
    uint32_t restart
    int custom                  # Huffman tables of its own
    uint64_t scan               # where its data begin
    uint8_t more[MORE_MAX]      # the extension: 0xFFD8, length in words, segments
    uint32_t more_bytes


cdef int put_segment(image_t* j, const uint8_t* p, uint64_t n) noexcept nogil:
    """A marker segment into the extension; 0 if it is full."""
    if j.more_bytes == 0:
        j.more_bytes = 4
    if n > MORE_MAX - j.more_bytes:
        return 0
    memcpy(j.more + j.more_bytes, p, n)
    j.more_bytes += <uint32_t>n
    return 1


cdef void close_segments(image_t* j) noexcept nogil:
    """Fill the extension up with 0xFF and say its length."""
    cdef uint32_t words
    if j.more_bytes == 0:
        return
    while j.more_bytes % 4 and j.more_bytes < MORE_MAX:
        j.more[j.more_bytes] = 0xFF
        j.more_bytes += 1
    words = j.more_bytes // 4 - 1
    j.more[0], j.more[1], j.more[2], j.more[3] = 0xFF, 0xD8, <uint8_t>(words >> 8), <uint8_t>words


cdef int read_tables(image_t* j, const uint8_t* p, uint64_t n) noexcept nogil:
    """DQT (T.81 B.2.4.1)."""
    cdef uint64_t at = 0
    cdef uint32_t size
    cdef int k
    while at < n:
        size = 128 if p[at] >> 4 else 64
        k = p[at] & 15
        if k >= TABLES or n - at < 1 + size:
            return 0
        memcpy(j.tables[k], p + at + 1, size)
        j.table_bytes[k] = size
        at += 1 + size
    return 1


cdef int usual_table(const uint8_t* p, uint64_t n) noexcept nogil:
    """Whether a Huffman table (class and id, 16 counts, values) is the one of annex K."""
    cdef uint64_t at = 0, end = 0, i
    cdef int k
    while at + 4 < HUFFMAN_BYTES:
        end = at + 2 + (wr_jpeg_huffman[at + 2] << 8 | wr_jpeg_huffman[at + 3])
        at += 4
        while at + 17 <= end:
            i = 17
            for k in range(16):
                i += wr_jpeg_huffman[at + 1 + k]
            if wr_jpeg_huffman[at] == p[0]:
                return i == n and memcmp(wr_jpeg_huffman + at, p, n) == 0
            at += i
        at = end
    return 0


cdef int read_huffman(image_t* j, const uint8_t* p, uint64_t n) noexcept nogil:
    """DHT (B.2.4.2)."""
    cdef uint64_t at = 0, size
    cdef int k
    while at < n:
        if n - at < 17:
            return 0
        size = 17
        for k in range(16):
            size += p[at + 1 + k]
        if n - at < size:
            return 0
        if not usual_table(p + at, size):
            j.custom = 1
        at += size
    return 1


cdef int read_frame(image_t* j, const uint8_t* p, uint64_t n) noexcept nogil:
    """SOF0, SOF1 (B.2.2) behind the length field."""
    cdef int i
    if n < 9 or p[0] != 8 or p[5] not in (1, 3) or n != 6 + 3 * <uint64_t>p[5]:
        return 0
    j.height, j.width, j.components = p[1] << 8 | p[2], p[3] << 8 | p[4], p[5]
    for i in range(j.components):
        j.ids[i] = p[6 + 3 * i]
    j.kind = -1
    if j.components == 3 and p[10] == 0x11 and p[13] == 0x11 and p[8] == 0 and p[11] == p[14] and p[11] <= 1 and p[7] in (0x21, 0x22):
        j.kind, j.chroma = p[7] == 0x22, p[11]
    return j.width > 0 and j.height > 0


cdef int read_scan(image_t* j, const uint8_t* p, uint64_t n) noexcept nogil:
    """SOS (B.2.3): whether it is the one that a receiver writes (jpeg.pyx put_scan_header)."""
    cdef int i
    if n != 4 + 2 * <uint64_t>j.components or p[0] != j.components or j.components == 0:
        return 0
    for i in range(j.components):
        if p[1 + 2 * i] != j.ids[i] or p[2 + 2 * i] != (0x11 if i else 0):
            return 0
    return p[n - 3] == 0 and p[n - 2] == 63 and p[n - 1] == 0


cdef int read_segment(image_t* j, int marker, const uint8_t* p, uint64_t n) noexcept nogil:
    """What a segment says, behind its length field; 0 if it is broken or no coding that RTP has."""
    if marker == DQT:
        return read_tables(j, p, n)
    if marker == DHT:
        return read_huffman(j, p, n)
    if marker == SOF0 or marker == SOF1:
        return read_frame(j, p, n)
    if marker == DRI:
        if n != 2:
            return 0
        j.restart = p[0] << 8 | p[1]
        return 1
    return 0xE0 <= marker <= 0xFE       # application data and comments; not another SOF


cdef int read_head(image_t* j, const uint8_t* p, uint64_t n) noexcept nogil:
    """The image's head, up to the scan; 0 if it cannot be sent."""
    cdef uint64_t at = 2, size
    if n < 4 or p[0] != 0xFF or p[1] != 0xD8:
        return 0
    while at + 4 <= n and p[at] == 0xFF:
        if p[at + 1] == 0xFF:
            at += 1
            continue
        size = p[at + 2] << 8 | p[at + 3]
        if size < 2 or n - at - 2 < size:
            return 0
        if p[at + 1] == SOS:
            j.scan = at + 2 + size
            return read_scan(j, p + at + 4, size - 2)
        if not read_segment(j, p[at + 1], p + at + 4, size - 2):
            return 0
        at += 2 + size
    return 0


cdef int extend(image_t* j, const uint8_t* p) noexcept nogil:
    """The segments that packet headers have no words for; 0 if they are too long. The head has been read."""
    cdef uint64_t at = 2, size
    cdef bint sizeless = j.width % 8 or j.height % 8 or j.width > SIDE_MAX or j.height > SIDE_MAX
    while at < j.scan:
        if p[at + 1] == 0xFF:
            at += 1
            continue
        size = 2 + (p[at + 2] << 8 | p[at + 3])
        if p[at + 1] in (SOF0, SOF1) and (sizeless or j.kind < 0) or p[at + 1] == DHT and j.custom or p[at + 1] == DQT and j.kind < 0:
            if not put_segment(j, p + at, size):
                return 0
        at += size
    close_segments(j)
    return 1


cdef uint32_t put_head(uint8_t* h, const image_t* j) noexcept nogil:
    """The headers of a packet (RFC 2435 3.1.1, 3.1.7) with a fragment offset of 0; returns their length."""
    cdef bint large = j.width > SIDE_MAX or j.height > SIDE_MAX
    memset(h, 0, 12)
    h[4] = <uint8_t>(max(j.kind, 0) | (64 if j.restart else 0))
    h[5] = 255
    h[6], h[7] = 0 if large else <uint8_t>((j.width + 7) // 8), 0 if large else <uint8_t>((j.height + 7) // 8)
    if j.restart == 0:
        return 8
    h[8], h[9], h[10], h[11] = <uint8_t>(j.restart >> 8), <uint8_t>j.restart, 0xFF, 0xFF
    return 12


cdef uint32_t put_table(uint8_t* h, uint32_t at, int place, const uint8_t* table, uint32_t size) noexcept nogil:
    """One table behind the others; returns where the next one goes."""
    if size > 64:
        h[1] |= <uint8_t>(1 << place)
    memcpy(h + at, table, size)
    return at + size


cdef uint32_t put_tables(uint8_t* h, const image_t* j) noexcept nogil:
    """The quantisation table header (3.1.8) and two tables, for luma and chroma, since receivers count on two; of other images those from 0 on without a
    hole. Returns their length."""
    cdef uint32_t at = 4
    cdef int k = 0
    h[0] = h[1] = 0
    if j.kind >= 0:
        at = put_table(h, at, 0, j.tables[0], j.table_bytes[0])
        at = put_table(h, at, 1, j.tables[j.chroma], j.table_bytes[j.chroma])
    else:
        while k < TABLES and j.table_bytes[k]:
            at = put_table(h, at, k, j.tables[k], j.table_bytes[k])
            k += 1
    h[2], h[3] = <uint8_t>((at - 4) >> 8), <uint8_t>(at - 4)
    return at


cdef int pack_jpeg(packets_t* o, const uint8_t* p, uint64_t n) noexcept nogil:
    """The packets of an image, without its EOI; 0 if it cannot be sent (progressive, no tables, or more of a head than a packet takes)."""
    cdef image_t j
    cdef uint8_t head[16 + TABLES * TABLE_MAX]
    cdef uint32_t fixed, used
    cdef uint64_t part, sent = 0
    memset(&j, 0, sizeof(image_t))
    if not read_head(&j, p, n) or j.table_bytes[0] == 0 or j.table_bytes[j.chroma] == 0 or not extend(&j, p):
        return 0
    if n - j.scan >= 2 and p[n - 2] == 0xFF and p[n - 1] == 0xD9:
        n -= 2
    if n <= j.scan or n - j.scan > 0xFFFFFF:
        return 0
    o.more, o.more_bytes = j.more, j.more_bytes
    fixed = put_head(head, &j)
    used = fixed + put_tables(head + fixed, &j)
    while j.scan + sent < n:
        if packet_space(o) <= used:
            return 0
        part = min(packet_space(o) - used, n - j.scan - sent)
        head[1], head[2], head[3] = <uint8_t>(sent >> 16), <uint8_t>(sent >> 8), <uint8_t>sent
        packet_begin(o)
        packet_put(o, head, used)
        packet_put(o, p + j.scan + sent, part)
        if not packet_end(o, 0):
            return 0
        sent += part
        used = fixed
    return 1
