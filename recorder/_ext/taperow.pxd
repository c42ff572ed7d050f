"""State of one track's tape on the writer's thread, and its open row (see taperow.pyx)."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from recorder._ext.auqueue cimport au_t, queue_t
from recorder._ext.crc32c cimport wr_crc32c
from recorder._ext.row cimport row_t

cdef packed struct live_t:      # storage/layout.py LIVE_BLOCK
    uint64_t seq
    uint32_t camera
    uint32_t is_open
    char track[48]
    uint64_t next_row
    uint64_t ring_rows
    uint64_t tail_row
    uint64_t tail_offset
    uint64_t entries_end
    uint64_t frames_end
    uint64_t visible_offset
    uint64_t durable_offset
    uint64_t durable_row
    int64_t visible_end_ns
    int64_t visible_recv_ns
    uint64_t log_bytes
    uint32_t session
    uint32_t provisional_from
    row_t open_row

cdef enum:
    STAGED_ROWS = 32
    STAGED_ENTRIES = 4096
    ENTRY_MAX = 32              # three varints of at most 10 bytes

cdef struct began_t:            # at which AU of the queue a row began
    uint64_t row
    uint64_t au

cdef enum:
    PAGE = 4096
    ROW_OPEN = 1
    ROW_CONTINUED = 2
    ROW_DAMAGED = 4
    ROW_DISCONTINUITY = 8
    ROW_PROVISIONAL = 16
    FOOTER_PER_ROW = 96
    LIVE_ROWS = 128
    LIVE_ENTRIES = 16 << 10
    LIVE_ROWS_AT = 4096
    LIVE_ENTRIES_AT = 4096 + 128 * 64


cdef struct track_t:
    queue_t* q
    live_t* live
    uint64_t* lease
    uint32_t age                # passes since it was taken from
    uint32_t rate               # ticks per second
    # the open chunk
    int fd                      # -1: none
    int direct_fd               # the same file past the page cache, -1: not to be had
    int direct                  # the last run went past the page cache
    uint64_t ahead              # bytes behind `used` that the disk has already: those of the queue from ahead_pos on
    uint64_t ahead_pos
    uint64_t base               # tape offset of its first byte
    uint64_t used               # bytes of tape in it
    uint64_t tape_bytes
    uint64_t inner_bytes
    uint32_t inner_count
    uint32_t marked             # inner chunks its index names, or will after the commit under way
    uint64_t footer_bytes
    uint64_t footer_used        # rows, digests, entries
    uint64_t items_bytes        # of its footer
    int close_chunk
    # rings
    int ring_fd
    int frames_fd
    uint64_t ring_rows
    uint64_t frames_end
    uint64_t ring_capacity
    uint64_t frames_capacity
    # what the next AU meets
    uint32_t session
    uint32_t au_session         # the same as AUs call it
    uint16_t format
    uint16_t entry
    int waiting                 # for an access point
    int gap_open
    int force_cut
    uint64_t limit              # AUs from this number on wait for a command
    uint64_t taken
    uint64_t free_pos
    uint32_t last_crc           # the queue's running CRC after the AU taken last
    # the open row
    row_t row
    uint32_t row_crc0
    int64_t row_dts0
    uint64_t row_entries
    int64_t last_dts
    int64_t last_dur
    int64_t end_wall
    int64_t recv_ns
    uint64_t next_row
    uint64_t entries_end
    int64_t end_ns              # of the newest closed row or gap
    uint64_t provisional_row    # 2^64-1: none
    began_t began[128]          # of the newest rows, by number
    # staged by the pass under way
    const unsigned char* run
    uint64_t run_pos            # its first byte in the queue
    uint64_t run_bytes
    row_t staged[STAGED_ROWS]
    uint32_t staged_rows
    uint8_t entries[STAGED_ENTRIES + ENTRY_MAX]
    uint32_t entry_bytes
    int touched
    uint8_t* tail               # the tail page as far as it is filled, on a page's border
    # what the journal holds
    uint64_t journal_row
    uint64_t journal_entries
    int dirty
    # what the commit under way will make durable
    int pend
    int pend_fd
    uint32_t pend_marked        # 0: the index stays
    uint64_t pend_offset
    uint64_t pend_row
    # counts
    uint64_t aus
    uint64_t bytes
    uint64_t damaged
    uint64_t skipped
    uint64_t wrote_tape         # bytes written, whole pages
    uint64_t wrote_index

cdef inline uint64_t none() noexcept nogil:
    """No row, no AU, no limit."""
    return <uint64_t>-1

cdef inline row_t* live_row(track_t* t, uint64_t number) noexcept nogil:
    return <row_t*>(<uint8_t*>t.live + <size_t>LIVE_ROWS_AT) + (number & <uint64_t>(LIVE_ROWS - 1))


cdef inline uint8_t* live_entries(track_t* t) noexcept nogil:
    return <uint8_t*>t.live + <size_t>LIVE_ENTRIES_AT


cdef inline uint32_t row_crc(const row_t* row, uint64_t number) noexcept nogil:
    return wr_crc32c(wr_crc32c(0, &number, 8), row, 60)

cdef void measure(track_t* t, row_t* row) noexcept nogil
cdef void close_row(track_t* t, const au_t* after) noexcept nogil
cdef void start_row(track_t* t, const au_t* au, int broken) noexcept nogil
cdef int cut(track_t* t, const au_t* au) noexcept nogil
cdef void add_au(track_t* t, const au_t* au) noexcept nogil
cdef void pass_by(track_t* t, const au_t* au) noexcept nogil
