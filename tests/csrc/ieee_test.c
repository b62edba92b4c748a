/*
 * The caller's floating-point mode (flush to zero, rounding, traps) changes no bit of a result, and is the same
 * after a call as before.
 */
#include "check.h"
#include "network.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    uint64_t set, clear; /* bits of the control register */
} Mode;

#if defined(__x86_64__)
#include <xmmintrin.h>

static const Mode MODES[] = {
    {"as it was", 0, 0},
    {"flush to zero", 0x8000, 0},
    {"subnormals are zero", 0x0040, 0},
    {"downward", 0x2000, 0},
    {"upward", 0x4000, 0},
    {"toward zero", 0x6000, 0},
    {"flush to zero, subnormals are zero, toward zero", 0xe040, 0},
    {"traps", 0, 0x0680}, /* invalid, division by zero, overflow */
};
/* without the flags of past exceptions */
static uint64_t control(void) { return _mm_getcsr() & ~0x3fu; }
static void set_control(uint64_t wanted) { _mm_setcsr((unsigned)wanted); }

#elif defined(__aarch64__) || defined(__arm__)

static const Mode MODES[] = {
    {"as it was", 0, 0},       {"flush to zero", 1u << 24, 0}, {"upward", 1u << 22, 0},
    {"downward", 2u << 22, 0}, {"toward zero", 3u << 22, 0},   {"flush to zero, toward zero", 1u << 24 | 3u << 22, 0},
};
#ifdef __aarch64__
static uint64_t control(void) {
    uint64_t now;
    __asm__ volatile("mrs %0, fpcr" : "=r"(now));
    return now;
}
static void set_control(uint64_t wanted) { __asm__ volatile("msr fpcr, %0" : : "r"(wanted)); }
#else
/* without the flags of past comparisons and exceptions */
static uint64_t control(void) {
    uint32_t now;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(now));
    return now & 0x07ffff00u;
}
static void set_control(uint64_t wanted) { __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)wanted)); }
#endif

#else

static const Mode MODES[] = {
    {"as it was", 0, 0},
    {"downward", FE_DOWNWARD, ~(uint64_t)0},
    {"upward", FE_UPWARD, ~(uint64_t)0},
    {"toward zero", FE_TOWARDZERO, ~(uint64_t)0},
};
static uint64_t control(void) { return (uint64_t)fegetround(); }
static void set_control(uint64_t wanted) { fesetround((int)wanted); }

#endif

enum { MODE_COUNT = sizeof MODES / sizeof *MODES };

/* sets the mode of the threads that OpenMP keeps for the calling thread, too; those of the pool have the mode of the
   call that made them */
static void set_control_of_team(uint64_t wanted) {
#pragma omp parallel num_threads(3)
    set_control(wanted);
}

/* a network of every layer, whose data has tiny and subnormal numbers too */
static Network *every_layer(Data **data) {
    int64_t time = 30;
    random_seed(7);
    RecurrentOptions options = PLAIN;
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 5, &options.mask), y[3];
    y[0] = network_recurrent(network, LSTM_PROJECTED, x, 26, &options, NULL, NULL);
    y[1] = network_recurrent(network, GRU_BEFORE, x, 18, &options, NULL, NULL);
    y[2] = network_recurrent(network, GRU_AFTER, x, 18, &options, NULL, NULL);
    int32_t z = network_dense(network, network_merge(network, "ave", y, 3), 18, "gelu");
    network_output(network, network_recurrent(network, LSTM, z, 7, &options, NULL, NULL));
    network_output(network, network_dense(network, z, 5, "softmax"));
    float *weights = network->layers[0].weights[0];
    weights[3] = 1e-40f;
    weights[8] = 0x1p-40f;
    *data = data_create(network, 4, &time, false);
    for (int i = 0; i < 4 * 30 * 5; i += 7) {
        (*data)->inputs[0][i] = ldexpf(random_float(1.0f), -(i % 140));
    }
    (*data)->states[0][2] = -1e-39f;
    return network;
}

/* the pool's threads have for ever the mode of the call that made them */
static void make_threads_in_mode(const Mode *mode, const Network *network, const Data *data) {
    const uint64_t before = control();
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
    set_control((before & ~mode->clear) | mode->set);
    Result result = predict(network, model, data, 3);
    set_control(before);
    result_free(&result);
    cyl_model_free(model);
}

static void modes_change_nothing_and_are_restored(void) {
    static const int64_t steps[] = {1, 4};
    Data *data;
    Network *network = every_layer(&data);
    make_threads_in_mode(&MODES[1], network, data);
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        if (!cyl_isa_available((CylIsa)isa)) {
            continue;
        }
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa);
        Result wanted = predict(network, model, data, 1);
        cyl_model_free(model);
        for (int m = 0; m < MODE_COUNT; m++) {
            const uint64_t before = control(), within = (before & ~MODES[m].clear) | MODES[m].set;
            uint64_t after[6];
            Result results[5];
            set_control_of_team(within);
            model = network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa);
            after[0] = control();
            for (int threads = 1; threads <= 3; threads++) {
                results[threads - 1] = predict(network, model, data, threads);
                after[threads] = control();
            }
            for (int threads = 1; threads <= 2; threads++) {
                results[2 + threads] = stream(network, model, data, steps, 2, threads);
                after[3 + threads] = control();
            }
            set_control_of_team(before);
            for (int i = 0; i < 6; i++) {
                CHECK(after[i] == within, "%s, %s: %#llx after %#llx, call %d", cyl_isa_name((CylIsa)isa),
                      MODES[m].name, (unsigned long long)after[i], (unsigned long long)within, i);
            }
            for (int i = 0; i < 5; i++) {
                CHECK(result_same(&results[i], &wanted), "%s, %s: result %d differs by %g", cyl_isa_name((CylIsa)isa),
                      MODES[m].name, i, result_error(&results[i], &wanted));
                result_free(&results[i]);
            }
            cyl_model_free(model);
        }
        result_free(&wanted);
    }
    data_free(data);
    network_free(network);
}

/* infinity times zero, and sums that overflow, end no program */
static void traps_of_the_caller_do_not_fire_inside(void) {
    Data *data;
    Network *network = every_layer(&data);
    memset(network->layers[0].weights[0], 0, 40 * sizeof(float));
    network->layers[1].weights[0][0] = network->layers[1].weights[0][1] = 3e38f;
    for (int i = 0; i < 20; i++) {
        data->inputs[0][i * 3] = i % 2 ? INFINITY : 3e38f;
    }
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    for (int m = 0; m < MODE_COUNT; m++) {
        const uint64_t before = control(), within = (before & ~MODES[m].clear) | MODES[m].set;
        set_control(within);
        Result result = predict(network, model, data, 1);
        uint64_t after = control();
        set_control(before);
        CHECK(after == within, "%s: %#llx after %#llx", MODES[m].name, (unsigned long long)after,
              (unsigned long long)within);
        CHECK(isnan(((float *)result.arrays[0])[0]), "%s: infinity times zero is NaN", MODES[m].name);
        result_free(&result);
    }
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* a caller that looks at the flags sees those of the call, whatever its mode is */
static void flags_that_a_call_raises_stay_raised(void) {
    Data *data;
    Network *network = every_layer(&data);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    for (int m = 0; m < MODE_COUNT; m++) {
        const uint64_t before = control();
        feclearexcept(FE_ALL_EXCEPT);
        set_control((before & ~MODES[m].clear) | MODES[m].set);
        Result result = predict(network, model, data, 1);
        const int raised = fetestexcept(FE_INEXACT);
        set_control(before);
        CHECK(raised, "%s: nothing was rounded", MODES[m].name);
        result_free(&result);
    }
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(modes_change_nothing_and_are_restored);
    RUN(traps_of_the_caller_do_not_fire_inside);
    RUN(flags_that_a_call_raises_stay_raised);
    return check_result();
}
