/* The logical vector on SSE2, which every 64-bit x86 has. The meaning of each operation is in scalar.h. */
#ifndef CYL_SIMD_H
#define CYL_SIMD_H

#include <emmintrin.h>
#include <stdint.h>

#define REAL float

typedef __m128 Q;
typedef __m128 QM; /* all bits set where true */

#define TILE_COLUMNS 2
#define TILE_VECTORS 2
#define TILE_CHAINS 2 /* one column of two vectors, or two of one */
/* one column is a tile as well: its 16 chains would take all registers */
#define GROUP_BLOCKS 0
#define DEPTHWISE_COLUMNS 1
/* as in scalar.h */
#define WIDENED_COLUMNS 1
#define WIDENED_NUMBERS 4096

static inline Q q_set1(float x) { return _mm_set1_ps(x); }
static inline Q q_load(const float *p) { return _mm_loadu_ps(p); }
static inline Q q_load_half(const uint16_t *p) {
    const __m128i half = _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p), _mm_setzero_si128());
    const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x7fff)), 13);
    const __m128i is_subnormal = _mm_cmpgt_epi32(_mm_set1_epi32(1 << 23), magnitude);
    const __m128i is_infinite = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32((31 << 23) - 1));
    /* the bias: 112, 224 or, of what 2^-14 is subtracted from, 113 */
    __m128i bits = _mm_add_epi32(magnitude, _mm_set1_epi32(112 << 23));
    bits = _mm_add_epi32(bits, _mm_and_si128(is_infinite, _mm_set1_epi32(112 << 23)));
    bits = _mm_sub_epi32(bits, _mm_slli_epi32(is_subnormal, 23));
    const Q least = _mm_and_ps(_mm_castsi128_ps(is_subnormal), _mm_set1_ps(0x1p-14f));
    const __m128i sign = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x8000)), 16);
    return _mm_or_ps(_mm_sub_ps(_mm_castsi128_ps(bits), least), _mm_castsi128_ps(sign));
}
static inline void q_load_bfloat_pair(const uint16_t *p, Q *first, Q *second) {
    const __m128i pairs = _mm_loadu_si128((const __m128i *)(const void *)p);
    *first = _mm_castsi128_ps(_mm_slli_epi32(pairs, 16));
    *second = _mm_castsi128_ps(_mm_and_si128(pairs, _mm_set1_epi32((int)0xffff0000u)));
}
static inline void q_store(float *p, Q x) { _mm_storeu_ps(p, x); }
static inline Q q_add(Q x, Q y) { return _mm_add_ps(x, y); }
static inline Q q_sub(Q x, Q y) { return _mm_sub_ps(x, y); }
static inline Q q_mul(Q x, Q y) { return _mm_mul_ps(x, y); }
static inline Q q_div(Q x, Q y) { return _mm_div_ps(x, y); }
static inline Q q_sqrt(Q x) { return _mm_sqrt_ps(x); }
static inline Q q_min(Q x, Q y) { return _mm_min_ps(x, y); }
static inline Q q_max(Q x, Q y) { return _mm_max_ps(x, y); }
static inline Q q_abs(Q x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x); }
static inline QM q_less(Q x, Q y) { return _mm_cmplt_ps(x, y); }
static inline Q q_select(QM m, Q x, Q y) { return _mm_or_ps(_mm_and_ps(m, x), _mm_andnot_ps(m, y)); }
static inline Q q_copysign(Q x, Q y) { return q_select(_mm_set1_ps(-0.0f), y, x); }
static inline Q q_scale(Q x, Q n) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(x), _mm_slli_epi32(_mm_cvttps_epi32(n), 23)));
}
static inline Q q_zero_below(Q x, float least) {
    __m128i magnitude = _mm_castps_si128(q_abs(x));
    return _mm_andnot_ps(_mm_castsi128_ps(_mm_cmplt_epi32(magnitude, _mm_castps_si128(q_set1(least)))), x);
}

/* product + c rounded to odd: truncated, and the last bit set unless the sum is exact */
static inline __m128d sum_to_odd(__m128d product, __m128d c) {
    __m128d sum = _mm_add_pd(product, c), virtual_c = _mm_sub_pd(sum, product);
    __m128d error = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, virtual_c)), _mm_sub_pd(c, virtual_c));
    /* rounded away from zero where the signs of error and sum differ */
    __m128i differ = _mm_srai_epi32(_mm_castpd_si128(_mm_xor_pd(error, sum)), 31);
    __m128i inexact = _mm_castpd_si128(_mm_cmpneq_pd(error, _mm_setzero_pd()));
    /* the error of an infinite sum is NaN */
    inexact = _mm_and_si128(inexact, _mm_castpd_si128(_mm_cmpord_pd(error, error)));
    __m128i toward_zero = _mm_and_si128(_mm_shuffle_epi32(differ, 0xf5), inexact);
    __m128i last_bit = _mm_and_si128(_mm_set_epi32(0, 1, 0, 1), inexact);
    return _mm_castsi128_pd(_mm_or_si128(_mm_add_epi64(_mm_castpd_si128(sum), toward_zero), last_bit));
}

static __attribute__((noinline)) Q q_fma_to_odd(Q x, Q y, Q z) {
    __m128d low = sum_to_odd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(z));
    x = _mm_movehl_ps(x, x), y = _mm_movehl_ps(y, y), z = _mm_movehl_ps(z, z);
    __m128d high = sum_to_odd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(z));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}

/*
 * a*b + c rounded once, as in scalar.h: the sum in double precision is rounded again to float, which differs from
 * rounding once only where it lies in the middle between two floats, or the result is subnormal; there, with a sum
 * rounded to odd.
 */
static inline Q q_fma(Q x, Q y, Q z) {
    __m128d low = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(z));
    Q x2 = _mm_movehl_ps(x, x), y2 = _mm_movehl_ps(y, y), z2 = _mm_movehl_ps(z, z);
    __m128d high = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(x2), _mm_cvtps_pd(y2)), _mm_cvtps_pd(z2));
    Q result = _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
    /* the 29 bits that float lacks are 100...0 */
    __m128i last = _mm_castps_si128(_mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0x88));
    __m128i doubtful = _mm_cmpeq_epi32(_mm_slli_epi32(last, 3), _mm_set1_epi32((int)0x80000000u));
    /* 0 < |result| <= 2^-126, whose bits less one are 0..0x7fffff */
    __m128i less_one = _mm_add_epi32(_mm_castps_si128(q_abs(result)), _mm_set1_epi32(-1));
    __m128i tiny = _mm_cmpeq_epi32(_mm_srli_epi32(less_one, 23), _mm_setzero_si128());
    doubtful = _mm_or_si128(doubtful, tiny);
    return __builtin_expect(_mm_movemask_epi8(doubtful), 0) ? q_fma_to_odd(x, y, z) : result;
}

#include "quarters.h"

#endif
