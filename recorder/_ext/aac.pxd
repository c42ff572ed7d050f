from libc.stdint cimport uint32_t, uint64_t
from recorder._ext.aubuild cimport aubuild_t

cdef enum:
    AAC_MAX_BYTES = 16384

cdef struct aac_t:
    int size_bits
    int index_bits
    int delta_bits
    uint32_t dur                # ticks of an access unit
    unsigned char* whole        # a fragmented access unit in the making; allocated when one comes
    uint32_t want               # its size
    uint32_t have
    uint32_t ts
    int broken                  # the rest of the one at `ts` is of no use

cdef void aac_init(aac_t* a, int size_bits, int index_bits, int delta_bits, uint32_t dur) noexcept nogil
cdef void aac_free(aac_t* a) noexcept nogil
cdef void aac_lost(aac_t* a, aubuild_t* b) noexcept nogil
cdef void aac_payload(aac_t* a, aubuild_t* b, const unsigned char* p, size_t n, int marker) noexcept nogil
