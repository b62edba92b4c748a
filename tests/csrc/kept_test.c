/*
 * Windows over time that reach into earlier pieces: a long prediction in pieces is that of the equations, and a stream
 * gives its bits whatever the chunks, on every instruction set and number of threads.
 */
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, CHANNELS = 5, FILTERS = 7, KERNEL = 4, STEPS = 9000, OUTPUTS = (STEPS - KERNEL + 1) / 2 };

static float weight[FILTERS * KERNEL * CHANNELS], bias[FILTERS];
static float x[ROWS * STEPS * CHANNELS], whole[ROWS * OUTPUTS * FILTERS], found[ROWS * OUTPUTS * FILTERS];

static void fill(float *numbers, size_t count, float scale) {
    for (size_t k = 0; k < count; k++) {
        numbers[k] = random_float(scale);
    }
}

/* y[t] = max(c[2t], c[2t + 1]), c[t] = bias + sum of weight * x: the poolings begin in the middle of every chunk */
static CylModel *pooled_convolution(CylIsa isa) {
    CylModel *model = NULL;
    int32_t input, between, output, no_mask = -1;
    CHECK(cyl_model_create(CYL_ENGINE_PACKED, isa, NULL, &model) == CYL_OK, "model");
    CHECK(cyl_model_add_value(model, CYL_SEQUENCE, CHANNELS, &input) == CYL_OK, "value");
    CHECK(cyl_model_add_value(model, CYL_SEQUENCE, FILTERS, &between) == CYL_OK, "value");
    CHECK(cyl_model_add_value(model, CYL_SEQUENCE, FILTERS, &output) == CYL_OK, "value");
    const CylTensor tensors[] = {{"weight", weight, 3, {FILTERS, KERNEL, CHANNELS}, NULL},
                                 {"bias", bias, 1, {FILTERS}, NULL}};
    const CylOption options[] = {
        {"padding", "valid", 0},     {"stride", NULL, 1},           {"dilation", NULL, 1},
        {"pad_before", NULL, 0},     {"pad_after", NULL, 0},        {"groups", NULL, 1},
        {"activation", "linear", 0}, {"activation_alpha", NULL, 0}, {"activation_beta", NULL, 0}};
    const CylOption pooling[] = {{"padding", "valid", 0}, {"stride", NULL, 2},    {"dilation", NULL, 1},
                                 {"pad_before", NULL, 0}, {"pad_after", NULL, 0}, {"pool", NULL, 2},
                                 {"mode", "max", 0},      {"ceil_mode", NULL, 0}, {"count_include_pad", NULL, 0},
                                 {"axis", NULL, 0}};
    const CylPort in = {"x", input}, middle = {"y", between}, again = {"x", between}, out = {"y", output};
    const CylLayerSpec convolution = {.kind = "conv1d",
                                      .inputs = &in,
                                      .outputs = &middle,
                                      .options = options,
                                      .tensors = tensors,
                                      .input_count = 1,
                                      .output_count = 1,
                                      .option_count = sizeof options / sizeof *options,
                                      .tensor_count = 2};
    const CylLayerSpec pool = {.kind = "pool1d",
                               .inputs = &again,
                               .outputs = &out,
                               .options = pooling,
                               .input_count = 1,
                               .output_count = 1,
                               .option_count = sizeof pooling / sizeof *pooling};
    CHECK(cyl_model_add_layer(model, &convolution) == CYL_OK, "convolution");
    CHECK(cyl_model_add_layer(model, &pool) == CYL_OK, "pooling");
    CHECK(cyl_model_finish(model, &input, &no_mask, 1, &output, 1) == CYL_OK, "finish");
    return model;
}

static CylStatus call(const CylModel *model, CylStream *stream, int64_t steps, const float *from, float *to,
                      const uint8_t *active, int threads) {
    const void *inputs[] = {from};
    void *outputs[] = {to};
    CylCall c = {.rows = ROWS, .times = &steps, .inputs = inputs, .outputs = outputs, .threads = threads};
    return stream ? cyl_stream_run_active(stream, &c, active) : cyl_predict(model, &c);
}

/* the chunk [first, first + steps) of all rows */
static const float *chunk(int64_t first, int64_t steps) {
    static float part[ROWS * STEPS * CHANNELS];
    for (int64_t row = 0; row < ROWS; row++) {
        memcpy(part + row * steps * CHANNELS, x + (row * STEPS + first) * CHANNELS,
               (size_t)(steps * CHANNELS) * sizeof *part);
    }
    return part;
}

static int64_t outputs_after(int64_t steps) { return steps < KERNEL + 1 ? 0 : (steps - KERNEL + 1) / 2; }

static void a_long_prediction_in_pieces_is_that_of_the_equations(void) {
    random_seed(1);
    fill(weight, sizeof weight / sizeof *weight, 0.5f);
    fill(bias, FILTERS, 0.5f);
    fill(x, sizeof x / sizeof *x, 1.0f);
    CylModel *model = pooled_convolution(cyl_isa_best());
    CHECK(call(model, NULL, STEPS, x, whole, NULL, 1) == CYL_OK, "predict");
    double error = 0.0;
    for (int64_t row = 0; row < ROWS; row++) {
        for (int64_t t = 0; t < OUTPUTS; t++) {
            for (int f = 0; f < FILTERS; f++) {
                double most = -INFINITY;
                for (int64_t at = 2 * t; at < 2 * t + 2; at++) {
                    double sum = bias[f];
                    for (int k = 0; k < KERNEL * CHANNELS; k++) {
                        sum += (double)weight[f * KERNEL * CHANNELS + k] * x[(row * STEPS + at) * CHANNELS + k];
                    }
                    most = sum > most ? sum : most;
                }
                error = fmax(error, fabs(most - whole[(row * OUTPUTS + t) * FILTERS + f]));
            }
        }
    }
    CHECK(error < 2e-6, "error %g", error);
    cyl_model_free(model);
}

static void chunks_of_a_stream_are_a_prediction_on_every_instruction_set(void) {
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        if (!cyl_isa_available((CylIsa)isa)) {
            continue;
        }
        GO_ON();
        CylModel *model = pooled_convolution((CylIsa)isa);
        CHECK(cyl_model_step_multiple(model) == 2 && cyl_model_settles(model) == 4, "settles");
        CHECK(call(model, NULL, STEPS, x, found, NULL, 3) == CYL_OK && !memcmp(found, whole, sizeof found), "%s",
              cyl_isa_name((CylIsa)isa));
        for (int threads = 1; threads <= 4; threads++) {
            CylStream *stream;
            CHECK(cyl_stream_create(model, ROWS, threads, &stream) == CYL_OK, "stream");
            for (int64_t at = 0, steps; at < STEPS; at += steps) {
                steps = 2 * (1 + random_bits() % (random_bits() % 4 ? 4 : 2000));
                steps = steps < STEPS - at ? steps : STEPS - at;
                const int64_t first = outputs_after(at), count = outputs_after(at + steps) - first;
                CHECK(call(model, stream, steps, chunk(at, steps), found, NULL, threads) == CYL_OK, "run");
                for (int64_t row = 0; row < ROWS; row++) {
                    CHECK(!memcmp(found + row * count * FILTERS, whole + (row * OUTPUTS + first) * FILTERS,
                                  (size_t)(count * FILTERS) * sizeof *found),
                          "%s, %d threads, %d steps at %d", cyl_isa_name((CylIsa)isa), threads, (int)steps, (int)at);
                }
            }
            cyl_stream_free(stream);
        }
        cyl_model_free(model);
    }
}

static void rows_of_one_run_have_taken_as_many_steps_and_what_is_kept_goes_on(void) {
    CylModel *model = pooled_convolution(cyl_isa_best());
    CylStream *stream, *other;
    int32_t layer = -1;
    CHECK(cyl_model_kept_count(model) == 2 && cyl_model_kept_size(model, 2, &layer) == -1, "kept");
    CHECK(cyl_model_kept_size(model, 0, &layer) == (KERNEL - 1) * CHANNELS && layer == 0, "of the convolution");
    CHECK(cyl_model_kept_size(model, 1, &layer) == FILTERS && layer == 1, "of the pooling");
    CHECK(cyl_stream_create(model, ROWS, 1, &stream) == CYL_OK, "stream");
    CHECK(cyl_stream_create(model, ROWS, 1, &other) == CYL_OK, "stream");
    const int64_t second = 1;
    int64_t taken[ROWS];
    CHECK(call(model, stream, 6, chunk(0, 6), found, NULL, 1) == CYL_OK, "run");
    CHECK(cyl_stream_reset_rows(stream, &second, 1) == CYL_OK, "reset");
    CHECK(cyl_stream_get_taken(stream, taken) == CYL_OK && taken[0] == 4 && taken[1] == 0 && taken[2] == 4, "taken");
    CHECK(call(model, stream, 2, x, found, NULL, 1) == CYL_E_TIME, "rows at different places");
    const uint8_t active[ROWS] = {1, 0, 1};
    CHECK(call(model, stream, 2, chunk(6, 2), found, active, 1) == CYL_OK, "rows at one place");
    static float kept_by_first[ROWS * KERNEL * CHANNELS], kept_by_second[ROWS * FILTERS];
    void *kept[] = {kept_by_first, kept_by_second};
    CylStreamState state = {.kept = kept, .taken = taken};
    CHECK(cyl_stream_save(stream, &state) == CYL_OK, "save");
    for (int64_t wrong = -2; wrong <= 6; wrong += 1) {
        taken[2] = wrong;
        const bool is_right = wrong == 0 || wrong == 2 || wrong == 4;
        CHECK(cyl_stream_restore(other, &state) == (is_right ? CYL_OK : CYL_E_ARGUMENT), "%d steps", (int)wrong);
    }
    taken[2] = 4;
    CHECK(cyl_stream_restore(other, &state) == CYL_OK, "restore");
    CHECK(call(model, other, 4, chunk(8, 4), found, active, 1) == CYL_OK, "run");
    for (int64_t row = 0; row < ROWS; row += 2) {
        CHECK(!memcmp(found + row * 2 * FILTERS, whole + (row * OUTPUTS + 2) * FILTERS, 2 * FILTERS * sizeof *found),
              "row %d", (int)row);
    }
    cyl_stream_free(stream);
    cyl_stream_free(other);
    cyl_model_free(model);
}

static void a_run_of_settled_rows_is_refused_before_they_are(void) {
    CylModel *model = pooled_convolution(cyl_isa_best());
    CylStream *stream;
    CHECK(cyl_stream_create(model, ROWS, 1, &stream) == CYL_OK, "stream");
    static const uint8_t none[ROWS], last[ROWS] = {0, 0, 1};
    int64_t steps = 2, taken[ROWS];
    void *outputs[] = {found};
    for (int64_t at = 0; at < 8; at += 2) {
        const void *inputs[] = {chunk(at, steps)};
        const CylCall c = {.rows = ROWS, .times = &steps, .inputs = inputs, .outputs = outputs, .threads = 1};
        const CylStatus expected = at < 4 ? CYL_E_TIME : CYL_OK;
        CHECK(cyl_stream_run_settled(stream, &c, at == 2 ? last : NULL) == expected, "at %d", (int)at);
        CHECK(cyl_stream_get_steps(stream, taken) == CYL_OK && taken[2] == (at < 4 ? at : at + 2), "none taken");
        if (at < 4) {
            CHECK(cyl_stream_run(stream, &c) == CYL_OK, "run");
        }
    }
    for (int64_t row = 0; row < ROWS; row++) {
        CHECK(!memcmp(found + row * FILTERS, whole + (row * OUTPUTS + outputs_after(6)) * FILTERS,
                      FILTERS * sizeof *found),
              "row %d", (int)row);
    }
    CHECK(cyl_stream_reset(stream) == CYL_OK, "reset");
    memset(found, 1, sizeof found);
    const void *inputs[] = {x};
    const CylCall c = {.rows = ROWS, .times = &steps, .inputs = inputs, .outputs = outputs, .threads = 1};
    CHECK(cyl_stream_run_settled(stream, &c, none) == CYL_OK, "no row");
    for (int64_t i = 0; i < ROWS * FILTERS; i++) {
        CHECK(found[i] == 0.0f, "number %d of no row", (int)i);
    }
    cyl_stream_free(stream);
    cyl_model_free(model);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(a_long_prediction_in_pieces_is_that_of_the_equations);
    RUN(chunks_of_a_stream_are_a_prediction_on_every_instruction_set);
    RUN(rows_of_one_run_have_taken_as_many_steps_and_what_is_kept_goes_on);
    RUN(a_run_of_settled_rows_is_refused_before_they_are);
    return check_result();
}
