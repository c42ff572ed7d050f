from libc.stdint cimport uint8_t, uint64_t
from recorder._ext.packets cimport packets_t

cdef int pack_jpeg(packets_t* o, const uint8_t* p, uint64_t n) noexcept nogil
