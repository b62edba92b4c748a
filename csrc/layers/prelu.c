/*
 * Activations with weights or of two halves: PReLU (He et al., 2015), y = x where x > 0, else slope * x, the slope of
 * one number, of the last axis or of a whole step; and gated linear units (Dauphin et al., 2017), y = a *
 * activation(b), a and b the halves of the last axis.
 */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

typedef struct {
    void *slope;
    int64_t size; /* numbers of the slope */
} Prelu;

static CylStatus prepare_prelu(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *slope = cyl_spec_tensor(spec, "slope");
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->features != y->features || x->has_time != y->has_time || !x->rank) {
        return CYL_E_VALUE;
    }
    if (!slope || slope->rank != 1 ||
        (slope->shape[0] != 1 && slope->shape[0] != x->shape[x->rank - 1] && slope->shape[0] != x->features)) {
        return CYL_E_TENSOR;
    }
    Prelu *prelu = layer->data;
    prelu->size = slope->shape[0];
    layer->work = x->features;
    return cyl_vector_prepare(model, layer, spec, "slope", prelu->size, &prelu->slope);
}

static void run_prelu(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Prelu *prelu = layer->data;
    int64_t features = model->values[layer->x].features, steps = cyl_steps(workspace, layer->x);
    int64_t size = prelu->size == 1 ? features : prelu->size;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / steps, j % steps);
        char *y = cyl_step_at(workspace, layer->y, j / steps, j % steps);
        for (int64_t at = 0; at < features; at += size) {
            model->kernels->prelu(cyl_at(model, x, at), prelu->slope, prelu->size > 1, cyl_at(model, y, at), size);
        }
    }
}

static CylStatus prepare_glu(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->features != 2 * (int64_t)y->features || x->has_time != y->has_time || !x->rank ||
        x->shape[x->rank - 1] != 2 * (int64_t)y->shape[y->rank - 1]) {
        return CYL_E_VALUE;
    }
    layer->work = x->features;
    return cyl_spec_gate_activation(spec, "activation", layer->data);
}

static void run_glu(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const CylValue *value = &model->values[layer->y];
    int64_t size = value->shape[value->rank - 1], steps = cyl_steps(workspace, layer->x);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / steps, j % steps);
        char *y = cyl_step_at(workspace, layer->y, j / steps, j % steps);
        for (int64_t at = 0; at < value->features; at += size) {
            model->kernels->gated(layer->data, cyl_at(model, x, 2 * at), cyl_at(model, x, 2 * at + size),
                                  cyl_at(model, y, at), size);
        }
    }
}

const CylLayerKind cyl_layer_prelu = {.data_size = sizeof(Prelu), .prepare = prepare_prelu, .run = run_prelu};
const CylLayerKind cyl_layer_glu = {.data_size = sizeof(CylActivationSpec), .prepare = prepare_glu, .run = run_glu};
