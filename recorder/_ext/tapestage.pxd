"""Which access units a pass takes from a track's queue, and why it stops (see tapestage.pyx)."""
from libc.stdint cimport uint64_t

from recorder._ext.taperow cimport track_t

cdef enum:                      # why it stops
    DONE = 0
    MORE = 1                    # the stage is full
    HELD = 2                    # the journal is behind
    NEED_SESSION = 3
    NEED_FORMAT = 4
    NEED_GAP_CLOSE = 5
    NEED_GAP = 6
    NEED_CHUNK = 7
    NEED_ROOM = 8
    NEED_COMMAND = 9
    NEED_PUBLISH = 10

cdef uint64_t page_limit(track_t* t, uint64_t now_mono_ns) noexcept nogil
cdef int stage(track_t* t, uint64_t below) noexcept nogil
