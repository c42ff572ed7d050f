"""State of one track's tape on the writer's thread, and the pass over all of them (see tapewriter.pyx)."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from recorder._ext.auqueue cimport AuQueue, queue_t

cdef packed struct row_t:       # storage/layout.py ROW
    int64_t t_ns
    int64_t media_pts
    uint64_t offset
    uint32_t nbytes
    uint32_t wall_dur_us
    uint32_t media_dur
    uint16_t aus
    uint16_t flags
    uint16_t sample_entry
    uint16_t reserved
    uint32_t session
    uint64_t frames_off
    uint32_t data_crc
    uint32_t crc

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

cdef extern from "directwrite.h" nogil:
    ctypedef struct wr_direct:
        uint32_t count
        long long result[64]
        size_t size[64]

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

cdef class TapeCore:
    cdef track_t t
    cdef AuQueue queue
    cdef object live_buffer
    cdef object lease_buffer
    cdef public object owner
    cdef int end_row(self) noexcept

cdef class WriterPass:
    cdef list cores
    cdef track_t** tracks
    cdef uint32_t* wanted
    cdef int* codes
    cdef uint32_t count
    cdef uint32_t room
    cdef uint32_t needing       # tracks of the pass under way that need something
    cdef wr_direct* batch       # NULL: not to be had, or not yet tried
    cdef bint batch_tried
    cdef uint32_t batched[64]   # whose the batch's writes are
    cdef int batched_codes[64]
    cdef uint64_t batched_fill[64]
    cdef uint64_t wrote_marks
    cdef int set_out(self, uint32_t i, int code, uint64_t fill) noexcept nogil
    cdef void let_out(self) noexcept nogil
    cdef void need(self, uint32_t i, int code) noexcept nogil
