/* Function: y = f(x) element by element, f one of the elementary functions. */
#include "cylstm.h"
#include "layers/elementary.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

typedef struct {
    CylFunction id;
} Function;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Function *function = layer->data;
    int id;
    CYL_TRY(cyl_spec_choice(spec, "function", cyl_function_names, &id));
    if (x->features != y->features || x->has_time != y->has_time || !x->rank) {
        return CYL_E_VALUE;
    }
    function->id = (CylFunction)id;
    layer->work = 8 * (int64_t)x->features;
    return CYL_OK;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Function *function = layer->data;
    const CylValue *value = &model->values[layer->y];
    int64_t steps = cyl_steps(workspace, layer->y);
    CylItems items;
    int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work);
    /* the steps of a row lie without gaps */
    for (int64_t count; cyl_goes_on(&items, j); j += count) {
        int64_t row = j / steps, t = j % steps;
        count = steps - t < items.end - j ? steps - t : items.end - j;
        const void *x = cyl_step_at(workspace, layer->x, row, t);
        void *y = cyl_step_at(workspace, layer->y, row, t);
        if (model->kernels->real_size == sizeof(float)) {
            cyl_function_float(function->id, x, y, count * value->features, value->feeds_layer);
        } else {
            cyl_function_double(function->id, x, y, count * value->features);
        }
    }
}

const CylLayerKind cyl_layer_function = {.data_size = sizeof(Function), .prepare = prepare, .run = run};
