/*
 * Merge: several values side by side along an axis, or added, multiplied, ... element by element in the order of the
 * inputs, an axis of size 1, or one that is not there, repeated as the others need it.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    bool is_concat;
    CylMergeMode mode; /* of all modes but concat */
    double scale;      /* applied at the end, 1 for none */
    int32_t axis;      /* concat: counted from the last one */
} Merge;

/* sizes of the axes of a value from the last to the first, time included, 0 for one unknown; returns their number */
static int32_t sizes_of(const CylValue *value, int64_t steps, int64_t *sizes) {
    int32_t rank = 0;
    for (int32_t i = value->rank - 1; i >= 0; i--) {
        sizes[rank++] = value->shape[i];
    }
    if (value->has_time) {
        sizes[rank++] = steps;
    }
    return rank;
}

static CylStatus check_concat(const CylModel *model, CylLayer *layer, Merge *merge) {
    const CylValue *y = &model->values[layer->y];
    int64_t whole[CYL_MAX_RANK] = {0}, sizes[CYL_MAX_RANK], total = 0;
    int32_t rank = sizes_of(y, y->time, whole);
    if (merge->axis >= rank) {
        return CYL_E_OPTION;
    }
    bool along_time = y->has_time && merge->axis == rank - 1;
    for (int32_t i = 0; i < layer->input_count; i++) {
        const CylValue *x = &model->values[layer->inputs[i]];
        if (x->has_time != y->has_time || sizes_of(x, x->time, sizes) != rank) {
            return CYL_E_VALUE;
        }
        for (int32_t a = 0; a < rank; a++) {
            if (a != merge->axis && sizes[a] != whole[a]) {
                return CYL_E_VALUE;
            }
        }
        if (along_time && !x->time) {
            return CYL_E_VALUE;
        }
        total += sizes[merge->axis];
    }
    if (along_time) {
        layer->time_kind = CYL_TIME_FIXED;
        layer->mixes_times = true;
    }
    return total == whole[merge->axis] ? CYL_OK : CYL_E_VALUE;
}

static CylStatus check_broadcast(const CylModel *model, CylLayer *layer) {
    const CylValue *y = &model->values[layer->y];
    int64_t whole[CYL_MAX_RANK] = {0}, sizes[CYL_MAX_RANK];
    int32_t rank = sizes_of(y, y->time, whole);
    bool found_time = !y->has_time;
    for (int32_t i = 0; i < layer->input_count; i++) {
        const CylValue *x = &model->values[layer->inputs[i]];
        int32_t x_rank = sizes_of(x, x->time, sizes);
        if (x_rank > rank) {
            return CYL_E_VALUE;
        }
        for (int32_t a = 0; a < x_rank; a++) {
            if (sizes[a] != whole[a] && sizes[a] != 1) {
                return CYL_E_VALUE;
            }
        }
        /* the time of the result is the time of the first that has all of it */
        if (!found_time && x_rank == rank && x->has_time && x->time == y->time) {
            layer->time_from = layer->inputs[i];
            found_time = true;
        }
    }
    if (!found_time && y->time) {
        layer->time_kind = CYL_TIME_FIXED;
        found_time = true;
    }
    layer->repeats_time = true;
    return found_time ? CYL_OK : CYL_E_VALUE;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const names[] = {"concat", "sum", "ave", "mul", "sub", "max", "min", "div", NULL};
    static const CylMergeMode modes[] = {CYL_MERGE_COPY, CYL_MERGE_SUM, CYL_MERGE_SUM, CYL_MERGE_MUL,
                                         CYL_MERGE_SUB,  CYL_MERGE_MAX, CYL_MERGE_MIN, CYL_MERGE_DIV};
    Merge *merge = layer->data;
    int mode;
    int32_t axis;
    CYL_TRY(cyl_spec_choice(spec, "mode", names, &mode));
    CYL_TRY(cyl_spec_whole(spec, "axis", -CYL_MAX_RANK, -1, &axis));
    merge->is_concat = mode == 0;
    merge->mode = modes[mode];
    merge->scale = mode == 2 ? 1.0 / spec->input_count : 1.0;
    merge->axis = -1 - axis;
    for (int32_t i = 0; i < spec->input_count; i++) {
        char role[16] = "x";
        if (i > 0) {
            snprintf(role, sizeof role, "x%d", (int)i);
        }
        /* a file stores inputs in alphabetic order, "x10" before "x2" */
        layer->inputs[i] = cyl_spec_input(spec, role);
        if (layer->inputs[i] < 0) {
            return CYL_E_VALUE;
        }
    }
    layer->work = model->values[layer->y].features;
    return merge->is_concat ? check_concat(model, layer, merge) : check_broadcast(model, layer);
}

/* Concatenates one row. The axes before the concatenated one are the outer loop; those after it are copied with it. */
static void concat_row(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, int64_t step,
                       int64_t steps) {
    const Merge *merge = layer->data;
    int64_t sizes[CYL_MAX_RANK];
    char *y = cyl_step_at(workspace, layer->y, row, step);
    size_t real = model->kernels->real_size;
    int64_t whole[CYL_MAX_RANK], inner = 1, outer = 1;
    int32_t rank = sizes_of(&model->values[layer->y], steps, whole);
    for (int32_t a = 0; a < rank; a++) {
        inner *= a < merge->axis ? whole[a] : 1;
        outer *= a > merge->axis ? whole[a] : 1;
    }
    int64_t offset = 0;
    for (int32_t i = 0; i < layer->input_count; i++) {
        int32_t value = layer->inputs[i];
        bool along_time = model->values[value].has_time && merge->axis == rank - 1;
        sizes_of(&model->values[value], along_time ? cyl_steps(workspace, value) : steps, sizes);
        int64_t part = sizes[merge->axis] * inner;
        const char *x = cyl_step_at(workspace, value, row, step);
        for (int64_t o = 0; o < outer; o++) {
            memcpy(cyl_at(model, y, o * whole[merge->axis] * inner + offset), cyl_at(model, x, o * part),
                   (size_t)part * real);
        }
        offset += part;
    }
}

typedef struct {
    const CylModel *model;
    const Merge *merge;
    CylMergeMode mode;
    int64_t sizes[CYL_MAX_RANK], y_strides[CYL_MAX_RANK], x_strides[CYL_MAX_RANK]; /* from the last axis on */
} Broadcast;

/* y = y (op) x over axis `axis`, counted from the last, and those after it. The last `plain` axes are contiguous in
   both. */
static void broadcast(const Broadcast *b, int32_t axis, int32_t plain, const char *x, char *y) {
    if (axis < plain) {
        int64_t size = b->sizes[0];
        for (int32_t a = 1; a < plain; a++) {
            size *= b->sizes[a];
        }
        b->model->kernels->merge(b->mode, x, b->x_strides[0] ? 1 : 0, y, size, 1.0);
        return;
    }
    for (int64_t i = 0; i < b->sizes[axis]; i++) {
        broadcast(b, axis - 1, plain, cyl_at(b->model, x, i * b->x_strides[axis]),
                  cyl_at(b->model, y, i * b->y_strides[axis]));
    }
}

/* Numbers that are combined at once, few enough to stay in the first cache while all inputs are added. */
enum { COMBINED_NUMBERS = 4096 };

static void combine(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, int64_t step,
                    int64_t steps) {
    const Merge *merge = layer->data;
    const CylValue *value = &model->values[layer->y];
    Broadcast b = {.model = model, .merge = merge};
    char *y = cyl_step_at(workspace, layer->y, row, step);
    int32_t rank = sizes_of(value, steps, b.sizes);
    int64_t stride = 1;
    for (int32_t a = 0; a < rank; a++) {
        b.y_strides[a] = stride;
        stride *= b.sizes[a];
    }
    for (int32_t i = 0; i < layer->input_count; i++) {
        const CylValue *x = &model->values[layer->inputs[i]];
        int64_t sizes[CYL_MAX_RANK], x_stride = 1;
        /* the steps of x: several, or one that is repeated */
        int64_t x_steps = cyl_steps(workspace, layer->inputs[i]);
        bool is_full = x->rank + x->has_time == rank;
        int32_t x_rank = sizes_of(x, is_full && x_steps > 1 ? steps : x_steps, sizes), plain = 0;
        for (int32_t a = 0; a < rank; a++) {
            bool is_there = a < x_rank && sizes[a] > 1;
            b.x_strides[a] = is_there ? x_stride : 0;
            x_stride *= a < x_rank ? sizes[a] : 1;
        }
        bool repeats = !b.x_strides[0] && b.sizes[0] > 1;
        for (plain = 1; plain < rank && !repeats; plain++) {
            if (b.x_strides[plain] != b.y_strides[plain] && b.sizes[plain] > 1) {
                break;
            }
        }
        if (b.sizes[0] == 1) {
            b.x_strides[0] = 1;
        }
        b.mode = i == 0 ? CYL_MERGE_COPY : merge->mode;
        bool has_step = value->has_time && x->has_time && is_full && x_steps > 1;
        broadcast(&b, rank - 1, plain, cyl_step_at(workspace, layer->inputs[i], row, has_step ? step : 0), y);
    }
    if (merge->scale != 1.0) {
        model->kernels->merge(CYL_MERGE_SCALE, y, 1, y, stride, merge->scale);
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Merge *merge = layer->data;
    const CylValue *value = &model->values[layer->y];
    int64_t steps = cyl_steps(workspace, layer->y), rank = value->rank + value->has_time;
    /* Concatenation goes step by step, unless it is along time; the other modes take several steps at once. */
    bool of_rows = merge->is_concat && value->has_time && merge->axis == rank - 1;
    int64_t pieces = of_rows ? 1 : steps, most = COMBINED_NUMBERS / value->features;
    CylItems items;
    int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * steps / pieces);
    for (int64_t count; cyl_goes_on(&items, j); j += count) {
        count = 1;
        if (merge->is_concat) {
            concat_row(model, layer, workspace, j / pieces, j % pieces, of_rows ? steps : 1);
        } else {
            count = most < 1 ? 1 : most;
            count = count > items.end - j ? items.end - j : count;
            count = count > pieces - j % pieces ? pieces - j % pieces : count;
            combine(model, layer, workspace, j / pieces, j % pieces, count);
        }
    }
}

const CylLayerKind cyl_layer_merge = {.data_size = sizeof(Merge), .prepare = prepare, .run = run};
