/* The logical vector as two AVX2 registers. The meaning of each operation is in scalar.h. */
#ifndef CYL_SIMD_H
#define CYL_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define REAL float

typedef struct {
    __m256 a, b;
} V;
typedef V M; /* all bits set where true */

#define TILE_COLUMNS 3
#define TILE_VECTORS 2
/* full blocks of one column taken together */
#define GROUP_BLOCKS 1
/* From so many columns on, weights of 16 bits are made floats once for all, this many on the stack at a time: the tiles
   are so narrow that they would widen each weight for every three columns. */
#define WIDENED_COLUMNS 6
#define WIDENED_NUMBERS 4096

static inline V v_set1(float x) { return (V){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline V v_zero(void) { return (V){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline V v_load(const float *p) { return (V){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline V v_load_half(const uint16_t *p) {
    const __m128i *halves = (const __m128i *)(const void *)p;
    return (V){_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
/* 16 pairs of bfloat16, the first and the second of each as floats */
static inline void v_load_bfloat_pair(const uint16_t *p, V *first, V *second) {
    const __m256i *pairs = (const __m256i *)(const void *)p;
    const __m256i a = _mm256_loadu_si256(pairs), b = _mm256_loadu_si256(pairs + 1);
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    *first = (V){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
    *second = (V){_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high))};
}
static inline void v_store(float *p, V x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
/* lanes first.. of a row of 8, as a mask: true where first + lane < n */
static inline __m256i part_mask(int n, int first) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), lane);
}
static inline V v_load_part(const float *p, int n) {
    return (V){_mm256_maskload_ps(p, part_mask(n, 0)), _mm256_maskload_ps(p + 8, part_mask(n, 8))};
}
static inline void v_store_part(float *p, V x, int n) {
    _mm256_maskstore_ps(p, part_mask(n, 0), x.a);
    _mm256_maskstore_ps(p + 8, part_mask(n, 8), x.b);
}
static inline V v_add(V x, V y) { return (V){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline V v_sub(V x, V y) { return (V){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline V v_mul(V x, V y) { return (V){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline V v_div(V x, V y) { return (V){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline V v_min(V x, V y) { return (V){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
static inline V v_max(V x, V y) { return (V){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline V v_fma(V x, V y, V z) { return (V){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
static inline V v_sqrt(V x) { return (V){_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
static inline __m256 scale_half(__m256 x, __m256 n) {
    __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), shift));
}
static inline V v_scale(V x, V n) { return (V){scale_half(x.a, n.a), scale_half(x.b, n.b)}; }
static inline V v_abs(V x) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (V){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
static inline V v_copysign(V x, V y) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    V magnitude = v_abs(x);
    return (V){_mm256_or_ps(magnitude.a, _mm256_and_ps(sign, y.a)),
               _mm256_or_ps(magnitude.b, _mm256_and_ps(sign, y.b))};
}
static inline M v_less(V x, V y) {
    return (M){_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
static inline __m256 zero_below_half(__m256 x, float least) {
    __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
    __m256i below = _mm256_cmpgt_epi32(_mm256_castps_si256(_mm256_set1_ps(least)), magnitude);
    return _mm256_andnot_ps(_mm256_castsi256_ps(below), x);
}
static inline V v_zero_below(V x, float least) { return (V){zero_below_half(x.a, least), zero_below_half(x.b, least)}; }
static inline V v_select(M m, V x, V y) {
    return (V){_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}
#define HAVE_LARGER
/* the second operand is the result where either is NaN, and NaN stays so with more bits set */
static inline __m256 larger_half(__m256 x, __m256 y) { return _mm256_or_ps(_mm256_max_ps(x, y), _mm256_max_ps(y, x)); }
static inline V v_larger(V x, V y) { return (V){larger_half(x.a, y.a), larger_half(x.b, y.b)}; }

#include "common.h"

#endif
