"""One track's tape on the writer's thread (see tapewriter.pyx)."""
from recorder._ext.auqueue cimport AuQueue
from recorder._ext.taperow cimport track_t

cdef class TapeCore:
    cdef track_t t
    cdef AuQueue queue
    cdef object live_buffer
    cdef object lease_buffer
    cdef public object owner
    cdef int end_row(self) noexcept
