"""CRC-32C (Castagnoli, RFC 3720 B.4) of buffers, and of ranges from running values.

Every extension module that cimports ``wr_crc32c`` holds its own tables and calls ``wr_crc_setup()`` once when it is imported.
"""

wr_crc_setup()


def crc32c(const unsigned char[::1] data not None, uint32_t value=0):
    """The CRC-32C of `data` after bytes whose CRC is `value`; any contiguous buffer of bytes."""
    cdef size_t n = data.shape[0]
    if n == 0:
        return value
    with nogil:
        value = wr_crc32c(value, &data[0], n)
    return value


def crc32c_range(uint32_t before, uint32_t after, uint64_t nbytes):
    """The CRC of the last `nbytes` of a run, from its running CRC before and after them."""
    return wr_crc_range(before, after, nbytes)
