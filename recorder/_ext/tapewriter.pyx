"""One track's tape on the writer's thread: access units out of its queue, into chunk files, rows, entries and the live file.

One thread (the writer's) calls everything here. A track that meets something rare stops there with a code (tapestage.pyx), and Python
decides.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

from recorder._ext.auqueue cimport AuQueue, au_t, queue_own, queue_t, wr_load, wr_store
from recorder._ext.crc32c cimport wr_crc_setup
from recorder._ext.row cimport row_t
from recorder._ext.taperow cimport (LIVE_ENTRIES, LIVE_ENTRIES_AT, LIVE_ROWS, PAGE, ROW_PROVISIONAL, began_t, close_row, live_entries, live_row, live_t,
                                    none, pass_by, row_crc, track_t)
from recorder._ext.tapeshow cimport flush, flush_rings, lock_live, pass_track, show_open, unlock_live, write_rings
from recorder._ext.tapestage cimport (HELD, NEED_CHUNK, NEED_COMMAND, NEED_FORMAT, NEED_GAP, NEED_GAP_CLOSE, NEED_PUBLISH, NEED_ROOM,
                                      NEED_SESSION)

wr_crc_setup()

SESSION, FORMAT, GAP_CLOSE, GAP, CHUNK, ROOM, COMMAND, PUBLISH = (
    NEED_SESSION, NEED_FORMAT, NEED_GAP_CLOSE, NEED_GAP, NEED_CHUNK, NEED_ROOM, NEED_COMMAND, NEED_PUBLISH)


def queue_head(AuQueue queue not None):
    """AUs that the queue's producer has completed so far. Any thread."""
    return wr_load(&queue.q.au_head)


cdef class TapeCore:
    """One track's tape on the writer's thread.

    `live` is the track's block of the live file (LIVE_BLOCK_BYTES, writable), `lease` its 8 bytes of the lease file; both stay mapped for
    as long as this object lives. Descriptors belong to the caller. All methods: the writer's thread, unless they say otherwise.
    """

    def __cinit__(self, AuQueue queue not None, uint8_t[::1] live not None, const uint8_t[::1] lease not None, uint32_t clock_rate):
        memset(&self.t, 0, sizeof(track_t))
        if live.shape[0] < LIVE_ENTRIES_AT + LIVE_ENTRIES or lease.shape[0] < 8 or clock_rate == 0:
            raise ValueError("a live block, 8 bytes of lease and a clock are needed")
        if posix_memalign(<void**>&self.t.tail, PAGE, PAGE) != 0:
            self.t.tail = NULL
            raise MemoryError("no memory for a tail page")
        self.queue = queue
        self.live_buffer = live
        self.lease_buffer = lease
        self.t.q = &queue.q
        self.t.live = <live_t*>&live[0]
        self.t.lease = <uint64_t*>&lease[0]
        self.t.rate = clock_rate
        self.t.fd = self.t.direct_fd = self.t.ring_fd = self.t.frames_fd = -1
        self.t.limit = none()
        self.t.provisional_row = none()
        self.t.waiting = 1
        self.t.taken = queue.q.au_tail
        self.t.free_pos = queue.q.free_pos
        self.t.last_crc = queue_own(&queue.q, &self.t)
        memset(self.t.began, 0xFF, sizeof(self.t.began))
        self.t.pend_fd = -1

    def __dealloc__(self):
        free(self.t.tail)

    def bind(self, AuQueue queue not None):
        """Take AUs from this queue from now on, from where the consumer before it, or `AuQueue.rewind`, has left it; the one before is empty
        or given up."""
        cdef track_t* t = &self.t
        self.end_row()
        self.queue = queue
        t.q = &queue.q
        t.taken = queue.q.au_tail
        t.free_pos = queue.q.free_pos
        t.last_crc = queue_own(&queue.q, t)
        t.format = t.entry = 0
        t.ahead = 0

    def name(self, uint32_t camera, bytes track not None):
        """Give the block to a track: readers find it from now on. Last of the calls that set it up."""
        if len(track) > 48:
            raise ValueError("a track name has at most 48 bytes")
        lock_live(&self.t)
        memset(self.t.live.track, 0, 48)
        memcpy(self.t.live.track, PyBytes_AS_STRING(track), len(track))
        self.t.live.camera = camera
        unlock_live(&self.t)

    def restore(self, uint64_t next_row, uint64_t entries_end, int64_t end_ns, uint64_t tail_row, uint64_t tail_offset, uint64_t tape_end,
                uint64_t log_bytes, uint32_t session, bytes rows not None, bytes entries not None):
        """Begin where recovery ended: everything so far is durable. `rows`: the records from row next_row & ~63 on; `entries`: the bytes
        from position entries_end & ~4095 on."""
        cdef track_t* t = &self.t
        cdef uint64_t i, first = next_row & ~<uint64_t>63, low = entries_end & ~<uint64_t>(PAGE - 1)
        if <uint64_t>len(rows) != (next_row - first) * 64 or <uint64_t>len(entries) != entries_end - low:
            raise ValueError("rows and entries must reach from the last page's start to the end")
        t.next_row = t.journal_row = next_row
        t.entries_end = t.journal_entries = entries_end
        t.ring_rows = first
        t.frames_end = low
        t.end_ns = end_ns
        t.session = t.au_session = session
        lock_live(t)
        for i in range(next_row - first):
            memcpy(live_row(t, first + i), PyBytes_AS_STRING(rows) + i * 64, 64)
        memcpy(live_entries(t) + (low & (LIVE_ENTRIES - 1)), PyBytes_AS_STRING(entries), len(entries))
        t.live.next_row = t.live.durable_row = next_row
        t.live.ring_rows = first
        t.live.entries_end = entries_end
        t.live.frames_end = low
        t.live.tail_row = tail_row
        t.live.tail_offset = tail_offset
        t.live.visible_offset = t.live.durable_offset = tape_end
        t.live.log_bytes = log_bytes
        show_open(t)
        unlock_live(t)

    def set_rings(self, int ring_fd, uint64_t ring_capacity, int frames_fd, uint64_t frames_capacity):
        """The ring files, and how many rows and bytes they hold (multiples of 64 and 4096)."""
        if ring_capacity == 0 or ring_capacity % 64 or frames_capacity == 0 or frames_capacity % PAGE:
            raise ValueError("a ring holds whole pages")
        self.t.ring_fd, self.t.ring_capacity = ring_fd, ring_capacity
        self.t.frames_fd, self.t.frames_capacity = frames_fd, frames_capacity

    def set_chunk(self, int fd, uint64_t base, uint64_t used, bytes tail not None, uint64_t inner_bytes, uint32_t inner_count,
                  uint64_t footer_bytes, uint64_t footer_used, uint32_t marked):
        """Write into this chunk from now on; `tail` is what its tail page holds. The open row ends at the next AU."""
        if <uint64_t>len(tail) != used & (PAGE - 1):
            raise ValueError("the tail page is not what the chunk's length says")
        cdef track_t* t = &self.t
        t.fd, t.base, t.used = fd, base, used
        t.tape_bytes, t.inner_bytes, t.inner_count = inner_bytes * inner_count, inner_bytes, inner_count
        t.footer_bytes, t.footer_used, t.items_bytes = footer_bytes, footer_used, 0
        t.marked = marked
        t.direct_fd = -1
        t.direct = 0
        t.ahead = 0
        t.close_chunk = 0
        t.force_cut = 1
        memcpy(t.tail, PyBytes_AS_STRING(tail), len(tail))

    def set_size(self, uint64_t tape_bytes):
        """Tape bytes of this track's chunks: larger AUs are refused. Needed before the first chunk is there."""
        self.t.tape_bytes = tape_bytes

    def set_direct(self, int fd):
        """Write the open chunk past the page cache through `fd` (O_DIRECT) where that pays; -1: never."""
        self.t.direct_fd = fd

    def drop_chunk(self):
        """There is no open chunk any more; no row may be open. (A row that ends here is closed by `close_row` first.)"""
        self.t.fd = self.t.direct_fd = -1
        self.t.close_chunk = 0

    def want_close(self):
        """The chunk's time is up: it closes at the next AU."""
        self.t.close_chunk = 1

    def add_items_bytes(self, uint64_t count):
        """`count` bytes more of items will go into the open chunk's footer."""
        self.t.items_bytes += count

    def begin_session(self, uint32_t session, au_session=None):
        """AUs of `session`, which they call `au_session` (None: the same), may come; the first that is kept is a clean access point."""
        cdef int failed = self.end_row()
        self.t.session = session
        self.t.au_session = session if au_session is None else au_session
        self.t.format = self.t.entry = 0
        self.t.waiting = 1
        self.t.last_dur = 0
        return failed

    def set_format(self, uint16_t format, uint16_t entry):
        """AUs of `format` are coded as sample entry `entry` (not 0)."""
        self.t.format, self.t.entry = format, entry

    def open_gap(self):
        """Footage is missing from here: the open row ends, the next kept AU is a clean access point."""
        cdef int failed = self.end_row()
        self.t.gap_open = self.t.waiting = 1
        return failed

    def close_gap(self, int64_t end_ns):
        """The gap ends at the AU at hand."""
        self.t.gap_open = self.t.waiting = 0
        if end_ns > self.t.end_ns:
            self.t.end_ns = end_ns

    def reach(self, int64_t end_ns):
        """Time of this track is known up to `end_ns`."""
        if end_ns > self.t.end_ns:
            self.t.end_ns = end_ns

    cdef int end_row(self) noexcept:
        """Close the open row where it is; 0 or errno."""
        if self.t.row.aus == 0:
            return 0
        close_row(&self.t, NULL)
        return flush(&self.t)

    def close_row(self):
        """Close the open row where it is; 0 or errno."""
        return self.end_row()

    def skip(self):
        """Pass over the AU at hand without keeping it; the open row ends, since its CRC runs over AUs that follow each other."""
        cdef uint64_t head = wr_load(&self.t.q.au_head)
        if self.t.taken < head:
            self.end_row()
            self.t.skipped += 1
            pass_by(&self.t, &self.t.q.aus[self.t.taken & self.t.q.au_mask])
            flush(&self.t)

    def take(self):
        """One pass over this track alone; the code as from WriterPass.run (0: nothing needed), or -errno."""
        cdef int code
        with nogil:
            code = pass_track(&self.t)
        return 0 if code == HELD else code

    def peek(self):
        """(wall_ns, flags, gap, session, format, nbytes) of the AU at hand, None if there is none."""
        cdef au_t* au
        if self.t.taken >= wr_load(&self.t.q.au_head):
            return None
        au = &self.t.q.aus[self.t.taken & self.t.q.au_mask]
        return au.wall_ns, au.flags, au.gap, au.session, au.format, au.nbytes

    def publish(self, int64_t shift_ns, int64_t not_before_ns):
        """Rows that are still provisional move by `shift_ns` (but the first not before `not_before_ns`) and are so no more.

        Returns (shift that was applied, errno or 0).
        """
        cdef track_t* t = &self.t
        cdef uint64_t number
        cdef row_t* row
        cdef int64_t first_ns
        if t.provisional_row == none():
            return 0, 0
        number = t.provisional_row
        first_ns = t.row.t_ns if number >= t.next_row else live_row(t, number).t_ns
        if first_ns + shift_ns < not_before_ns:
            shift_ns = not_before_ns - first_ns
        lock_live(t)
        while number < t.next_row:
            row = live_row(t, number)
            row.t_ns += shift_ns
            row.flags &= <uint16_t>~ROW_PROVISIONAL
            row.crc = row_crc(row, number)
            number += 1
        if t.row.aus:
            t.row.t_ns += shift_ns
            t.row.flags &= <uint16_t>~ROW_PROVISIONAL
            t.end_wall += shift_ns
        if t.provisional_row < t.next_row:
            t.end_ns += shift_ns
        if t.provisional_row < t.journal_row:
            t.journal_row = t.provisional_row
        t.provisional_row = none()
        show_open(t)
        unlock_live(t)
        t.dirty = 1
        return shift_ns, write_rings(t)

    def flush_rings(self):
        """Write the unfinished last pages of ring and frames, zero-padded, so that the files hold every closed row; 0 or errno."""
        return flush_rings(&self.t)

    def move_tail(self, uint64_t row, uint64_t offset):
        """Rows below `row` may be read no more."""
        lock_live(&self.t)
        self.t.live.tail_row = row
        self.t.live.tail_offset = offset
        unlock_live(&self.t)

    def set_log_bytes(self, uint64_t count):
        """The log is valid up to `count`."""
        wr_store(&self.t.live.log_bytes, count)

    def row(self, uint64_t number):
        """The 64 bytes of a closed row that the live file still holds, else None. Any thread (the caller checks the row's CRC)."""
        if number >= self.t.next_row or self.t.next_row - number > LIVE_ROWS:
            return None
        return PyBytes_FromStringAndSize(<char*>live_row(&self.t, number), 64)

    def open_row(self):
        """The 64 bytes of the open row as the live file shows it, None if none is open."""
        return PyBytes_FromStringAndSize(<char*>&self.t.live.open_row, 64) if self.t.row.aus else None

    def live_bytes(self, uint64_t start, uint64_t stop):
        """Entry bytes [start, stop) out of the live file, None if it does not hold them (any more). Any thread."""
        cdef bytes out
        cdef uint64_t i
        cdef char* p
        if stop < start or stop > self.t.entries_end or self.t.entries_end - start > LIVE_ENTRIES // 2:
            return None
        out = PyBytes_FromStringAndSize(NULL, stop - start)
        p = PyBytes_AS_STRING(out)
        for i in range(stop - start):
            p[i] = <char>live_entries(&self.t)[(start + i) & (LIVE_ENTRIES - 1)]
        return out if self.t.entries_end - start <= LIVE_ENTRIES // 2 else None     # a stage is half of the other half: nothing was lapped

    def began(self, uint64_t number):
        """The queue's AU with which row `number` began, None if that is not known. Any thread."""
        cdef began_t* began = &self.t.began[number & <uint64_t>(LIVE_ROWS - 1)]
        cdef uint64_t au
        if wr_load(&began.row) != number:
            return None
        au = began.au
        return au if wr_load(&began.row) == number else None

    def hold(self, uint64_t number):
        """AUs from `number` (of the queue) on wait for a command. The producer's thread, under the command lock."""
        wr_store(&self.t.limit, number)

    def unhold(self):
        """No command waits."""
        wr_store(&self.t.limit, none())

    @property
    def au_head(self):
        """AUs that the producer has completed."""
        return wr_load(&self.t.q.au_head)

    @property
    def waiting_share(self):
        """How full the queue is: the larger of its share of bytes and of AUs."""
        cdef queue_t* q = self.t.q
        cdef double a = <double>(q.write_pos - wr_load(&q.free_pos)) / <double>q.capacity
        cdef double b = <double>(wr_load(&q.au_head) - wr_load(&q.au_tail)) / <double>(q.au_mask + 1)
        return a if a > b else b

    @property
    def taken(self):
        return self.t.taken

    @property
    def next_row(self):
        return self.t.next_row

    @property
    def ring_rows(self):
        return self.t.ring_rows

    @property
    def frames_end(self):
        return self.t.frames_end

    @property
    def entries_end(self):
        return self.t.entries_end

    @property
    def tape_end(self):
        """Tape offset after the newest visible byte."""
        return self.t.live.visible_offset

    @property
    def durable(self):
        """(tape offset, row) below which everything is durable. Any thread."""
        return wr_load(&self.t.live.durable_offset), wr_load(&self.t.live.durable_row)

    @property
    def marking(self):
        """Descriptor of the chunk whose index the commit under way may yet write; -1: none. Any thread."""
        return self.t.pend_fd if self.t.pend else -1

    @property
    def end_ns(self):
        """UTC end of the newest row (the open one as far as known) or gap. Any thread."""
        if self.t.row.aus:
            return self.t.end_wall if self.t.end_wall > self.t.end_ns else self.t.end_ns
        return self.t.end_ns

    @property
    def session(self):
        return self.t.session

    @property
    def has_open_row(self):
        return self.t.row.aus != 0

    @property
    def gap_open(self):
        return self.t.gap_open != 0

    @property
    def provisional_row(self):
        return self.t.provisional_row

    @property
    def used(self):
        """Tape bytes in the open chunk."""
        return self.t.used

    @property
    def fd(self):
        return self.t.fd

    @property
    def direct_fd(self):
        """The open chunk past the page cache, -1: none (any more)."""
        return self.t.direct_fd

    @property
    def tail_row(self):
        return self.t.live.tail_row

    @property
    def tail_offset(self):
        return self.t.live.tail_offset

    @property
    def counts(self):
        """(AUs kept, bytes kept, damaged AUs, AUs not kept). Any thread."""
        return self.t.aus, self.t.bytes, self.t.damaged, self.t.skipped
