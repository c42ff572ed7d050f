"""RTP packets in the making, for the packetisers (rtppack, jpegpack): counted first, then written into memory of exactly that size.

Safety: nothing is written that would end behind `room_bytes` or `room_packets`, whatever a packetiser does; with `data` NULL nothing is written at all.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    RTP_HEADER = 12
    LEAD_MAX = 16

cdef struct packets_t:
    uint8_t* data               # NULL: count only
    uint32_t* offsets
    uint64_t room_bytes
    uint32_t room_packets
    uint64_t at                 # bytes so far
    uint32_t count              # packets so far, the one in the making included
    uint64_t start              # of the packet in the making
    uint64_t media              # bytes of payload so far
    # what all packets of a call have
    uint32_t lead               # bytes of room before each RTP header
    int channel                 # interleaved channel in these bytes, -1: none
    uint32_t packet_max         # RTP header, extension and payload
    uint8_t payload_type
    uint32_t ssrc
    uint32_t sequence           # of the first
    uint32_t timestamp
    const uint8_t* extension    # of the first packet; its length counts in words behind the first four bytes
    uint32_t extension_bytes
    const uint8_t* more         # goes on in the extension
    uint32_t more_bytes


cdef inline void packet_put(packets_t* o, const uint8_t* p, uint64_t n) noexcept nogil:
    """Bytes of the packet in the making."""
    if o.data is not NULL and n <= o.room_bytes and o.at <= o.room_bytes - n:
        memcpy(o.data + o.at, p, n)
    o.at += n


cdef inline uint32_t packet_space(const packets_t* o) noexcept nogil:
    """Bytes of payload that the next packet may take; at least 1."""
    cdef uint32_t used = RTP_HEADER
    if o.count == 0:
        used += o.extension_bytes + o.more_bytes
    return o.packet_max - used if used < o.packet_max else 1


cdef inline void packet_extension(packets_t* o) noexcept nogil:
    """The first packet's header extension (RFC 3550 5.3.1); `more` stands in it behind the caller's words, or alone with its own profile."""
    cdef uint32_t words
    cdef uint8_t head[4]
    if o.extension_bytes:
        words = (o.extension_bytes + o.more_bytes) // 4 - 1
        head[0], head[1], head[2], head[3] = o.extension[0], o.extension[1], <uint8_t>(words >> 8), <uint8_t>words
        packet_put(o, head, 4)
        packet_put(o, o.extension + 4, o.extension_bytes - 4)
    packet_put(o, o.more, o.more_bytes)


cdef inline void packet_begin(packets_t* o) noexcept nogil:
    """A packet with its header; the marker comes at the end of all."""
    cdef uint8_t h[RTP_HEADER]
    cdef uint8_t lead[LEAD_MAX]
    cdef uint32_t sequence = o.sequence + o.count
    cdef bint extended = o.count == 0 and o.extension_bytes + o.more_bytes > 0
    o.start = o.at
    if o.offsets is not NULL and o.count < o.room_packets:
        o.offsets[o.count] = <uint32_t>o.at
    o.count += 1
    memset(lead, 0, LEAD_MAX)
    packet_put(o, lead, o.lead)
    h[0] = 0x90 if extended else 0x80
    h[1] = o.payload_type
    h[2], h[3] = <uint8_t>(sequence >> 8), <uint8_t>sequence
    h[4], h[5], h[6], h[7] = <uint8_t>(o.timestamp >> 24), <uint8_t>(o.timestamp >> 16), <uint8_t>(o.timestamp >> 8), <uint8_t>o.timestamp
    h[8], h[9], h[10], h[11] = <uint8_t>(o.ssrc >> 24), <uint8_t>(o.ssrc >> 16), <uint8_t>(o.ssrc >> 8), <uint8_t>o.ssrc
    packet_put(o, h, RTP_HEADER)
    if extended:
        packet_extension(o)
    o.media -= o.at                 # unsigned: packet_end adds the place where the payload ends


cdef inline int packet_end(packets_t* o, bint marker) noexcept nogil:
    """The packet is whole: its length for interleaving (RFC 2326 10.12), its marker. 0 if an interleaved frame cannot be so long."""
    cdef uint64_t length = o.at - o.start - o.lead
    o.media += o.at
    if length > 0xFFFF:
        return 0
    if o.data is not NULL and o.at <= o.room_bytes:
        if o.channel >= 0:
            o.data[o.start], o.data[o.start + 1] = 0x24, <uint8_t>o.channel
            o.data[o.start + 2], o.data[o.start + 3] = <uint8_t>(length >> 8), <uint8_t>length
        if marker:
            o.data[o.start + o.lead + 1] |= 0x80
    return 1
