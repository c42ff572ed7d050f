"""Rows of a tape: which access units make one, how long it is, what it says; entries of access units. No Python object per AU.

The writer's thread calls everything here. An entry is at most ENTRY_MAX bytes.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from recorder._ext.auqueue cimport AU_DAMAGED, AU_DISCONTINUITY, AU_KEY, AU_LEADING, AU_PROVISIONAL, au_t, queue_at, wr_store
from recorder._ext.crc32c cimport wr_crc_range, wr_crc_setup

wr_crc_setup()

cdef enum:
    ROW_MAX_S = 10
    ROW_MAX_BYTES = 4 << 20
    ROW_MAX_AUS = 1024
    ROW_MAX_ENTRIES = 8 << 10

assert sizeof(row_t) == 64 and sizeof(live_t) == 232      # the pxd's sizes


cdef inline uint32_t put_varint(uint8_t* p, uint64_t v) noexcept nogil:
    cdef uint32_t n = 0
    while v >= 0x80:
        p[n] = <uint8_t>(v | 0x80)
        v >>= 7
        n += 1
    p[n] = <uint8_t>v
    return n + 1


cdef inline uint32_t put_entry(uint8_t* p, const au_t* au, uint64_t step) noexcept nogil:
    """The entry of an AU (storage/layout.py); at most ENTRY_MAX bytes."""
    cdef int64_t cts = au.pts - au.dts
    cdef uint64_t head = <uint64_t>au.nbytes << 4
    cdef uint32_t n
    head |= (1 if au.flags & AU_KEY else 0) | (2 if au.flags & AU_LEADING else 0) | (4 if au.flags & AU_DAMAGED else 0)
    n = put_varint(p, head | (8 if cts else 0))
    n += put_varint(p + n, step)
    if cts:
        n += put_varint(p + n, (<uint64_t>cts << 1) ^ <uint64_t>(cts >> 63))
    return n


cdef inline int64_t ticks_ns(track_t* t, int64_t ticks) noexcept nogil:
    return <int64_t>(<double>ticks * 1e9 / <double>t.rate)


cdef inline uint32_t clip32(int64_t v) noexcept nogil:
    """`v` within what 32 bits hold."""
    if v < 0:
        return 0
    return <uint32_t>v if v >> 32 == 0 else <uint32_t>-1


cdef inline uint32_t micros(int64_t ns) noexcept nogil:
    return 0 if ns <= 0 else clip32(ns // 1000)


cdef void measure(track_t* t, row_t* row) noexcept nogil:
    """Fill in how long the open row is and its CRC, as far as is known now."""
    row.media_dur = clip32(t.last_dts - t.row_dts0 + t.last_dur)
    row.wall_dur_us = micros(t.end_wall - row.t_ns)
    row.data_crc = wr_crc_range(t.row_crc0, t.last_crc, row.nbytes)


cdef void close_row(track_t* t, const au_t* after) noexcept nogil:
    """Stage the open row as closed. `after` is the AU that leads on from it, NULL if nothing does. There is room (caller has looked)."""
    cdef row_t* row = &t.row
    cdef uint64_t number = t.next_row + t.staged_rows
    measure(t, row)
    if after is not NULL:
        row.media_dur = clip32(after.dts - t.row_dts0)
        row.wall_dur_us = micros(after.wall_ns - row.t_ns)
    row.flags &= <uint16_t>~ROW_OPEN
    row.crc = row_crc(row, number)
    t.end_ns = row.t_ns + <int64_t>row.wall_dur_us * 1000
    t.staged[t.staged_rows] = row[0]
    t.staged_rows += 1
    memset(row, 0, sizeof(row_t))
    t.touched = 1


cdef void match_phase(track_t* t, const au_t* au) noexcept nogil:
    """Leave out up to a page of tape (zeros), so that the AU's first byte lies as deep in a page on the tape as in memory."""
    cdef uint64_t gap = (au.pos - t.used) & (PAGE - 1), prefix = t.used & (PAGE - 1)
    if gap == 0 or t.used + gap + au.nbytes > t.tape_bytes or (t.ahead and prefix + gap >= PAGE):
        return                          # or the page before ends in bytes of what was passed over: it is to be written again
    t.ahead = 0
    if prefix + gap < PAGE:
        memset(t.tail + prefix, 0, gap)
    else:
        memset(t.tail, 0, PAGE)         # the page before was written with zeros behind its bytes
    t.used += gap


cdef void start_row(track_t* t, const au_t* au, int broken) noexcept nogil:
    cdef row_t* row = &t.row
    cdef began_t* began = &t.began[(t.next_row + t.staged_rows) & <uint64_t>(LIVE_ROWS - 1)]
    if t.run_bytes == 0 and t.direct_fd >= 0:
        match_phase(t, au)
    began.au = t.taken
    wr_store(&began.row, t.next_row + t.staged_rows)
    memset(row, 0, sizeof(row_t))
    row.t_ns = au.wall_ns if au.wall_ns > t.end_ns else t.end_ns
    row.media_pts = au.pts
    row.offset = t.base + t.used + t.run_bytes
    row.flags = ROW_OPEN
    if not au.flags & AU_KEY:
        row.flags |= ROW_CONTINUED
    if broken:
        row.flags |= ROW_DISCONTINUITY
    if au.flags & AU_PROVISIONAL:
        row.flags |= ROW_PROVISIONAL
        if t.provisional_row == none():
            t.provisional_row = t.next_row + t.staged_rows
    row.sample_entry = t.entry
    row.session = t.session
    row.frames_off = t.entries_end + t.entry_bytes
    t.row_crc0 = t.last_crc
    t.row_dts0 = au.dts
    t.last_dts = au.dts
    t.row_entries = 0
    t.end_wall = row.t_ns
    t.footer_used += FOOTER_PER_ROW


cdef int cut(track_t* t, const au_t* au) noexcept nogil:
    """Whether `au` starts a row: 0 no, 1 yes, leading on; 2 yes, and media time does not lead on."""
    cdef int64_t age = au.dts - t.row_dts0
    if au.flags & AU_DISCONTINUITY or au.gap or au.dts < t.last_dts or t.row.session != t.session:
        return 2
    if t.force_cut or t.row.sample_entry != t.entry:
        return 1
    if au.flags & AU_KEY and age >= t.rate:
        return 1
    if age >= <int64_t>ROW_MAX_S * t.rate or t.row.nbytes + au.nbytes > ROW_MAX_BYTES or t.row.aus >= ROW_MAX_AUS:
        return 1
    return t.row_entries + ENTRY_MAX > ROW_MAX_ENTRIES


cdef void add_au(track_t* t, const au_t* au) noexcept nogil:
    """Put the AU into the open row, the entries and the run of bytes to be written."""
    cdef uint64_t step = <uint64_t>(au.dts - t.last_dts)
    cdef uint32_t n = put_entry(t.entries + t.entry_bytes, au, step if t.row.aus else 0)
    cdef int64_t end
    if au.dur:
        t.last_dur = au.dur
    elif t.row.aus and step:
        t.last_dur = <int64_t>step
    end = au.wall_ns + ticks_ns(t, t.last_dur)
    if end > t.end_wall:
        t.end_wall = end
    t.entry_bytes += n
    t.row_entries += n
    t.footer_used += n
    t.row.aus += 1
    t.row.nbytes += au.nbytes
    if au.flags & AU_DAMAGED:
        t.row.flags |= ROW_DAMAGED
        t.damaged += 1
    if t.run_bytes == 0:
        t.run, t.run_pos = queue_at(t.q, au.pos), au.pos
    t.run_bytes += au.nbytes
    t.last_dts = au.dts
    t.recv_ns = au.recv_ns
    t.aus += 1
    t.bytes += au.nbytes
    t.touched = 1


cdef void pass_by(track_t* t, const au_t* au) noexcept nogil:
    """The AU is behind us, kept or not."""
    t.last_crc = au.crc
    t.free_pos = au.pos + au.nbytes
    t.taken += 1
