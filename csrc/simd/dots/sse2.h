/* Whole-number sums on SSE2, whose digits are always of 16 bits; the meaning is in scalar.h. */
#ifndef CYL_DOTS_SSE2_H
#define CYL_DOTS_SSE2_H

#include "simd/dots/common.h"

typedef struct {
    __m128i a, b, c, d;
} I_sse2;

#define DOT_COLUMNS_sse2 1
#define DOT_WIDE_COLUMNS_sse2 1

static inline I_sse2 i_start_sse2(const float *sums, bool is_wide) {
    (void)sums, (void)is_wide;
    const __m128i zero = _mm_setzero_si128();
    return (I_sse2){zero, zero, zero, zero};
}
static inline V i_real_sse2(I_sse2 x) {
    return (V){_mm_cvtepi32_ps(x.a), _mm_cvtepi32_ps(x.b), _mm_cvtepi32_ps(x.c), _mm_cvtepi32_ps(x.d)};
}

static inline uint32_t dot_largest_sse2(const float *x, int32_t count) {
    const __m128i magnitude = _mm_set1_epi32(0x7fffffff);
    __m128i largest = _mm_setzero_si128();
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const __m128i bits = _mm_and_si128(magnitude, _mm_loadu_si128((const __m128i *)(const void *)(x + k)));
        const __m128i is_larger = _mm_cmpgt_epi32(bits, largest);
        largest = _mm_or_si128(_mm_and_si128(is_larger, bits), _mm_andnot_si128(is_larger, largest));
    }
    uint32_t lane[4], found = 0;
    _mm_storeu_si128((__m128i *)(void *)lane, largest);
    for (int j = 0; j < 4; j++) {
        found = lane[j] > found ? lane[j] : found;
    }
    for (; k < count; k++) {
        const uint32_t bits = magnitude_bits(x[k]);
        found = bits > found ? bits : found;
    }
    return found;
}

static inline void dot_round_sse2(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    (void)is_wide;
    const __m128 factors = _mm_set1_ps(factor);
    for (int32_t k = 0; k < count; k += 8) {
        float few[8] = {0};
        const float *from = x + k;
        if (count - k < 8) {
            memcpy(few, from, (size_t)(count - k) * sizeof(float));
            from = few;
        }
        const __m128i low = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(from), factors));
        const __m128i high = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(from + 4), factors));
        _mm_storeu_si128((__m128i *)(void *)(digits + 2 * k), _mm_packs_epi32(low, high));
    }
}

/* the sums of two numbers that lie side by side */
static inline __m128i add_pairs_sse2(__m128i x, __m128i y) {
    const __m128 p = _mm_castsi128_ps(x), q = _mm_castsi128_ps(y);
    return _mm_add_epi32(_mm_castps_si128(_mm_shuffle_ps(p, q, 0x88)), _mm_castps_si128(_mm_shuffle_ps(p, q, 0xdd)));
}

DOT_INLINE void dot_sums_sse2(const int8_t *w, const uint8_t *digits, int32_t quads, I_sse2 (*sums)[4],
                              const int vectors, const int columns, const bool is_wide) {
    (void)is_wide;
    for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            __m128i sum[8];
            UNROLLED for (int j = 0; j < 8; j++) { sum[j] = _mm_setzero_si128(); }
            const int8_t *at = w + v * 64;
            const uint8_t *from = digits + c * DOT_BYTES;
            for (int32_t k = 0; k < quads; k++, at += vectors * 64, from += 8) {
                __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)from);
                x = _mm_unpacklo_epi64(x, x);
                UNROLLED for (int j = 0; j < 4; j++) {
                    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(at + 16 * j));
                    const __m128i low = _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
                    const __m128i high = _mm_srai_epi16(_mm_unpackhi_epi8(bytes, bytes), 8);
                    sum[2 * j] = _mm_add_epi32(sum[2 * j], _mm_madd_epi16(x, low));
                    sum[2 * j + 1] = _mm_add_epi32(sum[2 * j + 1], _mm_madd_epi16(x, high));
                }
            }
            I_sse2 *s = &sums[c][v];
            s->a = _mm_add_epi32(s->a, add_pairs_sse2(sum[0], sum[1]));
            s->b = _mm_add_epi32(s->b, add_pairs_sse2(sum[2], sum[3]));
            s->c = _mm_add_epi32(s->c, add_pairs_sse2(sum[4], sum[5]));
            s->d = _mm_add_epi32(s->d, add_pairs_sse2(sum[6], sum[7]));
        }
    }
}

#endif
