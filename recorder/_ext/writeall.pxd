"""Writing at a place of a file, all of it; zeros behind it come for nothing. C only."""
from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <sys/uio.h>
    #include <unistd.h>
    static const unsigned char wr_zeros[4096];
    /* All of three pieces at `at`: 0, or errno. A short write is continued. */
    static int wr_write_all(int fd, const unsigned char *a, size_t na, const unsigned char *b, size_t nb, size_t nz, off_t at) {
        struct iovec v[3] = {{(void *)a, na}, {(void *)b, nb}, {(void *)wr_zeros, nz}};
        size_t left = na + nb + nz;
        int i = 0;
        while (left) {
            while (v[i].iov_len == 0) i++;
            ssize_t n = pwritev(fd, v + i, 3 - i, at);
            if (n < 0) { if (errno == EINTR) continue; return errno; }
            if (n == 0) return EIO;
            left -= (size_t)n; at += n;
            while (n) {
                size_t k = (size_t)n < v[i].iov_len ? (size_t)n : v[i].iov_len;
                v[i].iov_base = (char *)v[i].iov_base + k; v[i].iov_len -= k; n -= (ssize_t)k;
                if (v[i].iov_len == 0 && n) i++;
            }
        }
        return 0;
    }
    """
    int wr_write_all(int fd, const unsigned char* a, size_t na, const unsigned char* b, size_t nb, size_t nz, int64_t at)
