"""One RTP stream over UDP: two sockets in, packets of the one allowed sender to a track."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from recorder._ext.rtp cimport RtpTrack, rtptrack_t

cdef extern from "udpbatch.h" nogil:
    enum:
        WR_BATCH
    ctypedef struct wr_batch:
        pass
    wr_batch* wr_batch_new()
    unsigned char* wr_batch_data(wr_batch* b, int i, size_t* n)
    int wr_batch_receive(wr_batch* b, int fd)
    void wr_batch_notes(wr_batch* b, int i, int* segment, uint32_t* overflow)
    uint16_t wr_batch_sender(wr_batch* b, int i, unsigned char* address)

cdef enum:
    PEERS_MAX = 2

cdef struct udp_socket_t:
    int fd
    uint16_t port               # of the sender, in network order; 0 = that of the first packet from its address
    uint32_t overflow           # SO_RXQ_OVFL as last read

cdef struct udp_t:
    rtptrack_t* track
    udp_socket_t rtp
    udp_socket_t rtcp
    int peers
    uint8_t peer[2][16]         # allowed senders (PEERS_MAX); IPv4 mapped into IPv6
    uint64_t datagrams
    uint64_t foreign            # datagrams of others
    uint64_t overflows          # RTP packets that the kernel dropped because our buffer was full

cdef int udp_drain(udp_t* u, wr_batch* b, size_t budget, int64_t mono_ns, int64_t wall_offset_ns, uint64_t* received) noexcept nogil

cdef class UdpMedia:
    cdef udp_t u
    cdef readonly RtpTrack track

    cdef _allow(self, bytes peer)
