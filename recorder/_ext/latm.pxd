"""AAC in LATM: state of one stream."""
from libc.stdint cimport uint32_t
from recorder._ext.aubuild cimport aubuild_t

cdef enum:
    LATM_MAX_BYTES = 16384      # of an audioMuxElement
    ASC_MAX_BYTES = 64          # of an AudioSpecificConfig

cdef struct mux_t:              # a StreamMuxConfig
    int subframes
    uint32_t other_bits
    uint32_t rate               # sampling rate of the core
    uint32_t frame_samples
    unsigned char asc[ASC_MAX_BYTES]
    uint32_t asc_bytes

cdef struct latm_t:
    int in_band                 # each element may bring a StreamMuxConfig (cpresent=1)
    int known                   # `mux` is valid
    mux_t mux
    unsigned char* whole        # an element in the making, and behind it room for an access unit that begins within a byte
    uint32_t have
    uint32_t ts
    int broken                  # what comes at `ts` is of no use
    int fragmented              # there have been elements in several packets
    int lost                    # a packet is missing before the next

cdef int latm_init(latm_t* l, const unsigned char* config, size_t n) noexcept nogil
cdef void latm_free(latm_t* l) noexcept nogil
cdef void latm_lost(latm_t* l, aubuild_t* b) noexcept nogil
cdef void latm_payload(latm_t* l, aubuild_t* b, const unsigned char* p, size_t n, int marker) noexcept nogil
