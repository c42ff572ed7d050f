"""The queue of access units between one source and the tape (see auqueue.pxd for the protocol between its two threads)."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from recorder._ext.crc32c cimport wr_crc32c, wr_crc_setup

wr_crc_setup()

cdef extern from * nogil:
    """
    #define _GNU_SOURCE
    #include <sys/mman.h>
    #include <unistd.h>
    /* size bytes of fresh memory, visible twice in a row; NULL with errno on failure */
    static unsigned char *wr_mirror(size_t size) {
        unsigned char *p;
        int fd = memfd_create("watchroom-au", MFD_CLOEXEC);
        if (fd < 0) return NULL;
        if (ftruncate(fd, (off_t)size) != 0) { close(fd); return NULL; }
        p = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) { close(fd); return NULL; }
        if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
            mmap(p + size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
            munmap(p, 2 * size); close(fd); return NULL;
        }
        close(fd);
        return p;
    }
    static void wr_unmirror(unsigned char *p, size_t size) { munmap(p, 2 * size); }
    """
    unsigned char* wr_mirror(size_t size)
    void wr_unmirror(unsigned char* p, size_t size)


cdef class AuQueue:
    """A bounded queue of access units.

    `capacity`: bytes, a power of two of at least 4096. `max_aus`: AUs waiting, a power of two. Raises ValueError for other sizes and
    MemoryError when the memory cannot be had. One thread may produce, one other may consume.
    """

    def __cinit__(self, uint64_t capacity, uint64_t max_aus=512):
        memset(&self.q, 0, sizeof(queue_t))
        if capacity < 4096 or capacity & (capacity - 1) or max_aus == 0 or max_aus & (max_aus - 1):
            raise ValueError(f"capacity {capacity} and max_aus {max_aus} must be powers of two, capacity at least 4096")
        self.q.base = wr_mirror(capacity)
        self.q.aus = <au_t*>calloc(max_aus, sizeof(au_t))
        if self.q.base is NULL or self.q.aus is NULL:
            raise MemoryError(f"no memory for a queue of {capacity} bytes")
        self.q.capacity = capacity
        self.q.mask = capacity - 1
        self.q.au_mask = max_aus - 1

    def __dealloc__(self):
        if self.q.base is not NULL:
            wr_unmirror(self.q.base, self.q.capacity)
        free(self.q.aus)

    def append(self, const unsigned char[::1] data not None, int64_t pts, int64_t dts, int64_t wall_ns, int64_t recv_ns,
               uint32_t session, uint16_t format=1, uint8_t flags=0, uint8_t gap=0, uint32_t dur=0):
        """Append one AU (tests and source processes; the drain does this in C). False, and counted, if there is no room."""
        cdef au_t au
        cdef uint64_t n = data.shape[0]
        if n == 0:
            raise ValueError("an access unit has at least one byte")
        if not queue_put(&self.q, &data[0], n):
            self.q.dropped_aus += 1
            self.q.dropped_bytes += n
            return False
        au.pts = pts
        au.dts = dts
        au.wall_ns = wall_ns
        au.recv_ns = recv_ns
        au.session = session
        au.format = format
        au.flags = flags
        au.gap = gap
        au.dur = dur
        queue_commit(&self.q, &au)
        return True

    def take(self, uint64_t limit=1 << 20):
        """Take up to `limit` AUs as a list of (dict of au_t's fields, bytes); for tests and tools, not for the writer."""
        cdef list out = []
        cdef au_t* au
        cdef uint64_t head = wr_load(&self.q.au_head)
        while self.q.au_tail < head and limit:
            au = &self.q.aus[self.q.au_tail & self.q.au_mask]
            out.append((au[0], PyBytes_FromStringAndSize(<char*>queue_at(&self.q, au.pos), au.nbytes)))
            wr_store(&self.q.free_pos, au.pos + au.nbytes)
            wr_store(&self.q.au_tail, self.q.au_tail + 1)
            limit -= 1
        return out

    def rewind(self, uint64_t number):
        """Take the queue away from its consumer; the next one begins at AU `number` or, if that is not there whole any more (or its time was a
        first guess), at the first behind it that is. Returns its number. The producer's thread, or while there is no producer.

        The consumer before may be in the midst of reading, or writing to a disk, what it has taken: it cannot publish that any more.
        """
        cdef queue_t* q = &self.q
        cdef uint64_t head = q.au_head, first
        with nogil:
            wr_lock(&q.turn)
            q.owner = NULL
            wr_store(&q.turn, 0)
            first = q.au_tail
            while first > number and first > 1 and head - first < q.au_mask and self.is_whole(first - 1):
                first -= 1
            if first < q.au_tail:
                q.rewound = first
                q.rewound_crc = q.aus[(first - 1) & q.au_mask].crc
                wr_store(&q.free_pos, q.aus[first & q.au_mask].pos)
                wr_store(&q.au_tail, first)
        return first

    cdef bint is_whole(self, uint64_t number) noexcept nogil:
        """Whether a taken AU is still in the queue to the last byte; the one before it too has its entry."""
        cdef queue_t* q = &self.q
        cdef au_t* au = &q.aus[number & q.au_mask]
        if au.flags & AU_PROVISIONAL or au.pos + q.capacity < q.write_pos:
            return False
        return wr_crc32c(q.aus[(number - 1) & q.au_mask].crc, queue_at(q, au.pos), au.nbytes) == au.crc

    @property
    def capacity(self):
        return self.q.capacity

    @property
    def max_aus(self):
        """AUs that may wait at most."""
        return self.q.au_mask + 1

    @property
    def waiting_aus(self):
        """AUs completed and not yet taken."""
        return wr_load(&self.q.au_head) - wr_load(&self.q.au_tail)

    @property
    def waiting_bytes(self):
        """Bytes that are not free for the producer yet."""
        return self.q.write_pos - wr_load(&self.q.free_pos)

    @property
    def watched(self):
        """Somebody watches: the producer is asked for AUs at every tick. The consumer says so."""
        return wr_load(&self.q.watched) != 0

    @watched.setter
    def watched(self, bint value):
        wr_store(&self.q.watched, value)

    @property
    def dropped_aus(self):
        return self.q.dropped_aus

    @property
    def dropped_bytes(self):
        return self.q.dropped_bytes

    @property
    def dropping_since_ns(self):
        """CLOCK_MONOTONIC of the first AU of the drop that goes on now, 0 when none does."""
        return self.q.dropping_since_ns
