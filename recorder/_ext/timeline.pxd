"""RTP timestamps -> pts -> UTC."""
from libc.stdint cimport int64_t, uint32_t
from recorder._ext.reorder cimport reorder_t

cdef struct timeline_t:
    int64_t clock               # ticks a second
    int64_t base_pts            # pts of base_ts: the last timestamp that was believed
    int64_t base_recv           # its arrival
    int64_t last_pts            # newest pts given out, in decode order
    int64_t max_pts             # largest pts given out
    int64_t step                # ticks between pictures, as last seen
    uint32_t base_ts
    uint32_t last_ts
    int have                    # base_* are valid
    int outliers                # in a row
    int reorder_limit           # pictures that may legally be overtaken; 0 for audio
    int force_new               # another sender: the next timestamp starts a new timeline
    int restarted               # a new sequence: a timestamp that does not fit starts a new timeline at once
    uint32_t restamped
    uint32_t discontinuities
    # the line pts -> UTC
    int64_t line_pts
    int64_t line_wall
    int64_t line_ppb
    int64_t floor_wall
    int64_t lag                 # least (arrival - line) since it was taken
    int have_line
    int have_lag

cdef void timeline_init(timeline_t* t, int64_t clock, int64_t step, int reorder_limit) noexcept nogil
cdef int64_t timeline_pts(timeline_t* t, reorder_t* r, uint32_t ts, int64_t recv_ns, int* fresh) noexcept nogil
cdef int64_t timeline_line(const timeline_t* t, int64_t pts) noexcept nogil
cdef int64_t timeline_wall(timeline_t* t, int64_t pts, int64_t arrival_wall_ns) noexcept nogil
