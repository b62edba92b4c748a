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
#include "layers/convolution.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"
#include "platform/memory.h"
#include "platform/tuning.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    CylConvolution convolution; /* first: the kernel is one row, whose columns are steps */
    CylTime1d time;
} Conv;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || x->rank != 1 || y->rank != 1) {
        return CYL_E_VALUE;
    }
    CYL_TRY(cyl_convolution_prepare(model, layer, spec, sizeof(Conv), 1));
    Conv *conv = layer->data;
    CYL_TRY(cyl_time1d_read(spec, layer, conv->convolution.kernel_columns, &conv->time));
    const int64_t history = conv->time.padding == CYL_PAD_CAUSAL ? (conv->time.reach - 1) * x->features : 0;
    if (history > (1 << 28)) {
        return CYL_E_OPTION;
    }
    layer->history_size = (int32_t)history;
    layer->work = cyl_convolution_work(&conv->convolution) / conv->time.stride + 1;
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
    /* the padding of "same" depends on the number of steps; this is the most that it can be */
    int64_t padded =
        conv->time.padding == CYL_PAD_SAME ? steps + conv->time.reach + conv->time.stride : padded_steps(conv, steps);
    CylLayerState state = {0};
    state.h[0] = cyl_place(memory, &used, rows, (uint64_t)cyl_state_stride(layer->history_size), real);
    state.scratch =
        cyl_place(memory, &used, rows, cyl_size_mul((uint64_t)padded, (uint64_t)conv->convolution.channels), real);
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
    const int32_t channels = conv->convolution.channels;
    size_t real = model->kernels->real_size, step = (size_t)channels * real;
    char *to = cyl_at(model, state->scratch, row * (before + steps + after) * channels);
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
    const CylConvolution *convolution = &conv->convolution;
    const int64_t channels = convolution->channels;
    int64_t row_stride = is_padded ? (before + steps + after) * channels : x->row_stride;
    const char *from = is_padded ? state->scratch : x->data;
    int64_t pieces = (outputs + CYL_CONV_COLUMNS - 1) / CYL_CONV_COLUMNS;
    const void *taps;
    const CylWindows windows = {&taps, 1, conv->time.kernel, conv->time.dilation * channels,
                                conv->time.stride * channels};
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, CYL_CONV_COLUMNS * layer->work);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / pieces, first = j % pieces * CYL_CONV_COLUMNS;
        int64_t count = outputs - first < CYL_CONV_COLUMNS ? outputs - first : CYL_CONV_COLUMNS;
        taps = cyl_at(model, from, row * row_stride + first * windows.stride);
        cyl_convolve(model, convolution, &windows, cyl_at(model, y->data, row * y->row_stride + first * y->step_stride),
                     y->step_stride, count);
    }
}

const CylLayerKind cyl_layer_conv1d = {.prepare = prepare, .bind = bind, .run = run};
