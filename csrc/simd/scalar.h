/*
 * The logical vector of 16 floats as an array: every machine, and the meaning that the other simd headers share.
 *
 * V holds 16 lanes, M one truth value per lane. Every operation is IEEE single precision, rounded once, lane by
 * lane, so that all headers give the same bits. v_round and v_scale are defined on the stated ranges only.
 */
#ifndef CYL_SIMD_H
#define CYL_SIMD_H

#include "platform/ieee.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define REAL float

typedef struct {
    float lane[16];
} V;
typedef struct {
    uint32_t lane[16]; /* 0 or 1 */
} M;

/* columns and vectors of one register tile of a product, see kernels/product.h */
#define TILE_COLUMNS 2
#define TILE_VECTORS 2
/* one column is a tile as well */
#define GROUP_BLOCKS 0
/* outputs of a depthwise convolution at once: more of them are code and no gain */
#define DEPTHWISE_COLUMNS 1
/* Weights of 16 bits are made floats once for all columns, this many on the stack at a time: a multiply-add takes so
   long that tiles of their own would be code and no gain. */
#define WIDENED_COLUMNS 1
#define WIDENED_NUMBERS 4096

#define EACH_LANE for (int lane = 0; lane < 16; lane++)

/*
 * a*b + c rounded once. Without the instruction: the product is exact in double, and rounding the sum first to double
 * and then to float differs from rounding it once only where it lies in the middle between two floats, or the result
 * is subnormal. There the sum is rounded to odd before (Boldo & Melquiond, 2008), but not for the BLAS engine, which
 * promises no bits.
 */
#if defined(CYL_HAVE_FMA)
static inline float fma_once(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#elif defined(CYL_FMA_BY_DOUBLE)
static inline float fma_once(float a, float b, float c) { return (float)((double)a * (double)b + (double)c); }
#else
static __attribute__((noinline)) float fma_to_odd(float a, float b, float c) {
    double product = (double)a * (double)b, sum = product + (double)c;
    double virtual_c = sum - product;
    double error = (product - (sum - virtual_c)) + ((double)c - virtual_c);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (error != 0.0 && !(bits & 1) && sum - sum == 0.0) {
        bits += ((error > 0.0) == (sum > 0.0)) ? (uint64_t)1 : ~(uint64_t)0;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
}
static inline float fma_once(float a, float b, float c) {
    double sum = (double)a * (double)b + (double)c;
    float result = (float)sum;
    uint64_t bits;
    uint32_t result_bits;
    memcpy(&bits, &sum, sizeof bits);
    memcpy(&result_bits, &result, sizeof result_bits);
    /* the 29 bits that float lacks are 100...0, or 0 < |result| <= 2^-126 */
    bool is_doubtful = (uint32_t)bits << 3 == 0x80000000u || (result_bits & 0x7fffffffu) - 1 < 0x00800000u;
    return __builtin_expect(is_doubtful, 0) ? fma_to_odd(a, b, c) : result;
}
#endif

static inline V v_set1(float a) {
    V r;
    EACH_LANE r.lane[lane] = a;
    return r;
}
static inline V v_zero(void) { return v_set1(0.0f); }
static inline V v_load(const float *p) {
    V r;
    memcpy(&r, p, sizeof r);
    return r;
}
/* 16 numbers of float16 as floats, exactly; the bits of a half are moved to a float's, and its exponent gets the other
   bias, 127 instead of 15 */
static inline V v_load_half(const uint16_t *p) {
    V r;
    EACH_LANE {
        const uint32_t half = p[lane], magnitude = (half & 0x7fffu) << 13;
        const bool is_subnormal = magnitude < 1u << 23, is_finite = magnitude < 31u << 23;
        uint32_t bits = magnitude + ((is_finite ? 112u : 224u) << 23) + ((uint32_t)is_subnormal << 23);
        float x;
        memcpy(&x, &bits, sizeof x);
        x -= is_subnormal ? 0x1p-14f : 0.0f; /* of (1 + fraction)*2^-14 */
        memcpy(&bits, &x, sizeof bits);
        bits |= (half & 0x8000u) << 16;
        memcpy(&r.lane[lane], &bits, sizeof bits);
    }
    return r;
}
/* 16 pairs of bfloat16, the first and the second of each as floats, whose first 16 bits they are */
static inline void v_load_bfloat_pair(const uint16_t *p, V *first, V *second) {
    EACH_LANE {
        const uint32_t a = (uint32_t)p[2 * lane] << 16, b = (uint32_t)p[2 * lane + 1] << 16;
        memcpy(&first->lane[lane], &a, sizeof a);
        memcpy(&second->lane[lane], &b, sizeof b);
    }
}
static inline void v_store(float *p, V a) { memcpy(p, &a, sizeof a); }
/* the first n of 16 lanes, the others 0; n in 1..16 */
static inline V v_load_part(const float *p, int n) {
    V r = v_zero();
    memcpy(&r, p, (size_t)n * sizeof(float));
    return r;
}
static inline void v_store_part(float *p, V a, int n) { memcpy(p, &a, (size_t)n * sizeof(float)); }

#define LANEWISE2(name, expression)                                                                                    \
    static inline V name(V a, V b) {                                                                                   \
        V r;                                                                                                           \
        EACH_LANE {                                                                                                    \
            float x = a.lane[lane];                                                                                    \
            float y = b.lane[lane];                                                                                    \
            r.lane[lane] = expression;                                                                                 \
        }                                                                                                              \
        return r;                                                                                                      \
    }
LANEWISE2(v_add, x + y)
LANEWISE2(v_sub, x - y)
LANEWISE2(v_mul, x *y)
LANEWISE2(v_div, x / y)
LANEWISE2(v_min, x < y ? x : y) /* the second operand if either is NaN */
LANEWISE2(v_max, x > y ? x : y)
#undef LANEWISE2

/* a*b + c, rounded once */
static inline V v_fma(V a, V b, V c) {
    V r;
    EACH_LANE r.lane[lane] = fma_once(a.lane[lane], b.lane[lane], c.lane[lane]);
    return r;
}
static inline V v_sqrt(V a) {
    V r;
    EACH_LANE r.lane[lane] = __builtin_sqrtf(a.lane[lane]);
    return r;
}
/* a * 2^n for n an integer, |n| <= 128, where a and the result are normal; n may be NaN where a is */
static inline V v_scale(V a, V n) {
    V r;
    EACH_LANE {
        float k = n.lane[lane];
        uint32_t bits;
        memcpy(&bits, &a.lane[lane], sizeof bits);
        bits += (uint32_t)(k == k ? (int32_t)k : 0) << 23;
        memcpy(&r.lane[lane], &bits, sizeof bits);
    }
    return r;
}
static inline V v_abs(V a) {
    V r;
    EACH_LANE r.lane[lane] = __builtin_fabsf(a.lane[lane]);
    return r;
}
/* the magnitude of a with the sign of b */
static inline V v_copysign(V a, V b) {
    V r;
    EACH_LANE r.lane[lane] = __builtin_copysignf(a.lane[lane], b.lane[lane]);
    return r;
}
/* false where either is NaN */
static inline M v_less(V a, V b) {
    M r;
    EACH_LANE r.lane[lane] = a.lane[lane] < b.lane[lane];
    return r;
}
/* a, or +0 where |a| < least; NaN stays. By its bits: comparing a subnormal number would be an operation with one. */
static inline V v_zero_below(V a, float least) {
    V r;
    uint32_t threshold;
    memcpy(&threshold, &least, sizeof threshold);
    EACH_LANE {
        uint32_t bits;
        memcpy(&bits, &a.lane[lane], sizeof bits);
        bits = (bits & 0x7fffffffu) < threshold ? 0 : bits;
        memcpy(&r.lane[lane], &bits, sizeof bits);
    }
    return r;
}
/* a where m, else b */
static inline V v_select(M m, V a, V b) {
    V r;
    EACH_LANE r.lane[lane] = m.lane[lane] ? a.lane[lane] : b.lane[lane];
    return r;
}

#include "common.h"

#endif
