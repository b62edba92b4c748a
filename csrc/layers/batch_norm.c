/*
 * Batch normalisation with fixed statistics: y = gain * (x - mean) / sqrt(variance + epsilon) + shift over the last
 * axis, folded when the model is finished into y = x * scale + offset.
 */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>

enum { GAIN = 0, SHIFT, MEAN, VARIANCE, TENSORS };

typedef struct {
    void *tensors[TENSORS]; /* real (features) each; NULL for no gain or shift */
    int32_t features;       /* of the last axis */
    double epsilon;
} BatchNorm;

/* number i of a tensor, or `other` where there is no tensor */
static double number_at(const CylModel *model, const void *data, int64_t i, double other) {
    return data ? cyl_get(model, data, i) : other;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const roles[TENSORS] = {"gain", "shift", "mean", "variance"};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->features != y->features || x->has_time != y->has_time || !x->rank) {
        return CYL_E_VALUE;
    }
    BatchNorm *norm = layer->data;
    norm->features = x->shape[x->rank - 1];
    layer->work = x->features;
    CYL_TRY(cyl_spec_number(spec, "epsilon", 0.0, &norm->epsilon));
    for (int i = 0; i < TENSORS; i++) {
        const CylTensor *tensor = cyl_spec_tensor(spec, roles[i]);
        if (!tensor && (i == GAIN || i == SHIFT)) {
            continue;
        }
        CYL_TRY(cyl_check_tensor(tensor, norm->features, -1));
        CYL_TRY(cyl_array_prepare(model, layer, spec, cyl_state_stride(norm->features), &norm->tensors[i]));
        /* a variance is a square: the subnormal rule would make it 0 even for numbers far above the threshold */
        CYL_TRY(cyl_tensor_place(layer, (CylPlace){.role = roles[i],
                                                   .rows = norm->features,
                                                   .columns = 1,
                                                   .is_exact = i == VARIANCE,
                                                   .data = norm->tensors[i]}));
    }
    return CYL_OK;
}

/* derived: real (2, state_stride(features)), scale and offset */
static CylStatus finish(const CylModel *model, CylLayer *layer) {
    const BatchNorm *norm = layer->data;
    int64_t stride = cyl_state_stride(norm->features);
    layer->derived = cyl_aligned_alloc(cyl_size_mul(2 * (uint64_t)stride, model->kernels->real_size));
    if (!layer->derived) {
        return CYL_E_MEMORY;
    }
    for (int32_t i = 0; i < norm->features; i++) {
        double variance = number_at(model, norm->tensors[VARIANCE], i, 1.0) + norm->epsilon;
        if (variance <= 0.0) {
            return CYL_E_TENSOR;
        }
        double scale = number_at(model, norm->tensors[GAIN], i, 1.0) / sqrt(variance);
        cyl_set(model, layer->derived, i, scale);
        cyl_set(model, layer->derived, stride + i,
                number_at(model, norm->tensors[SHIFT], i, 0.0) - number_at(model, norm->tensors[MEAN], i, 0.0) * scale);
    }
    model->kernels->flush(layer->derived, layer->derived, 2 * stride);
    return CYL_OK;
}

/* y may be x */
static void normalise(const CylModel *model, const CylLayer *layer, const void *x, void *y, int64_t count) {
    const BatchNorm *norm = layer->data;
    const void *scale = layer->derived, *offset = cyl_at(model, layer->derived, cyl_state_stride(norm->features));
    for (int64_t at = 0; at < count; at += norm->features) {
        model->kernels->scale_shift(cyl_at(model, x, at), scale, offset, cyl_at(model, y, at), norm->features);
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    int64_t steps = cyl_steps(workspace, layer->y), features = model->values[layer->x].features;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        normalise(model, layer, cyl_step_at(workspace, layer->x, j / steps, j % steps),
                  cyl_step_at(workspace, layer->y, j / steps, j % steps), features);
    }
}

static bool may_follow(const CylLayer *layer) {
    (void)layer;
    return true;
}

static void follow(const CylModel *model, const CylLayer *layer, void *y, int64_t count) {
    normalise(model, layer, y, y, count);
}

const CylLayerKind cyl_layer_batch_norm = {.data_size = sizeof(BatchNorm),
                                           .prepare = prepare,
                                           .finish = finish,
                                           .run = run,
                                           .may_follow = may_follow,
                                           .follow = follow};
