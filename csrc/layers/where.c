/* Where: y = x where the condition is not 0, else x1. What is not chosen is not computed with, NaN or infinite. */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/broadcast.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/workspace.h"
#include "threads/team.h"

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const roles[] = {"condition", "x", "x1"};
    if (layer->input_count != 3) {
        return CYL_E_VALUE;
    }
    for (int32_t i = 0; i < 3; i++) {
        layer->inputs[i] = cyl_spec_input(spec, roles[i]);
        if (layer->inputs[i] < 0) {
            return CYL_E_VALUE;
        }
    }
    layer->work = model->values[layer->y].features;
    return cyl_check_broadcast(model, layer);
}

#define CHOOSE(name, REAL)                                                                                             \
    static void name(const void *conditions, const void *first, const void *second, const int64_t *steps,              \
                     void *results, int64_t size) {                                                                    \
        const REAL *condition = conditions, *x = first, *x1 = second;                                                  \
        REAL *y = results;                                                                                             \
        for (int64_t i = 0; i < size; i++) {                                                                           \
            y[i] = condition[i * steps[0]] != 0 ? x[i * steps[1]] : x1[i * steps[2]];                                  \
        }                                                                                                              \
    }
CHOOSE(choose_narrow, float)
CHOOSE(choose_wide, double)

static void choose(const CylModel *model, int function, const char *const *x, const int64_t *steps, char *y,
                   int64_t size) {
    (void)function;
    (model->kernels->real_size == sizeof(float) ? choose_narrow : choose_wide)(x[0], x[1], x[2], steps, y, size);
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    (void)model;
    return cyl_broadcast_bind(layer, workspace, memory, 1);
}

static void resolve(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace) {
    CylBroadcast *b = workspace->states[layer->index].bound;
    *b = (CylBroadcast){.model = model, .elementwise = choose, .count = 3};
    cyl_broadcast_resolve(layer, workspace, 0, b);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    (void)model;
    cyl_broadcast_run(layer, workspace->states[layer->index].bound, workspace, team);
}

const CylLayerKind cyl_layer_where = {.prepare = prepare, .bind = bind, .resolve = resolve, .run = run};
