"""RTP over UDP (RFC 3550 11): receives in batches, lets only the camera's packets through, and notes what the kernel had to drop.

A batch is one recvmmsg into buffers of 64 KiB, since cameras send datagrams of up to 10,000 bytes and, with UDP_GRO, the kernel hands over what it
has gathered of a sender as one. A drop (SO_RXQ_OVFL) is known with the first packet that came after it.
"""
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from recorder._ext.rtp cimport RtpTrack, rtptrack_data, rtptrack_events, rtptrack_overdue

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t port)
    uint16_t ntohs(uint16_t port)

cdef enum:
    ERRORS_MAX = 4              # of one run: each read takes one ICMP answer (ECONNREFUSED to a punched hole) off the socket


cdef int is_ours(udp_t* u, udp_socket_t* s, wr_batch* b, int i) noexcept nogil:
    """1 if the datagram comes from where the camera sends from; pins an open port."""
    cdef uint8_t address[16]
    cdef uint16_t port = wr_batch_sender(b, i, address)
    cdef int k
    if s.port != 0 and port != s.port:
        return 0
    for k in range(u.peers):
        if memcmp(address, u.peer[k], 16) == 0:
            s.port = port
            return 1
    return 0


cdef void take_datagram(udp_t* u, udp_socket_t* s, wr_batch* b, int i, int64_t mono_ns, int64_t wall_offset_ns) noexcept nogil:
    cdef size_t n, size, at = 0
    cdef unsigned char* data = wr_batch_data(b, i, &n)
    cdef uint32_t overflow = s.overflow
    cdef int segment
    wr_batch_notes(b, i, &segment, &overflow)
    if overflow != s.overflow and s is &u.rtp:
        u.overflows += <uint32_t>(overflow - s.overflow)
        u.track.overrun_due += <uint32_t>(overflow - s.overflow)
        u.track.overrun_ns = mono_ns
    s.overflow = overflow
    if not is_ours(u, s, b, i):
        u.foreign += 1
        return
    size = segment if segment > 0 else n
    while at < n:
        u.datagrams += 1
        rtptrack_data(u.track, data + at, size if size < n - at else n - at, mono_ns, wall_offset_ns)
        at += size


cdef void drain_socket(udp_t* u, udp_socket_t* s, wr_batch* b, size_t budget, int64_t mono_ns, int64_t wall_offset_ns,
                       uint64_t* received) noexcept nogil:
    """Receive until the socket is empty or the budget is used up."""
    cdef int got, i, errors = 0
    cdef size_t n, used = 0
    while used < budget:
        got = wr_batch_receive(b, s.fd)
        if got < 0:
            errors += 1
            if got == -EAGAIN or errors == ERRORS_MAX:
                return
            continue
        for i in range(got):
            wr_batch_data(b, i, &n)
            used += n
            received[0] += n
            take_datagram(u, s, b, i, mono_ns, wall_offset_ns)
        if got < WR_BATCH:
            return


cdef int udp_drain(udp_t* u, wr_batch* b, size_t budget, int64_t mono_ns, int64_t wall_offset_ns, uint64_t* received) noexcept nogil:
    """Receive all that waits on both sockets; returns EVENT_* bits of the track."""
    drain_socket(u, &u.rtp, b, budget, mono_ns, wall_offset_ns, received)
    drain_socket(u, &u.rtcp, b, budget, mono_ns, wall_offset_ns, received)
    rtptrack_overdue(u.track, mono_ns)
    return rtptrack_events(u.track)


cdef class UdpMedia:
    """The two sockets of a track (see udp.pyi)."""

    def __cinit__(self, RtpTrack track not None, int rtp_fd, int rtcp_fd, peers, *, int rtp_port=0, int rtcp_port=0):
        memset(&self.u, 0, sizeof(udp_t))
        self.track = track
        self.u.track = &track.t
        self.u.rtp.fd, self.u.rtcp.fd = rtp_fd, rtcp_fd
        if not (0 <= rtp_port <= 65535 and 0 <= rtcp_port <= 65535):
            raise ValueError(f"ports must lie between 0 and 65535, got {rtp_port} and {rtcp_port}")
        self.u.rtp.port, self.u.rtcp.port = htons(<uint16_t>rtp_port), htons(<uint16_t>rtcp_port)
        if not 1 <= len(peers) <= PEERS_MAX:
            raise ValueError(f"1 to {PEERS_MAX} addresses may send, got {len(peers)}")
        for peer in peers:
            self._allow(bytes(peer))
        self.u.track.windowed = 1

    cdef _allow(self, bytes peer):
        if len(peer) == 4:
            peer = b"\0" * 10 + b"\xff\xff" + peer
        if len(peer) != 16:
            raise ValueError(f"an address has 4 or 16 bytes, got {len(peer)}")
        memcpy(self.u.peer[self.u.peers], <const unsigned char*>peer, 16)
        self.u.peers += 1

    @property
    def sender_ports(self):
        return ntohs(self.u.rtp.port), ntohs(self.u.rtcp.port)

    def stats(self):
        return {"datagrams": self.u.datagrams, "foreign": self.u.foreign, "overflows": self.u.overflows}
