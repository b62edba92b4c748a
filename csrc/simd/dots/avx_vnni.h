/* Whole-number sums on AVX2 with AVX-VNNI, with digits as in avx512_vnni.h; the meaning is in scalar.h. */
#ifndef CYL_DOTS_AVX_VNNI_H
#define CYL_DOTS_AVX_VNNI_H

#include "simd/dots/avx2.h"

typedef I_avx2 I_avx_vnni;

#define DOT_COLUMNS_avx_vnni 1
#define DOT_WIDE_COLUMNS_avx_vnni 1

static inline I_avx_vnni i_start_avx_vnni(const float *sums, bool is_wide) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_loadu_ps(sums)), b = _mm256_cvtps_epi32(_mm256_loadu_ps(sums + 8));
    const __m256i zero = _mm256_setzero_si256();
    const int shift = is_wide ? 15 : 7;
    return (I_avx_vnni){_mm256_sub_epi32(zero, _mm256_slli_epi32(a, shift)),
                        _mm256_sub_epi32(zero, _mm256_slli_epi32(b, shift))};
}
static inline V i_real_avx_vnni(I_avx_vnni x) { return i_real_avx2(x); }
static inline uint32_t dot_largest_avx_vnni(const float *x, int32_t count) { return dot_largest_avx2(x, count); }

static inline void dot_round_avx_vnni(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    const __m256 factors = _mm256_set1_ps(factor);
    for (int32_t k = 0; k < count; k += 16) {
        const __m256i numbers = round_16_avx2(x + k, count - k, factors);
        if (!is_wide) {
            const __m128i bytes =
                _mm_packs_epi16(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
            _mm_storeu_si128((__m128i *)(void *)(digits + k), _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80)));
            continue;
        }
        const __m256i moved = _mm256_xor_si256(numbers, _mm256_set1_epi16((short)0x8000));
        const __m256i low = _mm256_and_si256(moved, _mm256_set1_epi16(255)), high = _mm256_srli_epi16(moved, 8);
        _mm_storeu_si128((__m128i *)(void *)(digits + k),
                         _mm_packus_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
        _mm_storeu_si128((__m128i *)(void *)(digits + DOT_HIGH + k),
                         _mm_packus_epi16(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
    }
}

/* by hand: the set is compiled without AVX-VNNI */
#define ADD_DOTS(sum, digits, weights) __asm__("%{vex%} vpdpbusd %2,%1,%0" : "+x"(sum) : "x"(digits), "x"(weights))

DOT_INLINE void narrow_sums_avx_vnni(const int8_t *w, const uint8_t *digits, int32_t quads, I_avx_vnni *sums,
                                     const int vectors) {
    __m256i sum[8];
    UNROLLED for (int v = 0; v < vectors; v++) {
        sum[2 * v] = sums[v].a;
        sum[2 * v + 1] = sums[v].b;
    }
    for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 4) {
        const __m256i x = _mm256_set1_epi32(load_32(digits));
        UNROLLED for (int v = 0; v < 2 * vectors; v++) { ADD_DOTS(sum[v], x, load_avx2(w + v * 32)); }
    }
    UNROLLED for (int v = 0; v < vectors; v++) { sums[v] = (I_avx_vnni){sum[2 * v], sum[2 * v + 1]}; }
}

DOT_INLINE void wide_sums_avx_vnni(const int8_t *first, const uint8_t *numbers, int32_t quads, I_avx_vnni *sums,
                                   const int vectors) {
    UNROLLED for (int v0 = 0; v0 < vectors; v0 += 2) {
        const int taken = vectors - v0 < 2 ? vectors - v0 : 2;
        const int8_t *w = first + v0 * 64;
        const uint8_t *digits = numbers;
        __m256i low[4], high[4];
        UNROLLED for (int v = 0; v < 2 * taken; v++) { low[v] = high[v] = _mm256_setzero_si256(); }
        for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 4) {
            const __m256i x = _mm256_set1_epi32(load_32(digits)), y = _mm256_set1_epi32(load_32(digits + DOT_HIGH));
            UNROLLED for (int v = 0; v < 2 * taken; v++) {
                const __m256i weights = load_avx2(w + v * 32);
                ADD_DOTS(low[v], x, weights);
                ADD_DOTS(high[v], y, weights);
            }
        }
        UNROLLED for (int v = 0; v < taken; v++) {
            I_avx_vnni *s = &sums[v0 + v];
            const __m256i a = _mm256_slli_epi32(high[2 * v], 8), b = _mm256_slli_epi32(high[2 * v + 1], 8);
            s->a = _mm256_add_epi32(s->a, _mm256_add_epi32(low[2 * v], a));
            s->b = _mm256_add_epi32(s->b, _mm256_add_epi32(low[2 * v + 1], b));
        }
    }
}

#undef ADD_DOTS

DOT_INLINE void dot_sums_avx_vnni(const int8_t *w, const uint8_t *digits, int32_t quads, I_avx_vnni (*sums)[4],
                                  const int vectors, const int columns, const bool is_wide) {
    UNROLLED for (int c = 0; c < columns; c++) {
        if (is_wide) {
            wide_sums_avx_vnni(w, digits + c * DOT_BYTES, quads, sums[c], vectors);
        } else {
            narrow_sums_avx_vnni(w, digits + c * DOT_BYTES, quads, sums[c], vectors);
        }
    }
}

#endif
