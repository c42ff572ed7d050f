from libc.stdint cimport uint32_t
from recorder._ext.aubuild cimport aubuild_t

cdef void samples_payload(aubuild_t* b, const unsigned char* p, size_t n, int channels, int sample_bytes) noexcept nogil
cdef void g726_payload(aubuild_t* b, const unsigned char* p, size_t n, int bits, int msb_first) noexcept nogil
cdef void opus_payload(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil
cdef uint32_t opus_ticks(const unsigned char* p, size_t n) noexcept nogil
