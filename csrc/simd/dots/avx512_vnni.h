/*
 * Whole-number sums on AVX-512 with VNNI, whose instruction multiplies bytes without a sign by bytes with one: digits
 * are 128 or 32768 more than the number, and of 16 bits their low and high bytes lie apart. The meaning is in scalar.h.
 */
#ifndef CYL_DOTS_AVX512_VNNI_H
#define CYL_DOTS_AVX512_VNNI_H

#include "simd/dots/common.h"

typedef __m512i I_avx512_vnni;

#define DOT_COLUMNS_avx512_vnni 6
#define DOT_WIDE_COLUMNS_avx512_vnni 3

static inline I_avx512_vnni i_start_avx512_vnni(const float *sums, bool is_wide) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_loadu_ps(sums));
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(whole, is_wide ? 15 : 7));
}
static inline V i_real_avx512_vnni(I_avx512_vnni x) { return _mm512_cvtepi32_ps(x); }

static inline uint32_t dot_largest_avx512_vnni(const float *x, int32_t count) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int32_t k = 0; k < count; k += 16) {
        const V part = count - k < 16 ? v_load_part(x + k, count - k) : v_load(x + k);
        largest = _mm512_max_epu32(largest, _mm512_and_epi32(magnitude, _mm512_castps_si512(part)));
    }
    return _mm512_reduce_max_epu32(largest);
}

static inline void dot_round_avx512_vnni(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    const V factors = v_set1(factor);
    const __m512i offset = _mm512_set1_epi32(is_wide ? 32768 : 128);
    for (int32_t k = 0; k < count; k += 16) {
        const V part = count - k < 16 ? v_load_part(x + k, count - k) : v_load(x + k);
        const __m512i number = _mm512_add_epi32(_mm512_cvtps_epi32(v_mul(part, factors)), offset);
        _mm_storeu_si128((__m128i *)(void *)(digits + k), _mm512_cvtepi32_epi8(number));
        if (is_wide) {
            const __m128i high = _mm512_cvtepi32_epi8(_mm512_srli_epi32(number, 8));
            _mm_storeu_si128((__m128i *)(void *)(digits + DOT_HIGH + k), high);
        }
    }
}

/* By hand: the set is compiled without VNNI, and GCC 12 moves registers about its function. Volatile, so that the
   weights are read in the order in which they lie: a CPU fetches them in advance only then. */
#define ADD_DOTS(sum, digits, weights) __asm__ volatile("vpdpbusd %2,%1,%0" : "+v"(sum) : "v"(digits), "v"(weights))
#define ADD_DOTS_AT(sum, digits, p)                                                                                    \
    __asm__ volatile("vpdpbusd %2,%1,%0" : "+v"(sum) : "v"(digits), "m"(*(const __m512i_u *)(const void *)(p)))

static inline __m512i load_avx512(const int8_t *p) {
    __m512i weights;
    __asm__ volatile("vmovdqu64 %1,%0" : "=v"(weights) : "m"(*(const __m512i_u *)(const void *)p));
    return weights;
}
static inline __m512i spread_avx512(const uint8_t *p) { return _mm512_set1_epi32(load_32(p)); }

/* one column: several sums of each row hide the latency */
DOT_INLINE void column_sums_avx512_vnni(const int8_t *w, const uint8_t *digits, int32_t quads, __m512i *sums,
                                        const int vectors) {
    enum { MOST = 4 };
    const int chains = vectors > 2 ? 2 : MOST;
    __m512i sum[MOST][4];
    UNROLLED for (int u = 0; u < chains; u++) {
        UNROLLED for (int v = 0; v < vectors; v++) { sum[u][v] = u == 0 ? sums[v] : _mm512_setzero_si512(); }
    }
    int32_t k = 0;
    for (; k + chains <= quads; k += chains, digits += 4 * chains) {
        UNROLLED for (int u = 0; u < chains; u++, w += vectors * 64) {
            const __m512i x = spread_avx512(digits + 4 * u);
            UNROLLED for (int v = 0; v < vectors; v++) { ADD_DOTS_AT(sum[u][v], x, w + v * 64); }
        }
    }
    for (; k < quads; k++, w += vectors * 64, digits += 4) {
        const __m512i x = spread_avx512(digits);
        UNROLLED for (int v = 0; v < vectors; v++) { ADD_DOTS_AT(sum[0][v], x, w + v * 64); }
    }
    UNROLLED for (int v = 0; v < vectors; v++) {
        sums[v] = sum[0][v];
        UNROLLED for (int u = 1; u < chains; u++) { sums[v] = _mm512_add_epi32(sums[v], sum[u][v]); }
    }
}

/* one column of 16 bits: low and high bytes apart */
DOT_INLINE void wide_column_sums_avx512_vnni(const int8_t *w, const uint8_t *digits, int32_t quads, __m512i *sums,
                                             const int vectors) {
    __m512i low[2][4], high[2][4];
    UNROLLED for (int u = 0; u < 2; u++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            high[u][v] = _mm512_setzero_si512();
            low[u][v] = u == 0 ? sums[v] : high[u][v];
        }
    }
    int32_t k = 0;
    for (; k + 2 <= quads; k += 2, digits += 8) {
        UNROLLED for (int u = 0; u < 2; u++, w += vectors * 64) {
            const __m512i x = spread_avx512(digits + 4 * u), y = spread_avx512(digits + DOT_HIGH + 4 * u);
            UNROLLED for (int v = 0; v < vectors; v++) {
                const __m512i weights = load_avx512(w + v * 64);
                ADD_DOTS(low[u][v], x, weights);
                ADD_DOTS(high[u][v], y, weights);
            }
        }
    }
    if (k < quads) {
        const __m512i x = spread_avx512(digits), y = spread_avx512(digits + DOT_HIGH);
        UNROLLED for (int v = 0; v < vectors; v++) {
            const __m512i weights = load_avx512(w + v * 64);
            ADD_DOTS(low[0][v], x, weights);
            ADD_DOTS(high[0][v], y, weights);
        }
    }
    UNROLLED for (int v = 0; v < vectors; v++) {
        const __m512i all_low = _mm512_add_epi32(low[0][v], low[1][v]);
        const __m512i all_high = _mm512_add_epi32(high[0][v], high[1][v]);
        sums[v] = _mm512_add_epi32(all_low, _mm512_slli_epi32(all_high, 8));
    }
}

DOT_INLINE void dot_sums_avx512_vnni(const int8_t *w, const uint8_t *digits, int32_t quads, __m512i (*sums)[4],
                                     const int vectors, const int columns, const bool is_wide) {
    if (columns == 1) {
        if (is_wide) {
            wide_column_sums_avx512_vnni(w, digits, quads, sums[0], vectors);
        } else {
            column_sums_avx512_vnni(w, digits, quads, sums[0], vectors);
        }
        return;
    }
    if (!is_wide) {
        for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 4) {
            __m512i x[DOT_COLUMNS_avx512_vnni];
            UNROLLED for (int c = 0; c < columns; c++) { x[c] = spread_avx512(digits + c * DOT_BYTES); }
            UNROLLED for (int v = 0; v < vectors; v++) {
                const __m512i weights = load_avx512(w + v * 64);
                UNROLLED for (int c = 0; c < columns; c++) { ADD_DOTS(sums[c][v], x[c], weights); }
            }
        }
        return;
    }
    __m512i low[DOT_WIDE_COLUMNS_avx512_vnni][4], high[DOT_WIDE_COLUMNS_avx512_vnni][4];
    UNROLLED for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            low[c][v] = sums[c][v];
            high[c][v] = _mm512_setzero_si512();
        }
    }
    for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 4) {
        __m512i x[DOT_WIDE_COLUMNS_avx512_vnni], y[DOT_WIDE_COLUMNS_avx512_vnni];
        UNROLLED for (int c = 0; c < columns; c++) {
            x[c] = spread_avx512(digits + c * DOT_BYTES);
            y[c] = spread_avx512(digits + c * DOT_BYTES + DOT_HIGH);
        }
        UNROLLED for (int v = 0; v < vectors; v++) {
            const __m512i weights = load_avx512(w + v * 64);
            UNROLLED for (int c = 0; c < columns; c++) {
                ADD_DOTS(low[c][v], x[c], weights);
                ADD_DOTS(high[c][v], y[c], weights);
            }
        }
    }
    UNROLLED for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            sums[c][v] = _mm512_add_epi32(low[c][v], _mm512_slli_epi32(high[c][v], 8));
        }
    }
}

#undef ADD_DOTS
#undef ADD_DOTS_AT

#endif
