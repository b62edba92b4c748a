/*
 * Sizes that a machine cannot hold are refused, never wrapped into small ones. With SIZE_LIMIT=0xffffffff a machine of
 * 64 bits meets what one of 32 bits meets: a size that is a little more than a multiple of 2^32.
 */
#ifdef __linux__
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include <sys/mman.h>
#endif

#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/matrix.h"
#include "platform/memory.h"
#include "run/workspace.h"
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT ((uint64_t)CYL_SIZE_LIMIT)
#define IS_SMALL (LIMIT <= UINT32_MAX)

static void sums_and_products_stay_at_the_limit(void) {
    CHECK(cyl_size_add(LIMIT - 5, 4) == LIMIT - 1, "a sum below");
    CHECK(cyl_size_add(LIMIT - 5, 5) == LIMIT && cyl_size_add(LIMIT - 5, 6) == LIMIT, "a sum at the limit");
    CHECK(cyl_size_add(LIMIT, 0) == LIMIT && cyl_size_add(0, LIMIT) == LIMIT && cyl_size_add(LIMIT, LIMIT) == LIMIT,
          "a sum with the limit");
    CHECK(cyl_size_add(UINT64_MAX, UINT64_MAX) == LIMIT && cyl_size_add(3, UINT64_MAX) == LIMIT, "a sum of any");
    CHECK(cyl_size_mul(LIMIT / 7, 7) == LIMIT / 7 * 7 && cyl_size_mul(7, LIMIT / 7) == LIMIT / 7 * 7, "a product");
    CHECK(cyl_size_mul(LIMIT / 7 + 1, 7) == LIMIT && cyl_size_mul(7, LIMIT / 7 + 1) == LIMIT, "a product above");
    CHECK(cyl_size_mul(0, UINT64_MAX) == 0 && cyl_size_mul(UINT64_MAX, 0) == 0, "a product with 0");
    CHECK(cyl_size_mul(LIMIT, LIMIT) == LIMIT && cyl_size_mul((uint64_t)1 << 32, (uint64_t)1 << 32) == LIMIT,
          "a product that wraps to 1 or 0");
    CHECK(cyl_size_mul(UINT64_MAX, UINT64_MAX) == LIMIT, "a product of any");
    CHECK(cyl_size_round(65, 64) == 128 && cyl_size_round(64, 64) == 64 && cyl_size_round(0, 64) == 0, "rounded up");
    CHECK(cyl_size_round(LIMIT - 3, 64) == LIMIT && cyl_size_round(LIMIT, 8) == LIMIT, "not rounded down");
    size_t used = 192;
    CHECK(!cyl_place(NULL, &used, CYL_LONGEST, UINT64_MAX, 8) && used == LIMIT, "a place of any size");
    CHECK(!cyl_place(NULL, &used, 1, 1, 1) && used == LIMIT, "and what follows it");
    CHECK(!cyl_aligned_alloc((size_t)LIMIT) && !cyl_aligned_alloc((size_t)LIMIT - 64), "no memory of such a size");
    CHECK(!cyl_alloc(INT64_MAX, 8) && !cyl_resize(NULL, INT64_MAX, 8) && !cyl_alloc(1, (size_t)LIMIT), "nor any array");
    CHECK(!IS_SMALL || !cyl_alloc(((int64_t)1 << 32) + 1, 8), "nor one whose count is cut to 1");
}

/* ---- a workspace by its rows and steps ---- */

/* bytes of a workspace; 0 if it is refused */
static uint64_t workspace_bytes(const CylModel *model, int64_t rows, const int64_t *times, int threads) {
    CylWorkspace *workspace;
    CylStatus status = cyl_workspace_create(model, rows, times, !times, threads, &workspace);
    uint64_t bytes = status == CYL_OK ? workspace->bytes : 0;
    CHECK(status == CYL_OK || (status == CYL_E_MEMORY && !workspace), "%s", cyl_status_text(status));
    cyl_workspace_free(workspace);
    return bytes;
}

/* Workspaces whose bytes would be a little above a multiple of what a size can be; `along_rows`, else by their steps.
   The bytes grow evenly from 1024 rows or steps to 2048: along rows those of the fewest steps, which a stream of so
   many rows has room for. */
static void check_growth(const CylModel *model, bool along_rows, const char *name) {
    int64_t few = 1024, many = 2048, fewest = model->step_multiple;
    uint64_t first = workspace_bytes(model, along_rows ? few : 3, along_rows ? &fewest : &few, 2);
    uint64_t each = (workspace_bytes(model, along_rows ? many : 3, along_rows ? &fewest : &many, 2) - first) / 1024;
    uint64_t fixed = first - 1024 * each;
    CHECK(each > 0 && each < 1 << 24, "%s: %d bytes each", name, (int)each);
    for (int multiple = 1; multiple <= 9; multiple++) {
        /* of sizes in bytes, and in numbers: their products wrap at other places */
        double whole = multiple * ((double)LIMIT + (IS_SMALL ? 1.0 : 0.0));
        int64_t least = (int64_t)ceil((whole - (double)fixed) / (double)each);
        for (int64_t count = least; count < least + 3; count++) {
            uint64_t found = workspace_bytes(model, along_rows ? count : 3, along_rows ? &fewest : &count, 2);
            CHECK(found == 0, "%s: %.0f %s in %.0f bytes", name, (double)count, along_rows ? "rows" : "steps",
                  (double)found);
            CylStream *stream = NULL;
            CHECK(!along_rows || cyl_stream_create(model, count, 1, &stream) == CYL_E_MEMORY, "%s: a stream", name);
        }
    }
    CHECK(workspace_bytes(model, along_rows ? few : 3, along_rows ? &fewest : &few, 2) == first, "%s: as before", name);
}

static void rows_beyond_memory_are_refused(void) {
    for (int kind = 0; kind <= CONV_LSTM + 1; kind++) {
        Network *network = network_create();
        RecurrentOptions options = PLAIN;
        int32_t x = network_input(network, CYL_SEQUENCE, 24, &options.mask);
        network_output(network, kind < CONV_LSTM ? network_recurrent(network, kind, x, 17, &options, NULL, NULL)
                                : kind == CONV_LSTM
                                    ? network_conv_lstm(network, x, 3, 4, 5, true, &options)
                                    : network_dense(network, network_dense(network, x, 7, "relu"), 9, "softmax"));
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        check_growth(model, true, kind < CONV_LSTM ? RECURRENT_NAMES[kind] : "other");
        cyl_model_free(model);
        network_free(network);
    }
}

/* ---- layers described by hand ---- */

static CylModel *model_of(const CylValueKind *kinds, const int32_t (*shapes)[2], int32_t values) {
    CylModel *model;
    CHECK(cyl_model_create(CYL_ENGINE_PACKED, cyl_isa_best(), NULL, &model) == CYL_OK, "model");
    for (int32_t v = 0; v < values; v++) {
        int32_t index, rank = kinds[v] == CYL_VECTOR ? 1 : 2;
        CHECK(cyl_model_add_tensor(model, kinds[v], shapes[v] + 2 - rank, rank, &index) == CYL_OK, "value %d", (int)v);
    }
    return model;
}

typedef struct {
    double groups, stride, dilation;
    const char *padding;
} Windows;

/* status of adding y = conv1d(x) between values `from` and `to`; the numbers of the weights are left out */
static CylStatus add_conv1d(CylModel *model, int32_t from, int32_t to, int64_t filters, int64_t kernel,
                            int64_t channels, const Windows *windows) {
    const CylPort x = {"x", from}, y = {"y", to};
    const CylTensor weight = {"weight", NULL, 3, {filters, kernel, channels}, NULL};
    const CylOption options[] = {{"activation", "linear", 0.0},
                                 {"groups", NULL, windows->groups},
                                 {"stride", NULL, windows->stride},
                                 {"dilation", NULL, windows->dilation},
                                 {"padding", windows->padding, 0.0},
                                 {"pad_before", NULL, 0.0},
                                 {"pad_after", NULL, 0.0}};
    const CylLayerSpec spec = {"conv1d", &x, &y, options, &weight, 1, 1, 7, 1, NULL, 0};
    return cyl_model_add_layer(model, &spec);
}

static CylStatus finish(CylModel *model, int32_t output) {
    const int32_t input = 0, none = -1;
    return cyl_model_finish(model, &input, &none, 1, &output, 1);
}

static void histories_and_padded_copies_beyond_memory_are_refused(void) {
    const CylValueKind kinds[] = {CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t shapes[][2] = {{0, 12}, {0, 8}, {0, 8}};
    for (int what = 0; what < 4; what++) {
        bool is_causal = what < 2, is_grouped = what % 2;
        CylModel *model = model_of(kinds, shapes, 2);
        const Windows windows = {is_grouped ? 4 : 1, 1, 3, is_causal ? "causal" : "same"};
        CHECK(add_conv1d(model, 0, 1, 8, 5, is_grouped ? 3 : 12, &windows) == CYL_OK && finish(model, 1) == CYL_OK,
              "conv1d %d", what);
        check_growth(model, is_causal, is_causal ? "causal conv1d" : "conv1d");
        cyl_model_free(model);
    }
}

static void steps_beyond_memory_are_refused(void) {
    for (int what = 0; what < 3; what++) {
        Network *network = network_create();
        RecurrentOptions options = PLAIN;
        options.is_reverse = true;
        int32_t x = network_input(network, CYL_SEQUENCE, 24, &options.mask), y;
        if (what < 2) {
            y = network_recurrent(network, what ? GRU_BEFORE : LSTM_PROJECTED, x, 17, &options, NULL, NULL);
            y = network_last(network, y, -1);
        } else {
            y = network_recurrent(network, LSTM, x, 6, &options, NULL, NULL);
            Layer *layer = network_layer(network, "softmax");
            int32_t z = network_value(network, CYL_SEQUENCE, 6);
            network->axes[z] = 0;
            layer_input(layer, "x", y);
            layer_output(layer, "y", z);
            layer_number(layer, "axis", 0.0);
            layer_number(layer, "log", 0.0);
            y = z;
        }
        network_output(network, y);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        check_growth(model, false, what < 2 ? "reverse" : "softmax over time");
        cyl_model_free(model);
        network_free(network);
    }
}

/* attention keeps the scores of a step, of as many numbers as there are steps, for each thread */
static void scores_beyond_memory_are_refused(void) {
    const CylValueKind kinds[] = {CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t shapes[][2] = {{0, 4}, {0, 4}, {0, 4}};
    CylModel *model = model_of(kinds, shapes, 3);
    for (int32_t n = 0; n < 2; n++) {
        const CylPort inputs[] = {{"x", n}, {"key", n}, {"value", n}}, y = {"y", n + 1};
        const CylOption options[] = {{"score", "dot", 0.0}, {"masked", "penalty", 0.0}, {"causal", NULL, 0.0},
                                     {"scale", NULL, 1.0},  {"factor", NULL, 1.0},      {"heads", NULL, 2.0}};
        const CylLayerSpec spec = {"attention", inputs, &y, options, NULL, 3, 1, 6, 0, NULL, 0};
        CHECK(cyl_model_add_layer(model, &spec) == CYL_OK, "attention");
    }
    CHECK(finish(model, 2) == CYL_OK, "attention");
    check_growth(model, false, "attention");
    cyl_model_free(model);
}

/* ---- packed weights ---- */

static void weights_beyond_memory_are_refused(void) {
    /* small: 2^32 bytes and some more; else more than any machine has */
    const int64_t rows = IS_SMALL ? ((int64_t)1 << 22) + 1 : INT32_MAX, size = IS_SMALL ? 1 << 8 : (1 << 28) - 1;
    const CylValueKind kinds[] = {CYL_INDEX, CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t shapes[][2] = {{0, 1}, {0, (int32_t)size}, {0, 6}};
    CylModel *model = model_of(kinds, shapes, 2);
    const CylPort x = {"indices", 0}, y = {"y", 1};
    const CylTensor table = {"weight", NULL, 2, {rows, size}, NULL};
    const CylLayerSpec spec = {"embedding", &x, &y, NULL, &table, 1, 1, 0, 1, NULL, 0};
    CHECK(cyl_model_add_layer(model, &spec) == CYL_E_MEMORY, "a table of %.0f rows", (double)rows);
    cyl_model_free(model);

    /* of matrices: the units are a whole number of blocks */
    const int64_t input = IS_SMALL ? 1 << 14 : (1 << 24) - 40, units = IS_SMALL ? (1 << 16) + 64 : (1 << 24) - 64;
    const CylValueKind sequences[] = {CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t wide[][2] = {{0, (int32_t)input}, {0, (int32_t)units}, {0, (int32_t)input}};
    model = model_of(sequences, wide, 3);
    const CylPort from = {"x", 0}, to = {"y", 1};
    const CylTensor weight = {"weight", NULL, 2, {units, input}, NULL};
    const CylOption linear = {"activation", "linear", 0.0};
    const CylLayerSpec dense = {"dense", &from, &to, &linear, &weight, 1, 1, 1, 1, NULL, 0};
    CHECK(cyl_model_add_layer(model, &dense) == CYL_E_MEMORY, "a matrix of %.0f rows", (double)units);
    cyl_model_free(model);

    const int32_t groups[][2] = {{0, 1000000}, {0, 1000000}};
    model = model_of(sequences, groups, 2);
    const Windows most = {1000000, 1, 1, "valid"};
    CHECK(!IS_SMALL || add_conv1d(model, 0, 1, 1000000, 1074, 1, &most) == CYL_E_MEMORY, "taps of 2^32 bytes");
    cyl_model_free(model);
}

/* ---- numbers that are no sizes of anything ---- */

static void hostile_sizes_of_layers_do_not_overflow(void) {
    const int32_t most = 1 << 28;
    const CylValueKind kinds[] = {CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t shapes[][2] = {{0, most}, {0, most}, {0, 1}, {0, 1}};
    static const char *const paddings[] = {"valid", "same", "causal"};
    static const double strides[] = {1, 1 << 20};
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < 8; i++) {
            bool is_wide = i & 1, is_long = i & 2, is_dilated = i & 4;
            int32_t x = is_wide ? 0 : 2, y = is_wide ? 1 : 3;
            const Windows windows = {1, strides[i & 1], is_dilated ? 1 << 20 : 1, paddings[p]};
            CylModel *model = model_of(kinds, shapes, 4);
            CylStatus status =
                add_conv1d(model, x, y, is_wide ? most : 1, is_long ? 1 << 20 : 1, is_wide ? most : 1, &windows);
            CHECK(status == (is_wide                 ? CYL_E_TENSOR
                             : is_long && is_dilated ? CYL_E_OPTION
                                                     : CYL_OK) ||
                      (is_wide && is_long && is_dilated && status == CYL_E_OPTION),
                  "padding %d, %d: %s", p, i, cyl_status_text(status));
            cyl_model_free(model);
        }
    }
}

static void calls_of_any_rows_and_steps_are_refused(void) {
    const CylValueKind kinds[] = {CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t shapes[][2] = {{0, 2}, {0, 2}};
    static const char *const paddings[] = {"valid", "same", "causal"};
    float x[4] = {0}, y[4];
    const void *input = x;
    void *output = y;
    for (int p = 0; p < 3; p++) {
        for (int stride = 1; stride <= 2; stride++) {
            CylModel *model = model_of(kinds, shapes, 2);
            const Windows windows = {1, stride, 1, paddings[p]};
            CHECK(add_conv1d(model, 0, 1, 2, 2, 2, &windows) == CYL_OK && finish(model, 1) == CYL_OK, "conv1d");
            static const int64_t huge[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 + 1, ((int64_t)1 << 40) + 2};
            for (int i = 0; i < 4; i++) {
                int64_t time = huge[i], bytes;
                CylCall call = {.rows = 1, .times = &time, .inputs = &input, .outputs = &output, .threads = 1};
                CHECK(cyl_predict(model, &call) == CYL_E_MEMORY, "%.0f steps", (double)time);
                CHECK(cyl_model_run_bytes(model, &time, &bytes) == CYL_E_MEMORY && bytes == 0, "their bytes");
                time = 2;
                call.rows = huge[i];
                call.threads = 3;
                CHECK(cyl_predict(model, &call) == CYL_E_MEMORY, "%.0f rows", (double)call.rows);
                CylStream *stream;
                CylStatus wanted = model->can_stream ? CYL_E_MEMORY : CYL_E_STREAM;
                CHECK(cyl_stream_create(model, huge[i], 1, &stream) == wanted && !stream, "a stream of them");
            }
            int64_t time = 2;
            CylCall call = {.rows = 1, .times = &time, .inputs = &input, .outputs = &output, .threads = 1};
            CHECK(cyl_predict(model, &call) == CYL_OK, "as before");
            cyl_model_free(model);
        }
    }
}

/* the pieces of a stream would be longer between the layers than any sequence, although a step is not */
static void pieces_that_become_too_long_are_refused(void) {
    const CylValueKind kinds[] = {CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE, CYL_SEQUENCE};
    const int32_t shapes[][2] = {{0, 2}, {0, 2}, {0, 2}, {0, 2}};
    CylModel *model = model_of(kinds, shapes, 4);
    for (int32_t n = 0; n < 3; n++) {
        const CylPort x = {"x", n}, y = {"y", n + 1};
        const CylOption options[] = {{"axis", NULL, 0.0}, {"size", NULL, 1 << 13}};
        const CylLayerSpec spec = {"upsample", &x, &y, options, NULL, 1, 1, 2, 0, NULL, 0};
        CHECK(cyl_model_add_layer(model, &spec) == CYL_OK, "upsample");
    }
    CHECK(finish(model, 3) == CYL_OK && model->can_stream, "three upsamplings");
    CylStream *stream;
    CHECK(cyl_stream_create(model, 1, 1, &stream) == CYL_E_MEMORY && !stream, "2^39 steps of each, 8 steps at once");
    float x[2 * 8] = {0};
    const void *input = x;
    void *output = x;
    int64_t time = 4;
    CylCall call = {.rows = 1, .times = &time, .inputs = &input, .outputs = &output, .threads = 1};
    CHECK(cyl_predict(model, &call) == CYL_E_MEMORY, "2^41 steps in all");
    cyl_model_free(model);
}

/* ---- a BLAS of 32 bits ---- */

#if defined(__linux__) && SIZE_MAX > UINT32_MAX
static void columns_too_far_apart_for_a_blas_of_32_bits_are_right(void) {
    enum { UNITS = 3, COLUMNS = 2, COUNT = 2 };
    const int64_t far = ((int64_t)1 << 31) + 16;
    const size_t bytes = (size_t)(far + 64) * sizeof(float);
    float *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        printf("no room for 8 GB of addresses\n");
        return;
    }
    CylModel *model;
    CylBlas blas = plain_blas();
    CHECK(!blas.is_int64 && cyl_model_create(CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, &blas, &model) == CYL_OK, "model");
    float weights[UNITS * COLUMNS] = {1, 2, 3, 5, 7, 11}, bias[UNITS] = {100, 200, 300}, near[64] = {0};
    const CylMatrix m = {.units = UNITS,
                         .gates = 1,
                         .columns = COLUMNS,
                         .blocks = 1,
                         .width = 64,
                         .tail_width = UNITS,
                         .block_rows = 64,
                         .tail_rows = UNITS,
                         .row_size = 16,
                         .weights = weights,
                         .bias = bias};
    const float x[COUNT][COLUMNS] = {{1, 10}, {1000, 20}};
    for (int what = 0; what < 2; what++) { /* x, or the sums lie far apart */
        float *data = what ? near : memory, *acc = what ? memory : near;
        int64_t stride = what ? 16 : far, acc_stride = what ? far : 16;
        memcpy(data, x[0], sizeof x[0]);
        memcpy(data + stride, x[1], sizeof x[1]);
        const CylOperand operand = {data, stride, 0, COLUMNS};
        cyl_blas32_product(model, &m, &operand, 1, COUNT, acc, acc_stride, false, false, 0, 1);
        for (int j = 0; j < COUNT; j++) {
            for (int u = 0; u < UNITS; u++) {
                float wanted = bias[u] + weights[u * COLUMNS] * x[j][0] + weights[u * COLUMNS + 1] * x[j][1];
                CHECK(acc[j * acc_stride + u] == wanted, "column %d, unit %d", j, u);
            }
        }
    }
    cyl_model_free(model);
    munmap(memory, bytes);
}
#endif

int main(void) {
    RUN(sums_and_products_stay_at_the_limit);
    RUN(rows_beyond_memory_are_refused);
    RUN(histories_and_padded_copies_beyond_memory_are_refused);
    RUN(steps_beyond_memory_are_refused);
    RUN(scores_beyond_memory_are_refused);
    RUN(weights_beyond_memory_are_refused);
    RUN(hostile_sizes_of_layers_do_not_overflow);
    RUN(calls_of_any_rows_and_steps_are_refused);
    RUN(pieces_that_become_too_long_are_refused);
#if defined(__linux__) && SIZE_MAX > UINT32_MAX
    RUN(columns_too_far_apart_for_a_blas_of_32_bits_are_right);
#endif
    return check_result();
}
