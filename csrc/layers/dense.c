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

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Dense *dense = layer->data;
    size_t used = 0;
    CylLayerState state = {0};
    state.acc = cyl_place(memory, &used, workspace->threads * columns_at_once(model), (uint64_t)dense->weight.row_size,
                          model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* n columns of x, `x_stride` apart, blocks [begin, end) */
static void run_columns(const CylModel *model, const CylLayer *layer, void *acc, const char *x, int64_t x_stride,
                        char *y, int64_t y_stride, int64_t n, int32_t begin, int32_t end) {
    const CylKernels *kernels = model->kernels;
    const Dense *dense = layer->data;
    const CylMatrix *m = &dense->weight;
    const int64_t at_once = columns_at_once(model);
    const bool in_place = cyl_accumulates_in_place(m), is_softmax = dense->activation.id == CYL_ACT_SOFTMAX;
    const int64_t acc_stride = in_place ? y_stride : m->row_size;
    for (int64_t first = 0; first < n; first += at_once) {
        int64_t count = n - first < at_once ? n - first : at_once;
        CylOperand operand = {cyl_at(model, x, first * x_stride), x_stride, 0, m->columns};
        void *to = cyl_at(model, y, first * y_stride), *sums = in_place ? to : acc;
        cyl_product(model, m, &operand, 1, count, sums, acc_stride, false, false, begin, end);
        kernels->dense_output(m, &dense->activation, count, sums, acc_stride, to, y_stride,
                              model->values[layer->y].feeds_layer && !is_softmax, begin, end);
    }
}

/* one position of each step: columns are the steps or the rows, whichever are more */
static void run_flat(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team,
                     void *acc) {
    const Dense *dense = layer->data;
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    int64_t steps = cyl_steps(workspace, layer->y), rows = workspace->rows;
    /* the longer axis is the one of the product's columns; threads share it, or the blocks where it is short */
    bool along_time = steps > rows;
    int64_t outer = along_time ? rows : steps, inner = along_time ? steps : rows;
    int64_t x_outer = along_time ? x->row_stride : x->step_stride,
            x_inner = along_time ? x->step_stride : x->row_stride;
    int64_t y_outer = along_time ? y->row_stride : y->step_stride,
            y_inner = along_time ? y->step_stride : y->row_stride;
    int64_t begin = 0, end = inner, first_block = 0, last_block = dense->weight.blocks;
    if (inner >= 2 * team->threads) {
        cyl_share(team, inner, &begin, &end);
    } else {
        cyl_share(team, dense->weight.blocks, &first_block, &last_block);
    }
    /* all of them if the call cannot be stopped */
    const int64_t pace =
        workspace->stop ? columns_at_once(model) * cyl_stop_pace(columns_at_once(model) * layer->work) : inner;
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t first = begin; first < end; first += pace) {
            if (workspace->stop && cyl_stop_look(workspace->stop)) {
                return;
            }
            run_columns(model, layer, acc, cyl_at(model, x->data, o * x_outer + first * x_inner), x_inner,
                        cyl_at(model, y->data, o * y_outer + first * y_inner), y_inner,
                        end - first < pace ? end - first : pace, (int32_t)first_block, (int32_t)last_block);
        }
    }
}

/* several positions of each step: they are the columns */
static void run_positions(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team,
                          void *acc) {
    const Dense *dense = layer->data;
    int64_t steps = cyl_steps(workspace, layer->y);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        run_columns(model, layer, acc, cyl_step_at(workspace, layer->x, j / steps, j % steps), dense->weight.columns,
                    cyl_step_at(workspace, layer->y, j / steps, j % steps), dense->weight.units, dense->positions, 0,
                    dense->weight.blocks);
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Dense *dense = layer->data;
    const CylKernels *kernels = model->kernels;
    const CylValue *value = &model->values[layer->y];
    int64_t steps = cyl_steps(workspace, layer->y);
    void *acc = cyl_at(model, workspace->states[layer->index].acc,
                       team->thread * columns_at_once(model) * dense->weight.row_size);
    if (dense->positions == 1) {
        run_flat(model, layer, workspace, team, acc);
    } else {
        run_positions(model, layer, workspace, team, acc);
    }
    if (dense->activation.id == CYL_ACT_SOFTMAX) {
        cyl_barrier(team);
        CylItems items;
        for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, 8 * value->features);
             cyl_goes_on(&items, j); j++) {
            char *at = cyl_step_at(workspace, layer->y, j / steps, j % steps);
            for (int64_t p = 0; p < dense->positions; p++) {
                void *position = cyl_at(model, at, p * dense->weight.units);
                kernels->activate(&dense->activation, position, position, dense->weight.units, value->feeds_layer);
            }
        }
    }
}

const CylLayerKind cyl_layer_dense = {.data_size = sizeof(Dense), .prepare = prepare, .bind = bind, .run = run};
