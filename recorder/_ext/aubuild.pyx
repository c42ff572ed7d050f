"""Access units out of NAL units and audio frames, straight into the queue.

An access unit ends at a marker, a new timestamp or the first slice of a new picture, and never on parameter sets, SEI or a delimiter: those wait for
the next slice, whose timestamp is the access unit's. Markers are believed after four pictures at whose marker nothing more came; a camera that
marks every packet (Tapo TC70, Reolink Duo 2) is found out by then and its markers are ignored; that, or none at all (FLIR M400), costs a picture's
delay. Only a camera whose first four pictures are one packet each, and that then marks every slice of several, has one picture split.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset
from recorder._ext.auqueue cimport (AU_DAMAGED, AU_DISCONTINUITY, AU_KEY, AU_LEADING, AU_PROVISIONAL, au_t, queue_abort, queue_at,
                                    queue_commit, queue_put, queue_t)
from recorder._ext.crc32c cimport wr_crc_setup
from recorder._ext.nal cimport (NAL_DROP, NAL_FIRST, NAL_KEY, NAL_LEADING, NAL_PREFIX, NAL_SEI, NAL_SET, NAL_VCL, nal_class, nal_recovery,
                                nal_slice_pps, wr_start_code)
from recorder._ext.paramsets cimport sets_format, sets_init, sets_put
from recorder._ext.reorder cimport reorder_dts
from recorder._ext.timeline cimport timeline_pts, timeline_wall

wr_crc_setup()

cdef extern from "check.h" nogil:
    void wr_check(bint condition)

cdef extern from * nogil:
    """
    #define WR_NO_TAIL UINT64_MAX
    static inline void wr_put32(unsigned char *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
    """
    const uint64_t NO_TAIL "WR_NO_TAIL"
    void wr_put32(unsigned char* p, uint32_t v)

cdef enum:
    TRUNCATED_MIN = 16          # bytes of a slice that was cut off below which nothing of it is kept
    CEILING_S = 10


cdef void au_init(aubuild_t* b, queue_t* q, int h265, uint32_t session) noexcept nogil:
    memset(b, 0, sizeof(aubuild_t))
    b.q = q
    b.h265 = h265
    b.session = session
    b.max_au = q.capacity - 4096 if q.capacity > 8192 else q.capacity
    if b.max_au > AU_MAX_BYTES:
        b.max_au = AU_MAX_BYTES
    b.tail_pos = NO_TAIL
    b.format = 1
    b.recovery = b.tail_recovery = b.damage_left = -1
    sets_init(&b.sets, h265)
    queue_abort(q)


cdef int is_key(const aubuild_t* b, int bits) noexcept nogil:
    """Random access point: IDR or IRAP, an exact recovery point, any recovery point while the stream has shown no IDR (gradual refresh)."""
    return bits & NAL_KEY or b.recovery == 0 and b.recovery_exact or b.recovery >= 0 and not b.idr_seen


cdef void overload(aubuild_t* b) noexcept nogil:
    """No room for this access unit: nothing of it is kept, and nothing up to the next access point."""
    queue_abort(b.q)
    b.discard = 1
    b.tail_pos = NO_TAIL
    b.need_key = 1
    if not b.overloading:
        b.overloading = 1
        b.q.dropping_since_ns = b.pkt_recv


cdef void hurt_au(aubuild_t* b) noexcept nogil:
    """A NAL unit of the access unit at hand is incomplete."""
    if b.vcl:
        b.damaged = 1
    else:
        b.hurt = 1
        b.hurt_ts = b.pkt_ts


# ---- completing an access unit

cdef void renew(aubuild_t* b) noexcept nogil:
    """The next access unit: it begins with what followed the last one's slices."""
    b.au_bytes = b.q.write_pos - b.q.start_pos
    b.nals = 0 if b.tail_pos == NO_TAIL else b.tail_nals
    b.recovery, b.recovery_exact = b.tail_recovery, b.tail_exact
    b.tail_recovery = -1
    b.tail_pos = NO_TAIL
    b.tail_nals = b.vcl = b.key = b.leading = b.damaged = b.hurt = b.discard = b.ended = b.number = 0
    b.closed = 1


cdef void forget(aubuild_t* b, uint64_t end) noexcept nogil:
    """Drop the access unit's bytes up to `end`; what belongs to the next one moves down."""
    cdef uint64_t tail = b.q.write_pos - end
    if tail:
        memmove(queue_at(b.q, b.q.start_pos), queue_at(b.q, end), tail)
    b.q.write_pos = b.q.start_pos + tail


cdef int under_ceiling(aubuild_t* b, uint64_t nbytes) noexcept nogil:
    """1 and the bytes are taken from the bucket, or 0: more than ceiling_bps over 10 s."""
    cdef int64_t full = b.ceiling_bps // 8 * CEILING_S
    if b.ceiling_bps <= 0:
        return 1
    if b.bucket_recv:
        b.bucket += <int64_t>((b.au_recv - b.bucket_recv) * 1e-9 * (b.ceiling_bps // 8))
    if b.bucket > full or not b.bucket_recv:
        b.bucket = full
    b.bucket_recv = b.au_recv
    if b.bucket < <int64_t>nbytes:
        return 0
    b.bucket -= nbytes
    return 1


cdef void publish(aubuild_t* b, uint64_t end, int64_t pts, int flags, uint32_t dur) noexcept nogil:
    """The access unit up to `end` goes to the consumer; bytes behind it stay for the next one."""
    cdef au_t au
    cdef uint64_t written = b.q.write_pos
    wr_check(end > b.q.start_pos and end <= written)
    memset(&au, 0, sizeof(au_t))
    au.pts = pts
    au.dts = reorder_dts(&b.order, pts)
    au.recv_ns = b.au_recv
    au.wall_ns = timeline_wall(&b.time, pts, b.au_recv + b.wall_offset)
    au.dur = dur
    au.session = b.session
    au.format = b.number
    au.flags = <uint8_t>(flags | b.carried | (AU_PROVISIONAL if b.provisional else 0))
    if b.overloading:
        au.gap = GAP_OVERLOAD if b.started else 0
        b.overloading = 0
        b.q.dropping_since_ns = 0
    elif b.carried & AU_DISCONTINUITY and b.started:
        au.gap = GAP_TIMESTAMP_JUMP
    elif b.blame_left and b.started:
        au.gap = b.blame
    if b.blame_left:
        b.blame_left -= 1
    b.q.write_pos = end
    queue_commit(b.q, &au)
    b.q.write_pos = written
    b.carried = b.need_key = 0
    b.events |= (0 if b.started else EVENT_FIRST_AU) | (EVENT_FORMAT_CHANGE if b.number != b.last_format else 0)
    b.started = 1
    b.last_format = b.number
    b.aus += 1
    b.key_aus += flags & AU_KEY
    b.damaged_aus += 1 if flags & AU_DAMAGED else 0


cdef int flags_of(aubuild_t* b, int64_t pts) noexcept nogil:
    cdef int flags = AU_KEY if b.key else 0
    if b.damaged or b.damage:
        flags |= AU_DAMAGED
    if b.leading or (not b.h265 and not b.key and not b.key_idr and pts < b.key_pts):
        flags |= AU_LEADING
    return flags


cdef int is_wanted(aubuild_t* b, int flags) noexcept nogil:
    """1 if the access unit is to be kept as far as its content goes."""
    if b.discard:
        return 0
    if b.key and b.number < 0:
        b.events |= EVENT_DAMAGED_STREAM
        b.need_key = 1
        return 0
    return not b.need_key or b.key and b.number > 0 and not flags & AU_DAMAGED


cdef void drop(aubuild_t* b, uint64_t end) noexcept nogil:
    if b.overloading:
        b.overload_aus += 1
        b.q.dropped_aus += 1
        b.q.dropped_bytes += b.au_bytes
    else:
        b.early_aus += 1
    if not b.discard:
        forget(b, end)


cdef void heal(aubuild_t* b) noexcept nogil:
    """One more picture of a gradual refresh is done."""
    if b.damage_left > 0 and not b.key:
        b.damage_left -= 1
        if b.damage_left == 0:
            b.damage = 0
            b.damage_left = -1


cdef void au_close(aubuild_t* b) noexcept nogil:
    """The access unit in the making, which has a slice, is complete."""
    cdef uint64_t end = b.q.write_pos if b.tail_pos == NO_TAIL else b.tail_pos
    cdef int fresh, flags
    cdef int64_t pts = timeline_pts(&b.time, &b.order, b.au_ts, b.au_recv, &fresh)
    if fresh:
        b.carried |= AU_DISCONTINUITY
    b.last_au_ns = b.au_recv
    b.last_pts = pts
    if b.key:
        b.last_key_ns = b.au_recv
        b.key_pts = pts
    flags = flags_of(b, pts)
    if is_wanted(b, flags) and not under_ceiling(b, end - b.q.start_pos):
        overload(b)
    if is_wanted(b, flags):
        if not b.key or b.number == 0:
            flags |= AU_DAMAGED if b.key else 0     # an access point whose sets nobody has
            b.number = b.last_format
        publish(b, end, pts, flags, 0)
    else:
        drop(b, end)
    heal(b)
    renew(b)


# ---- NAL units

cdef void put(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    b.au_bytes += n
    if b.discard:
        return
    if b.q.write_pos - b.q.start_pos + n > b.max_au or not queue_put(b.q, p, n):
        overload(b)


cdef void slice_begins(aubuild_t* b, int bits) noexcept nogil:
    """A slice: does it go on with the picture in the making, or begin the next?"""
    if b.vcl:
        if bits & NAL_FIRST:
            b.trust += b.ended
            au_close(b)
        else:
            b.lying |= b.ended
            b.ended = 0
            b.tail_pos = NO_TAIL
    elif not bits & NAL_FIRST and b.closed and b.pkt_ts == b.au_ts and not b.loss_before and not b.hurt:
        b.lying = 1
    if b.vcl:
        return
    b.au_ts = b.pkt_ts
    b.closed = 0
    if b.need_key and not b.discard and not is_key(b, bits):
        queue_abort(b.q)
        b.discard = 1


cdef void nal_begin(aubuild_t* b, int bits) noexcept nogil:
    """Room for a length, and the decision which access unit the NAL unit belongs to."""
    cdef const unsigned char* no_length = <const unsigned char*>b"\0\0\0\0"
    if bits & NAL_VCL:
        slice_begins(b, bits)
    elif bits & NAL_PREFIX and b.vcl:
        if b.discard:
            au_close(b)
        elif b.tail_pos == NO_TAIL:
            b.tail_pos = b.q.write_pos
            b.tail_nals = 0
    elif b.vcl:
        b.tail_pos = NO_TAIL
    b.nals += 1
    b.tail_nals += 1
    if b.nals > AU_MAX_NALS and not b.discard:
        overload(b)
    b.nal_open = 1
    b.nal_bits = bits
    b.nal_pos = b.q.write_pos
    put(b, no_length, 4)


cdef void first_slice(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """The access unit's first slice is complete: now its kind, format and damage are known."""
    cdef int bits = b.nal_bits
    b.key = is_key(b, bits) != 0
    if b.hurt or not bits & NAL_FIRST and (b.loss_before or b.need_key):
        b.damaged = 1
    b.loss_before = 0
    if not b.key:
        return
    b.key_idr = bits & NAL_KEY != 0
    b.idr_seen |= b.key_idr
    b.number = sets_format(&b.sets, nal_slice_pps(b.h265, p, n)) if p is not NULL else 0
    if b.damaged or not bits & NAL_FIRST:
        return
    if b.damage and not b.key_idr and b.recovery > 0:
        b.damage_left = b.recovery
    else:
        b.damage = 0
        b.damage_left = -1


cdef void learn(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """What the complete NAL unit tells; p is NULL where its bytes were not kept."""
    cdef int exact = 0
    cdef int32_t frames
    if p is not NULL and b.nal_bits & NAL_SET:
        sets_put(&b.sets, p, n, 0)
    elif p is not NULL and b.nal_bits & NAL_SEI:
        frames = nal_recovery(p, n, &exact)
        if frames >= 0 and b.tail_pos == NO_TAIL:
            b.recovery, b.recovery_exact = frames, exact
        elif frames >= 0:
            b.tail_recovery, b.tail_exact = frames, exact
    if b.nal_bits & NAL_VCL:
        if not b.vcl:
            first_slice(b, p, n)
        b.vcl = 1
        b.leading |= b.nal_bits & NAL_LEADING
    b.au_recv = b.pkt_recv


cdef void nal_end(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """The NAL unit is whole; p, n are its bytes where the caller has them in one piece."""
    b.nal_open = 0
    if not b.discard:
        n = b.q.write_pos - b.nal_pos - 4
        p = queue_at(b.q, b.nal_pos + 4)
        wr_check(b.q.write_pos > b.nal_pos + 4)
        wr_put32(queue_at(b.q, b.nal_pos), <uint32_t>n)
    learn(b, p, n)


cdef void nal_undo(aubuild_t* b) noexcept nogil:
    """Take the NAL unit in the making back."""
    b.nal_open = 0
    b.nals -= 1
    if b.discard:
        return
    b.au_bytes -= b.q.write_pos - b.nal_pos
    b.q.write_pos = b.nal_pos
    if b.tail_pos == b.nal_pos:
        b.tail_pos = NO_TAIL


cdef void nal_single(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    cdef int bits = nal_class(b.h265, p, n) if n else NAL_DROP
    if bits & NAL_DROP:
        b.dropped_nals += 1
        return
    nal_begin(b, bits)
    put(b, p, n)
    nal_end(b, p, n)


cdef void nal_whole(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil:
    """A payload or aggregated unit that should be one NAL unit; cameras put Annex B streams there (V380, FLIR): split at start codes."""
    cdef size_t at = wr_start_code(p, n)
    cdef size_t end
    if at == n:
        nal_single(b, p, n)
        return
    while True:
        end = at
        while end and p[end - 1] == 0:
            end -= 1
        if end:
            nal_single(b, p, end)
        if at == n:
            return
        p += at + 3
        n -= at + 3
        at = wr_start_code(p, n)


# ---- fragments

cdef void fragment_first(aubuild_t* b, const unsigned char* p) noexcept nogil:
    """The first bytes behind a fragmented NAL unit's header have come."""
    cdef unsigned char head[3]
    memcpy(head, b.fu_head, 2)
    head[b.fu_head_bytes] = p[0]
    nal_begin(b, nal_class(b.h265, head, b.fu_head_bytes + 1))
    put(b, b.fu_head, b.fu_head_bytes)


cdef void fragment_end(aubuild_t* b) noexcept nogil:
    cdef size_t n
    cdef unsigned char* copy
    b.fu_open = 0
    if not b.nal_open:
        return
    n = 0 if b.discard else b.q.write_pos - b.nal_pos - 4
    if n == 0 or wr_start_code(queue_at(b.q, b.nal_pos + 4), n) == n:
        nal_end(b, NULL, 0)
        return
    copy = <unsigned char*>malloc(n)
    if copy is not NULL:
        memcpy(copy, queue_at(b.q, b.nal_pos + 4), n)
    nal_undo(b)
    if copy is not NULL:
        nal_whole(b, copy, n)
    free(copy)


cdef void fragment(aubuild_t* b, int start, int end, const unsigned char* head, int head_bytes, const unsigned char* p, size_t n) noexcept nogil:
    """A fragment (RFC 6184 5.8, RFC 7798 4.4.3); `head` is the NAL unit's header. Start and end in one, and empty ones, are taken as they are."""
    if start:
        fragment_break(b)
        b.fu_open = 1
        b.fu_marked = 0
        memcpy(b.fu_head, head, head_bytes)
        b.fu_head_bytes = head_bytes
        b.fu_ts = b.pkt_ts
        b.fu_skip = nal_class(b.h265, head, head_bytes) & NAL_DROP
        b.dropped_nals += b.fu_skip != 0
    elif not b.fu_open:
        b.dropped_nals += 1
        hurt_au(b)
        return
    elif b.fu_marked:
        b.lying = 1
        b.fu_marked = 0
    if n and not b.fu_skip:
        if not b.nal_open:
            fragment_first(b, p)
        put(b, p, n)
    if end:
        fragment_end(b)


cdef void fragment_break(aubuild_t* b) noexcept nogil:
    """Something else comes where the next fragment should: the end is missing. With a marker the sender meant it to be whole."""
    if not b.fu_open:
        return
    b.fu_open = 0
    if not b.nal_open:
        return
    if b.fu_marked:
        nal_end(b, NULL, 0)
        hurt_au(b)
    else:
        b.dropped_nals += 1
        nal_undo(b)
        hurt_au(b)


# ---- packets

cdef void au_packet(aubuild_t* b, uint32_t ts, int64_t recv_ns) noexcept nogil:
    """A packet in sequence: a new timestamp ends an access unit that has a slice."""
    if b.fu_open and ts != b.fu_ts:
        fragment_break(b)
    if b.vcl and ts != b.au_ts:
        b.trust += b.ended
        au_close(b)
    if b.hurt and ts != b.hurt_ts:
        b.hurt = 0
        b.broken_aus += 1
    b.pkt_ts = ts
    b.pkt_recv = recv_ns


cdef void au_marker(aubuild_t* b) noexcept nogil:
    """The packet at hand says that the access unit ends with it."""
    b.marked = 1
    if b.fu_open:
        b.fu_marked = 1
    elif b.vcl and b.tail_pos == NO_TAIL and not b.lying:
        if b.trust >= MARKERS_TO_TRUST:
            au_close(b)
        else:
            b.ended = 1
    elif b.nals and not b.vcl and not b.hurt and not b.loss_before:
        b.lying = 1     # on parameter sets or SEI: retina#13, moonfire#352


cdef void fragment_cut(aubuild_t* b) noexcept nogil:
    """Packets are missing inside a fragmented NAL unit. What came of a slice is kept as evidence, other things are dropped."""
    b.fu_open = 0
    if not b.nal_open:
        hurt_au(b)
    elif b.nal_bits & NAL_VCL and not b.discard and b.q.write_pos - b.nal_pos - 4 >= TRUNCATED_MIN:
        nal_end(b, NULL, 0)
        b.damaged = 1
    else:
        b.dropped_nals += 1
        nal_undo(b)
        hurt_au(b)


cdef void au_lost(aubuild_t* b) noexcept nogil:
    """Packets are missing before the next one."""
    if b.fu_open:
        fragment_cut(b)
    elif b.vcl and b.ended and not b.lying:
        au_close(b)
    if b.vcl:
        b.damaged = 1
    b.loss_before = 1
    b.damage = 1
    b.damage_left = -1


cdef void au_flush(aubuild_t* b) noexcept nogil:
    """No more packets will come: an access unit that is whole as far as one can tell is kept."""
    fragment_break(b)
    if b.vcl and (b.ended or b.lying or not b.marked):
        au_close(b)
    b.broken_aus += b.vcl
    queue_abort(b.q)
    renew(b)


# ---- access units without NAL units: audio, JPEG, documents; every one is an access point

cdef void frame_begin(aubuild_t* b) noexcept nogil:
    """What there is of another one is dropped."""
    queue_abort(b.q)
    b.discard = 0
    b.au_bytes = 0


cdef void frame_put(aubuild_t* b, const void* p, size_t n) noexcept nogil:
    b.au_bytes += n
    if b.discard:
        return
    if b.q.write_pos - b.q.start_pos + n > b.max_au or not queue_put(b.q, p, n):
        overload(b)


cdef void frame_end(aubuild_t* b, uint32_t ts, uint32_t dur) noexcept nogil:
    """It is complete. Damaged: something is missing before it."""
    cdef int fresh, flags
    cdef int64_t pts
    if b.au_bytes == 0:
        b.malformed += 1
        return
    pts = timeline_pts(&b.time, &b.order, ts, b.pkt_recv, &fresh)
    flags = AU_KEY | (AU_DAMAGED if b.loss_before else 0)
    b.au_recv = b.last_au_ns = b.last_key_ns = b.pkt_recv
    b.last_pts = pts
    b.number = b.format
    b.loss_before = 0
    if fresh:
        b.carried |= AU_DISCONTINUITY
    if not b.discard and not under_ceiling(b, b.au_bytes):
        overload(b)
    if not b.discard:
        publish(b, b.q.write_pos, pts, flags, dur)
        return
    b.discard = 0
    b.overload_aus += 1
    b.q.dropped_aus += 1
    b.q.dropped_bytes += b.au_bytes


cdef void au_audio(aubuild_t* b, const unsigned char* p, size_t n, uint32_t ts, uint32_t dur) noexcept nogil:
    """One audio frame of n > 0 bytes."""
    frame_begin(b)
    frame_put(b, p, n)
    frame_end(b, ts, dur)
