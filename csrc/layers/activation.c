/* Activation: y = f(x) element by element; softmax over the features of each step. */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/spec.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->features != y->features || x->has_time != y->has_time || !x->rank) {
        return CYL_E_VALUE;
    }
    return cyl_spec_activation(spec, "activation", layer->data);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    const CylValue *value = &model->values[layer->y];
    const CylActivationSpec *activation = layer->data;
    int64_t steps = value->kind == CYL_SEQUENCE ? workspace->times[value->axis] : 1;
    /* A softmax is taken over the last axis. Any other activation is applied to several steps at once, which lie
       without gaps. */
    bool is_softmax = activation->id == CYL_ACT_SOFTMAX;
    CylItems items;
    int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, 8 * value->features);
    for (int64_t count; cyl_goes_on(&items, j); j += count) {
        int64_t row = j / steps, t = j % steps;
        count = steps - t < items.end - j ? steps - t : items.end - j;
        char *at = cyl_at(model, y->data, row * y->row_stride + t * y->step_stride);
        const char *from = cyl_at(model, x->data, row * x->row_stride + t * x->step_stride);
        const int64_t all = count * value->features, at_once = is_softmax ? value->shape[value->rank - 1] : all;
        for (int64_t first = 0; first < all; first += at_once) {
            model->kernels->activate(activation, cyl_at(model, from, first), cyl_at(model, at, first), at_once,
                                     value->feeds_layer);
        }
    }
}

static bool may_follow(const CylLayer *layer) {
    return ((const CylActivationSpec *)layer->data)->id != CYL_ACT_SOFTMAX;
}

static void follow(const CylModel *model, const CylLayer *layer, void *y, int64_t count) {
    model->kernels->activate(layer->data, y, y, count, model->values[layer->y].feeds_layer);
}

const CylLayerKind cyl_layer_activation = {
    .data_size = sizeof(CylActivationSpec), .prepare = prepare, .run = run, .may_follow = may_follow, .follow = follow};
