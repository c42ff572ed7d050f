"""Access units out of a track's queue onto the stage of the pass under way.

A track that meets something rare (a new session or format, a gap, a full chunk, a command) stops there, with a code that says what it
needs. Bounds: a pass stages at most STAGED_ROWS rows and STAGED_ENTRIES bytes of entries before it flushes; the live file's windows are
larger than what may wait for the journal (`held`).
"""
from libc.stdint cimport int64_t, uint64_t

from recorder._ext.auqueue cimport AU_DAMAGED, AU_DISCONTINUITY, AU_KEY, au_t, wr_load
from recorder._ext.taperow cimport (ENTRY_MAX, FOOTER_PER_ROW, PAGE, STAGED_ENTRIES, STAGED_ROWS, add_au, close_row, cut, none, pass_by, start_row,
                                    track_t)

cdef enum:
    FOOTER_ROOM = 2048          # kept free for items that come late
    HELD_ROWS = 88              # rows and entry bytes that may wait for the journal; the live windows are larger by a stage and more
    HELD_ENTRIES = 11 << 10
    PROVISIONAL_ROWS = 24
    LEFT_MAX_NS = 100000000     # an AU so old is not left in the queue for the sake of whole pages


cdef int admit(track_t* t, const au_t* au) noexcept nogil:
    """DONE if the AU may be taken, MORE if it has been skipped, or what is needed first."""
    if au.session != t.au_session:
        return NEED_SESSION
    if t.entry == 0 or au.format != t.format:
        return NEED_FORMAT
    if t.waiting:
        if not au.flags & AU_KEY or au.flags & AU_DAMAGED:
            t.skipped += 1
            pass_by(t, au)
            return MORE
        if t.gap_open:
            return NEED_GAP_CLOSE
        t.waiting = 0
    if au.gap and t.row.aus:
        return NEED_GAP
    if au.nbytes > t.tape_bytes:
        return NEED_ROOM
    if (t.fd < 0 or t.close_chunk or t.used + t.run_bytes + au.nbytes > t.tape_bytes
            or t.footer_used + t.items_bytes + 2 * FOOTER_PER_ROW + ENTRY_MAX + FOOTER_ROOM > t.footer_bytes):
        return NEED_CHUNK
    return DONE


cdef int held(track_t* t) noexcept nogil:
    """Whether the journal is so far behind that the live windows would be lapped before it has read them."""
    return (t.next_row + t.staged_rows - t.journal_row >= HELD_ROWS
            or t.entries_end + t.entry_bytes - t.journal_entries >= HELD_ENTRIES)


cdef uint64_t page_limit(track_t* t, uint64_t now_mono_ns) noexcept nogil:
    """Position in the queue, on a page's border of the tape too, above which no AU needs to end yet; NONE: all must be taken.

    So no page is written twice: what fills the last page is there already, and its AU is young.
    """
    cdef uint64_t head = wr_load(&t.q.au_head), limit, i
    cdef au_t* au
    if t.direct_fd < 0 or not t.direct or t.q.watched or t.taken == head or wr_load(&t.limit) != none():
        return none()
    if (t.q.aus[t.taken & t.q.au_mask].pos ^ t.used) & (PAGE - 1):
        return none()
    i = head - 1
    au = &t.q.aus[i & t.q.au_mask]
    limit = (au.pos + au.nbytes) & ~<uint64_t>(PAGE - 1)
    while i > t.taken:
        au = &t.q.aus[(i - 1) & t.q.au_mask]
        if au.pos + au.nbytes <= limit:
            break
        i -= 1
    au = &t.q.aus[i & t.q.au_mask]
    return none() if au.recv_ns + <int64_t>LEFT_MAX_NS < <int64_t>now_mono_ns else limit


cdef int stage(track_t* t, uint64_t below) noexcept nogil:
    """Take AUs that end at or below position `below` of the queue, until there are none, something is needed, or the stage is full (MORE)."""
    cdef uint64_t head = wr_load(&t.q.au_head)     # before the limit: a command's limit is stored before the AUs after it are published
    cdef uint64_t limit = wr_load(&t.limit)
    cdef au_t* au
    cdef int code, how
    while t.taken < head and t.taken < limit:
        if t.staged_rows + 1 >= STAGED_ROWS or t.entry_bytes + ENTRY_MAX > STAGED_ENTRIES:
            return MORE
        if held(t):
            return HELD
        if t.provisional_row != none() and t.next_row + t.staged_rows - t.provisional_row >= PROVISIONAL_ROWS:
            return NEED_PUBLISH
        au = &t.q.aus[t.taken & t.q.au_mask]
        if au.pos + au.nbytes > below:
            return DONE
        code = admit(t, au)
        if code == MORE:
            continue
        if code != DONE:
            return code
        how = cut(t, au) if t.row.aus else 1
        if how:
            if t.row.aus:
                close_row(t, au if how == 1 else NULL)
            start_row(t, au, how == 2 or au.flags & AU_DISCONTINUITY)
            t.force_cut = 0
        add_au(t, au)
        pass_by(t, au)
    return NEED_COMMAND if t.taken >= limit else DONE
