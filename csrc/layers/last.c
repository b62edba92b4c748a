/* Last: y = x at the last step that counts; zeros where a row has none. */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    (void)spec;
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    bool is_valid = x->kind == CYL_SEQUENCE && y->kind == CYL_VECTOR && x->features == y->features &&
                    (layer->mask < 0 || model->values[layer->mask].kind == CYL_MASK);
    return is_valid ? CYL_OK : CYL_E_VALUE;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    const CylValue *value = &model->values[layer->x];
    int64_t time = workspace->times[value->axis];
    size_t bytes = (size_t)value->features * model->kernels->real_size;
    int32_t slot = cyl_mask_slot(workspace, layer->mask);
    for (int64_t row = 0; team->thread == 0 && row < workspace->rows; row++) {
        int64_t t = time - 1;
        const uint8_t *mask = slot >= 0 ? cyl_mask_row(workspace, slot, row) : NULL;
        while (mask && t >= 0 && !mask[t]) {
            t--;
        }
        void *to = cyl_at(model, y->data, row * y->row_stride);
        if (t >= 0) {
            memcpy(to, cyl_at(model, x->data, row * x->row_stride + t * x->step_stride), bytes);
        } else if (cyl_begins_call(workspace, layer->x)) {
            memset(to, 0, bytes);
        }
    }
}

const CylLayerKind cyl_layer_last = {.prepare = prepare, .run = run};
