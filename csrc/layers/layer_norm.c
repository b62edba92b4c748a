/*
 * Normalisation by statistics of the input itself.
 *
 * Layer normalisation (Ba et al., 2016) over the last `axes` axes, per step unless they reach to the time:
 *   "layer"   y = (x - mean) / sqrt(variance + epsilon) * gain + shift
 *   "rms"     y = x / sqrt(mean of x^2 + epsilon) * gain + shift
 *   "scaled"  y = x / sqrt(variance + epsilon) * gain + shift, Keras's rms_scaling
 * Group normalisation (Wu and He, 2018): as "layer", over all steps and the channels of each group.
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

typedef struct {
    bool is_centred, subtracts_mean;
    double epsilon;
    int64_t size;       /* of layer normalisation: numbers that are normalised together */
    int32_t groups;     /* of group normalisation */
    void *gain, *shift; /* real (affine_size); NULL until `finish` where there is none */
    int64_t affine_size;
} Norm;

static CylStatus prepare_affine(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, int64_t size,
                                Norm *norm) {
    norm->affine_size = size;
    if (cyl_spec_tensor(spec, "gain")) {
        CYL_TRY(cyl_vector_prepare(model, layer, spec, "gain", size, &norm->gain));
    }
    if (cyl_spec_tensor(spec, "shift")) {
        CYL_TRY(cyl_vector_prepare(model, layer, spec, "shift", size, &norm->shift));
    }
    return CYL_OK;
}

/* Makes a gain of ones and a shift of zeros, in place of what the spec does not have. */
static CylStatus finish(const CylModel *model, CylLayer *layer) {
    Norm *norm = layer->data;
    if (norm->gain && norm->shift) {
        return CYL_OK;
    }
    int64_t size = norm->affine_size;
    layer->derived = cyl_aligned_alloc(cyl_size_mul(2 * (uint64_t)size, model->kernels->real_size));
    if (!layer->derived) {
        return CYL_E_MEMORY;
    }
    for (int64_t i = 0; i < size; i++) {
        cyl_set(model, layer->derived, i, 1.0);
    }
    norm->gain = norm->gain ? norm->gain : layer->derived;
    norm->shift = norm->shift ? norm->shift : cyl_at(model, layer->derived, size);
    return CYL_OK;
}

static CylStatus prepare_layer(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const modes[] = {"layer", "rms", "scaled", NULL};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Norm *norm = layer->data;
    int mode;
    int32_t axes;
    CYL_TRY(cyl_spec_choice(spec, "mode", modes, &mode));
    CYL_TRY(cyl_spec_whole(spec, "axes", 1, x->rank + x->has_time, &axes));
    CYL_TRY(cyl_spec_number(spec, "epsilon", 0.0, &norm->epsilon));
    norm->is_centred = mode != 1;
    norm->subtracts_mean = mode == 0;
    if (x->features != y->features || x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    bool is_whole = axes > x->rank;
    norm->size = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        norm->size *= x->rank - i <= axes ? x->shape[i] : 1;
    }
    if (is_whole && (!x->time || x->time * norm->size > (1 << 28))) {
        return CYL_E_VALUE;
    }
    norm->size *= is_whole ? x->time : 1;
    layer->is_whole = is_whole;
    layer->work = 4 * (int64_t)x->features;
    return prepare_affine(model, layer, spec, norm->size, norm);
}

static void run_layer(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Norm *norm = layer->data;
    int64_t features = model->values[layer->x].features, steps = cyl_steps(workspace, layer->x);
    int64_t size = norm->size, together = size > features ? steps : 1, pieces = steps / together;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * together);
         cyl_goes_on(&items, j); j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / pieces, j % pieces);
        char *y = cyl_step_at(workspace, layer->y, j / pieces, j % pieces);
        for (int64_t at = 0; at < features * together; at += size) {
            double found[2];
            model->kernels->moments(cyl_at(model, x, at), 1, size, size, norm->is_centred, found);
            model->kernels->normalise_row(cyl_at(model, x, at), norm->gain, norm->shift, 1, cyl_at(model, y, at), size,
                                          norm->subtracts_mean ? found[0] : 0.0, found[1], norm->epsilon);
        }
    }
}

static CylStatus prepare_group(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Norm *norm = layer->data;
    CYL_TRY(cyl_spec_whole(spec, "groups", 1, 1000000, &norm->groups));
    CYL_TRY(cyl_spec_number(spec, "epsilon", 0.0, &norm->epsilon));
    int32_t channels = x->rank ? x->shape[x->rank - 1] : 1;
    if (x->features != y->features || x->has_time != y->has_time || !x->rank || channels % norm->groups) {
        return CYL_E_VALUE;
    }
    layer->is_whole = true;
    layer->work = 4 * (int64_t)x->features;
    return prepare_affine(model, layer, spec, channels, norm);
}

static void run_group(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Norm *norm = layer->data;
    const CylValue *value = &model->values[layer->x];
    int64_t channels = value->shape[value->rank - 1], size = channels / norm->groups;
    int64_t segments = cyl_steps(workspace, layer->x) * (value->features / channels);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * norm->groups, segments * size);
         cyl_goes_on(&items, j); j++) {
        int64_t first = j % norm->groups * size;
        const char *x = cyl_at(model, cyl_step_at(workspace, layer->x, j / norm->groups, 0), first);
        char *y = cyl_at(model, cyl_step_at(workspace, layer->y, j / norm->groups, 0), first);
        double found[2];
        model->kernels->moments(x, segments, channels, size, true, found);
        for (int64_t s = 0; s < segments; s++) {
            model->kernels->normalise_row(cyl_at(model, x, s * channels), cyl_at(model, norm->gain, first),
                                          cyl_at(model, norm->shift, first), 1, cyl_at(model, y, s * channels), size,
                                          found[0], found[1], norm->epsilon);
        }
    }
}

const CylLayerKind cyl_layer_layer_norm = {
    .data_size = sizeof(Norm), .prepare = prepare_layer, .finish = finish, .run = run_layer};
const CylLayerKind cyl_layer_group_norm = {
    .data_size = sizeof(Norm), .prepare = prepare_group, .finish = finish, .run = run_group};
