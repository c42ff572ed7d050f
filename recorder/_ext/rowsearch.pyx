"""Rows: checking, searching in a mapped ring, tallies over long ranges; and the seqlock copy of a live block.

Python twins: tests/storage_read/twins.py. A row's CRC-32C is taken over its number (8 bytes, little-endian) and its first 60 bytes, so
that a row of an older lap never validates. Safety: every ring index is `number % capacity` with the capacity clamped to the buffer,
every index into an output array is compared with its length first.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from recorder._ext.crc32c cimport wr_crc32c, wr_crc_setup
from recorder._ext.row cimport row_t

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

cdef extern from "rowcheck.h" nogil:
    int wr_row_good(const unsigned char* row, uint64_t number)
    size_t wr_rows_good(const unsigned char* rows, size_t n, uint64_t first)

cdef extern from "busguard.h" nogil:
    ctypedef void (*wr_body)(void*) noexcept nogil
    int wr_bus_setup()
    int wr_guarded(wr_body body, void* argument)

cdef enum:
    PAGE_ROWS = 64
    GUESSES = 3                 # pages that are guessed before both ends are read
    FAR = 4096                  # rows between marks that tell a slope

cdef struct copying_t:
    const uint8_t* ring
    uint8_t* out
    uint64_t capacity
    uint64_t at
    uint64_t n

cdef struct searching_t:
    const row_t* rows
    uint64_t capacity
    uint64_t low
    uint64_t high
    int64_t t_ns
    int64_t* known
    int64_t answer

assert sizeof(row_t) == 64
wr_crc_setup()
cdef bint guarding = False


cdef inline int guard() except -1:
    """See to it that SIGBUS is caught: at the first use, so that nobody who sets a handler at the start comes after us."""
    global guarding
    if not guarding:
        if wr_bus_setup():
            raise OSError("SIGBUS cannot be caught")
        guarding = True
    return 0


cdef inline int valid(const row_t* row, uint64_t number) noexcept nogil:
    return wr_row_good(<const unsigned char*>row, number)


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
        i = wr_rows_good(<const unsigned char*>r, n, first) if n else 0
    return i


def copy_rows(const uint8_t[::1] ring not None, uint64_t capacity, uint64_t first, uint8_t[::1] out not None):
    """Copy the rows from number `first` on out of a ring's data into `out` (64 bytes each); returns how many are valid from the first.

    Raises OSError if the disk under a mapped ring cannot be read.
    """
    cdef uint64_t n = out.shape[0] // 64
    cdef uint64_t room = ring.shape[0] // 64
    cdef copying_t order
    cdef int failed
    if capacity == 0 or capacity > room or n == 0 or n > capacity:
        return 0
    order.ring, order.out, order.capacity, order.at, order.n = &ring[0], &out[0], capacity, first % capacity, n
    guard()
    with nogil:
        failed = wr_guarded(copying, &order)
    if failed:
        raise OSError(failed, "a page of the ring cannot be read")
    return first_bad(out[:n * 64], first)


cdef void copying(void* argument) noexcept nogil:
    cdef copying_t* order = <copying_t*>argument
    cdef uint64_t i = order.n if order.n < order.capacity - order.at else order.capacity - order.at
    memcpy(order.out, order.ring + order.at * 64, i * 64)
    if i < order.n:
        memcpy(order.out + i * 64, order.ring, (order.n - i) * 64)


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


def find_row(const uint8_t[::1] ring not None, uint64_t capacity, uint64_t low, uint64_t high, int64_t t_ns, int64_t[::1] marks=None):
    """Number of the newest row of [low, high) that starts at or before `t_ns`; low - 1 if all start later (or none is valid).

    Interpolation to a page of rows, which is then looked at whole, with a halving step after every two, so that any distribution takes
    O(log n); only rows whose CRC holds are believed, others are stepped over. `marks` (4 elements): numbers and times of two rows far apart,
    [n, t, n, t]. The first page lies on the line through them; where that was wrong, by an outage, the next ones on the line through the rows
    of that page; only then are both ends read. They are set when that had to be, and the second is moved to the row found after a wrong guess;
    no answer depends on them. Raises OSError if the disk under a mapped ring cannot be read.
    """
    cdef uint64_t room = ring.shape[0] // 64
    cdef int64_t* known = NULL
    if marks is not None:
        if marks.shape[0] < 4:
            raise ValueError("marks has 4 elements")
        known = &marks[0]
    if capacity == 0 or capacity > room or high <= low:
        return <int64_t>low - 1
    cdef searching_t order
    cdef int failed
    order.rows, order.capacity, order.low, order.high, order.t_ns, order.known = <const row_t*>&ring[0], capacity, low, high, t_ns, known
    guard()
    with nogil:
        failed = wr_guarded(searching, &order)
    if failed:
        raise OSError(failed, "a page of the ring cannot be read")
    return order.answer


cdef void searching(void* argument) noexcept nogil:
    cdef searching_t* order = <searching_t*>argument
    cdef int64_t* known = order.known
    cdef int64_t answer
    cdef int pages = 0
    answer = order.answer = search(order.rows, order.capacity, order.low, order.high, order.t_ns, known, &pages)
    if known != NULL and pages > 1 and answer >= <int64_t>order.low and answer - known[0] > FAR and known[0] < known[2]:
        known[2], known[3] = answer, order.rows[answer % <int64_t>order.capacity].t_ns


cdef inline int64_t between(int64_t n_lo, int64_t t_lo, int64_t n_hi, int64_t t_hi, int64_t t, int64_t least, int64_t most) noexcept nogil:
    """The number at time `t` on the line through two rows, kept in [least, most]."""
    cdef double at
    at = <double>n_lo + (<double>t - <double>t_lo) / (<double>t_hi - <double>t_lo) * (<double>n_hi - <double>n_lo)
    return least if at <= <double>least else (most if at >= <double>most else <int64_t>at)


cdef int64_t search(const row_t* rows, uint64_t capacity, uint64_t low, uint64_t high, int64_t t_ns, int64_t* marks,
                    int* pages) noexcept nogil:
    cdef int64_t lo = <int64_t>low - 1, hi = <int64_t>high      # the answer is in [lo, hi)
    cdef int64_t t_lo = 0, t_hi = 0, mid, first, last, end, t_end
    cdef int64_t x = 0, y = 0, t_x = 0, t_y = 0                 # first and last row of the page at hand
    cdef bint has_lo = False, has_hi = False                    # lo, hi are rows whose times are t_lo, t_hi
    cdef bint guess = marks != NULL and marks[0] < marks[2] and marks[1] < marks[3]
    while hi - lo > 1:
        if pages[0] == 0 and guess:
            mid = between(marks[0], marks[1], marks[2], marks[3], t_ns, lo + 1, hi - 1)
        elif 0 < pages[0] < GUESSES and t_x < t_y:
            mid = between(x, t_x, y, t_y, t_ns, lo + 1, hi - 1)
        elif not has_lo:
            end = near(rows, capacity, lo + 1, lo + 1, hi)
            if end < 0 or rows[end % <int64_t>capacity].t_ns > t_ns:
                return lo
            lo, t_lo, has_lo = end, rows[end % <int64_t>capacity].t_ns, True
            continue
        elif not has_hi:
            end = near(rows, capacity, hi - 1, lo + 1, hi)
            if end < 0:
                return lo
            t_end = rows[end % <int64_t>capacity].t_ns
            if marks != NULL and end - lo > 64 and (not guess or marks[0] < <int64_t>low):
                marks[0], marks[1], marks[2], marks[3] = lo, t_lo, end, t_end
            if t_end <= t_ns:
                return end
            hi, t_hi, has_hi = end, t_end, True
            continue
        elif pages[0] % 3 == 2 or t_hi <= t_lo:
            mid = lo + (hi - lo) // 2
        else:
            mid = between(lo, t_lo, hi, t_hi, t_ns, lo + 1, hi - 1)
        first = mid - mid % 64
        last = first + 63 if first + 63 < hi else hi - 1
        first = first if first > lo else lo + 1
        x = near(rows, capacity, first, first, last + 1)
        if x < 0:                                               # nothing of the page holds
            x = near(rows, capacity, mid, lo + 1, hi)
            if x < 0:
                return lo
            y = x
        else:
            y = near(rows, capacity, last, x, last + 1)
        pages[0] += 1
        t_x, t_y = rows[x % <int64_t>capacity].t_ns, rows[y % <int64_t>capacity].t_ns
        if t_x > t_ns:
            hi, t_hi, has_hi = x, t_x, True
        elif t_y <= t_ns:
            lo, t_lo, has_lo = y, t_y, True
        else:
            return halved(rows, capacity, x, y, t_ns)
    return lo


cdef int64_t halved(const row_t* rows, uint64_t capacity, int64_t lo, int64_t hi, int64_t t_ns) noexcept nogil:
    """The newest valid row of [lo, hi) that starts at or before `t_ns`, which rows[lo] does and rows[hi] does not."""
    cdef int64_t at
    while hi - lo > 1:
        at = near(rows, capacity, lo + (hi - lo) // 2, lo + 1, hi)
        if at < 0:
            break
        if rows[at % <int64_t>capacity].t_ns <= t_ns:
            lo = at
        else:
            hi = at
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
    cdef uint64_t checked = 0
    cdef int64_t a, b, bin_ = 0, from_ = start_ns, stop, bins = covered.shape[0]       # from_: where bin_ begins
    if carry.shape[0] < 4 or step_ns <= 0 or damaged.shape[0] != bins or nbytes.shape[0] != bins:
        raise ValueError("carry has 4 elements, the figures the same length, the step is positive")
    with nogil:
        while i < n:
            if i == checked:                # a page at a time, so that what has been checked is summed up while it is near
                checked += wr_rows_good(<const unsigned char*>&r[i], min(n - i, PAGE_ROWS), first + i)
                if i == checked:
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
            if a < from_ or a - from_ >= step_ns:       # a division for each row would be the most of its cost
                bin_ = (a - start_ns) // step_ns
                from_ = start_ns + bin_ * step_ns
            if bin_ < bins:
                nbytes[bin_] += r[i].nbytes
            while a < b and bin_ < bins:
                stop = from_ + step_ns
                stop = stop if stop < b else b
                covered[bin_] += stop - a
                if r[i].flags & 4:
                    damaged[bin_] += stop - a
                a = stop
                if a < b:
                    bin_ += 1
                    from_ += step_ns
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
