/* Embedding: y is made of the rows of a table that the indices choose. */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    void *table; /* real (rows, size) */
    int32_t rows, size;
} Embedding;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *weight = cyl_spec_tensor(spec, "weight");
    CylValue *x = &model->values[layer->x];
    const CylValue *y = &model->values[layer->y];
    if (!weight || weight->rank != 2 || weight->shape[1] > (1 << 28)) {
        return CYL_E_TENSOR;
    }
    if (x->kind != CYL_INDEX || y->kind != CYL_SEQUENCE || (int64_t)x->features * weight->shape[1] != y->features) {
        return CYL_E_VALUE;
    }
    Embedding *embedding = layer->data;
    int64_t rows = weight->shape[0], size = weight->shape[1];
    embedding->rows = (int32_t)rows;
    embedding->size = (int32_t)size;
    x->limit = weight->shape[0] < x->limit ? (int32_t)weight->shape[0] : x->limit;
    layer->work = y->features;
    CYL_TRY(cyl_array_prepare(model, layer, spec, rows * size, &embedding->table));
    return cyl_tensor_place(layer,
                            (CylPlace){.role = "weight", .rows = rows, .columns = size, .data = embedding->table});
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Embedding *embedding = layer->data;
    const CylView *x = &workspace->views[layer->x];
    int64_t steps = cyl_steps(workspace, layer->x), count = model->values[layer->x].features;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        const int32_t *indices = (const int32_t *)(const void *)x->data +
                                 cyl_call_row(workspace, j / steps) * x->row_stride + j % steps * count;
        char *y = cyl_step_at(workspace, layer->y, j / steps, j % steps);
        for (int64_t i = 0; i < count; i++) {
            /* the indices were checked before, but they lie in the caller's memory and may have changed since */
            int64_t index = indices[i] >= 0 && indices[i] < embedding->rows ? indices[i] : 0;
            memcpy(cyl_at(model, y, i * embedding->size), cyl_at(model, embedding->table, index * embedding->size),
                   (size_t)embedding->size * model->kernels->real_size);
        }
    }
}

const CylLayerKind cyl_layer_embedding = {.data_size = sizeof(Embedding), .prepare = prepare, .run = run};
