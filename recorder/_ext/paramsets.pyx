"""Parameter sets per id, and the numbers of the formats they make up.

A format is the VPS, the SPS and every PPS of that SPS which a picture's PPS id leads to. Equal bytes are one format for ever: a camera that
alternates between two sets alternates between two numbers and makes no new ones (mediamtx#4262).
"""
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from recorder._ext.nal cimport SET_PPS, SET_SPS, SET_VPS, nal_set_ids, set_ids_t


cdef void sets_init(sets_t* s, int h265) noexcept nogil:
    memset(s, 0, sizeof(sets_t))
    s.h265 = h265
    s.pps = -1


cdef void sets_free(sets_t* s) noexcept nogil:
    cdef int i
    for i in range(s.count):
        free(s.sets[i].data)
    for i in range(s.format_count):
        free(s.formats[i].data)
    free(s.sets)
    free(s.formats)
    s.sets = NULL
    s.formats = NULL
    s.count = s.format_count = 0


cdef set_t* find(sets_t* s, int kind, uint32_t number) noexcept nogil:
    cdef int i
    for i in range(s.count):
        if s.sets[i].kind == kind and s.sets[i].id == number:
            return &s.sets[i]
    return NULL


cdef void forget_hints_of(sets_t* s, uint32_t sps) noexcept nogil:
    """The SDP's PPS go with the SDP's SPS: stale when another one is sent in band under the same id."""
    cdef int i = 0
    while i < s.count:
        if s.sets[i].kind == SET_PPS and s.sets[i].hint and s.sets[i].parent == sps:
            free(s.sets[i].data)
            s.count -= 1
            s.sets[i] = s.sets[s.count]
        else:
            i += 1


cdef set_t* make_room(sets_t* s, int kind, uint32_t number) noexcept nogil:
    cdef set_t* found = find(s, kind, number)
    cdef set_t* more
    if found is not NULL:
        return found
    if s.count == SETS_MAX:
        return NULL
    if s.count % 8 == 0:
        more = <set_t*>realloc(s.sets, (s.count + 8) * sizeof(set_t))
        if more is NULL:
            return NULL
        s.sets = more
    found = &s.sets[s.count]
    memset(found, 0, sizeof(set_t))
    found.kind = kind
    found.id = number
    found.hint = 1
    s.count += 1
    return found


cdef int sets_put(sets_t* s, const unsigned char* p, size_t n, int hint) noexcept nogil:
    """Learn a parameter set; trailing zeros are not part of it. In-band ones (`hint` 0) win over the SDP's. 0 if it was not understood."""
    cdef set_ids_t ids
    cdef set_t* slot
    cdef unsigned char* copy
    while n and p[n - 1] == 0:
        n -= 1
    if n == 0 or n > SET_MAX_BYTES or not nal_set_ids(s.h265, p, n, &ids) or ids.id > 255 or ids.parent > 255:
        return 0
    slot = make_room(s, ids.kind, ids.id)
    if slot is NULL or hint and not slot.hint:
        return slot is not NULL
    if slot.data is not NULL and slot.nbytes == n and memcmp(slot.data, p, n) == 0:
        slot.hint = hint
        return 1
    copy = <unsigned char*>malloc(n)
    if copy is NULL:
        return 0
    memcpy(copy, p, n)
    free(slot.data)
    slot.data, slot.nbytes, slot.parent, slot.hint = copy, <uint32_t>n, ids.parent, hint
    s.dirty = 1
    if ids.kind == SET_SPS and not hint:
        forget_hints_of(s, ids.id)
    return 1


cdef void append(unsigned char** at, set_t* part) noexcept nogil:
    memcpy(at[0], &part.nbytes, 4)
    memcpy(at[0] + 4, part.data, part.nbytes)
    at[0] += 4 + part.nbytes


cdef unsigned char* compose(sets_t* s, set_t* vps, set_t* sps, uint32_t* nbytes) noexcept nogil:
    """The format's bytes, malloc'ed; PPS in the order of their ids. NULL if they are too many, or there is no memory."""
    cdef uint32_t total = 4 + sps.nbytes + (4 + vps.nbytes if vps is not NULL else 0)
    cdef unsigned char* out
    cdef unsigned char* at
    cdef set_t* pps
    cdef int i
    for i in range(s.count):
        if s.sets[i].kind == SET_PPS and s.sets[i].parent == sps.id:
            total += 4 + s.sets[i].nbytes
    if total > FORMAT_MAX_BYTES:
        return NULL
    out = at = <unsigned char*>malloc(total)
    if out is NULL:
        return NULL
    if vps is not NULL:
        append(&at, vps)
    append(&at, sps)
    for i in range(256):
        pps = find(s, SET_PPS, i)
        if pps is not NULL and pps.parent == sps.id:
            append(&at, pps)
    nbytes[0] = total
    return out


cdef int register_format(sets_t* s, unsigned char* data, uint32_t nbytes) noexcept nogil:
    """The number of the format with these bytes (owned from now on), old or new; -1 when there are too many."""
    cdef format_t* more
    cdef int i
    for i in range(s.format_count):
        if s.formats[i].nbytes == nbytes and memcmp(s.formats[i].data, data, nbytes) == 0:
            free(data)
            return i + 1
    if s.format_count == FORMATS_MAX:
        free(data)
        return -1
    if s.format_count % 8 == 0:
        more = <format_t*>realloc(s.formats, (s.format_count + 8) * sizeof(format_t))
        if more is NULL:
            free(data)
            return -1
        s.formats = more
    s.formats[s.format_count].data = data
    s.formats[s.format_count].nbytes = nbytes
    s.format_count += 1
    return s.format_count


cdef int sets_format(sets_t* s, int32_t pps) noexcept nogil:
    """The format number of a picture that refers to this PPS; 0 while a set that it needs is missing or all are too large, -1 beyond FORMATS_MAX."""
    cdef set_t* picture
    cdef set_t* sps
    cdef set_t* vps = NULL
    cdef unsigned char* data
    cdef uint32_t nbytes = 0
    if not s.dirty and pps == s.pps:
        return s.number
    picture = find(s, SET_PPS, pps) if pps >= 0 else NULL
    sps = find(s, SET_SPS, picture.parent) if picture is not NULL else NULL
    if sps is NULL:
        return 0
    if s.h265:
        vps = find(s, SET_VPS, sps.parent)
        if vps is NULL:
            return 0
    data = compose(s, vps, sps, &nbytes)
    if data is NULL:
        return 0
    s.number = register_format(s, data, nbytes)
    s.pps = pps
    s.dirty = 0
    return s.number


cdef int sets_single(sets_t* s, const unsigned char* p, uint32_t n) noexcept nogil:
    """The number of the format that these bytes describe: for codecs that know no parameter sets. -1 when there are too many."""
    cdef unsigned char* data = <unsigned char*>malloc(4 + n)
    if data is NULL:
        return -1
    memcpy(data, &n, 4)
    memcpy(data + 4, p, n)
    return register_format(s, data, 4 + n)
