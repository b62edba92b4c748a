/*
 * What is no number, as numbers. numbers: y = the indices. mask_numbers: y = 1 where a step counts, else 0; a mask that
 * was not given is 1 everywhere. number_mask: a mask of the steps whose number is not 0.
 */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

/* Every whole number up to 2^24 is a float. */
#define MOST (1 << 24)

static CylStatus prepare_numbers(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    (void)spec;
    CylValue *x = &model->values[layer->x];
    const CylValue *y = &model->values[layer->y];
    if (x->kind != CYL_INDEX || y->kind != CYL_SEQUENCE || x->features != y->features) {
        return CYL_E_VALUE;
    }
    x->limit = x->limit < MOST + 1 ? x->limit : MOST + 1;
    layer->work = y->features;
    return CYL_OK;
}

static void run_numbers(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const CylView *x = &workspace->views[layer->x];
    const int64_t size = cyl_steps(workspace, layer->x) * model->values[layer->x].features;
    int64_t begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const int32_t *indices = (const int32_t *)(const void *)x->data + cyl_call_row(workspace, row) * x->row_stride;
        char *y = cyl_step_at(workspace, layer->y, row, 0);
        for (int64_t i = 0; i < size; i++) {
            cyl_set(model, y, i, indices[i]);
        }
    }
}

static CylStatus prepare_mask_numbers(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    (void)spec;
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->kind != CYL_MASK || y->kind != CYL_SEQUENCE || y->rank != 1 || y->features != 1) {
        return CYL_E_VALUE;
    }
    layer->work = 1;
    return CYL_OK;
}

static void run_mask_numbers(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                             const CylTeam *team) {
    const int64_t steps = cyl_steps(workspace, layer->x);
    const int32_t slot = cyl_mask_slot(workspace, layer->mask);
    const CylReal zero = cyl_real(model, 0.0), one = cyl_real(model, 1.0);
    int64_t begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const uint8_t *mask = slot >= 0 ? cyl_mask_row(workspace, slot, row) : NULL;
        char *y = cyl_step_at(workspace, layer->y, row, 0);
        for (int64_t t = 0; t < steps; t++) {
            memcpy(cyl_at(model, y, t), !mask || mask[t] ? &one : &zero, model->kernels->real_size);
        }
    }
}

static CylStatus prepare_number_mask(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    (void)spec;
    const CylValue *x = &model->values[layer->x];
    if (x->kind != CYL_SEQUENCE || x->rank != 1 || x->features != 1) {
        return CYL_E_VALUE;
    }
    layer->work = 1;
    return CYL_OK;
}

static void run_number_mask(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                            const CylTeam *team) {
    const int64_t steps = cyl_steps(workspace, layer->x);
    const int32_t slot = model->values[layer->mask_out].slot;
    int64_t begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const char *x = cyl_step_at(workspace, layer->x, row, 0);
        uint8_t *mask = workspace->own_masks[slot] + row * workspace->mask_strides[slot];
        for (int64_t t = 0; t < steps; t++) {
            mask[t] = cyl_get(model, x, t) != 0.0; /* NaN too */
        }
    }
}

const CylLayerKind cyl_layer_numbers = {.prepare = prepare_numbers, .run = run_numbers};
const CylLayerKind cyl_layer_mask_numbers = {
    .reads_mask_alone = true, .prepare = prepare_mask_numbers, .run = run_mask_numbers};
const CylLayerKind cyl_layer_number_mask = {.only_masks = true, .prepare = prepare_number_mask, .run = run_number_mask};
