"""Packets that came before their turn, until those before them have come or are given up."""
from libc.stdint cimport int64_t, uint16_t, uint32_t

cdef enum:
    WINDOW_PACKETS = 512        # at 50 Mbit/s about 100 ms
    WINDOW_BYTES = 4194304
    WINDOW_NS = 100000000       # a packet that is missing for longer is lost, unless the stream says otherwise

cdef struct held_t:
    unsigned char* data         # NULL: nothing is held here
    uint32_t nbytes
    uint16_t seq
    int64_t mono_ns             # arrival

cdef struct window_t:
    held_t* slots               # WINDOW_PACKETS of them, by sequence number; NULL until a packet is out of order
    int held
    size_t held_bytes
    int64_t since_ns            # nothing that is held arrived earlier

cdef enum:
    WINDOW_HELD = 0
    WINDOW_SEEN = 1             # it is held already
    WINDOW_FULL = 2

cdef void window_free(window_t* w) noexcept nogil
cdef int window_hold(window_t* w, uint16_t seq, const unsigned char* p, size_t n, int64_t mono_ns) noexcept nogil
cdef int window_ahead(const window_t* w, uint16_t seq) noexcept nogil
cdef held_t* window_at(const window_t* w, uint16_t seq) noexcept nogil
cdef void window_drop(window_t* w, held_t* h) noexcept nogil
cdef int window_overdue(window_t* w, int64_t mono_ns, int64_t patience_ns) noexcept nogil
