"""Documents over RTP: state of one stream."""
from libc.stdint cimport uint32_t
from recorder._ext.aubuild cimport aubuild_t

cdef struct document_t:
    int open                    # one is in the making
    int broken                  # the rest of the one at `ts` is of no use
    uint32_t ts

cdef void document_lost(document_t* d, aubuild_t* b) noexcept nogil
cdef void document_payload(document_t* d, aubuild_t* b, const unsigned char* p, size_t n, int marker) noexcept nogil
