/*
 * Layers over one axis, wherever it is: reduce, y = the sum, mean, maximum or minimum of the numbers along it, taken in
 * ascending order; over time a mask may say which steps count, and the mean of none is NaN. softmax, y = e^x / sum e^x,
 * or ln of it.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    bool over_time, is_mean, is_log;
    CylMergeMode mode;
    /* of one step, or with over_time of the whole sequence, where size is the number of steps of the run */
    int64_t outer, size, inner;
} Reduce;

static CylStatus read_axis(const CylModel *model, const CylLayer *layer, const CylLayerSpec *spec, Reduce *reduce) {
    const CylValue *x = &model->values[layer->x];
    int32_t axis;
    CYL_TRY(cyl_spec_whole(spec, "axis", 0, x->rank + x->has_time - 1, &axis));
    reduce->over_time = x->has_time && axis == 0;
    reduce->outer = reduce->inner = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        int32_t at = i + x->has_time;
        if (at < axis) {
            reduce->outer *= x->shape[i];
        } else if (at > axis) {
            reduce->inner *= x->shape[i];
        } else {
            reduce->size = x->shape[i];
        }
    }
    return CYL_OK;
}

static CylStatus prepare_reduce(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const names[] = {"sum", "mean", "max", "min", NULL};
    static const CylMergeMode modes[] = {CYL_MERGE_SUM, CYL_MERGE_SUM, CYL_MERGE_MAX, CYL_MERGE_MIN};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Reduce *reduce = layer->data;
    int mode;
    CYL_TRY(cyl_spec_choice(spec, "mode", names, &mode));
    CYL_TRY(read_axis(model, layer, spec, reduce));
    reduce->mode = modes[mode];
    reduce->is_mean = mode == 1;
    if (layer->mask >= 0 && (!reduce->over_time || reduce->mode != CYL_MERGE_SUM)) {
        return CYL_E_VALUE;
    }
    /* the result has the axes that are left; if they include no time, the first of several becomes its time */
    bool keeps_time = x->has_time && !reduce->over_time;
    int64_t left = reduce->outer * reduce->inner, given = y->features * (y->has_time && !keeps_time ? y->time : 1);
    if (left != given || (keeps_time && !y->has_time)) {
        return CYL_E_VALUE;
    }
    layer->time_kind = keeps_time ? CYL_TIME_KEPT : CYL_TIME_FIXED;
    layer->is_whole = reduce->over_time;
    layer->work = x->features;
    return CYL_OK;
}

static void run_reduce(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *reduce = layer->data;
    const CylValue *value = &model->values[layer->x];
    int32_t slot = cyl_mask_slot(workspace, layer->mask);
    int64_t steps = cyl_steps(workspace, layer->x), pieces = reduce->over_time ? 1 : steps;
    int64_t size = reduce->over_time ? steps : reduce->size;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * steps / pieces);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / pieces;
        const uint8_t *mask = slot >= 0 ? cyl_mask_row(workspace, slot, row) : NULL;
        const char *x = cyl_step_at(workspace, layer->x, row, j % pieces);
        char *y = cyl_step_at(workspace, layer->y, row, value->has_time && !reduce->over_time ? j % pieces : 0);
        for (int64_t o = 0; o < reduce->outer; o++) {
            char *to = cyl_at(model, y, o * reduce->inner);
            int64_t count = 0;
            for (int64_t i = 0; i < size; i++) {
                if (mask && !mask[i]) {
                    continue;
                }
                model->kernels->merge(count++ ? reduce->mode : CYL_MERGE_COPY,
                                      cyl_at(model, x, (o * size + i) * reduce->inner), 1, to, reduce->inner, 1.0);
            }
            if (!count) {
                memset(to, 0, (size_t)reduce->inner * model->kernels->real_size);
            }
            if (reduce->is_mean) {
                const CylReal divisor = cyl_real(model, (double)count);
                model->kernels->merge(CYL_MERGE_DIV, &divisor, 0, to, reduce->inner, 1.0);
            }
        }
    }
}

static CylStatus prepare_softmax(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Reduce *softmax = layer->data;
    CYL_TRY(cyl_spec_flag(spec, "log", &softmax->is_log));
    CYL_TRY(read_axis(model, layer, spec, softmax));
    if (x->features != y->features || x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    layer->is_whole = softmax->over_time;
    layer->work = 8 * (int64_t)x->features;
    return CYL_OK;
}

static int64_t longest(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace) {
    const Reduce *softmax = layer->data;
    return softmax->over_time ? workspace->capacities[model->values[layer->x].axis] : softmax->size;
}

static size_t bind_softmax(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    size_t used = 0;
    CylLayerState state = {0};
    int64_t stride = cyl_state_stride(longest(model, layer, workspace));
    state.scratch = cyl_place(memory, &used, workspace->threads, (uint64_t)stride, model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static void run_softmax(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *softmax = layer->data;
    const CylActivationSpec spec = {CYL_ACT_SOFTMAX, 0.0, 0.0};
    size_t real = model->kernels->real_size;
    int64_t steps = cyl_steps(workspace, layer->x), pieces = softmax->over_time ? 1 : steps;
    int64_t size = softmax->over_time ? steps : softmax->size, inner = softmax->inner;
    char *line = cyl_at(model, workspace->states[layer->index].scratch,
                        team->thread * cyl_state_stride(longest(model, layer, workspace)));
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * steps / pieces);
         cyl_goes_on(&items, j); j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / pieces, j % pieces);
        char *y = cyl_step_at(workspace, layer->y, j / pieces, j % pieces);
        for (int64_t at = 0; at < softmax->outer * inner; at++) {
            int64_t first = at / inner * size * inner + at % inner;
            for (int64_t i = 0; i < size; i++) {
                memcpy(cyl_at(model, line, i), cyl_at(model, x, first + i * inner), real);
            }
            if (softmax->is_log) {
                model->kernels->log_softmax(line, line, size);
            } else {
                model->kernels->activate(&spec, line, line, size, false);
            }
            for (int64_t i = 0; i < size; i++) {
                memcpy(cyl_at(model, y, first + i * inner), cyl_at(model, line, i), real);
            }
        }
        if (model->values[layer->y].feeds_layer) {
            model->kernels->flush(y, y, softmax->outer * size * inner);
        }
    }
}

const CylLayerKind cyl_layer_reduce = {.data_size = sizeof(Reduce), .prepare = prepare_reduce, .run = run_reduce};
const CylLayerKind cyl_layer_softmax = {
    .data_size = sizeof(Reduce), .prepare = prepare_softmax, .bind = bind_softmax, .run = run_softmax};
