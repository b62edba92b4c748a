/*
 * Windows that move along: each step gives the bits of a prediction of the last steps alone, on every instruction set,
 * number of threads and row, whatever comes between.
 */
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 6, MOST_STEPS = 9, FEATURES = 21, MOST_NUMBERS = ROWS * MOST_STEPS * 80 };

/* what one row has had: the last steps, the latest first to be overwritten */
typedef struct {
    float x[MOST_STEPS * FEATURES];
    int64_t count;
} Past;

static void take(Past *past, const float *x, int64_t window) {
    memmove(past->x, past->x + FEATURES, (size_t)(window - 1) * FEATURES * sizeof(float));
    memcpy(past->x + (window - 1) * FEATURES, x, FEATURES * sizeof(float));
    past->count += past->count < window;
}

/* layer -> layer, the second one backwards too, and a dense layer of the last step; all read by the caller */
static Network *windowed_network(int kind, int hidden) {
    Network *network = network_create();
    RecurrentOptions there = PLAIN, back = PLAIN;
    back.is_reverse = true;
    int32_t x = network_input(network, CYL_SEQUENCE, FEATURES, NULL), h;
    int32_t y = network_recurrent(network, kind, x, hidden, &there, &h, NULL);
    int32_t other = network_recurrent(network, kind, x, hidden, &back, NULL, NULL);
    int32_t both[2] = {y, other};
    int32_t merged = network_merge(network, "sum", both, 2);
    int32_t second = network_recurrent(network, kind, merged, 5, &there, NULL, NULL);
    network_output(network, second);
    network_output(network, network_dense(network, network_last(network, second, -1), 3, "tanh"));
    return network;
}

typedef struct {
    float *arrays[2];
} Outputs;

static void free_outputs(Outputs *y) {
    free(y->arrays[0]);
    free(y->arrays[1]);
}

static Outputs new_outputs(void) {
    return (Outputs){{need(MOST_NUMBERS * sizeof(float)), need(MOST_NUMBERS * sizeof(float))}};
}

static CylStatus run(CylWindow *window, int64_t rows, int64_t steps, const float *x, const uint8_t *active, int threads,
                     const Outputs *y) {
    const void *inputs[] = {x};
    void *outputs[] = {y->arrays[0], y->arrays[1]};
    CylCall call = {.rows = rows, .times = &steps, .inputs = inputs, .outputs = outputs, .threads = threads};
    return cyl_window_run(window, &call, active);
}

static CylStatus predict_last(const CylModel *model, const Past *past, int64_t window, const Outputs *y) {
    const void *inputs[] = {past->x};
    void *outputs[] = {y->arrays[0], y->arrays[1]};
    CylCall call = {.rows = 1, .times = &window, .inputs = inputs, .outputs = outputs, .threads = 1};
    return cyl_predict(model, &call);
}

static bool are_all(const float *y, int64_t count, bool nan) {
    for (int64_t k = 0; k < count; k++) {
        if (nan ? !isnan(y[k]) : y[k] != 0.0f) {
            return false;
        }
    }
    return true;
}

static bool are_close(const float *a, const float *b, int64_t count, double tolerance) {
    for (int64_t k = 0; k < count; k++) {
        if (!(fabs((double)a[k] - (double)b[k]) <= tolerance)) {
            return false;
        }
    }
    return true;
}

/* random activity, steps and chunks, rows that start again and that change places */
static void check_windows(const Network *network, const CylModel *model, int64_t window, int threads, double tolerance,
                          const char *what) {
    static int number;
    if (!check_is_due(number++)) {
        return;
    }
    CylWindow *kept, *other;
    CHECK(cyl_window_create(model, ROWS, window, threads, &kept) == CYL_OK, "%s", what);
    CHECK(cyl_window_create(model, ROWS, window, 1, &other) == CYL_OK, "%s", what);
    Past past[ROWS];
    memset(past, 0, sizeof past);
    Outputs found = new_outputs(), expected = new_outputs();
    static float x[ROWS * 2 * MOST_STEPS * FEATURES];
    for (int turn = 0; turn < 24; turn++) {
        int64_t steps = turn % 3 ? 1 : 1 + random_bits() % (2 * MOST_STEPS);
        uint8_t active[ROWS];
        for (int64_t row = 0; row < ROWS; row++) {
            active[row] = turn % 4 == 0 || random_bits() % 3 ? 3 : 0;
            for (int64_t k = 0; k < steps * FEATURES; k++) {
                x[row * steps * FEATURES + k] = active[row] ? random_float(1.0f) : NAN;
            }
            for (int64_t t = 0; t < steps && active[row]; t++) {
                take(&past[row], x + (row * steps + t) * FEATURES, window);
            }
        }
        CHECK(run(kept, ROWS, steps, x, turn % 4 ? active : NULL, threads, &found) == CYL_OK, "%s", what);
        for (int64_t row = 0; row < ROWS; row++) {
            bool is_whole = past[row].count == window;
            if (active[row] && is_whole) {
                CHECK(predict_last(model, &past[row], window, &expected) == CYL_OK, "%s", what);
            }
            for (int32_t o = 0; o < 2; o++) {
                int64_t count = network->features[network->outputs[o]] * (o == 0 ? window : 1);
                const float *y = found.arrays[o] + row * count;
                bool is_right = !active[row]      ? are_all(y, count, false)
                                : !is_whole       ? are_all(y, count, true)
                                : tolerance > 0.0 ? are_close(y, expected.arrays[o], count, tolerance)
                                                  : memcmp(y, expected.arrays[o], (size_t)count * sizeof *y) == 0;
                CHECK(is_right, "%s, window %d, %d threads, turn %d, row %d, output %d", what, (int)window, threads,
                      turn, (int)row, (int)o);
            }
        }
        int64_t row = random_bits() % ROWS, from = random_bits() % ROWS;
        if (turn % 7 == 3) {
            CHECK(cyl_window_reset_rows(kept, &row, 1) == CYL_OK, "reset");
            past[row].count = 0;
        } else if (turn % 7 == 5) {
            CHECK(cyl_window_copy_rows(other, &row, kept, &from, 1) == CYL_OK &&
                      cyl_window_copy_rows(kept, &row, other, &row, 1) == CYL_OK,
                  "copy");
            past[row] = past[from];
        } else if (turn % 7 == 6) { /* all that is kept, into another that has been used */
            float *saved = need(ROWS * MOST_STEPS * FEATURES * sizeof *saved);
            void *to[] = {saved};
            const void *back[] = {saved};
            int64_t counts[ROWS];
            CHECK(cyl_window_get(kept, to, counts) == CYL_OK && cyl_window_set(other, back, counts) == CYL_OK, "set");
            CylWindow *swapped = kept;
            kept = other;
            other = swapped;
            free(saved);
        }
    }
    for (size_t k = 0; k < sizeof x / sizeof *x; k++) {
        x[k] = random_float(1.0f);
    }
    CHECK(cyl_window_reset(kept) == CYL_OK, "reset");
    CHECK(run(kept, ROWS, window, x, NULL, threads, &found) == CYL_OK && !isnan(found.arrays[1][0]), "a whole window");
    CHECK(cyl_window_reset(kept) == CYL_OK, "reset");
    CHECK(run(kept, ROWS, 1, x, NULL, threads, &found) == CYL_OK && (window == 1) == !isnan(found.arrays[1][0]), "one");
    free_outputs(&found);
    free_outputs(&expected);
    cyl_window_free(kept);
    cyl_window_free(other);
}

static void steps_are_predictions_bit_for_bit(void) {
    for (int kind = 0; kind < RECURRENT_KINDS; kind++) {
        for (int hidden = 3; hidden < 60; hidden += 30) {
            random_seed((uint64_t)(kind * 100 + hidden));
            Network *network = windowed_network(kind, hidden);
            for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
                if (!cyl_isa_available((CylIsa)isa)) {
                    continue;
                }
                CylModel *model = network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa);
                for (int threads = 1; threads <= 8; threads += threads) {
                    check_windows(network, model, threads == 2 ? 1 : MOST_STEPS - threads, threads, 0.0,
                                  RECURRENT_NAMES[kind]);
                }
                cyl_model_free(model);
            }
            network_free(network);
        }
    }
}

static void the_blas_engine_agrees_within_rounding(void) {
    for (int kind = 0; kind < RECURRENT_KINDS; kind++) {
        random_seed((uint64_t)kind);
        Network *network = windowed_network(kind, 19);
        CylModel *model = network_model(network, CYL_ENGINE_BLAS32, cyl_isa_best());
        check_windows(network, model, 7, 1, 1e-5, RECURRENT_NAMES[kind]);
        cyl_model_free(model);
        network_free(network);
    }
}

/* one layer; its time is the input's */
static void windows_out_of_range_are_refused(void) {
    random_seed(1);
    Network *network = windowed_network(LSTM, 4);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    CylWindow *kept = NULL, *other;
    static const int64_t wrong[] = {0, -1, INT64_MIN}, huge[] = {(int64_t)1 << 46, (int64_t)1 << 60, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        CHECK(cyl_window_create(model, wrong[i], 3, 1, &kept) == CYL_E_ARGUMENT && !kept, "rows");
        CHECK(cyl_window_create(model, 1, wrong[i], 1, &kept) == CYL_E_ARGUMENT && !kept, "steps");
        CHECK(cyl_window_create(model, huge[i], 3, 1, &kept) == CYL_E_MEMORY && !kept, "rows");
        CHECK(cyl_window_create(model, 1, huge[i], 1, &kept) == CYL_E_MEMORY && !kept, "steps");
    }
    CHECK(cyl_window_create(model, 1, 3, 0, &kept) == CYL_E_ARGUMENT && !kept, "threads");
    CHECK(cyl_window_create(model, 1, 3, CYL_MAX_THREADS + 1, &kept) == CYL_E_ARGUMENT && !kept, "threads");
    CHECK(cyl_window_create(model, 2, 3, 1, &kept) == CYL_OK, "window");
    Outputs y = new_outputs();
    float x[2 * 4 * FEATURES] = {0};
    CHECK(run(kept, 1, 1, x, NULL, 1, &y) == CYL_E_ARGUMENT, "rows");
    CHECK(run(kept, 2, 0, x, NULL, 1, &y) == CYL_E_ARGUMENT, "steps");
    CHECK(run(kept, 2, 1, x, NULL, 0, &y) == CYL_E_ARGUMENT, "threads");
    static const int64_t own[] = {1, 0}, beyond[] = {0, 2}, before[] = {-1, 0};
    CHECK(cyl_window_reset_rows(kept, beyond, 2) == CYL_E_ARGUMENT, "rows");
    CHECK(cyl_window_reset_rows(kept, before, 2) == CYL_E_ARGUMENT, "rows");
    CHECK(cyl_window_reset_rows(kept, own, -1) == CYL_E_ARGUMENT, "rows");
    CHECK(cyl_window_copy_rows(kept, own, kept, own, 2) == CYL_E_ARGUMENT, "itself");
    CHECK(cyl_window_create(model, 2, 4, 1, &other) == CYL_OK, "window");
    CHECK(cyl_window_copy_rows(kept, own, other, own, 2) == CYL_E_ARGUMENT, "another window");
    cyl_window_free(other);
    CHECK(cyl_window_create(model, 2, 3, 1, &other) == CYL_OK, "window");
    CHECK(cyl_window_copy_rows(kept, beyond, other, own, 2) == CYL_E_ARGUMENT, "rows");
    CHECK(cyl_window_copy_rows(kept, own, other, before, 2) == CYL_E_ARGUMENT, "rows");
    CHECK(cyl_window_copy_rows(kept, own, other, own, 2) == CYL_OK, "copy");
    const void *inputs[] = {x};
    const int64_t counts[2] = {3, -1};
    CHECK(cyl_window_set(kept, inputs, counts) == CYL_E_ARGUMENT, "counts");
    cyl_window_free(other);
    cyl_window_free(kept);
    cyl_window_free(NULL);
    free_outputs(&y);
    cyl_model_free(model);
    network_free(network);

    network = network_create();
    network_output(network, network_dense(network, network_input(network, CYL_VECTOR, 3, NULL), 4, "relu"));
    model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
    CHECK(cyl_window_create(model, 1, 3, 1, &kept) == CYL_E_STREAM && !kept, "no time");
    cyl_model_free(model);
    network_free(network);
}

/* ---- a window entered twice: a BLAS function that calls back is inside it for certain ---- */

static CylWindow *entered;
static int calls_back;

static void gemv(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                 float beta, float *y, int incy) {
    (void)order, (void)trans, (void)m, (void)n, (void)alpha, (void)a, (void)lda, (void)x, (void)incx, (void)beta;
    (void)y, (void)incy;
    static const int64_t row = 0;
    float numbers[4 * FEATURES] = {0};
    void *to[] = {numbers};
    const void *from[] = {numbers};
    int64_t counts[1] = {0};
    Outputs outputs = {{numbers, numbers}};
    calls_back++;
    CHECK(run(entered, 1, 1, numbers, NULL, 1, &outputs) == CYL_E_BUSY, "run");
    CHECK(cyl_window_reset(entered) == CYL_E_BUSY, "reset");
    CHECK(cyl_window_reset_rows(entered, &row, 1) == CYL_E_BUSY, "reset");
    CHECK(cyl_window_get(entered, to, counts) == CYL_E_BUSY, "get");
    CHECK(cyl_window_set(entered, from, counts) == CYL_E_BUSY, "set");
}
static void gemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    (void)trans_a, (void)trans_b, (void)k, (void)ldc;
    gemv(order, 0, m, n, alpha, a, lda, b, ldb, beta, c, 1);
}

static void a_window_that_is_running_is_busy(void) {
    random_seed(2);
    Network *network = windowed_network(LSTM, 4);
    const CylBlas blas = {.sgemv = (uintptr_t)gemv, .sgemm = (uintptr_t)gemm};
    CylModel *model = network_model_with(network, CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, &blas);
    CHECK(cyl_window_create(model, 1, 4, 1, &entered) == CYL_OK, "window");
    Outputs y = new_outputs();
    float x[4 * FEATURES] = {0};
    CHECK(run(entered, 1, 4, x, NULL, 1, &y) == CYL_OK && calls_back > 0, "called back %d times", calls_back);
    free_outputs(&y);
    cyl_window_free(entered);
    cyl_model_free(model);
    network_free(network);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(steps_are_predictions_bit_for_bit);
    RUN(the_blas_engine_agrees_within_rounding);
    RUN(windows_out_of_range_are_refused);
    RUN(a_window_that_is_running_is_busy);
    return check_result();
}
