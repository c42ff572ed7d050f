"""RTSP messages (RFC 2326 4, 5, 6) and interleaved frames (10.12) out of a byte stream.

Tolerated: blank lines before and between messages and before `$`, LF-only lines, requests of the server, data on channels never set up, data before the
PLAY answer. Garbage between frames (a camera's partial write when its TCP window was full: moonfire#302) is skipped up to the next frame of a bound channel whose
RTP header fits its track, or `RTSP/1.0 `, at most 256 KiB; the tracks are then damaged up to their next access points.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset
from recorder._ext.aubuild cimport EVENT_DAMAGED_STREAM, EVENT_MESSAGE
from recorder._ext.auqueue cimport wr_load
from recorder._ext.rtp cimport RtpTrack, rtptrack_damage, rtptrack_data, rtptrack_events, rtptrack_looks_right, rtptrack_t

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char* a, const char* b, size_t n)

cdef enum:
    DOLLAR = 36
    CR = 13
    LF = 10
    CANDIDATE_BYTES = 16        # `$`, channel, length and an RTP header: enough to tell a frame from garbage

cdef const char* RTSP_ANSWER = "RTSP/1.0 "


# ---- the carry: what a read has split

cdef void fail(conn_t* c, const char* why) noexcept nogil:
    c.state = BROKEN
    c.error = why
    c.events |= EVENT_DAMAGED_STREAM


cdef void empty(conn_t* c) noexcept nogil:
    c.have = 0
    if c.carry_size > CARRY_KEEP:
        free(c.carry)
        c.carry = NULL
        c.carry_size = 0


cdef void carry(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    cdef size_t size = c.carry_size if c.carry_size else 2048
    cdef unsigned char* more
    while size < c.have + n:
        size *= 2
    if size != c.carry_size:
        more = <unsigned char*>realloc(c.carry, size)
        if more is NULL:
            fail(c, "no memory for a split message")
            return
        c.carry = more
        c.carry_size = size
    memcpy(c.carry + c.have, p, n)
    c.have += n


# ---- frames

cdef void deliver(conn_t* c, const unsigned char* p, size_t size) noexcept nogil:
    """A whole frame of `size` bytes with its header."""
    cdef int bound = c.channels[p[1]]
    if not bound:
        c.unbound_frames += 1
        c.unbound_bytes += size
        return
    c.frames += 1
    c.last_frame_ns = c.mono_ns
    c.skipped_in_row = 0
    rtptrack_data(c.tracks[bound - 1], p + 4, size - 4, c.mono_ns, c.wall_offset_ns)


cdef int may_follow(unsigned char byte) noexcept nogil:
    """1 if a frame, a message or a blank line can begin with it."""
    return byte == DOLLAR or byte == CR or byte == LF or 65 <= byte <= 90


cdef int candidate(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """1 if a good frame or an answer begins here, 0 if not, -1 if these n > 0 bytes are too few to tell."""
    cdef size_t size
    if p[0] == 82:
        if memcmp(p, RTSP_ANSWER, n if n < 9 else 9):
            return 0
        return 1 if n >= 9 else -1
    if p[0] != DOLLAR or n >= 2 and not c.channels[p[1]]:
        return 0
    if n < CANDIDATE_BYTES:
        return -1
    size = p[2] << 8 | p[3]
    if size < 12 or not rtptrack_looks_right(c.tracks[c.channels[p[1]] - 1], p + 4, 12):
        return 0
    return n <= size + 4 or may_follow(p[size + 4])


cdef void lose(conn_t* c) noexcept nogil:
    """The boundary is lost."""
    cdef int i
    c.state = LOST
    c.have = 0
    c.resyncs += 1
    for i in range(TRACKS_MAX):
        if c.tracks[i] is not NULL:
            rtptrack_damage(c.tracks[i])


cdef void skip(conn_t* c, size_t n) noexcept nogil:
    c.skipped += n
    c.skipped_in_row += n
    if c.skipped_in_row > RESYNC_MAX:
        fail(c, "no frame found in 256 KiB of garbage")


cdef size_t frame_inside(conn_t* c, const unsigned char* p, size_t size, size_t n) noexcept nogil:
    """Position of a good frame that begins inside this one of `size` bytes, behind which nothing sensible follows; 0 if there is none."""
    cdef size_t at = 4
    if n <= size or may_follow(p[size]):
        return 0
    while at < size:
        if p[at] == DOLLAR and candidate(c, p + at, n - at) == 1:
            return at
        at += 1
    return 0


cdef size_t frame(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """A frame begins at p; returns the bytes used."""
    cdef size_t size = 4 + (<size_t>p[2] << 8 | p[3]) if n >= 4 else 0
    cdef size_t inside
    if n < 4 or n < size:
        c.state = IN_FRAME
        carry(c, p, n)
        return n
    inside = frame_inside(c, p, size, n)
    if inside:      # it was cut short by its sender
        lose(c)
        skip(c, inside)
        return inside
    deliver(c, p, size)
    return size


cdef void replay(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """Read bytes again that were carried as part of something else."""
    cdef unsigned char* copy = <unsigned char*>malloc(n)
    if copy is NULL:
        fail(c, "no memory for a split message")
        return
    memcpy(copy, p, n)
    c.have = 0
    take(c, copy, n)
    free(copy)


cdef size_t frame_rest(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """More of the frame whose beginning is carried."""
    cdef size_t size, part, inside
    cdef size_t used = 0
    if c.have < 4:
        used = 4 - c.have if n > 4 - c.have else n
        carry(c, p, used)
        if c.have < 4:
            return used
    size = 4 + (<size_t>c.carry[2] << 8 | c.carry[3])
    part = size - c.have if size - c.have < n - used else n - used
    carry(c, p + used, part)
    used += part
    if c.have < size or c.state == BROKEN:
        return used
    c.state = AT_BOUNDARY
    if used < n and not may_follow(p[used]):
        carry(c, p + used, 1)
        inside = frame_inside(c, c.carry, size, size + 1)
        if inside:
            lose(c)
            skip(c, inside)
            replay(c, c.carry + inside, size - inside)
            return used
    deliver(c, c.carry, size)
    empty(c)
    return used


# ---- finding the boundary again

cdef size_t search_carry(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """LOST with a few carried bytes that may begin something good; returns the bytes of p used up."""
    cdef unsigned char window[2 * CANDIDATE_BYTES]
    cdef size_t more = CANDIDATE_BYTES if n > CANDIDATE_BYTES else n
    cdef size_t had = c.have
    cdef size_t at = 0
    cdef int found = 0
    memcpy(window, c.carry, had)
    memcpy(window + had, p, more)
    c.have = 0
    while at < had:
        found = candidate(c, window + at, had + more - at)
        if found:
            break
        at += 1
    skip(c, at)
    if c.state == BROKEN or at == had:
        return 0
    if found < 0:       # n was less than what is missing: more == n
        carry(c, window + at, had + more - at)
        return n
    c.state = AT_BOUNDARY
    take(c, window + at, had - at)
    return 0


cdef size_t search(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """LOST: look for the next good frame or answer; returns the bytes used."""
    cdef size_t at = 0
    cdef int found = 0
    if c.have:
        return search_carry(c, p, n)
    while at < n:
        if p[at] == DOLLAR or p[at] == 82:
            found = candidate(c, p + at, n - at)
            if found:
                break
        at += 1
    skip(c, at)
    if c.state == BROKEN or at == n:
        return n
    if found < 0:
        carry(c, p + at, n - at)
        return n
    c.state = AT_BOUNDARY
    return at


# ---- messages

cdef int is_text(const unsigned char* p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if not (32 <= p[i] <= 126 or p[i] == CR or p[i] == LF or p[i] == 9):
            return 0
    return 1


cdef int is_first_line(const unsigned char* p, size_t n) noexcept nogil:
    """A status line, or a request line (RFC 2326 6.1, 7.1): `RTSP/` at its start or behind a blank."""
    cdef size_t i
    for i in range(n):
        if n - i >= 5 and memcmp(p + i, RTSP_ANSWER, 5) == 0 and (i == 0 or p[i - 1] == 32):
            return 1
    return 0


cdef int64_t number(const unsigned char* p, size_t n) noexcept nogil:
    """Digits between blanks; -1 for anything else or more than BODY_MAX."""
    cdef int64_t v = 0
    cdef size_t i = 0
    while n and (p[n - 1] <= 32):
        n -= 1
    while i < n and (p[i] == 32 or p[i] == 9):
        i += 1
    if i == n:
        return -1
    while i < n:
        if not 48 <= p[i] <= 57:
            return -1
        v = v * 10 + p[i] - 48
        if v > BODY_MAX:
            return -1
        i += 1
    return v


cdef int64_t body_bytes(const unsigned char* p, size_t n) noexcept nogil:
    """Content-Length of a head, 0 without; -1 if it is negative, no number, over 128 KiB, or said twice and differently."""
    cdef int64_t v, out = -2
    cdef size_t line, key
    cdef const unsigned char* end
    while n:
        end = <const unsigned char*>memchr(p, LF, n)
        line = end - p + 1 if end is not NULL else n
        if line > 15 and strncasecmp(<const char*>p, "content-length", 14) == 0:
            key = 14
            while key < line and (p[key] == 32 or p[key] == 9):
                key += 1
            if p[key] == 58:
                v = number(p + key + 1, line - key - 1)
                if v < 0 or out >= 0 and out != v:
                    return -1
                out = v
        p += line
        n -= line
    return 0 if out < 0 else out


cdef void message_done(conn_t* c) noexcept nogil:
    cdef message_t* m = <message_t*>malloc(sizeof(message_t) + c.have)
    if m is NULL or c.waiting == MESSAGES_MAX:
        free(m)
        fail(c, "more RTSP messages than anybody asked for")
        return
    m.next = NULL
    m.nbytes = c.have
    memcpy(m.data, c.carry, c.have)
    if c.last is NULL:
        c.first = m
    else:
        c.last.next = m
    c.last = m
    c.waiting += 1
    c.messages += 1
    c.last_frame_ns = c.mono_ns
    c.skipped_in_row = 0
    c.events |= EVENT_MESSAGE
    c.state = AT_BOUNDARY
    empty(c)


cdef void head_done(conn_t* c) noexcept nogil:
    cdef int64_t size = body_bytes(c.carry, c.have)
    if size < 0:
        fail(c, "Content-Length is no number between 0 and 131072")
        return
    c.body = size
    c.state = IN_BODY
    if size == 0:
        message_done(c)


cdef void not_a_message(conn_t* c) noexcept nogil:
    """What looked like the first line of a message is none."""
    cdef size_t had = c.have
    cdef int i, bound = 0
    for i in range(TRACKS_MAX):
        bound |= c.tracks[i] is not NULL
    if not bound and c.messages == 0:
        fail(c, "the peer does not speak RTSP")
        return
    lose(c)
    skip(c, had)


cdef void line_done(conn_t* c) noexcept nogil:
    """The head's line from line_start on has come, its end included."""
    cdef size_t size = c.have - c.line_start - 1
    if size and c.carry[c.line_start + size - 1] == CR:
        size -= 1
    if size == 0:
        head_done(c)
        return
    if c.lines == 0 and not is_first_line(c.carry, size):
        not_a_message(c)
        return
    c.lines += 1
    c.line_start = c.have
    if c.lines > HEAD_LINES_MAX:
        fail(c, "an RTSP message has more than 255 headers")


cdef size_t head(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """More of a message's head; returns the bytes used."""
    cdef size_t room = c.line_start + LINE_MAX + 2 - c.have
    cdef size_t size = n if n < room else room
    cdef const unsigned char* end = <const unsigned char*>memchr(p, LF, size)
    if end is not NULL:
        size = end - p + 1
    if c.lines == 0 and not is_text(p, size):
        room = c.have
        not_a_message(c)
        if room:
            return 0
        skip(c, 1)      # or the search would find the same beginning for ever
        return 1
    carry(c, p, size)
    if c.state == BROKEN:
        return size
    if end is not NULL:
        line_done(c)
    elif size == room:
        if c.lines == 0:
            not_a_message(c)
        else:
            fail(c, "a line of an RTSP message is longer than 2562 bytes")
    return size


cdef size_t body(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    cdef size_t size = c.body if c.body < n else n
    carry(c, p, size)
    c.body -= size
    if c.body == 0 and c.state != BROKEN:
        message_done(c)
    return size


# ---- the stream

cdef size_t begin(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    """At a boundary; returns the bytes used."""
    if p[0] == DOLLAR:
        return frame(c, p, n)
    if p[0] == CR or p[0] == LF:
        return 1
    if 65 <= p[0] <= 90:
        c.state = IN_HEAD
        c.lines = 0
        c.line_start = 0
    else:
        lose(c)
    return 0


cdef void take(conn_t* c, const unsigned char* p, size_t n) noexcept nogil:
    cdef size_t used
    while n and c.state != BROKEN:
        if c.state == AT_BOUNDARY:
            used = begin(c, p, n)
        elif c.state == IN_FRAME:
            used = frame_rest(c, p, n)
        elif c.state == IN_HEAD:
            used = head(c, p, n)
        elif c.state == IN_BODY:
            used = body(c, p, n)
        else:
            used = search(c, p, n)
        p += used
        n -= used


cdef int conn_feed(conn_t* c, const unsigned char* p, size_t n, int64_t mono_ns, int64_t wall_offset_ns) noexcept nogil:
    """Take in n bytes; returns EVENT_* bits, those of the tracks included."""
    cdef int i, events
    c.mono_ns = mono_ns
    c.wall_offset_ns = wall_offset_ns
    c.nbytes += n
    take(c, p, n)
    for i in range(TRACKS_MAX):
        if c.tracks[i] is not NULL:
            c.events |= rtptrack_events(c.tracks[i])
    if c.events & EVENT_DAMAGED_STREAM and c.state != BROKEN:
        fail(c, "a track had more than 255 formats in one session")
    events = c.events
    c.events = 0
    return events


cdef class Connection:
    """The bytes of one RTSP connection (see framing.pyi). All calls on the loop's thread."""

    def __cinit__(self):
        memset(&self.c, 0, sizeof(conn_t))
        self.c.error = ""
        self._tracks = []

    def __dealloc__(self):
        cdef message_t* m = self.c.first
        cdef message_t* after
        while m is not NULL:
            after = m.next
            free(m)
            m = after
        free(self.c.carry)

    def bind(self, int channel_rtp, int channel_rtcp, RtpTrack track not None):
        cdef int i
        channels = [channel_rtp] if channel_rtcp < 0 else [channel_rtp, channel_rtcp]
        if any(not 0 <= n <= 255 for n in channels) or len(set(channels)) != len(channels):
            raise ValueError(f"interleaved channels must be different and lie between 0 and 255, got {channels}")
        if any(self.c.channels[n] for n in channels):
            raise ValueError(f"one of the channels {channels} is bound already")
        if track in self._tracks:
            raise ValueError("the track is bound already")
        for i in range(TRACKS_MAX):
            if self.c.tracks[i] is NULL:
                break
        else:
            raise ValueError(f"a connection carries at most {TRACKS_MAX} tracks")
        self._tracks.append(track)
        self.c.tracks[i] = &track.t
        for n in channels:
            self.c.channels[<uint8_t>n] = i + 1

    def unbind(self, RtpTrack track not None):
        cdef int i, n
        for i in range(TRACKS_MAX):
            if self.c.tracks[i] is &track.t:
                self.c.tracks[i] = NULL
                for n in range(256):
                    if self.c.channels[n] == i + 1:
                        self.c.channels[n] = 0
                self._tracks.remove(track)

    def feed(self, const unsigned char[::1] data not None, size_t nbytes, int64_t mono_ns, int64_t wall_offset_ns):
        cdef int events = 0
        if nbytes > <size_t>data.shape[0]:
            raise ValueError(f"{nbytes} bytes asked for, the buffer holds {data.shape[0]}")
        if nbytes:
            with nogil:
                events = conn_feed(&self.c, &data[0], nbytes, mono_ns, wall_offset_ns)
        return events

    def take_messages(self):
        cdef list out = []
        cdef message_t* m
        while self.c.first is not NULL:
            m = self.c.first
            out.append(PyBytes_FromStringAndSize(<char*>m.data, m.nbytes))
            self.c.first = m.next
            free(m)
        self.c.last = NULL
        self.c.waiting = 0
        return out

    @property
    def watched(self):
        cdef int i
        for i in range(TRACKS_MAX):
            if self.c.tracks[i] is not NULL and wr_load(&self.c.tracks[i].au.q.watched):
                return True
        return False

    @property
    def tracks(self):
        return tuple(self._tracks)

    @property
    def errno(self):
        return self.c.errno_

    @property
    def error(self):
        return self.c.error.decode("ascii")

    def stats(self):
        cdef conn_t* c = &self.c
        return {"bytes": c.nbytes, "frames": c.frames, "unbound_frames": c.unbound_frames, "unbound_bytes": c.unbound_bytes,
                "messages": c.messages, "resyncs": c.resyncs, "skipped_bytes": c.skipped, "last_frame_ns": c.last_frame_ns}
