"""AU entries of the frames ring (LEB128 varints, storage/layout.py) to arrays. Python twin: tests/storage_read/twins.py.

Safety: every byte is read behind a comparison with the buffer's end; every array element is written behind a comparison with the
arrays' length, which is the sum of the rows' AU counts taken before.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

from recorder._ext.row cimport row_t

assert sizeof(row_t) == 64


def entry_bytes(const uint8_t[::1] data not None, uint32_t aus):
    """How many bytes the first `aus` entries of `data` take; -1 if they do not end in it."""
    cdef uint64_t at = 0, head = 0, step = 0, n = data.shape[0]
    cdef int64_t cts = 0
    cdef uint32_t i
    if n == 0:
        return 0 if aus == 0 else -1
    for i in range(aus):
        if not entry(&data[0], n, &at, &head, &step, &cts):
            return -1
    return at


cdef int64_t decode_rows(const uint8_t* data, uint64_t have, uint64_t base, const row_t* rows, uint64_t n, uint64_t total,
                         uint32_t* row, uint32_t* size, int64_t* dts, int64_t* rel, int32_t* cts, int64_t* dur, uint8_t* flags,
                         uint64_t* offset, int64_t* wall, uint32_t clock_rate) noexcept nogil:
    """-1, or the index of the first row whose entries are cut or do not add up to its bytes."""
    cdef uint64_t i, k, first = 0, at, head = 0, step = 0, bytes_sum, tape
    cdef int64_t c = 0, d, pts, wall_ns, media
    for i in range(n):
        if rows[i].frames_off < base or rows[i].frames_off - base > have or first + rows[i].aus > total:
            return i
        at = rows[i].frames_off - base
        tape = rows[i].offset
        bytes_sum = 0
        d = 0
        for k in range(first, first + rows[i].aus):
            if not entry(data, have, &at, &head, &step, &c) or head >> 36 or c != <int64_t><int32_t>c:
                return i
            if k == first:
                if step != 0:
                    return i
                d = rows[i].media_pts - c
            d += <int64_t>step
            row[k] = <uint32_t>i
            size[k] = <uint32_t>(head >> 4)
            flags[k] = <uint8_t>(head & 7)
            cts[k] = <int32_t>c
            dts[k] = d
            rel[k] = d - dts[first]
            offset[k] = tape + bytes_sum
            bytes_sum += head >> 4
            if k > first:
                dur[k - 1] = d - dts[k - 1]
        if bytes_sum != rows[i].nbytes:
            return i
        if rows[i].aus:
            k = first + rows[i].aus - 1
            media = <int64_t>rows[i].media_dur - rel[k]
            dur[k] = media if media > 0 else 0
        media = rows[i].media_dur
        wall_ns = <int64_t>rows[i].wall_dur_us * 1000
        if media == 0 or wall_ns == 0:      # one AU whose length is not yet known: nominal ticks
            media = clock_rate
            wall_ns = 1000000000
        for k in range(first, first + rows[i].aus):
            pts = dts[k] + cts[k] - rows[i].media_pts
            wall[k] = rows[i].t_ns + <int64_t>(<double>pts * (<double>wall_ns / <double>media) + (0.5 if pts >= 0 else -0.5))
        first += rows[i].aus
    return -1


def decode(const uint8_t[::1] data not None, uint64_t base, const uint8_t[::1] rows not None, uint32_t clock_rate):
    """The AUs of `rows` from `data`, which holds the frames ring's bytes from position `base` on.

    `rows` are the bytes of layout.ROW records, `clock_rate` is their clock (not 0). Returns (bad, arrays): bad is -1, or the index of
    the first row whose entries are cut or do not add up (the arrays are then of no use); arrays are row u32, size u32, dts i64,
    dts_rel i64, cts i32, dur i64, flags u8, offset u64, wall_ns i64.
    """
    cdef uint64_t n = rows.shape[0] // 64, total = 0, i, have = data.shape[0]
    cdef const row_t* r = <const row_t*>&rows[0] if n else NULL
    cdef const uint8_t* p = &data[0] if have else NULL
    cdef int64_t bad
    for i in range(n):
        total += r[i].aus
    out = (np.empty(total, np.uint32), np.empty(total, np.uint32), np.empty(total, np.int64), np.empty(total, np.int64),
           np.empty(total, np.int32), np.empty(total, np.int64), np.empty(total, np.uint8), np.empty(total, np.uint64),
           np.empty(total, np.int64))
    if total == 0:
        return -1, out
    cdef uint32_t[::1] row = out[0], size = out[1]
    cdef int64_t[::1] dts = out[2], rel = out[3], dur = out[5], wall = out[8]
    cdef int32_t[::1] cts = out[4]
    cdef uint8_t[::1] flags = out[6]
    cdef uint64_t[::1] offset = out[7]
    with nogil:
        bad = decode_rows(p, have, base, r, n, total, &row[0], &size[0], &dts[0], &rel[0], &cts[0], &dur[0], &flags[0], &offset[0],
                          &wall[0], clock_rate if clock_rate else 1)
    return bad, out
