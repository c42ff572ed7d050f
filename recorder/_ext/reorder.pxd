"""Decode times from presentation times: the pictures' order tells them, arrival does not."""
from libc.stdint cimport int64_t

cdef enum:
    REORDER_MAX = 16            # max_num_reorder_frames of H.264 and H.265 at most

cdef struct reorder_t:
    int64_t top[17]             # the largest pts so far, falling
    int64_t last_dts
    int64_t step                # ticks between the dts of the first pictures, while there are not enough to tell
    int count                   # of top
    int depth
    int started                 # last_dts is valid

cdef void reorder_init(reorder_t* r, int depth, int64_t step) noexcept nogil
cdef int reorder_ahead(const reorder_t* r, int64_t pts) noexcept nogil
cdef void reorder_add(reorder_t* r, int64_t pts) noexcept nogil
cdef int64_t reorder_dts(reorder_t* r, int64_t pts) noexcept nogil
