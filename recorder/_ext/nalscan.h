/* Reading inside NAL units: start codes (ITU-T H.264 annex B) and bits of an RBSP (H.264 7.3, 9.1), emulation prevention removed on the way. */
#ifndef WATCHROOM_NALSCAN_H
#define WATCHROOM_NALSCAN_H
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Position of the first 00 00 01, or n. A legal NAL unit holds none; every payload is scanned, so this must cost next to nothing:
 * two neighbouring zero bytes are looked for 64 bytes at a time, and random data has them once in 65536. */
static inline size_t wr_start_code(const unsigned char *p, size_t n) {
    size_t i = 0;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    while (i + 66 <= n) {
        __m128i pair[4];
        for (int k = 0; k < 4; k++)
            pair[k] = _mm_or_si128(_mm_loadu_si128((const __m128i *)(p + i + 16 * k)),
                                   _mm_loadu_si128((const __m128i *)(p + i + 16 * k + 1)));
        __m128i least = _mm_min_epu8(_mm_min_epu8(pair[0], pair[1]), _mm_min_epu8(pair[2], pair[3]));
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(least, zero)))
            for (size_t k = i; k < i + 64; k++)
                if (!p[k] && !p[k + 1] && p[k + 2] == 1) return k;
        i += 64;
    }
#endif
    for (; i + 3 <= n; i++)
        if (!p[i] && !p[i + 1] && p[i + 2] == 1) return i;
    return n;
}

typedef struct {
    const unsigned char *p, *end;
    unsigned zeros;  /* zero bytes right before p */
    unsigned byte, left;
    int over;        /* not 0: more was asked for than there is */
} wr_bits;

static inline void wr_bits_init(wr_bits *b, const unsigned char *p, size_t n) {
    b->p = p;
    b->end = p + n;
    b->zeros = b->byte = b->left = 0;
    b->over = 0;
}

/* The next byte of the RBSP; 0 and `over` past its end. */
static inline unsigned wr_byte(wr_bits *b) {
    if (b->p < b->end && b->zeros >= 2 && *b->p == 3) {
        b->p++;
        b->zeros = 0;
    }
    if (b->p >= b->end) {
        b->over = 1;
        return 0;
    }
    b->zeros = *b->p ? 0 : b->zeros + 1;
    return *b->p++;
}

static inline unsigned wr_bit(wr_bits *b) {
    if (!b->left) {
        b->byte = wr_byte(b);
        b->left = 8;
    }
    return (b->byte >> --b->left) & 1;
}

static inline uint32_t wr_u(wr_bits *b, unsigned n) {
    uint32_t v = 0;
    while (n--) v = v << 1 | wr_bit(b);
    return v;
}

static inline uint32_t wr_ue(wr_bits *b) {
    unsigned zeros = 0;
    while (!wr_bit(b)) {
        if (b->over || ++zeros > 31) {
            b->over = 1;
            return 0;
        }
    }
    return ((1u << zeros) - 1) + wr_u(b, zeros);
}
#endif
