"""The journal's plain items (rows, open rows, entries), which are nearly all of it, added up per tape without a Python object each.

Whatever else a tape's items are is left to storage/replay.py, which decodes them one by one; that code, applied to all items, is the oracle
of this kernel's tests. Safety: a section is measured whole before any of it is taken; every item's end is compared with the end of the
items, and every body with the least that its kind has.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef enum:
    ROW = 1
    OPEN_ROW = 2
    ENTRIES = 3
    CHECKPOINT = 13
    TAPE = 14
    ON = 16
    CHECKPOINT_END = 19
    ROW_BYTES = 64
    NUMBERED_ROW = 72           # body of a row: its number, its bytes
    HEAD = 8


cdef packed struct head_t:
    uint16_t kind
    uint16_t version
    uint32_t nbytes

cdef packed struct row_t:
    int64_t t_ns
    int64_t media_pts
    uint64_t offset
    uint32_t nbytes
    uint32_t wall_dur_us
    uint8_t rest[32]

assert sizeof(row_t) == ROW_BYTES and sizeof(head_t) == HEAD


cdef class TapeRun:
    """What plain items of one tape have added up to since `take`. Its buffer holds the newest entries, contiguous from `_start` on."""

    cdef dict _rows
    cdef list _entries
    cdef uint8_t _open[ROW_BYTES]
    cdef bint _has_open, _any, _told         # told: an open row was named, whatever was open before is not any more
    cdef uint64_t _open_number, _closed, _next_row, _tape_end, _entries_end, _named
    cdef int64_t _end_ns
    cdef uint8_t* _buffer
    cdef uint64_t _start, _used, _room

    def __cinit__(self):
        self._rows, self._entries = {}, []
        self._buffer = NULL
        self._used = self._room = self._named = 0
        self._clear()

    def __dealloc__(self):
        free(self._buffer)

    cdef void _clear(self):
        self._rows, self._entries = {}, []
        self._has_open = self._any = self._told = False
        self._open_number = self._closed = self._next_row = self._tape_end = self._entries_end = 0
        self._end_ns = -(1 << 63)
        self._used = 0

    cdef inline void _grow(self, const row_t* row, uint64_t next_row) noexcept:
        cdef uint64_t end = row.offset + row.nbytes
        self._any = True
        self._next_row = max(self._next_row, next_row)
        self._tape_end = max(self._tape_end, end)

    cdef int _close(self, uint64_t number, const uint8_t* raw) except -1:
        cdef const row_t* row = <const row_t*>raw
        self._rows[number] = PyBytes_FromStringAndSize(<const char*>raw, ROW_BYTES)
        if self._has_open and self._open_number <= number:
            self._has_open = False
        self._closed = max(self._closed, number + 1)
        self._end_ns = max(self._end_ns, row.t_ns + <int64_t>row.wall_dur_us * 1000)
        self._named = max(self._named, number + 1)
        self._grow(row, number + 1)
        return 0

    cdef void _reopen(self, uint64_t number, const uint8_t* raw) noexcept:
        memcpy(self._open, raw, ROW_BYTES)
        self._has_open = self._told = True
        self._open_number = number
        self._named = max(self._named, number + 1)
        self._grow(<const row_t*>raw, number)

    cdef int _add(self, uint64_t position, const uint8_t* data, uint64_t n) except -1:
        cdef uint8_t* larger
        if self._used and position != self._start + self._used:
            self._bundle()
        if not self._used:
            self._start = position
        if self._used + n > self._room:
            larger = <uint8_t*>realloc(self._buffer, 2 * (self._used + n))
            if larger == NULL:
                raise MemoryError("entries of the journal")
            self._buffer, self._room = larger, 2 * (self._used + n)
        memcpy(self._buffer + self._used, data, n)
        self._used += n
        self._any = True
        self._entries_end = max(self._entries_end, position + n)
        return 0

    cdef int _bundle(self) except -1:
        self._entries.append((self._start, PyBytes_FromStringAndSize(<const char*>self._buffer, self._used)))
        self._used = 0
        return 0

    def take(self):
        """None if there was nothing; else (rows by number, [(position, entries)], True if an open row was named, the open row or None, end of
        the closed rows' numbers, next row, tape end, entries end, end in ns), each of the ends 0 (the last one -2^63) if there was none.
        Starts anew."""
        if not self._any:
            return None
        if self._used:
            self._bundle()
        row = PyBytes_FromStringAndSize(<const char*>self._open, ROW_BYTES) if self._has_open else None
        found = (self._rows, self._entries, self._told, None if row is None else (self._open_number, row), self._closed, self._next_row,
                 self._tape_end, self._entries_end, self._end_ns)
        self._clear()
        return found

    def named(self):
        """Number after the highest row named since the last call; 0 if there was none."""
        found, self._named = self._named, 0
        return found


def plain(const uint8_t[::1] items not None, uint64_t at, dict tapes not None):
    """Take in sections (`On`, then plain items) from position `at` on; the position of the first that is not plain, or the end.

    `tapes`: TapeRun by tape. A section that is not plain, of an unknown tape or of wrong form is not touched.
    """
    cdef uint64_t n = items.shape[0], stop
    cdef const uint8_t* p = &items[0] if n else NULL
    cdef TapeRun run
    while at < n:
        stop = section(p, at, n)
        if stop == 0:
            break
        run = tapes.get((<const uint64_t*>(p + at + HEAD))[0])
        if run is None:
            break
        take_in(run, p, at + 2 * HEAD, stop)
        at = stop
    return at


cdef uint64_t section(const uint8_t* p, uint64_t at, uint64_t n) noexcept nogil:
    """Where the plain section that begins at `at` ends; 0 if none begins there."""
    cdef const head_t* head
    cdef uint64_t after
    cdef bint first = True
    while at < n:
        if n - at < HEAD:
            return 0
        head = <const head_t*>(p + at)
        after = at + HEAD + (<uint64_t>head.nbytes + 7) // 8 * 8
        if head.version == 0 or after > n or first != (head.kind == ON):
            return at if not first and after <= n and head.version and head.kind == ON else 0
        if first and head.nbytes != 8:
            return 0
        if not first:
            if head.kind in (TAPE, CHECKPOINT, CHECKPOINT_END):
                return at
            if head.kind in (ROW, OPEN_ROW):
                if head.nbytes < NUMBERED_ROW:
                    return 0
            elif head.kind != ENTRIES or head.nbytes < 8:
                return 0
        first = False
        at = after
    return at


cdef int take_in(TapeRun run, const uint8_t* p, uint64_t at, uint64_t stop) except -1:
    """The items of a section that `section` has measured."""
    cdef const head_t* head
    cdef uint64_t number
    while at < stop:
        head = <const head_t*>(p + at)
        number = (<const uint64_t*>(p + at + HEAD))[0]
        if head.kind == ROW:
            run._close(number, p + at + 2 * HEAD)
        elif head.kind == OPEN_ROW:
            run._reopen(number, p + at + 2 * HEAD)
        else:
            run._add(number, p + at + 2 * HEAD, head.nbytes - 8)
        at += HEAD + (<uint64_t>head.nbytes + 7) // 8 * 8
    return 0
