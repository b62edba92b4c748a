/* Dense: y = activation(W x + b) at every step. */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "platform/tuning.h"
#include "run/workspace.h"
#include "threads/team.h"

/* The columns (rows or steps) whose accumulators are held at once: more for a BLAS, whose gemm packs the weights anew
   in each call. */
static int64_t columns_at_once(const CylModel *model) {
    return model->kernels->is_packed ? CYL_DENSE_COLUMNS : CYL_DENSE_COLUMNS_GEMM;
}

typedef struct {
    CylMatrix weight;
    CylActivationSpec activation;
    int64_t positions; /* positions of one step: the product of all axes before the last */
} Dense;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *weight = cyl_spec_tensor(spec, "weight"), *bias = cyl_spec_tensor(spec, "bias");
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    int32_t output = y->rank ? y->shape[y->rank - 1] : 0, input = x->rank ? x->shape[x->rank - 1] : 0;
    if (x->has_time != y->has_time || !output || !input || x->features / input != y->features / output) {
        return CYL_E_VALUE;
    }
    CYL_TRY(cyl_check_tensor(weight, output, input));
    CYL_TRY(cyl_check_optional(bias, output, -1));
    Dense *dense = layer->data;
    CYL_TRY(cyl_spec_activation(spec, "activation", &dense->activation));
    const CylPart part = {"weight", 0};
    dense->positions = x->features / input;
    layer->work = (int64_t)input * output * dense->positions;
    return cyl_matrix_prepare(model, layer, spec, &dense->weight, output, 1, &part, 1, "bias");
}

/* What the runs on pieces of one shape have in common; distances in reals. */
typedef struct {
    const CylView *x, *y; /* whose data may be the call's, and new in each call */
    int64_t steps, rows;
    /* where a step has one position: the longer of rows and steps is the one of the product's columns */
    int64_t outer, inner, x_outer, x_inner, y_outer, y_inner;
    int64_t at_once;
    char *acc;
    bool in_place, is_flushed, is_softmax;
    bool is_short; /* all columns have room at once */
} Bound;

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Dense *dense = layer->data;
    size_t used = 0;
    CylLayerState state = {0};
    state.acc = cyl_place(memory, &used, workspace->threads * columns_at_once(model), (uint64_t)dense->weight.row_size,
                          model->kernels->real_size);
    state.bound = cyl_place(memory, &used, 1, 1, sizeof(Bound));
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static void resolve(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace) {
    const Dense *dense = layer->data;
    const CylLayerState *state = &workspace->states[layer->index];
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    const int64_t steps = cyl_steps(workspace, layer->y), rows = workspace->rows, at_once = columns_at_once(model);
    const bool along_time = steps > rows, is_softmax = dense->activation.id == CYL_ACT_SOFTMAX;
    const int64_t outer = along_time ? rows : steps, inner = along_time ? steps : rows;
    *(Bound *)state->bound = (Bound){.x = x,
                                     .y = y,
                                     .steps = steps,
                                     .rows = rows,
                                     .outer = outer,
                                     .inner = inner,
                                     .x_outer = along_time ? x->row_stride : x->step_stride,
                                     .x_inner = along_time ? x->step_stride : x->row_stride,
                                     .y_outer = along_time ? y->row_stride : y->step_stride,
                                     .y_inner = along_time ? y->step_stride : y->row_stride,
                                     .at_once = at_once,
                                     .acc = state->acc,
                                     .in_place = cyl_accumulates_in_place(&dense->weight),
                                     .is_flushed = model->values[layer->y].feeds_layer && !is_softmax,
                                     .is_softmax = is_softmax,
                                     .is_short = dense->positions == 1 && outer == 1 && inner <= at_once};
}

/* `count` columns of x, `x_stride` apart, for which there is room at once; blocks [begin, end) */
static inline void run_columns(const CylModel *model, const Dense *dense, const Bound *bound, char *acc, const char *x,
                               int64_t x_stride, char *y, int64_t y_stride, int64_t count, int32_t begin, int32_t end) {
    const CylMatrix *m = &dense->weight;
    const CylOperand operand = {x, x_stride, 0, m->columns};
    char *sums = bound->in_place ? y : acc;
    const int64_t stride = bound->in_place ? y_stride : m->row_size;
    cyl_product(model, m, &operand, 1, count, sums, stride, false, false, begin, end);
    model->kernels->dense_output(m, &dense->activation, count, sums, stride, y, y_stride, bound->is_flushed, begin,
                                 end);
}

/* n of them */
static void run_many(const CylModel *model, const Dense *dense, const Bound *bound, char *acc, const char *x,
                     int64_t x_stride, char *y, int64_t y_stride, int64_t n, int32_t begin, int32_t end) {
    for (int64_t first = 0; first < n; first += bound->at_once) {
        const int64_t count = n - first < bound->at_once ? n - first : bound->at_once;
        run_columns(model, dense, bound, acc, cyl_at(model, x, first * x_stride), x_stride,
                    cyl_at(model, y, first * y_stride), y_stride, count, begin, end);
    }
}

/* one position of each step: threads share the columns, or the blocks where those are few */
static CYL_SELDOM void run_flat(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                                const CylTeam *team, char *acc) {
    const Dense *dense = layer->data;
    const Bound *b = workspace->states[layer->index].bound;
    int64_t begin = 0, end = b->inner, first_block = 0, last_block = dense->weight.blocks;
    if (b->inner >= 2 * team->threads) {
        cyl_share(team, b->inner, &begin, &end);
    } else {
        cyl_share(team, dense->weight.blocks, &first_block, &last_block);
    }
    /* all of them if the call cannot be stopped */
    const int64_t pace = workspace->stop ? b->at_once * cyl_stop_pace(b->at_once * layer->work) : b->inner;
    for (int64_t o = 0; o < b->outer; o++) {
        for (int64_t first = begin; first < end; first += pace) {
            if (workspace->stop && cyl_stop_look(workspace->stop)) {
                return;
            }
            run_many(model, dense, b, acc, cyl_at(model, b->x->data, o * b->x_outer + first * b->x_inner), b->x_inner,
                     cyl_at(model, b->y->data, o * b->y_outer + first * b->y_inner), b->y_inner,
                     end - first < pace ? end - first : pace, (int32_t)first_block, (int32_t)last_block);
        }
    }
}

/* several positions of each step: they are the columns */
static CYL_SELDOM void run_positions(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                                     const CylTeam *team, char *acc) {
    const Dense *dense = layer->data;
    const Bound *bound = workspace->states[layer->index].bound;
    const int64_t steps = bound->steps;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, bound->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        run_many(model, dense, bound, acc, cyl_step_at(workspace, layer->x, j / steps, j % steps),
                 dense->weight.columns, cyl_step_at(workspace, layer->y, j / steps, j % steps), dense->weight.units,
                 dense->positions, 0, dense->weight.blocks);
    }
}

/* of every position, when all of the team have written its numbers */
static CYL_SELDOM void run_softmax(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                                   const CylTeam *team) {
    const Dense *dense = layer->data;
    const CylValue *value = &model->values[layer->y];
    const int64_t steps = cyl_steps(workspace, layer->y);
    CylItems items;
    cyl_barrier(team);
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, 8 * value->features);
         cyl_goes_on(&items, j); j++) {
        char *at = cyl_step_at(workspace, layer->y, j / steps, j % steps);
        for (int64_t p = 0; p < dense->positions; p++) {
            void *position = cyl_at(model, at, p * dense->weight.units);
            model->kernels->activate(&dense->activation, position, position, dense->weight.units, value->feeds_layer);
        }
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Dense *dense = layer->data;
    const Bound *bound = workspace->states[layer->index].bound;
    if (bound->is_short && team->threads == 1 && !workspace->stop) {
        run_columns(model, dense, bound, bound->acc, bound->x->data, bound->x_inner, bound->y->data, bound->y_inner,
                    bound->inner, 0, dense->weight.blocks);
    } else {
        char *acc = cyl_at(model, bound->acc, team->thread * bound->at_once * dense->weight.row_size);
        (dense->positions == 1 ? run_flat : run_positions)(model, layer, workspace, team, acc);
    }
    if (bound->is_softmax) {
        run_softmax(model, layer, workspace, team);
    }
}

const CylLayerKind cyl_layer_dense = {
    .data_size = sizeof(Dense), .prepare = prepare, .bind = bind, .resolve = resolve, .run = run};
