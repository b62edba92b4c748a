/*
 * The activations compiled for the instruction set CYL_TEST_SET, or with libm's functions, as the table that
 * functions_test.c calls. The Makefile has the compiler include the logical vector in front of this, and for libm the
 * functions too, so that kernels/functions.h has no effect.
 */
#include "functions_test.h"
#include "kernels/functions.h"

#include "kernels/activation.h"

#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

static V load(const float *x) {
    REAL lane[16];
    for (int i = 0; i < 16; i++)
        lane[i] = x[i];
    return v_load(lane);
}

static void store(float *y, V a) {
    REAL lane[16];
    v_store(lane, a);
    for (int i = 0; i < 16; i++)
        y[i] = (float)lane[i];
}

static void activate(int id, float alpha, float beta, const float *x, float *y, long n) {
    for (long i = 0; i < n; i += 16)
        store(y + i, v_activate(id, load(x + i), (REAL)alpha, (REAL)beta));
}

static void activate_flushed(int id, float alpha, float beta, const float *x, float *y, long n) {
    for (long i = 0; i < n; i += 16)
        store(y + i, v_activate_flushed(id, load(x + i), (REAL)alpha, (REAL)beta));
}

#ifdef CYL_TEST_LIBM
#define widen NULL
#else
static void widen(const uint16_t *x, float *y, long n) {
    for (long i = 0; i < n; i += 16)
        store(y + i, v_load_half(x + i));
}
#endif

static void fused(const float *a, const float *b, const float *c, float *y, long n) {
    for (long i = 0; i < n; i += 16)
        store(y + i, v_fma(load(a + i), load(b + i), load(c + i)));
}

static void softmax(const float *x, float *y, int n) {
    REAL row[CYL_TEST_ROW] = {0};
    for (int i = 0; i < n; i++)
        row[i] = x[i];
    softmax_row(row, row, n);
    for (int i = 0; i < n; i++)
        y[i] = (float)row[i];
}

static void log_softmax(const float *x, float *y, int n) {
    REAL row[CYL_TEST_ROW] = {0};
    for (int i = 0; i < n; i++)
        row[i] = x[i];
    log_softmax_row(row, row, n);
    for (int i = 0; i < n; i++)
        y[i] = (float)row[i];
}

const struct InstructionSet JOIN(cyl_test_, CYL_TEST_SET) = {
    TEXT(CYL_TEST_SET), activate, activate_flushed, widen, fused, softmax, log_softmax};
