"""The staged bytes of a track into its chunk file, in whole pages (see tapepages.pyx)."""
from libc.stdint cimport uint32_t, uint64_t

from recorder._ext.taperow cimport track_t

cdef extern from "directwrite.h" nogil:
    ctypedef struct wr_direct:
        uint32_t count
        long long result[64]
        size_t size[64]

cdef int write_run(track_t* t) noexcept nogil
cdef void land(track_t* t, uint64_t ahead) noexcept nogil
cdef int may_go_direct(track_t* t) noexcept nogil
cdef int take_direct(track_t* t, wr_direct* d, uint32_t k, uint64_t fill) noexcept nogil
