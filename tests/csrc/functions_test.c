/*
 * The activations: error against double precision, the same bits on every instruction set, no subnormal operands; the
 * same formulas in double precision with libm's functions; the multiply-add; and the widening of float16. The Makefile
 * of csrc compiles this file once for each instruction set, its name being CYL_TEST_SET, once for libm and once
 * without, and links them together:
 *
 *   make -C csrc test-functions        a second; exit status 1 if anything is wrong
 *   build/csrc/tests/functions_test --sweep [name]    every float, minutes each; prints the table of docs/accuracy.md
 */
#ifdef CYL_TEST_SET
#include "functions_body.h"
#else

#include "functions_test.h"
#include "check.h"
#include "cylstm.h"
#include "model/activations.h"
#include "platform/ieee.h"

#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define CYL_ISA(name, ...) extern const struct InstructionSet cyl_test_##name;
#include "cylstm_isa.def"
extern const struct InstructionSet cyl_test_libm;

/* NULL for a set that the build lacks */
#define TABLE_0(name) NULL
#define TABLE_1(name) &cyl_test_##name
#define TABLE_(have, name) TABLE_##have(name)
#define TABLE(have, name) TABLE_(have, name)
static const struct InstructionSet *const tables[CYL_ISA_COUNT] = {
#define CYL_ISA(name, NAME, ...) TABLE(CYL_HAVE_##NAME, name),
#define CYL_ISA_DOTS(...) NULL, /* the functions of its base */
#include "cylstm_isa.def"
};

enum { BLOCK = 4096 };

static const struct InstructionSet *sets[CYL_ISA_COUNT]; /* that can be run here, scalar code last */
static int set_count;
static _Atomic int failures;

#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        if (failures++ < 20)                                                                                           \
            printf("FAILED: " __VA_ARGS__), puts("");                                                                  \
    } while (0)

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

/* does the set take and give +0 for subnormal numbers? See simd/neon.h */
static int flushes(const struct InstructionSet *set) {
#if defined(__arm__)
    return strcmp(set->name, "neon") == 0;
#else
    (void)set;
    return 0;
#endif
}

/* the references, each well within 2^-50 of the truth where its result is not tiny */
static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
static double reference(int id, double x, double alpha, double beta) {
    if (x != x)
        return x;
    switch (id) {
    case CYL_ACT_TANH:
        return tanh(x);
    case CYL_ACT_SIGMOID:
        return sigmoid(x);
    case CYL_ACT_RELU:
        return x > 0 ? x : 0;
    case CYL_ACT_LEAKY_RELU:
        return x > 0 ? x : alpha * x;
    case CYL_ACT_ELU:
        return x > 0 ? x : alpha * expm1(x);
    case CYL_ACT_SELU:
        return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x));
    case CYL_ACT_SOFTPLUS:
        return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
    case CYL_ACT_SOFTSIGN:
        return isinf(x) ? copysign(1, x) : x / (1 + fabs(x));
    case CYL_ACT_SILU:
        return x == -INFINITY ? 0 : x * sigmoid(x);
    case CYL_ACT_GELU:
        return x == -INFINITY ? 0 : 0.5 * x * erfc(-0.70710678118654752 * x);
    case CYL_ACT_GELU_TANH:
        return x == -INFINITY ? 0 : x * sigmoid(1.5957691216057308 * x * (1 + 0.044715 * x * x));
    case CYL_ACT_EXPONENTIAL:
        return exp(x);
    case CYL_ACT_HARD_SIGMOID:
        return fmin(fmax(alpha * x + beta, 0), 1);
    case CYL_ACT_CLIP:
        return fmin(fmax(x, alpha), beta);
    default:
        return x;
    }
}

/*
 * What is asserted: error in units in the last place wherever the result is not +0, and the largest magnitude of a
 * true result that may have become +0. gelu_tanh multiplies the rounding of its exponent by up to 90, which
 * shows far below 0 only, where the result is next to nothing.
 */
static const struct Case {
    const char *name;
    float alpha, beta;
    double ulps, flushed;
    uint64_t hash; /* of the bits of what `quick` asks for: the same on every machine, whatever the bounds allow */
} cases[] = {
    {"tanh", 0, 0, 3, 0, 0x7baded2214e854eeu},
    {"sigmoid", 0, 0, 3, 0x1p-126, 0x5d7f9126ad8258e9u},
    {"exponential", 0, 0, 1.5, 0x1p-126, 0xbbaca1ceef7f7ee3u},
    {"elu", 1, 0, 4, 0x1p-80, 0xdf0c75a9d6209ac6u},
    {"selu", 0, 0, 4, 0, 0x1b94ad009f60d9bfu},
    {"softplus", 0, 0, 4, 0x1p-126, 0x2a3a90722fafca1fu},
    {"softsign", 0, 0, 1.5, 0, 0x665c6bd187f5ac19u},
    {"silu", 0, 0, 4, 0x1p-81, 0x2d1b546fb21cb704u},
    {"gelu", 0, 0, 7, 0x1p-81, 0xc615416360324025u},
    {"gelu_tanh", 0, 0, 250, 0x1p-81, 0x3fcbaeea0fd2f336u},
    {"relu", 0, 0, 0, 0, 0x191a50ea98ff3714u},
    {"leaky_relu", 0.01f, 0, 1, 0x1p-86, 0x91b2fcef3079fc39u},
    {"hard_sigmoid", 1.0f / 6.0f, 0.5f, 1, 0, 0x4685f7595c64ba54u},
    {"clip", -1, 1, 0, 0, 0xc172b1a6c3139a53u},
    {"clip", 1, -1, 0, 0, 0xf0db01c5f4f3c495u},
    {"linear", 0, 0, 0, 0, 0x6872da78911c1e9fu},
};
enum { CASES = sizeof cases / sizeof *cases };

/* likewise, of the rows that check_softmax and check_log_softmax make */
#define SOFTMAX_HASH 0xf0a3afa03edaf7e7u
#define LOG_SOFTMAX_HASH 0x7d924bf5d24dbebfu

struct Errors {
    double ulps, absolute, flushed;
    float ulps_at, absolute_at;
};

/* one result against the truth */
static void measure(struct Errors *e, const struct Case *c, float x, float y, double truth) {
    if (x != x || truth != truth) {
        if (y == y)
            FAIL("%s(NaN) is %a", c->name, (double)y);
        return;
    }
    float rounded = (float)truth;
    if (isinf(y) || isinf(rounded)) {
        /* within two units of the largest float, an error may decide */
        if (y != rounded && fabs(fabs(truth) - 0x1p128) > 0x1p105)
            FAIL("%s(%a) is %a, expected %a", c->name, (double)x, (double)y, (double)rounded);
        return;
    }
    if (y != y) {
        FAIL("%s(%a) is NaN", c->name, (double)x);
        return;
    }
    double difference = fabs((double)y - truth);
    if (y == 0.0f) {
        if (fabs(truth) > e->flushed)
            e->flushed = fabs(truth);
        return;
    }
    if (is_subnormal(y) && !is_subnormal(x))
        FAIL("%s(%a) is subnormal", c->name, (double)x);
    int exponent;
    frexp(truth, &exponent);
    double ulps = difference / ldexp(1.0, exponent - 24 < -149 ? -149 : exponent - 24);
    if (ulps > e->ulps)
        e->ulps = ulps, e->ulps_at = x;
    if (difference > e->absolute && fabs(truth) < 2.0)
        e->absolute = difference, e->absolute_at = x;
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

/* n inputs (a multiple of 16) through the first `count` instruction sets: bits, errors and, if asked for, flags */
static void check(struct Errors *e, const struct Case *c, const float *x, long n, int count, int with_flags) {
    int id = cyl_activation_from_name(c->name);
    float y[BLOCK], z[BLOCK];
    for (int s = 0; s < count; s++) {
        float *to = s ? z : y;
        if (!with_flags) {
            sets[s]->activate(id, c->alpha, c->beta, x, to, n);
        } else {
            for (long i = 0; i < n; i += 16) {
                int subnormal = 0;
                for (int k = 0; k < 16; k++)
                    subnormal |= is_subnormal(x[i + k]);
                clear_flags();
                sets[s]->activate(id, c->alpha, c->beta, x + i, to + i, 16);
                if (!subnormal && flags_raised())
                    FAIL("%s on %s has a subnormal operand or result for an input in %a .. %a", c->name, sets[s]->name,
                         (double)x[i], (double)x[i + 15]);
            }
        }
        for (long i = 0; s && i < n; i++)
            if (!same(y[i], z[i]) && !(flushes(sets[0]) && is_subnormal(x[i])))
                FAIL("%s(%a) is %a on %s, %a on %s", c->name, (double)x[i], (double)y[i], sets[0]->name, (double)z[i],
                     sets[s]->name);
        sets[s]->activate_flushed(id, c->alpha, c->beta, x, z, n);
        for (long i = 0; i < n; i++)
            if (!same(z[i], fabsf(y[i]) < CYL_TINY ? 0.0f : y[i]))
                FAIL("%s(%a) is %a with the subnormal rule, %a without, on %s", c->name, (double)x[i], (double)z[i],
                     (double)y[i], sets[s]->name);
    }
    for (long i = 0; i < n; i++) {
        if (flushes(sets[0]) && is_subnormal(x[i]))
            continue;
        measure(e, c, x[i], y[i], reference(id, (double)x[i], (double)c->alpha, (double)c->beta));
        if (id == CYL_ACT_TANH && (fabsf(y[i]) > 1.0f || (fabsf(x[i]) < 0x1p-13f && y[i] != x[i])))
            FAIL("tanh(%a) is %a", (double)x[i], (double)y[i]);
        /* an LSTM's cell leaves the subnormal rule out where x follows it already */
        if (id == CYL_ACT_TANH && fabsf(x[i]) >= CYL_TINY && fabsf(y[i]) < CYL_TINY)
            FAIL("tanh(%a) is %a", (double)x[i], (double)y[i]);
        if (id == CYL_ACT_SIGMOID && !(y[i] >= 0.0f && y[i] <= 1.0f) && x[i] == x[i])
            FAIL("sigmoid(%a) is %a", (double)x[i], (double)y[i]);
    }
    if (id == CYL_ACT_TANH) {
        for (long i = 0; i < n; i++)
            z[i] = -x[i];
        float negative[BLOCK];
        sets[0]->activate(id, 0, 0, z, negative, n);
        for (long i = 0; i < n; i++)
            if (!same(negative[i], -y[i]) && y[i] != 0.0f)
                FAIL("tanh is not odd at %a", (double)x[i]);
    }
}

static void merge(struct Errors *to, const struct Errors *e) {
    if (e->ulps > to->ulps)
        to->ulps = e->ulps, to->ulps_at = e->ulps_at;
    if (e->absolute > to->absolute)
        to->absolute = e->absolute, to->absolute_at = e->absolute_at;
    if (e->flushed > to->flushed)
        to->flushed = e->flushed;
}

static void print_heading(void) {
    puts("| function | error, ulp | at | absolute error, abs(result) < 2 | at | largest result made 0 |");
    puts("|---|---|---|---|---|---|");
}
static void print_row(const struct Case *c, const struct Errors *e) {
    printf("| %s", c->name);
    if (c->alpha != 0 || c->beta != 0)
        printf(" (%.7g, %.7g)", (double)c->alpha, (double)c->beta);
    printf(" | %.3f | %.9g | %.2e | %.9g | ", e->ulps, (double)e->ulps_at, e->absolute, (double)e->absolute_at);
    if (e->flushed > 0)
        printf("%.2e |\n", e->flushed);
    else
        puts("- |");
    fflush(stdout);
}

static void assert_bounds(const struct Case *c, const struct Errors *e) {
    if (e->ulps > c->ulps)
        FAIL("%s: %.3f ulp at %a, allowed are %g", c->name, e->ulps, (double)e->ulps_at, c->ulps);
    if (e->flushed > c->flushed)
        FAIL("%s: a result of %g became 0, allowed is %g", c->name, e->flushed, c->flushed);
}

/* n inputs in double precision with libm's functions: the same formulas, so the truth rounded once */
static void check_libm(const struct Case *c, const float *x, long n) {
    int id = cyl_activation_from_name(c->name);
    float y[BLOCK];
    cyl_test_libm.activate(id, c->alpha, c->beta, x, y, n);
    for (long i = 0; i < n; i++) {
        float truth = (float)reference(id, (double)x[i], (double)c->alpha, (double)c->beta);
        if (!same(y[i], truth) && y[i] != nextafterf(truth, y[i]))
            FAIL("%s(%a) is %a in libm, expected %a", c->name, (double)x[i], (double)y[i], (double)truth);
    }
}

/* every float; scalar code, which is slow, takes one block in 16 */
static void sweep(const struct Case *c) {
    struct Errors total = {0};
#pragma omp parallel for schedule(dynamic, 256)
    for (int64_t block = 0; block < ((int64_t)1 << 32) / BLOCK; block++) {
        struct Errors e = {0};
        float x[BLOCK];
        for (long i = 0; i < BLOCK; i++)
            x[i] = from_bits((uint32_t)(block * BLOCK + i));
        check(&e, c, x, BLOCK, block % 16 && set_count > 1 ? set_count - 1 : set_count, 0);
#pragma omp critical
        merge(&total, &e);
    }
    print_row(c, &total);
    assert_bounds(c, &total);
}

/* carries a hash of bits on (FNV-1a); NaN is one value */
static uint64_t hash_of(uint64_t hash, const float *y, long n) {
    for (long i = 0; i < n; i++) {
        uint32_t bits = y[i] == y[i] ? to_bits(y[i]) : 0x7fc00000u;
        for (int shift = 0; shift < 32; shift += 8)
            hash = (hash ^ (bits >> shift & 0xff)) * 0x100000001b3u;
    }
    return hash;
}
#define HASH_START 0xcbf29ce484222325u

/* returns the hash carried on over the results, those of subnormal inputs left out, which some machines flush */
static uint64_t check_all(struct Errors *e, const struct Case *c, const float *x, long n, uint64_t hash) {
    float y[BLOCK];
    check(e, c, x, n, set_count, 1);
    check_libm(c, x, n);
    sets[0]->activate(cyl_activation_from_name(c->name), c->alpha, c->beta, x, y, n);
    for (long i = 0; i < n; i++)
        hash = is_subnormal(x[i]) ? hash : hash_of(hash, &y[i], 1);
    return hash;
}

static void assert_hash(const char *name, uint64_t found, uint64_t expected) {
    if (found != expected)
        FAIL("%s: the hash of its bits is %#llx, expected %#llx", name, (unsigned long long)found,
             (unsigned long long)expected);
}

/* every 4099th float, and the neighbours of all points where a function changes its way */
static void quick(const struct Case *c) {
    static const float points[] = {
        0.0f,      0x1p-126f, 0x1p-125f, 0x1p-80f,  0x1p-60f,       0x1p-40f,      0x1p-30f,   0x1p-24f,   0x1p-13f,
        0x1p-12f,  0.5f,      1.0f,      3.0f,      5.0f,           0.34657359f,   1.0397208f, 1.7328680f, 2.4260152f,
        9.0109f,   10.0f,     13.14f,    17.32868f, 27.7258854f,    30.0f,         80.0f,      87.33654f,  88.02969f,
        88.72283f, 100.0f,    1000.0f,   0x1p60f,   0x1.e74b3p127f, 3.4028235e38f, INFINITY};
    struct Errors e = {0};
    uint64_t hash = HASH_START;
    float x[BLOCK];
    int n = 0;
    for (int sign = 0; sign < 2; sign++)
        for (size_t p = 0; p < sizeof points / sizeof *points; p++)
            for (int k = -32; k < 32; k++) {
                x[n++] = from_bits((to_bits(points[p]) + (uint32_t)k) ^ (sign ? 0x80000000u : 0));
                if (n == BLOCK)
                    hash = check_all(&e, c, x, BLOCK, hash), n = 0;
            }
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 4099) {
        x[n++] = from_bits((uint32_t)bits);
        if (n == BLOCK)
            hash = check_all(&e, c, x, BLOCK, hash), n = 0;
    }
    while (n % 16)
        x[n++] = 1.0f;
    hash = check_all(&e, c, x, n, hash);
    print_row(c, &e);
    assert_bounds(c, &e);
    assert_hash(c->name, hash, c->hash);
}

static uint64_t random_state = 88172645463325252u;
static uint32_t random_bits(void) { /* xorshift64* */
    random_state ^= random_state >> 12, random_state ^= random_state << 25, random_state ^= random_state >> 27;
    return (uint32_t)(random_state * 2685821657736338717u >> 32);
}

static float random_one(void) { return 1.0f + (float)(random_bits() >> 9) * 0x1p-23f; }
static int random_below(int n) { return (int)(random_bits() % (uint32_t)n); }

/* has a*b + c a subnormal number among its operands, or as its result before or after rounding? */
static int nears_subnormal(float a, float b, float c) {
    return is_subnormal(a) || is_subnormal(b) || is_subnormal(c) || fabsf(fmaf(a, b, c)) <= 0x1p-126f;
}

/*
 * a*b + c rounded once, for random triples and for those where rounding twice goes wrong: sums that lie nearer to the
 * middle between two floats, normal or subnormal, than double precision can tell.
 */
static void check_fused(void) {
    float a[BLOCK], b[BLOCK], c[BLOCK], y[BLOCK];
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < BLOCK; i++) {
            float sign = random_below(2) ? 1.0f : -1.0f;
            switch (i % 6) {
            case 0: /* any bits at all */
                a[i] = from_bits(random_bits()), b[i] = from_bits(random_bits()), c[i] = from_bits(random_bits());
                break;
            case 1: /* only the product's rounding error remains, or little more */
                a[i] = random_one(), b[i] = sign * random_one(), c[i] = -(a[i] * b[i]);
                if (random_below(2))
                    c[i] = nextafterf(c[i], 0.0f);
                break;
            case 2: /* all distances of the exponents */
                a[i] = ldexpf(random_one(), random_below(80) - 40), b[i] = sign * random_one(), c[i] = random_one();
                break;
            case 3: /* the product is half a unit of c */
            case 4:
            case 5: { /* or that but for 2^-47 to 2^-33 of itself; k(2k - 1) is about 2^23 */
                int k = 2048 + random_below(5) - 2, j = 2 * k - 1;
                int is_half = i % 6 == 3, is_low = i % 6 == 5;
                a[i] = is_half ? 1.0f : 1.0f + (float)k * 0x1p-23f;
                b[i] = sign * (is_half ? 1.0f : random_below(2) ? 1.0f - (float)j * 0x1p-24f : 2.0f - a[i]);
                a[i] = ldexpf(a[i], is_low ? -75 : -24), b[i] = ldexpf(b[i], is_low ? -75 : 0);
                c[i] =
                    is_low ? from_bits(random_bits() & 0x807fffffu) : (random_below(2) ? 1.0f : -1.0f) * random_one();
                break;
            }
            }
        }
        for (int s = 0; s < set_count; s++) {
            sets[s]->fused(a, b, c, y, BLOCK);
            for (int i = 0; i < BLOCK; i++)
                if (!same(y[i], fmaf(a[i], b[i], c[i])) && !(flushes(sets[s]) && nears_subnormal(a[i], b[i], c[i])))
                    FAIL("fma(%a, %a, %a) is %a on %s", (double)a[i], (double)b[i], (double)c[i], (double)y[i],
                         sets[s]->name);
        }
    }
}

/* all numbers of float16, whose value is said by their sign, exponent and fraction; without an operation on subnormals
 */
static void check_widening(void) {
    for (int s = 0; s < set_count; s++) {
        clear_flags();
        for (uint32_t first = 0; first < 0x10000; first += 16) {
            uint16_t x[16];
            float y[16];
            for (uint32_t i = 0; i < 16; i++)
                x[i] = (uint16_t)(first + i);
            sets[s]->widen(x, y, 16);
            for (uint32_t i = 0; i < 16; i++) {
                int exponent = x[i] >> 10 & 31, fraction = x[i] & 1023;
                double truth = exponent == 31 ? (fraction ? (double)NAN : INFINITY)
                               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                              : ldexp(fraction, -24);
                if (!same(y[i], (float)copysign(truth, x[i] >> 15 ? -1.0 : 1.0)))
                    FAIL("the half %#x is %a on %s, expected %a", x[i], (double)y[i], sets[s]->name, truth);
            }
        }
        if (flags_raised())
            FAIL("widening on %s has a subnormal operand or result", sets[s]->name);
    }
}

/* rows of all lengths to 70 and of several scales */
static void check_softmax(void) {
    enum { MOST = CYL_TEST_ROW - 1 };
    double worst = 0;
    uint64_t hash = HASH_START;
    for (int n = 1; n <= MOST; n++) {
        for (int round = 0; round < 200; round++) {
            float x[MOST], first[MOST + 1], y[MOST + 1];
            for (int i = 0; i < n; i++) {
                x[i] = ldexpf((float)(int32_t)random_bits() * 0x1p-31f, round % 9);
                if (round % 50 == 49)
                    x[i] = ldexpf(x[i], -124); /* subnormal differences */
                if (is_subnormal(x[i]))
                    x[i] = 0;
            }
            if (round == 1)
                x[n / 2] = NAN;
            if (round == 2)
                x[n / 2] = -INFINITY;
            if (round == 3)
                x[n / 2] = 3e38f;
            double most = -INFINITY, sum = 0;
            for (int i = 0; i < n; i++)
                most = fmax(most, (double)x[i]);
            for (int i = 0; i < n; i++)
                sum += exp((double)x[i] - most);
            for (int s = 0; s < set_count; s++) {
                float *to = s ? y : first;
                to[n] = 12345.0f;
                clear_flags();
                sets[s]->softmax(x, to, n);
                if (flags_raised())
                    FAIL("softmax of %d on %s has a subnormal operand or result", n, sets[s]->name);
                if (to[n] != 12345.0f)
                    FAIL("softmax of %d on %s writes beyond its row", n, sets[s]->name);
                for (int i = 0; s && i < n; i++)
                    if (!same(first[i], y[i]))
                        FAIL("softmax of %d differs on %s", n, sets[s]->name);
            }
            hash = hash_of(hash, first, n);
            float plain[MOST];
            cyl_test_libm.softmax(x, plain, n);
            for (int i = 0; i < n; i++) {
                double truth = exp((double)x[i] - most) / sum;
                if (!same(plain[i], (float)truth) && plain[i] != nextafterf((float)truth, plain[i]) &&
                    plain[i] == plain[i])
                    FAIL("softmax of %d is %a in libm", n, (double)plain[i]);
                if (round == 1 || (round == 2 && n == 1)) {
                    if (first[i] == first[i])
                        FAIL("softmax of %d loses a NaN", n);
                } else if (truth < 0x1p-125) {
                    if (!(first[i] >= 0.0f && first[i] <= 0x1p-124f))
                        FAIL("softmax of %d: %a", n, (double)first[i]);
                } else {
                    double relative = fabs((double)first[i] / truth - 1) / 0x1p-24;
                    /* a difference of at most 150 is itself rounded, to within 2^-17 */
                    if (fabs((double)x[i] - most) < 1)
                        worst = fmax(worst, relative);
                    if (!(relative < 4 + 2 * n / 16.0 + fabs((double)x[i] - most)))
                        FAIL("softmax of %d: %g", n, relative);
                }
            }
        }
    }
    assert_hash("softmax", hash, SOFTMAX_HASH);
    printf("softmax of up to %d: relative error at most %.2f * 2^-24 within 1 of the maximum\n", MOST, worst);
}

/* rows of all lengths and of several scales, some with one number far above the others */
static void check_log_softmax(void) {
    enum { MOST = CYL_TEST_ROW - 1 };
    double worst = 0;
    uint64_t hash = HASH_START;
    for (int n = 1; n <= MOST; n++) {
        for (int round = 0; round < 200; round++) {
            float x[MOST], first[MOST + 1], y[MOST + 1], plain[MOST];
            for (int i = 0; i < n; i++) {
                x[i] = ldexpf((float)(int32_t)random_bits() * 0x1p-31f, round % 9);
                if (round % 10 == 9)
                    x[i] = rintf(x[i]); /* several maxima */
            }
            if (round % 5 == 4)
                x[n / 3] += (float)round;
            if (round == 1)
                x[n / 2] = NAN;
            if (round == 2)
                x[n / 2] = -INFINITY;
            int top = 0;
            double rest = 0;
            for (int i = 0; i < n; i++)
                top = x[i] > x[top] ? i : top;
            for (int i = 0; i < n; i++)
                rest += i == top ? 0 : exp((double)x[i] - (double)x[top]);
            for (int s = 0; s < set_count; s++) {
                float *to = s ? y : first;
                to[n] = 12345.0f;
                clear_flags();
                sets[s]->log_softmax(x, to, n);
                if (flags_raised())
                    FAIL("log softmax of %d on %s has a subnormal operand or result", n, sets[s]->name);
                if (to[n] != 12345.0f)
                    FAIL("log softmax of %d on %s writes beyond its row", n, sets[s]->name);
                for (int i = 0; s && i < n; i++)
                    if (!same(first[i], y[i]))
                        FAIL("log softmax of %d differs on %s", n, sets[s]->name);
            }
            hash = hash_of(hash, first, n);
            cyl_test_libm.log_softmax(x, plain, n);
            for (int i = 0; i < n; i++) {
                if (round == 1 || (round == 2 && n == 1)) {
                    if (first[i] == first[i] || plain[i] == plain[i])
                        FAIL("log softmax of %d loses a NaN", n);
                    continue;
                }
                double truth = (double)x[i] - (double)x[top] - log1p(rest);
                if (!(fabs((double)plain[i] - truth) <= 0x1p-24 * fabs(truth) + 0x1p-126) && !same(plain[i], first[i]))
                    FAIL("log softmax of %d is %a in libm, truth %a", n, (double)plain[i], truth);
                if (isinf(truth) || fabs(truth) < 0x1p-100) {
                    if (!(isinf(truth) ? (double)first[i] == truth : fabs((double)first[i]) < 0x1p-99))
                        FAIL("log softmax of %d: %a", n, (double)first[i]);
                    continue;
                }
                double relative = fabs((double)first[i] / truth - 1) / 0x1p-24;
                if (fabs(truth) > 0.125)
                    worst = fmax(worst, relative);
                /* next to the maximum the result is e^d of the others, whose d are themselves rounded */
                if (!(relative < 6 + log(n) + fmax(0, -log(fabs(truth)))))
                    FAIL("log softmax of %d: %g", n, relative);
            }
        }
    }
    assert_hash("log softmax", hash, LOG_SOFTMAX_HASH);
    printf("log softmax of up to %d: relative error at most %.2f * 2^-24 where it is below -1/8\n", MOST, worst);
}

int main(int argc, char **argv) {
    for (int isa = CYL_ISA_COUNT - 1; isa >= 0; isa--) {
        if (cyl_isa_available((CylIsa)isa) && tables[isa]) {
            sets[set_count++] = tables[isa];
        }
    }
    int sweeping = argc > 1 && strcmp(argv[1], "--sweep") == 0;
    print_heading();
    for (int i = 0; i < CASES; i++) {
        if (!sweeping)
            check_watch(cases[i].name, MOST_SECONDS), quick(&cases[i]);
        else if (argc == 2 || strcmp(argv[2], cases[i].name) == 0)
            sweep(&cases[i]);
    }
    if (!sweeping) {
        check_watch("widening", MOST_SECONDS);
        check_widening();
        check_watch("fused", MOST_SECONDS);
        check_fused();
        check_watch("softmax", MOST_SECONDS);
        check_softmax();
        check_watch("log softmax", MOST_SECONDS);
        check_log_softmax();
    }
    if (failures)
        printf("%d failures\n", failures);
    return failures != 0;
}
#endif
