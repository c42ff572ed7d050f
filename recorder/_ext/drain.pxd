from libc.stdint cimport int64_t, uint64_t
from recorder._ext.framing cimport conn_t
from recorder._ext.udp cimport udp_t

cdef enum:
    MEDIA_MAX = 8               # framing's TRACKS_MAX

cdef struct slot_t:
    conn_t* conn
    int fd
    int dead                    # nothing more is received
    int events                  # of this run
    int rest                    # runs that will pass it over, unless somebody watches
    int passed                  # runs that have, since it was read
    int media_count             # tracks that come over UDP
    udp_t* media[8]             # MEDIA_MAX
