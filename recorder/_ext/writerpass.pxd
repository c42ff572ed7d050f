"""The pass over all tracks of a slot (see writerpass.pyx)."""
from libc.stdint cimport uint32_t, uint64_t

from recorder._ext.taperow cimport track_t
from recorder._ext.tapepages cimport wr_direct

cdef class WriterPass:
    cdef list cores
    cdef track_t** tracks
    cdef uint32_t* wanted
    cdef int* codes
    cdef uint32_t count
    cdef uint32_t room
    cdef uint32_t needing       # tracks of the pass under way that need something
    cdef uint32_t seen          # tracks that somebody watches
    cdef wr_direct* batch       # NULL: not to be had, or not yet tried
    cdef bint batch_tried
    cdef uint32_t batched[64]   # whose the batch's writes are
    cdef int batched_codes[64]
    cdef uint64_t batched_fill[64]
    cdef uint64_t wrote_marks
    cdef int set_out(self, uint32_t i, int code, uint64_t fill) noexcept nogil
    cdef void let_out(self) noexcept nogil
    cdef void need(self, uint32_t i, int code) noexcept nogil
