/* Embedding: y is made of the rows of a table that the indices choose. */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/weight_types.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    void *table; /* (rows, size) of a type */
    int32_t rows, size;
    CylWeightType type;
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
    const int type = cyl_weight_type_from_name(weight->type, model->kernels->real_size);
    if (type < 0 || cyl_weight_formats[type].has_scales || (type != CYL_WEIGHTS_REAL && !model->kernels->is_packed)) {
        return CYL_E_OPTION;
    }
    embedding->type = (CylWeightType)type;
    const int64_t of_line = CYL_ALIGNMENT / (int64_t)cyl_weight_size(embedding->type, model->kernels->real_size);
    const int64_t numbers = type == CYL_WEIGHTS_REAL ? rows * size : (rows * size + of_line - 1) / of_line * of_line;
    CYL_TRY(cyl_typed_array_prepare(model, layer, spec, embedding->type, numbers, &embedding->table));
    return cyl_tensor_place(
        layer,
        (CylPlace){.role = "weight", .rows = rows, .columns = size, .data = embedding->table, .type = embedding->type});
}

/* y = row `index` of the table; numbers of another type are widened exactly */
static void copy_row(const CylModel *model, const Embedding *embedding, int64_t index, char *y) {
    const size_t real_size = model->kernels->real_size;
    if (embedding->type == CYL_WEIGHTS_REAL) {
        memcpy(y, cyl_at(model, embedding->table, index * embedding->size), (size_t)embedding->size * real_size);
        return;
    }
    const size_t at = (size_t)(index * embedding->size) * cyl_weight_size(embedding->type, real_size);
    const CylPackedRow row = {.numbers = (char *)embedding->table + at, .stride = 1};
    cyl_weight_formats[embedding->type].unpack(real_size, &row, y, embedding->size);
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
            copy_row(model, embedding, index, cyl_at(model, y, i * embedding->size));
        }
    }
}

const CylLayerKind cyl_layer_embedding = {.data_size = sizeof(Embedding), .prepare = prepare, .run = run};
