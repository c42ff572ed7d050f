"""One RTP stream: packets in, access units in a queue out."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from recorder._ext.aac cimport aac_t
from recorder._ext.aubuild cimport aubuild_t
from recorder._ext.auqueue cimport AuQueue
from recorder._ext.document cimport document_t
from recorder._ext.jpeg cimport jpeg_t
from recorder._ext.latm cimport latm_t
from recorder._ext.window cimport window_t

cdef enum:
    CODEC_H264 = 0
    CODEC_H265 = 1
    CODEC_AAC = 2
    CODEC_G711 = 3
    CODEC_L16 = 4
    CODEC_G726 = 5
    CODEC_OPUS = 6
    CODEC_LATM = 7
    CODEC_JPEG = 8
    CODEC_METADATA = 9

cdef struct rtptrack_t:
    aubuild_t au
    aac_t aac
    latm_t latm
    jpeg_t jpeg
    document_t document
    int codec
    int channels
    int word_bits               # of a G.726 code word
    int msb_first
    uint64_t refused            # what au.malformed was at the last packet
    int refused_run             # packets in a row whose payload was refused
    int off                     # too many: the SDP does not say what is sent
    uint8_t types[16]           # a bit for each payload type that is ours
    int64_t ssrc                # -1 = not yet known
    int64_t ssrc_hint           # from the Transport header
    int goodbye                 # BYE has come: another SSRC may take over
    int have_seq
    uint32_t base_seq           # extended
    uint32_t highest_seq        # extended
    uint64_t received           # since base_seq
    int backwards               # packets in a row that were older than the newest
    uint64_t packets
    uint64_t nbytes
    uint64_t lost
    uint64_t duplicates
    uint64_t restarts
    uint64_t malformed
    uint64_t unknown_pt
    uint64_t foreign_ssrc
    int64_t last_packet_ns
    int have_transit
    uint32_t transit
    uint32_t jitter             # 16 times the jitter (RFC 3550 A.8)
    int have_report
    int have_report_pts
    uint64_t report_ntp
    uint32_t report_rtp
    uint32_t report_ssrc
    int64_t report_pts
    int64_t report_ns
    int64_t report_wall_ns
    int unread_events           # for take_events
    int windowed                # packets may come out of order (UDP)
    int opening                 # ... and none has been used: highest_seq lies before the first that came
    window_t window
    int64_t patience_ns         # a packet that is missing for longer is lost
    uint64_t reordered          # packets that waited in the window
    uint64_t overrun            # of those lost, what our own socket had no room for
    uint64_t overrun_due        # dropped by our socket and not yet found missing
    int64_t overrun_ns          # when the newest of them was dropped

cdef void rtptrack_data(rtptrack_t* t, const unsigned char* p, size_t n, int64_t mono_ns, int64_t wall_offset_ns) noexcept nogil
cdef void rtptrack_damage(rtptrack_t* t) noexcept nogil
cdef void rtptrack_overdue(rtptrack_t* t, int64_t mono_ns) noexcept nogil
cdef int rtptrack_events(rtptrack_t* t) noexcept nogil
cdef int rtptrack_looks_right(const rtptrack_t* t, const unsigned char* p, size_t n) noexcept nogil

cdef class RtpTrack:
    cdef rtptrack_t t
    cdef readonly AuQueue queue
    cdef readonly str codec

    cdef _set_up(self, int64_t clock_rate, uint32_t session, int reorder_depth)
    cdef _set_up_other(self, const unsigned char[::1] latm_config, int width, int height)
    cdef _hint(self, bytes part)
