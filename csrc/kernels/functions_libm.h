/* The functions of kernels/functions.h lane by lane through libm, for the BLAS engine in double precision; included
   in its place. */
#ifndef CYL_FUNCTIONS_H
#define CYL_FUNCTIONS_H

#include <math.h>

#define SMALLEST_NORMAL 0 /* libm's subnormals are kept */

/* beside 16 calls of libm one more takes no time */
#define ACTIVATE_INLINED __attribute__((noinline))

#define LANEWISE(name, expression)                                                                                     \
    static __attribute__((noinline)) V name(V a) {                                                                     \
        V r;                                                                                                           \
        EACH_LANE {                                                                                                    \
            REAL x = a.lane[lane];                                                                                     \
            r.lane[lane] = expression;                                                                                 \
        }                                                                                                              \
        return r;                                                                                                      \
    }
LANEWISE(v_exp, exp(x))
LANEWISE(v_expm1, expm1(x))
LANEWISE(v_tanh, tanh(x))
LANEWISE(v_sigmoid, (1 / (1 + exp(-x))))
LANEWISE(v_softplus, ((x > 0 ? x : x != x ? x : 0) + log1p(exp(x > 0 ? -x : x))))
LANEWISE(v_gelu, (x == -INFINITY ? 0 : x / 2 * erfc(x * -0.70710678118654752)))
#undef LANEWISE

static inline REAL log1p_of(REAL z) { return log1p(z); }

static inline V v_guard(V x) { return x; }
/* the subnormal rule is the packed engine's */
static inline V v_tanh_flushed(V x) { return v_tanh(x); }
static inline V v_sigmoid_flushed(V x) { return v_sigmoid(x); }

#endif
