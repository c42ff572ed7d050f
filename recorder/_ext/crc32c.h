/* CRC-32C (Castagnoli, RFC 3720 B.4): folding with AVX-512 VPCLMULQDQ or SSE4.2 three-way where the CPU has it, a table otherwise; and the algebra
 * that turns running values into the CRC of any range: crc(B) = crc(AB) ^ shift(crc(A), len(B)). */
#ifndef WATCHROOM_CRC32C_H
#define WATCHROOM_CRC32C_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define WR_POLY 0x82f63b78u
#define WR_LONG 4096u
#define WR_SHORT 256u
#define WR_FOLD 256u /* bytes that are folded onto the next as many */

static uint32_t wr_table[8][256];
static uint32_t wr_long_shift[4][256], wr_short_shift[4][256];
static uint32_t wr_x2n[64]; /* x^(2^n) mod P, n = 0 is x^1 */
static int wr_ready = 0, wr_hw = 0, wr_fold = 0;
static uint64_t wr_fold_by[2];

/* a * b mod P, bit-reflected: bit 31 is x^0. */
static uint32_t wr_multmodp(uint32_t a, uint32_t b) {
    uint32_t p = 0, m = 0x80000000u;
    for (;;) {
        if (a & m) {
            p ^= b;
            if ((a & (m - 1)) == 0) return p;
        }
        m >>= 1;
        if (!m) return p;
        b = (b & 1) ? (b >> 1) ^ WR_POLY : b >> 1;
    }
}

/* x^(2^k * n) mod P */
static uint32_t wr_xpow(uint64_t n, unsigned k) {
    uint32_t p = 0x80000000u;
    while (n) {
        if (n & 1) p = wr_multmodp(wr_x2n[k & 63], p);
        n >>= 1;
        k++;
    }
    return p;
}

/* x^(8 * n) mod P */
static uint32_t wr_xpow8(uint64_t n) { return wr_xpow(n, 3); }

static void wr_shift_table(uint32_t t[4][256], uint32_t op) {
    for (unsigned n = 0; n < 256; n++)
        for (unsigned b = 0; b < 4; b++) t[b][n] = wr_multmodp(op, (uint32_t)n << (8 * b));
}

static void wr_crc_setup(void) {
    if (wr_ready) return;
    for (unsigned n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ WR_POLY : c >> 1;
        wr_table[0][n] = c;
    }
    for (unsigned n = 0; n < 256; n++)
        for (unsigned k = 1; k < 8; k++)
            wr_table[k][n] = wr_table[0][wr_table[k - 1][n] & 255] ^ (wr_table[k - 1][n] >> 8);
    uint32_t p = 0x40000000u; /* x^1 */
    for (int n = 0; n < 64; n++) {
        wr_x2n[n] = p;
        p = wr_multmodp(p, p);
    }
    wr_shift_table(wr_long_shift, wr_xpow8(WR_LONG));
    wr_shift_table(wr_short_shift, wr_xpow8(WR_SHORT));
#if defined(__x86_64__)
    wr_hw = __builtin_cpu_supports("sse4.2");
    wr_fold = wr_hw && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
    /* A product of two bit-reflected halves is one bit short, hence the - 1. The half at the lower address is the higher one. */
    wr_fold_by[0] = (uint64_t)wr_xpow(8 * WR_FOLD + 64 - 1, 0) << 32;
    wr_fold_by[1] = (uint64_t)wr_xpow(8 * WR_FOLD - 1, 0) << 32;
#endif
    wr_ready = 1;
}

static inline uint32_t wr_shift_by(uint32_t t[4][256], uint32_t c) {
    return t[0][c & 255] ^ t[1][(c >> 8) & 255] ^ t[2][(c >> 16) & 255] ^ t[3][c >> 24];
}

static uint32_t wr_crc_sw(uint32_t c, const unsigned char *p, size_t n) {
    while (n >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= c;
        c = wr_table[7][v & 255] ^ wr_table[6][(v >> 8) & 255] ^ wr_table[5][(v >> 16) & 255] ^
            wr_table[4][(v >> 24) & 255] ^ wr_table[3][(v >> 32) & 255] ^ wr_table[2][(v >> 40) & 255] ^
            wr_table[1][(v >> 48) & 255] ^ wr_table[0][v >> 56];
        p += 8;
        n -= 8;
    }
    while (n--) c = wr_table[0][(c ^ *p++) & 255] ^ (c >> 8);
    return c;
}

#if defined(__x86_64__)
#define WR_THREE_WAY(SIZE, TABLE)                                          \
    while (n >= 3 * (SIZE)) {                                              \
        uint64_t c1 = 0, c2 = 0;                                           \
        const unsigned char *end = p + (SIZE);                             \
        do {                                                               \
            uint64_t a, b, d;                                              \
            memcpy(&a, p, 8);                                              \
            memcpy(&b, p + (SIZE), 8);                                     \
            memcpy(&d, p + 2 * (SIZE), 8);                                 \
            c0 = __builtin_ia32_crc32di(c0, a);                            \
            c1 = __builtin_ia32_crc32di(c1, b);                            \
            c2 = __builtin_ia32_crc32di(c2, d);                            \
            p += 8;                                                        \
        } while (p < end);                                                 \
        c0 = wr_shift_by(TABLE, (uint32_t)c0) ^ (uint32_t)c1;              \
        c0 = wr_shift_by(TABLE, (uint32_t)c0) ^ (uint32_t)c2;              \
        p += 2 * (SIZE);                                                   \
        n -= 3 * (SIZE);                                                   \
    }

__attribute__((target("sse4.2"))) static uint32_t wr_crc_hw(uint32_t c, const unsigned char *p, size_t n) {
    uint64_t c0 = c;
    WR_THREE_WAY(WR_LONG, wr_long_shift)
    WR_THREE_WAY(WR_SHORT, wr_short_shift)
    while (n >= 8) {
        uint64_t a;
        memcpy(&a, p, 8);
        c0 = __builtin_ia32_crc32di(c0, a);
        p += 8;
        n -= 8;
    }
    uint32_t r = (uint32_t)c0;
    while (n--) r = __builtin_ia32_crc32qi(r, *p++);
    return r;
}

#define WR_FOLD_ONE(S, AT)                                                                                             \
    S = _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(S, by, 0x00), _mm512_clmulepi64_epi128(S, by, 0x11),        \
                                  _mm512_loadu_si512(p + (AT)), 0x96)

/* n >= 2 * WR_FOLD. Bytes are folded onto those WR_FOLD further on, times x^(8 * WR_FOLD) mod P, until only so many are left, whose CRC is that
 * of all. */
__attribute__((target("sse4.2,avx512f,vpclmulqdq"))) static uint32_t wr_crc_folded(uint32_t c, const unsigned char *p, size_t n) {
    unsigned char rest[WR_FOLD];
    const __m512i by = _mm512_broadcast_i32x4(_mm_set_epi64x((long long)wr_fold_by[1], (long long)wr_fold_by[0]));
    __m512i a = _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)c)));
    __m512i b = _mm512_loadu_si512(p + 64), d = _mm512_loadu_si512(p + 128), e = _mm512_loadu_si512(p + 192);
    for (p += WR_FOLD, n -= WR_FOLD; n >= WR_FOLD; p += WR_FOLD, n -= WR_FOLD) {
        WR_FOLD_ONE(a, 0);
        WR_FOLD_ONE(b, 64);
        WR_FOLD_ONE(d, 128);
        WR_FOLD_ONE(e, 192);
    }
    _mm512_storeu_si512(rest, a);
    _mm512_storeu_si512(rest + 64, b);
    _mm512_storeu_si512(rest + 128, d);
    _mm512_storeu_si512(rest + 192, e);
    return wr_crc_hw(wr_crc_hw(0, rest, WR_FOLD), p, n);
}
#else
#define wr_crc_hw wr_crc_sw
#define wr_crc_folded wr_crc_sw
#endif

/* The finished CRC of `n` more bytes after bytes whose finished CRC is `crc` (0 for none). */
static inline uint32_t wr_crc32c(uint32_t crc, const void *buf, size_t n) {
    const unsigned char *p = (const unsigned char *)buf;
    if (wr_fold && n >= 4 * WR_FOLD) return ~wr_crc_folded(~crc, p, n);
    return ~(wr_hw ? wr_crc_hw(~crc, p, n) : wr_crc_sw(~crc, p, n));
}

/* crc(A) moved past n bytes: crc(AB) = shift(crc(A), len(B)) ^ crc(B). */
static inline uint32_t wr_crc_shift(uint32_t crc, uint64_t n) { return wr_multmodp(wr_xpow8(n), crc); }

/* The CRC of the last n bytes of a run, from the running values before and after them. */
static inline uint32_t wr_crc_range(uint32_t before, uint32_t after, uint64_t n) {
    return after ^ wr_crc_shift(before, n);
}
#endif
