/* Activation: y = f(x) element by element; softmax over the features of each step. */
#include "../internal.h"

#include <stdlib.h>

static CylStatus prepare(CylModel *model, CylNode *node, const CylNodeSpec *spec) {
    const CylValue *x = &model->values[node->x], *y = &model->values[node->y];
    if (x->features != y->features || x->has_time != y->has_time || !x->rank) {
        return CYL_E_VALUE;
    }
    CylActivationSpec *activation = calloc(1, sizeof *activation);
    if (!activation) {
        return CYL_E_MEMORY;
    }
    node->data = activation;
    return cyl_spec_activation(spec, "activation", activation);
}

static void run(const CylModel *model, const CylNode *node, CylWorkspace *workspace, const CylTeam *team) {
    const CylView *x = &workspace->views[node->x], *y = &workspace->views[node->y];
    const CylValue *value = &model->values[node->y];
    const CylActivationSpec *activation = node->data;
    int64_t steps = value->kind == CYL_SEQUENCE ? workspace->times[value->axis] : 1;
    /* softmax is over the last axis; all else is a row's steps at once, which have no gaps between them */
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
                                     value->feeds_node);
        }
    }
    cyl_barrier(team);
}

const CylLayer cyl_layer_activation = {"activation", prepare, NULL, NULL, run};
