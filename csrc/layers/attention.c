/*
 * Attention in heads: y[q] = sum over k of w[q][k] value[k], w[q] = softmax over k of score(query[q], key[k]) * scale.
 *
 * Scores: "dot" (Luong et al., 2015; Vaswani et al., 2017), q . k; "additive" (Bahdanau et al., 2015), sum of
 * weight * tanh(q + k); "concat", Keras's weight * sum of tanh(factor * (q + k)). Head h has the h-th part of the last
 * axis of each. dot: y[i][j] = a[i] . b[j], of vectors or sequences, each a perhaps divided by its length.
 */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>
#include <string.h>

typedef enum { SCORE_DOT = 0, SCORE_ADDITIVE, SCORE_CONCAT } Score;
typedef enum { MASKED_PENALTY = 0, MASKED_EXCLUDE, MASKED_ZERO, MASKED_AVERAGE } Masked;

typedef struct {
    Score score;
    Masked masked; /* what happens to the score of a step that is masked */
    bool is_causal;
    int32_t heads;
    double scale, factor; /* scale multiplies the score, factor the argument of tanh */
    void *weight;         /* additive: real (size of a head), concat: one number */
    int64_t weight_size;
    int32_t key, value;             /* values */
    int32_t mask_query, mask_value; /* values, -1 for none */
} Attention;

static CylStatus read_options(const CylLayerSpec *spec, Attention *a) {
    static const char *const scores[] = {"dot", "additive", "concat", NULL};
    static const char *const masked[] = {"penalty", "exclude", "zero", "average", NULL};
    int score, rule;
    CYL_TRY(cyl_spec_choice(spec, "score", scores, &score));
    CYL_TRY(cyl_spec_choice(spec, "masked", masked, &rule));
    CYL_TRY(cyl_spec_flag(spec, "causal", &a->is_causal));
    CYL_TRY(cyl_spec_whole(spec, "heads", 1, 1000000, &a->heads));
    CYL_TRY(cyl_spec_real(spec, "scale", &a->scale));
    CYL_TRY(cyl_spec_real(spec, "factor", &a->factor));
    a->score = (Score)score;
    a->masked = (Masked)rule;
    return CYL_OK;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Attention *a = layer->data;
    CYL_TRY(read_options(spec, a));
    a->value = cyl_spec_input(spec, "value");
    a->key = cyl_spec_input(spec, "key");
    a->mask_query = cyl_spec_input(spec, "mask_query");
    a->mask_value = cyl_spec_input(spec, "mask_value");
    if (a->value < 0 || a->key < 0) {
        return CYL_E_VALUE;
    }
    const CylValue *q = &model->values[layer->x], *k = &model->values[a->key], *v = &model->values[a->value];
    const CylValue *y = &model->values[layer->y];
    if (q->kind != CYL_SEQUENCE || k->kind != CYL_SEQUENCE || v->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE ||
        q->features != k->features || v->features != y->features || q->features % a->heads || v->features % a->heads) {
        return CYL_E_VALUE;
    }
    layer->mixes_times = layer->is_whole = true;
    layer->work = 64 * ((int64_t)q->features + v->features);
    const CylTensor *weight = cyl_spec_tensor(spec, "weight");
    a->weight_size = a->score == SCORE_ADDITIVE ? q->features / a->heads : 1;
    if ((a->score == SCORE_DOT) != !weight) {
        return CYL_E_TENSOR;
    }
    return weight ? cyl_vector_prepare(model, layer, spec, "weight", a->weight_size, &a->weight) : CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Attention *a = layer->data;
    size_t used = 0;
    CylLayerState state = {0};
    int64_t stride = cyl_state_stride(workspace->capacities[model->values[a->key].axis]);
    state.scratch = cyl_place(memory, &used, workspace->threads, (uint64_t)stride, model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static double score_of(const CylModel *model, const Attention *a, const void *q, const void *k, int64_t size) {
    double found = a->score == SCORE_DOT
                       ? model->kernels->dot(q, k, size)
                       : model->kernels->additive(q, k, a->weight, a->weight_size > 1, a->factor, size);
    /* rounded to the engine's type */
    return model->kernels->real_size == sizeof(float) ? (double)((float)found * (float)a->scale) : found * a->scale;
}

/* one head of one step of the query */
static void attend(const CylModel *model, const Attention *a, CylWorkspace *workspace, const CylLayer *layer,
                   int64_t row, int64_t step, int32_t head, void *scores, char *y) {
    const CylActivationSpec softmax = {CYL_ACT_SOFTMAX, 0.0, 0.0};
    int64_t size = model->values[layer->x].features / a->heads, width = model->values[a->value].features / a->heads;
    int64_t steps = cyl_steps(workspace, a->key), used = 0;
    int32_t slot = cyl_mask_slot(workspace, a->mask_value), of_query = cyl_mask_slot(workspace, a->mask_query);
    const uint8_t *mask = slot >= 0 ? cyl_mask_row(workspace, slot, row) : NULL;
    bool sees = of_query < 0 || cyl_mask_row(workspace, of_query, row)[step];
    const char *q = cyl_at(model, cyl_step_at(workspace, layer->x, row, step), head * size);
    for (int64_t k = 0; k < steps; k++) {
        bool counts = sees && (!mask || mask[k]) && (!a->is_causal || k <= step);
        double score = -INFINITY;
        if (counts || a->masked == MASKED_PENALTY) {
            score = score_of(model, a, q, cyl_at(model, cyl_step_at(workspace, a->key, row, k), head * size), size);
        }
        if (!counts && a->masked == MASKED_PENALTY) {
            score = (double)(float)(score - 1e9); /* rounded as in Keras, which computes in float32 */
        }
        used += counts;
        cyl_set(model, scores, k, score);
    }
    memset(y, 0, (size_t)width * model->kernels->real_size);
    if (!used && a->masked == MASKED_ZERO) {
        return;
    }
    for (int64_t k = 0; !used && a->masked == MASKED_AVERAGE && k < steps; k++) {
        cyl_set(model, scores, k, 0.0);
    }
    model->kernels->activate(&softmax, scores, scores, steps, false);
    for (int64_t k = 0; k < steps; k++) {
        double weight = cyl_get(model, scores, k);
        if (weight != 0.0) {
            model->kernels->add_scaled(cyl_at(model, cyl_step_at(workspace, a->value, row, k), head * width), weight, y,
                                       width);
        }
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Attention *a = layer->data;
    int64_t width = model->values[a->value].features / a->heads, steps = cyl_steps(workspace, layer->x);
    int64_t stride = cyl_state_stride(workspace->capacities[model->values[a->key].axis]);
    void *scores = cyl_at(model, workspace->states[layer->index].scratch, team->thread * stride);
    int32_t slot = cyl_mask_slot(workspace, layer->mask);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps,
                               2 * model->values[layer->x].features * cyl_steps(workspace, a->key));
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / steps, step = j % steps;
        char *y = cyl_step_at(workspace, layer->y, row, step);
        if (slot >= 0 && !cyl_mask_row(workspace, slot, row)[step]) {
            memset(y, 0, (size_t)(width * a->heads) * model->kernels->real_size);
            continue;
        }
        for (int32_t head = 0; head < a->heads; head++) {
            attend(model, a, workspace, layer, row, step, head, scores, cyl_at(model, y, head * width));
        }
    }
}

typedef struct {
    int32_t other;
    bool is_normalised;
} Dot;

static CylStatus prepare_dot(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Dot *dot = layer->data;
    CYL_TRY(cyl_spec_flag(spec, "normalize", &dot->is_normalised));
    dot->other = cyl_spec_input(spec, "x1");
    if (dot->other < 0) {
        return CYL_E_VALUE;
    }
    const CylValue *x = &model->values[layer->x], *other = &model->values[dot->other], *y = &model->values[layer->y];
    int64_t columns = other->has_time ? other->time : 1;
    if (x->rank != 1 || other->rank != 1 || x->features != other->features || columns < 1 || y->features != columns ||
        x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    layer->mixes_times = true;
    layer->work = x->features * columns;
    return CYL_OK;
}

static double norm_of(const CylModel *model, const void *x, int64_t size) {
    double square = model->kernels->dot(x, x, size);
    return sqrt(square > 1e-12 ? square : 1e-12);
}

static void run_dot(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Dot *dot = layer->data;
    int64_t size = model->values[layer->x].features, steps = cyl_steps(workspace, layer->x);
    int64_t columns = cyl_steps(workspace, dot->other);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * steps, layer->work); cyl_goes_on(&items, j);
         j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / steps, j % steps);
        char *y = cyl_step_at(workspace, layer->y, j / steps, j % steps);
        for (int64_t c = 0; c < columns; c++) {
            const char *other = cyl_step_at(workspace, dot->other, j / steps, c);
            double found = model->kernels->dot(x, other, size);
            if (dot->is_normalised) {
                found /= norm_of(model, x, size) * norm_of(model, other, size);
            }
            cyl_set(model, y, c, found);
        }
        model->kernels->flush(y, y, columns);
    }
}

const CylLayerKind cyl_layer_attention = {.data_size = sizeof(Attention), .prepare = prepare, .bind = bind, .run = run};
const CylLayerKind cyl_layer_dot = {.data_size = sizeof(Dot), .prepare = prepare_dot, .run = run_dot};
