"""Decode times (DTS) by reorder depth.

With depth D the picture that is decoded n-th gets the (n - D)-th smallest pts as its dts, which is the (D + 1)-th largest pts seen so far: what
would leave a reorder buffer D pictures deep. Pictures whose pts is below that of more than D pictures decoded earlier prove D too small:
it grows, and the pictures until things have settled get the smallest dts that still rises (then pts - dts may be negative).
"""
from libc.stdint cimport int64_t
from libc.string cimport memset


cdef void reorder_init(reorder_t* r, int depth, int64_t step) noexcept nogil:
    memset(r, 0, sizeof(reorder_t))
    r.depth = depth if depth < REORDER_MAX else REORDER_MAX
    r.step = step if step > 0 else 1


cdef int reorder_ahead(const reorder_t* r, int64_t pts) noexcept nogil:
    """How many pictures decoded so far are to be shown after `pts`; more than REORDER_MAX are not told apart."""
    cdef int n = 0
    while n < r.count and r.top[n] > pts:
        n += 1
    return n


cdef void reorder_add(reorder_t* r, int64_t pts) noexcept nogil:
    """The next picture in decode order; the depth grows if it must."""
    cdef int at = reorder_ahead(r, pts)
    cdef int i
    if at > r.depth:
        r.depth = at if at < REORDER_MAX else REORDER_MAX
    if at > REORDER_MAX:
        return
    if r.count <= REORDER_MAX:
        r.count += 1
    i = r.count - 1
    while i > at:
        r.top[i] = r.top[i - 1]
        i -= 1
    r.top[at] = pts


cdef int64_t reorder_dts(reorder_t* r, int64_t pts) noexcept nogil:
    """The dts of the picture just added: strictly above the last one asked for."""
    cdef int64_t dts = pts
    if r.depth and r.count > r.depth:
        dts = r.top[r.depth]
    elif r.depth and r.count:
        dts = r.top[r.count - 1] - (r.depth + 1 - r.count) * r.step
    if r.started and dts <= r.last_dts:
        dts = r.last_dts + 1
    r.last_dts = dts
    r.started = 1
    return dts


def decode_times(pts, int depth=0, int64_t step=1):
    """The dts of each pts in decode order, and the depth at the end; for tests."""
    cdef reorder_t r
    cdef int64_t p
    cdef list out = []
    reorder_init(&r, depth, step)
    for p in pts:
        reorder_add(&r, p)
        out.append(reorder_dts(&r, p))
    return out, r.depth
