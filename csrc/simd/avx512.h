/* The logical vector as one AVX-512 register. The meaning of each operation is in scalar.h. */
#ifndef CYL_SIMD_H
#define CYL_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define REAL float

typedef __m512 V;
typedef __mmask16 M;

#define TILE_COLUMNS 6
#define TILE_VECTORS 4
/* full blocks of one column taken together */
#define GROUP_BLOCKS 2

static inline V v_set1(float a) { return _mm512_set1_ps(a); }
static inline V v_zero(void) { return _mm512_setzero_ps(); }
static inline V v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline V v_load_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* 16 pairs of bfloat16, the first and the second of each as floats */
static inline void v_load_bfloat_pair(const uint16_t *p, V *first, V *second) {
    const __m512i pairs = _mm512_loadu_si512(p);
    *first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *second = _mm512_castsi512_ps(_mm512_and_epi32(pairs, _mm512_set1_epi32((int)0xffff0000u)));
}
#define HAVE_LOAD_BFLOAT_PAIR_ONCE
static inline void v_load_bfloat_pair_once(const uint16_t *p, V *first, V *second) {
    __m512i pairs = _mm512_loadu_si512(p);
    __asm__("" : "+v"(pairs));
    *first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *second = _mm512_castsi512_ps(_mm512_and_epi32(pairs, _mm512_set1_epi32((int)0xffff0000u)));
}
static inline void v_store(float *p, V a) { _mm512_storeu_ps(p, a); }
static inline V v_load_part(const float *p, int n) { return _mm512_maskz_loadu_ps((M)(0xffffu >> (16 - n)), p); }
static inline void v_store_part(float *p, V a, int n) { _mm512_mask_storeu_ps(p, (M)(0xffffu >> (16 - n)), a); }
static inline V v_add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V v_div(V a, V b) { return _mm512_div_ps(a, b); }
static inline V v_min(V a, V b) { return _mm512_min_ps(a, b); }
static inline V v_max(V a, V b) { return _mm512_max_ps(a, b); }
static inline V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V v_sqrt(V a) { return _mm512_sqrt_ps(a); }
static inline V v_scale(V a, V n) { return _mm512_scalef_ps(a, n); }
static inline V v_abs(V a) { return _mm512_abs_ps(a); }
static inline V v_copysign(V a, V b) {
    __m512i sign = _mm512_set1_epi32((int)0x80000000u);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(sign, _mm512_castps_si512(b), _mm512_castps_si512(a), 0xca));
}
static inline M v_less(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline V v_zero_below(V a, float least) {
    __m512i magnitude = _mm512_castps_si512(v_abs(a)), threshold = _mm512_castps_si512(v_set1(least));
    return _mm512_maskz_mov_ps(_mm512_cmpge_epi32_mask(magnitude, threshold), a);
}
static inline V v_select(M m, V a, V b) { return _mm512_mask_blend_ps(m, b, a); }
#define HAVE_LARGER
static inline V v_larger(V a, V b) {
    return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
#define HAVE_KEPT
static inline V v_kept(V a) {
    __asm__("" : "+v"(a));
    return a;
}

#include "common.h"

#endif
