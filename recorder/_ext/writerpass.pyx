"""The pass of the writer's thread over all its tracks, and what it leaves for a commit. No Python object per AU.

The writer's thread calls everything here, except `mark_live` and `mark_index`, which the commit thread calls while the writer builds no
record.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from recorder._ext.auqueue cimport wr_load, wr_store
from recorder._ext.crc32c cimport wr_crc32c, wr_crc_setup
from recorder._ext.tapepages cimport land, may_go_direct, take_direct
from recorder._ext.taperow cimport LIVE_ENTRIES, PAGE, live_entries, live_row, none, track_t
from recorder._ext.tapeshow cimport flush, pass_track, tell
from recorder._ext.tapestage cimport DONE, HELD, MORE, page_limit, stage
from recorder._ext.tapewriter cimport TapeCore
from recorder._ext.writeall cimport wr_write_all

cdef extern from "directwrite.h" nogil:
    wr_direct* wr_direct_new()
    void wr_direct_free(wr_direct* d)
    uint32_t wr_direct_add(wr_direct* d, int fd, unsigned char* tail, size_t prefix, const unsigned char* run, size_t size, int64_t at)
    void wr_direct_run(wr_direct* d)
    enum: WR_DIRECT

wr_crc_setup()

assert WR_DIRECT == 64      # the pxd's size


cdef class WriterPass:
    """The pass over all tracks, and what it leaves for a commit."""

    def __cinit__(self):
        self.cores = []
        self.count = self.room = self.seen = 0
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

    def run(self, uint64_t now_mono_ns, uint32_t gather, bint all, bint leave=False, bint only_watched=False):
        """Take from every queue whose turn it is: not taken from in the last `gather` - 1 passes, or somebody watches, or `all`.

        `only_watched`: of watched tracks alone, and it is no pass for the others.
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
            self.needing = self.seen = 0
            for i in range(self.count):
                t = self.tracks[i]
                watched = wr_load(t.lease) > now_mono_ns
                if watched != t.q.watched:
                    wr_store(&t.q.watched, watched)
                self.seen += <uint32_t>watched
                if only_watched and not watched:
                    continue
                t.age += 1
                if t.age < gather and not all and not watched:
                    continue
                t.age = 0
                if t.taken == wr_load(&t.q.au_head) and t.taken < wr_load(&t.limit):
                    continue
                below = page_limit(t, now_mono_ns) if leave and self.batch is not NULL else none()
                code = stage(t, below)
                if self.batch is not NULL and may_go_direct(t):
                    failed = self.set_out(i, code, -(t.used + t.run_bytes) & (PAGE - 1) if below != none() and code == DONE else 0)
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

    @property
    def watched(self):
        """Tracks that somebody watched at the last run."""
        return self.seen

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
                        table[2 * k] = PAGE + k * t.inner_bytes if k < t.pend_marked else none()
                        table[2 * k + 1] = t.inner_bytes if k < t.pend_marked else none()
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
