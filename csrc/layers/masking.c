/*
 * Masks that the network computes. masking: a step counts where any of its numbers differs from `mask_value`; the
 * others become 0. index_mask: a step counts where its index is not `padding`. mask_merge: several masks into one,
 * where any or all of them count. mask_fill: the steps that do not count become a number, or those of another value. A
 * mask that was not given counts everywhere.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    /* masking: what does not count; index_mask: the padding; mask_merge: 1 for all, 0 for any; mask_fill: the number */
    double value;
    int32_t other; /* mask_fill: the value whose steps are taken, -1 for none */
} Masking;

/* Fills in what all four kinds keep. */
static CylStatus fill(const CylModel *model, CylLayer *layer, double value, int32_t other) {
    *(Masking *)layer->data = (Masking){value, other};
    layer->work = model->values[layer->x].features;
    return CYL_OK;
}

static uint8_t *mask_at(const CylModel *model, const CylWorkspace *workspace, int32_t value, int64_t row) {
    int32_t slot = model->values[value].slot;
    return workspace->own_masks[slot] + row * workspace->mask_strides[slot];
}

static CylStatus prepare_masking(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x];
    double value;
    CYL_TRY(cyl_spec_real(spec, "mask_value", &value));
    if (!x->has_time || x->kind != CYL_SEQUENCE || layer->mask_out < 0 ||
        model->values[layer->y].features != x->features || model->values[layer->y].kind != CYL_SEQUENCE) {
        return CYL_E_VALUE;
    }
    return fill(model, layer, value, -1);
}

static bool differs(const CylModel *model, const char *x, int64_t size, double value) {
    const CylReal number = cyl_real(model, value);
    const double rounded = cyl_get(model, &number, 0);
    for (int64_t i = 0; i < size; i++) {
        if (cyl_get(model, x, i) != rounded) {
            return true;
        }
    }
    return false;
}

static void run_masking(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Masking *masking = layer->data;
    int64_t steps = cyl_steps(workspace, layer->x), size = model->values[layer->x].features, begin, end;
    size_t bytes = (size_t)size * model->kernels->real_size;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        uint8_t *mask = mask_at(model, workspace, layer->mask_out, row);
        for (int64_t t = 0; t < steps; t++) {
            const char *x = cyl_step_at(workspace, layer->x, row, t);
            char *y = cyl_step_at(workspace, layer->y, row, t);
            mask[t] = differs(model, x, size, masking->value);
            if (mask[t]) {
                memcpy(y, x, bytes);
            } else {
                memset(y, 0, bytes);
            }
        }
    }
}

static CylStatus prepare_index_mask(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x];
    int32_t padding;
    CYL_TRY(cyl_spec_whole(spec, "padding", 0, INT32_MAX, &padding));
    if (x->kind != CYL_INDEX || x->features != 1) {
        return CYL_E_VALUE;
    }
    return fill(model, layer, padding, -1);
}

static void run_index_mask(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Masking *masking = layer->data;
    const CylView *x = &workspace->views[layer->x];
    int64_t steps = cyl_steps(workspace, layer->x), begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const int32_t *indices = (const int32_t *)(const void *)x->data + cyl_call_row(workspace, row) * x->row_stride;
        uint8_t *mask = mask_at(model, workspace, layer->mask_out, row);
        for (int64_t t = 0; t < steps; t++) {
            mask[t] = indices[t] != (int32_t)masking->value;
        }
    }
}

static CylStatus prepare_merge(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const modes[] = {"any", "all", NULL};
    int mode;
    CYL_TRY(cyl_spec_choice(spec, "mode", modes, &mode));
    for (int32_t i = 0; i < layer->input_count; i++) {
        if (model->values[layer->inputs[i]].kind != CYL_MASK) {
            return CYL_E_VALUE;
        }
    }
    return fill(model, layer, mode, -1);
}

static void run_merge(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Masking *masking = layer->data;
    bool is_all = masking->value != 0.0;
    int64_t steps = cyl_steps(workspace, layer->mask_out), begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        uint8_t *mask = mask_at(model, workspace, layer->mask_out, row);
        for (int64_t t = 0; t < steps; t++) {
            bool counts = is_all;
            for (int32_t i = 0; i < layer->input_count; i++) {
                int32_t slot = cyl_mask_slot(workspace, layer->inputs[i]);
                bool one = slot < 0 || cyl_mask_row(workspace, slot, row)[t];
                counts = is_all ? counts && one : counts || one;
            }
            mask[t] = counts;
        }
    }
}

/* Returns whether a step of `size` numbers has as many as y's, or one number that is repeated. */
static bool fits(const CylValue *y, int32_t size) { return size == y->features || size == 1; }

static CylStatus prepare_fill(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const int32_t other = cyl_spec_input(spec, "x1");
    double value;
    CYL_TRY(cyl_spec_real(spec, "value", &value));
    if (layer->mask < 0 || model->values[layer->mask].kind != CYL_MASK) {
        return CYL_E_VALUE;
    }
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || !fits(y, x->features)) {
        return CYL_E_VALUE;
    }
    if (other < 0 && x->features != y->features) {
        return CYL_E_VALUE;
    }
    if (other >= 0 && (model->values[other].kind == CYL_MASK || model->values[other].kind == CYL_INDEX ||
                       !fits(y, model->values[other].features))) {
        return CYL_E_VALUE;
    }
    return fill(model, layer, value, other);
}

static void run_fill(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Masking *masking = layer->data;
    int64_t steps = cyl_steps(workspace, layer->x), size = model->values[layer->y].features, begin, end;
    int32_t slot = cyl_mask_slot(workspace, layer->mask);
    const CylReal number = cyl_real(model, masking->value);
    cyl_share(team, workspace->rows * steps, &begin, &end);
    for (int64_t j = begin; j < end; j++) {
        int64_t row = j / steps, t = j % steps;
        int32_t from = slot < 0 || cyl_mask_row(workspace, slot, row)[t] ? layer->x : masking->other;
        char *y = cyl_step_at(workspace, layer->y, row, t);
        if (from < 0) {
            model->kernels->merge(CYL_MERGE_COPY, &number, 0, y, size, 1.0);
            model->kernels->flush(y, y, size);
        } else {
            const CylValue *value = &model->values[from];
            const char *x = cyl_step_at(workspace, from, row, value->has_time ? t : 0);
            model->kernels->merge(CYL_MERGE_COPY, x, value->features == size, y, size, 1.0);
        }
    }
}

const CylLayerKind cyl_layer_masking = {.data_size = sizeof(Masking), .prepare = prepare_masking, .run = run_masking};
const CylLayerKind cyl_layer_index_mask = {
    .data_size = sizeof(Masking), .only_masks = true, .prepare = prepare_index_mask, .run = run_index_mask};
const CylLayerKind cyl_layer_mask_merge = {
    .data_size = sizeof(Masking), .only_masks = true, .prepare = prepare_merge, .run = run_merge};
const CylLayerKind cyl_layer_mask_fill = {.data_size = sizeof(Masking), .prepare = prepare_fill, .run = run_fill};
