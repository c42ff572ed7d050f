from recorder._ext.aubuild cimport aubuild_t

cdef void g711_payload(aubuild_t* b, const unsigned char* p, size_t n, int channels) noexcept nogil
