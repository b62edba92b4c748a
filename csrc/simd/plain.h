/*
 * The logical vector as an array of 16 doubles, for the BLAS engine in double precision: the operations of scalar.h
 * that its kernels use, without their promise of identical bits.
 */
#ifndef CYL_SIMD_H
#define CYL_SIMD_H

#include <stddef.h>
#include <string.h>

#define REAL double
#define INLINED static inline
/* outputs of a depthwise convolution at once: in double precision more of them are code and no gain */
#define DEPTHWISE_COLUMNS 1

typedef struct {
    REAL lane[16];
} V;
typedef struct {
    unsigned char lane[16]; /* 0 or 1 */
} M;

#define EACH_LANE for (int lane = 0; lane < 16; lane++)

static inline V v_set1(REAL a) {
    V r;
    EACH_LANE r.lane[lane] = a;
    return r;
}
static inline V v_zero(void) { return v_set1(0); }
static inline V v_load(const REAL *p) {
    V r;
    memcpy(&r, p, sizeof r);
    return r;
}
static inline void v_store(REAL *p, V a) { memcpy(p, &a, sizeof a); }
/* the first n of 16 lanes, the others 0; n in 1..16 */
static inline V v_load_part(const REAL *p, int n) {
    V r = v_zero();
    memcpy(&r, p, (size_t)n * sizeof(REAL));
    return r;
}
static inline void v_store_part(REAL *p, V a, int n) { memcpy(p, &a, (size_t)n * sizeof(REAL)); }

#define LANEWISE2(name, expression)                                                                                    \
    static inline V name(V a, V b) {                                                                                   \
        V r;                                                                                                           \
        EACH_LANE {                                                                                                    \
            REAL x = a.lane[lane];                                                                                     \
            REAL y = b.lane[lane];                                                                                     \
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

static inline V v_neg(V a) { return v_sub(v_zero(), a); }
/* a*b + c, rounded twice */
static inline V v_fma(V a, V b, V c) { return v_add(v_mul(a, b), c); }
static inline V v_sqrt(V a) {
    V r;
    EACH_LANE r.lane[lane] = __builtin_sqrt(a.lane[lane]);
    return r;
}
static inline V v_abs(V a) {
    V r;
    EACH_LANE r.lane[lane] = __builtin_fabs(a.lane[lane]);
    return r;
}
/* false where either is NaN */
static inline M v_less(V a, V b) {
    M r;
    EACH_LANE r.lane[lane] = a.lane[lane] < b.lane[lane];
    return r;
}
/* a where m, else b */
static inline V v_select(M m, V a, V b) {
    V r;
    EACH_LANE r.lane[lane] = m.lane[lane] ? a.lane[lane] : b.lane[lane];
    return r;
}
static inline V v_kept(V a) { return a; }
/* the subnormal rule is one of float */
static inline V v_flush(V a) { return a; }
static inline V v_relu_flushed(V a) { return v_max(v_zero(), a); }

#endif
