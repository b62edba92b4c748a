/*
 * The elementary functions of float models, computed in double precision and rounded once.
 *
 * Only IEEE add, subtract, multiply, divide and square root of double, in a fixed order, and operations on bits, so
 * that one compilation, for all instruction sets, gives the same bits on every machine; no libm. What is rounded is
 * within 2^-36 of the truth, so a result is the float nearest to it or, where the truth lies in the middle between two
 * floats but for a few ten-thousandths of their distance, perhaps the other one. The coefficients are minimax fits of
 * our own. The errors over all floats are in docs/accuracy.md; tests/csrc/elementary_test.c asserts them.
 *
 * Two numbers are computed at once, and nothing branches: where numbers go different ways, all ways are computed and
 * one is chosen. No operation on double meets a subnormal number, since all floats are normal doubles. A result below
 * 2^-126 is 0 of its sign.
 */
#include "layers/elementary.h"
#include "platform/ieee.h"

#include <math.h>

/* vectors of GNU C; a comparison gives a mask, all bits of a number for true */
typedef double D __attribute__((vector_size(16)));
typedef int64_t Mask __attribute__((vector_size(16)));
typedef uint64_t Bits __attribute__((vector_size(16)));

#define INFINITE HUGE_VAL
#define SIGN_BIT ((uint64_t)1 << 63)
/* Added to a number below 2^51, it leaves no bits for a fraction: the sum's last bits are the nearest integer. */
#define MAGIC 0x1.8p52
/* the bits of 1, 2^52 and the square root of 1/2 */
#define ONE_BITS 0x3ff0000000000000u
#define TWO_52_BITS 0x4330000000000000u
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcdu

/* a where the mask is true, b elsewhere */
static inline D choose(Mask where, D a, D b) { return (D)(((Mask)a & where) | ((Mask)b & ~where)); }
static inline D number(double a) { return (D){a, a}; }
static inline D magnitude(D x) { return (D)((Bits)x & ~SIGN_BIT); }
static inline D square_root(D x) { return (D){sqrt(x[0]), sqrt(x[1])}; }
/* |x| with the sign of `of` */
static inline D with_sign(D x, D of) { return (D)(((Bits)x & ~SIGN_BIT) | ((Bits)of & SIGN_BIT)); }
/* the integer nearest to x, halves to even; floats from 2^51 on are integers */
static inline D nearest(D x) { return choose(magnitude(x) < 0x1p51, x + MAGIC - MAGIC, x); }
static inline D floor_of(D x) {
    D r = nearest(x);
    return choose(r > x, r - 1, r);
}

/* ---- powers ---- */

#define LOG2_E 0x1.71547652b82fep+0

/* 2^(x factor) = power (1 + rest): with x factor = n + r, |r| <= 1/2, power = 2^n and rest = 2^r - 1 = r P(r). Beyond
   2^300 and 2^-300, which no float is, it stays there. */
static __attribute__((noinline)) D exponential(D x, double factor, D *rest) {
    D t = x * factor;
    t = choose(t > 300, number(300), t);
    t = choose(t < -300, number(-300), t);
    D shifted = t + MAGIC, r = t - (shifted - MAGIC);
    D p = 1.53036300160232673e-5 + r * 1.32154656221468024e-6;
    p = 1.54036297306932216e-4 + r * p;
    p = 1.33334787525334583e-3 + r * p;
    p = 9.61812894224363689e-3 + r * p;
    p = 5.55041090605109949e-2 + r * p;
    p = 2.40226506964902401e-1 + r * p;
    p = 6.93147180556872339e-1 + r * p;
    *rest = r * p;
    return (D)(((Bits)shifted + 1023) << 52);
}
static inline D power_of(D x, double factor) {
    D rest, power = exponential(x, factor, &rest);
    return power + power * rest;
}
/* e^x - 1; +0 at both zeros */
static inline D power_less_1(D x) {
    D rest, power = exponential(x, LOG2_E, &rest);
    return power * rest + (power - 1);
}

/* ---- logarithms ---- */

#define LN_2 0x1.62e42fefa39efp-1
#define LOG10_2 0x1.34413509f79ffp-2
#define LOG10_E 0x1.bcb7b1526e50ep-2

/*
 * n unit + scale ln m, where u = 2^n m, sqrt(1/2) < m < sqrt(2). ln m = 2 atanh(s) = s (2 + s^2 Q(s^2)) with
 * s = (m - 1) / (m + 1). Where n = 0, `less` is taken for m - 1: there u may be 1 + less, rounded. Infinity for
 * infinity, minus infinity for 0, NaN below.
 */
static __attribute__((noinline)) D logarithm(D u, D less, double unit, double scale) {
    Bits n_biased = ((Bits)u - SQRT_HALF_BITS + ONE_BITS) >> 52; /* n + 1023 */
    D n = (D)(n_biased | TWO_52_BITS) - (0x1p52 + 1023);
    D m = (D)((Bits)u - (n_biased << 52) + ONE_BITS);
    D d = choose(n == 0, less, m - 1);
    D s = d / (2 + d), q = s * s;
    D p = 2.21761760541634680e-1 + q * 1.95843400941316224e-1;
    p = 2.85721094507221778e-1 + q * p;
    p = 3.99999956191583396e-1 + q * p;
    p = 6.66666666758086503e-1 + q * p;
    D y = n * unit + scale * (s * (2 + q * p));
    y = choose(u > 0, y, choose(u == 0, number(-INFINITE), number(NAN)));
    return choose(u == INFINITE, u, y);
}
/* scale ln(1 + less); +0 at both zeros */
static inline D logarithm_of_1_plus(D less, double scale) { return logarithm(1 + less, less, scale * LN_2, scale); }

/* ---- angles ---- */

#define HALF_PI 0x1.921fb54442d18p+0
#define TWO_OVER_PI 0x1.45f306dc9c883p-1
#define TAN_PI_8 0x1.a827999fcef32p-2

/* the bits of 2/pi, as many as floats ask for, in words of 32, behind a word of zeros */
static const uint32_t TWO_OVER_PI_WORDS[] = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                             0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};

/*
 * r = x - k pi/2 between -pi/4 and pi/4, for a float x from 2^20 on; *quadrant = k mod 4. x = m 2^e with m of 24 bits.
 * In m 2^e (2/pi) those bits of 2/pi that 2^e makes multiples of 4 do not matter: of the others the first 96 are taken.
 * Their product with m, of which only what is below 4 counts, is within 2^-70, and r is at least 2^-31 for every float.
 */
static double large_remainder(double x, uint64_t *quadrant) {
    const union {
        double x;
        uint64_t bits;
    } given = {x};
    const uint64_t m = (given.bits >> 29 & 0x7fffff) | 0x800000;
    /* the first bit that is taken, of those of the words */
    const int first = (int)(given.bits >> 52) - 1023 - 23 - 2 + 32;
    const uint32_t *words = &TWO_OVER_PI_WORDS[first / 32];
    uint64_t taken[3];
    for (int i = 0; i < 3; i++) {
        taken[i] = ((uint64_t)words[i] << 32 | words[i + 1]) << first % 32 >> 32;
    }
    /* of the product in units of 2^-62 what is whole, and in units of 2^-94 the rest */
    const uint64_t low = m * taken[2], high = (m * taken[0] << 32) + m * taken[1] + (low >> 32);
    *quadrant = (high + ((uint64_t)1 << 61)) >> 62;
    const int64_t r = (int64_t)(high - (*quadrant << 62));
    return ((double)r + (double)(uint32_t)low * 0x1p-32) * (HALF_PI * 0x1p-62);
}

/* sin r and cos r, where x = k pi/2 + r, |r| <= pi/4, x >= 0; the last two bits of *quadrant are k's. pi/2 is taken in
   two parts, of which the first has 33 bits, so that k times it is exact for x < 2^20. */
static __attribute__((noinline)) D sine_and_cosine(D x, D *cosine, Bits *quadrant) {
    D shifted = x * TWO_OVER_PI + MAGIC, k = shifted - MAGIC;
    D r = (x - k * 0x1.921fb544p+0) - k * 0x1.0b4611a626331p-34;
    *quadrant = (Bits)shifted;
    for (int lane = 0; lane < 2; lane++) {
        if (x[lane] >= 0x1p20 && x[lane] < INFINITE) {
            uint64_t found;
            r[lane] = large_remainder(x[lane], &found);
            (*quadrant)[lane] = found;
        }
    }
    D q = r * r;
    D p = 2.47990400139019697e-5 + q * -2.71800245434038003e-7;
    p = -1.38888810740703499e-3 + q * p;
    p = 4.16666665619980361e-2 + q * p;
    p = -4.99999999995447197e-1 + q * p;
    *cosine = 1 + q * p;
    p = -1.98393341714362643e-4 + q * 2.71830499887712288e-6;
    p = 8.33332938387493570e-3 + q * p;
    p = -1.66666666416096909e-1 + q * p;
    return r * (1 + q * p);
}
/* sin(x + ahead pi/2), x >= 0 */
static inline D sine(D x, uint64_t ahead) {
    Bits quadrant;
    D c, s = sine_and_cosine(x, &c, &quadrant);
    quadrant += ahead;
    return (D)((Bits)choose((Mask)(0 - (quadrant & 1)), c, s) ^ (quadrant & 2) << 62);
}
/* sin r / cos r, in odd quadrants -cos r / sin r */
static inline D tangent(D x) {
    Bits quadrant;
    D c, s = sine_and_cosine(x, &c, &quadrant);
    Mask is_odd = (Mask)(0 - (quadrant & 1));
    return (D)((Bits)(choose(is_odd, c, s) / choose(is_odd, s, c)) ^ quadrant << 63);
}

/* atan(x), x >= 0: pi/2 + atan(-1 / x), pi/4 + atan((x - 1) / (x + 1)), or atan(x) itself, which leaves |z| <=
   tan(pi/8) to be approximated */
static __attribute__((noinline)) D arc_tangent(D x) {
    Mask is_middle = x > TAN_PI_8, is_large = x > 2 + TAN_PI_8;
    D base = choose(is_large, number(HALF_PI), choose(is_middle, number(HALF_PI / 2), number(0)));
    D above = choose(is_large, number(-1), choose(is_middle, x - 1, x));
    D below = choose(is_large, x, choose(is_middle, x + 1, number(1)));
    D z = above / below, q = z * z;
    D p = 6.99307981878931793e-2 + q * -3.79554935865199986e-2;
    p = -8.99727501084936300e-2 + q * p;
    p = 1.11040538115561551e-1 + q * p;
    p = -1.42854265205225233e-1 + q * p;
    p = 1.99999944036592333e-1 + q * p;
    p = -3.33333332964122992e-1 + q * p;
    return base + z * (1 + q * p);
}

/* ---- the rest ---- */

/* erfc(x) = e^(-x^2) G(t), t = (x - 4) / (x + 4), for x >= 0. From 11 on it is below what a float holds. */
static __attribute__((noinline)) D complementary_error(D x) {
    x = choose(x > 11, number(11), x);
    D t = (x - 4) / (x + 4);
    D p = -2.71485737975111799e-5 + t * -9.41567125324050991e-6;
    p = 8.19760215493188230e-5 + t * p;
    p = -1.77655191458339101e-5 + t * p;
    p = -7.99057457207863535e-4 + t * p;
    p = 4.05911981852310601e-3 + t * p;
    p = -1.28441265078406970e-2 + t * p;
    p = 3.12992120620634673e-2 + t * p;
    p = -6.31077879514250989e-2 + t * p;
    p = 1.08963166999947719e-1 + t * p;
    p = -1.64257818066589840e-1 + t * p;
    p = 2.18719679199538910e-1 + t * p;
    p = -2.59068048744338026e-1 + t * p;
    p = 1.36999457623745738e-1 + t * p;
    return power_of(x * x, -LOG2_E) * p;
}
/* erf(x), x >= 0: a polynomial where 1 - erfc(x) would cancel */
static inline D error(D x) {
    D q = x * x;
    D p = 5.20029049508242453e-3 + q * -7.69253637694444800e-4;
    p = -2.68631164170152648e-2 + q * p;
    p = 1.12837737783730450e-1 + q * p;
    p = -3.76126385183904727e-1 + q * p;
    p = 1.12837916708204902e+0 + q * p;
    return choose(x < 0.5, x * p, 1 - complementary_error(x));
}

/* x^(1/3), x >= 0. A third of the upper half of the bits is a third of the logarithm within 5%: the constant is what
   the bias of the exponent needs. Each of Halley's steps makes of an error e one of 2/3 e^3. */
static inline D cube_root(D x) {
    Mask is_plain = (x > 0) & (x < INFINITE);
    D of = choose(is_plain, x, number(1));
    D upper = (D)((Bits)of >> 32 | TWO_52_BITS) - 0x1p52;
    D t = (D)((Bits)(upper * (1.0 / 3) + (MAGIC + 715094163)) << 32);
    for (int step = 0; step < 2; step++) {
        D cube = t * t * t;
        t = t * ((cube + 2 * of) / (2 * cube + of));
    }
    return choose(is_plain, t, x);
}

static inline D truth(Mask where) { return choose(where, number(1), number(0)); }

/* f(x); |x| is x without its sign, and all that an odd function is computed of */
static D evaluate(CylFunction function, D x) {
    switch (function) {
    case CYL_FUNCTION_NEG:
        return -x;
    case CYL_FUNCTION_ABS:
        return magnitude(x);
    case CYL_FUNCTION_SIGN:
        return choose(x == x, truth(x > 0) - truth(x < 0), x);
    case CYL_FUNCTION_SQUARE:
        return x * x;
    case CYL_FUNCTION_RECIPROCAL:
        return 1 / x;
    case CYL_FUNCTION_SQRT:
        return square_root(x);
    case CYL_FUNCTION_RSQRT:
        return 1 / square_root(x);
    case CYL_FUNCTION_CBRT:
        return cube_root(x);
    case CYL_FUNCTION_FLOOR:
        return with_sign(floor_of(x), x);
    case CYL_FUNCTION_CEIL:
        return with_sign(floor_of(-x), x);
    case CYL_FUNCTION_ROUND:
        return nearest(x);
    case CYL_FUNCTION_TRUNC:
        return floor_of(x);
    case CYL_FUNCTION_EXP:
        return power_of(x, LOG2_E);
    case CYL_FUNCTION_EXP2:
        return power_of(x, 1);
    case CYL_FUNCTION_EXPM1:
        return choose(x == 0, x, power_less_1(x));
    case CYL_FUNCTION_LOG:
        return logarithm(x, x - 1, LN_2, 1);
    case CYL_FUNCTION_LOG2:
        return logarithm(x, x - 1, 1, LOG2_E);
    case CYL_FUNCTION_LOG10:
        return logarithm(x, x - 1, LOG10_2, LOG10_E);
    case CYL_FUNCTION_LOG1P:
        return choose(x == 0, x, logarithm_of_1_plus(x, 1));
    case CYL_FUNCTION_SIN:
        return sine(x, 0);
    case CYL_FUNCTION_COS:
        return sine(magnitude(x), 1);
    case CYL_FUNCTION_TAN:
        return tangent(x);
    case CYL_FUNCTION_ASIN:
        return arc_tangent(x / square_root((1 - x) * (1 + x)));
    case CYL_FUNCTION_ACOS:
        return 2 * arc_tangent(square_root((1 - x) / (1 + x)));
    case CYL_FUNCTION_ATAN:
        return arc_tangent(x);
    case CYL_FUNCTION_SINH: { /* (e^x - e^-x) / 2, without a difference */
        D e = power_less_1(x);
        return 0.5 * (e + e / (e + 1));
    }
    case CYL_FUNCTION_COSH: {
        D e = power_of(x, LOG2_E);
        return 0.5 * (e + 1 / e);
    }
    case CYL_FUNCTION_ASINH: { /* ln(x + sqrt(1 + x^2)), where sqrt(1 + x^2) = 1 + x^2 / (1 + sqrt(1 + x^2)) */
        D less = x + x * (x / (1 + square_root(1 + x * x)));
        return logarithm_of_1_plus(choose(x < 0x1p60, less, 2 * x), 1);
    }
    case CYL_FUNCTION_ACOSH: { /* ln(x + sqrt(x^2 - 1)) */
        D t = choose(x >= 1, x - 1, number(NAN));
        return logarithm_of_1_plus(t + square_root(t * (t + 2)), 1);
    }
    case CYL_FUNCTION_ATANH: /* ln((1 + x) / (1 - x)) / 2 */
        return logarithm_of_1_plus(2 * x / (1 - x), 0.5);
    case CYL_FUNCTION_ERF:
        return error(x);
    case CYL_FUNCTION_ERFC: {
        D y = complementary_error(magnitude(x));
        return choose(x < 0, 2 - y, y);
    }
    case CYL_FUNCTION_LOGICAL_NOT:
        return truth(x == 0);
    case CYL_FUNCTION_ISNAN:
        return truth(x != x);
    case CYL_FUNCTION_ISINF:
        return truth(magnitude(x) == INFINITE);
    case CYL_FUNCTION_ISFINITE:
        return truth(magnitude(x) < INFINITE);
    case CYL_FUNCTION_COUNT:
        break;
    }
    return x;
}

const char *const cyl_function_names[CYL_FUNCTION_COUNT + 1] = {
#define CYL_FUNCTION(name, ...) #name,
#include "layers/elementary.def"
};

static const bool IS_ODD[CYL_FUNCTION_COUNT] = {
#define CYL_FUNCTION(name, NAME, is_odd, ...) is_odd,
#include "layers/elementary.def"
};

void cyl_function_float(CylFunction function, const float *x, float *y, int64_t size, bool is_flushed) {
    const float least = is_flushed ? CYL_TINY : 0.0f;
    const uint64_t sign = IS_ODD[function] ? SIGN_BIT : 0;
    for (int64_t i = 0; i < size; i += 2) {
        bool is_pair = i + 1 < size;
        D given = {(double)x[i], (double)x[i + is_pair]};
        D found = evaluate(function, (D)((Bits)given & ~sign));
        found = (D)((Bits)found ^ ((Bits)given & sign));
        found = choose(magnitude(found) < 0x1p-126, found * 0, found);
        for (int lane = 0; lane <= is_pair; lane++) {
            float rounded = (float)found[lane];
            y[i + lane] = fabsf(rounded) < least ? 0.0f : rounded;
        }
    }
}

/* ---- double precision ---- */

#define CYL_FUNCTION(name, NAME, is_odd, expression)                                                                   \
    static double wide_##name(double x) { return expression; }
#include "layers/elementary.def"

void cyl_function_double(CylFunction function, const double *x, double *y, int64_t size) {
    static double (*const wide[CYL_FUNCTION_COUNT])(double) = {
#define CYL_FUNCTION(name, ...) wide_##name,
#include "layers/elementary.def"
    };
    for (int64_t i = 0; i < size; i++) {
        y[i] = wide[function](x[i]);
    }
}
