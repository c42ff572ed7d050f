"""The parameter sets of one stream and the formats they have made up so far."""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

cdef enum:
    SETS_MAX = 64               # sets known at a time
    SET_MAX_BYTES = 4096        # a larger one is recorded in band but never becomes part of a format
    FORMATS_MAX = 255           # of a session
    FORMAT_MAX_BYTES = 8192     # of all sets of one format; real ones have hundreds

cdef struct set_t:
    unsigned char* data
    uint32_t nbytes
    uint16_t id
    uint16_t parent
    uint8_t kind
    uint8_t hint                # from the SDP, not yet confirmed in band

cdef struct format_t:
    unsigned char* data         # u32 length (native) and bytes of each set
    uint32_t nbytes

cdef struct sets_t:
    set_t* sets
    format_t* formats
    int count
    int format_count
    int h265
    int dirty                   # a set has changed since `number` was found
    int32_t pps                 # the PPS id that `number` was found for
    int number

cdef void sets_init(sets_t* s, int h265) noexcept nogil
cdef void sets_free(sets_t* s) noexcept nogil
cdef int sets_put(sets_t* s, const unsigned char* p, size_t n, int hint) noexcept nogil
cdef int sets_format(sets_t* s, int32_t pps) noexcept nogil
cdef int sets_single(sets_t* s, const unsigned char* p, uint32_t n) noexcept nogil
