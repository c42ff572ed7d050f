"""JPEG over RTP: state of one stream."""
from libc.stdint cimport uint32_t
from recorder._ext.aubuild cimport aubuild_t

cdef enum:
    JPEG_TABLES_MAX = 512       # bytes: four tables of 16 bit numbers

cdef struct jpeg_t:
    int width                   # what the SDP says, for pictures whose header says 0
    int height
    int open                    # a picture is in the making
    uint32_t want               # fragment offset of the next packet
    uint32_t ts
    int format_width            # size of the format at hand
    int format_height
    int tables_q                # Q that `tables` came with
    int precision               # a bit for each table of 16 bit numbers
    uint32_t tables_bytes
    unsigned char tables[JPEG_TABLES_MAX]

cdef void jpeg_lost(jpeg_t* j, aubuild_t* b) noexcept nogil
cdef void jpeg_payload(jpeg_t* j, aubuild_t* b, const unsigned char* p, size_t n, const unsigned char* ext, size_t ext_bytes, int marker) noexcept nogil
