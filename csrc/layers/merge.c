/* Merge: several values of one length side by side, or added, multiplied or averaged in the order of the inputs. */
#include "../internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    bool is_concat;
    CylMergeMode mode; /* of the others */
    double scale;      /* applied at the end, 1 for none */
    int64_t positions; /* spatial positions of a step: concat joins the channels of each */
} Merge;

static CylStatus prepare(CylModel *model, CylNode *node, const CylNodeSpec *spec) {
    const CylOption *mode = cyl_spec_option(spec, "mode");
    if (!mode || !mode->text) {
        return CYL_E_OPTION;
    }
    Merge *merge = calloc(1, sizeof *merge);
    int32_t *inputs = calloc((size_t)spec->input_count, sizeof *inputs);
    if (!merge || !inputs) {
        free(merge);
        free(inputs);
        return CYL_E_MEMORY;
    }
    node->data = merge;
    node->inputs = inputs;
    node->input_count = spec->input_count;
    merge->scale = 1.0;
    if (strcmp(mode->text, "concat") == 0) {
        merge->is_concat = true;
    } else if (strcmp(mode->text, "mul") == 0) {
        merge->mode = CYL_MERGE_MUL;
    } else if (strcmp(mode->text, "sum") == 0 || strcmp(mode->text, "ave") == 0) {
        merge->mode = CYL_MERGE_SUM;
        merge->scale = mode->text[0] == 'a' ? 1.0 / spec->input_count : 1.0;
    } else {
        return CYL_E_OPTION;
    }
    double positions;
    if (cyl_spec_number(spec, "positions", 1.0, &positions) != CYL_OK) {
        return CYL_E_OPTION;
    }
    merge->positions = (int64_t)positions;
    const CylValue *y = &model->values[node->y];
    int64_t total = 0;
    for (int32_t i = 0; i < spec->input_count; i++) {
        char role[16] = "x";
        if (i > 0) {
            snprintf(role, sizeof role, "x%d", (int)i);
        }
        inputs[i] = cyl_spec_input(spec, role);
        if (inputs[i] < 0) {
            return CYL_E_VALUE;
        }
        const CylValue *x = &model->values[inputs[i]];
        total += x->features;
        if ((x->kind == CYL_SEQUENCE) != (y->kind == CYL_SEQUENCE) ||
            (!merge->is_concat && x->features != y->features) || x->features % merge->positions != 0) {
            return CYL_E_VALUE;
        }
    }
    return merge->is_concat && total != y->features ? CYL_E_VALUE : CYL_OK;
}

static void run(const CylModel *model, const CylNode *node, CylWorkspace *workspace, const CylTeam *team) {
    const Merge *merge = node->data;
    const CylView *y = &workspace->views[node->y];
    const CylValue *value = &model->values[node->y];
    int64_t steps = value->kind == CYL_SEQUENCE ? workspace->times[value->axis] : 1, begin, end;
    cyl_share(team, workspace->rows * steps, &begin, &end);
    for (int64_t j = begin; j < end; j++) {
        int64_t row = j / steps, t = j % steps;
        char *to = cyl_at(model, y->data, row * y->row_stride + t * y->step_stride);
        for (int32_t i = 0; i < node->input_count; i++) {
            const CylView *x = &workspace->views[node->inputs[i]];
            int64_t features = model->values[node->inputs[i]].features;
            const void *from = cyl_at(model, x->data, row * x->row_stride + t * x->step_stride);
            if (merge->is_concat) {
                int64_t channels = features / merge->positions, all = value->features / merge->positions;
                for (int64_t p = 0; p < merge->positions; p++) {
                    memcpy(cyl_at(model, to, p * all), cyl_at(model, from, p * channels),
                           (size_t)channels * model->kernels->real_size);
                }
                to = cyl_at(model, to, channels);
            } else if (i == 0) {
                memcpy(to, from, (size_t)features * model->kernels->real_size);
            } else {
                model->kernels->merge(merge->mode, from, to, features, 1.0);
            }
        }
        if (merge->scale != 1.0) {
            model->kernels->merge(CYL_MERGE_SCALE, to, to, value->features, merge->scale);
        }
    }
    cyl_barrier(team);
}

const CylLayer cyl_layer_merge = {"merge", prepare, NULL, run};
