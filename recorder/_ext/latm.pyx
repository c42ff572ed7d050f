"""AAC in LATM (RFC 6416, RFC 3016; ISO 14496-3 1.7.3): audioMuxElements in, access units out.

One element may lie in several packets, which the marker ends; it holds one or more access units. What describes it (StreamMuxConfig) comes with the
SDP, or in front of the elements (cpresent=1). Recorded: one programme, one layer, AAC of variable length. Refused: all else that LATM can
carry (CELP, HVXC, several streams), and configurations that no camera sends.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from recorder._ext.aubuild cimport au_audio, aubuild_t
from recorder._ext.paramsets cimport sets_single

cdef struct bits_t:             # a checked cursor
    const unsigned char* p
    size_t at
    size_t end
    int over


cdef uint32_t take(bits_t* r, int count) noexcept nogil:
    """The next `count` <= 32 bits; 0 and `over` past the end."""
    cdef uint32_t v = 0
    cdef int i
    if r.at + count > r.end:
        r.over = 1
        r.at = r.end
        return 0
    for i in range(count):
        v = v << 1 | (r.p[r.at >> 3] >> (7 - (r.at & 7)) & 1)
        r.at += 1
    return v


cdef uint32_t latm_value(bits_t* r) noexcept nogil:
    """LatmGetValue (1.7.3.1)."""
    cdef int more = <int>take(r, 2)
    cdef uint32_t v = 0
    cdef int i
    for i in range(more + 1):
        v = v << 8 | take(r, 8)
    return v


cdef uint32_t rate_of(bits_t* r) noexcept nogil:
    """samplingFrequencyIndex (1.6.3.4); 0 if reserved, or if the frequency itself follows: no camera has an odd one."""
    cdef uint32_t* rates = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]
    cdef uint32_t index = take(r, 4)
    return rates[index] if index < 13 else 0


cdef int asc(bits_t* r, mux_t* m) noexcept nogil:
    """Read an AudioSpecificConfig (1.6.2.1); 1 if it is AAC whose end can be known."""
    cdef uint32_t kind = take(r, 5)
    cdef uint32_t channels
    m.rate = rate_of(r)
    channels = take(r, 4)
    if kind == 5 or kind == 29:
        if not rate_of(r):
            return 0
        kind = take(r, 5)
    m.frame_samples = 960 if take(r, 1) else 1024
    if take(r, 1):
        take(r, 14)
    if take(r, 1):                      # extensionFlag: none of the kinds below has one
        return 0
    return not r.over and 1 <= kind <= 4 and 1 <= channels <= 7 and m.rate > 0


cdef void keep_asc(mux_t* m, const bits_t* r, size_t start, size_t stop) noexcept nogil:
    """The bits from `start` to `stop` as whole bytes."""
    cdef bits_t copy
    cdef size_t i
    copy.p, copy.at, copy.end, copy.over = r.p, start, stop, 0
    m.asc_bytes = <uint32_t>((stop - start + 7) // 8)
    memset(m.asc, 0, ASC_MAX_BYTES)
    for i in range(stop - start):
        m.asc[i >> 3] |= <unsigned char>(take(&copy, 1) << (7 - (i & 7)))


cdef void sbr_extension(bits_t* r) noexcept nogil:
    """Pass over the extension that says whether there is SBR and PS (1.6.2.1), which GStreamer puts there. The length field that
    follows the AudioSpecificConfig cannot begin like it: frameLengthType 2 is reserved."""
    cdef bits_t mark = r[0]
    if take(&mark, 11) != 0x2B7 or take(&mark, 5) != 5:
        return
    if take(&mark, 1):
        take(&mark, 4)
        r[0] = mark
        if take(&mark, 11) != 0x548:
            return
        take(&mark, 1)
    if not mark.over:
        r[0] = mark


cdef int whole_asc(bits_t* r, mux_t* m, uint32_t version) noexcept nogil:
    """The AudioSpecificConfig of the only layer: as long as it is, or as the config says (version 1)."""
    cdef size_t length = latm_value(r) if version else 0
    cdef size_t start = r.at
    if not asc(r, m):
        return 0
    if not version:
        sbr_extension(r)
    if version:
        if length > 8 * ASC_MAX_BYTES or start + length > r.end or start + length < r.at:
            return 0
        r.at = start + length
    keep_asc(m, r, start, r.at)
    return 1


cdef uint32_t other_data(bits_t* r, uint32_t version) noexcept nogil:
    """otherDataLenBits."""
    cdef uint32_t escape = 1, v = 0
    if version:
        return latm_value(r)
    while escape and not r.over:
        escape = take(r, 1)
        v = v << 8 | take(r, 8)
    return v


cdef int mux_config(bits_t* r, mux_t* m, int short_ok) noexcept nogil:
    """Read a StreamMuxConfig (1.7.3.1); 1 if it is one that can be recorded. `short_ok`: it may end behind frameLengthType (GStreamer's does)."""
    cdef uint32_t version = take(r, 1)
    memset(m, 0, sizeof(mux_t))
    if version:
        if take(r, 1):                  # audioMuxVersionA: reserved
            return 0
        latm_value(r)                   # taraBufferFullness
    if not take(r, 1):                  # allStreamsSameTimeFraming
        return 0
    m.subframes = <int>take(r, 6) + 1
    if take(r, 4) or take(r, 3):        # numProgram, numLayer
        return 0
    if not whole_asc(r, m, version) or take(r, 3) or r.over:
        return 0                        # frameLengthType is not 0
    take(r, 8)                          # latmBufferFullness
    if take(r, 1):
        m.other_bits = other_data(r, version)
    if take(r, 1):
        take(r, 8)                      # crcCheckSum
    if r.over:
        m.other_bits = 0
        return short_ok
    return m.other_bits <= 8 * LATM_MAX_BYTES


cdef int latm_init(latm_t* l, const unsigned char* config, size_t n) noexcept nogil:
    """`config` is the SDP's StreamMuxConfig; none (n = 0) means that it comes in band. 0 if it cannot be recorded."""
    cdef bits_t r
    memset(l, 0, sizeof(latm_t))
    l.in_band = n == 0
    if n == 0:
        return 1
    r.p, r.at, r.end, r.over = config, 0, 8 * n, 0
    l.known = mux_config(&r, &l.mux, 1)
    return l.known


cdef void latm_free(latm_t* l) noexcept nogil:
    free(l.whole)
    l.whole = NULL


cdef int make_room(latm_t* l) noexcept nogil:
    if l.whole is NULL:
        l.whole = <unsigned char*>malloc(2 * LATM_MAX_BYTES)
    return l.whole is not NULL


cdef void latm_lost(latm_t* l, aubuild_t* b) noexcept nogil:
    """What there is of an element in several packets is of no use."""
    if l.have:
        b.broken_aus += 1
    l.have = 0
    l.lost = l.fragmented               # the next packet may be the rest of one


cdef void learn(latm_t* l, aubuild_t* b, mux_t* m) noexcept nogil:
    """The element brings its configuration: the same as before, or another format."""
    if not l.known or m.asc_bytes != l.mux.asc_bytes or memcmp_asc(m, &l.mux):
        b.format = sets_single(&b.sets, m.asc, m.asc_bytes)
    l.mux = m[0]
    l.known = b.format > 0


cdef int memcmp_asc(const mux_t* a, const mux_t* b) noexcept nogil:
    cdef uint32_t i
    for i in range(a.asc_bytes):
        if a.asc[i] != b.asc[i]:
            return 1
    return 0


cdef void give(latm_t* l, aubuild_t* b, bits_t* r, size_t size, uint32_t ts, uint32_t ticks) noexcept nogil:
    """The access unit of `size` bytes at the cursor."""
    cdef size_t i
    cdef const unsigned char* p = r.p + (r.at >> 3)
    cdef int shift = r.at & 7
    if shift:
        if not make_room(l):
            return
        for i in range(size):
            l.whole[LATM_MAX_BYTES + i] = <unsigned char>(p[i] << shift | p[i + 1] >> (8 - shift))
        p = l.whole + LATM_MAX_BYTES
    au_audio(b, p, size, ts, ticks)


cdef void element(latm_t* l, aubuild_t* b, const unsigned char* p, size_t n, uint32_t ts) noexcept nogil:
    """One whole audioMuxElement of n <= LATM_MAX_BYTES bytes (1.7.3.1)."""
    cdef bits_t r
    cdef mux_t m
    cdef size_t size
    cdef uint32_t part, ticks
    cdef int i
    r.p, r.at, r.end, r.over = p, 0, 8 * n, 0
    if l.in_band and not take(&r, 1):   # useSameStreamMux
        if not mux_config(&r, &m, 0):
            b.malformed += 1
            return
        learn(l, b, &m)
    if not l.known:
        b.early_aus += 1
        return
    ticks = <uint32_t>((<uint64_t>l.mux.frame_samples * <uint64_t>b.time.clock + l.mux.rate // 2) // l.mux.rate)
    for i in range(l.mux.subframes):
        size, part = 0, 255
        while part == 255 and not r.over:
            part = take(&r, 8)
            size += part
        if r.over or size == 0 or r.at + 8 * size > r.end:
            b.malformed += 1
            return
        give(l, b, &r, size, ts + <uint32_t>i * ticks, ticks)
        r.at += 8 * size


cdef void latm_payload(latm_t* l, aubuild_t* b, const unsigned char* p, size_t n, int marker) noexcept nogil:
    """One RTP payload; the caller has called au_packet."""
    if l.have and l.ts != b.pkt_ts:     # no marker came: the new timestamp ends the element
        element_whole(l, b)
    if l.lost or l.broken and l.ts == b.pkt_ts:
        l.lost, l.broken, l.ts = 0, 1, b.pkt_ts
        return
    l.broken = 0
    if n > LATM_MAX_BYTES - l.have or not make_room(l):
        b.malformed += 1
        l.have = 0
        l.broken, l.ts = not marker, b.pkt_ts
        return
    if marker and not l.have:
        element(l, b, p, n, b.pkt_ts)
        return
    l.fragmented = 1
    memcpy(l.whole + l.have, p, n)
    l.have += <uint32_t>n
    l.ts = b.pkt_ts
    if marker:
        element_whole(l, b)


cdef void element_whole(latm_t* l, aubuild_t* b) noexcept nogil:
    """The element in the making is complete."""
    cdef uint32_t have = l.have
    l.have = 0
    element(l, b, l.whole, have, l.ts)


def stream_mux_config(const unsigned char[::1] config not None):
    """See latm.pyi."""
    cdef latm_t l
    cdef size_t n = config.shape[0]
    if n == 0 or not latm_init(&l, &config[0], n):
        return None
    return l.mux.asc[:l.mux.asc_bytes], l.mux.subframes
