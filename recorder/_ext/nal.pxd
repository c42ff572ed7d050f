"""What a NAL unit is and which ids it bears, for H.264 (ITU-T H.264 7.3, 7.4.1) and H.265 (ITU-T H.265 7.3, 7.4.2)."""
from libc.stdint cimport int32_t, uint32_t

cdef extern from "nalscan.h" nogil:
    size_t wr_start_code(const unsigned char* p, size_t n)

# What a NAL unit means for the access unit around it.
cdef enum:
    NAL_VCL = 1         # (part of) a coded slice
    NAL_FIRST = 2       # the first slice of a picture
    NAL_KEY = 4         # of an IDR (H.264), IRAP (H.265) picture
    NAL_LEADING = 8     # H.265 RADL, RASL
    NAL_PREFIX = 16     # stands before the slices of its access unit: sets, SEI, AUD
    NAL_SET = 32        # parameter set
    NAL_SEI = 64        # H.264 SEI
    NAL_DROP = 128      # forbidden or unsupported, never recorded

# Kinds of parameter sets, in the order in which a decoder wants them
cdef enum:
    SET_VPS = 0
    SET_SPS = 1
    SET_PPS = 2

cdef struct set_ids_t:
    int kind
    uint32_t id
    uint32_t parent     # the SPS of a PPS, the VPS of an SPS

cdef int nal_class(int h265, const unsigned char* p, size_t n) noexcept nogil
cdef int nal_set_ids(int h265, const unsigned char* p, size_t n, set_ids_t* ids) noexcept nogil
cdef int32_t nal_slice_pps(int h265, const unsigned char* p, size_t n) noexcept nogil
cdef int32_t nal_recovery(const unsigned char* p, size_t n, int* exact) noexcept nogil
