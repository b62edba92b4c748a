/* Operations that follow from the others; included at the end of every simd header. */
#ifndef CYL_SIMD_COMMON_H
#define CYL_SIMD_COMMON_H

#include "platform/ieee.h"

/* how the functions of the usual cells are inlined */
#ifndef INLINED
#define INLINED static inline
#endif

static inline V v_neg(V a) { return v_sub(v_zero(), a); }

/* nearest integer, ties to even, for |a| < 2^22: adding 1.5*2^23 leaves no bits for a fraction */
static inline V v_round(V a) {
    V magic = v_set1(12582912.0f);
    return v_sub(v_add(a, magic), magic);
}

#ifndef HAVE_CLAMP
/* x limited to [low, high], neither of which is 0; NaN stays */
static inline __attribute__((always_inline)) V v_clamp(V x, float low, float high) {
    return v_max(v_set1(low), v_min(v_set1(high), x));
}
#endif

/* v_load_bfloat_pair, where the compiler would read the pairs twice and one column of weights waits for these reads */
#ifndef HAVE_LOAD_BFLOAT_PAIR_ONCE
#define v_load_bfloat_pair_once v_load_bfloat_pair
#endif

#ifndef HAVE_KEPT
/* a, which is not loaded again at each use where the compiler would do so */
static inline V v_kept(V a) { return a; }
#endif

/* +0 below the threshold of the subnormal rule (see CYL_TINY in platform/ieee.h); NaN stays */
static inline V v_flush(V a) { return v_zero_below(a, CYL_TINY); }
/* the same of max(0, a) */
static inline V v_relu_flushed(V a) { return v_select(v_less(a, v_set1(CYL_TINY)), v_zero(), a); }

#endif
