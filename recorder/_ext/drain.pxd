from libc.stdint cimport int64_t, uint64_t
from recorder._ext.framing cimport conn_t

cdef struct slot_t:
    conn_t* conn
    int fd
    int dead                    # nothing more is received
    int events                  # of this run
    int rest                    # to be passed over once, unless somebody watches
