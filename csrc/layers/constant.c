/* Constant: y is the same numbers in every row, of every call. Other layers read them where they are kept; only where
   they are a result of the network are they copied. */
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
    void *numbers; /* real ([time,] shape of y) */
    int64_t count;
} Constant;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *value = cyl_spec_tensor(spec, "value");
    CylValue *y = &model->values[layer->y];
    Constant *constant = layer->data;
    if (!value || value->rank != y->rank + y->has_time) {
        return CYL_E_TENSOR;
    }
    if ((y->kind != CYL_SEQUENCE && y->kind != CYL_VECTOR) || layer->input_count > 0) {
        return CYL_E_VALUE;
    }
    int64_t columns = 1;
    for (int32_t i = 0; i < value->rank; i++) {
        const int64_t size = i < y->has_time ? y->time : y->shape[i - y->has_time];
        if (value->shape[i] != size) {
            return CYL_E_TENSOR;
        }
        columns *= i > 0 ? size : 1;
    }
    constant->count = value->shape[0] * columns;
    if (constant->count > (1 << 28)) {
        return CYL_E_TENSOR;
    }
    layer->time_kind = CYL_TIME_FIXED;
    CYL_TRY(cyl_array_prepare(model, layer, spec, cyl_state_stride(constant->count), &constant->numbers));
    CYL_TRY(cyl_tensor_place(
        layer, (CylPlace){.role = "value", .rows = value->shape[0], .columns = columns, .data = constant->numbers}));
    y->is_constant = true;
    return CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Constant *constant = layer->data;
    if (memory && cyl_is_shared(&model->values[layer->y])) {
        workspace->own[layer->y].data = constant->numbers;
        workspace->own[layer->y].row_stride = 0;
    }
    return 0;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Constant *constant = layer->data;
    int64_t begin, end;
    if (cyl_is_shared(&model->values[layer->y])) {
        return;
    }
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        memcpy(cyl_step_at(workspace, layer->y, row, 0), constant->numbers,
               (size_t)constant->count * model->kernels->real_size);
    }
}

const CylLayerKind cyl_layer_constant = {
    .data_size = sizeof(Constant), .reads_nothing = true, .prepare = prepare, .bind = bind, .run = run};
