from libc.stdint cimport uint32_t, uint64_t

cdef extern from "crc32c.h" nogil:
    void wr_crc_setup()
    uint32_t wr_crc32c(uint32_t crc, const void* buf, size_t n)
    uint32_t wr_crc_range(uint32_t before, uint32_t after, uint64_t n)
