from recorder._ext.aubuild cimport aubuild_t

cdef void h265_payload(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil
