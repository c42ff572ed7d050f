"""What has been written is shown: rows, entries and marks in the live file, then whole pages of them in ring and frames."""
from libc.errno cimport ESTALE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from recorder._ext.auqueue cimport queue_publish, wr_store
from recorder._ext.crc32c cimport wr_crc_setup
from recorder._ext.tapepages cimport write_run
from recorder._ext.taperow cimport LIVE_ENTRIES, PAGE, live_entries, live_row, live_t, measure, none, row_crc, track_t
from recorder._ext.tapestage cimport MORE, stage
from recorder._ext.writeall cimport wr_write_all

wr_crc_setup()


cdef void show_open(track_t* t) noexcept nogil:
    """The open row into the live block (locked)."""
    cdef live_t* live = t.live
    live.is_open = 1 if t.row.aus else 0
    if t.row.aus:
        measure(t, &t.row)
        live.open_row = t.row
        live.open_row.crc = row_crc(&t.row, t.next_row)
        live.visible_end_ns = t.row.t_ns + <int64_t>t.row.wall_dur_us * 1000
    else:
        live.visible_end_ns = t.end_ns
    live.session = t.session
    live.provisional_from = 0 if t.provisional_row >= t.next_row else <uint32_t>(t.next_row - t.provisional_row)


cdef void show(track_t* t) noexcept nogil:
    """Staged rows and entries into the live file: rows and entries first, then the numbers that make them count."""
    cdef live_t* live = t.live
    cdef uint32_t i, at, first
    lock_live(t)
    for i in range(t.staged_rows):
        live_row(t, t.next_row + i)[0] = t.staged[i]
    at = t.entries_end & (LIVE_ENTRIES - 1)
    first = t.entry_bytes if t.entry_bytes <= LIVE_ENTRIES - at else LIVE_ENTRIES - at
    memcpy(live_entries(t) + at, t.entries, first)
    memcpy(live_entries(t), t.entries + first, t.entry_bytes - first)
    wr_fence()
    t.next_row += t.staged_rows
    t.entries_end += t.entry_bytes
    live.next_row = t.next_row
    live.entries_end = t.entries_end
    live.visible_offset = t.base + t.used
    live.visible_recv_ns = t.recv_ns
    show_open(t)
    unlock_live(t)
    t.staged_rows = 0
    t.entry_bytes = 0
    t.touched = 0
    t.dirty = 1


cdef int write_rings(track_t* t) noexcept nogil:
    """Whole pages of closed, published rows and of entries go to their files; 0 or errno."""
    cdef int failed
    while t.next_row - t.ring_rows >= 64 and t.provisional_row >= t.ring_rows + 64:
        failed = wr_write_all(t.ring_fd, <unsigned char*>live_row(t, t.ring_rows), PAGE, NULL, 0, 0,
                              <int64_t>(PAGE + (t.ring_rows % t.ring_capacity) * 64))
        if failed:
            return failed
        t.ring_rows += 64
        t.wrote_index += PAGE
        wr_store(&t.live.ring_rows, t.ring_rows)
    while t.entries_end - t.frames_end >= PAGE:
        failed = wr_write_all(t.frames_fd, live_entries(t) + (t.frames_end & (LIVE_ENTRIES - 1)), PAGE, NULL, 0, 0,
                              <int64_t>(PAGE + t.frames_end % t.frames_capacity))
        if failed:
            return failed
        t.frames_end += PAGE
        t.wrote_index += PAGE
        wr_store(&t.live.frames_end, t.frames_end)
    return 0


cdef int flush_rings(track_t* t) noexcept nogil:
    """Write the unfinished last pages of ring and frames, zero-padded, so that the files hold every closed row; 0 or errno."""
    cdef uint64_t rows = t.next_row - t.ring_rows, tail = t.entries_end - t.frames_end
    cdef int failed = 0
    if 0 < rows < 64:
        failed = wr_write_all(t.ring_fd, <unsigned char*>live_row(t, t.ring_rows), rows * 64, NULL, 0, PAGE - rows * 64,
                              <int64_t>(PAGE + (t.ring_rows % t.ring_capacity) * 64))
    if 0 < tail < PAGE and not failed:
        failed = wr_write_all(t.frames_fd, live_entries(t) + (t.frames_end & (LIVE_ENTRIES - 1)), tail, NULL, 0, PAGE - tail,
                              <int64_t>(PAGE + t.frames_end % t.frames_capacity))
    return failed


cdef int flush(track_t* t) noexcept nogil:
    """Bytes to the chunk, then what they mean; 0 or errno."""
    cdef int failed = write_run(t)
    return failed if failed else tell(t)


cdef int tell(track_t* t) noexcept nogil:
    """The bytes are written: rows and entries to the live file, then the queue's room back to its producer; 0 or errno.

    ESTALE: the queue has been taken away meanwhile (the disk has failed), so the bytes may not be what was meant to be written."""
    cdef int failed
    if t.q.owner != t:
        return ESTALE
    if t.touched:
        show(t)
        failed = write_rings(t)
        if failed:
            return failed
    if t.taken != t.q.au_tail or t.free_pos > t.q.free_pos:
        return 0 if queue_publish(t.q, t, t.taken, t.free_pos) else ESTALE
    return 0


cdef int pass_track(track_t* t) noexcept nogil:
    """Take what the queue holds; DONE, HELD, what is needed, or -errno."""
    cdef int code, failed
    while True:
        code = stage(t, none())
        failed = flush(t)
        if failed:
            return -failed
        if code != MORE:
            return code
