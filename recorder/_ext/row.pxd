"""A row as rings, journals, footers and the live file hold it. C only; for every kernel that reads or writes rows."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

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
