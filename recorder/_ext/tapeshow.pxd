"""What readers and the rings see of a track's tape (see tapeshow.pyx)."""
from libc.stdint cimport uint64_t

from recorder._ext.auqueue cimport wr_store
from recorder._ext.taperow cimport track_t

cdef extern from * nogil:
    """
    #define wr_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define wr_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    """
    void wr_fence()
    void wr_relaxed(uint64_t* p, uint64_t v)


cdef inline void lock_live(track_t* t) noexcept nogil:
    wr_relaxed(&t.live.seq, t.live.seq + 1)
    wr_fence()


cdef inline void unlock_live(track_t* t) noexcept nogil:
    wr_store(&t.live.seq, t.live.seq + 1)

cdef void show_open(track_t* t) noexcept nogil
cdef int write_rings(track_t* t) noexcept nogil
cdef int flush_rings(track_t* t) noexcept nogil
cdef int flush(track_t* t) noexcept nogil
cdef int tell(track_t* t) noexcept nogil
cdef int pass_track(track_t* t) noexcept nogil
