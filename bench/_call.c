/*
 * A step of an LSTM from C, without Python: for every number read from the standard input, that many steps (after a
 * tenth as many untimed ones), then a line with the nanoseconds and the allocations of one step.
 *
 * options.h, which call.py writes, holds the operation's options: `static const CylOption OPTIONS[]`.
 */
#include "cylstm.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { INPUTS = 100 };

long bench_allocations(void);

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
    const CylNodeSpec spec = {.op = "lstm",
                              .inputs = inputs,
                              .outputs = outputs,
                              .options = OPTIONS,
                              .tensors = tensors,
                              .input_count = 1,
                              .output_count = 3,
                              .option_count = sizeof OPTIONS / sizeof *OPTIONS,
                              .tensor_count = 3};
    check(cyl_model_add_node(model, &spec));
    check(cyl_model_finish(model, &x, &no_mask, 1, &y, 1));
    return model;
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    const int32_t input = atoi(argv[1]), hidden = atoi(argv[2]);
    CylModel *model = make_model(input, hidden);
    CylStream *stream;
    check(cyl_stream_create(model, 1, 1, &stream));
    const float *x = random_floats((int64_t)INPUTS * input, 1.0f);
    float *y = random_floats(hidden, 0.0f);
    const int64_t one = 1;
    const void *read[1];
    void *written[1] = {y};
    const CylCall call = {.rows = 1, .times = &one, .inputs = read, .outputs = written, .threads = 1};
    long count;
    while (scanf("%ld", &count) == 1) {
        double start = 0.0;
        long before = 0;
        for (long i = -(count / 10 + 2); i < count; i++) {
            if (i == 0) {
                before = bench_allocations();
                start = now_ns();
            }
            read[0] = x + (size_t)((i + count) % INPUTS) * (size_t)input;
            check(cyl_stream_run(stream, &call));
        }
        const double elapsed = now_ns() - start;
        printf("%.3f %.3f\n", elapsed / (double)count, (double)(bench_allocations() - before) / (double)count);
        fflush(stdout);
    }
    cyl_stream_free(stream);
    cyl_model_free(model);
    return 0;
}
