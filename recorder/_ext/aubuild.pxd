"""The access unit in the making: NAL units or audio frames in, whole access units in the queue out.

A depacketiser calls, for each packet: au_packet, then nal_whole / fragment for what it holds, then au_marker; au_lost when packets are missing
before it. Everything is written where it will stay, in the queue; nothing is published before its access unit is complete.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from recorder._ext.auqueue cimport queue_t
from recorder._ext.paramsets cimport sets_t
from recorder._ext.reorder cimport reorder_t
from recorder._ext.timeline cimport timeline_t

cdef enum:
    EVENT_EOF = 1
    EVENT_ERROR = 2
    EVENT_MESSAGE = 4
    EVENT_BYE = 8
    EVENT_RTCP = 16
    EVENT_FORMAT_CHANGE = 32
    EVENT_DAMAGED_STREAM = 64
    EVENT_FIRST_AU = 128

cdef enum:
    AU_MAX_BYTES = 8388608
    AU_MAX_NALS = 2048
    MARKERS_TO_TRUST = 4        # pictures whose marker was the end before markers are believed
    GAP_TIMESTAMP_JUMP = 10
    GAP_OVERLOAD = 12           # recorder.base.media.GapCause.OVERLOAD

cdef struct aubuild_t:
    queue_t* q
    timeline_t time
    reorder_t order
    sets_t sets
    uint32_t session
    int h265
    int provisional
    uint64_t max_au
    int64_t wall_offset         # UTC - CLOCK_MONOTONIC
    # the packet at hand
    uint32_t pkt_ts
    int64_t pkt_recv
    # the access unit in the making
    uint32_t au_ts              # of its slices
    int64_t au_recv
    uint64_t tail_pos           # first byte of what belongs to the next one already; NO_TAIL if nothing does
    uint64_t au_bytes           # seen, written or not
    int nals
    int tail_nals
    int vcl                     # it has a slice
    int key
    int leading
    int damaged                 # bytes of it are missing
    int hurt                    # a NAL unit before its first slice was incomplete
    uint32_t hurt_ts
    int closed                  # au_ts is that of the access unit before
    int discard                 # nothing of it is written any more
    int ended                   # a marker said so; not yet believed
    int number                  # of its format
    int format                  # of what comes without parameter sets
    int32_t recovery            # recovery_frame_cnt of its SEI, -1 without
    int recovery_exact
    int32_t tail_recovery
    int tail_exact
    uint8_t carried             # flags of access units that were dropped, for the next one kept
    # the NAL unit in the making
    int nal_open
    int nal_bits
    uint64_t nal_pos
    int fu_open
    int fu_marked               # a marker on a fragment that was not the last
    int fu_skip                 # of a type that is dropped
    int fu_head_bytes
    unsigned char fu_head[2]
    uint32_t fu_ts
    # the stream
    int need_key                # nothing is kept before the next access point
    int overloading             # ... because AUs have been dropped for want of room
    int started                 # an access unit has been kept
    int loss_before             # packets were lost before the next slice
    int damage                  # ... and pictures refer to them, up to the next access point
    uint8_t blame               # cause of a hole before the next access units, if there is one (GapCause)
    int blame_left              # ... how many of them
    int32_t damage_left         # pictures until a gradual refresh has healed it, -1 = no such refresh goes on
    int idr_seen
    int key_idr                 # the newest access point: nothing refers to what is before it
    int64_t key_pts
    int trust                   # markers that proved to be right
    int lying                   # a marker proved to be wrong: never believed again
    int marked                  # there has been a marker
    uint16_t last_format
    int64_t ceiling_bps
    int64_t bucket              # bytes that may still come under the ceiling
    int64_t bucket_recv
    int events
    # counters
    uint64_t aus
    uint64_t key_aus
    uint64_t damaged_aus
    uint64_t early_aus
    uint64_t overload_aus
    uint64_t broken_aus
    uint64_t dropped_nals
    uint64_t malformed
    int64_t last_au_ns
    int64_t last_key_ns
    int64_t last_pts

cdef void au_init(aubuild_t* b, queue_t* q, int h265, uint32_t session) noexcept nogil
cdef void au_packet(aubuild_t* b, uint32_t ts, int64_t recv_ns) noexcept nogil
cdef void au_lost(aubuild_t* b) noexcept nogil
cdef void au_marker(aubuild_t* b) noexcept nogil
cdef void au_flush(aubuild_t* b) noexcept nogil
cdef void frame_begin(aubuild_t* b) noexcept nogil
cdef void frame_put(aubuild_t* b, const void* p, size_t n) noexcept nogil
cdef void frame_end(aubuild_t* b, uint32_t ts, uint32_t dur) noexcept nogil
cdef void au_audio(aubuild_t* b, const unsigned char* p, size_t n, uint32_t ts, uint32_t dur) noexcept nogil
cdef void nal_whole(aubuild_t* b, const unsigned char* p, size_t n) noexcept nogil
cdef void fragment(aubuild_t* b, int start, int end, const unsigned char* head, int head_bytes, const unsigned char* p, size_t n) noexcept nogil
cdef void fragment_break(aubuild_t* b) noexcept nogil
cdef void hurt_au(aubuild_t* b) noexcept nogil
