/*
 * Windows over time whose first steps lie in an earlier piece: the layer keeps the last steps that it has read.
 *
 * Of x have come X steps before this run, of y Y steps, the most whose windows [t*stride - pads_before, + reach) end
 * before X. So the window of step Y begins less than `reach` steps before X, whatever X is, and reach - 1 kept steps
 * are enough; those that never came are zeros, which only a window in the padding reads.
 */
#include "run/kept.h"

#include "platform/memory.h"

#include <string.h>

char *cyl_kept_row(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, int64_t row) {
    const int32_t size = layer->history_size ? layer->history_size : layer->kept_size;
    return cyl_at(model, workspace->states[layer->index].h[0], row * cyl_state_stride(size));
}

int64_t cyl_kept_steps(const CylModel *model, const CylLayer *layer) {
    return (layer->history_size ? layer->history_size : layer->kept_size) / model->values[layer->x].features;
}

int64_t cyl_first_window(const CylLayer *layer, const CylWorkspace *workspace) {
    const CylValue *values = workspace->model->values;
    const int32_t y_value = layer->follower ? layer->outputs[0] : layer->y; /* what follows may have another time */
    const int64_t x = workspace->begins[values[layer->x].axis], y = workspace->begins[values[y_value].axis];
    return y * layer->rule.divide - layer->pads_before - x;
}

bool cyl_has_later_run(const CylLayer *layer, const CylWorkspace *workspace) {
    return workspace->is_stream || layer->history_size || !cyl_ends_call(workspace, layer->x);
}

void cyl_kept_join(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, void *to) {
    const CylView *x = &workspace->views[layer->x];
    const size_t step = (size_t)model->values[layer->x].features * model->kernels->real_size;
    const size_t kept = (size_t)cyl_kept_steps(model, layer) * step;
    const size_t bytes = (size_t)cyl_steps(workspace, layer->x) * step;
    char *before = cyl_kept_row(model, layer, workspace, row);
    memcpy(to, before, kept);
    memcpy((char *)to + kept, cyl_at(model, x->data, row * x->row_stride), bytes);
    memcpy(before, (char *)to + bytes, kept);
}

void cyl_kept_take(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row) {
    const CylView *x = &workspace->views[layer->x];
    const size_t step = (size_t)model->values[layer->x].features * model->kernels->real_size;
    const size_t kept = (size_t)cyl_kept_steps(model, layer) * step;
    const size_t bytes = (size_t)cyl_steps(workspace, layer->x) * step, taken = bytes < kept ? bytes : kept;
    char *before = cyl_kept_row(model, layer, workspace, row);
    memmove(before, before + taken, kept - taken);
    memcpy(before + kept - taken, cyl_at(model, x->data, row * x->row_stride) + bytes - taken, taken);
}

CylView cyl_kept_read(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team,
                      bool is_joined) {
    const int64_t features = model->values[layer->x].features, kept = cyl_kept_steps(model, layer);
    const int64_t stride = (kept + cyl_steps(workspace, layer->x)) * features;
    const bool is_kept = kept > 0 && !is_joined && cyl_has_later_run(layer, workspace);
    char *scratch = workspace->states[layer->index].scratch;
    int64_t begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end && is_kept; row++) {
        cyl_kept_take(model, layer, workspace, row);
    }
    if (!is_joined) {
        return workspace->views[layer->x];
    }
    for (int64_t row = begin; row < end; row++) {
        cyl_kept_join(model, layer, workspace, row, cyl_at(model, scratch, row * stride));
    }
    cyl_barrier(team);
    return (CylView){cyl_at(model, scratch, kept * features), stride, features};
}

void *cyl_kept_place(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, char *memory,
                     size_t *used) {
    const int32_t size = layer->history_size ? layer->history_size : layer->kept_size;
    return cyl_place(memory, used, workspace->rows_capacity, (uint64_t)cyl_state_stride(size),
                     model->kernels->real_size);
}

size_t cyl_kept_bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory, int64_t more,
                     CylLayerState *state) {
    const size_t real = model->kernels->real_size;
    const int32_t features = model->values[layer->x].features;
    int64_t joined = cyl_kept_steps(model, layer) + more;
    size_t used = 0;
    joined += joined > 0 ? workspace->capacities[model->values[layer->x].axis] : 0;
    state->h[0] = cyl_kept_place(model, layer, workspace, memory, &used);
    state->scratch =
        cyl_place(memory, &used, workspace->rows_capacity, cyl_size_mul((uint64_t)joined, (uint64_t)features), real);
    return used;
}
