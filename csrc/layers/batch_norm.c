/*
 * Batch normalisation with fixed statistics: y = gain * (x - mean) / sqrt(variance + epsilon) + shift over the last
 * axis, folded when the model is built into y = x * scale + offset.
 */
#include "../internal.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    void *scale, *offset; /* real (features) */
    int32_t features;     /* of the last axis */
} BatchNorm;

static double number_at(const CylModel *model, const CylTensor *tensor, int64_t i, double other) {
    if (!tensor) {
        return other;
    }
    return model->kernels->real_size == sizeof(float) ? (double)((const float *)tensor->data)[i]
                                                      : ((const double *)tensor->data)[i];
}

static void write_number(const CylModel *model, void *data, int64_t i, double value) {
    if (model->kernels->real_size == sizeof(float)) {
        ((float *)data)[i] = (float)value;
    } else {
        ((double *)data)[i] = value;
    }
}

static CylStatus prepare(CylModel *model, CylNode *node, const CylNodeSpec *spec) {
    const char *const roles[4] = {"gain", "shift", "mean", "variance"};
    const CylValue *x = &model->values[node->x], *y = &model->values[node->y];
    const CylTensor *tensors[4];
    double epsilon;
    int32_t features = x->rank ? x->shape[x->rank - 1] : 1;
    if (x->features != y->features || x->has_time != y->has_time || !x->rank) {
        return CYL_E_VALUE;
    }
    for (int i = 0; i < 4; i++) {
        tensors[i] = cyl_spec_tensor(spec, roles[i]);
        if ((i >= 2 || tensors[i]) && cyl_check_tensor(tensors[i], features, -1)) {
            return CYL_E_TENSOR;
        }
    }
    if (cyl_spec_number(spec, "epsilon", 0.0, &epsilon)) {
        return CYL_E_OPTION;
    }
    BatchNorm *norm = calloc(1, sizeof *norm);
    if (!norm) {
        return CYL_E_MEMORY;
    }
    node->data = norm;
    norm->features = features;
    norm->scale = cyl_aligned_alloc((size_t)cyl_state_stride(features) * model->kernels->real_size);
    norm->offset = cyl_aligned_alloc((size_t)cyl_state_stride(features) * model->kernels->real_size);
    if (!norm->scale || !norm->offset) {
        return CYL_E_MEMORY;
    }
    for (int32_t i = 0; i < features; i++) {
        double scale = number_at(model, tensors[0], i, 1.0) / sqrt(number_at(model, tensors[3], i, 1.0) + epsilon);
        write_number(model, norm->scale, i, scale);
        write_number(model, norm->offset, i,
                     number_at(model, tensors[1], i, 0.0) - number_at(model, tensors[2], i, 0.0) * scale);
    }
    model->kernels->flush(norm->scale, norm->scale, features);
    model->kernels->flush(norm->offset, norm->offset, features);
    node->work = x->features;
    return CYL_OK;
}

static void release(CylNode *node) {
    BatchNorm *norm = node->data;
    cyl_aligned_free(norm->scale);
    cyl_aligned_free(norm->offset);
}

static void run(const CylModel *model, const CylNode *node, CylWorkspace *workspace, const CylTeam *team) {
    const BatchNorm *norm = node->data;
    int64_t steps = cyl_steps(workspace, node->y), features = model->values[node->x].features, begin, end;
    cyl_share(team, workspace->rows * steps, &begin, &end);
    for (int64_t j = begin; j < end; j++) {
        const char *x = cyl_step_at(workspace, node->x, j / steps, j % steps);
        char *y = cyl_step_at(workspace, node->y, j / steps, j % steps);
        for (int64_t at = 0; at < features; at += norm->features) {
            model->kernels->scale_shift(cyl_at(model, x, at), norm->scale, norm->offset, cyl_at(model, y, at),
                                        norm->features);
        }
    }
    cyl_barrier(team);
}

const CylLayer cyl_layer_batch_norm = {"batch_norm", prepare, release, NULL, run};
