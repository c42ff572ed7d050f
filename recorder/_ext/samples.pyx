"""Whole columns of AUs to the samples of a file and their tables (ISO 14496-12 8.6, 8.7). Python twin: tests/media/twin_samples.py.

Safety: every column that is given must be as long as the one it belongs to, which is checked before a loop begins; row numbers and chosen
indices are compared with the lengths of what they point into before they are used.
"""
cimport cython
from libc.math cimport floor
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

import numpy as np

cdef int64_t NS = 1000000000
cdef uint8_t KEY = 1, LEADING = 2


@cython.cdivision(True)
cdef inline int64_t floor_of(int64_t a, int64_t b) noexcept nogil:
    """a // b as Python has it; b > 0."""
    cdef int64_t q = a // b
    if a - q * b < 0:
        q -= 1
    return q


cdef inline int64_t scaled(int64_t a, int64_t hz, int64_t rate) noexcept nogil:
    """a * hz // rate."""
    return a if hz == rate else floor_of(a * hz, rate)


cdef inline int64_t before(const int64_t* starts, int64_t n, int64_t t) noexcept nogil:
    """How many of the rising `starts` are at or before `t`."""
    cdef int64_t low = 0, high = n, middle
    while low < high:
        middle = (low + high) >> 1
        if starts[middle] <= t:
            low = middle + 1
        else:
            high = middle
    return low


cdef int check_rows(const uint32_t[::1] row, int64_t rows) except -1:
    cdef int64_t i, n = row.shape[0]
    cdef uint32_t most = 0
    with nogil:
        for i in range(n):
            if row[i] > most:
                most = row[i]
    if n and most >= rows:
        raise ValueError("a row's number is beyond the rows")
    return 0


cdef int check_rates(const int64_t[::1] rate) except -1:
    cdef int64_t i
    for i in range(rate.shape[0]):
        if rate[i] <= 0:
            raise ValueError("a clock rate is not above zero")
    return 0


def place(const int64_t[::1] chosen not None, const uint32_t[::1] row not None, const int64_t[::1] dts not None,
          const int32_t[::1] cts not None, const uint32_t[::1] size not None, const uint64_t[::1] offset not None,
          const int64_t[::1] anchors not None, const int64_t[::1] base not None, const int64_t[::1] rate not None,
          const int64_t[::1] entry not None, const int64_t[::1] less, const double[::1] squeeze, int64_t hz, int64_t first_row):
    """The chosen AUs in ticks of `hz`: arrays i64 of size, dts (strictly rising), cts, entry + 1, offset, row + `first_row`.

    `anchors`, `base` (media_pts), `rate`, `entry`: one per row; `less`: ticks to take from each chosen AU, or None.
    `squeeze`: one per row, by what distances within it are multiplied, or None. No AU is shown before it is decoded.
    """
    cdef int64_t n = chosen.shape[0], aus = row.shape[0], rows = anchors.shape[0], i, k, r, at, d, last = 0, origin, shift = 0
    if not (dts.shape[0] == cts.shape[0] == size.shape[0] == offset.shape[0] == aus):
        raise ValueError("columns of AUs differ in length")
    if not (base.shape[0] == rate.shape[0] == entry.shape[0] == rows) or (less is not None and less.shape[0] != n) or (
            squeeze is not None and squeeze.shape[0] != rows):
        raise ValueError("columns of rows differ in length")
    check_rows(row, rows)
    check_rates(rate)
    out = tuple(np.empty(n, np.int64) for _ in range(6))
    if n == 0:
        return out
    cdef int64_t[::1] sizes = out[0], dtss = out[1], ctss = out[2], entries = out[3], offsets = out[4], numbers = out[5]
    cdef const int64_t* lessened = NULL
    cdef const double* squeezed = NULL
    cdef bint bad = False
    if squeeze is not None:
        squeezed = &squeeze[0]
    if less is not None:
        lessened = &less[0]
    with nogil:
        for i in range(n):
            k = chosen[i]
            if k < 0 or k >= aus:
                bad = True
                break
            r = row[k]
            origin = anchors[r] - (lessened[i] if lessened else 0)
            d = scaled(dts[k] - base[r], hz, rate[r])
            at = scaled(dts[k] + cts[k] - base[r], hz, rate[r])
            if squeezed:
                d, at = <int64_t>floor(<double>d * squeezed[r]), <int64_t>floor(<double>at * squeezed[r])
            d, at = origin + d, origin + at
            if i and d <= last:
                d = last + 1
            last = d
            sizes[i] = size[k]
            dtss[i] = d
            ctss[i] = at - d if at > d else 0
            entries[i] = entry[r] + 1
            offsets[i] = <int64_t>offset[k]
            numbers[i] = r + first_row
    if bad:
        raise ValueError("a chosen AU is beyond the AUs")
    return out


def decodable(const uint32_t[::1] row not None, const uint8_t[::1] flags not None, const uint8_t[::1] breaks not None):
    """(good u8, last_key i64): AUs whose references are all here, and for each AU the newest access point up to it (-1: none).

    Not those before the first access point after a break (`breaks`: one flag per row), nor leading ones right after it.
    """
    cdef int64_t n = row.shape[0], i, last = -1, start = 0
    cdef bint fresh = False
    if flags.shape[0] != n:
        raise ValueError("columns of AUs differ in length")
    check_rows(row, breaks.shape[0])
    out = np.empty(n, np.uint8), np.empty(n, np.int64)
    cdef uint8_t[::1] good = out[0]
    cdef int64_t[::1] keys = out[1]
    with nogil:
        for i in range(n):
            if i == 0 or (row[i] != row[i - 1] and breaks[row[i]]):
                start = i if breaks[row[i]] else 0
            if flags[i] & KEY:
                fresh = last < start
                last = i
            keys[i] = last
            good[i] = last >= start and not (flags[i] & LEADING and last >= 0 and fresh)
    return out


def reached(const int64_t[::1] wall not None, const int32_t[::1] cts not None, const int64_t[::1] dur not None,
            const uint32_t[::1] row not None, const int64_t[::1] rate not None):
    """(newest decode time, newest end) in UTC of the AUs, of which there is one at least."""
    cdef int64_t n = wall.shape[0], i, decoded = 0, ends = 0, d, e, hz = 0, ticks = -1, lasts = 0
    if n == 0 or not (cts.shape[0] == dur.shape[0] == row.shape[0] == n):
        raise ValueError("columns of AUs differ in length, or there is no AU")
    check_rows(row, rate.shape[0])
    check_rates(rate)
    with nogil:
        for i in range(n):
            if dur[i] != ticks or rate[row[i]] != hz:      # most AUs last as long as the one before
                ticks, hz = dur[i], rate[row[i]]
                lasts = floor_of(ticks * NS, hz)
            d = wall[i] if cts[i] == 0 else wall[i] - floor_of(cts[i] * NS, hz)
            e = wall[i] + lasts
            if i == 0 or d > decoded:
                decoded = d
            if i == 0 or e > ends:
                ends = e
    return decoded, ends


def sounding(const int64_t[::1] wall not None, const int64_t[::1] dur not None, const uint32_t[::1] row not None,
             const int64_t[::1] rate not None, const int64_t[::1] cut_start not None, const int64_t[::1] cut_end not None,
             int64_t zero, int64_t presented):
    """Indices of the AUs that sound in [0, presented) ns of the timeline that begins at `zero`, without what it cuts out."""
    cdef int64_t n = wall.shape[0], cuts = cut_start.shape[0], i, k, at, t, found = 0, hz = 0, ticks = -1, lasts = 0
    if not (dur.shape[0] == row.shape[0] == n) or cut_end.shape[0] != cuts:
        raise ValueError("columns of AUs differ in length")
    check_rows(row, rate.shape[0])
    check_rates(rate)
    lengths = np.zeros(cuts + 1, np.int64)
    np.cumsum(np.asarray(cut_end) - np.asarray(cut_start), out=lengths[1:])
    out = np.empty(n, np.int64)
    cdef int64_t[::1] removed = lengths, chosen = out
    cdef const int64_t* starts = &cut_start[0] if cuts else NULL
    with nogil:
        for i in range(n):
            if dur[i] != ticks or rate[row[i]] != hz:
                ticks, hz = dur[i], rate[row[i]]
                lasts = floor_of(ticks * NS, hz)
            at = wall[i] - zero
            if cuts:
                k = before(starts, cuts, wall[i])
                at -= removed[k]
                if k and cut_end[k - 1] > wall[i]:
                    at += cut_end[k - 1] - wall[i]
            if at + lasts <= 0 or at >= presented:
                continue
            if cuts:
                t = wall[i] + floor_of(lasts, 2)
                k = before(starts, cuts, t)
                if k and t < cut_end[k - 1]:
                    continue
            chosen[found] = i
            found += 1
    return out[:found]


def smooth(const int64_t[::1] anchors not None, const int64_t[::1] native not None, const uint8_t[::1] breaks not None, int64_t slack):
    """Anchors of rows that follow native media time (`native`: ticks from row to row) while it is off by `slack` ticks at most."""
    cdef int64_t n = anchors.shape[0], i, off
    if breaks.shape[0] != n or native.shape[0] != max(n - 1, 0):
        raise ValueError("columns of rows differ in length")
    out = np.array(anchors, np.int64)
    cdef int64_t[::1] to = out
    with nogil:
        for i in range(1, n):
            off = to[i - 1] + native[i - 1] - to[i]
            if not breaks[i] and -slack <= off <= slack:
                to[i] += off
    return out


def steps(const int64_t[::1] dts not None, int64_t last):
    """Ticks from each sample to the next; of the last one `last`."""
    cdef int64_t n = dts.shape[0], i
    out = np.full(n, last, np.int64)
    cdef int64_t[::1] to = out
    with nogil:
        for i in range(n - 1):
            to[i] = dts[i + 1] - dts[i]
    return out


def chunks(const int64_t[::1] size not None, const int64_t[::1] offset not None, const int64_t[::1] row not None,
           const int64_t[::1] entry not None):
    """First samples of the runs that lie contiguous within one row and share an entry; [0] of no sample."""
    cdef int64_t n = size.shape[0], i, found = 1
    if not (offset.shape[0] == row.shape[0] == entry.shape[0] == n):
        raise ValueError("columns of samples differ in length")
    out = np.zeros(max(n, 1), np.int64)
    cdef int64_t[::1] first = out
    with nogil:
        for i in range(1, n):
            if offset[i] != offset[i - 1] + size[i - 1] or row[i] != row[i - 1] or entry[i] != entry[i - 1]:
                first[found] = i
                found += 1
    return out[:found].copy()


cdef inline void put(uint8_t* at, uint64_t value) noexcept nogil:
    at[0] = (value >> 24) & 0xFF
    at[1] = (value >> 16) & 0xFF
    at[2] = (value >> 8) & 0xFF
    at[3] = value & 0xFF


def runs(const int64_t[::1] values not None):
    """Run-length code as stts and ctts have it: their number, then count and value of each, 32 bits big-endian (the low ones of a value)."""
    cdef int64_t n = values.shape[0], i, found = 0, since = 0
    out = np.empty(4 + 8 * n, np.uint8)
    cdef uint8_t[::1] to = out
    with nogil:
        for i in range(1, n + 1):
            if i == n or values[i] != values[since]:
                put(&to[4 + 8 * found], i - since)
                put(&to[8 + 8 * found], <uint64_t>values[since])
                found += 1
                since = i
        put(&to[0], found)
    return out[:4 + 8 * found].tobytes()


def words(const int64_t[::1] values not None):
    """Their number, then the values, 32 bits big-endian each (the low ones)."""
    cdef int64_t n = values.shape[0], i
    out = bytearray(4 + 4 * n)
    cdef uint8_t[::1] to = out
    with nogil:
        put(&to[0], n)
        for i in range(n):
            put(&to[4 + 4 * i], <uint64_t>values[i])
    return bytes(out)
