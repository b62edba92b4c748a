/*
 * Functions in double arithmetic, for float results that are rounded once, at the end.
 *
 * Only IEEE add, subtract, multiply, divide and square root in a fixed order, so that every machine gives the same
 * bits; libm differs between systems. The coefficients are minimax fits of our own. NaN, infinities and zeros are
 * taken as C's functions of the same name take them.
 */
#ifndef CYL_DOUBLES_H
#define CYL_DOUBLES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CYL_PI 3.141592653589793

static inline uint64_t cyl_bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline double cyl_of_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
/* 2^n for -1022 <= n <= 1023 */
static inline double cyl_power_of_two(int64_t n) { return cyl_of_bits((uint64_t)(n + 1023) << 52); }

/* the integer nearest to x, ties to even; x itself from 2^51 on, and where it is NaN */
static inline double cyl_nearest(double x) {
    const double magic = 0x1.8p52;
    return __builtin_fabs(x) < 0x1p51 ? (x + magic) - magic : x;
}

/*
 * log2(x) for a positive normal x: x = 2^n m with 1/sqrt(2) <= m < sqrt(2), log2(m) = 2/ln(2) atanh(s),
 * s = (m - 1) / (m + 1), and atanh(s) = s P(s^2). Relative error below 2^-50, also near 1, where n is 0.
 */
static inline double cyl_log2(double x) {
    const uint64_t least = UINT64_C(0x3fe6a09e667f3bcd); /* 1/sqrt(2) */
    uint64_t bits = cyl_bits_of(x);
    const int64_t n = ((int64_t)bits - (int64_t)least) >> 52;
    bits -= (uint64_t)n << 52;
    const double m = cyl_of_bits(bits), s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 0.074053437438696230;
    p = z * p + 0.076562143132837840;
    p = z * p + 0.090918178310548102;
    p = z * p + 0.11111098488867040;
    p = z * p + 0.14285714380722972;
    p = z * p + 0.19999999999649220;
    p = z * p + 0.33333333333333826;
    p = z * p + 1.0;
    return (double)n + 2.8853900817779268 * (s * p);
}

/* 2^x = 2^n 2^f with |f| <= 1/2, relative error below 2^-51; inf from 1024 on, 0 below -1021 */
static inline double cyl_exp2(double x) {
    if (!(x < 1024.0)) {
        return x + (double)__builtin_inff(); /* NaN stays */
    }
    if (x < -1021.0) {
        return 0.0;
    }
    const double n = cyl_nearest(x), f = x - n;
    double p = 4.4353482325873664e-10;
    p = f * p + 7.0741119994039076e-9;
    p = f * p + 1.0178197648338872e-7;
    p = f * p + 1.3215433064526126e-6;
    p = f * p + 1.5252733490720046e-5;
    p = f * p + 1.5403530462581370e-4;
    p = f * p + 1.3333558146789394e-3;
    p = f * p + 9.6181291075882839e-3;
    p = f * p + 5.5504108664819923e-2;
    p = f * p + 0.24022650695910156;
    p = f * p + 0.69314718055994533;
    p = f * p + 1.0;
    return p * 2.0 * cyl_power_of_two((int64_t)n - 1); /* n may be 1024 */
}

/* whether y is a whole number, and an odd one; infinities and what is beyond 2^53 are even */
static inline bool cyl_is_whole(double y, bool *is_odd) {
    const bool is_large = __builtin_fabs(y) >= 0x1p53, is_whole = is_large || (double)(int64_t)y == y;
    *is_odd = is_whole && !is_large && ((int64_t)y & 1) != 0;
    return is_whole;
}

/* x^y = 2^(y log2 x). Relative error below 2^-50 |y log2 x|, and exact where the result has few enough digits. */
static inline double cyl_pow(double x, double y) {
    const double infinity = (double)__builtin_inff();
    if (y == 0.0 || x == 1.0) {
        return 1.0; /* of NaN too */
    }
    if (x != x || y != y) {
        return x + y;
    }
    if (y == 2.0) {
        return x * x;
    }
    const double magnitude = __builtin_fabs(x);
    double sign = 1.0;
    if (__builtin_signbit(x)) {
        bool is_odd;
        if (!cyl_is_whole(y, &is_odd) && magnitude > 0.0 && magnitude < infinity) {
            return (double)__builtin_nanf("");
        }
        sign = is_odd ? -1.0 : 1.0;
    }
    if (magnitude == 0.0 || magnitude == infinity) {
        return (magnitude == 0.0) == (y < 0.0) ? sign * infinity : sign * 0.0;
    }
    if (__builtin_fabs(y) == infinity) {
        return magnitude == 1.0 ? 1.0 : (magnitude > 1.0) == (y > 0.0) ? infinity : 0.0;
    }
    return y == 0.5 ? __builtin_sqrt(magnitude) : sign * cyl_exp2(y * cyl_log2(magnitude));
}

/*
 * The angle of (x, y) from the positive x axis, in (-pi, pi]. With a <= b the two magnitudes, atan(a/b) is
 * u P(u^2) + c with u = a/b and c = 0 up to tan(pi/8), then u = (a - b) / (a + b) and c = pi/4. Relative error below
 * 2^-48.
 */
static inline double cyl_atan2(double y, double x) {
    if (x != x || y != y) {
        return x + y;
    }
    const double across = __builtin_fabs(x), up = __builtin_fabs(y);
    const double a = across < up ? across : up, b = across < up ? up : across;
    double u = 0.0, offset = 0.0;
    if (a == b && b > 0.0) { /* infinities too */
        offset = CYL_PI / 4.0;
    } else if (a > 0.41421356237309503 * b) {
        u = (a - b) / (a + b);
        offset = CYL_PI / 4.0;
    } else if (b > 0.0) {
        u = a / b;
    }
    const double z = u * u;
    double p = -0.025356077599321269;
    p = z * p + 0.050278317160633256;
    p = z * p - 0.065069746105674845;
    p = z * p + 0.076737082193534274;
    p = z * p - 0.090895475086791518;
    p = z * p + 0.11111049901412177;
    p = z * p - 0.14285712696825466;
    p = z * p + 0.19999999978983413;
    p = z * p - 0.33333333333225262;
    p = z * p + 1.0;
    double angle = u * p + offset;
    angle = across < up ? CYL_PI / 2.0 - angle : angle;
    angle = __builtin_signbit(x) ? CYL_PI - angle : angle;
    return __builtin_copysign(angle, y);
}

/* sqrt(x^2 + y^2) of two floats, whose squares are exact */
static inline double cyl_hypot(double x, double y) {
    const double infinity = (double)__builtin_inff();
    const bool is_infinite = __builtin_fabs(x) == infinity || __builtin_fabs(y) == infinity;
    return is_infinite ? infinity : __builtin_sqrt(x * x + y * y);
}

/* the magnitude of a finite float as m * 2^(n - 150), exactly; returns m and sets n >= 1 */
static inline uint64_t cyl_float_parts(float x, int32_t *n) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t exponent = bits >> 23 & 255u, digits = bits & 0x7fffffu;
    *n = exponent > 0 ? (int32_t)exponent : 1;
    return exponent > 0 ? digits | 0x800000u : digits;
}

/* What is left of x after as many whole y as fit into it, with the sign of x (C's fmod). Exact: x = m 2^i and y = k 2^j
   leave (m 2^(i-j) mod k) 2^j, taken 40 binary digits at a time. */
static inline float cyl_fmod(float x, float y) {
    const float infinity = __builtin_inff(), size = __builtin_fabsf(y);
    if (x != x || y != y || __builtin_fabsf(x) == infinity || y == 0.0f) {
        return __builtin_nanf("");
    }
    if (__builtin_fabsf(x) < size) {
        return x; /* an infinite y too */
    }
    int32_t i, j;
    const uint64_t k = cyl_float_parts(size, &j);
    uint64_t rest = cyl_float_parts(x, &i) % k;
    for (int32_t left = i - j; left > 0 && rest > 0; left -= 40) {
        rest = (rest << (left < 40 ? left : 40)) % k;
    }
    return (float)__builtin_copysign((double)rest * cyl_power_of_two(j - 150), (double)x);
}

#undef CYL_PI

#endif
