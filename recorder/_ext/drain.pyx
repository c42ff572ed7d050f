"""The drain: one call receives from every camera's socket and leaves whole access units in the tracks' queues.

A wake-up costs more than all the work on a frame, so nothing waits for sockets: a timer calls `run` each 40 ms (measured: a third to a half of what an
event per read costs). The kernel's socket buffers hold what arrives in between. Half of what a read of one picture costs does not depend on its
size (the call, the acknowledgement that it sends, cold state), so a connection that nobody watches rests for some ticks, as long as what gathers
meanwhile is far less than its socket holds. Those that somebody watches have runs of their own in between, which cost the others a look.
The RTSP connection of a session whose media come over UDP says little: it is read at two ticks of eight.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from recorder._ext.auqueue cimport wr_load
from recorder._ext.aubuild cimport EVENT_DAMAGED_STREAM, EVENT_EOF, EVENT_ERROR
from recorder._ext.framing cimport BROKEN, TRACKS_MAX, Connection, conn_feed, conn_t
from recorder._ext.udp cimport UdpMedia, udp_drain, wr_batch, wr_batch_new

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
    ssize_t recv(int fd, void* buf, size_t n, int flags)


cdef enum:
    QUIET_TICKS = 8             # a session over UDP has its RTSP connection read at two ticks running of so many: it may rest at one of them


cdef void drain_one(slot_t* s, unsigned char* buf, size_t size, size_t budget, int64_t mono_ns, int64_t wall_offset_ns,
                    uint64_t* received) noexcept nogil:
    """Receive until the socket is empty or the budget is used up."""
    cdef ssize_t got
    cdef size_t left = budget
    while left:
        got = recv(s.fd, buf, size if size < left else left, MSG_DONTWAIT)
        if got > 0:
            s.events |= conn_feed(s.conn, buf, got, mono_ns, wall_offset_ns)
            received[0] += got
            if s.conn.state == BROKEN:
                break
            if <size_t>got < size:     # it was empty after that
                return
            left -= got
        elif got == 0:
            s.events |= EVENT_EOF
            break
        elif errno == EINTR:
            continue
        elif errno == EAGAIN:
            return
        else:
            s.conn.errno_ = errno
            s.events |= EVENT_ERROR
            break
    if s.events & (EVENT_EOF | EVENT_ERROR | EVENT_DAMAGED_STREAM):
        s.dead = 1


cdef int is_watched(slot_t* s) noexcept nogil:
    cdef int i
    for i in range(TRACKS_MAX):
        if s.conn.tracks[i] is not NULL and wr_load(&s.conn.tracks[i].au.q.watched):
            return 1
    for i in range(s.media_count):
        if wr_load(&s.media[i].track.au.q.watched):
            return 1
    return 0


cdef void drain_media(slot_t* s, wr_batch* batch, size_t budget, int64_t mono_ns, int64_t wall_offset_ns, uint64_t* received) noexcept nogil:
    """Receive what comes over UDP; each track has the budget to itself."""
    cdef int i
    for i in range(s.media_count):
        s.events |= udp_drain(s.media[i], batch, budget, mono_ns, wall_offset_ns, received)
    if s.events & EVENT_DAMAGED_STREAM and s.conn.state != BROKEN:
        s.conn.state = BROKEN
        s.conn.error = "a track had more than 255 formats in one session"
        s.dead = 1


cdef int runs_to_rest(uint64_t got, int runs, uint64_t rest_bytes, int rest_runs) noexcept nogil:
    """Runs that may pass a connection over that gave `got` bytes in `runs` of them: so many that it is expected to stay below rest_bytes."""
    cdef uint64_t more
    if got >= rest_bytes:
        return 0
    more = rest_bytes * runs // (got + 1)
    return 0 if more == 0 else rest_runs if more > <uint64_t>rest_runs else <int>(more - 1)


cdef class Drain:
    """Receives from a set of sockets in one go (see drain.pyi). All calls on one thread."""

    cdef slot_t* slots
    cdef size_t count
    cdef size_t room
    cdef unsigned char* buf
    cdef size_t size
    cdef size_t budget
    cdef size_t rest_bytes
    cdef int rest_runs
    cdef uint64_t received
    cdef bint running
    cdef list connections
    cdef list media             # tuples of UdpMedia, kept alive
    cdef wr_batch* batch        # made when the first of them comes
    cdef size_t tick
    cdef size_t seen            # connections watched at the last run

    def __cinit__(self, size_t buffer_bytes=262144, size_t budget_bytes=1048576, size_t rest_bytes=0, int rest_runs=1):
        if not 4096 <= buffer_bytes <= 1 << 26 or budget_bytes < buffer_bytes:
            raise ValueError("buffer_bytes must lie between 4096 and 64 MiB, budget_bytes at least as high")
        self.connections = []
        self.media = []
        self.size = buffer_bytes
        self.budget = budget_bytes
        self.rest_bytes = rest_bytes
        self.rest_runs = rest_runs if rest_bytes else 0
        self.buf = <unsigned char*>malloc(buffer_bytes)
        if self.buf is NULL:
            raise MemoryError(f"no memory for a buffer of {buffer_bytes} bytes")

    def __dealloc__(self):
        free(self.buf)
        free(self.batch)
        free(self.slots)

    cdef _idle(self):
        if self.running:
            raise RuntimeError("the drain runs on another thread")

    cdef _make_batch(self):
        if self.batch is NULL:
            self.batch = wr_batch_new()
            if self.batch is NULL:
                raise MemoryError("no memory to receive over UDP")

    def add(self, Connection connection not None, int fd, media=()):
        cdef slot_t* more
        cdef UdpMedia one
        self._idle()
        media = tuple(media)
        if connection in self.connections:
            raise ValueError("the connection is in the drain already")
        if len(media) > MEDIA_MAX:
            raise ValueError(f"a session carries at most {MEDIA_MAX} tracks")
        if media:
            self._make_batch()
        if self.count == self.room:
            more = <slot_t*>realloc(self.slots, (self.room + 64) * sizeof(slot_t))
            if more is NULL:
                raise MemoryError("no memory for another connection")
            self.slots = more
            self.room += 64
        self.slots[self.count].conn = &connection.c
        self.slots[self.count].fd = fd
        self.slots[self.count].dead = self.slots[self.count].events = 0
        self.slots[self.count].passed = 0
        self.slots[self.count].rest = self.count % (self.rest_runs + 1)      # they take turns
        self.slots[self.count].media_count = 0
        for one in media:
            self.slots[self.count].media[self.slots[self.count].media_count] = &one.u
            self.slots[self.count].media_count += 1
        self.connections.append(connection)
        self.media.append(media)
        self.count += 1

    def remove(self, Connection connection not None):
        cdef size_t i
        self._idle()
        for i in range(self.count):
            if self.slots[i].conn is &connection.c:
                self.count -= 1
                self.slots[i] = self.slots[self.count]
                self.connections[i] = self.connections[self.count]
                self.connections.pop()
                self.media[i] = self.media[self.count]
                self.media.pop()
                return

    def run(self, int64_t mono_ns, int64_t wall_offset_ns, bint watched=False):
        cdef size_t i
        cdef int any_events = 0, quick
        cdef uint64_t before
        cdef slot_t* s
        self._idle()
        self.running = True
        self.tick += not watched
        self.seen = 0
        with nogil:
            for i in range(self.count):
                s = &self.slots[i]
                s.events = 0
                if s.dead:
                    continue
                quick = is_watched(s)
                self.seen += quick
                if watched and not quick:
                    continue
                if s.rest and not quick:
                    s.rest -= 1
                    s.passed += 1
                    continue
                before = self.received
                drain_media(s, self.batch, self.budget, mono_ns, wall_offset_ns, &self.received)
                if not s.dead and (s.media_count == 0 or ((self.tick + i) % QUIET_TICKS < 2 and not watched)):
                    drain_one(s, self.buf, self.size, self.budget, mono_ns, wall_offset_ns, &self.received)
                if watched:
                    any_events |= s.events
                    continue
                s.rest = runs_to_rest(self.received - before, s.passed + 1, self.rest_bytes, 1 if s.media_count else self.rest_runs)
                s.passed = 0
                any_events |= s.events
        self.running = False
        if not any_events:
            return []
        return [(self.connections[i], self.slots[i].events) for i in range(self.count) if self.slots[i].events]

    def __len__(self):
        return self.count

    @property
    def watched(self):
        return self.seen

    @property
    def received_bytes(self):
        return self.received
