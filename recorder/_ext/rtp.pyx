"""RTP (RFC 3550): header checks, payload types, SSRC, sequence, RTCP; what is good goes to the codec's depacketiser.

Order of the checks: header, then payload type (Geovision and Uniarch send PT 50 with a neighbour's sequence number), then SSRC (Reolink leaks another
session's packets), then sequence. TCP loses packets as well (the camera's own buffer), repeats them and restarts.
"""
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from recorder._ext.aac cimport aac_free, aac_init, aac_lost, aac_payload
from recorder._ext.aubuild cimport EVENT_BYE as BYE
from recorder._ext.aubuild cimport EVENT_DAMAGED_STREAM as DAMAGED_STREAM
from recorder._ext.aubuild cimport EVENT_EOF as EOF
from recorder._ext.aubuild cimport EVENT_ERROR as ERROR
from recorder._ext.aubuild cimport EVENT_FIRST_AU as FIRST_AU
from recorder._ext.aubuild cimport EVENT_FORMAT_CHANGE as FORMAT_CHANGE
from recorder._ext.aubuild cimport EVENT_MESSAGE as MESSAGE
from recorder._ext.aubuild cimport EVENT_RTCP as RTCP
from recorder._ext.aubuild cimport GAP_OVERLOAD, au_flush, au_init, au_lost, au_marker, au_packet, aubuild_t
from recorder._ext.audio cimport g726_payload, opus_payload, samples_payload
from recorder._ext.auqueue cimport AuQueue
from recorder._ext.document cimport document_lost, document_payload
from recorder._ext.h264 cimport h264_payload
from recorder._ext.h265 cimport h265_payload
from recorder._ext.jpeg cimport jpeg_lost, jpeg_payload
from recorder._ext.latm cimport latm_free, latm_init, latm_lost, latm_payload
from recorder._ext.paramsets cimport sets_free, sets_put, sets_single
from recorder._ext.reorder cimport REORDER_MAX, reorder_init
from recorder._ext.timeline cimport timeline_init, timeline_line
from recorder._ext.window cimport (WINDOW_FULL, WINDOW_HELD, WINDOW_NS, WINDOW_PACKETS, WINDOW_SEEN, held_t, window_ahead, window_at, window_drop,
                                   window_free, window_hold, window_overdue)

cdef extern from * nogil:
    """
    static inline uint32_t wr_get32(const unsigned char *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    """
    uint32_t wr_get32(const unsigned char* p)

EVENT_EOF = EOF
EVENT_ERROR = ERROR
EVENT_MESSAGE = MESSAGE
EVENT_BYE = BYE
EVENT_RTCP = RTCP
EVENT_FORMAT_CHANGE = FORMAT_CHANGE
EVENT_DAMAGED_STREAM = DAMAGED_STREAM
EVENT_FIRST_AU = FIRST_AU

cdef enum:
    NS = 1000000000
    FOREIGN_QUIET_NS = 2000000000   # silence of our SSRC after which another may take over
    LATE_MAX = 100                  # RFC 3550 A.1 MAX_MISORDER
    DROPOUT_MAX = 3000              # RFC 3550 A.1 MAX_DROPOUT
    BACKWARDS_MAX = 64
    OPENING = 64                    # packets that may come after the first one and belong before it (UDP)
    OPENING_NS = 1000000000         # a session's first packets wait no longer for those before them: nothing would be seen of the stream
    OVERRUN_NS = 1000000000         # what our socket dropped is found missing within that time
    REFUSED_MAX = 100               # payloads in a row that are not what the SDP says, until the track is turned off
    JPEG_EXTENSION = 0xFFD8         # ONVIF Streaming 5.1.3.1
    RTCP_SR = 200
    RTCP_BYE = 203
    REORDER_GUESS = 4               # pictures that may be overtaken before it is called a jump, unless the SPS says more


# ---- sequence

cdef void lose(rtptrack_t* t) noexcept nogil:
    if t.codec == CODEC_AAC:
        aac_lost(&t.aac, &t.au)
    elif t.codec == CODEC_LATM:
        latm_lost(&t.latm, &t.au)
    elif t.codec == CODEC_JPEG:
        jpeg_lost(&t.jpeg, &t.au)
    elif t.codec == CODEC_METADATA:
        document_lost(&t.document, &t.au)
    au_lost(&t.au)


cdef void begin_sequence(rtptrack_t* t, uint16_t seq) noexcept nogil:
    t.have_seq = 1
    t.base_seq = t.highest_seq = seq
    t.received = 1
    t.backwards = 0


cdef void miss(rtptrack_t* t, uint32_t count) noexcept nogil:
    """`count` packets never came: our own socket's fault, as far as it said so, else the camera's or the network's."""
    cdef uint64_t ours = t.overrun_due if t.overrun_due < count else count
    t.lost += count
    lose(t)
    if ours:
        t.overrun += ours
        t.overrun_due -= ours
        t.au.blame = GAP_OVERLOAD
        t.au.blame_left = 2         # the access unit that was hit, and the one after what is missing


cdef int in_sequence(rtptrack_t* t, uint16_t seq) noexcept nogil:
    """1 if the packet is to be used; counts what is missing before it, begins anew where the sender did."""
    cdef int step
    if not t.have_seq:
        begin_sequence(t, seq)
        return 1
    step = <int16_t>(seq - <uint16_t>t.highest_seq)
    if 0 < step <= DROPOUT_MAX:
        if step > 1:
            miss(t, step - 1)
        t.highest_seq += step
        t.received += 1
        t.backwards = 0
        return 1
    t.backwards += 1
    if -LATE_MAX <= step <= 0 and t.backwards < BACKWARDS_MAX:
        t.duplicates += 1
        return 0
    t.restarts += 1
    t.au.time.restarted = 1
    lose(t)
    begin_sequence(t, seq)
    return 1


cdef int is_our_ssrc(rtptrack_t* t, uint32_t ssrc, int64_t mono_ns) noexcept nogil:
    """1 if the packet's sender is ours: the first one, until it has been silent for 2 s or said BYE, or the one that SETUP named comes."""
    if t.ssrc == ssrc:
        t.goodbye = 0
        return 1
    if t.ssrc >= 0 and not t.goodbye and ssrc != t.ssrc_hint and mono_ns - t.last_packet_ns < FOREIGN_QUIET_NS:
        t.foreign_ssrc += 1
        return 0
    release_all(t, mono_ns)
    if t.ssrc >= 0:
        t.restarts += 1
        t.au.time.force_new = t.au.time.have
        lose(t)
    t.ssrc = ssrc
    t.have_seq = t.have_transit = t.goodbye = 0
    t.jitter = 0
    return 1


cdef void count_jitter(rtptrack_t* t, uint32_t ts, int64_t mono_ns) noexcept nogil:
    """RFC 3550 A.8, in integers."""
    cdef uint32_t transit = <uint32_t>(mono_ns // 1000 * t.au.time.clock // 1000000) - ts
    cdef int32_t d = <int32_t>(transit - t.transit)
    if t.have_transit:
        d = -d if d < 0 else d
        t.jitter += d - ((t.jitter + 8) >> 4)
    t.transit = transit
    t.have_transit = 1


# ---- packets

cdef size_t payload_start(const unsigned char* p, size_t n) noexcept nogil:
    """Where the payload begins (RFC 3550 5.1, 5.3.1); 0 if the header does not hold together."""
    cdef size_t at
    if n < 12 or p[0] >> 6 != 2:
        return 0
    at = 12 + 4 * (p[0] & 15)
    if p[0] & 0x10:
        if at + 4 > n:
            return 0
        at += 4 + 4 * (<size_t>p[at + 2] << 8 | p[at + 3])
    return at if at <= n else 0


cdef size_t payload_end(const unsigned char* p, size_t start, size_t n) noexcept nogil:
    """Where padding begins; 0 if it is none, or more than there is."""
    if not p[0] & 0x20:
        return n
    if p[n - 1] == 0 or p[n - 1] > n - start:
        return 0
    return n - p[n - 1]


cdef int is_type(const rtptrack_t* t, int kind) noexcept nogil:
    return t.types[kind >> 3] >> (kind & 7) & 1


cdef void rtp_packet(rtptrack_t* t, const unsigned char* p, size_t n, int64_t mono_ns) noexcept nogil:
    cdef size_t start = payload_start(p, n)
    cdef size_t end = payload_end(p, start, n) if start else 0
    if end == 0:
        t.malformed += 1
        return
    if not is_type(t, p[1] & 127):
        t.unknown_pt += 1
        return
    if not is_our_ssrc(t, wr_get32(p + 8), mono_ns):
        return
    t.packets += 1
    t.nbytes += n
    t.last_packet_ns = mono_ns
    if t.windowed and early(t, p, n, mono_ns):
        return
    if in_sequence(t, p[2] << 8 | p[3]):
        count_jitter(t, wr_get32(p + 4), mono_ns)
        use(t, p, start, end, mono_ns)
        if t.window.held:
            release(t, mono_ns)


cdef void use(rtptrack_t* t, const unsigned char* p, size_t start, size_t end, int64_t mono_ns) noexcept nogil:
    """The next packet in sequence goes to its depacketiser."""
    cdef uint32_t ts = wr_get32(p + 4)
    cdef int marker
    if end == start:    # a keep-alive without payload
        return
    marker = p[1] >> 7
    au_packet(&t.au, ts, mono_ns)
    if t.codec == CODEC_H264:
        h264_payload(&t.au, p + start, end - start)
    elif t.codec == CODEC_H265:
        h265_payload(&t.au, p + start, end - start)
    else:
        other_payload(t, p, start, end, marker)
        return
    if marker:
        au_marker(&t.au)


cdef void other_payload(rtptrack_t* t, const unsigned char* p, size_t start, size_t end, int marker) noexcept nogil:
    """Everything that has no NAL units. Audio or metadata that is refused time after time is turned off: something else is sent."""
    cdef size_t ext = 12 + 4 * (p[0] & 15)
    cdef const unsigned char* data = p + start
    cdef size_t n = end - start
    if t.off:
        return
    if t.codec == CODEC_AAC:
        aac_payload(&t.aac, &t.au, data, n, marker)
    elif t.codec == CODEC_G711:
        samples_payload(&t.au, data, n, t.channels, 1)
    elif t.codec == CODEC_L16:
        samples_payload(&t.au, data, n, t.channels, 2)
    elif t.codec == CODEC_G726:
        g726_payload(&t.au, data, n, t.word_bits, t.msb_first)
    elif t.codec == CODEC_OPUS:
        opus_payload(&t.au, data, n)
    elif t.codec == CODEC_LATM:
        latm_payload(&t.latm, &t.au, data, n, marker)
    elif t.codec == CODEC_METADATA:
        document_payload(&t.document, &t.au, data, n, marker)
    elif p[0] & 0x10 and (p[ext] << 8 | p[ext + 1]) == JPEG_EXTENSION:
        jpeg_payload(&t.jpeg, &t.au, data, n, p + ext + 4, start - ext - 4, marker)
    else:
        jpeg_payload(&t.jpeg, &t.au, data, n, NULL, 0, marker)
    if t.au.malformed == t.refused:
        t.refused_run = 0
        return
    t.refused = t.au.malformed
    t.refused_run += 1
    t.off = t.refused_run >= REFUSED_MAX and t.codec != CODEC_JPEG


# ---- packets out of order (UDP)

cdef int early(rtptrack_t* t, const unsigned char* p, size_t n, int64_t mono_ns) noexcept nogil:
    """1 if the packet is not to be used now: it waits for those before it, or is there already, or comes too late."""
    cdef uint16_t seq = p[2] << 8 | p[3]
    cdef int step, kept
    if not t.have_seq:
        t.have_seq = t.opening = 1
        t.received = t.backwards = 0
        t.base_seq = t.highest_seq = <uint16_t>(seq - OPENING)
    step = <int16_t>(seq - <uint16_t>t.highest_seq)
    while step > 1:
        kept = window_hold(&t.window, seq, p, n, mono_ns) if step <= WINDOW_PACKETS else WINDOW_FULL
        if kept == WINDOW_SEEN:
            t.duplicates += 1
            return 1
        if kept == WINDOW_HELD:
            t.reordered += 1
            count_jitter(t, wr_get32(p + 4), mono_ns)
            return 1
        if not t.window.held:
            begin(t)
            return 0
        give_up(t, mono_ns)
        step = <int16_t>(seq - <uint16_t>t.highest_seq)
    if step == 1:
        begin(t)
        return 0
    if t.opening:
        release_all(t, mono_ns)
        step = <int16_t>(seq - <uint16_t>t.highest_seq)
    if -DROPOUT_MAX <= step < -LATE_MAX and t.backwards + 1 < BACKWARDS_MAX:      # more than the sequence logic lets pass
        t.backwards += 1
        t.duplicates += 1
        return 1
    if step < -LATE_MAX or t.backwards + 1 >= BACKWARDS_MAX:         # the sequence begins anew
        release_all(t, mono_ns)
    return 0


cdef void begin(rtptrack_t* t) noexcept nogil:
    """A packet is about to be used; the stream's first one begins the sequence."""
    if t.opening:
        t.have_seq = t.opening = 0


cdef void use_held(rtptrack_t* t, held_t* h, int64_t mono_ns) noexcept nogil:
    """What it completes is complete now, so it counts as come now."""
    cdef size_t start = payload_start(h.data, h.nbytes)
    begin(t)
    if in_sequence(t, h.seq):
        use(t, h.data, start, payload_end(h.data, start, h.nbytes), mono_ns)
    window_drop(&t.window, h)


cdef void release(rtptrack_t* t, int64_t mono_ns) noexcept nogil:
    """Use what is held and next in turn."""
    cdef held_t* h
    while t.window.held:
        h = window_at(&t.window, <uint16_t>(t.highest_seq + 1))
        if h is NULL:
            return
        use_held(t, h, mono_ns)


cdef void give_up(rtptrack_t* t, int64_t mono_ns) noexcept nogil:
    """What is missing before the first packet held is lost. Something must be held."""
    cdef int ahead = window_ahead(&t.window, <uint16_t>t.highest_seq)
    if ahead == 0:                       # the sequence began anew under what was held
        window_free(&t.window)
        return
    use_held(t, window_at(&t.window, <uint16_t>(t.highest_seq + ahead)), mono_ns)
    release(t, mono_ns)


cdef void release_all(rtptrack_t* t, int64_t mono_ns) noexcept nogil:
    while t.window.held:
        give_up(t, mono_ns)


cdef void rtptrack_overdue(rtptrack_t* t, int64_t mono_ns) noexcept nogil:
    """After all that has come by mono_ns has been given in: what has been missing for too long is lost."""
    while window_overdue(&t.window, mono_ns, OPENING_NS if t.opening and t.patience_ns > OPENING_NS else t.patience_ns):
        give_up(t, mono_ns)
    if t.overrun_due and mono_ns - t.overrun_ns > OVERRUN_NS:
        t.overrun_due = 0


# ---- RTCP

cdef void sender_report(rtptrack_t* t, const unsigned char* p, int64_t mono_ns) noexcept nogil:
    """RFC 3550 6.4.1. Its SSRC may be wrong (Tapo C320WS): kept as evidence all the same."""
    cdef aubuild_t* au = &t.au
    t.have_report = 1
    t.report_ssrc = wr_get32(p + 4)
    t.report_ntp = <uint64_t>wr_get32(p + 8) << 32 | wr_get32(p + 12)
    t.report_rtp = wr_get32(p + 16)
    t.report_ns = mono_ns
    t.report_wall_ns = mono_ns + au.wall_offset
    t.have_report_pts = au.time.have
    t.report_pts = au.time.base_pts + <int32_t>(t.report_rtp - au.time.base_ts)
    au.events |= RTCP


cdef void goodbye(rtptrack_t* t, const unsigned char* p, size_t n) noexcept nogil:
    """RFC 3550 6.6: for our SSRC, or for nobody in particular."""
    cdef int count = p[0] & 31
    cdef int i
    if count == 0 or t.ssrc < 0:
        t.goodbye = 1
    for i in range(count):
        if 8 + 4 * <size_t>i <= n and wr_get32(p + 4 + 4 * i) == t.ssrc:
            t.goodbye = 1
    if t.goodbye:
        t.au.events |= BYE


cdef void rtcp_packet(rtptrack_t* t, const unsigned char* p, size_t n, int64_t mono_ns) noexcept nogil:
    """A compound packet (RFC 3550 6.1); what is malformed in it (Hanwha's SDES) ends the reading, never more."""
    cdef size_t size
    while n >= 4 and p[0] >> 6 == 2:
        size = 4 * ((<size_t>p[2] << 8 | p[3]) + 1)
        if size > n:
            size = n
        if p[1] == RTCP_SR and size >= 28:
            sender_report(t, p, mono_ns)
        elif p[1] == RTCP_BYE:
            goodbye(t, p, size)
        p += size
        n -= size


cdef void rtptrack_data(rtptrack_t* t, const unsigned char* p, size_t n, int64_t mono_ns, int64_t wall_offset_ns) noexcept nogil:
    """One packet, RTP or RTCP on whichever channel (RFC 5761 4 tells them apart, but for marked packets of the types 64 to 95)."""
    t.au.wall_offset = wall_offset_ns
    if n >= 2 and 192 <= p[1] <= 223 and (200 <= p[1] <= 204 or not is_type(t, p[1] & 127)):
        rtcp_packet(t, p, n, mono_ns)
    else:
        rtp_packet(t, p, n, mono_ns)


cdef void rtptrack_damage(rtptrack_t* t) noexcept nogil:
    """Bytes were lost outside RTP's sight."""
    lose(t)


cdef int rtptrack_events(rtptrack_t* t) noexcept nogil:
    """Events since the last call; they also wait for take_events."""
    cdef int events = t.au.events
    t.au.events = 0
    t.unread_events |= events
    return events


cdef int rtptrack_looks_right(const rtptrack_t* t, const unsigned char* p, size_t n) noexcept nogil:
    """1 if these n >= 12 bytes look like the start of a packet of this stream; for finding a boundary again."""
    if p[0] >> 6 != 2:
        return 0
    if 200 <= p[1] <= 204:
        return 1
    return is_type(t, p[1] & 127) and (t.ssrc < 0 or wr_get32(p + 8) == t.ssrc)


cdef list _unpack(const unsigned char* data, uint32_t nbytes):
    """The sets of a format (see paramsets.compose)."""
    cdef list out = []
    cdef uint32_t size, at = 0
    while at < nbytes:
        memcpy(&size, data + at, 4)
        out.append(data[at + 4:at + 4 + size])
        at += 4 + size
    return out


_CODECS = {"h264": CODEC_H264, "h265": CODEC_H265, "aac": CODEC_AAC, "pcma": CODEC_G711, "pcmu": CODEC_G711, "l16": CODEC_L16,
           "opus": CODEC_OPUS, "latm": CODEC_LATM, "jpeg": CODEC_JPEG, "metadata": CODEC_METADATA,
           **{f"{order}g726-{8 * bits}": CODEC_G726 for order in ("", "aal2-") for bits in (2, 3, 4, 5)}}
_WITHOUT_FORMATS = (CODEC_AAC, CODEC_G711, CODEC_L16, CODEC_G726, CODEC_OPUS, CODEC_METADATA)


cdef class RtpTrack:
    """One RTP stream of one session -> access units in `queue` (see rtp.pyi). All calls on the loop's thread."""

    def __cinit__(self, AuQueue queue not None, str codec not None, int64_t clock_rate, payload_types, uint32_t session, *, int channels=1,
                  int aac_size_length=13, int aac_index_length=3, int aac_index_delta_length=3, uint32_t aac_duration=1024,
                  parameter_sets=(), int reorder_depth=-1, int64_t ssrc=-1, int64_t ceiling_bps=0, bint provisional=True,
                  int64_t floor_wall_ns=0, const unsigned char[::1] latm_config=b"", int width=0, int height=0):
        memset(&self.t, 0, sizeof(rtptrack_t))
        if codec not in _CODECS:
            raise ValueError(f"no depacketiser for codec {codec!r}; there are {', '.join(_CODECS)}")
        if not (0 <= width < 65536 and 0 <= height < 65536):
            raise ValueError(f"no picture has {width} x {height}")
        if not 0 < clock_rate <= 1_000_000_000 or not 1 <= channels <= 255:
            raise ValueError(f"clock rate {clock_rate} or channel count {channels} cannot be")
        if not (0 < aac_size_length <= 24 and 0 <= aac_index_length <= 24 and 0 <= aac_index_delta_length <= 24 and aac_duration):
            raise ValueError("AU header lengths must lie between 0 and 24 bits, sizeLength and the duration above 0")
        types = [int(pt) for pt in payload_types]
        if not types or any(not 0 <= pt <= 127 for pt in types):
            raise ValueError(f"payload types must lie between 0 and 127, got {types}")
        self.queue = queue
        self.codec = codec
        self.t.codec = _CODECS[codec]
        self.t.channels = channels
        self.t.ssrc = -1
        self.t.ssrc_hint = ssrc
        self.t.patience_ns = WINDOW_NS
        for pt in types:
            self.t.types[pt >> 3] |= <uint8_t>(1 << (pt & 7))
        aac_init(&self.t.aac, aac_size_length, aac_index_length, aac_index_delta_length, aac_duration)
        self._set_up(clock_rate, session, reorder_depth)
        self.t.au.ceiling_bps = ceiling_bps
        self.t.au.provisional = provisional
        self.t.au.time.floor_wall = floor_wall_ns
        for part in parameter_sets:
            self._hint(bytes(part))
        self._set_up_other(latm_config, width, height)

    cdef _set_up(self, int64_t clock_rate, uint32_t session, int reorder_depth):
        cdef bint video = self.t.codec in (CODEC_H264, CODEC_H265)
        au_init(&self.t.au, &self.queue.q, self.t.codec == CODEC_H265, session)
        self.t.au.need_key = video
        step = clock_rate // 25 if video or self.t.codec == CODEC_JPEG else self.t.aac.dur if self.t.codec == CODEC_AAC else clock_rate // 50
        timeline_init(&self.t.au.time, clock_rate, step, REORDER_GUESS if video else 0)
        reorder_init(&self.t.au.order, max(reorder_depth, 0) if video else 0, clock_rate // 25)

    cdef _set_up_other(self, const unsigned char[::1] latm_config, int width, int height):
        """What codecs without parameter sets must know."""
        cdef rtptrack_t* t = &self.t
        if t.codec == CODEC_G726:
            t.word_bits, t.msb_first = int(self.codec.rpartition("-")[2]) // 8, self.codec.startswith("aal2-")
        elif t.codec == CODEC_JPEG:
            t.jpeg.width, t.jpeg.height, t.jpeg.tables_q = width, height, -1
        elif t.codec == CODEC_LATM:
            if not latm_init(&t.latm, &latm_config[0] if latm_config.shape[0] else NULL, latm_config.shape[0]):
                raise ValueError("this StreamMuxConfig cannot be recorded")
            if t.latm.known:
                t.au.format = sets_single(&t.au.sets, t.latm.mux.asc, t.latm.mux.asc_bytes)

    cdef _hint(self, bytes part):
        """A parameter set of the SDP, with the start codes and trailing zeros that some cameras put there."""
        part = part.lstrip(b"\0").removeprefix(b"\1").removesuffix(b"\0\0\0\1")
        if part:
            sets_put(&self.t.au.sets, part, len(part), 1)

    def __dealloc__(self):
        window_free(&self.t.window)
        sets_free(&self.t.au.sets)
        aac_free(&self.t.aac)
        latm_free(&self.t.latm)

    @property
    def clock_rate(self):
        return self.t.au.time.clock

    @property
    def session(self):
        return self.t.au.session

    @property
    def provisional(self):
        return bool(self.t.au.provisional)

    @provisional.setter
    def provisional(self, bint value):
        self.t.au.provisional = value

    @property
    def floor_wall_ns(self):
        return self.t.au.time.floor_wall

    @floor_wall_ns.setter
    def floor_wall_ns(self, int64_t value):
        self.t.au.time.floor_wall = value

    @property
    def ceiling_bps(self):
        return self.t.au.ceiling_bps

    @ceiling_bps.setter
    def ceiling_bps(self, int64_t value):
        self.t.au.ceiling_bps = value

    @property
    def patience_ns(self):
        return self.t.patience_ns

    @patience_ns.setter
    def patience_ns(self, int64_t value):
        if value <= 0:
            raise ValueError(f"a packet cannot be awaited for {value} ns")
        self.t.patience_ns = value

    @property
    def reorder_depth(self):
        return self.t.au.order.depth

    @reorder_depth.setter
    def reorder_depth(self, int value):
        if self.t.codec in (CODEC_H264, CODEC_H265):
            self.t.au.order.depth = min(max(value, self.t.au.order.depth), REORDER_MAX)

    def set_line(self, int64_t base_pts, int64_t base_wall_ns, int64_t ppb=0):
        self.t.au.time.line_pts = base_pts
        self.t.au.time.line_wall = base_wall_ns
        self.t.au.time.line_ppb = ppb
        self.t.au.time.have_line = 1
        self.t.au.time.have_lag = 0

    @property
    def line(self):
        if not self.t.au.time.have_line:
            return None
        return self.t.au.time.line_pts, self.t.au.time.line_wall, self.t.au.time.line_ppb

    def wall_of(self, int64_t pts):
        if not self.t.au.time.have_line:
            raise ValueError("there is no line before the session's first access unit")
        return timeline_line(&self.t.au.time, pts)

    def take_lag(self):
        if not self.t.au.time.have_lag:
            return None
        self.t.au.time.have_lag = 0
        return self.t.au.time.lag

    def packet(self, const unsigned char[::1] data not None, int64_t mono_ns, int64_t wall_offset_ns=0):
        if data.shape[0]:
            rtptrack_data(&self.t, &data[0], data.shape[0], mono_ns, wall_offset_ns)
            rtptrack_events(&self.t)

    def flush(self):
        release_all(&self.t, self.t.last_packet_ns)
        au_flush(&self.t.au)
        rtptrack_events(&self.t)

    def mark_damaged(self):
        rtptrack_damage(&self.t)

    def take_events(self):
        rtptrack_events(&self.t)
        events, self.t.unread_events = self.t.unread_events, 0
        return events

    def format_sets(self, int number):
        if self.t.codec in _WITHOUT_FORMATS and number == 1:
            return ()
        if not 1 <= number <= self.t.au.sets.format_count:
            raise KeyError(number)
        return tuple(_unpack(self.t.au.sets.formats[number - 1].data, self.t.au.sets.formats[number - 1].nbytes))

    def stats(self):
        cdef rtptrack_t* t = &self.t
        cdef aubuild_t* au = &t.au
        return {
            "packets": t.packets, "bytes": t.nbytes, "lost": t.lost, "duplicates": t.duplicates, "restarts": t.restarts,
            "malformed": t.malformed + au.malformed, "unknown_pt": t.unknown_pt, "foreign_ssrc": t.foreign_ssrc,
            "dropped_nals": au.dropped_nals, "aus": au.aus, "key_aus": au.key_aus, "damaged_aus": au.damaged_aus,
            "early_aus": au.early_aus, "overload_aus": au.overload_aus, "broken_aus": au.broken_aus, "restamped": au.time.restamped,
            "discontinuities": au.time.discontinuities, "formats": au.sets.format_count, "format": au.last_format,
            "reorder_depth": au.order.depth, "last_packet_ns": t.last_packet_ns, "last_au_ns": au.last_au_ns,
            "last_key_ns": au.last_key_ns, "last_pts": au.last_pts, "ssrc": t.ssrc, "base_seq": t.base_seq,
            "highest_seq": t.highest_seq, "received": t.received, "jitter": t.jitter >> 4,
            "reordered": t.reordered, "overrun": t.overrun, "off": bool(t.off),
        }

    @property
    def sender_report(self):
        cdef rtptrack_t* t = &self.t
        if not t.have_report:
            return None
        if not t.have_report_pts and t.au.time.have:
            t.report_pts = t.au.time.base_pts + <int32_t>(t.report_rtp - t.au.time.base_ts)
            t.have_report_pts = 1
        return {"ntp": t.report_ntp, "rtp": t.report_rtp, "pts": t.report_pts, "mono_ns": t.report_ns,
                "wall_ns": t.report_wall_ns, "ssrc": t.report_ssrc} if t.have_report_pts else None
