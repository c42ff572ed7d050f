"""The staged bytes of a track into its chunk file, in whole pages: through the page cache, or past it in a batch (directwrite.h)."""
from libc.errno cimport EAGAIN, EINVAL, ENOMEM, EOPNOTSUPP
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from recorder._ext.taperow cimport PAGE, track_t
from recorder._ext.writeall cimport wr_write_all

cdef enum:
    DIRECT_LEAST = 16 << 10     # bytes of a run from which a track goes past the page cache


cdef int write_run(track_t* t) noexcept nogil:
    """Write the staged bytes as whole pages from the tail page on; 0 or errno."""
    cdef uint64_t prefix = t.used & (PAGE - 1), total = prefix + t.run_bytes, rest = total & (PAGE - 1)
    cdef int failed
    if t.run_bytes == 0:
        return 0
    failed = wr_write_all(t.fd, t.tail, prefix, t.run, t.run_bytes, (PAGE - rest) & (PAGE - 1), <int64_t>(PAGE + t.used - prefix))
    if failed:
        return failed
    t.wrote_tape += (total + PAGE - 1) & ~<uint64_t>(PAGE - 1)
    land(t, 0)
    t.direct = 0
    return 0


cdef void land(track_t* t, uint64_t ahead) noexcept nogil:
    """The staged run is written, and so many bytes behind it that are not taken yet."""
    cdef uint64_t prefix = t.used & (PAGE - 1), total = prefix + t.run_bytes, rest = total & (PAGE - 1)
    if total < PAGE:
        memcpy(t.tail + prefix, t.run, t.run_bytes)
    else:
        memcpy(t.tail, t.run + t.run_bytes - rest, rest)
    t.ahead, t.ahead_pos = ahead, t.run_pos + t.run_bytes
    t.used += t.run_bytes
    t.run_bytes = 0
    t.direct = 1


cdef int may_go_direct(track_t* t) noexcept nogil:
    """Whether the staged run is worth writing past the page cache, and lies so that it can be. What somebody watches stays in the cache."""
    if t.direct_fd < 0 or t.q.watched or t.run_bytes == 0:
        return 0
    if t.run_bytes < DIRECT_LEAST and not t.direct:
        return 0
    return ((<uint64_t>(t.run - t.q.base)) ^ t.used) & (PAGE - 1) == 0


cdef int take_direct(track_t* t, wr_direct* d, uint32_t k, uint64_t fill) noexcept nogil:
    """Write `k` of the batch has ended: the run and `fill` bytes more are on the disk, or the run is written through the page cache; 0 or
    errno."""
    cdef int64_t done = d.result[k]
    if done != <int64_t>d.size[k]:
        if done == -EINVAL or done == -EOPNOTSUPP:
            t.direct_fd = -1            # this file system cannot
        elif done < 0 and done != -EAGAIN and done != -ENOMEM:      # those two: the kernel has no room for the request just now
            return <int>-done
        return write_run(t)
    t.wrote_tape += d.size[k]
    land(t, fill)
    return 0
