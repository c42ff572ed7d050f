"""RTP that was packetised once, to many receivers: each its own SSRC, sequence numbers, payload type and SRTP keys, in few system calls.

    outlet = Outlet(contexts.outbound, protect_address(), ssrc, 96, first_sequence, contexts)
    egress = Egress(socket.fileno())
    egress.send((outlet, ...), packets, offsets, number, None)

Python twin: tests/kernels/twin_srtpout.py.

Safety: packets are taken between offsets that are checked to rise, to end within the buffer and to be 12 to WR_OUT_PACKET bytes apart, before
anything is copied; a slot has room for the largest of them, RTX's two bytes and libsrtp's trailer; slots and messages are counted against
their arrays before each use. The outlets of a call are kept alive by its tuple while the GIL is released; an outlet keeps `owner`, whose
contexts its pointers are of, alive. The two addresses that an Outlet is made of come from recorder/webrtc/srtp.py and are trusted.
"""
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset


cdef extern from "srtpout.h" nogil:
    ctypedef int (*wr_protect)(void*, void*, int*)
    ctypedef struct wr_sent:
        uint32_t number
        uint32_t timestamp
        uint16_t sequence
        uint16_t used
    ctypedef struct sockaddr_in6:
        pass
    ctypedef struct wr_outlet:
        void* context
        wr_protect protect
        uint32_t ssrc
        uint32_t shift
        uint16_t sequence
        uint8_t payload_type
        uint8_t keeps
        unsigned int to_length
        sockaddr_in6 to
        uint64_t packets
        uint64_t octets
        uint64_t dropped
        uint64_t failed
        uint32_t last_timestamp
        wr_sent* ring
    ctypedef struct wr_out:
        int gso
        uint64_t datagrams
        uint64_t bytes
        uint64_t calls
        int run_open
    wr_out* wr_out_new(int fd, int gso)
    void wr_out_flush(wr_out*)
    void wr_out_packet(wr_out*, wr_outlet*, const unsigned char*, int, uint32_t, int, int, uint32_t)
    uint32_t wr_get32(const unsigned char*)
    int WR_OUT_PACKET
    int WR_OUT_RING

PACKET_MAX = WR_OUT_PACKET
KEPT = WR_OUT_RING


cdef class Outlet:
    """One RTP stream (an SSRC) to one receiver. Only the thread of its Egress may use it."""

    cdef wr_outlet* w
    cdef object owner

    def __cinit__(self, uintptr_t context, uintptr_t protect, uint32_t ssrc, int payload_type, int sequence, owner, bint keeps=True):
        if not context or not protect:
            raise ValueError("a context and a function are needed")
        if not 0 <= payload_type < 128 or not 0 <= sequence < 65536:
            raise ValueError("no payload type or sequence number")
        self.w = <wr_outlet*>PyMem_Malloc(sizeof(wr_outlet))
        if self.w == NULL:
            raise MemoryError()
        memset(self.w, 0, sizeof(wr_outlet))
        self.w.context = <void*>context
        self.w.protect = <wr_protect>protect
        self.w.ssrc, self.w.payload_type, self.w.sequence = ssrc, <uint8_t>payload_type, <uint16_t>sequence
        self.w.keeps = keeps
        self.owner = owner

    def __dealloc__(self):
        PyMem_Free(self.w)

    def aim(self, const uint8_t[::1] address not None):
        """Send to this sockaddr (sockaddr_in or sockaddr_in6 as the kernel has it) from now on. ValueError if it is none."""
        if address.shape[0] not in (16, 28):
            raise ValueError("not a sockaddr of IPv4 or IPv6")
        memcpy(&self.w.to, &address[0], address.shape[0])
        self.w.to_length = <unsigned int>address.shape[0]

    def retype(self, int payload_type):
        """Another payload type from the next packet on: the coding has changed."""
        if not 0 <= payload_type < 128:
            raise ValueError("no payload type")
        self.w.payload_type = <uint8_t>payload_type

    def forget(self):
        """Nothing that was sent can be sent again: packets are numbered anew."""
        memset(self.w.ring, 0, WR_OUT_RING * sizeof(wr_sent))

    def sent(self, int sequence):
        """(number, timestamp) of the packet that was sent with this sequence number; None if it is not remembered (the last KEPT are)."""
        cdef wr_sent* s = &self.w.ring[<uint16_t>sequence % WR_OUT_RING]
        if not s.used or s.sequence != <uint16_t>sequence:
            return None
        return s.number, s.timestamp

    @property
    def ssrc(self):
        return self.w.ssrc

    @property
    def sequence(self):
        """Of the next packet."""
        return self.w.sequence

    @property
    def shift(self):
        """Added to the packets' own timestamps."""
        return self.w.shift

    @shift.setter
    def shift(self, int64_t ticks):
        self.w.shift = <uint32_t>(ticks & 0xFFFFFFFF)

    @property
    def timestamp(self):
        """Of the last packet."""
        return self.w.last_timestamp

    @property
    def packets(self):
        """Sent so far, repetitions not counted (RFC 3550 6.4.1)."""
        return self.w.packets

    @property
    def octets(self):
        """Of their payloads."""
        return self.w.octets

    @property
    def dropped(self):
        """Packets that the socket did not take, or no route led to."""
        return self.w.dropped

    @property
    def failed(self):
        """Packets that could not be protected."""
        return self.w.failed


cdef class Egress:
    """The way out of one UDP socket. `gso`: let the kernel cut runs of equal packets; given up by itself where that does not work."""

    cdef wr_out* o

    def __cinit__(self, int fd, bint gso=True):
        self.o = wr_out_new(fd, gso)
        if self.o == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.o)

    def send(self, tuple outlets not None, const uint8_t[::1] data not None, const uint32_t[::1] offsets not None, uint32_t number,
             timestamp=None):
        """All packets `data[offsets[k]:offsets[k + 1]]` to each of the outlets, in order; returns when the socket has taken or refused them.

        `number` is remembered for the first packet, the next for the second and so on. `timestamp`: instead of the packets' own, shifted
        ones. Outlets without an address are left out. ValueError for offsets that are no packets; nothing has been sent then.
        """
        cdef Py_ssize_t viewers = len(outlets), packets = offsets.shape[0] - 1, i, k
        cdef const uint32_t* at = NULL
        cdef wr_outlet** w
        cdef int64_t given = -1
        cdef uint32_t stamp
        cdef Outlet outlet
        if packets < 1 or viewers == 0:
            return
        check(data.shape[0], offsets)
        if timestamp is not None:
            given = <int64_t>(timestamp & 0xFFFFFFFF)
        w = <wr_outlet**>PyMem_Malloc(viewers * sizeof(void*))
        if w == NULL:
            raise MemoryError()
        try:
            for i in range(viewers):
                outlet = outlets[i]
                if outlet is None:
                    raise TypeError("not an outlet")
                w[i] = outlet.w
            at = &offsets[0]
            with nogil:
                for i in range(viewers):
                    if w[i].to_length == 0:
                        continue
                    self.o.run_open = 0
                    for k in range(packets):
                        stamp = <uint32_t>given if given >= 0 else wr_get32(&data[at[k]] + 4) + w[i].shift
                        wr_out_packet(self.o, w[i], &data[at[k]], <int>(at[k + 1] - at[k]), stamp, -1, -1, number + <uint32_t>k)
                wr_out_flush(self.o)
        finally:
            PyMem_Free(w)

    def again(self, Outlet outlet not None, const uint8_t[::1] packet not None, uint32_t timestamp, int sequence, bint rtx):
        """One packet once more: as RTX of `outlet` (RFC 4588) with the original `sequence` in it, or as it was, with the same one."""
        if not 12 <= packet.shape[0] <= WR_OUT_PACKET or not 0 <= sequence < 65536:
            raise ValueError("not a packet")
        if outlet.w.to_length == 0:
            return
        self.o.run_open = 0
        wr_out_packet(self.o, outlet.w, &packet[0], <int>packet.shape[0], timestamp, sequence if rtx else -1, -1 if rtx else sequence, 0)
        wr_out_flush(self.o)

    @property
    def gso(self):
        """Whether the kernel still cuts runs."""
        return bool(self.o.gso)

    @property
    def datagrams(self):
        """That the socket has taken."""
        return self.o.datagrams

    @property
    def bytes(self):
        """Of those."""
        return self.o.bytes

    @property
    def calls(self):
        """System calls so far."""
        return self.o.calls


cdef int check(Py_ssize_t have, const uint32_t[::1] offsets) except -1:
    cdef Py_ssize_t k
    for k in range(offsets.shape[0] - 1):
        if offsets[k + 1] < offsets[k] or offsets[k + 1] > have or not 12 <= offsets[k + 1] - offsets[k] <= <uint32_t>WR_OUT_PACKET:
            raise ValueError("offsets are not those of packets")
    return 0
