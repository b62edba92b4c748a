/*
 * Convolution over time, channels last, in groups (depthwise where a group has one channel):
 * y[t][f] = activation(b[f] + sum over taps k and channels c of the group of W[f][k][c] * x[t*stride + k*dilation -
 * before][c]), a cross-correlation with zeros outside x, taps ascending, one chain of multiply-adds.
 *
 * Where a window begins before the input, that is copied behind steps of zeros, or of what the layer keeps of earlier
 * pieces: a causal convolution carries them as its state.
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
#include "run/kept.h"
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

/* steps of the padding before and after a piece of x; those that are kept take the place of zeros before it */
static void pads_of(const CylModel *model, const CylLayer *layer, int64_t steps, int64_t *before, int64_t *after) {
    const Conv *conv = layer->data;
    const int64_t kept = cyl_kept_steps(model, layer);
    cyl_time1d_pads(&conv->time, steps, before, after);
    *before = kept > 0 ? kept : *before;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Conv *conv = layer->data;
    int64_t before, after, kept = cyl_kept_steps(model, layer);
    pads_of(model, layer, workspace->capacities[model->values[layer->x].axis], &before, &after);
    /* the padding of "same" depends on the number of steps; this is the most that it can be */
    int64_t most = conv->time.padding == CYL_PAD_SAME ? conv->time.reach + conv->time.stride : before - kept + after;
    CylLayerState state = {0};
    size_t used = cyl_kept_bind(model, layer, workspace, memory, most, &state);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* copies a row of x behind its padding or what is kept */
static void pad_row(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, int64_t steps,
                    int64_t before, int64_t after) {
    const Conv *conv = layer->data;
    const CylView *x = &workspace->views[layer->x];
    const size_t step = (size_t)conv->convolution.channels * model->kernels->real_size;
    void *scratch = workspace->states[layer->index].scratch;
    char *to = cyl_at(model, scratch, row * (before + steps + after) * conv->convolution.channels);
    if (cyl_kept_steps(model, layer) > 0) {
        cyl_kept_join(model, layer, workspace, row, to);
    } else {
        memset(to, 0, (size_t)before * step);
        memcpy(to + (size_t)before * step, cyl_at(model, x->data, row * x->row_stride), (size_t)steps * step);
    }
    memset(to + (size_t)(before + steps) * step, 0, (size_t)after * step);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Conv *conv = layer->data;
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    CylLayerState *state = &workspace->states[layer->index];
    int64_t steps = cyl_steps(workspace, layer->x), outputs = cyl_steps(workspace, layer->y), before, after, begin, end;
    pads_of(model, layer, steps, &before, &after);
    /* the padding of "same" depends on the length, and then all of it is here */
    const int64_t window = cyl_first_window(layer, workspace) - (conv->time.padding == CYL_PAD_SAME ? before : 0);
    const bool is_padded = (window < 0 || after > 0) && outputs > 0;
    const bool is_kept = !is_padded && cyl_kept_steps(model, layer) > 0 && cyl_has_later_run(layer, workspace);
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end && is_padded; row++) {
        pad_row(model, layer, workspace, row, steps, before, after);
    }
    for (int64_t row = begin; row < end && is_kept; row++) {
        cyl_kept_take(model, layer, workspace, row);
    }
    if (is_padded) {
        cyl_barrier(team);
    }
    const CylConvolution *convolution = &conv->convolution;
    const int64_t channels = convolution->channels;
    int64_t row_stride = is_padded ? (before + steps + after) * channels : x->row_stride;
    const char *from = is_padded ? state->scratch : x->data;
    from = cyl_at(model, from, (window + (is_padded ? before : 0)) * channels);
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
