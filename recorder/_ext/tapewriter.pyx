"""The writer's hot path: access units out of the queues, into chunk files, rows, entries and the live file. No Python object per AU.

One thread (the writer's) calls everything here, except `WriterPass.mark`, which the commit thread calls while the writer builds no record.
A track that meets something rare (a new session or format, a gap, a full chunk, a command) stops there; the pass hands it back with a code
and Python decides. Bounds: a pass stages at most STAGED_ROWS rows and STAGED_ENTRIES bytes of entries before it flushes; an entry is at most
ENTRY_MAX bytes; the live file's windows are larger than what may wait for the journal (`held`).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, ENOMEM, EOPNOTSUPP, ESTALE, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

from recorder._ext.auqueue cimport (
    AU_DAMAGED, AU_DISCONTINUITY, AU_KEY, AU_LEADING, AU_PROVISIONAL, AuQueue, au_t, queue_at, queue_own, queue_publish, queue_t, wr_load,
    wr_store)
from recorder._ext.crc32c cimport wr_crc32c, wr_crc_range, wr_crc_setup

wr_crc_setup()

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <sys/uio.h>
    #include <unistd.h>
    static const unsigned char wr_zeros[4096];
    /* All of three pieces at `at`: 0, or errno. A short write is continued. */
    static int wr_write_all(int fd, const unsigned char *a, size_t na, const unsigned char *b, size_t nb, size_t nz, off_t at) {
        struct iovec v[3] = {{(void *)a, na}, {(void *)b, nb}, {(void *)wr_zeros, nz}};
        size_t left = na + nb + nz;
        int i = 0;
        while (left) {
            while (v[i].iov_len == 0) i++;
            ssize_t n = pwritev(fd, v + i, 3 - i, at);
            if (n < 0) { if (errno == EINTR) continue; return errno; }
            if (n == 0) return EIO;
            left -= (size_t)n; at += n;
            while (n) {
                size_t k = (size_t)n < v[i].iov_len ? (size_t)n : v[i].iov_len;
                v[i].iov_base = (char *)v[i].iov_base + k; v[i].iov_len -= k; n -= (ssize_t)k;
                if (v[i].iov_len == 0 && n) i++;
            }
        }
        return 0;
    }
    #define wr_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define wr_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    """
    int wr_write_all(int fd, const unsigned char* a, size_t na, const unsigned char* b, size_t nb, size_t nz, int64_t at)
    void wr_fence()
    void wr_relaxed(uint64_t* p, uint64_t v)

cdef extern from "directwrite.h" nogil:
    wr_direct* wr_direct_new()
    void wr_direct_free(wr_direct* d)
    uint32_t wr_direct_add(wr_direct* d, int fd, unsigned char* tail, size_t prefix, const unsigned char* run, size_t size, int64_t at)
    void wr_direct_run(wr_direct* d)
    enum: WR_DIRECT

cdef enum:
    PAGE = 4096
    DIRECT_LEAST = 16 << 10     # bytes of a run from which a track goes past the page cache
    ROW_OPEN = 1
    ROW_CONTINUED = 2
    ROW_DAMAGED = 4
    ROW_DISCONTINUITY = 8
    ROW_PROVISIONAL = 16
    ROW_MAX_S = 10
    ROW_MAX_BYTES = 4 << 20
    ROW_MAX_AUS = 1024
    ROW_MAX_ENTRIES = 8 << 10
    FOOTER_PER_ROW = 96
    FOOTER_ROOM = 2048          # kept free for items that come late
    LIVE_ROWS = 128
    LIVE_ENTRIES = 16 << 10
    LIVE_ROWS_AT = 4096
    LIVE_ENTRIES_AT = 4096 + 128 * 64
    HELD_ROWS = 88              # rows and entry bytes that may wait for the journal; the live windows are larger by a stage and more
    HELD_ENTRIES = 11 << 10
    PROVISIONAL_ROWS = 24
    LEFT_MAX_NS = 100000000     # an AU so old is not left in the queue for the sake of whole pages

cdef enum:
    DONE = 0
    MORE = 1
    HELD = 2
    NEED_SESSION = 3
    NEED_FORMAT = 4
    NEED_GAP_CLOSE = 5
    NEED_GAP = 6
    NEED_CHUNK = 7
    NEED_ROOM = 8
    NEED_COMMAND = 9
    NEED_PUBLISH = 10

SESSION, FORMAT, GAP_CLOSE, GAP, CHUNK, ROOM, COMMAND, PUBLISH = (
    NEED_SESSION, NEED_FORMAT, NEED_GAP_CLOSE, NEED_GAP, NEED_CHUNK, NEED_ROOM, NEED_COMMAND, NEED_PUBLISH)

cdef uint64_t NONE = <uint64_t>-1

assert sizeof(row_t) == 64 and sizeof(live_t) == 232 and WR_DIRECT == 64      # the pxd's sizes


cdef inline row_t* live_row(track_t* t, uint64_t number) noexcept nogil:
    return <row_t*>(<uint8_t*>t.live + <size_t>LIVE_ROWS_AT) + (number & <uint64_t>(LIVE_ROWS - 1))


cdef inline uint8_t* live_entries(track_t* t) noexcept nogil:
    return <uint8_t*>t.live + <size_t>LIVE_ENTRIES_AT


cdef inline uint32_t row_crc(const row_t* row, uint64_t number) noexcept nogil:
    return wr_crc32c(wr_crc32c(0, &number, 8), row, 60)


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
        if t.provisional_row == NONE:
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


cdef inline void pass_by(track_t* t, const au_t* au) noexcept nogil:
    """The AU is behind us, kept or not."""
    t.last_crc = au.crc
    t.free_pos = au.pos + au.nbytes
    t.taken += 1


cdef int admit(track_t* t, const au_t* au) noexcept nogil:
    """DONE if the AU may be taken, MORE if it has been skipped, or what is needed first."""
    if au.session != t.au_session:
        return NEED_SESSION
    if t.entry == 0 or au.format != t.format:
        return NEED_FORMAT
    if t.waiting:
        if not au.flags & AU_KEY or au.flags & AU_DAMAGED:
            t.skipped += 1
            pass_by(t, au)
            return MORE
        if t.gap_open:
            return NEED_GAP_CLOSE
        t.waiting = 0
    if au.gap and t.row.aus:
        return NEED_GAP
    if au.nbytes > t.tape_bytes:
        return NEED_ROOM
    if (t.fd < 0 or t.close_chunk or t.used + t.run_bytes + au.nbytes > t.tape_bytes
            or t.footer_used + t.items_bytes + 2 * FOOTER_PER_ROW + ENTRY_MAX + FOOTER_ROOM > t.footer_bytes):
        return NEED_CHUNK
    return DONE


cdef int held(track_t* t) noexcept nogil:
    """Whether the journal is so far behind that the live windows would be lapped before it has read them."""
    return (t.next_row + t.staged_rows - t.journal_row >= HELD_ROWS
            or t.entries_end + t.entry_bytes - t.journal_entries >= HELD_ENTRIES)


cdef uint64_t page_limit(track_t* t, uint64_t now_mono_ns) noexcept nogil:
    """Position in the queue, on a page's border of the tape too, above which no AU needs to end yet; NONE: all must be taken.

    So no page is written twice: what fills the last page is there already, and its AU is young.
    """
    cdef uint64_t head = wr_load(&t.q.au_head), limit, i
    cdef au_t* au
    if t.direct_fd < 0 or not t.direct or t.q.watched or t.taken == head or wr_load(&t.limit) != NONE:
        return NONE
    if (t.q.aus[t.taken & t.q.au_mask].pos ^ t.used) & (PAGE - 1):
        return NONE
    i = head - 1
    au = &t.q.aus[i & t.q.au_mask]
    limit = (au.pos + au.nbytes) & ~<uint64_t>(PAGE - 1)
    while i > t.taken:
        au = &t.q.aus[(i - 1) & t.q.au_mask]
        if au.pos + au.nbytes <= limit:
            break
        i -= 1
    au = &t.q.aus[i & t.q.au_mask]
    return NONE if au.recv_ns + <int64_t>LEFT_MAX_NS < <int64_t>now_mono_ns else limit


cdef int stage(track_t* t, uint64_t below) noexcept nogil:
    """Take AUs that end at or below position `below` of the queue, until there are none, something is needed, or the stage is full (MORE)."""
    cdef uint64_t head = wr_load(&t.q.au_head)     # before the limit: a command's limit is stored before the AUs after it are published
    cdef uint64_t limit = wr_load(&t.limit)
    cdef au_t* au
    cdef int code, how
    while t.taken < head and t.taken < limit:
        if t.staged_rows + 1 >= STAGED_ROWS or t.entry_bytes + ENTRY_MAX > STAGED_ENTRIES:
            return MORE
        if held(t):
            return HELD
        if t.provisional_row != NONE and t.next_row + t.staged_rows - t.provisional_row >= PROVISIONAL_ROWS:
            return NEED_PUBLISH
        au = &t.q.aus[t.taken & t.q.au_mask]
        if au.pos + au.nbytes > below:
            return DONE
        code = admit(t, au)
        if code == MORE:
            continue
        if code != DONE:
            return code
        how = cut(t, au) if t.row.aus else 1
        if how:
            if t.row.aus:
                close_row(t, au if how == 1 else NULL)
            start_row(t, au, how == 2 or au.flags & AU_DISCONTINUITY)
            t.force_cut = 0
        add_au(t, au)
        pass_by(t, au)
    return NEED_COMMAND if t.taken >= limit else DONE


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


cdef inline void lock_live(track_t* t) noexcept nogil:
    wr_relaxed(&t.live.seq, t.live.seq + 1)
    wr_fence()


cdef inline void unlock_live(track_t* t) noexcept nogil:
    wr_store(&t.live.seq, t.live.seq + 1)


cdef void show_open(track_t* t) noexcept nogil:
    """The open row into the live block (locked)."""
    cdef live_t* live = t.live
    live.is_open = 1 if t.row.aus else 0
    if t.row.aus:
        measure(t, &t.row)
        live.open_row = t.row
        live.open_row.crc = row_crc(&t.row, t.next_row)
        live.visible_end_ns = t.row.t_ns + <int64_t>t.row.wall_dur_us * 1000
    else:
        live.visible_end_ns = t.end_ns
    live.session = t.session
    live.provisional_from = 0 if t.provisional_row >= t.next_row else <uint32_t>(t.next_row - t.provisional_row)


cdef void show(track_t* t) noexcept nogil:
    """Staged rows and entries into the live file: rows and entries first, then the numbers that make them count."""
    cdef live_t* live = t.live
    cdef uint32_t i, at, first
    lock_live(t)
    for i in range(t.staged_rows):
        live_row(t, t.next_row + i)[0] = t.staged[i]
    at = t.entries_end & (LIVE_ENTRIES - 1)
    first = t.entry_bytes if t.entry_bytes <= LIVE_ENTRIES - at else LIVE_ENTRIES - at
    memcpy(live_entries(t) + at, t.entries, first)
    memcpy(live_entries(t), t.entries + first, t.entry_bytes - first)
    wr_fence()
    t.next_row += t.staged_rows
    t.entries_end += t.entry_bytes
    live.next_row = t.next_row
    live.entries_end = t.entries_end
    live.visible_offset = t.base + t.used
    live.visible_recv_ns = t.recv_ns
    show_open(t)
    unlock_live(t)
    t.staged_rows = 0
    t.entry_bytes = 0
    t.touched = 0
    t.dirty = 1


cdef int write_rings(track_t* t) noexcept nogil:
    """Whole pages of closed, published rows and of entries go to their files; 0 or errno."""
    cdef int failed
    while t.next_row - t.ring_rows >= 64 and t.provisional_row >= t.ring_rows + 64:
        failed = wr_write_all(t.ring_fd, <unsigned char*>live_row(t, t.ring_rows), PAGE, NULL, 0, 0,
                              <int64_t>(PAGE + (t.ring_rows % t.ring_capacity) * 64))
        if failed:
            return failed
        t.ring_rows += 64
        t.wrote_index += PAGE
        wr_store(&t.live.ring_rows, t.ring_rows)
    while t.entries_end - t.frames_end >= PAGE:
        failed = wr_write_all(t.frames_fd, live_entries(t) + (t.frames_end & (LIVE_ENTRIES - 1)), PAGE, NULL, 0, 0,
                              <int64_t>(PAGE + t.frames_end % t.frames_capacity))
        if failed:
            return failed
        t.frames_end += PAGE
        t.wrote_index += PAGE
        wr_store(&t.live.frames_end, t.frames_end)
    return 0


cdef int flush(track_t* t) noexcept nogil:
    """Bytes to the chunk, then what they mean; 0 or errno."""
    cdef int failed = write_run(t)
    return failed if failed else tell(t)


cdef int tell(track_t* t) noexcept nogil:
    """The bytes are written: rows and entries to the live file, then the queue's room back to its producer; 0 or errno.

    ESTALE: the queue has been taken away meanwhile (the disk has failed), so the bytes may not be what was meant to be written."""
    cdef int failed
    if t.q.owner != t:
        return ESTALE
    if t.touched:
        show(t)
        failed = write_rings(t)
        if failed:
            return failed
    if t.taken != t.q.au_tail or t.free_pos > t.q.free_pos:
        return 0 if queue_publish(t.q, t, t.taken, t.free_pos) else ESTALE
    return 0


cdef int pass_track(track_t* t) noexcept nogil:
    """Take what the queue holds; DONE, HELD, what is needed, or -errno."""
    cdef int code, failed
    while True:
        code = stage(t, NONE)
        failed = flush(t)
        if failed:
            return -failed
        if code != MORE:
            return code


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
        self.t.limit = NONE
        self.t.provisional_row = NONE
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
        if t.provisional_row == NONE:
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
        t.provisional_row = NONE
        show_open(t)
        unlock_live(t)
        t.dirty = 1
        return shift_ns, write_rings(t)

    def flush_rings(self):
        """Write the unfinished last pages of ring and frames, zero-padded, so that the files hold every closed row; 0 or errno."""
        cdef track_t* t = &self.t
        cdef uint64_t rows = t.next_row - t.ring_rows, tail = t.entries_end - t.frames_end
        cdef int failed = 0
        if rows:
            failed = wr_write_all(t.ring_fd, <unsigned char*>live_row(t, t.ring_rows), rows * 64, NULL, 0, PAGE - rows * 64,
                                  <int64_t>(PAGE + (t.ring_rows % t.ring_capacity) * 64)) if rows < 64 else 0
        if tail and not failed:
            failed = wr_write_all(t.frames_fd, live_entries(t) + (t.frames_end & (LIVE_ENTRIES - 1)), tail, NULL, 0, PAGE - tail,
                                  <int64_t>(PAGE + t.frames_end % t.frames_capacity)) if tail < PAGE else 0
        return failed

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
        wr_store(&self.t.limit, NONE)

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


cdef class WriterPass:
    """The pass over all tracks, and what it leaves for a commit."""

    def __cinit__(self):
        self.cores = []
        self.count = self.room = 0
        self.tracks = NULL
        self.wanted = NULL
        self.codes = NULL
        self.batch = NULL
        self.batch_tried = False

    def __dealloc__(self):
        wr_direct_free(self.batch)
        free(self.tracks)
        free(self.wanted)
        free(self.codes)

    def set_cores(self, list cores not None):
        """The tracks to pass over, in this order. Not while a commit is under way."""
        cdef uint32_t n = len(cores), i
        cdef TapeCore core
        cdef void* a = realloc(self.tracks, (n + 1) * sizeof(track_t*))
        if a is NULL:
            raise MemoryError("no memory for the tracks of a slot")
        self.tracks = <track_t**>a
        a = realloc(self.wanted, (n + 1) * sizeof(uint32_t))
        if a is NULL:
            raise MemoryError("no memory for the tracks of a slot")
        self.wanted = <uint32_t*>a
        a = realloc(self.codes, (n + 1) * sizeof(int))
        if a is NULL:
            raise MemoryError("no memory for the tracks of a slot")
        self.codes = <int*>a
        for i in range(n):
            core = cores[i]
            self.tracks[i] = &core.t
        self.count = n
        self.cores = list(cores)

    def run(self, uint64_t now_mono_ns, uint32_t gather, bint all, bint leave=False):
        """Take from every queue whose turn it is: not taken from in the last `gather` - 1 passes, or somebody watches, or `all`.

        `leave`: AUs younger than LEFT_MAX_NS may stay behind, where otherwise their last page would have to be written twice.

        Returns a list of (core, code) for the tracks that need something: a code of this module, or -errno of a failed write.
        """
        cdef uint32_t i
        cdef int code, failed
        cdef track_t* t
        cdef uint64_t watched, below
        cdef list out = []
        if not self.batch_tried:
            self.batch_tried = True
            self.batch = wr_direct_new()
        with nogil:
            self.needing = 0
            for i in range(self.count):
                t = self.tracks[i]
                watched = wr_load(t.lease) > now_mono_ns
                if watched != t.q.watched:
                    wr_store(&t.q.watched, watched)
                t.age += 1
                if t.age < gather and not all and not watched:
                    continue
                t.age = 0
                if t.taken == wr_load(&t.q.au_head) and t.taken < wr_load(&t.limit):
                    continue
                below = page_limit(t, now_mono_ns) if leave and self.batch is not NULL else NONE
                code = stage(t, below)
                if self.batch is not NULL and may_go_direct(t):
                    failed = self.set_out(i, code, -(t.used + t.run_bytes) & (PAGE - 1) if below != NONE and code == DONE else 0)
                else:
                    failed = flush(t)
                    self.need(i, -failed if failed else pass_track(t) if code == MORE else code)
            if self.batch is not NULL and self.batch.count:
                self.let_out()
        for i in range(self.needing):
            out.append((self.cores[self.wanted[i]], self.codes[i]))
        return out

    cdef void need(self, uint32_t i, int code) noexcept nogil:
        """Note what track `i` needs, if it needs anything."""
        if code != DONE and code != HELD:
            self.wanted[self.needing] = i
            self.codes[self.needing] = code
            self.needing += 1

    cdef int set_out(self, uint32_t i, int code, uint64_t fill) noexcept nogil:
        """Put the staged run of track `i`, and `fill` bytes of the AU behind it, into the batch, without what the disk has already."""
        cdef track_t* t = self.tracks[i]
        cdef uint64_t known = t.ahead if t.run_pos == t.ahead_pos else 0, size = t.run_bytes + fill, prefix = t.used & (PAGE - 1)
        cdef uint32_t k
        cdef int failed
        if size <= known:
            land(t, known - t.run_bytes)
            failed = tell(t)
            self.need(i, -failed if failed else pass_track(t) if code == MORE else code)
            return failed
        if known:
            k = wr_direct_add(self.batch, t.direct_fd, NULL, 0, t.run + known, size - known, <int64_t>(PAGE + t.used + known))
        else:
            k = wr_direct_add(self.batch, t.direct_fd, t.tail, prefix, t.run, size, <int64_t>(PAGE + t.used - prefix))
        self.batched[k] = i
        self.batched_codes[k] = code
        self.batched_fill[k] = fill
        if k + 1 == WR_DIRECT:
            self.let_out()
        return 0

    cdef void let_out(self) noexcept nogil:
        """Write the batch and make it count."""
        cdef uint32_t k, n = self.batch.count
        cdef int code, failed
        cdef track_t* t
        wr_direct_run(self.batch)
        for k in range(n):
            t = self.tracks[self.batched[k]]
            code = self.batched_codes[k]
            failed = take_direct(t, self.batch, k, self.batched_fill[k])
            if not failed:
                failed = tell(t)
            self.need(self.batched[k], -failed if failed else pass_track(t) if code == MORE else code)

    @property
    def written(self):
        """Bytes written so far, in whole pages, by kind: tape, ring and frames, marks in shard indexes. Any thread; about right."""
        cdef uint64_t tape = 0, index = 0
        cdef uint32_t i
        for i in range(self.count):
            tape += self.tracks[i].wrote_tape
            index += self.tracks[i].wrote_index
        return {"tape": tape, "ring and frames": index, "marks": self.wrote_marks}

    def grown(self):
        """The cores whose rows, entries or open row have changed since their last record."""
        cdef TapeCore core
        return [core for core in self.cores if (<TapeCore>core).t.dirty]

    def record(self, TapeCore core not None):
        """The core's ROW, OPEN_ROW and ENTRIES items since its last record; what they say will be durable after the commit under way."""
        cdef track_t* t = &core.t
        cdef uint64_t rows = t.next_row - t.journal_row, fresh = t.entries_end - t.journal_entries, i, at
        cdef uint64_t size = rows * 80 + (80 if t.row.aus else 0) + ((16 + fresh + 7) & ~<uint64_t>7 if fresh else 0)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
        cdef char* p = PyBytes_AS_STRING(out)
        cdef uint32_t full
        for i in range(t.journal_row, t.next_row):
            put_item(p, 1, 72, i)
            memcpy(p + 16, live_row(t, i), 64)
            p += 80
        if t.row.aus:
            put_item(p, 2, 72, t.next_row)
            memcpy(p + 16, &t.live.open_row, 64)
            p += 80
        if fresh:
            put_item(p, 3, <uint32_t>(8 + fresh), t.journal_entries)
            for i in range(fresh):
                p[16 + i] = <char>live_entries(t)[(t.journal_entries + i) & (LIVE_ENTRIES - 1)]
            memset(p + 16 + fresh, 0, (8 - (fresh & 7)) & 7)
        t.journal_row = t.next_row
        t.journal_entries = t.entries_end
        t.dirty = 0
        t.pend = 1
        t.pend_offset = t.base + t.used if t.fd >= 0 else t.live.visible_offset
        t.pend_row = t.next_row
        t.pend_fd = t.fd
        t.pend_marked = 0
        if t.fd >= 0:
            full = <uint32_t>(t.used // t.inner_bytes)
            if full > t.marked:
                t.pend_marked = t.marked = full
        return out

    def mark_live(self):
        """The commit under way is durable: move the marks in the live file. The commit thread."""
        cdef uint32_t i
        cdef track_t* t
        with nogil:
            for i in range(self.count):
                t = self.tracks[i]
                if t.pend:
                    wr_store(&t.live.durable_row, t.pend_row)
                    wr_store(&t.live.durable_offset, t.pend_offset)

    def mark_index(self):
        """Name the newly full inner chunks in the shard indexes; 0 or errno. The commit thread, after `mark_live`."""
        cdef uint32_t i, k
        cdef track_t* t
        cdef int failed = 0
        cdef uint64_t table[130]
        cdef uint32_t crc
        with nogil:
            for i in range(self.count):
                t = self.tracks[i]
                if t.pend and t.pend_marked:
                    for k in range(t.inner_count):
                        table[2 * k] = PAGE + k * t.inner_bytes if k < t.pend_marked else NONE
                        table[2 * k + 1] = t.inner_bytes if k < t.pend_marked else NONE
                    crc = wr_crc32c(0, table, 16 * t.inner_count)
                    memcpy(&table[2 * t.inner_count], &crc, 4)
                    failed = wr_write_all(t.pend_fd, <unsigned char*>table, 16 * t.inner_count + 4, NULL, 0, 0, 0)
                    if failed:
                        break
                    self.wrote_marks += PAGE
                t.pend = 0
        return failed


cdef void put_item(char* p, uint16_t kind, uint32_t size, uint64_t number) noexcept nogil:
    """An item's head (storage/items.py) and the number its body begins with."""
    cdef uint16_t version = 1
    memcpy(p, &kind, 2)
    memcpy(p + 2, &version, 2)
    memcpy(p + 4, &size, 4)
    memcpy(p + 8, &number, 8)
