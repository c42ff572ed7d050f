/* Whole pages of many files past the page cache in one go (O_DIRECT, the kernel's native AIO: io_submit(2)), waited for together.
   Nothing is under way outside of wr_direct_run. Include before other system headers. */
#ifndef WATCHROOM_DIRECTWRITE_H
#define WATCHROOM_DIRECTWRITE_H
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#define WR_DIRECT 64                        /* writes of a batch */
#define WR_DIRECT_PAGE 4096

typedef struct {
    aio_context_t context;                  /* 0: none could be had */
    struct iocb block[WR_DIRECT];
    struct iocb *wanted[WR_DIRECT];
    struct iovec piece[WR_DIRECT][3];
    long long result[WR_DIRECT];            /* bytes written, or -errno */
    size_t size[WR_DIRECT];
    unsigned char (*last)[WR_DIRECT_PAGE];  /* the last pages */
    uint32_t count;
} wr_direct;

static inline void wr_direct_free(wr_direct *d) {
    if (!d) return;
    if (d->context) syscall(SYS_io_destroy, d->context);
    free(d->last);
    free(d);
}

/* NULL where the kernel refuses, or there is no memory. */
static inline wr_direct *wr_direct_new(void) {
    wr_direct *d = calloc(1, sizeof *d);
    void *pages = NULL;
    if (!d) return NULL;
    if (posix_memalign(&pages, WR_DIRECT_PAGE, (size_t)WR_DIRECT * WR_DIRECT_PAGE) != 0) { free(d); return NULL; }
    d->last = pages;
    if (syscall(SYS_io_setup, WR_DIRECT, &d->context) != 0) { d->context = 0; wr_direct_free(d); return NULL; }
    return d;
}

/* The bytes at `run`, behind the `prefix` bytes that `tail` (a page) begins with, at page `at` of a file. The memory between the first and
   the last page's borders is written from where it lies: run + (4096 - prefix) must be on a page's border. Returns the write's number. */
static inline uint32_t wr_direct_add(wr_direct *d, int fd, unsigned char *tail, size_t prefix, const unsigned char *run, size_t size, int64_t at) {
    uint32_t i = d->count++, n = 0;
    size_t first = 0, middle, rest;
    struct iovec *piece = d->piece[i];
    if (prefix) {
        first = size < WR_DIRECT_PAGE - prefix ? size : WR_DIRECT_PAGE - prefix;
        memcpy(tail + prefix, run, first);
        memset(tail + prefix + first, 0, WR_DIRECT_PAGE - prefix - first);
        piece[n++] = (struct iovec){tail, WR_DIRECT_PAGE};
    }
    rest = (size - first) % WR_DIRECT_PAGE;
    middle = size - first - rest;
    if (middle) piece[n++] = (struct iovec){(void *)(run + first), middle};
    if (rest) {
        memcpy(d->last[i], run + first + middle, rest);
        memset(d->last[i] + rest, 0, WR_DIRECT_PAGE - rest);
        piece[n++] = (struct iovec){d->last[i], WR_DIRECT_PAGE};
    }
    d->size[i] = (prefix ? WR_DIRECT_PAGE : 0) + middle + (rest ? WR_DIRECT_PAGE : 0);
    memset(&d->block[i], 0, sizeof d->block[i]);
    d->block[i].aio_data = i;
    d->block[i].aio_lio_opcode = IOCB_CMD_PWRITEV;
    d->block[i].aio_fildes = (uint32_t)fd;
    d->block[i].aio_buf = (uint64_t)(uintptr_t)piece;
    d->block[i].aio_nbytes = n;
    d->block[i].aio_offset = at;
    d->wanted[i] = &d->block[i];
    return i;
}

/* Writes all that was added; `result` says of each how it went. Then the batch is empty again (results stay until the next `add`). */
static inline void wr_direct_run(wr_direct *d) {
    struct io_event done[WR_DIRECT];
    uint32_t begun = 0, under_way = 0;
    while (begun < d->count || under_way) {
        if (begun < d->count) {
            long n = syscall(SYS_io_submit, d->context, (long)(d->count - begun), d->wanted + begun);
            if (n > 0) { begun += (uint32_t)n; under_way += (uint32_t)n; }
            else if (n < 0 && errno == EINTR) continue;
            else if (n == 0 || errno != EAGAIN || !under_way) d->result[begun++] = n == 0 ? -EIO : -errno;  /* this one was refused */
        }
        while (under_way) {
            long n = syscall(SYS_io_getevents, d->context, (long)under_way, (long)under_way, done, NULL);
            if (n < 0) { if (errno == EINTR) continue; abort(); }       /* the kernel writes from memory that must not be given away */
            for (long i = 0; i < n; i++) d->result[done[i].data] = done[i].res;
            under_way -= (uint32_t)n;
        }
    }
    d->count = 0;
}
#endif
