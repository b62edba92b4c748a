/*
 * Convolution over time, channels last, in groups (depthwise where a group has one channel):
 * y[t][f] = activation(b[f] + sum over taps k and channels c of the group of W[f][k][c] * x[t*stride + k*dilation -
 * before][c]), a cross-correlation with zeros outside x, taps ascending, one chain of multiply-adds.
 *
 * The input is copied behind `before` steps of zeros, or of history: a causal convolution carries the steps before as
 * its state, so that a sequence may come in pieces.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "platform/tuning.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdlib.h>
#include <string.h>

/* taps that are passed to one product, where they do not lie side by side */
#define TAPS_AT_ONCE 8

typedef struct {
    CylTime1d time;
    int32_t groups, channels, filters; /* channels and filters of all groups */
    bool is_depthwise;
    void *taps, *bias; /* depthwise: real (kernel, filters) and (filters) */
    CylActivationSpec activation;
    CylMatrix matrices[]; /* (groups); none if depthwise */
} Conv;

/* depthwise: taps (kernel, filters), so that the filters of one tap lie side by side */
static CylStatus prepare_taps(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, Conv *conv) {
    CYL_TRY(cyl_array_prepare(model, layer, spec, (int64_t)conv->time.kernel * conv->filters, &conv->taps));
    CYL_TRY(cyl_tensor_place(layer, (CylPlace){.role = "weight",
                                               .rows = conv->filters,
                                               .columns = conv->time.kernel,
                                               .is_transposed = true,
                                               .data = conv->taps}));
    return cyl_spec_tensor(spec, "bias")
               ? cyl_vector_prepare(model, layer, spec, "bias", conv->filters, &conv->bias)
               : cyl_array_prepare(model, layer, spec, cyl_state_stride(conv->filters), &conv->bias);
}

static CylStatus prepare_group(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *m, int32_t units,
                               int64_t first_row) {
    const CylPart part = {"weight", first_row};
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, m, units, 1, &part, 1, NULL));
    if (!cyl_spec_tensor(spec, "bias")) {
        return CYL_OK;
    }
    return cyl_tensor_place(layer, (CylPlace){.role = "bias",
                                              .first_row = first_row,
                                              .rows = units,
                                              .columns = 1,
                                              .matrix = m,
                                              .is_row = true,
                                              .data = m->bias});
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *weight = cyl_spec_tensor(spec, "weight"), *bias = cyl_spec_tensor(spec, "bias");
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    int32_t groups;
    CYL_TRY(cyl_spec_whole(spec, "groups", 1, 1000000, &groups));
    const bool is_depthwise = groups > 1 && groups == x->features;
    Conv *conv = calloc(1, sizeof *conv + (is_depthwise ? 0 : (size_t)groups * sizeof(CylMatrix)));
    if (!conv) {
        return CYL_E_MEMORY;
    }
    layer->data = conv;
    CYL_TRY(cyl_spec_activation(spec, "activation", &conv->activation));
    conv->is_depthwise = is_depthwise;
    conv->groups = groups;
    conv->channels = x->features;
    conv->filters = y->features;
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || x->rank != 1 || y->rank != 1 ||
        conv->channels % conv->groups || conv->filters % conv->groups) {
        return CYL_E_VALUE;
    }
    if (!weight || weight->rank != 3 || weight->shape[0] != conv->filters ||
        weight->shape[2] != conv->channels / conv->groups || weight->shape[1] > (1 << 20)) {
        return CYL_E_TENSOR;
    }
    CYL_TRY(cyl_check_optional(bias, conv->filters, -1));
    CYL_TRY(cyl_time1d_read(spec, layer, (int32_t)weight->shape[1], &conv->time));
    if (is_depthwise) {
        CYL_TRY(prepare_taps(model, layer, spec, conv));
    }
    const int32_t units = conv->filters / conv->groups;
    for (int32_t g = 0; !is_depthwise && g < conv->groups; g++) {
        CYL_TRY(prepare_group(model, layer, spec, &conv->matrices[g], units, (int64_t)g * units));
    }
    const int64_t history = conv->time.padding == CYL_PAD_CAUSAL ? (conv->time.reach - 1) * conv->channels : 0;
    if (history > (1 << 28)) {
        return CYL_E_OPTION;
    }
    layer->history_size = (int32_t)history;
    layer->work = weight->shape[0] * weight->shape[1] * weight->shape[2] / conv->time.stride + 1;
    return CYL_OK;
}

/* steps of the padded copy of x, 0 if x is read where it lies */
static int64_t padded_steps(const Conv *conv, int64_t steps) {
    int64_t before, after;
    cyl_time1d_pads(&conv->time, steps, &before, &after);
    return before || after ? before + steps + after : 0;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Conv *conv = layer->data;
    size_t used = 0, real = model->kernels->real_size;
    int64_t rows = workspace->rows_capacity, steps = workspace->capacities[model->values[layer->x].axis];
    int64_t acc = conv->is_depthwise ? 0 : conv->matrices[0].row_size * CYL_CONV_COLUMNS;
    /* the padding of "same" depends on the number of steps; this is the most that it can be */
    int64_t padded =
        conv->time.padding == CYL_PAD_SAME ? steps + conv->time.reach + conv->time.stride : padded_steps(conv, steps);
    CylLayerState state = {0};
    state.h[0] = cyl_place(memory, &used, rows, (uint64_t)cyl_state_stride(layer->history_size), real);
    state.acc = cyl_place(memory, &used, workspace->threads, (uint64_t)acc, real);
    state.scratch = cyl_place(memory, &used, rows, cyl_size_mul((uint64_t)padded, (uint64_t)conv->channels), real);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* copies a row of x behind its padding or history, and keeps the last steps as the new history */
static void pad_row(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, int64_t steps,
                    int64_t before, int64_t after) {
    const Conv *conv = layer->data;
    const CylView *x = &workspace->views[layer->x];
    CylLayerState *state = &workspace->states[layer->index];
    size_t real = model->kernels->real_size, step = (size_t)conv->channels * real;
    char *to = cyl_at(model, state->scratch, row * (before + steps + after) * conv->channels);
    memcpy(to + (size_t)before * step, cyl_at(model, x->data, row * x->row_stride), (size_t)steps * step);
    memset(to + (size_t)(before + steps) * step, 0, (size_t)after * step);
    if (layer->history_size) {
        void *history = cyl_at(model, state->h[0], row * cyl_state_stride(layer->history_size));
        memcpy(to, history, (size_t)before * step);
        memcpy(history, to + (size_t)steps * step, (size_t)before * step);
    } else {
        memset(to, 0, (size_t)before * step);
    }
}

/* Computes `count` outputs of one group; x is at the first tap of the first of them. */
static void run_group(const CylModel *model, const Conv *conv, int32_t group, void *acc, const char *x, char *y,
                      int64_t y_stride, int64_t count) {
    const CylKernels *kernels = model->kernels;
    const CylMatrix *m = &conv->matrices[group];
    int64_t stride = (int64_t)conv->time.stride * conv->channels;
    int32_t channels = conv->channels / conv->groups, kernel = conv->time.kernel;
    /* taps that lie side by side are one operand; a BLAS wants columns that do not overlap */
    bool is_one =
        conv->groups == 1 && conv->time.dilation == 1 && (kernels->is_packed || stride >= (int64_t)kernel * channels);
    bool in_place = cyl_accumulates_in_place(m);
    int64_t acc_stride = in_place ? y_stride : m->row_size;
    acc = in_place ? y : acc;
    CylOperand taps[TAPS_AT_ONCE] = {{x, stride, 0, kernel * channels}};
    for (int32_t first = 0, most; first < kernel; first += most) {
        most = is_one ? kernel : kernel - first < TAPS_AT_ONCE ? kernel - first : TAPS_AT_ONCE;
        for (int32_t k = 0; !is_one && k < most; k++) {
            int64_t at = (int64_t)(first + k) * conv->time.dilation * conv->channels;
            taps[k] = (CylOperand){cyl_at(model, x, at), stride, (first + k) * channels, channels};
        }
        cyl_product(model, m, taps, is_one ? 1 : most, count, acc, acc_stride, first > 0, false, 0, m->blocks);
    }
    kernels->dense_output(m, &conv->activation, count, acc, acc_stride, y, y_stride,
                          conv->activation.id != CYL_ACT_SOFTMAX, 0, m->blocks);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Conv *conv = layer->data;
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    CylLayerState *state = &workspace->states[layer->index];
    int64_t steps = cyl_steps(workspace, layer->x), outputs = cyl_steps(workspace, layer->y), before, after, begin, end;
    cyl_time1d_pads(&conv->time, steps, &before, &after);
    bool is_padded = before || after;
    if (is_padded) {
        cyl_share(team, workspace->rows, &begin, &end);
        for (int64_t row = begin; row < end; row++) {
            pad_row(model, layer, workspace, row, steps, before, after);
        }
        cyl_barrier(team);
    }
    int64_t row_stride = is_padded ? (before + steps + after) * conv->channels : x->row_stride;
    const char *from = is_padded ? state->scratch : x->data;
    void *acc = conv->is_depthwise
                    ? NULL
                    : cyl_at(model, state->acc, team->thread * CYL_CONV_COLUMNS * conv->matrices[0].row_size);
    int64_t pieces = (outputs + CYL_CONV_COLUMNS - 1) / CYL_CONV_COLUMNS;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, CYL_CONV_COLUMNS * layer->work);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / pieces, first = j % pieces * CYL_CONV_COLUMNS;
        int64_t count = outputs - first < CYL_CONV_COLUMNS ? outputs - first : CYL_CONV_COLUMNS;
        const char *at = cyl_at(model, from, row * row_stride + first * conv->time.stride * conv->channels);
        char *to = cyl_at(model, y->data, row * y->row_stride + first * y->step_stride);
        for (int32_t g = 0; !conv->is_depthwise && g < conv->groups; g++) {
            int32_t units = conv->filters / conv->groups, channels = conv->channels / conv->groups;
            run_group(model, conv, g, acc, cyl_at(model, at, (int64_t)g * channels),
                      cyl_at(model, to, (int64_t)g * units), y->step_stride, count);
        }
        for (int64_t t = 0; conv->is_depthwise && t < count; t++) {
            model->kernels->depthwise(
                &conv->activation, conv->taps, conv->bias, cyl_at(model, at, t * conv->time.stride * conv->channels),
                (int64_t)conv->time.dilation * conv->channels, conv->time.kernel, conv->filters / conv->channels,
                cyl_at(model, to, t * y->step_stride), conv->filters);
        }
        for (int64_t t = 0; t < count && conv->activation.id == CYL_ACT_SOFTMAX; t++) {
            void *step = cyl_at(model, to, t * y->step_stride);
            model->kernels->activate(&conv->activation, step, step, conv->filters, true);
        }
    }
}

const CylLayerKind cyl_layer_conv1d = {.prepare = prepare, .bind = bind, .run = run};
