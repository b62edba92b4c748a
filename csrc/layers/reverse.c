/* Reverse: y[t] = x[time - 1 - t], what Keras's go_backwards leaves a sequence in. */
#include "../internal.h"

#include <string.h>

static CylStatus prepare(CylModel *model, CylNode *node, const CylNodeSpec *spec) {
    (void)spec;
    node->is_whole = true;
    const CylValue *x = &model->values[node->x], *y = &model->values[node->y];
    bool is_valid = x->kind == CYL_SEQUENCE && y->kind == CYL_SEQUENCE && x->features == y->features;
    return is_valid ? CYL_OK : CYL_E_VALUE;
}

static void run(const CylModel *model, const CylNode *node, CylWorkspace *workspace, const CylTeam *team) {
    const CylView *x = &workspace->views[node->x], *y = &workspace->views[node->y];
    const CylValue *value = &model->values[node->y];
    int64_t time = workspace->times[value->axis];
    size_t bytes = (size_t)value->features * model->kernels->real_size;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * time, value->features);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / time, t = j % time;
        memcpy(cyl_at(model, y->data, row * y->row_stride + t * y->step_stride),
               cyl_at(model, x->data, row * x->row_stride + (time - 1 - t) * x->step_stride), bytes);
    }
    cyl_barrier(team);
}

const CylLayer cyl_layer_reverse = {"reverse", prepare, NULL, NULL, run};
