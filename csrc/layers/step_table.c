/* Step table: y[t] = row t of a table, the same for every row of the batch; of x only the time is read. */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    void *table; /* real (rows, size) */
    int64_t rows, size;
} StepTable;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *table = cyl_spec_tensor(spec, "table");
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (!table || table->rank != 2 || table->shape[1] > (1 << 28)) {
        return CYL_E_TENSOR;
    }
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || y->rank != 1 || y->features != table->shape[1] ||
        x->time > table->shape[0]) {
        return CYL_E_VALUE;
    }
    StepTable *steps = layer->data;
    steps->rows = table->shape[0];
    steps->size = table->shape[1];
    layer->is_whole = true;
    layer->work = y->features;
    CYL_TRY(cyl_array_prepare(model, layer, spec, steps->rows * steps->size, &steps->table));
    return cyl_tensor_place(
        layer, (CylPlace){.role = "table", .rows = steps->rows, .columns = steps->size, .data = steps->table});
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const StepTable *table = layer->data;
    const int64_t steps = cyl_steps(workspace, layer->y);
    const size_t bytes = (size_t)table->size * model->kernels->real_size;
    int64_t begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        for (int64_t t = 0; t < steps; t++) {
            /* callers refuse longer sequences, so the last row is never taken twice */
            const int64_t at = t < table->rows ? t : table->rows - 1;
            memcpy(cyl_step_at(workspace, layer->y, row, t), cyl_at(model, table->table, at * table->size), bytes);
        }
    }
}

const CylLayerKind cyl_layer_step_table = {.data_size = sizeof(StepTable), .prepare = prepare, .run = run};
