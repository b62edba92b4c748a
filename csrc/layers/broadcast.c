/*
 * Element by element over values of different shapes. Shapes without batch are matched from the last axis on; an axis
 * of size 1, or one that is not there, is repeated as the others need it.
 */
#include "layers/broadcast.h"

#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "platform/memory.h"
#include "platform/rare.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

CYL_RARE int32_t cyl_sizes_of(const CylValue *value, int64_t steps, int64_t *sizes) {
    int32_t rank = 0;
    for (int32_t i = value->rank - 1; i >= 0; i--) {
        sizes[rank++] = value->shape[i];
    }
    if (value->has_time) {
        sizes[rank++] = steps;
    }
    return rank;
}

CYL_RARE CylStatus cyl_check_broadcast(const CylModel *model, CylLayer *layer) {
    const CylValue *y = &model->values[layer->y];
    int64_t whole[CYL_MAX_RANK] = {0}, sizes[CYL_MAX_RANK];
    int32_t rank = cyl_sizes_of(y, y->time, whole);
    bool found_time = !y->has_time;
    for (int32_t i = 0; i < layer->input_count; i++) {
        const CylValue *x = &model->values[layer->inputs[i]];
        int32_t x_rank = cyl_sizes_of(x, x->time, sizes);
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

size_t cyl_broadcast_bind(const CylLayer *layer, CylWorkspace *workspace, char *memory, int32_t count) {
    size_t used = 0;
    CylLayerState state = {0};
    state.bound = cyl_place(memory, &used, count, 1, sizeof(CylBroadcast));
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* Whether an axis of these strides goes on where the first of b's ends, in every input. */
static CYL_RARE bool continues(const CylBroadcast *b, const int64_t *strides) {
    for (int32_t k = 0; k < b->count; k++) {
        if (strides[k] != b->x_strides[k][b->axes - 1] * b->sizes[b->axes - 1]) {
            return false;
        }
    }
    return true;
}

/* Adds an axis of a step, before those that b has; two that lie side by side in every input are one. */
static CYL_RARE void add_axis(CylBroadcast *b, int64_t size, const int64_t *x_strides, int64_t y_stride) {
    if (b->axes > 0 && continues(b, x_strides)) {
        b->sizes[b->axes - 1] *= size;
        return;
    }
    for (int32_t k = 0; k < b->count; k++) {
        b->x_strides[k][b->axes] = x_strides[k];
    }
    b->sizes[b->axes] = size;
    b->y_strides[b->axes++] = y_stride;
}

CYL_RARE void cyl_broadcast_resolve(const CylLayer *layer, const CylWorkspace *workspace, int32_t first,
                                    CylBroadcast *b) {
    const CylModel *model = b->model;
    const CylValue *y = &model->values[layer->y];
    const int64_t real = (int64_t)model->kernels->real_size;
    int64_t sizes[CYL_MAX_RANK], x_sizes[CYL_BROADCAST_INPUTS][CYL_MAX_RANK], strides[CYL_BROADCAST_INPUTS];
    int32_t x_ranks[CYL_BROADCAST_INPUTS];
    const int32_t rank = cyl_sizes_of(y, cyl_steps(workspace, layer->y), sizes), step_rank = rank - y->has_time;
    for (int32_t k = 0; k < b->count; k++) {
        const int32_t x = layer->inputs[first + k];
        x_ranks[k] = cyl_sizes_of(&model->values[x], cyl_steps(workspace, x), x_sizes[k]);
        b->x[k] = &workspace->views[x];
        b->x_rows[k] = b->x[k]->row_stride * real;
        strides[k] = real;
    }
    b->y = &workspace->views[layer->y];
    b->y_row = b->y->row_stride * real;
    b->y_step = b->y->step_stride * real;
    b->axes = 0;
    int64_t y_stride = real;
    for (int32_t a = 0; a < rank; y_stride *= sizes[a], a++) {
        int64_t x_strides[CYL_BROADCAST_INPUTS];
        for (int32_t k = 0; k < b->count; k++) {
            const int64_t size = a < x_ranks[k] ? x_sizes[k][a] : 1;
            x_strides[k] = size > 1 ? strides[k] : 0;
            strides[k] *= size;
        }
        if (a < step_rank && sizes[a] > 1) {
            add_axis(b, sizes[a], x_strides, y_stride);
        }
        for (int32_t k = 0; k < b->count; k++) {
            b->x_steps[k] = a == step_rank ? x_strides[k] : 0;
        }
    }
    if (b->axes == 0) { /* one number: its steps are the axis */
        add_axis(b, 1, b->x_steps, real);
    }
    b->joins_steps = continues(b, b->x_steps);
    for (int32_t k = 0; k < b->count; k++) {
        b->inner[k] = b->x_strides[k][0] / real;
    }
}

/* y over `size` numbers of axis `axis`, and the axes after it */
static void run_axes(const CylBroadcast *b, int32_t axis, int64_t size, const char *const *x, char *y) {
    const char *at[CYL_BROADCAST_INPUTS];
    if (axis == 0) {
        b->elementwise(b->model, b->function, x, b->inner, y, size);
        return;
    }
    for (int64_t i = 0; i < size; i++) {
        for (int32_t k = 0; k < b->count; k++) {
            at[k] = x[k] + i * b->x_strides[k][axis];
        }
        run_axes(b, axis - 1, b->sizes[axis - 1], at, y + i * b->y_strides[axis]);
    }
}

void cyl_broadcast_steps(const CylBroadcast *b, int64_t row, int64_t step, int64_t steps) {
    const char *x[CYL_BROADCAST_INPUTS];
    const int64_t at_once = b->joins_steps ? steps : 1;
    for (const int64_t end = step + steps; step < end; step += at_once) {
        for (int32_t k = 0; k < b->count; k++) {
            x[k] = b->x[k]->data + row * b->x_rows[k] + step * b->x_steps[k];
        }
        run_axes(b, b->axes - 1, b->sizes[b->axes - 1] * at_once, x, b->y->data + row * b->y_row + step * b->y_step);
    }
}

void cyl_broadcast_run(const CylLayer *layer, const CylBroadcast *b, CylWorkspace *workspace, const CylTeam *team) {
    const int64_t steps = cyl_steps(workspace, layer->y);
    CylItems items;
    int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work);
    for (int64_t count; cyl_goes_on(&items, j); j += count) {
        count = steps - j % steps < items.end - j ? steps - j % steps : items.end - j;
        cyl_broadcast_steps(b, j / steps, j % steps, count);
    }
}
