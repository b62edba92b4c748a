/* What the C programs of this folder share: random networks. options.h, which _programs.py writes, holds the
   options of each layer: `static const CylOption OPTIONS_LSTM[]` and so on. */
#ifndef BENCH_MODEL_H
#define BENCH_MODEL_H

#include "cylstm.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

typedef enum { LSTM, GRU, RNN } Kind;

static Kind kind_of(const char *name) {
    return strcmp(name, "lstm") == 0 ? LSTM : strcmp(name, "gru") == 0 ? GRU : RNN;
}

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof *(array)))

/* one recurrent layer, and behind it a dense one of `units` if there are any */
static CylModel *make_network(Kind kind, int32_t input, int32_t hidden, int32_t units) {
    static const int32_t gates[] = {4, 3, 1};
    CylModel *model;
    int32_t x, y, h, c, z, no_mask = -1;
    const float scale = 0.1f;
    const int32_t rows = gates[kind] * hidden;
    check(cyl_model_create(CYL_ENGINE_PACKED, cyl_isa_best(), NULL, &model));
    check(cyl_model_add_value(model, CYL_SEQUENCE, input, &x));
    check(cyl_model_add_value(model, CYL_SEQUENCE, hidden, &y));
    check(cyl_model_add_value(model, CYL_STATE, hidden, &h));
    check(cyl_model_add_value(model, CYL_STATE, hidden, &c));
    const CylPort inputs[] = {{"x", x}}, outputs[] = {{"y", y}, {"h", h}, {"c", c}};
    const CylTensor tensors[] = {
        {"weight_ih", random_floats((int64_t)rows * input, scale), 2, {rows, input}},
        {"weight_hh", random_floats((int64_t)rows * hidden, scale), 2, {rows, hidden}},
        {kind == GRU ? "bias_ih" : "bias", random_floats(rows, scale), 1, {rows}},
        {"bias_hh", random_floats(rows, scale), 1, {rows}},
    };
    const CylLayerSpec specs[] = {
        {.kind = "lstm", .options = OPTIONS_LSTM, .option_count = COUNT(OPTIONS_LSTM), .output_count = 3},
        {.kind = "gru", .options = OPTIONS_GRU, .option_count = COUNT(OPTIONS_GRU), .output_count = 2},
        {.kind = "rnn", .options = OPTIONS_RNN, .option_count = COUNT(OPTIONS_RNN), .output_count = 2},
    };
    CylLayerSpec spec = specs[kind];
    spec.inputs = inputs;
    spec.outputs = outputs;
    spec.tensors = tensors;
    spec.input_count = 1;
    spec.tensor_count = kind == GRU ? 4 : 3;
    check(cyl_model_add_layer(model, &spec));
    if (units > 0) {
        check(cyl_model_add_value(model, CYL_SEQUENCE, units, &z));
        const CylPort dense_inputs[] = {{"x", y}}, dense_outputs[] = {{"y", z}};
        const CylTensor dense_tensors[] = {
            {"weight", random_floats((int64_t)units * hidden, scale), 2, {units, hidden}},
            {"bias", random_floats(units, scale), 1, {units}},
        };
        const CylLayerSpec dense = {.kind = "dense",
                                    .inputs = dense_inputs,
                                    .outputs = dense_outputs,
                                    .options = OPTIONS_DENSE,
                                    .tensors = dense_tensors,
                                    .input_count = 1,
                                    .output_count = 1,
                                    .option_count = COUNT(OPTIONS_DENSE),
                                    .tensor_count = 2};
        check(cyl_model_add_layer(model, &dense));
        y = z;
    }
    check(cyl_model_finish(model, &x, &no_mask, 1, &y, 1));
    return model;
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

#endif
