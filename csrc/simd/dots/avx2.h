/* Whole-number sums on AVX2, and on AVX-512 without dot products; the meaning is in scalar.h. */
#ifndef CYL_DOTS_AVX2_H
#define CYL_DOTS_AVX2_H

#include "simd/dots/common.h"

typedef struct {
    __m256i a, b;
} I_avx2;

#define DOT_COLUMNS_avx2 1
#define DOT_WIDE_COLUMNS_avx2 1

static inline I_avx2 i_start_avx2(const float *sums, bool is_wide) {
    (void)sums, (void)is_wide;
    return (I_avx2){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
static inline V i_real_avx2(I_avx2 x) {
#ifdef __AVX512F__
    return _mm512_cvtepi32_ps(_mm512_inserti64x4(_mm512_castsi256_si512(x.a), x.b, 1));
#else
    return (V){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
#endif
}

static inline uint32_t dot_largest_avx2(const float *x, int32_t count) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    int32_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + k));
        largest = _mm256_max_epu32(largest, _mm256_and_si256(magnitude, bits));
    }
    __m128i half = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
    uint32_t found = (uint32_t)_mm_cvtsi128_si32(half);
    for (; k < count; k++) {
        const uint32_t bits = magnitude_bits(x[k]);
        found = bits > found ? bits : found;
    }
    return found;
}

/* 16 numbers of 16 bits */
static inline __m256i round_16_avx2(const float *x, int32_t count, __m256 factor) {
    float few[16] = {0};
    if (count < 16) {
        memcpy(few, x, (size_t)count * sizeof(float));
        x = few;
    }
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}
static inline void dot_round_avx2(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    const __m256 factors = _mm256_set1_ps(factor);
    for (int32_t k = 0; k < count; k += 16) {
        const __m256i numbers = round_16_avx2(x + k, count - k, factors);
        if (is_wide) {
            _mm256_storeu_si256((__m256i *)(void *)(digits + 2 * k), numbers);
        } else {
            const __m128i bytes =
                _mm_packs_epi16(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
            _mm_storeu_si128((__m128i *)(void *)(digits + k), bytes);
        }
    }
}

static inline __m256i load_avx2(const int8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

/* The sums of a quad are those of two pairs: |number| * (weight with the number's sign), at most 2*127*127 in 16 bits.
   The compiler would keep fewer sums in registers than there are, hence the instructions by hand. */
DOT_INLINE void narrow_sums_avx2(const int8_t *w, const uint8_t *digits, int32_t quads, I_avx2 *sums,
                                 const int vectors) {
    const __m256i one = _mm256_set1_epi16(1);
    __m256i sum[8];
    UNROLLED for (int v = 0; v < vectors; v++) {
        sum[2 * v] = sums[v].a;
        sum[2 * v + 1] = sums[v].b;
    }
    for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 4) {
        const __m256i x = _mm256_set1_epi32(load_32(digits)), magnitude = _mm256_abs_epi8(x);
        UNROLLED for (int v = 0; v < 2 * vectors; v++) {
            __m256i signed_weights;
            __asm__("vpsignb %2,%1,%0" : "=x"(signed_weights) : "x"(load_avx2(w + v * 32)), "x"(x));
            const __m256i pairs = _mm256_maddubs_epi16(magnitude, signed_weights);
            const __m256i quad = _mm256_madd_epi16(one, pairs);
            __asm__("vpaddd %1,%0,%0" : "+x"(sum[v]) : "x"(quad));
        }
    }
    UNROLLED for (int v = 0; v < vectors; v++) { sums[v] = (I_avx2){sum[2 * v], sum[2 * v + 1]}; }
}

/* four rows of four columns at a time, two sums for each row, which are added at the end */
DOT_INLINE void wide_sums_avx2(const int8_t *first, const uint8_t *numbers, int32_t quads, I_avx2 *sums,
                               const int vectors) {
    UNROLLED for (int v0 = 0; v0 < vectors; v0 += 2) {
        const int taken = vectors - v0 < 2 ? vectors - v0 : 2;
        const int8_t *w = first + v0 * 64;
        const uint8_t *digits = numbers;
        __m256i sum[8];
        UNROLLED for (int j = 0; j < 8; j++) { sum[j] = _mm256_setzero_si256(); }
        for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 8) {
            const __m256i x = _mm256_set1_epi64x(load_64(digits));
            UNROLLED for (int j = 0; j < 4 * taken; j++) {
                const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(w + j * 16));
                const __m256i pairs = _mm256_madd_epi16(x, _mm256_cvtepi8_epi16(bytes));
                __asm__("vpaddd %1,%0,%0" : "+x"(sum[j]) : "x"(pairs));
            }
        }
        UNROLLED for (int v = 0; v < taken; v++) {
            const __m256i low = _mm256_hadd_epi32(sum[4 * v], sum[4 * v + 1]);
            const __m256i high = _mm256_hadd_epi32(sum[4 * v + 2], sum[4 * v + 3]);
            I_avx2 *s = &sums[v0 + v];
            s->a = _mm256_add_epi32(s->a, _mm256_permute4x64_epi64(low, 0xd8));
            s->b = _mm256_add_epi32(s->b, _mm256_permute4x64_epi64(high, 0xd8));
        }
    }
}

DOT_INLINE void dot_sums_avx2(const int8_t *w, const uint8_t *digits, int32_t quads, I_avx2 (*sums)[4],
                              const int vectors, const int columns, const bool is_wide) {
    UNROLLED for (int c = 0; c < columns; c++) {
        if (is_wide) {
            wide_sums_avx2(w, digits + c * DOT_BYTES, quads, sums[c], vectors);
        } else {
            narrow_sums_avx2(w, digits + c * DOT_BYTES, quads, sums[c], vectors);
        }
    }
}

#endif
