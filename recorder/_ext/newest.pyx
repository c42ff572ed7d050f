"""What became visible of a track since the last look, out of its block of a mapped live file: what live viewers are made of.

One look at a block in which nothing has changed is one atomic read. Python twin: tests/storage_read/twins.py.

Safety: the block lies in the buffer, which is checked when it is given; positions in its rows and entries are taken modulo their powers of
two; entry bytes are copied to a buffer of our own, of which every read is bounded; what was copied counts only if the block's sequence
number stood still meanwhile, and a row only if its CRC holds.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from recorder._ext.crc32c cimport wr_crc_setup
from recorder._ext.entries cimport entry
from recorder._ext.row cimport row_t
from recorder._ext.taperow cimport LIVE_ENTRIES, LIVE_ENTRIES_AT, LIVE_ROWS, LIVE_ROWS_AT, ROW_DISCONTINUITY, live_t

cdef extern from * nogil:
    """
    static inline uint64_t wr_load_acquire(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE); }
    static inline uint64_t wr_load_again(const void *p) {
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
    }
    """
    uint64_t wr_load_acquire(const void* p)
    uint64_t wr_load_again(const void* p)

cdef extern from "rowcheck.h" nogil:
    int wr_row_good(const unsigned char* row, uint64_t number)

cdef enum:
    TRIES = 64
    ROW_AUS = 1024
    AT_ONCE = 4                 # rows of one look

cdef struct au_t:
    int64_t dts
    int64_t wall_ns
    uint64_t offset
    uint32_t size
    int cts
    uint8_t flags

assert sizeof(row_t) == 64
wr_crc_setup()


cdef class Newest:
    """Reads a track's block from a place on. `live`: the mapped file; `at`: where in it the block begins (a multiple of 8)."""
    cdef const uint8_t[::1] live
    cdef const uint8_t* block
    cdef uint32_t camera
    cdef char track[48]
    cdef uint64_t row           # the place: `aus` AUs of this row have been taken
    cdef uint32_t aus
    cdef uint64_t seen          # the block's sequence number when it had no more to give
    cdef bint led               # `follows`, `session` and `entry` are of the row before `row`
    cdef int64_t follows        # where its DTS end
    cdef uint32_t session
    cdef uint16_t sample_entry
    cdef double tick_ns         # of its media time
    cdef uint8_t entries[LIVE_ENTRIES]
    cdef au_t found[ROW_AUS]
    cdef readonly uint64_t tail_offset

    def __init__(self, const uint8_t[::1] live not None, uint64_t at, uint32_t camera, bytes track not None):
        if at % 8 or at + <uint64_t>LIVE_ENTRIES_AT + <uint64_t>LIVE_ENTRIES > <uint64_t>live.shape[0]:
            raise ValueError("the block does not lie in the live file")
        if not 0 < len(track) < 48:
            raise ValueError("a track's name has 1 to 47 bytes")
        self.live, self.block, self.camera = live, &live[at], camera
        memset(self.track, 0, 48)
        memcpy(self.track, <const char*>track, len(track))
        self.seek(0, 0)

    def seek(self, uint64_t row, uint32_t aus):
        """Go on behind the first `aus` AUs of row `row`; what led there is not known."""
        self.row, self.aus, self.seen, self.led = row, aus, <uint64_t>-1, False

    @property
    def place(self):
        """(row, AUs of it that have been taken)."""
        return self.row, self.aus

    def take(self, uint32_t clock_rate):
        """What is new, in decode order: tuples (row, size, flags, dts, cts, offset, wall_ns, sample entry, leads). () if nothing is.

        Times in ticks of `clock_rate`, which is only used for a row whose length is not known yet, and UTC ns; flags as AuFlag; `leads` is
        false where media time does not lead on from the AU before, or this is not known. None: the block cannot tell (it is another
        track's, or the place lies behind what it holds): ask the tape's reader, and `seek`.
        """
        cdef list out = []
        cdef int rows
        if wr_load_acquire(self.block) == self.seen:
            return ()
        for rows in range(AT_ONCE):
            told = self.one_row(out, clock_rate if clock_rate else 1)
            if told is None:
                return None
            if not told:
                break
        return tuple(out)

    cdef object one_row(self, list out, uint32_t clock_rate):
        """Take what is new of the row at the place: True if the row is over and the place is at the next one; None as `take`."""
        cdef live_t head
        cdef row_t row
        cdef uint64_t seq = 0
        cdef uint32_t have = 0, i
        cdef int code
        cdef bint leads, first = self.aus == 0
        with nogil:
            code = self.copy(&head, &row, &seq, &have)
        if code < 0:
            return None
        self.tail_offset = head.tail_offset
        if code == 0:
            self.seen = seq
            return False
        if not self.decode(&row, have, clock_rate):
            return None
        leads = not first or (self.led and self.leads_on(&row))
        for i in range(self.aus, row.aus):
            out.append((self.row, self.found[i].size, self.found[i].flags, self.found[i].dts, self.found[i].cts, self.found[i].offset,
                        self.found[i].wall_ns, row.sample_entry, leads))
            leads = True
        self.aus = row.aus
        if self.row >= head.next_row:
            self.seen = seq
            return False
        self.remember(&row)
        self.row += 1
        self.aus = 0
        return True

    cdef int copy(self, live_t* head, row_t* row, uint64_t* seq, uint32_t* have) noexcept nogil:
        """The block's head, the row at the place and its entries: 1; 0 if there is nothing new; -1 if the block cannot tell."""
        cdef int tries
        cdef uint64_t start, at, part
        for tries in range(TRIES):
            seq[0] = wr_load_acquire(self.block)
            if seq[0] & 1:
                continue
            memcpy(head, self.block, sizeof(live_t))
            if wr_load_again(self.block) != seq[0]:
                continue
            if head.camera != self.camera or memcmp(head.track, self.track, 48) != 0:
                return -1
            if self.row > head.next_row or self.row < head.tail_row or self.row + LIVE_ROWS <= head.next_row:
                return -1
            if self.row == head.next_row:
                if not head.is_open or head.open_row.aus <= self.aus:
                    return 0 if head.is_open or self.aus == 0 else -1
                row[0] = head.open_row
            else:
                row[0] = (<const row_t*>(self.block + <size_t>LIVE_ROWS_AT))[self.row & <uint64_t>(LIVE_ROWS - 1)]
            start = row.frames_off
            if start > head.entries_end or head.entries_end - start > LIVE_ENTRIES:
                return -1
            have[0] = <uint32_t>(head.entries_end - start)
            at = start & <uint64_t>(LIVE_ENTRIES - 1)
            part = have[0] if have[0] <= LIVE_ENTRIES - at else LIVE_ENTRIES - at
            memcpy(self.entries, self.block + <size_t>LIVE_ENTRIES_AT + at, part)
            memcpy(self.entries + part, self.block + <size_t>LIVE_ENTRIES_AT, have[0] - part)
            if wr_load_again(self.block) != seq[0]:
                continue
            return 1 if wr_row_good(<const unsigned char*>row, self.row) and row.aus >= self.aus else -1
        return -1

    cdef int decode(self, const row_t* row, uint32_t have, uint32_t clock_rate) noexcept nogil:
        """The AUs of the row into `found`; 0 if its entries are cut or do not add up."""
        cdef uint64_t at = 0, head = 0, step = 0, total = 0
        cdef int64_t c = 0, d = 0, pts, media = row.media_dur, wall = <int64_t>row.wall_dur_us * 1000
        cdef uint32_t k
        cdef au_t* au
        if row.aus > ROW_AUS:
            return 0
        if media == 0 or wall == 0:     # one AU whose length is not yet known: nominal ticks
            media, wall = clock_rate, 1000000000
        for k in range(row.aus):
            if not entry(self.entries, have, &at, &head, &step, &c) or head >> 36 or c != <int64_t><int>c:
                return 0
            if k == 0:
                if step != 0:
                    return 0
                d = row.media_pts - c
            d += <int64_t>step
            au = &self.found[k]
            au.size, au.flags, au.cts, au.dts = <uint32_t>(head >> 4), <uint8_t>(head & 7), <int>c, d
            au.offset = row.offset + total
            total += head >> 4
            pts = d + c - row.media_pts
            au.wall_ns = row.t_ns + <int64_t>(<double>pts * (<double>wall / <double>media) + (0.5 if pts >= 0 else -0.5))
        return 1 if total == row.nbytes else 0

    cdef bint leads_on(self, const row_t* row) noexcept nogil:
        """True if the row, which has been decoded, leads on from the one before: api/footage.py says the same of whole runs."""
        cdef double off
        if row.session != self.session or row.flags & ROW_DISCONTINUITY or row.sample_entry != self.sample_entry:
            return False
        off = <double>(self.found[0].dts - self.follows) * self.tick_ns
        return -20000000.0 <= off <= 20000000.0

    cdef void remember(self, const row_t* row) noexcept nogil:
        """The row is over: what the next one is to lead on from."""
        self.led = row.aus > 0
        self.session, self.sample_entry = row.session, row.sample_entry
        self.tick_ns = <double>row.wall_dur_us * 1000.0 / <double>row.media_dur if row.media_dur and row.wall_dur_us else 1.0
        if self.led:
            self.follows = self.found[0].dts + <int64_t>row.media_dur
