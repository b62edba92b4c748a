/*
 * The logical vector as four registers of four floats, for the headers that define those: Q and QM, their values and
 * truth values, and the operations q_... on them. The meaning of each operation is in scalar.h.
 */
#ifndef CYL_SIMD_QUARTERS_H
#define CYL_SIMD_QUARTERS_H

#include <string.h>

typedef struct {
    Q a, b, c, d;
} V;
typedef struct {
    QM a, b, c, d;
} M;

#define QUARTERS1(type, name, operation)                                                                               \
    static inline type name(V x) { return (type){operation(x.a), operation(x.b), operation(x.c), operation(x.d)}; }
#define QUARTERS2(type, name, operation)                                                                               \
    static inline type name(V x, V y) {                                                                                \
        return (type){operation(x.a, y.a), operation(x.b, y.b), operation(x.c, y.c), operation(x.d, y.d)};             \
    }
QUARTERS1(V, v_abs, q_abs)
QUARTERS1(V, v_sqrt, q_sqrt)
QUARTERS2(V, v_add, q_add)
QUARTERS2(V, v_sub, q_sub)
QUARTERS2(V, v_mul, q_mul)
QUARTERS2(V, v_div, q_div)
QUARTERS2(V, v_min, q_min)
QUARTERS2(V, v_max, q_max)
QUARTERS2(V, v_scale, q_scale)
QUARTERS2(V, v_copysign, q_copysign)
QUARTERS2(M, v_less, q_less)
#undef QUARTERS1
#undef QUARTERS2

static inline V v_set1(float x) {
    Q q = q_set1(x);
    return (V){q, q, q, q};
}
static inline V v_zero(void) { return v_set1(0.0f); }
static inline V v_load(const float *p) { return (V){q_load(p), q_load(p + 4), q_load(p + 8), q_load(p + 12)}; }
static inline V v_load_half(const uint16_t *p) {
    return (V){q_load_half(p), q_load_half(p + 4), q_load_half(p + 8), q_load_half(p + 12)};
}
/* 16 pairs of bfloat16, the first and the second of each as floats */
static inline void v_load_bfloat_pair(const uint16_t *p, V *first, V *second) {
    q_load_bfloat_pair(p, &first->a, &second->a);
    q_load_bfloat_pair(p + 8, &first->b, &second->b);
    q_load_bfloat_pair(p + 16, &first->c, &second->c);
    q_load_bfloat_pair(p + 24, &first->d, &second->d);
}
static inline void v_store(float *p, V x) {
    q_store(p, x.a);
    q_store(p + 4, x.b);
    q_store(p + 8, x.c);
    q_store(p + 12, x.d);
}
static inline V v_load_part(const float *p, int n) {
    float lane[16] = {0};
    memcpy(lane, p, (size_t)n * sizeof(float));
    return v_load(lane);
}
static inline void v_store_part(float *p, V x, int n) {
    float lane[16];
    v_store(lane, x);
    memcpy(p, lane, (size_t)n * sizeof(float));
}
static inline V v_fma(V x, V y, V z) {
    return (V){q_fma(x.a, y.a, z.a), q_fma(x.b, y.b, z.b), q_fma(x.c, y.c, z.c), q_fma(x.d, y.d, z.d)};
}
static inline V v_zero_below(V x, float least) {
    return (V){q_zero_below(x.a, least), q_zero_below(x.b, least), q_zero_below(x.c, least), q_zero_below(x.d, least)};
}
static inline V v_select(M m, V x, V y) {
    return (V){q_select(m.a, x.a, y.a), q_select(m.b, x.b, y.b), q_select(m.c, x.c, y.c), q_select(m.d, x.d, y.d)};
}

#include "common.h"

#endif
