"""What a NAL unit is and which ids it bears. No more of a set is read than its ids: an SPS that nobody can parse is still recorded."""
from libc.stdint cimport int32_t, uint32_t

cdef extern from "nalscan.h" nogil:
    ctypedef struct wr_bits:
        int over
    void wr_bits_init(wr_bits* b, const unsigned char* p, size_t n)
    unsigned wr_byte(wr_bits* b)
    unsigned wr_bit(wr_bits* b)
    uint32_t wr_u(wr_bits* b, unsigned n)
    uint32_t wr_ue(wr_bits* b)

cdef enum:
    SEI_RECOVERY_POINT = 6
    SEI_READ_BYTES = 4096    # how far into an SEI NAL unit we look


cdef int class_264(const unsigned char* p, size_t n) noexcept nogil:
    """H.264 table 7-1; the first slice of a picture has first_mb_in_slice 0, whose code is one bit (7.3.3)."""
    cdef int kind = p[0] & 31
    cdef int first = NAL_FIRST if n > 1 and p[1] & 0x80 else 0
    if p[0] & 0x80 or kind == 0 or kind > 23:
        return NAL_DROP
    if kind == 1 or kind == 2:
        return NAL_VCL | first
    if kind == 5:
        return NAL_VCL | NAL_KEY | first
    if kind == 3 or kind == 4:
        return NAL_VCL
    if kind == 6:
        return NAL_PREFIX | NAL_SEI
    if kind == 7 or kind == 8:
        return NAL_PREFIX | NAL_SET
    if kind == 9 or 14 <= kind <= 18:
        return NAL_PREFIX
    return 0


cdef int class_265(const unsigned char* p, size_t n) noexcept nogil:
    """H.265 table 7-1 and 7.4.2.4.4; layers above the base are not ours. TID 0 is illegal and tolerated."""
    cdef int kind = (p[0] >> 1) & 63
    cdef int first = NAL_FIRST if n > 2 and p[2] & 0x80 else 0
    if n < 2 or p[0] & 0x80 or kind >= 48 or (p[0] & 1) << 5 | p[1] >> 3:
        return NAL_DROP
    if kind <= 9:
        return NAL_VCL | first | (NAL_LEADING if kind >= 6 else 0)
    if 16 <= kind <= 21:
        return NAL_VCL | NAL_KEY | first
    if 32 <= kind <= 34:
        return NAL_PREFIX | NAL_SET
    if kind == 35 or kind == 39 or 41 <= kind <= 44:
        return NAL_PREFIX
    return 0


cdef int nal_class(int h265, const unsigned char* p, size_t n) noexcept nogil:
    """NAL_* bits of the NAL unit that begins with these n > 0 bytes; one byte after its header is enough."""
    return class_265(p, n) if h265 else class_264(p, n)


cdef uint32_t sps_id_265(wr_bits* b, set_ids_t* ids) noexcept nogil:
    """H.265 7.3.2.2.1 up to sps_seq_parameter_set_id: profile_tier_level (7.3.3) lies before it."""
    cdef unsigned layers, i, present
    ids.parent = wr_u(b, 4)
    layers = wr_u(b, 3)
    wr_u(b, 1)
    wr_u(b, 32)
    wr_u(b, 32)
    wr_u(b, 32)
    present = wr_u(b, 16) if layers else 0
    for i in range(layers):
        if present >> (15 - 2 * i) & 1:
            wr_u(b, 32)
            wr_u(b, 32)
            wr_u(b, 24)
        if present >> (14 - 2 * i) & 1:
            wr_u(b, 8)
    return wr_ue(b)


cdef int nal_set_ids(int h265, const unsigned char* p, size_t n, set_ids_t* ids) noexcept nogil:
    """Fill `ids` for a parameter set; 0 if it is none, or too short to tell."""
    cdef wr_bits b
    cdef int kind = (p[0] >> 1) & 63 if h265 else p[0] & 31
    cdef size_t head = 2 if h265 else 1
    if n <= head:
        return 0
    wr_bits_init(&b, p + head, n - head)
    ids.parent = 0
    if h265 and kind == 32:
        ids.kind, ids.id = SET_VPS, wr_u(&b, 4)
    elif h265 and kind == 33:
        ids.kind, ids.id = SET_SPS, sps_id_265(&b, ids)
    elif not h265 and kind == 7:
        wr_u(&b, 24)
        ids.kind, ids.id = SET_SPS, wr_ue(&b)
    elif kind == (34 if h265 else 8):
        ids.kind, ids.id = SET_PPS, wr_ue(&b)
        ids.parent = wr_ue(&b)
    else:
        return 0
    return not b.over


cdef int32_t nal_slice_pps(int h265, const unsigned char* p, size_t n) noexcept nogil:
    """slice_pic_parameter_set_id of a slice (H.264 7.3.3, H.265 7.3.6.1); -1 if it is cut off before."""
    cdef wr_bits b
    cdef uint32_t pps
    cdef size_t head = 2 if h265 else 1
    if n <= head:
        return -1
    wr_bits_init(&b, p + head, n - head)
    if h265:
        wr_bit(&b)
        if 16 <= (p[0] >> 1 & 63) <= 23:
            wr_bit(&b)
    else:
        wr_ue(&b)
        wr_ue(&b)
    pps = wr_ue(&b)
    return -1 if b.over or pps > 255 else <int32_t>pps


cdef uint32_t sei_number(wr_bits* b) noexcept nogil:
    """payloadType or payloadSize: bytes of 255 and a last one (H.264 7.3.2.3.1)."""
    cdef uint32_t v = 0
    cdef unsigned byte = wr_byte(b)
    while byte == 255 and not b.over:
        v += 255
        byte = wr_byte(b)
    return v + byte


cdef int32_t nal_recovery(const unsigned char* p, size_t n, int* exact) noexcept nogil:
    """recovery_frame_cnt of the recovery point in an H.264 SEI NAL unit (D.1.8), -1 if it holds none; exact_match_flag goes to `exact`."""
    cdef wr_bits b
    cdef uint32_t kind, size, frames
    if n < 3:
        return -1
    wr_bits_init(&b, p + 1, (n if n < SEI_READ_BYTES else SEI_READ_BYTES) - 1)
    while not b.over:
        kind = sei_number(&b)
        size = sei_number(&b)
        if b.over:
            return -1
        if kind == SEI_RECOVERY_POINT:
            frames = wr_ue(&b)
            exact[0] = wr_bit(&b)
            return -1 if b.over or frames > 65535 else <int32_t>frames
        while size and not b.over:
            wr_byte(&b)
            size -= 1
    return -1


def describe(const unsigned char[::1] nal not None, bint h265):
    """(class bits, (kind, id, parent) of a set or None, PPS id of a slice or -1, (recovery_frame_cnt, exact) or None); for tests and tools."""
    cdef set_ids_t ids
    cdef int exact = 0
    cdef size_t n = nal.shape[0]
    if n == 0:
        raise ValueError("a NAL unit has at least one byte")
    bits = nal_class(h265, &nal[0], n)
    has_ids = bits & NAL_SET and nal_set_ids(h265, &nal[0], n, &ids)
    pps = nal_slice_pps(h265, &nal[0], n) if bits & NAL_VCL else -1
    frames = nal_recovery(&nal[0], n, &exact) if bits & NAL_SEI else -1
    return bits, (ids.kind, ids.id, ids.parent) if has_ids else None, pps, (frames, exact) if frames >= 0 else None


def start_code(const unsigned char[::1] data not None):
    """Position of the first 00 00 01 in `data`, or its length."""
    return wr_start_code(&data[0], data.shape[0]) if data.shape[0] else 0
