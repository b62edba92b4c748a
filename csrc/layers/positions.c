/*
 * Positions: y[t] = start + step * t, where t counts the steps of each row since its start; of x only the time is read.
 *
 * Where the time of x is open, the steps taken are a state of two numbers, n mod 2^24 and floor(n / 2^24), so that they
 * are exact in float too.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/workspace.h"
#include "threads/team.h"

/* what one number of the state counts to */
#define MOST 0x1p24

typedef struct {
    double start, step;
} Positions;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Positions *positions = layer->data;
    CYL_TRY(cyl_spec_real(spec, "start", &positions->start));
    CYL_TRY(cyl_spec_real(spec, "step", &positions->step));
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || y->features != 1 || y->rank != 1) {
        return CYL_E_VALUE;
    }
    layer->history_size = x->time ? 0 : 2;
    layer->work = 1;
    return CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    size_t used = 0;
    CylLayerState state = {0};
    state.h[0] = cyl_place(memory, &used, workspace->rows_capacity, (uint64_t)cyl_state_stride(layer->history_size),
                           model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Positions *positions = layer->data;
    const int64_t steps = cyl_steps(workspace, layer->y);
    int64_t begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        char *state = cyl_at(model, workspace->states[layer->index].h[0], row * cyl_state_stride(layer->history_size));
        char *y = cyl_step_at(workspace, layer->y, row, 0);
        const double taken = layer->history_size ? cyl_get(model, state, 0) + MOST * cyl_get(model, state, 1) : 0.0;
        for (int64_t t = 0; t < steps; t++) {
            cyl_set(model, y, t, positions->start + positions->step * (taken + (double)t));
        }
        model->kernels->flush(y, y, steps);
        if (layer->history_size) {
            const double now = taken + (double)steps;
            /* anything may have been given as a state */
            const double high = now >= 0.0 && now < 0x1p48 ? (double)(int64_t)(now / MOST) : 0.0;
            cyl_set(model, state, 0, now - MOST * high);
            cyl_set(model, state, 1, high);
        }
    }
}

const CylLayerKind cyl_layer_positions = {.data_size = sizeof(Positions), .prepare = prepare, .bind = bind, .run = run};
