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
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum { SCORE_DOT = 0, SCORE_ADDITIVE, SCORE_CONCAT } Score;
typedef enum { MASKED_PENALTY = 0, MASKED_EXCLUDE, MASKED_ZERO, MASKED_AVERAGE } Masked;

typedef struct {
    Score score;
    Masked masked; /* what becomes of scores whose step does not count */
    bool is_causal;
    int32_t heads;
    double scale, factor; /* of the score; within tanh */
    void *weight;         /* additive: real (size of a head), concat: one number */
    int64_t weight_size;
    int32_t key, value;             /* values */
    int32_t mask_query, mask_value; /* values, -1 for none */
} Attention;

static int find(const char *text, const char *const *names, int count) {
    for (int i = 0; text && i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *text_of(const CylLayerSpec *spec, const char *name) {
    const CylOption *option = cyl_spec_option(spec, name);
    return option ? option->text : NULL;
}

static CylStatus read_options(const CylLayerSpec *spec, Attention *a) {
    static const char *const scores[] = {"dot", "additive", "concat"};
    static const char *const masked[] = {"penalty", "exclude", "zero", "average"};
    int score = find(text_of(spec, "score"), scores, 3), rule = find(text_of(spec, "masked"), masked, 4);
    const CylOption *causal = cyl_spec_option(spec, "causal");
    const CylOption *scale = cyl_spec_option(spec, "scale"), *factor = cyl_spec_option(spec, "factor");
    double heads;
    if (score < 0 || rule < 0 || !causal || causal->text || !scale || scale->text || !factor || factor->text ||
        cyl_spec_number(spec, "heads", 1.0, &heads) || heads > 1e6 || heads != (int32_t)heads) {
        return CYL_E_OPTION;
    }
    a->score = (Score)score;
    a->masked = (Masked)rule;
    a->is_causal = causal->number != 0.0;
    a->heads = (int32_t)heads;
    a->scale = scale->number;
    a->factor = factor->number;
    return CYL_OK;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Attention *a = calloc(1, sizeof *a);
    if (!a) {
        return CYL_E_MEMORY;
    }
    layer->data = a;
    if (read_options(spec, a)) {
        return CYL_E_OPTION;
    }
    a->value = cyl_spec_input(spec, "value");
    a->key = cyl_spec_input(spec, "key");
    a->mask_query = cyl_spec_input(spec, "mask_query");
    a->mask_value = cyl_spec_input(spec, "mask_value");
    if (a->value < 0 || a->key < 0 || layer->y < 0) {
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

static void write_number(const CylModel *model, void *data, int64_t i, double value) {
    if (model->kernels->real_size == sizeof(float)) {
        ((float *)data)[i] = (float)value;
    } else {
        ((double *)data)[i] = value;
    }
}

static double read_number(const CylModel *model, const void *data, int64_t i) {
    return model->kernels->real_size == sizeof(float) ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static double score_of(const CylModel *model, const Attention *a, const void *q, const void *k, int64_t size) {
    double found = a->score == SCORE_DOT
                       ? model->kernels->dot(q, k, size)
                       : model->kernels->additive(q, k, a->weight, a->weight_size > 1, a->factor, size);
    /* rounded as a number of the engine */
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
            score = (double)(float)(score - 1e9); /* as Keras rounds it, whose numbers are float32 */
        }
        used += counts;
        write_number(model, scores, k, score);
    }
    memset(y, 0, (size_t)width * model->kernels->real_size);
    if (!used && a->masked == MASKED_ZERO) {
        return;
    }
    for (int64_t k = 0; !used && a->masked == MASKED_AVERAGE && k < steps; k++) {
        write_number(model, scores, k, 0.0);
    }
    model->kernels->activate(&softmax, scores, scores, steps, false);
    for (int64_t k = 0; k < steps; k++) {
        double weight = read_number(model, scores, k);
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
    cyl_barrier(team);
}

typedef struct {
    int32_t other;
    bool is_normalised;
} Dot;

static CylStatus prepare_dot(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylOption *normalise = cyl_spec_option(spec, "normalize");
    Dot *dot = calloc(1, sizeof *dot);
    if (!dot) {
        return CYL_E_MEMORY;
    }
    layer->data = dot;
    if (!normalise || normalise->text) {
        return CYL_E_OPTION;
    }
    dot->is_normalised = normalise->number != 0.0;
    dot->other = cyl_spec_input(spec, "x1");
    if (dot->other < 0 || layer->y < 0) {
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
            write_number(model, y, c, found);
        }
        model->kernels->flush(y, y, columns);
    }
    cyl_barrier(team);
}

const CylLayerKind cyl_layer_attention = {.prepare = prepare, .bind = bind, .run = run};
const CylLayerKind cyl_layer_dot = {.prepare = prepare_dot, .run = run_dot};
