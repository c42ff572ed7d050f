"""The way from a source to the tape: one producer (the drain, on the loop's thread), one consumer (the writer's thread).

A queue holds whole access units in a ring of bytes that is mapped twice in a row, so every AU lies contiguous in memory, and a ring of
`au_t` that describes them. Positions (`pos`) count bytes for ever; `base[pos & mask]` is the byte. The producer alone moves `write_pos`,
`au_head`; the consumer alone moves `au_tail`, `free_pos`. Heads and tails are published with release and read with acquire.

What has been taken stays where it is until the producer needs the room. So when the consumer's disk has failed, the producer takes the queue
away from it (`rewind`) and has another one take what the disk does not keep once more.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from recorder._ext.crc32c cimport wr_crc32c

cdef extern from * nogil:
    """
    #define wr_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define wr_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define wr_lock(p) do {} while (__atomic_exchange_n((p), 1, __ATOMIC_ACQUIRE))
    """
    uint64_t wr_load(uint64_t* p)
    void wr_store(uint64_t* p, uint64_t v)
    void wr_lock(uint64_t* p)

# au_t.flags
cdef enum:
    AU_KEY = 1              # random access point
    AU_LEADING = 2          # precedes its access point in output order and may refer to what came before it
    AU_DAMAGED = 4          # bytes of it, or of what it refers to, were lost
    AU_DISCONTINUITY = 8    # media time before it does not lead on to it
    AU_PROVISIONAL = 16     # wall_ns is a first guess; the session will publish a shift

cdef struct au_t:
    uint64_t pos            # first byte
    int64_t pts             # presentation time, ticks of the track's clock, unwrapped, continuous within a session
    int64_t dts             # decode time, same ticks; strictly rising within a session
    int64_t wall_ns         # presentation time in UTC, ns since the epoch
    int64_t recv_ns         # CLOCK_MONOTONIC when its last byte was drained
    uint32_t nbytes
    uint32_t crc            # running CRC-32C of the queue's bytes up to this AU's end
    uint32_t dur            # ticks it lasts where the codec tells (audio), else 0
    uint32_t session
    uint16_t format         # which of the track's formats (parameter sets) it is coded with; 0 = not yet known
    uint8_t flags
    uint8_t gap             # not 0: cause (recorder.base.media.GapCause) of missing footage right before it

cdef struct queue_t:
    unsigned char* base     # capacity bytes, mapped twice in a row
    uint64_t capacity
    uint64_t mask
    au_t* aus
    uint64_t au_mask
    uint64_t write_pos      # producer: next byte of the AU in the making
    uint64_t start_pos      # producer: first byte of the AU in the making
    uint32_t crc            # producer: running CRC at start_pos
    uint64_t au_head        # producer publishes: AUs completed
    uint64_t au_tail        # consumer publishes: AUs taken
    uint64_t free_pos       # consumer publishes: bytes below may be overwritten
    uint64_t dropped_aus    # producer counts what found no room
    uint64_t dropped_bytes
    uint64_t watched            # consumer publishes: not 0 while somebody watches, so AUs are wanted at every tick
    int64_t dropping_since_ns   # producer: not 0 while AUs are dropped up to the next access point (recv_ns of the first)
    uint64_t turn               # held for as long as tail and owner are changed together, by nobody who may sleep
    void* owner                 # the consumer that may publish a tail; NULL: none
    uint64_t rewound            # AU to which the queue was rewound last, and the running CRC before it
    uint32_t rewound_crc

cdef inline int queue_room(queue_t* q, uint64_t nbytes) noexcept nogil:
    """1 if `nbytes` more fit behind write_pos and an au_t slot is free."""
    if q.write_pos + nbytes - wr_load(&q.free_pos) > q.capacity:
        return 0
    return q.au_head - wr_load(&q.au_tail) <= q.au_mask

cdef inline unsigned char* queue_at(queue_t* q, uint64_t pos) noexcept nogil:
    return q.base + (pos & q.mask)

cdef inline int queue_put(queue_t* q, const void* data, uint64_t nbytes) noexcept nogil:
    """Append bytes to the AU in the making; 0 if there is no room (nothing is written)."""
    if not queue_room(q, nbytes):
        return 0
    memcpy(q.base + (q.write_pos & q.mask), data, nbytes)
    q.write_pos += nbytes
    return 1

cdef inline int queue_publish(queue_t* q, void* owner, uint64_t au_tail, uint64_t free_pos) noexcept nogil:
    """The consumer `owner` has taken AUs below `au_tail`, bytes below `free_pos`; 0 if the queue is not its own any more."""
    cdef int own
    wr_lock(&q.turn)
    own = q.owner == owner
    if own:
        if free_pos > q.free_pos:
            wr_store(&q.free_pos, free_pos)
        wr_store(&q.au_tail, au_tail)
    wr_store(&q.turn, 0)
    return own

cdef inline uint32_t queue_own(queue_t* q, void* owner) noexcept nogil:
    """From now on `owner` alone consumes; the running CRC before the AU at `au_tail`."""
    wr_lock(&q.turn)
    q.owner = owner
    wr_store(&q.turn, 0)
    if q.au_tail and q.rewound == q.au_tail:
        return q.rewound_crc
    return q.aus[(q.au_tail - 1) & q.au_mask].crc if q.au_tail else 0

cdef inline void queue_abort(queue_t* q) noexcept nogil:
    """Forget the AU in the making."""
    q.write_pos = q.start_pos

cdef inline void queue_commit(queue_t* q, au_t* au) noexcept nogil:
    """Complete the AU in the making (the caller has found room): fills pos, nbytes, crc of a copy of `au` and publishes it."""
    cdef au_t* slot = &q.aus[q.au_head & q.au_mask]
    slot[0] = au[0]
    slot.pos = q.start_pos
    slot.nbytes = <uint32_t>(q.write_pos - q.start_pos)
    q.crc = wr_crc32c(q.crc, q.base + (q.start_pos & q.mask), slot.nbytes)
    slot.crc = q.crc
    q.start_pos = q.write_pos
    wr_store(&q.au_head, q.au_head + 1)

cdef class AuQueue:
    cdef queue_t q
    cdef bint is_whole(self, uint64_t number) noexcept nogil
