/*
 * The elementary functions of the layer `function`: error against double precision, signs of zeros, infinities and NaN,
 * the subnormal rule, any number of them in place, no subnormal operands, and the same bits everywhere.
 *
 *   make -C csrc test-elementary       a few seconds; exit status 1 if anything is wrong
 *   build/csrc/tests/elementary_test --sweep [name]    every float, minutes each; prints the table of docs/accuracy.md
 */
#include "check.h"
#include "layers/elementary.h"
#include "platform/ieee.h"

#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

enum { BLOCK = 4096 };

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static uint32_t to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
/* NaN is one value: its sign and payload are outside the promise of equal bits */
static int same(float a, float b) { return to_bits(a) == to_bits(b) || (a != a && b != b); }
static int is_subnormal(float x) { return x != 0.0f && fabsf(x) < 0x1p-126f; }

static double negative(double x) { return -x; }
static double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x; }
static double square(double x) { return x * x; }
static double reciprocal(double x) { return 1 / x; }
static double reciprocal_root(double x) { return 1 / sqrt(x); }
/* musl has results of some negative numbers */
static double inverse_cosh(double x) { return x < 1 ? (double)NAN : acosh(x); }
static double is_zero(double x) { return x == 0; }
static double is_nan(double x) { return isnan(x) ? 1 : 0; }
static double is_infinite(double x) { return isinf(x) ? 1 : 0; }
static double is_finite(double x) { return isfinite(x) ? 1 : 0; }

/* What is asserted: the error in units in the last place; 0 for what is rounded correctly. `hash` is of the bits of
   what `quick` asks for. */
static const struct Case {
    const char *name;
    double (*reference)(double);
    double ulps;
    uint64_t hash;
} cases[] = {
    {"neg", negative, 0, 0x9ef41ec04b8324e0u},
    {"abs", fabs, 0, 0x861048be8c58d0e0u},
    {"sign", sign, 0, 0x42fd94eb249ef5f5u},
    {"square", square, 0, 0x8f5357ef7f5fb517u},
    {"reciprocal", reciprocal, 0, 0xf733ec61e2cfb179u},
    {"sqrt", sqrt, 0, 0x729919a337ff5870u},
    {"rsqrt", reciprocal_root, 0.501, 0x2dbf0949558e9c24u},
    {"cbrt", cbrt, 0.501, 0x483e83855354f0du},
    {"floor", floor, 0, 0xa7895f02989e4333u},
    {"ceil", ceil, 0, 0xdbc7f8a8bd274717u},
    {"round", rint, 0, 0x996ee3db26776768u},
    {"trunc", trunc, 0, 0x1fa8b88a0816e069u},
    {"exp", exp, 0.501, 0x713b36034904bc44u},
    {"exp2", exp2, 0.501, 0x5014d5517626ca18u},
    {"expm1", expm1, 0.501, 0xae2607a03e1ad34u},
    {"log", log, 0.501, 0xe6fa19ccee2bcbedu},
    {"log2", log2, 0.501, 0x44c8c7edaa6a7a7du},
    {"log10", log10, 0.501, 0xba12d7af80f24a6bu},
    {"log1p", log1p, 0.501, 0xd5e39dccb7a86a93u},
    {"sin", sin, 0.501, 0x83283a8e8b288ab9u},
    {"cos", cos, 0.501, 0x6e2d063ae56b97ceu},
    {"tan", tan, 0.501, 0x11c4c117c614581au},
    {"asin", asin, 0.501, 0xdad3310f9381bfedu},
    {"acos", acos, 0.501, 0xfb89015aa07c0352u},
    {"atan", atan, 0.501, 0xa3f11671cf48bb89u},
    {"sinh", sinh, 0.501, 0xea208be85b9f332u},
    {"cosh", cosh, 0.501, 0xf279b983ce5ad9fdu},
    {"asinh", asinh, 0.501, 0x6a31f33c7132b0a8u},
    {"acosh", inverse_cosh, 0.501, 0x726099851dbe1606u},
    {"atanh", atanh, 0.501, 0x8b0962d339f00093u},
    {"erf", erf, 0.501, 0x6629ca82018d8030u},
    {"erfc", erfc, 0.501, 0xefdc7b6dc83f7b8au},
    {"logical_not", is_zero, 0, 0xd2a249222d63bff8u},
    {"isnan", is_nan, 0, 0x741498e8a20c7795u},
    {"isinf", is_infinite, 0, 0xa717f7464f4e5e55u},
    {"isfinite", is_finite, 0, 0xfabebcd78f67dcd8u},
};
enum { CASES = sizeof cases / sizeof *cases };

struct Errors {
    double ulps; /* of results that are not the float nearest to the truth; all others are within 1/2 */
    float at;
    int64_t count; /* how many these are */
};

static CylFunction function_of(const struct Case *c) {
    int function = 0;
    while (cyl_function_names[function] && strcmp(cyl_function_names[function], c->name) != 0) {
        function++;
    }
    return (CylFunction)function;
}

/* one result against the truth; a result that a float cannot hold normally is 0 of its sign */
static void measure(struct Errors *e, const struct Case *c, float x, float y) {
    const double truth = c->reference((double)x), size = fabs(truth);
    if (truth != truth || y != y) {
        CHECK(truth != truth && y != y, "%s(%a) is %a, expected %a", c->name, (double)x, (double)y, truth);
        return;
    }
    CHECK(!signbit(y) == !signbit(truth), "%s(%a) is %a, expected %a", c->name, (double)x, (double)y, truth);
    const float rounded = size < 0x1p-126 ? 0.0f : (float)size, found = fabsf(y);
    if (found == rounded) {
        return;
    }
    CHECK(c->ulps > 0, "%s(%a) is %a, expected %a", c->name, (double)x, (double)y, truth);
    if (found == 0.0f || rounded == 0.0f || isinf(found) || isinf(rounded)) {
        /* of two numbers next to each other either may be rounded beyond the smallest or the largest float */
        CHECK(fabs(size / 0x1p-126 - 1) < 0x1p-23 || fabs(size / 0x1.ffffffp127 - 1) < 0x1p-25,
              "%s(%a) is %a, expected %a", c->name, (double)x, (double)y, truth);
        return;
    }
    int exponent;
    frexp(truth, &exponent);
    const double ulps = ldexp(fabs((double)y - truth), 24 - exponent);
    if (ulps > e->ulps) {
        e->ulps = ulps, e->at = x;
    }
    e->count++;
}

static void clear_flags(void) {
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() & ~0x3fu);
#else
    feclearexcept(FE_ALL_EXCEPT);
#endif
}
/* was there a subnormal operand (where the machine tells) or result? */
static int flags_raised(void) {
#if defined(__SSE__)
    return (_mm_getcsr() & (0x02u | 0x10u)) != 0;
#else
    return fetestexcept(FE_UNDERFLOW) != 0;
#endif
}

static void merge(struct Errors *to, const struct Errors *e) {
    const int64_t count = to->count + e->count;
    if (e->ulps > to->ulps) {
        *to = *e;
    }
    to->count = count;
}

static void check_errors(struct Errors *e, const struct Case *c, const float *x, long n) {
    float y[BLOCK];
    cyl_function_float(function_of(c), x, y, n, false);
    for (long i = 0; i < n; i++) {
        measure(e, c, x[i], y[i]);
    }
}

static void report(const struct Case *c, const struct Errors *e) {
    if (e->count) {
        printf("| %s | %.5f | %.9g | %lld |\n", c->name, e->ulps, (double)e->at, (long long)e->count);
    } else {
        printf("| %s | 0.5 | | 0 |\n", c->name);
    }
    fflush(stdout);
    CHECK(e->ulps <= c->ulps, "%s: %.4f ulp at %a, allowed are %g", c->name, e->ulps, (double)e->at, c->ulps);
}

/* every float */
static void sweep(const struct Case *c) {
    struct Errors total = {0};
#pragma omp parallel for schedule(dynamic, 256)
    for (int64_t block = 0; block < ((int64_t)1 << 32) / BLOCK; block++) {
        struct Errors e = {0};
        float x[BLOCK];
        for (long i = 0; i < BLOCK; i++) {
            x[i] = from_bits((uint32_t)(block * BLOCK + i));
        }
        check_errors(&e, c, x, BLOCK);
#pragma omp critical
        merge(&total, &e);
    }
    report(c, &total);
}

/* carries a hash of bits on (FNV-1a); NaN is one value */
static uint64_t hash_of(uint64_t hash, const float *y, long n) {
    for (long i = 0; i < n; i++) {
        uint32_t bits = y[i] == y[i] ? to_bits(y[i]) : 0x7fc00000u;
        for (int shift = 0; shift < 32; shift += 8) {
            hash = (hash ^ (bits >> shift & 0xff)) * 0x100000001b3u;
        }
    }
    return hash;
}
#define HASH_START 0xcbf29ce484222325u

/* n numbers, at most BLOCK: error, subnormal rule, libm, flags, and parts of them in place */
static uint64_t check_all(struct Errors *e, const struct Case *c, const float *x, long n, uint64_t hash) {
    const CylFunction function = function_of(c);
    float y[BLOCK], z[BLOCK];
    double wide[BLOCK];
    check_errors(e, c, x, n);
    cyl_function_float(function, x, y, n, false);
    cyl_function_float(function, x, z, n, true);
    for (long i = 0; i < n; i++) {
        CHECK(same(z[i], fabsf(y[i]) < CYL_TINY ? 0.0f : y[i]), "%s(%a) is %a with the subnormal rule, %a without",
              c->name, (double)x[i], (double)z[i], (double)y[i]);
        wide[i] = (double)x[i];
    }
    cyl_function_double(function, wide, wide, n);
    for (long i = 0; i < n; i++) {
        const double truth = c->reference((double)x[i]);
        CHECK(memcmp(&wide[i], &truth, sizeof truth) == 0 || (wide[i] != wide[i] && truth != truth),
              "%s(%a) is %a in double, expected %a", c->name, (double)x[i], wide[i], truth);
    }
    for (long i = 0, count; i < n; i += count) {
        count = n - i < 1 + i % 5 ? n - i : 1 + i % 5;
        int subnormal = 0;
        for (long k = 0; k < count; k++) {
            z[i + k] = x[i + k];
            subnormal |= is_subnormal(x[i + k]);
        }
        const float after = i + count < n ? z[i + count] = 12345.0f : 0.0f;
        clear_flags();
        cyl_function_float(function, z + i, z + i, count, false);
        CHECK(subnormal || !flags_raised(), "%s: a subnormal operand or result for an input in %a .. %a", c->name,
              (double)x[i], (double)x[i + count - 1]);
        CHECK(i + count == n || z[i + count] == after, "%s of %ld numbers writes beyond them", c->name, count);
        for (long k = 0; k < count; k++) {
            CHECK(same(z[i + k], y[i + k]), "%s(%a) is %a among %ld, %a among %ld", c->name, (double)x[i + k],
                  (double)z[i + k], count, (double)y[i + k], n);
        }
    }
    return hash_of(hash, y, n);
}

/* every 32749th float, and the neighbours of all points where a function changes its way */
static void quick(const struct Case *c) {
    static const float points[] = {0.0f,
                                   0x1p-149f,
                                   0x1p-126f,
                                   0x1p-125f,
                                   0x1p-64f,
                                   0x1p-40f,
                                   0x1p-24f,
                                   0x1p-12f,
                                   0.17157288f,
                                   0.34657359f,
                                   0.41421356f,
                                   0.5f,
                                   0.70710678f,
                                   0.78539816f,
                                   1.0f,
                                   1.41421356f,
                                   1.5f,
                                   1.57079633f,
                                   2.0f,
                                   2.41421356f,
                                   2.5f,
                                   3.14159265f,
                                   4.0f,
                                   4.71238898f,
                                   6.28318531f,
                                   9.19f,
                                   10.05f,
                                   11.0f,
                                   87.33654f,
                                   88.72283f,
                                   89.41599f,
                                   126.0f,
                                   128.0f,
                                   150.0f,
                                   207.9f,
                                   300.0f,
                                   0x1p20f,
                                   0x1p23f,
                                   0x1p24f,
                                   0x1p32f,
                                   0x1p51f,
                                   0x1p60f,
                                   0x1p63f,
                                   0x1.f381e4p95f,
                                   0x1p126f,
                                   0x1.fffffep63f,
                                   0x1.fffffep127f,
                                   INFINITY};
    struct Errors e = {0};
    uint64_t hash = HASH_START;
    float x[BLOCK];
    int n = 0;
    CHECK(cyl_function_names[function_of(c)], "there is no function %s", c->name);
    for (int of_sign = 0; of_sign < 2; of_sign++) {
        for (size_t p = 0; p < sizeof points / sizeof *points; p++) {
            for (int k = -32; k < 32; k++) {
                x[n++] = from_bits((to_bits(points[p]) + (uint32_t)k) ^ (of_sign ? 0x80000000u : 0));
                if (n == BLOCK) {
                    hash = check_all(&e, c, x, n, hash);
                    n = 0;
                }
            }
        }
    }
    for (int64_t bits = 0; bits < (int64_t)1 << 32; bits += 32749) {
        x[n++] = from_bits((uint32_t)bits);
        if (n == BLOCK) {
            hash = check_all(&e, c, x, n, hash);
            n = 0;
        }
    }
    hash = check_all(&e, c, x, n, hash);
    report(c, &e);
    CHECK(hash == c->hash, "%s: the hash of its bits is %#llx, expected %#llx", c->name, (unsigned long long)hash,
          (unsigned long long)c->hash);
}

int main(int argc, char **argv) {
    int sweeping = argc > 1 && strcmp(argv[1], "--sweep") == 0;
    CHECK((int)CASES == (int)CYL_FUNCTION_COUNT, "%d cases of %d functions", (int)CASES, (int)CYL_FUNCTION_COUNT);
    puts("| function | error, ulp | at | not the nearest float |");
    puts("|---|---|---|---|");
    for (int i = 0; i < CASES; i++) {
        if (!sweeping) {
            check_watch(cases[i].name, MOST_SECONDS), quick(&cases[i]);
        } else if (argc == 2 || strcmp(argv[2], cases[i].name) == 0) {
            sweep(&cases[i]);
        }
    }
    return check_result();
}
