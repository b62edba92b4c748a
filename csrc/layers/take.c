/*
 * Chosen numbers of one axis. take: y[..., j, ...] = x[..., indices[j], ...], of constant indices. take_along:
 * y[..., j, ...] = x[..., indices[..., j, ...], ...], of indices that the run computes or is given: they may differ
 * along the other axes, and an axis that one of the two has with size 1, or not at all, is repeated.
 */
#include "cylstm.h"
#include "layers/along.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    CylAlong along;
    int64_t count;
    void *indices; /* real (count), whole numbers in [0, along.size) */
} Take;

static CylStatus prepare_take(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    const CylTensor *indices = cyl_spec_tensor(spec, "indices");
    Take *take = layer->data;
    CYL_TRY(cyl_along_read(model, layer, spec, &take->along));
    if (!indices || indices->rank != 1) {
        return CYL_E_TENSOR;
    }
    take->count = indices->shape[0];
    const bool over_time = take->along.over_time;
    if (over_time) {
        take->along.size = x->time;
    }
    int64_t given = over_time ? y->features * y->time : y->features;
    if (take->along.size < 1 || x->has_time != y->has_time ||
        given != take->along.outer * take->along.inner * take->count) {
        return CYL_E_VALUE;
    }
    layer->time_kind = over_time ? CYL_TIME_FIXED : CYL_TIME_KEPT;
    layer->is_whole = over_time;
    layer->work = 1;
    return cyl_vector_prepare(model, layer, spec, "indices", take->count, &take->indices);
}

/* Checks the indices. */
static CylStatus finish_take(const CylModel *model, CylLayer *layer) {
    const Take *take = layer->data;
    for (int64_t j = 0; j < take->count; j++) {
        const double index = cyl_get(model, take->indices, j);
        if (!(index >= 0.0 && index < (double)take->along.size) || index != (double)(int64_t)index) {
            return CYL_E_TENSOR;
        }
    }
    return CYL_OK;
}

static void run_take(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Take *take = layer->data;
    int64_t pieces = cyl_along_pieces(&take->along, layer, workspace);
    int64_t outer = take->along.outer, inner = take->along.inner;
    size_t bytes = (size_t)inner * model->kernels->real_size;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, outer * take->count * inner);
         cyl_goes_on(&items, j); j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / pieces, j % pieces);
        char *y = cyl_step_at(workspace, layer->y, j / pieces, j % pieces);
        for (int64_t at = 0; at < outer * take->count; at++) {
            int64_t index = (int64_t)cyl_get(model, take->indices, at % take->count);
            const char *from = cyl_at(model, x, (at / take->count * take->along.size + index) * inner);
            if (inner == 1) {
                cyl_set(model, y, at, cyl_get(model, from, 0));
            } else {
                memcpy(cyl_at(model, y, at * inner), from, bytes);
            }
        }
    }
}

/* The axes of a value that is repeated to more axes: their sizes, time included and 0 where it is unknown, and how far
   the numbers of each lie apart, 0 where it is repeated. */
typedef struct {
    int64_t sizes[CYL_MAX_RANK], strides[CYL_MAX_RANK];
} Axes;

typedef struct {
    int32_t rank, axis, indices; /* rank and axis: of x and y, time included; indices: the value */
} TakeAlong;

/* the axes of a value as the last of `rank`; CYL_E_VALUE if it has more */
static CylStatus axes_of(const CylValue *value, int64_t steps, int32_t rank, Axes *axes) {
    int32_t at = rank;
    int64_t stride = 1;
    if (value->rank + value->has_time > rank) {
        return CYL_E_VALUE;
    }
    for (int32_t i = value->rank - 1; i >= -(int32_t)value->has_time; i--) {
        at--;
        axes->sizes[at] = i >= 0 ? value->shape[i] : steps;
        axes->strides[at] = axes->sizes[at] == 1 ? 0 : stride;
        stride *= axes->sizes[at];
    }
    while (at-- > 0) {
        axes->sizes[at] = 1;
        axes->strides[at] = 0;
    }
    return CYL_OK;
}

static CylStatus prepare_along(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    TakeAlong *take = layer->data;
    take->indices = cyl_spec_input(spec, "indices");
    if (take->indices < 0 || cyl_spec_input(spec, "x") < 0) {
        return CYL_E_VALUE;
    }
    const CylValue *x = &model->values[layer->x], *indices = &model->values[take->indices];
    const CylValue *y = &model->values[layer->y];
    Axes of_x, of_indices, of_y;
    take->rank = x->rank + x->has_time;
    CYL_TRY(cyl_spec_whole(spec, "axis", 0, take->rank - 1, &take->axis));
    CYL_TRY(axes_of(x, x->time, take->rank, &of_x));
    CYL_TRY(axes_of(indices, indices->time, take->rank, &of_indices));
    if (y->rank + y->has_time != take->rank) {
        return CYL_E_VALUE;
    }
    CYL_TRY(axes_of(y, y->time, take->rank, &of_y));
    for (int32_t i = 0; i < take->rank; i++) {
        int64_t a = i == take->axis ? 1 : of_x.sizes[i], b = of_indices.sizes[i];
        bool fits = a == b || a == 1 || b == 1;
        if (!fits || of_y.sizes[i] != (a == 1 ? b : a) || (i > 0 && of_y.sizes[i] < 1)) {
            return CYL_E_VALUE;
        }
    }
    bool x_is_open = x->has_time && !x->time, is_open = y->has_time && !y->time;
    bool indices_are_open = indices->has_time && !indices->time;
    layer->is_whole = take->axis == 0 && x->has_time;
    layer->mixes_times = !(x_is_open && indices_are_open && take->axis > 0);
    layer->time_kind = is_open ? CYL_TIME_KEPT : CYL_TIME_FIXED;
    layer->time_from = x_is_open && take->axis > 0 ? layer->x : take->indices;
    layer->work = y->features;
    return CYL_OK;
}

/* an index as a place in [0, size): what is outside is the end next to it, and NaN the first */
static int64_t place_of(double index, int64_t size) {
    double last = (double)(size - 1);
    return !(index > 0.0) ? 0 : index < last ? (int64_t)index : size - 1;
}

typedef struct {
    const CylModel *model;
    Axes x, indices, y;
    int32_t axis;
    const char *from;
    const int32_t *whole; /* the indices, as whole numbers or as numbers */
    const char *numbers;
    char *to;
    int32_t plain; /* axes from this one on are copied as they are */
    size_t block;  /* bytes of these */
} Taking;

/* the part of y that has one number of each axis before `axis`; x, index and y: where that begins in each */
static void take_axes(const Taking *t, int32_t axis, int64_t x, int64_t index, int64_t y) {
    if (axis == t->plain) {
        double found = t->whole ? (double)t->whole[index] : cyl_get(t->model, t->numbers, index);
        int64_t place = place_of(found, t->x.sizes[t->axis]) * t->x.strides[t->axis];
        memcpy(cyl_at(t->model, t->to, y), cyl_at(t->model, t->from, x + place), t->block);
        return;
    }
    const int64_t x_stride = axis == t->axis ? 0 : t->x.strides[axis];
    for (int64_t i = 0; i < t->y.sizes[axis]; i++) {
        take_axes(t, axis + 1, x + i * x_stride, index + i * t->indices.strides[axis], y + i * t->y.strides[axis]);
    }
}

static void run_along(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const TakeAlong *take = layer->data;
    const CylValue *values = model->values;
    Taking t = {.model = model, .axis = take->axis, .plain = take->rank};
    int64_t block = 1;
    axes_of(&values[layer->x], cyl_steps(workspace, layer->x), take->rank, &t.x);
    axes_of(&values[take->indices], cyl_steps(workspace, take->indices), take->rank, &t.indices);
    axes_of(&values[layer->y], cyl_steps(workspace, layer->y), take->rank, &t.y);
    while (t.plain > take->axis + 1 && !t.indices.strides[t.plain - 1] &&
           t.x.strides[t.plain - 1] == t.y.strides[t.plain - 1]) {
        block *= t.y.sizes[--t.plain];
    }
    t.block = (size_t)block * model->kernels->real_size;
    const int64_t outer = t.y.sizes[0];
    const CylView *indices = &workspace->views[take->indices];
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * outer, layer->work); cyl_goes_on(&items, j);
         j++) {
        int64_t row = j / outer, i = j % outer;
        t.from = cyl_step_at(workspace, layer->x, row, 0);
        t.to = cyl_step_at(workspace, layer->y, row, 0);
        if (values[take->indices].kind == CYL_INDEX) {
            /* they stay in the caller's memory, in the order of the call's rows */
            t.whole = (const int32_t *)(const void *)indices->data + cyl_call_row(workspace, row) * indices->row_stride;
        } else {
            t.numbers = cyl_step_at(workspace, take->indices, row, 0);
        }
        take_axes(&t, 1, take->axis == 0 ? 0 : i * t.x.strides[0], i * t.indices.strides[0], i * t.y.strides[0]);
    }
}

const CylLayerKind cyl_layer_take = {
    .data_size = sizeof(Take), .prepare = prepare_take, .finish = finish_take, .run = run_take};
const CylLayerKind cyl_layer_take_along = {.data_size = sizeof(TakeAlong), .prepare = prepare_along, .run = run_along};
