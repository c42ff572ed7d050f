"""The reorder window of a stream over UDP: what came before its turn waits here; nothing is copied or allocated while packets come in order.

Slots go by the sequence number's low bits, so everything held must lie within WINDOW_PACKETS of the next packet expected: rtp.pyx sees to that.
"""
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset


cdef void window_free(window_t* w) noexcept nogil:
    cdef int i
    if w.slots is not NULL:
        for i in range(WINDOW_PACKETS):
            free(w.slots[i].data)
        free(w.slots)
    memset(w, 0, sizeof(window_t))


cdef int window_hold(window_t* w, uint16_t seq, const unsigned char* p, size_t n, int64_t mono_ns) noexcept nogil:
    """Keep a copy of a packet that is 2 to WINDOW_PACKETS behind the newest one used; WINDOW_FULL also for want of memory."""
    cdef held_t* h
    if w.slots is NULL:
        w.slots = <held_t*>calloc(WINDOW_PACKETS, sizeof(held_t))
        if w.slots is NULL:
            return WINDOW_FULL
    h = &w.slots[seq % WINDOW_PACKETS]
    if h.data is not NULL:
        return WINDOW_SEEN
    if w.held_bytes + n > WINDOW_BYTES:
        return WINDOW_FULL
    h.data = <unsigned char*>malloc(n)
    if h.data is NULL:
        return WINDOW_FULL
    memcpy(h.data, p, n)
    h.nbytes, h.seq, h.mono_ns = <uint32_t>n, seq, mono_ns
    if w.held == 0:
        w.since_ns = mono_ns
    w.held += 1
    w.held_bytes += n
    return WINDOW_HELD


cdef held_t* window_at(const window_t* w, uint16_t seq) noexcept nogil:
    """The packet with this number, NULL if it is not held. Call only with something held."""
    cdef held_t* h = &w.slots[seq % WINDOW_PACKETS]
    return h if h.data is not NULL and h.seq == seq else NULL


cdef int window_ahead(const window_t* w, uint16_t seq) noexcept nogil:
    """How many numbers after `seq` the first packet held comes; 0 if nothing is held."""
    cdef int i
    if w.held:
        for i in range(1, WINDOW_PACKETS + 1):
            if window_at(w, <uint16_t>(seq + i)) is not NULL:
                return i
    return 0


cdef void window_drop(window_t* w, held_t* h) noexcept nogil:
    """The packet has been used."""
    free(h.data)
    h.data = NULL
    w.held -= 1
    w.held_bytes -= h.nbytes


cdef int window_overdue(window_t* w, int64_t mono_ns, int64_t patience_ns) noexcept nogil:
    """1 if something has been held for patience_ns: what is missing before it was known to be missing all that time."""
    cdef int i
    if w.held == 0 or mono_ns - w.since_ns < patience_ns:
        return 0
    w.since_ns = mono_ns
    for i in range(WINDOW_PACKETS):      # since_ns was a lower bound only: what came at that time may have been used
        if w.slots[i].data is not NULL and w.slots[i].mono_ns < w.since_ns:
            w.since_ns = w.slots[i].mono_ns
    return mono_ns - w.since_ns >= patience_ns
