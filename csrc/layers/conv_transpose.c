/*
 * Transposed convolution over one or two axes, channels last, in groups. Along each axis input t adds to the outputs
 * t*stride + k*dilation - crop of the taps k; what lies outside y is cut off:
 * y[o][f] = activation(b[f] + sum over taps k and channels c of the group of W[f][k][c] * x[t][c]), t being
 * (o + crop - k*dilation) / stride where that is whole, and x zeros outside.
 *
 * So each output is one chain of multiply-adds, taps ascending, those of the rows outside, each with its channels
 * ascending. The outputs o of one phase, (o + crop) mod stride, have the same taps, and those of neighbours lie side by
 * side in x: a phase is computed as a convolution is. x is copied behind zeros, as far as the first outputs reach, or
 * behind the steps before, which are the state where a sequence may come in pieces.
 *
 * In one dimension the time is the columns of an image of one row.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/convolution.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "platform/tuning.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdlib.h>
#include <string.h>

/* taps that are passed to one product */
#define TAPS_AT_ONCE 8

/* one axis of the image */
typedef struct {
    int32_t kernel, stride, dilation, before, after, more; /* before and after are cut off, `more` is added behind */
    int32_t period;                                        /* between the taps of a phase */
    int32_t *first_tap;                                    /* (stride): of each phase, `kernel` if it has none */
} Axis;

typedef struct {
    Axis axes[2]; /* rows and columns */
    bool is_flat; /* one dimension: the steps are columns */
    bool has_frames;
    int32_t groups, channels, filters; /* channels and filters of all groups */
    int64_t work;                      /* multiply-adds of one output */
    CylActivationSpec activation;
    CylMatrix *matrices; /* (groups) */
} Transposed;

/* what x and y of one image are in this run: positions of x along each axis, zeros or history around them, outputs */
typedef struct {
    int64_t size[2], before[2], after[2], outputs[2];
    int64_t row, image; /* reals of a row and of the whole of the copy behind zeros */
    bool is_copied;
} Shape;

/* how many more outputs there are than size*stride */
static int64_t excess(const Axis *axis) {
    return (int64_t)(axis->kernel - 1) * axis->dilation + 1 - axis->stride + axis->more - axis->before - axis->after;
}

static Shape shape_of(const Transposed *conv, const int64_t size[2]) {
    Shape shape = {0};
    for (int i = 0; i < 2; i++) {
        const Axis *axis = &conv->axes[i];
        const int64_t last = (int64_t)(axis->kernel - 1) * axis->dilation - axis->before;
        shape.size[i] = size[i];
        shape.outputs[i] = size[i] * axis->stride + excess(axis);
        shape.before[i] = last > 0 ? last / axis->stride : 0;
        const int64_t after = (shape.outputs[i] - 1 + axis->before) / axis->stride - (size[i] - 1);
        shape.after[i] = after > 0 ? after : 0;
        shape.is_copied = shape.is_copied || shape.before[i] || shape.after[i];
    }
    shape.row = (shape.before[1] + size[1] + shape.after[1]) * conv->channels;
    shape.image = (shape.before[0] + size[0] + shape.after[0]) * shape.row;
    return shape;
}

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static CylStatus read_axis(const CylLayerSpec *spec, const char *const names[5], int32_t kernel, Axis *axis) {
    const int32_t most = 1 << 20;
    int32_t *numbers[5] = {&axis->stride, &axis->dilation, &axis->before, &axis->after, &axis->more};
    for (int i = 0; i < 5; i++) {
        CYL_TRY(cyl_spec_whole(spec, names[i], i < 2 ? 1 : 0, most, numbers[i]));
    }
    axis->kernel = kernel;
    return (int64_t)kernel * axis->dilation > (1 << 24) ? CYL_E_OPTION : CYL_OK;
}

/* Finds the taps of each phase: k with k*dilation = phase (mod stride). */
static void find_taps(Axis *axis, int32_t *first_tap) {
    axis->period = (int32_t)(axis->stride / common_divisor(axis->stride, axis->dilation));
    axis->first_tap = first_tap;
    for (int32_t phase = 0; phase < axis->stride; phase++) {
        first_tap[phase] = axis->kernel;
    }
    for (int32_t k = axis->kernel < axis->period ? axis->kernel - 1 : axis->period - 1; k >= 0; k--) {
        first_tap[(int64_t)k * axis->dilation % axis->stride] = k;
    }
}

/* Checks the shapes of x and y, and says how time goes through the layer. */
static CylStatus prepare_time(const CylModel *model, CylLayer *layer, const Transposed *conv) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    const Axis *first = &conv->axes[conv->is_flat ? 1 : 0];
    const int32_t place = conv->has_frames; /* of the columns in the shape of a step */
    if (!conv->is_flat) {
        const int64_t outputs = (int64_t)x->shape[place] * conv->axes[1].stride + excess(&conv->axes[1]);
        if (outputs < 1 || outputs != y->shape[place]) {
            return CYL_E_VALUE;
        }
    }
    if (conv->has_frames) {
        const int64_t outputs = (int64_t)x->shape[0] * first->stride + excess(first);
        return outputs >= 1 && outputs == y->shape[0] ? CYL_OK : CYL_E_VALUE;
    }
    /* length*stride + more, as one rule where that is possible: axes of one length are to be the same axis */
    const int64_t more = excess(first);
    layer->time_kind = CYL_TIME_RULED;
    if (more % first->stride == 0) {
        layer->rule = (CylTimeRule){more / first->stride, 1, first->stride};
    } else {
        layer->rule = (CylTimeRule){0, 1, first->stride};
        layer->next_rule = (CylTimeRule){more, 1, 1};
    }
    /* every step has its outputs, which need the steps before alone */
    const bool is_apart = more == 0 && first->before == 0;
    layer->is_whole = !is_apart;
    if (is_apart && !x->time) {
        const int64_t history = (int64_t)(first->kernel - 1) * first->dilation / first->stride * x->features;
        if (history > (1 << 28)) {
            return CYL_E_OPTION;
        }
        layer->history_size = (int32_t)history;
    }
    return CYL_OK;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const rows[5] = {"stride_rows", "dilation_rows", "crop_before", "crop_after",
                                        "output_padding_rows"};
    static const char *const columns[5] = {"stride_columns", "dilation_columns", "crop_left", "crop_right",
                                           "output_padding_columns"};
    const CylTensor *weight = cyl_spec_tensor(spec, "weight"), *bias = cyl_spec_tensor(spec, "bias");
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (!weight || weight->rank < 3 || weight->rank > 4) {
        return CYL_E_TENSOR;
    }
    const bool is_flat = weight->rank == 3;
    const int32_t rank = is_flat ? 1 : 2;
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || x->rank < rank || x->rank > rank + 1 ||
        y->rank != x->rank) {
        return CYL_E_VALUE;
    }
    Axis axes[2] = {{0}};
    int32_t groups;
    CYL_TRY(cyl_spec_whole(spec, "groups", 1, 1000000, &groups));
    if (weight->shape[1] > (1 << 20) || weight->shape[2] > (1 << 20)) {
        return CYL_E_TENSOR;
    }
    CYL_TRY(read_axis(spec, rows, (int32_t)weight->shape[1], &axes[0]));
    CYL_TRY(read_axis(spec, columns, is_flat ? 1 : (int32_t)weight->shape[2], &axes[1]));
    if (is_flat) {
        if (axes[1].stride > 1 || axes[1].dilation > 1 || axes[1].before || axes[1].after || axes[1].more) {
            return CYL_E_OPTION;
        }
        axes[1] = axes[0];
        axes[0] = (Axis){.kernel = 1, .stride = 1, .dilation = 1};
    }
    const size_t matrices = (size_t)groups * sizeof(CylMatrix);
    const int64_t phases = (int64_t)axes[0].stride + axes[1].stride;
    Transposed *conv = calloc(1, sizeof *conv + matrices + (size_t)phases * sizeof(int32_t));
    if (!conv) {
        return CYL_E_MEMORY;
    }
    layer->data = conv;
    conv->matrices = (CylMatrix *)(conv + 1);
    int32_t *const taps = (int32_t *)((char *)conv->matrices + matrices);
    memcpy(conv->axes, axes, sizeof axes);
    find_taps(&conv->axes[0], taps);
    find_taps(&conv->axes[1], taps + axes[0].stride);
    CYL_TRY(cyl_spec_activation(spec, "activation", &conv->activation));
    conv->is_flat = is_flat;
    conv->has_frames = x->rank > rank;
    conv->groups = groups;
    conv->channels = x->shape[x->rank - 1];
    conv->filters = y->shape[y->rank - 1];
    const int64_t group_channels = weight->shape[weight->rank - 1];
    if (conv->channels % groups || conv->filters % groups || weight->shape[0] != conv->filters ||
        group_channels != conv->channels / groups) {
        return CYL_E_TENSOR;
    }
    CYL_TRY(cyl_check_optional(bias, conv->filters, -1));
    CYL_TRY(prepare_time(model, layer, conv));
    const int32_t units = conv->filters / groups;
    for (int32_t g = 0; g < groups; g++) {
        CYL_TRY(cyl_group_prepare(model, layer, spec, &conv->matrices[g], units, (int64_t)g * units));
    }
    const int64_t step = weight->shape[0] * conv->matrices[0].columns;
    layer->work = x->features / conv->channels * step;
    conv->work = step / ((int64_t)axes[0].stride * axes[1].stride) + 1;
    return CYL_OK;
}

/* positions of one image of `steps` steps along each axis */
static void sizes_of(const CylModel *model, const CylLayer *layer, int64_t steps, int64_t size[2]) {
    const Transposed *conv = layer->data;
    const CylValue *x = &model->values[layer->x];
    const int64_t first = conv->has_frames ? x->shape[0] : steps;
    size[0] = conv->is_flat ? 1 : first;
    size[1] = conv->is_flat ? first : x->shape[conv->has_frames];
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Transposed *conv = layer->data;
    const size_t real = model->kernels->real_size;
    const int64_t rows = workspace->rows_capacity, steps = workspace->capacities[model->values[layer->x].axis];
    size_t used = 0;
    int64_t size[2];
    sizes_of(model, layer, steps, size);
    const Shape shape = shape_of(conv, size);
    uint64_t copy = 0;
    if (shape.is_copied) {
        const uint64_t columns = (uint64_t)(shape.before[1] + size[1] + shape.after[1]);
        copy = cyl_size_mul(cyl_size_mul(columns, (uint64_t)conv->channels),
                            (uint64_t)(shape.before[0] + size[0] + shape.after[0]));
        copy = cyl_size_mul(copy, conv->has_frames ? (uint64_t)steps : 1);
    }
    CylLayerState state = {0};
    state.h[0] = cyl_place(memory, &used, rows, (uint64_t)cyl_state_stride(layer->history_size), real);
    state.acc =
        cyl_place(memory, &used, workspace->threads, (uint64_t)(conv->matrices[0].row_size * CYL_CONV_COLUMNS), real);
    state.scratch = cyl_place(memory, &used, rows, copy, real);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* copies an image behind its zeros or history, and keeps its last steps as the new history */
static void copy_image(const CylModel *model, const CylLayer *layer, const Shape *shape, const char *x, char *history,
                       char *to) {
    const Transposed *conv = layer->data;
    const size_t real = model->kernels->real_size;
    const size_t run = (size_t)(shape->size[1] * conv->channels) * real;
    memset(to, 0, (size_t)shape->image * real);
    for (int64_t r = 0; r < shape->size[0]; r++) {
        const int64_t at = (shape->before[0] + r) * shape->row + shape->before[1] * conv->channels;
        memcpy(cyl_at(model, to, at), x + (size_t)r * run, run);
    }
    if (!history) {
        return;
    }
    /* a step is a row of the image, or a position of its only row */
    const int64_t steps = shape->before[conv->is_flat ? 1 : 0], taken = shape->size[conv->is_flat ? 1 : 0];
    const int64_t numbers = layer->history_size / steps;
    const int64_t stride = conv->is_flat ? numbers : shape->row;
    char *const first = cyl_at(model, to, conv->is_flat ? 0 : shape->before[1] * conv->channels);
    for (int64_t s = 0; s < steps; s++) {
        memcpy(cyl_at(model, first, s * stride), cyl_at(model, history, s * numbers), (size_t)numbers * real);
    }
    for (int64_t s = 0; s < steps; s++) {
        memcpy(cyl_at(model, history, s * numbers), cyl_at(model, first, (taken + s) * stride), (size_t)numbers * real);
    }
}

/* outputs of one row of an image and one phase of the columns: `count` of them, `stride` columns apart */
typedef struct {
    int64_t row, column, count;
} Run;

/* Computes a run of one group; x is at position (0, 0) of the image, of this group's channels. */
static void run_group(const CylModel *model, const Transposed *conv, int32_t group, const Shape *shape, const Run *run,
                      void *acc, const char *x, char *y, int64_t y_stride) {
    const CylMatrix *m = &conv->matrices[group];
    const Axis *rows = &conv->axes[0], *columns = &conv->axes[1];
    const int64_t row = run->row + rows->before, column = run->column + columns->before;
    const int64_t x_row = shape->is_copied ? shape->row : shape->size[1] * conv->channels;
    const int32_t channels = conv->channels / conv->groups;
    const int32_t left = columns->first_tap[column % columns->stride];
    const bool in_place = cyl_accumulates_in_place(m);
    const int64_t acc_stride = in_place ? y_stride : m->row_size;
    CylOperand taps[TAPS_AT_ONCE];
    int32_t count = 0;
    bool continued = false;
    acc = in_place ? y : acc;
    for (int32_t i = rows->first_tap[row % rows->stride]; i < rows->kernel; i += rows->period) {
        const int64_t from_row = (row - (int64_t)i * rows->dilation) / rows->stride;
        for (int32_t j = left; j < columns->kernel; j += columns->period) {
            const int64_t from = (column - (int64_t)j * columns->dilation) / columns->stride;
            if (count == TAPS_AT_ONCE) {
                cyl_product(model, m, taps, count, run->count, acc, acc_stride, continued, false, 0, m->blocks);
                continued = true;
                count = 0;
            }
            taps[count++] = (CylOperand){cyl_at(model, x, from_row * x_row + from * conv->channels), conv->channels,
                                         (i * columns->kernel + j) * channels, channels};
        }
    }
    if (count > 0 || !continued) { /* a phase without taps is the bias alone */
        cyl_product(model, m, taps, count, run->count, acc, acc_stride, continued, false, 0, m->blocks);
    }
    model->kernels->dense_output(m, &conv->activation, run->count, acc, acc_stride, y, y_stride,
                                 conv->activation.id != CYL_ACT_SOFTMAX, 0, m->blocks);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Transposed *conv = layer->data;
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    CylLayerState *state = &workspace->states[layer->index];
    const int64_t steps = cyl_steps(workspace, layer->x), frames = conv->has_frames ? steps : 1;
    int64_t size[2], begin, end;
    sizes_of(model, layer, steps, size);
    const Shape shape = shape_of(conv, size);
    const int64_t images = workspace->rows * frames, x_image = size[0] * size[1] * conv->channels;
    const int64_t y_image = shape.outputs[0] * shape.outputs[1] * conv->filters;
    if (shape.is_copied) {
        cyl_share(team, images, &begin, &end);
        for (int64_t n = begin; n < end; n++) {
            const int64_t row = n / frames, frame = n % frames;
            char *history =
                layer->history_size ? cyl_at(model, state->h[0], row * cyl_state_stride(layer->history_size)) : NULL;
            copy_image(model, layer, &shape, cyl_at(model, x->data, row * x->row_stride + frame * x_image), history,
                       cyl_at(model, state->scratch, n * shape.image));
        }
        cyl_barrier(team);
    }
    void *acc = cyl_at(model, state->acc, team->thread * CYL_CONV_COLUMNS * conv->matrices[0].row_size);
    const Axis *columns = &conv->axes[1];
    const int64_t stride = columns->stride;
    /* of a row of outputs: the most that a phase has, in pieces of CYL_CONV_COLUMNS */
    const int64_t pieces = ((shape.outputs[1] + stride - 1) / stride + CYL_CONV_COLUMNS - 1) / CYL_CONV_COLUMNS;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, images * shape.outputs[0] * pieces * stride,
                               CYL_CONV_COLUMNS * conv->work);
         cyl_goes_on(&items, j); j++) {
        const int64_t n = j / (shape.outputs[0] * pieces * stride), first = j / stride % pieces * CYL_CONV_COLUMNS;
        Run outputs = {.row = j / (pieces * stride) % shape.outputs[0], .column = j % stride + first * stride};
        const int64_t left = (shape.outputs[1] - outputs.column + stride - 1) / stride;
        outputs.count = left < CYL_CONV_COLUMNS ? left : CYL_CONV_COLUMNS;
        if (outputs.column >= shape.outputs[1]) {
            continue;
        }
        const int64_t row = n / frames, frame = n % frames;
        const char *from =
            shape.is_copied ? cyl_at(model, state->scratch,
                                     n * shape.image + shape.before[0] * shape.row + shape.before[1] * conv->channels)
                            : cyl_at(model, x->data, row * x->row_stride + frame * x_image);
        char *to = cyl_at(model, y->data,
                          row * y->row_stride + frame * y_image +
                              (outputs.row * shape.outputs[1] + outputs.column) * conv->filters);
        const int64_t y_stride = stride * conv->filters;
        for (int32_t g = 0; g < conv->groups; g++) {
            run_group(model, conv, g, &shape, &outputs, acc,
                      cyl_at(model, from, (int64_t)g * (conv->channels / conv->groups)),
                      cyl_at(model, to, (int64_t)g * (conv->filters / conv->groups)), y_stride);
        }
        for (int64_t o = 0; o < outputs.count && conv->activation.id == CYL_ACT_SOFTMAX; o++) {
            void *one = cyl_at(model, to, o * y_stride);
            model->kernels->activate(&conv->activation, one, one, conv->filters, true);
        }
    }
}

const CylLayerKind cyl_layer_conv_transpose = {.prepare = prepare, .bind = bind, .run = run};
