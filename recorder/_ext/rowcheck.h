/* Whether rows are what they say: four at a time, because one CRC waits for its own last step and leaves the unit idle three cycles of four. */
#ifndef WATCHROOM_ROWCHECK_H
#define WATCHROOM_ROWCHECK_H
#include "crc32c.h"

#define WR_ROW 64
#define WR_ROW_SUMMED 60 /* bytes before the row's own CRC */

/* 1 if these 64 bytes are row `number`: CRC-32C of the number's 8 bytes and the row's first 60. */
static inline int wr_row_good(const unsigned char *row, uint64_t number) {
    uint32_t said;
    memcpy(&said, row + WR_ROW_SUMMED, 4);
    return wr_crc32c(wr_crc32c(0, &number, 8), row, WR_ROW_SUMMED) == said;
}

#if defined(__x86_64__)
/* How many whole groups of four rows from the start are good, as rows. */
__attribute__((target("sse4.2"))) static size_t wr_fours_good(const unsigned char *p, size_t n, uint64_t first) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4, p += 4 * WR_ROW) {
        uint64_t c[4];
        uint32_t last, said, wrong = 0;
        for (int k = 0; k < 4; k++) c[k] = __builtin_ia32_crc32di(0xffffffffu, first + i + k);
        for (int at = 0; at < 56; at += 8)
            for (int k = 0; k < 4; k++) {
                uint64_t v;
                memcpy(&v, p + k * WR_ROW + at, 8);
                c[k] = __builtin_ia32_crc32di(c[k], v);
            }
        for (int k = 0; k < 4; k++) {
            memcpy(&last, p + k * WR_ROW + 56, 4);
            memcpy(&said, p + k * WR_ROW + WR_ROW_SUMMED, 4);
            wrong |= ~__builtin_ia32_crc32si((uint32_t)c[k], last) ^ said;
        }
        if (wrong) break;
    }
    return i;
}
#endif

/* How many of the `n` rows at `p` are good from the start; the first is row `first`. */
static inline size_t wr_rows_good(const unsigned char *p, size_t n, uint64_t first) {
    size_t i = 0;
#if defined(__x86_64__)
    if (wr_hw) i = wr_fours_good(p, n, first);
#endif
    while (i < n && wr_row_good(p + i * WR_ROW, first + i)) i++;
    return i;
}
#endif
