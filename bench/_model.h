/* What the C programs of this folder share: a random LSTM. options.h, which _programs.py writes, holds the layer's
   options: `static const CylOption OPTIONS[]`. */
#ifndef BENCH_MODEL_H
#define BENCH_MODEL_H

#include "cylstm.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void check(CylStatus status) {
    if (status != CYL_OK) {
        fprintf(stderr, "%s\n", cyl_status_text(status));
        exit(1);
    }
}

static float *random_floats(int64_t count, float scale) {
    static uint64_t state = 88172645463325252u;
    float *x = malloc((size_t)count * sizeof *x);
    if (!x) {
        exit(1);
    }
    for (int64_t i = 0; i < count; i++) {
        state ^= state >> 12; /* xorshift64* */
        state ^= state << 25;
        state ^= state >> 27;
        x[i] = scale * ((float)(uint32_t)(state * 2685821657736338717u >> 32) * 0x1p-31f - 1.0f);
    }
    return x;
}

static CylModel *make_model(int32_t input, int32_t hidden) {
    CylModel *model;
    int32_t x, y, h, c, no_mask = -1;
    const float scale = 0.1f;
    check(cyl_model_create(CYL_ENGINE_PACKED, cyl_isa_best(), NULL, &model));
    check(cyl_model_add_value(model, CYL_SEQUENCE, input, &x));
    check(cyl_model_add_value(model, CYL_SEQUENCE, hidden, &y));
    check(cyl_model_add_value(model, CYL_STATE, hidden, &h));
    check(cyl_model_add_value(model, CYL_STATE, hidden, &c));
    const CylPort inputs[] = {{"x", x}}, outputs[] = {{"y", y}, {"h", h}, {"c", c}};
    const CylTensor tensors[] = {
        {"weight_ih", random_floats(4 * (int64_t)hidden * input, scale), 2, {4 * hidden, input}},
        {"weight_hh", random_floats(4 * (int64_t)hidden * hidden, scale), 2, {4 * hidden, hidden}},
        {"bias", random_floats(4 * (int64_t)hidden, scale), 1, {4 * hidden}},
    };
    const CylLayerSpec spec = {.kind = "lstm",
                               .inputs = inputs,
                               .outputs = outputs,
                               .options = OPTIONS,
                               .tensors = tensors,
                               .input_count = 1,
                               .output_count = 3,
                               .option_count = sizeof OPTIONS / sizeof *OPTIONS,
                               .tensor_count = 3};
    check(cyl_model_add_layer(model, &spec));
    check(cyl_model_finish(model, &x, &no_mask, 1, &y, 1));
    return model;
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

#endif
