/* The activations on any V; kernels/functions.h in float or kernels/functions_libm.h in double precision comes before.
   Names, parameters and their defaults are in cylstm/graph/activations.py. */
#ifndef CYL_ACTIVATION_H
#define CYL_ACTIVATION_H

#include "model/activations.h"

/* x where x > 0, else y */
static inline V v_where_positive(V x, V y) { return v_select(v_less(v_zero(), x), x, y); }

/* x sigmoid(k); x not below -1000, since -inf times 0 would be NaN */
static inline V v_gated(V x, V k) { return v_mul(v_max(v_set1(-1000), x), v_sigmoid(k)); }

#ifndef ACTIVATE_INLINED
#define ACTIVATE_INLINED inline __attribute__((always_inline))
#endif

/* f(x) for every activation but softmax; a call for each 16 numbers would cost as much as the function */
static ACTIVATE_INLINED V v_activate_inline(int id, V x, REAL alpha, REAL beta) {
    const V zero = v_zero(), one = v_set1(1), a = v_set1(alpha), b = v_set1(beta);
    switch (id) {
    case CYL_ACT_TANH:
        return v_tanh(x);
    case CYL_ACT_SIGMOID:
        return v_sigmoid(x);
    case CYL_ACT_RELU: /* the order of operands keeps NaN */
        return v_max(zero, x);
    case CYL_ACT_LEAKY_RELU: /* x, or alpha x below 0 */
        return v_where_positive(x, v_mul(a, v_guard(x)));
    case CYL_ACT_ELU: /* x, or alpha (e^x - 1) below 0 */
        return v_where_positive(x, v_mul(a, v_expm1(v_guard(v_min(zero, x)))));
    case CYL_ACT_SELU: { /* scale x, or scale alpha (e^x - 1) below 0: Klambauer et al., 2017 */
        V scale = v_set1((REAL)1.0507009873554805), scale_alpha = v_set1((REAL)1.7580993408473768);
        return v_select(v_less(zero, x), v_mul(scale, x), v_mul(scale_alpha, v_expm1(v_min(zero, x))));
    }
    case CYL_ACT_SOFTPLUS: /* ln(1 + e^x) */
        return v_softplus(x);
    case CYL_ACT_SOFTSIGN: { /* x / (1 + |x|), clamped where it is +-1, since inf / inf would be NaN */
        V c = v_max(v_set1(-0x1p60f), v_min(v_set1(0x1p60f), x));
        return v_div(c, v_add(one, v_abs(c)));
    }
    case CYL_ACT_SILU: /* x sigmoid(x) */
        return v_gated(v_guard(x), x);
    case CYL_ACT_GELU: /* x Phi(x), Phi the normal distribution function */
        return v_gelu(x);
    case CYL_ACT_GELU_TANH: { /* x (1 + tanh u)/2 = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) */
        V c = v_max(v_set1(-100), v_min(v_set1(100), v_guard(x)));
        V square = v_fma(c, c, v_set1(0x1p-60f));
        V factor = v_fma(square, v_set1((REAL)0.071354816272600255), v_set1((REAL)1.5957691216057308));
        return v_gated(v_guard(x), v_mul(c, factor));
    }
    case CYL_ACT_EXPONENTIAL:
        return v_exp(x);
    case CYL_ACT_HARD_SIGMOID: /* alpha x + beta between 0 and 1 */
        return v_max(zero, v_min(one, v_fma(a, v_guard(x), b)));
    case CYL_ACT_CLIP: /* x between alpha and beta; beta if alpha > beta, as NumPy's clip */
        return v_min(b, v_max(a, x));
    default: /* CYL_ACT_LINEAR */
        return x;
    }
}

/* the same where the size of the code matters more than a call */
static inline V v_activate(int id, V x, REAL alpha, REAL beta) { return v_activate_inline(id, x, alpha, beta); }

/* v_flush of v_activate */
INLINED V v_activate_flushed(const int id, V x, REAL alpha, REAL beta) {
    switch (id) {
    case CYL_ACT_TANH:
        return v_tanh_flushed(x);
    case CYL_ACT_SIGMOID:
        return v_sigmoid_flushed(x);
    default:
        return v_flush(v_activate(id, x, alpha, beta));
    }
}

/* Folds 16 lanes into one: lane i takes lane i + 8, then i + 4, i + 2 and i + 1. */
#define FOLD_LANES(lane, expression)                                                                                   \
    for (int width = 8; width; width /= 2) {                                                                           \
        for (int i = 0; i < width; i++) {                                                                              \
            REAL p = lane[i], q = lane[i + width];                                                                     \
            lane[i] = expression;                                                                                      \
        }                                                                                                              \
    }

/* the sum of all lanes */
static inline REAL sum_lanes(V a) {
    REAL lane[16];
    v_store(lane, a);
    FOLD_LANES(lane, p + q)
    return lane[0];
}

/* 16 inputs of a softmax, those beyond n at -inf, and tiny ones 0, so that no difference is subnormal */
static inline V softmax_load(const REAL *x, int n) {
    static const REAL index[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if (n >= 16)
        return v_guard(v_load(x));
    V inside = v_guard(v_load_part(x, n));
    return v_select(v_less(v_load(index), v_set1((REAL)n)), inside, v_set1((REAL)-__builtin_inff()));
}

/* the maximum of a row in all lanes; not NaN if only some numbers are */
static inline V row_maximum(const REAL *x, int n) {
    REAL lane[16];
    V most = softmax_load(x, n);
    for (int i = 16; i < n; i += 16)
        most = v_max(softmax_load(x + i, n - i), most);
    v_store(lane, most);
    FOLD_LANES(lane, p > q ? p : q)
    return v_set1(lane[0]);
}

/*
 * y[i] = e^(x[i] - m) / sum_j e^(x[j] - m), m the maximum. Maximum and sum are taken per lane, i = 0, 16, 32, ... in
 * lane 0, and then over the lanes as FOLD_LANES does. y may be x. A NaN anywhere makes the row NaN.
 */
static inline void softmax_row(REAL *y, const REAL *x, int n) {
    V highest = row_maximum(x, n), sum = v_zero();
    for (int i = 0; i < n; i += 16) {
        V e = v_exp(v_sub(softmax_load(x + i, n - i), highest));
        sum = v_add(sum, e);
        if (n - i >= 16)
            v_store(y + i, e);
        else
            v_store_part(y + i, e, n - i);
    }
    V total = v_set1(sum_lanes(sum)), least = v_mul(total, v_set1(SMALLEST_NORMAL));
    for (int i = 0; i < n; i += 16) {
        V e = n - i >= 16 ? v_load(y + i) : v_load_part(y + i, n - i);
        e = v_div(v_select(v_less(e, least), v_zero(), e), total);
        if (n - i >= 16)
            v_store(y + i, e);
        else
            v_store_part(y + i, e, n - i);
    }
}

/*
 * y[i] = (x[i] - m) - ln sum_j e^(x[j] - m), m the maximum. The sum is 1 + z, one maximum's e^0 and z the rest: the
 * terms below 1 are added apart from those that are 1, so that no small z is lost. In the order of softmax_row. y may
 * be x. A NaN anywhere makes the row NaN.
 */
static inline void log_softmax_row(REAL *y, const REAL *x, int n) {
    const V highest = row_maximum(x, n), zero = v_zero();
    V sum = zero, count = zero;
    for (int i = 0; i < n; i += 16) {
        V d = v_sub(softmax_load(x + i, n - i), highest), e = v_exp(d);
        sum = v_add(sum, v_select(v_less(d, zero), e, zero));
        count = v_add(count, v_select(v_less(d, zero), zero, e));
    }
    V log_of_sum = v_set1(log1p_of(sum_lanes(sum) + (sum_lanes(count) - 1)));
    for (int i = 0; i < n; i += 16) {
        V d = v_sub(v_sub(softmax_load(x + i, n - i), highest), log_of_sum);
        if (n - i >= 16)
            v_store(y + i, d);
        else
            v_store_part(y + i, d, n - i);
    }
}

#undef FOLD_LANES

#endif
