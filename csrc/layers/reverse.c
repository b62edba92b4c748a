/* Reverse: y[t] = x[time - 1 - t], what Keras's go_backwards leaves a sequence in. */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    (void)spec;
    layer->is_whole = true;
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    bool is_valid = x->kind == CYL_SEQUENCE && y->kind == CYL_SEQUENCE && x->features == y->features;
    return is_valid ? CYL_OK : CYL_E_VALUE;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    const CylValue *value = &model->values[layer->y];
    int64_t time = workspace->times[value->axis];
    size_t bytes = (size_t)value->features * model->kernels->real_size;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * time, value->features);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / time, t = j % time;
        memcpy(cyl_at(model, y->data, row * y->row_stride + t * y->step_stride),
               cyl_at(model, x->data, row * x->row_stride + (time - 1 - t) * x->step_stride), bytes);
    }
}

const CylLayerKind cyl_layer_reverse = {.prepare = prepare, .run = run};
