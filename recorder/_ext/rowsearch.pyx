"""Rows: checking, searching in a mapped ring, tallies over long ranges; and the seqlock copy of a live block.

Python twins: tests/storage_read/twins.py. A row's CRC-32C is taken over its number (8 bytes, little-endian) and its first 60 bytes, so
that a row of an older lap never validates. Safety: every ring index is `number % capacity` with the capacity clamped to the buffer,
every index into an output array is compared with its length first.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from recorder._ext.crc32c cimport wr_crc32c, wr_crc_setup

cdef extern from * nogil:
    """
    #include <sched.h>
    static inline int wr_seq_copy(const unsigned char *from, unsigned char *to, size_t n, int tries) {
        for (; tries > 0; tries--) {
            uint64_t seq = __atomic_load_n((const uint64_t *)from, __ATOMIC_ACQUIRE);
            if (!(seq & 1)) {
                memcpy(to, from, n);
                __atomic_thread_fence(__ATOMIC_ACQUIRE);
                if (__atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED) == seq) { memcpy(to, &seq, 8); return 1; }
            }
            if ((tries & 63) == 0) sched_yield();
        }
        return 0;
    }
    """
    int wr_seq_copy(const unsigned char* src, unsigned char* to, size_t n, int tries)

cdef packed struct row_t:
    int64_t t_ns
    int64_t media_pts
    uint64_t offset
    uint32_t nbytes
    uint32_t wall_dur_us
    uint32_t media_dur
    uint16_t aus
    uint16_t flags
    uint16_t sample_entry
    uint16_t reserved
    uint32_t session
    uint64_t frames_off
    uint32_t data_crc
    uint32_t crc

assert sizeof(row_t) == 64
wr_crc_setup()


cdef inline int valid(const row_t* row, uint64_t number) noexcept nogil:
    return wr_crc32c(wr_crc32c(0, &number, 8), row, 60) == row.crc


def row_crc(const uint8_t[::1] row not None, uint64_t number):
    """The CRC that row `number` must bear; `row` holds at least its first 60 bytes."""
    if row.shape[0] < 60:
        raise ValueError("a row has 64 bytes")
    return wr_crc32c(wr_crc32c(0, &number, 8), &row[0], 60)


def first_bad(const uint8_t[::1] rows not None, uint64_t first):
    """Index of the first record of `rows` that is not the valid row first + index; their count if all are."""
    cdef uint64_t n = rows.shape[0] // 64, i
    cdef const row_t* r = <const row_t*>&rows[0] if n else NULL
    with nogil:
        for i in range(n):
            if not valid(&r[i], first + i):
                break
        else:
            i = n
    return i


def copy_rows(const uint8_t[::1] ring not None, uint64_t capacity, uint64_t first, uint8_t[::1] out not None):
    """Copy the rows from number `first` on out of a ring's data into `out` (64 bytes each); returns how many are valid from the first."""
    cdef uint64_t n = out.shape[0] // 64, at, i
    cdef uint64_t room = ring.shape[0] // 64
    if capacity == 0 or capacity > room or n == 0 or n > capacity:
        return 0
    at = first % capacity
    with nogil:
        i = n if n < capacity - at else capacity - at
        memcpy(&out[0], &ring[at * 64], i * 64)
        if i < n:
            memcpy(&out[i * 64], &ring[0], (n - i) * 64)
    return first_bad(out[:n * 64], first)


cdef int64_t near(const row_t* ring, uint64_t capacity, uint64_t at, uint64_t lo, uint64_t hi) noexcept nogil:
    """Number of the valid row nearest to `at` in [lo, hi), upwards first; -1 if there is none."""
    cdef uint64_t i = at
    while i < hi:
        if valid(&ring[i % capacity], i):
            return i
        i += 1
    i = at
    while i > lo:
        i -= 1
        if valid(&ring[i % capacity], i):
            return i
    return -1


def find_row(const uint8_t[::1] ring not None, uint64_t capacity, uint64_t low, uint64_t high, int64_t t_ns):
    """Number of the newest row of [low, high) that starts at or before `t_ns`; low - 1 if all start later (or none is valid).

    Interpolation, with a halving step after every two of them, so that any distribution takes O(log n); only rows whose CRC holds
    are believed, others are stepped over.
    """
    cdef uint64_t room = ring.shape[0] // 64
    if capacity == 0 or capacity > room or high <= low:
        return <int64_t>low - 1
    cdef const row_t* rows = <const row_t*>&ring[0]
    cdef int64_t answer
    with nogil:
        answer = search(rows, capacity, low, high, t_ns)
    return answer


cdef int64_t search(const row_t* rows, uint64_t capacity, uint64_t low, uint64_t high, int64_t t_ns) noexcept nogil:
    cdef int64_t lo, hi, mid, at, t_lo, t_hi, t
    cdef int step = 0
    cdef double share
    lo = near(rows, capacity, low, low, high)
    if lo < 0:
        return <int64_t>low - 1
    t_lo = rows[lo % <int64_t>capacity].t_ns
    if t_lo > t_ns:
        return <int64_t>low - 1
    hi = near(rows, capacity, high - 1, lo, high)
    t_hi = rows[hi % <int64_t>capacity].t_ns
    if t_hi <= t_ns:
        return hi
    while hi - lo > 1:                      # rows[lo] <= t_ns < rows[hi]
        step += 1
        if step % 3 == 0 or t_hi <= t_lo:
            mid = lo + (hi - lo) // 2
        else:
            share = <double>(t_ns - t_lo) / <double>(t_hi - t_lo)
            mid = lo + <int64_t>(share * <double>(hi - lo))
            mid = lo + 1 if mid <= lo else (hi - 1 if mid >= hi else mid)
        at = near(rows, capacity, mid, lo + 1, hi)
        if at < 0:
            break
        t = rows[at % <int64_t>capacity].t_ns
        if t <= t_ns:
            lo = at
            t_lo = t
        else:
            hi = at
            t_hi = t
    return lo


def tally(const uint8_t[::1] rows not None, uint64_t first, int64_t[::1] carry not None, int64_t start_ns, int64_t end_ns,
          int64_t step_ns, int64_t tolerance_ns, int64_t[::1] covered not None, int64_t[::1] damaged not None,
          int64_t[::1] nbytes not None, int64_t[::1] holes not None, int64_t[::1] hurt not None):
    """Add checked rows to the figures of [start_ns, end_ns) in steps of `step_ns`.

    `carry` (4 elements) leads from one call to the next: [0] end of the footage so far (start with start_ns), [1], [2] filled pairs of
    `holes` and `hurt`, [3] the flag that the row before was damaged. `covered`, `damaged`: ns per step; `nbytes`: bytes of rows that
    start in the step. `holes` takes [from, to) pairs without footage longer than `tolerance_ns`, `hurt` pairs of damaged ranges; each
    needs room for a pair per row. Returns the index of the first bad row (nothing of it is counted), or the number of rows.
    """
    cdef uint64_t n = rows.shape[0] // 64, i = 0
    cdef const row_t* r = <const row_t*>&rows[0] if n else NULL
    cdef int64_t a, b, bin_, stop, bins = covered.shape[0]
    if carry.shape[0] < 4 or step_ns <= 0 or damaged.shape[0] != bins or nbytes.shape[0] != bins:
        raise ValueError("carry has 4 elements, the figures the same length, the step is positive")
    with nogil:
        while i < n:
            if not valid(&r[i], first + i):
                break
            a = r[i].t_ns if r[i].t_ns > start_ns else start_ns
            b = r[i].t_ns + <int64_t>r[i].wall_dur_us * 1000
            b = b if b < end_ns else end_ns
            if a >= end_ns or b < a:
                i += 1
                continue
            if a - carry[0] > tolerance_ns and carry[1] * 2 + 1 < holes.shape[0]:
                holes[carry[1] * 2] = carry[0]
                holes[carry[1] * 2 + 1] = a
                carry[1] += 1
                carry[3] = 0
            else:
                a = carry[0]                # a hole below the tolerance is rounding: it counts as footage; no instant counts twice
            if r[i].flags & 4:
                if carry[3] and carry[2] > 0 and carry[2] * 2 <= hurt.shape[0]:
                    hurt[carry[2] * 2 - 1] = b
                elif carry[2] * 2 + 1 < hurt.shape[0]:
                    hurt[carry[2] * 2] = a
                    hurt[carry[2] * 2 + 1] = b
                    carry[2] += 1
            carry[3] = 1 if r[i].flags & 4 else 0
            carry[0] = b if b > carry[0] else carry[0]
            bin_ = (a - start_ns) // step_ns
            if bin_ < bins:
                nbytes[bin_] += r[i].nbytes
            while a < b and bin_ < bins:
                stop = start_ns + (bin_ + 1) * step_ns
                stop = stop if stop < b else b
                covered[bin_] += stop - a
                if r[i].flags & 4:
                    damaged[bin_] += stop - a
                a = stop
                bin_ += 1
            i += 1
    return i


def copy_block(const uint8_t[::1] live not None, uint64_t at, uint8_t[::1] out not None, int tries):
    """Copy a block that begins with a sequence number (odd while it is written) out of a mapped live file; False if it never held still.

    `at` is a multiple of 8. The page holding the block must be mapped for as long as the call lasts.
    """
    cdef uint64_t n = out.shape[0]
    cdef int held
    if n < 8 or at % 8 or at + n > <uint64_t>live.shape[0]:
        raise ValueError("the block does not lie in the live file")
    with nogil:
        held = wr_seq_copy(&live[at], &out[0], n, tries)
    return bool(held)
