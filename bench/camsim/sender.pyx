"""Sends the AUs that are due over interleaved RTSP connections (RFC 2326 10.12) or UDP: shared payloads, headers patched on the way.

One thread owns a Sender and everything below it. `run` holds no GIL while it sends. Nothing is copied but what a full socket leaves of a
packet: a stream's state is the number of its next AU and packet, from which sequence number and timestamp follow. Over UDP the packets of an AU
that are equally long leave in one call (UDP_SEGMENT), or one by one in a sendmmsg.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <netinet/in.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    /* bytes taken, 0 when the socket is full, -errno when it is dead */
    static long cs_send(int fd, struct iovec *iov, int n) {
        struct msghdr msg = {0};
        long sent;
        msg.msg_iov = iov;
        msg.msg_iovlen = (size_t)n;
        do sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL); while (sent < 0 && errno == EINTR);
        if (sent >= 0) return sent;
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -(long)errno;
    }
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    /* n packets of two iovecs each, as datagrams of `segment` bytes (the last may be shorter); packets taken: n or 0.
       ECONNREFUSED (nobody listens there) is as good as sent. */
    static int cs_send_segments(int fd, struct iovec *iov, int n, uint16_t segment) {
        _Alignas(8) char control[CMSG_SPACE(sizeof segment)] = {0};
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2 * (size_t)n};
        long sent;
        if (n > 1) {
            msg.msg_control = control;
            msg.msg_controllen = sizeof control;
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = IPPROTO_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof segment);
            memcpy(CMSG_DATA(c), &segment, sizeof segment);
        }
        do sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL); while (sent < 0 && (errno == EINTR || errno == ECONNREFUSED));
        return sent >= 0 ? n : 0;
    }
    /* the same, a datagram for each; packets taken */
    static int cs_send_each(int fd, struct iovec *iov, int n) {
        struct mmsghdr m[64];
        int sent;
        n = n < 64 ? n : 64;
        memset(m, 0, sizeof m[0] * (size_t)n);
        for (int i = 0; i < n; i++) {
            m[i].msg_hdr.msg_iov = iov + 2 * i;
            m[i].msg_hdr.msg_iovlen = 2;
        }
        do sent = sendmmsg(fd, m, (unsigned)n, MSG_DONTWAIT | MSG_NOSIGNAL); while (sent < 0 && (errno == EINTR || errno == ECONNREFUSED));
        return sent > 0 ? sent : 0;
    }
    """
    cdef struct iovec:
        void* iov_base
        size_t iov_len
    long cs_send(int fd, iovec* iov, int n)
    int cs_send_segments(int fd, iovec* iov, int n, uint16_t segment)
    int cs_send_each(int fd, iovec* iov, int n)

cdef enum:
    HEADER = 16             # '$', channel, length, RTP header
    BATCH = 256             # packets a system call
    SEGMENTS = 64           # packets that the kernel cuts one call's bytes into (UDP_MAX_SEGMENTS of older kernels)
    SEGMENT_BYTES = 64000   # all of them
    SEGMENT_MAX = 1452      # a longer one would be refused on Ethernet
    TAIL_BYTES = 65536      # what may wait behind a full socket: the rest of one packet, RTSP answers, RTCP
    STREAMS_MAX = 4         # of one connection
    DROPS_MAX = 256         # ranges of dropped AUs that are written down; more are only counted

cdef uint64_t DIGEST_FACTOR = 0x100000001b3

cdef struct media_t:
    const uint8_t* data
    const int64_t* offsets
    const uint8_t* marker
    const int32_t* first
    const int64_t* pts
    const int64_t* due
    const uint8_t* key
    const uint64_t* hashes
    const int64_t* au_offsets
    int64_t aus
    int64_t packets
    int64_t loop_ticks
    int64_t clock_rate
    uint8_t payload_type

cdef struct stream_t:
    media_t* media
    int64_t base_ns         # CLOCK_MONOTONIC of media time 0
    uint32_t ssrc
    uint32_t ts0
    uint16_t seq0
    uint8_t channel
    int udp                 # socket that is connected to the client, -1: interleaved
    int each                # no UDP_SEGMENT
    int64_t first           # AU the session began with
    int64_t index           # AU being sent
    int32_t packet          # its next packet, 0 .. n - 1
    int64_t due             # first AU that is not due yet
    int64_t jump_from       # AUs from here to jump_to are dropped; -1: none
    int64_t jump_to
    uint64_t sent_aus
    uint64_t sent_bytes     # as stored
    uint64_t sent_packets
    uint64_t sent_octets    # payload
    uint64_t dropped_aus
    uint64_t digest
    int drops
    int64_t drop_from[DROPS_MAX]
    int64_t drop_to[DROPS_MAX]

cdef struct conn_t:
    int fd
    int error               # errno that ended it
    int streams
    int64_t queue_bytes
    int tail                # bytes waiting in tail_data
    uint8_t* tail_data
    stream_t* stream[STREAMS_MAX]


cdef inline int64_t due_ns(stream_t* s, int64_t index) noexcept nogil:
    """CLOCK_MONOTONIC at which AU `index` leaves the camera."""
    cdef media_t* m = s.media
    cdef int64_t ticks = index // m.aus * m.loop_ticks + m.due[index % m.aus]
    return s.base_ns + ticks // m.clock_rate * 1000000000 + ticks % m.clock_rate * 1000000000 // m.clock_rate

cdef inline int64_t bytes_before(stream_t* s, int64_t index) noexcept nogil:
    """Bytes of all AUs before `index`, as stored."""
    cdef media_t* m = s.media
    return index // m.aus * m.au_offsets[m.aus] + m.au_offsets[index % m.aus]

cdef inline uint32_t timestamp(stream_t* s, int64_t index) noexcept nogil:
    cdef media_t* m = s.media
    return <uint32_t>(s.ts0 + <uint64_t>(index // m.aus * m.loop_ticks + m.pts[index % m.aus]))

cdef inline uint16_t sequence(stream_t* s, int64_t index, int32_t packet) noexcept nogil:
    """A dropped AU keeps its numbers, so a receiver can tell that something is missing."""
    cdef media_t* m = s.media
    return <uint16_t>(s.seq0 + <uint64_t>(index // m.aus * m.packets + m.first[index % m.aus] + packet))

cdef int64_t next_key(media_t* m, int64_t index) noexcept nogil:
    """The first access point at or after `index`; a clip has at least one."""
    while not m.key[index % m.aus]:
        index += 1
    return index

cdef void put_header(uint8_t* h, stream_t* s, int64_t index, int32_t packet) noexcept nogil:
    cdef media_t* m = s.media
    cdef int64_t p = m.first[index % m.aus] + packet
    cdef uint32_t length = <uint32_t>(m.offsets[p + 1] - m.offsets[p] + 12)
    cdef uint32_t ts = timestamp(s, index)
    cdef uint16_t seq = sequence(s, index, packet)
    h[0] = 0x24
    h[1] = s.channel
    h[2] = <uint8_t>(length >> 8)
    h[3] = <uint8_t>length
    h[4] = 0x80
    h[5] = <uint8_t>(m.marker[p] << 7 | m.payload_type)
    h[6] = <uint8_t>(seq >> 8)
    h[7] = <uint8_t>seq
    h[8] = <uint8_t>(ts >> 24)
    h[9] = <uint8_t>(ts >> 16)
    h[10] = <uint8_t>(ts >> 8)
    h[11] = <uint8_t>ts
    h[12] = <uint8_t>(s.ssrc >> 24)
    h[13] = <uint8_t>(s.ssrc >> 16)
    h[14] = <uint8_t>(s.ssrc >> 8)
    h[15] = <uint8_t>s.ssrc

cdef void finish_au(stream_t* s) noexcept nogil:
    """AU `index` has gone out whole (or waits in the tail)."""
    cdef media_t* m = s.media
    cdef int64_t i = s.index % m.aus
    s.sent_aus += 1
    s.sent_bytes += m.au_offsets[i + 1] - m.au_offsets[i]
    s.digest = s.digest * DIGEST_FACTOR + m.hashes[i]
    s.index += 1
    s.packet = 0
    if s.index == s.jump_from:
        note_drop(s, s.jump_from, s.jump_to)
        s.index = s.jump_to
        s.jump_from = -1

cdef void note_drop(stream_t* s, int64_t start, int64_t end) noexcept nogil:
    s.dropped_aus += end - start
    if s.drops and s.drop_to[s.drops - 1] == start:
        s.drop_to[s.drops - 1] = end
    elif s.drops < DROPS_MAX:
        s.drop_from[s.drops] = start
        s.drop_to[s.drops] = end
        s.drops += 1

cdef void drop_late(stream_t* s, int64_t limit) noexcept nogil:
    """The socket is full: when more than `limit` bytes wait, drop whole AUs up to the first access point that is not due yet."""
    cdef int64_t start = s.jump_to if s.jump_from >= 0 else s.index
    if s.due <= start or bytes_before(s, s.due) - bytes_before(s, start) <= limit:
        return
    if s.jump_from >= 0:
        s.jump_to = next_key(s.media, s.due)
    elif s.packet:
        s.jump_from, s.jump_to = s.index + 1, next_key(s.media, s.due)
    else:
        start = next_key(s.media, s.due)
        note_drop(s, s.index, start)
        s.index = start

cdef int flush_tail(conn_t* c) noexcept nogil:
    """1 when nothing waits any more."""
    cdef iovec iov
    cdef long sent
    if c.tail == 0:
        return 1
    iov.iov_base, iov.iov_len = c.tail_data, <size_t>c.tail
    sent = cs_send(c.fd, &iov, 1)
    if sent < 0:
        c.error = <int>-sent
        return 0
    c.tail -= <int>sent
    memmove(c.tail_data, c.tail_data + sent, <size_t>c.tail)
    return c.tail == 0

cdef int keep_rest(conn_t* c, iovec* iov, int n, long sent) noexcept nogil:
    """Packets (pairs of iovecs) that have begun to go out when only `sent` bytes were taken; the rest of the last of them goes to the tail."""
    cdef int i
    cdef long length
    for i in range(n):
        length = <long>(iov[2 * i].iov_len + iov[2 * i + 1].iov_len)
        if sent < length:
            break
        sent -= length
    else:
        return n
    if sent == 0:
        return i
    if sent < HEADER:
        memcpy(c.tail_data, <uint8_t*>iov[2 * i].iov_base + sent, <size_t>(HEADER - sent))
        c.tail = <int>(HEADER - sent)
        sent = HEADER
    memcpy(c.tail_data + c.tail, <uint8_t*>iov[2 * i + 1].iov_base + (sent - HEADER), <size_t>(length - sent))
    c.tail += <int>(length - sent)
    return i + 1

cdef int run_length(media_t* m, int64_t p, int most) noexcept nogil:
    """How many packets from p on may leave as one: equally long ones, and a shorter one at their end."""
    cdef int64_t size = m.offsets[p + 1] - m.offsets[p]
    cdef int64_t bytes_left = SEGMENT_BYTES - size
    cdef int64_t after
    cdef int n = 1
    if size + 12 > SEGMENT_MAX:
        return 1
    while n < most:
        after = m.offsets[p + n + 1] - m.offsets[p + n]
        if after > size or after + 12 > bytes_left:
            break
        bytes_left -= after + 12
        n += 1
        if after < size:
            break
    return n

cdef int send_au_udp(stream_t* s) noexcept nogil:
    """Send what is left of AU `index` as datagrams; 0 when the socket is full."""
    cdef uint8_t headers[SEGMENTS * HEADER]
    cdef iovec iov[2 * SEGMENTS]
    cdef media_t* m = s.media
    cdef int64_t i = s.index % m.aus, p
    cdef int32_t count = m.first[i + 1] - m.first[i]
    cdef int n, k, done
    while s.packet < count:
        p = m.first[i] + s.packet
        n = min(<int>(count - s.packet), SEGMENTS)
        if not s.each:
            n = run_length(m, p, n)
        for k in range(n):
            put_header(headers + k * HEADER, s, s.index, s.packet + k)
            iov[2 * k].iov_base, iov[2 * k].iov_len = headers + k * HEADER + 4, 12
            iov[2 * k + 1].iov_base, iov[2 * k + 1].iov_len = <void*>(m.data + m.offsets[p + k]), <size_t>(m.offsets[p + k + 1] - m.offsets[p + k])
        done = cs_send_each(s.udp, iov, n) if s.each else cs_send_segments(s.udp, iov, n, <uint16_t>(m.offsets[p + 1] - m.offsets[p] + 12))
        s.sent_packets += done
        s.sent_octets += m.offsets[p + done] - m.offsets[p]
        s.packet += done
        if done == 0:
            return 0
    finish_au(s)
    return 1

cdef int send_au(conn_t* c, stream_t* s) noexcept nogil:
    """Send what is left of AU `index`; 0 when the socket is full or dead."""
    cdef uint8_t headers[BATCH * HEADER]
    cdef iovec iov[2 * BATCH]
    cdef media_t* m = s.media
    cdef int64_t i = s.index % m.aus, p
    cdef int32_t count = m.first[i + 1] - m.first[i]
    cdef int n, k, done
    cdef long sent, total
    if s.udp >= 0:
        return send_au_udp(s)
    while s.packet < count:
        n = min(<int>(count - s.packet), BATCH)
        total = 0
        for k in range(n):
            p = m.first[i] + s.packet + k
            put_header(headers + k * HEADER, s, s.index, s.packet + k)
            iov[2 * k].iov_base, iov[2 * k].iov_len = headers + k * HEADER, HEADER
            iov[2 * k + 1].iov_base, iov[2 * k + 1].iov_len = <void*>(m.data + m.offsets[p]), <size_t>(m.offsets[p + 1] - m.offsets[p])
            total += <long>(HEADER + m.offsets[p + 1] - m.offsets[p])
        sent = cs_send(c.fd, iov, 2 * n)
        if sent < 0:
            c.error = <int>-sent
            return 0
        done = keep_rest(c, iov, n, sent)
        p = m.first[i] + s.packet
        s.sent_packets += done
        s.sent_octets += m.offsets[p + done] - m.offsets[p]
        s.packet += done
        if sent < total:
            if s.packet == count:
                finish_au(s)
            return 0
    finish_au(s)
    return 1

cdef stream_t* most_urgent(conn_t* c) noexcept nogil:
    """The stream whose next AU has been due for longest; NULL when none is due."""
    cdef stream_t* best = NULL
    cdef int k
    for k in range(c.streams):
        if c.stream[k].index < c.stream[k].due and (best is NULL or due_ns(c.stream[k], c.stream[k].index) < due_ns(best, best.index)):
            best = c.stream[k]
    return best

cdef void run_connection(conn_t* c, int64_t now_ns) noexcept nogil:
    cdef stream_t* s
    cdef int k
    for k in range(c.streams):
        s = c.stream[k]
        while due_ns(s, s.due) <= now_ns:
            s.due += 1
    s = most_urgent(c)
    if s is NULL and c.tail == 0:
        return
    if flush_tail(c):
        while s is not NULL and send_au(c, s):
            s = most_urgent(c)
        if s is NULL:
            return
    for k in range(c.streams):
        drop_late(c.stream[k], c.queue_bytes)


cdef class Media:
    """What all streams of a clip share. Keeps the arrays that it is given alive; they must not change."""
    cdef media_t m
    cdef object held

    def __cinit__(self, bytes data not None, const int64_t[::1] offsets not None, const uint8_t[::1] marker not None,
                  const int32_t[::1] first not None, const int64_t[::1] pts not None, const int64_t[::1] due not None,
                  const uint8_t[::1] key not None, const uint64_t[::1] hashes not None, const int64_t[::1] au_offsets not None,
                  int64_t loop_ticks, int64_t clock_rate, uint8_t payload_type):
        cdef int64_t aus = pts.shape[0], packets = marker.shape[0], i
        if not (aus > 0 and packets >= aus and offsets.shape[0] == packets + 1 and first.shape[0] == aus + 1 and due.shape[0] == aus
                and key.shape[0] == aus and hashes.shape[0] == aus and au_offsets.shape[0] == aus + 1):
            raise ValueError("the arrays of a clip do not fit together")
        if first[0] != 0 or first[aus] != packets or offsets[0] != 0 or offsets[packets] > PyBytes_GET_SIZE(data):
            raise ValueError("packets and AUs do not cover the clip")
        for i in range(packets):
            if not 0 < offsets[i + 1] - offsets[i] <= 65000 - HEADER:
                raise ValueError(f"packet {i} has {offsets[i + 1] - offsets[i]} bytes")
        for i in range(aus):
            if first[i + 1] <= first[i]:
                raise ValueError(f"AU {i} has no packet")
        if loop_ticks <= 0 or clock_rate <= 0 or not any(key):
            raise ValueError("a clip has a length, a clock and an access point")
        self.held = (data, offsets, marker, first, pts, due, key, hashes, au_offsets)
        self.m.data = <const uint8_t*>PyBytes_AS_STRING(data)
        self.m.offsets, self.m.marker, self.m.first = &offsets[0], &marker[0], &first[0]
        self.m.pts, self.m.due, self.m.key, self.m.hashes, self.m.au_offsets = &pts[0], &due[0], &key[0], &hashes[0], &au_offsets[0]
        self.m.aus, self.m.packets, self.m.loop_ticks, self.m.clock_rate, self.m.payload_type = \
            aus, packets, loop_ticks, clock_rate, payload_type


cdef class Stream:
    """One track on its way to one client."""
    cdef stream_t s
    cdef Media media

    def __cinit__(self, Media media not None, int64_t base_ns, int64_t now_ns, uint8_t channel, uint32_t ssrc, uint16_t seq0=0,
                  uint32_t ts0=0, bint start_at_key=False, *, int udp=-1, bint segments=True):
        """`udp`: a socket that is connected to the client's RTP port, instead of a channel; `segments`: by UDP_SEGMENT. `base_ns`: CLOCK_MONOTONIC of media time 0. `seq0`, `ts0`: numbers of packet and tick 0. The first AU is the first due after `now_ns`."""
        cdef int64_t loop_ns = media.m.loop_ticks * 1000000000 // media.m.clock_rate
        memset(&self.s, 0, sizeof(stream_t))
        self.media = media
        self.s.media = &media.m
        self.s.base_ns, self.s.channel, self.s.ssrc, self.s.seq0, self.s.ts0, self.s.jump_from = base_ns, channel, ssrc, seq0, ts0, -1
        self.s.udp, self.s.each = udp, not segments
        if now_ns > base_ns + loop_ns:
            self.s.due = ((now_ns - base_ns) // loop_ns - 1) * media.m.aus
        while due_ns(&self.s, self.s.due) <= now_ns:
            self.s.due += 1
        self.s.index = self.s.first = next_key(&media.m, self.s.due) if start_at_key else self.s.due

    @property
    def first(self):
        """Number of the session's first AU."""
        return self.s.first

    @property
    def first_due_ns(self):
        """CLOCK_MONOTONIC at which the session's first AU leaves the camera."""
        return due_ns(&self.s, self.s.first)

    @property
    def sequence(self):
        """RTP sequence number of the next packet."""
        return sequence(&self.s, self.s.index, self.s.packet)

    @property
    def timestamp(self):
        """RTP timestamp of the next packet."""
        return timestamp(&self.s, self.s.index)

    def timestamp_at(self, int64_t mono_ns):
        """RTP timestamp of a moment (for sender reports)."""
        cdef int64_t ns = mono_ns - self.s.base_ns
        cdef int64_t rate = self.s.media.clock_rate
        return <uint32_t>(self.s.ts0 + <uint64_t>(ns // 1000000000 * rate + ns % 1000000000 * rate // 1000000000))

    def counters(self):
        """What has been sent, as plain numbers (see bench/camsim/report.py)."""
        cdef int i
        s = self.s
        return {"first": s.first, "next": s.index, "aus": s.sent_aus, "bytes": s.sent_bytes, "packets": s.sent_packets, "octets": s.sent_octets,
                "digest": f"{s.digest:016x}", "dropped_aus": s.dropped_aus, "drops": [[s.drop_from[i], s.drop_to[i]] for i in range(s.drops)]}


cdef class Connection:
    """One client's socket (owned by the caller, who closes it after `Sender.remove`)."""
    cdef conn_t c
    cdef list streams

    def __cinit__(self, int fd, int64_t queue_bytes=4 << 20):
        memset(&self.c, 0, sizeof(conn_t))
        self.c.fd, self.c.queue_bytes = fd, queue_bytes
        self.c.tail_data = <uint8_t*>malloc(TAIL_BYTES)
        if self.c.tail_data is NULL:
            raise MemoryError("no memory for a connection")
        self.streams = []

    def __dealloc__(self):
        free(self.c.tail_data)

    def add(self, Stream stream not None):
        """Begin to send a stream. Raises ValueError beyond 4."""
        if self.c.streams == STREAMS_MAX:
            raise ValueError(f"a connection carries at most {STREAMS_MAX} streams")
        self.streams.append(stream)
        self.c.stream[self.c.streams] = &stream.s
        self.c.streams += 1

    def clear(self):
        """Send none of the streams any more; what is left of a packet still goes out."""
        self.c.streams = 0
        self.streams = []

    def inject(self, const uint8_t[::1] data not None):
        """Send bytes (RTSP answers, RTCP) between two packets, after those that wait. False: too much waits, or the socket is dead."""
        cdef int n = <int>data.shape[0]
        if self.c.error or n == 0:
            return not self.c.error
        if self.c.tail + n > TAIL_BYTES:
            return False
        memcpy(self.c.tail_data + self.c.tail, &data[0], n)
        self.c.tail += n
        flush_tail(&self.c)
        return self.c.error == 0

    @property
    def error(self):
        """errno that ended the connection, 0 while it lives."""
        return self.c.error

    @property
    def waiting(self):
        """Bytes of answers and begun packets behind a full socket."""
        return self.c.tail


cdef class Sender:
    """All connections of a process."""
    cdef list connections
    cdef conn_t** table
    cdef int count, room

    def __cinit__(self):
        self.connections, self.table, self.count, self.room = [], NULL, 0, 0

    def __dealloc__(self):
        free(self.table)

    def add(self, Connection connection not None):
        """From now on `run` serves the connection."""
        cdef conn_t** table
        if self.count == self.room:
            table = <conn_t**>realloc(self.table, (self.room + 64) * sizeof(conn_t*))
            if table is NULL:
                raise MemoryError("no memory for a connection")
            self.table = table
            self.room += 64
        self.table[self.count] = &connection.c
        self.count += 1
        self.connections.append(connection)

    def remove(self, Connection connection not None):
        """Serve it no more. Raises ValueError if it is not here."""
        cdef int i = self.connections.index(connection)
        self.count -= 1
        self.table[i] = self.table[self.count]
        last = self.connections.pop()
        if last is not connection:
            self.connections[i] = last

    def run(self, int64_t now_ns):
        """Send everything that is due at `now_ns` (CLOCK_MONOTONIC). Returns the connections that are dead."""
        cdef int i, dead = 0
        with nogil:
            for i in range(self.count):
                if self.table[i].error == 0:
                    run_connection(self.table[i], now_ns)
                dead += self.table[i].error != 0
        return [c for c in self.connections if c.error] if dead else []
