/*
 * The elementwise functions in float, on the logical vector of simd/.
 *
 * Only IEEE add, subtract, multiply, divide and fused multiply-add, in a fixed order, so that every machine gives the
 * same bits. The coefficients are minimax fits of our own, rounded to float. The errors over all floats are in
 * docs/accuracy.md; tests/csrc/functions_test.c asserts them.
 *
 * NaN gives NaN and infinities give the limits. A result of exp, sigmoid, softplus or gelu below 2^-126 is +0. No
 * operation here has a subnormal operand or result unless the argument is subnormal: where a square of a tiny number
 * would underflow, FLOOR is added to it in the same operation, too small to change what it is used for. Where x is NaN
 * v_scale is given NaN for n, and may make of it what it likes, since r is NaN too.
 */
#ifndef CYL_FUNCTIONS_H
#define CYL_FUNCTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LOG2_E 1.44269504f         /* rounded to float: it only chooses n */
#define LN_2 0.693147182f          /* ln 2 rounded up to float, */
#define LN_2_EXCESS 1.90465421e-9f /* which is this much too large */
#define FLOOR 0x1p-60f
#define SMALLEST_NORMAL 0x1p-126f

/* x, or +0 where |x| < 2^-80: an operand of a product that could otherwise be subnormal */
static inline V v_guard(V x) { return v_select(v_less(v_abs(x), v_set1(0x1p-80f)), v_zero(), x); }

/* the integer nearest to a*factor, for |a*factor| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction */
static inline V v_round_product(V a, float factor) {
    const V magic = v_set1(12582912.0f);
    return v_sub(v_fma(a, v_set1(factor), magic), magic);
}

/* x = n*ln2 + r, |r| <= ln2/2: gives r and n. For |x| < 100 */
static inline V v_reduce(V x, V *n) {
    *n = v_round_product(x, LOG2_E);
    V r = v_fma(*n, v_set1(-LN_2), x);
    return v_fma(*n, v_set1(LN_2_EXCESS), r);
}

/* e^r - 1 = r + r^2 q(r), for |r| <= ln2/2; relative error 2^-24 */
static inline V v_expm1_reduced(V r) {
    V q = v_fma(r, v_set1(1.3882523e-3f), v_set1(8.3665146e-3f));
    q = v_fma(r, q, v_set1(4.16672e-2f));
    q = v_fma(r, q, v_set1(1.6666544e-1f));
    q = v_fma(r, q, v_set1(0.5f));
    return v_fma(v_fma(r, q, v_set1(FLOOR)), r, r);
}

/* e^x = 2^n e^r; +inf above ln(FLT_MAX), +0 where e^x < 2^-126 */
static inline V v_exp(V x) {
    const V highest = v_set1(88.72283f);
    V n, clamped = v_min(v_max(x, v_set1(-87.33654f)), highest);
    V r = v_reduce(clamped, &n);
    V y = v_scale(v_add(v_set1(1.0f), v_expm1_reduced(r)), n);
    y = v_select(v_less(highest, x), v_set1(__builtin_inff()), y);
    /* the other lanes are too low, +0, or NaN, which the maximum keeps */
    return v_select(v_less(v_set1(-87.33655f), x), y, v_max(v_zero(), x));
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), for x <= 0, the half that elu and selu need */
static inline V v_expm1(V x) {
    const V one = v_set1(1.0f);
    V n, r = v_reduce(v_max(v_set1(-30.0f), x), &n);
    V power = v_scale(one, n);
    return v_fma(power, v_expm1_reduced(r), v_sub(power, one));
}

/*
 * tanh(x) with x = n*ln2/2 + r, |r| <= ln2/4, s = 2^n, tanh(r) = r / E, E = r coth(r) a polynomial in r^2:
 * ((s - 1) E + (s + 1) r) / ((s + 1) E + (s - 1) r), one division and no cancellation. Small x have n = 0, so
 * 2r / 2E = x; from x = 8.5 on s - 1 and s + 1 round to the same number, which makes the result 1. Odd, but tanh(-0)
 * is +0.
 */
static inline __attribute__((always_inline)) V v_tanh_of(V x, const bool is_flushed) {
    const V one = v_set1(1.0f);
    V a = v_clamp(x, -10.0f, 10.0f);
    V n = v_round_product(a, 2.0f * LOG2_E);
    V r = v_fma(n, v_set1(-0.5f * LN_2), a);
    V y = v_fma(r, r, v_set1(FLOOR));
    V e = v_fma(y, v_fma(y, v_set1(-2.2128059e-2f), v_set1(3.3333236e-1f)), one);
    V power = v_scale(one, n), plus = v_add(power, one), minus = v_sub(power, one);
    V up = v_fma(minus, e, v_mul(plus, r));
    if (is_flushed) {
        up = v_select(v_less(v_abs(x), v_set1(CYL_TINY)), v_zero(), up);
    }
    return v_div(up, v_fma(plus, e, v_mul(minus, r)));
}
INLINED V v_tanh(V x) { return v_tanh_of(x, false); }

/* v_flush(v_tanh(x)): tanh is below CYL_TINY exactly where x is, and a comparison with x waits for nothing */
INLINED V v_tanh_flushed(V x) { return v_tanh_of(x, true); }

/*
 * sigmoid(x) = 1 / (1 + e^-x) with x = r - n*ln2, |r| <= ln2/2, s = 2^n, e^-r = (E - r) / (E + r),
 * E = r coth(r/2) a polynomial in r^2: (E + r) / ((E + r) + s (E - r)), one division and accurate relative to the
 * result for negative x too. What LN_2 is too large, n times over, goes into s. +0 where x < lowest.
 */
static inline __attribute__((always_inline)) V v_sigmoid_from(V x, float least) {
    const V lowest = v_set1(least);
    V a = v_clamp(x, least, 80.0f);
    V n = v_round_product(a, -LOG2_E);
    V r = v_fma(n, v_set1(LN_2), a);
    V y = v_fma(r, r, v_set1(FLOOR));
    V e = v_fma(y, v_fma(y, v_set1(-2.7660073e-3f), v_set1(1.6666618e-1f)), v_set1(2.0f));
    V up = v_add(e, r), down = v_sub(e, r);
    V power = v_scale(v_fma(n, v_set1(LN_2_EXCESS), v_set1(1.0f)), n);
    return v_div(v_select(v_less(x, lowest), v_zero(), up), v_fma(power, down, up));
}
static inline V v_sigmoid(V x) { return v_sigmoid_from(x, -87.33654f); }

/* v_flush(v_sigmoid(x)): v_sigmoid is below CYL_TINY exactly where x < -0x1.bb9d3ap+4 (functions_test.c) */
INLINED V v_sigmoid_flushed(V x) { return v_sigmoid_from(x, -0x1.bb9d3ap+4f); }

/* ln(1 + z) = 2 atanh(w/2) = w P(w^2) with w = z / (1 + z/2), for -0.3 < z <= 1: gives w and P */
static inline V v_log1p_reduced(V z, V *w) {
    *w = v_div(z, v_fma(z, v_set1(0.5f), v_set1(1.0f)));
    V y = v_fma(*w, *w, v_set1(FLOOR));
    V p = v_fma(y, v_set1(5.4711065e-4f), v_set1(2.1876398e-3f));
    p = v_fma(y, p, v_set1(1.2506728e-2f));
    p = v_fma(y, p, v_set1(8.333302e-2f));
    return v_fma(y, p, v_set1(1.0f));
}

/* ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|) */
static inline V v_softplus(V x) {
    V w, p = v_log1p_reduced(v_exp(v_neg(v_abs(x))), &w);
    return v_fma(w, p, v_max(v_zero(), x));
}

/* ln(1 + z) = n*ln2 + ln(1 + d) for z >= 0 and finite, 1/sqrt(2) <= 1 + d < sqrt(2); where n is 0, d is z itself */
static inline float log1p_of(float z) {
    if (z != z)
        return z;
    const uint32_t least = 0x3f3504f3u; /* 1/sqrt(2) */
    float sum = 1.0f + z, lane[16];
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    uint32_t n = (bits - least) >> 23;
    bits -= n << 23;
    memcpy(&sum, &bits, sizeof sum);
    V w, p = v_log1p_reduced(v_set1(n ? sum - 1.0f : z), &w);
    v_store(lane, v_fma(v_set1((float)n), v_set1(LN_2), v_mul(w, p)));
    return lane[0];
}

/*
 * gelu(x) = x Phi(x) = max(x, 0) - t Phi(-t), t = |x|, and Phi(-t) = e^(-t^2/2) P(t)/Q(t): no cancellation below 0.
 * t^2 is taken as two floats, since its rounding error would be multiplied by t^2/2.
 */
static inline V v_gelu(V x) {
    const V one = v_set1(1.0f), highest = v_set1(13.14f);
    V guarded = v_guard(x), t = v_abs(guarded), a = v_min(highest, t);
    V square = v_fma(a, a, v_set1(FLOOR)), rest = v_fma(a, a, v_neg(square));
    V e = v_exp(v_mul(square, v_set1(-0.5f)));
    e = v_fma(e, v_mul(rest, v_set1(-0.5f)), e);
    V p = v_fma(a, v_set1(4.00734367e-3f), v_set1(3.9897006e-2f));
    p = v_fma(a, p, v_set1(1.81047156e-1f));
    p = v_fma(a, p, v_set1(4.35333759e-1f));
    p = v_fma(a, p, v_set1(0.5f));
    V q = v_fma(a, v_set1(1.00447731e-2f), v_set1(1.000145e-1f));
    q = v_fma(a, q, v_set1(4.63695019e-1f));
    q = v_fma(a, q, v_set1(1.19340289f));
    q = v_fma(a, q, v_set1(1.66855204f));
    q = v_fma(a, q, one);
    V below = v_mul(v_div(v_mul(a, p), q), e);
    return v_sub(v_max(v_zero(), guarded), v_select(v_less(highest, t), v_zero(), below));
}

#undef LOG2_E
#undef LN_2
#undef LN_2_EXCESS
#undef FLOOR

#endif
