/*
 * Functions of two numbers. Those that are not exact compute in double arithmetic of our own and are rounded once, so
 * that the bits are the same on every machine; a model in double takes libm's.
 *
 * One loop serves all instruction sets. Truths are 1 and 0, and what is not 0 is true, NaN too.
 */
#include "layers/pairs.h"

#include "kernels/doubles.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "platform/ieee.h"

#include <math.h>

/* with the subnormal rule, before the number is one that it would make a subnormal of */
static float round_once(double x) { return __builtin_fabs(x) < (double)CYL_TINY ? 0.0f : (float)x; }

/* apart, since three functions call it */
static __attribute__((noinline)) float fmod_narrow(float x, float y) { return cyl_fmod(x, y); }

/* x - floor(x/y) y, with the sign of y: what is left of x by fmod, moved by y where the signs differ */
static float mod_narrow(float x, float y) {
    const float rest = fmod_narrow(x, y);
    if (rest == 0.0f) {
        return __builtin_copysignf(0.0f, y);
    }
    return (rest < 0.0f) != (y < 0.0f) ? rest + y : rest;
}
static double mod_wide(double x, double y) {
    const double rest = fmod(x, y);
    if (rest == 0.0) {
        return copysign(0.0, y);
    }
    return (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}

/* floor(x/y), where `rest` is fmod(x, y) and whole = (x - rest)/y a whole number but for its rounding */
static double floor_of(double x, double y, double rest) {
    if (y == 0.0) {
        return x / y;
    }
    const double whole = cyl_nearest((x - rest) / y);
    const double quotient = rest != 0.0 && (rest < 0.0) != (y < 0.0) ? whole - 1.0 : whole;
    return quotient == 0.0 ? copysign(0.0, x / y) : quotient;
}

/* A loop in float, and one in double, over numbers a and b that lie steps[0] and steps[1] apart in two arrays. `truth`
   is of those that give 1 or 0. */
#define LOOP(name, REAL, result)                                                                                       \
    static void name(uint32_t truth, const char *const *x, const int64_t *steps, char *y, int64_t size) {              \
        const REAL *first = (const void *)x[0], *second = (const void *)x[1];                                          \
        const int64_t first_step = steps[0], second_step = steps[1];                                                   \
        REAL *to = (void *)y;                                                                                          \
        (void)truth;                                                                                                   \
        for (int64_t i = 0; i < size; i++) {                                                                           \
            const REAL a = first[i * first_step], b = second[i * second_step];                                         \
            to[i] = (REAL)(result);                                                                                    \
        }                                                                                                              \
    }
#define LOOPS(name, narrow, wide) LOOP(name##_narrow, float, narrow) LOOP(name##_wide, double, wide)

/* One loop for all comparisons, and one for all truths: which case it is chooses a bit of `truth`. */
enum { IS_LESS = 1, IS_EQUAL = 2, IS_GREATER = 4, HAS_NAN = 0, IS_SECOND = 1, IS_FIRST = 2, IS_BOTH = 3 };
#define COMPARED truth >> ((a < b) * IS_LESS + (a == b) * IS_EQUAL + (a > b) * IS_GREATER) & 1
#define JOINED truth >> ((a != 0) * IS_FIRST + (b != 0) * IS_SECOND) & 1
#define BIT(which) (1u << (which))

LOOPS(pows, round_once(cyl_pow((double)a, (double)b)), pow(a, b))
LOOPS(mods, mod_narrow(a, b), mod_wide(a, b))
LOOPS(fmods, fmod_narrow(a, b), fmod(a, b))
LOOPS(floor_divs, floor_of((double)a, (double)b, (double)fmod_narrow(a, b)), floor_of(a, b, fmod(a, b)))
LOOPS(atan2s, round_once(cyl_atan2((double)a, (double)b)), atan2(a, b))
LOOPS(hypots, cyl_hypot((double)a, (double)b), hypot(a, b))
LOOPS(copysigns, __builtin_copysignf(a, b), copysign(a, b))
LOOPS(comparisons, COMPARED, COMPARED)
LOOPS(truths, JOINED, JOINED)

static const struct {
    void (*narrow)(uint32_t truth, const char *const *x, const int64_t *steps, char *y, int64_t size);
    void (*wide)(uint32_t truth, const char *const *x, const int64_t *steps, char *y, int64_t size);
    int32_t work;
    uint32_t truth;
} pairs[CYL_PAIR_COUNT] = {
#define FUNCTION(loops, work) {loops##_narrow, loops##_wide, work, 0}
#define TRUTH(loops, cases) {loops##_narrow, loops##_wide, 1, cases}
    [CYL_PAIR_POW] = FUNCTION(pows, 40),
    [CYL_PAIR_MOD] = FUNCTION(mods, 20),
    [CYL_PAIR_FMOD] = FUNCTION(fmods, 20),
    [CYL_PAIR_FLOOR_DIV] = FUNCTION(floor_divs, 20),
    [CYL_PAIR_ATAN2] = FUNCTION(atan2s, 40),
    [CYL_PAIR_HYPOT] = FUNCTION(hypots, 10),
    [CYL_PAIR_COPYSIGN] = FUNCTION(copysigns, 1),
    [CYL_PAIR_EQUAL] = TRUTH(comparisons, BIT(IS_EQUAL)),
    [CYL_PAIR_NOT_EQUAL] = TRUTH(comparisons, BIT(IS_LESS) | BIT(IS_GREATER) | BIT(HAS_NAN)),
    [CYL_PAIR_LESS] = TRUTH(comparisons, BIT(IS_LESS)),
    [CYL_PAIR_LESS_EQUAL] = TRUTH(comparisons, BIT(IS_LESS) | BIT(IS_EQUAL)),
    [CYL_PAIR_GREATER] = TRUTH(comparisons, BIT(IS_GREATER)),
    [CYL_PAIR_GREATER_EQUAL] = TRUTH(comparisons, BIT(IS_GREATER) | BIT(IS_EQUAL)),
    [CYL_PAIR_AND] = TRUTH(truths, BIT(IS_BOTH)),
    [CYL_PAIR_OR] = TRUTH(truths, BIT(IS_BOTH) | BIT(IS_FIRST) | BIT(IS_SECOND)),
    [CYL_PAIR_XOR] = TRUTH(truths, BIT(IS_FIRST) | BIT(IS_SECOND)),
};

int32_t cyl_pair_work(CylPair pair) { return pairs[pair].work; }

void cyl_pair_run(const CylModel *model, int pair, const char *const *x, const int64_t *steps, char *y, int64_t size) {
    const bool is_narrow = model->kernels->real_size == sizeof(float);
    (is_narrow ? pairs[pair].narrow : pairs[pair].wide)(pairs[pair].truth, x, steps, y, size);
    model->kernels->flush(y, y, size);
}
