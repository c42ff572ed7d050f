"""One AU entry of the frames ring (LEB128 varints, storage/layout.py), for every kernel that reads them. C only."""
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef inline int varint(const uint8_t* data, uint64_t end, uint64_t* at, uint64_t* value) noexcept nogil:
    """1 and the value, `at` moved behind it; 0 if it does not end before `end` or is longer than 10 bytes."""
    cdef uint64_t v = 0, b
    cdef int shift = 0
    while at[0] < end and shift < 70:
        b = data[at[0]]
        at[0] += 1
        if shift < 64:
            v |= (b & 0x7F) << shift
        if b < 0x80:
            value[0] = v
            return 1
        shift += 7
    return 0


cdef inline int entry(const uint8_t* data, uint64_t end, uint64_t* at, uint64_t* head, uint64_t* step, int64_t* cts) noexcept nogil:
    """1 and the fields of one entry; 0 if it is cut."""
    cdef uint64_t z = 0
    cts[0] = 0
    if not varint(data, end, at, head) or not varint(data, end, at, step):
        return 0
    if head[0] & 8:
        if not varint(data, end, at, &z):
            return 0
        cts[0] = <int64_t>(z >> 1) ^ -<int64_t>(z & 1)
    return 1
