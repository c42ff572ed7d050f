"""The bytes of one RTSP connection, in any split -> messages and interleaved frames."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from recorder._ext.rtp cimport RtpTrack, rtptrack_t

cdef enum:
    TRACKS_MAX = 8
    MESSAGES_MAX = 64           # waiting for take_messages
    HEAD_LINES_MAX = 256        # request or status line and 255 headers
    LINE_MAX = 2562             # key 512, value 2048, ": "
    BODY_MAX = 131072
    RESYNC_MAX = 262144         # bytes given up since the last good frame
    CARRY_KEEP = 4096           # a larger carry buffer is given back

cdef enum:
    AT_BOUNDARY = 0             # a frame, a message or blank lines may come
    IN_FRAME = 1                # the carry holds the beginning of a frame
    IN_HEAD = 2                 # ... of a message's head
    IN_BODY = 3
    LOST = 4                    # the boundary is lost; the carry holds what may be the beginning of the next good frame
    BROKEN = 5

cdef struct message_t:
    message_t* next
    size_t nbytes
    unsigned char data[1]

cdef struct conn_t:
    rtptrack_t* tracks[8]
    uint8_t channels[256]       # 0 = unbound, else 1 + index into tracks
    int state
    unsigned char* carry
    size_t carry_size
    size_t have                 # bytes in the carry
    size_t body                 # bytes of the message's body still to come
    size_t line                 # bytes of the head's line at hand
    size_t line_start
    int lines
    size_t skipped_in_row       # since the last good frame
    message_t* first
    message_t* last
    int waiting                 # messages
    int64_t mono_ns
    int64_t wall_offset_ns
    int events
    int errno_
    const char* error
    uint64_t nbytes
    uint64_t frames
    uint64_t unbound_frames
    uint64_t unbound_bytes
    uint64_t messages
    uint64_t resyncs
    uint64_t skipped
    int64_t last_frame_ns

cdef int conn_feed(conn_t* c, const unsigned char* p, size_t n, int64_t mono_ns, int64_t wall_offset_ns) noexcept nogil

cdef class Connection:
    cdef conn_t c
    cdef list _tracks
