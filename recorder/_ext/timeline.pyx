"""RTP timestamps of access units, in decode order, -> pts (int64, continuous within a session) -> UTC.

A timestamp is believed unless it runs more than 10 s ahead of what has arrived, or goes back over more pictures than can be reordered
(DVRs stamp single frames hours off: mediamtx#6255). One or two that are off are replaced by the neighbours' step; the third in a row starts a new timeline, whose pts
go on by arrival. pts are never cut or stretched to follow clocks: drift is the line's affair.
"""
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memset
from recorder._ext.reorder cimport reorder_add, reorder_ahead, reorder_t

cdef extern from *:
    """
    /* value * mul / div without overflow in between, rounded down */
    static inline int64_t wr_muldiv(int64_t value, int64_t mul, int64_t div) {
        __int128 v = (__int128)value * mul;
        __int128 q = v / div;
        return (int64_t)(v % div < 0 ? q - 1 : q);
    }
    """
    int64_t wr_muldiv(int64_t value, int64_t mul, int64_t div) noexcept nogil

cdef enum:
    NS = 1000000000
    AHEAD_S = 10
    OUTLIERS_MAX = 3

cdef int64_t HALF_TURN = 1 << 31


cdef void timeline_init(timeline_t* t, int64_t clock, int64_t step, int reorder_limit) noexcept nogil:
    memset(t, 0, sizeof(timeline_t))
    t.clock = clock
    t.step = step if step > 0 else 1
    t.reorder_limit = reorder_limit


cdef int64_t believe(timeline_t* t, uint32_t ts, int64_t pts, int64_t recv_ns) noexcept nogil:
    """The timestamp is good: it is what the next one is measured from."""
    cdef int64_t step = pts - t.max_pts
    if t.have and not t.outliers and 0 < step < t.clock:
        t.step = step
    t.base_ts = t.last_ts = ts
    t.base_pts = t.last_pts = pts
    t.base_recv = recv_ns
    t.max_pts = pts if not t.have or pts > t.max_pts else t.max_pts
    t.have = 1
    t.outliers = t.force_new = t.restarted = 0
    return pts


cdef int is_outlier(timeline_t* t, const reorder_t* r, int64_t pts, int64_t elapsed) noexcept nogil:
    cdef int limit = t.reorder_limit if not t.reorder_limit or r.depth < t.reorder_limit else r.depth
    if t.force_new:
        return 1
    if t.restarted and (pts < t.base_pts - t.clock or pts > t.base_pts + elapsed + t.clock):
        return 1
    if pts > t.base_pts + elapsed + AHEAD_S * t.clock:
        return 1
    return pts < t.base_pts and (reorder_ahead(r, pts) > limit or pts < t.max_pts - AHEAD_S * t.clock)


cdef int64_t timeline_pts(timeline_t* t, reorder_t* r, uint32_t ts, int64_t recv_ns, int* fresh) noexcept nogil:
    """The pts of the next access unit in decode order, added to `r`; `fresh` is set to 1 when a new timeline starts with it."""
    cdef int64_t pts, elapsed
    fresh[0] = 0
    if not t.have:
        pts = believe(t, ts, ts, recv_ns)
        reorder_add(r, pts)
        return pts
    if ts == t.last_ts and not t.force_new:   # a second AU with the same timestamp
        t.last_pts += 1
        t.max_pts = t.last_pts if t.last_pts > t.max_pts else t.max_pts
        reorder_add(r, t.last_pts)
        return t.last_pts
    elapsed = wr_muldiv(recv_ns - t.base_recv, t.clock, NS)
    pts = t.base_pts + <int32_t>(ts - t.base_ts)
    if elapsed > HALF_TURN:     # after hours of silence: the turn that is nearest to what has passed
        pts += (elapsed - (pts - t.base_pts) + HALF_TURN) >> 32 << 32
    if not is_outlier(t, r, pts, elapsed):
        pts = believe(t, ts, pts, recv_ns)
        reorder_add(r, pts)
        return pts
    t.outliers += 1
    if t.outliers < OUTLIERS_MAX and not t.force_new and not t.restarted:
        t.restamped += 1
        t.last_ts = ts
        t.last_pts = t.max_pts = t.max_pts + t.step   # not added to `r`: a guess must not prove a reorder depth
        return t.last_pts
    pts = t.base_pts + elapsed
    pts = pts if pts > t.max_pts + t.step else t.max_pts + t.step
    t.discontinuities += 1
    fresh[0] = 1
    pts = believe(t, ts, pts, recv_ns)
    reorder_add(r, pts)
    return pts


cdef int64_t timeline_line(const timeline_t* t, int64_t pts) noexcept nogil:
    cdef int64_t ns = wr_muldiv(pts - t.line_pts, NS, t.clock)
    return t.line_wall + ns + wr_muldiv(ns, t.line_ppb, NS)


cdef int64_t timeline_wall(timeline_t* t, int64_t pts, int64_t arrival_wall_ns) noexcept nogil:
    """UTC of `pts`. The line starts at the first access unit's arrival; how late this one is counts for take_lag."""
    cdef int64_t wall
    if not t.have_line:
        t.have_line = 1
        t.line_pts = pts
        t.line_wall = arrival_wall_ns
    wall = timeline_line(t, pts)
    if not t.have_lag or arrival_wall_ns - wall < t.lag:
        t.lag = arrival_wall_ns - wall
        t.have_lag = 1
    return wall if wall > t.floor_wall else t.floor_wall
