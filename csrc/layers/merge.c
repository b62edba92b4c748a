/*
 * Merge: several values side by side along an axis; or added, multiplied, ... element by element in the order of the
 * inputs, or a function of two, an axis of size 1, or one that is not there, repeated as the others need it.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/broadcast.h"
#include "layers/layers.h"
#include "layers/pairs.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdio.h>
#include <string.h>

typedef enum { MERGE_CONCAT, MERGE_IN_TURN, MERGE_PAIR } Way;

typedef struct {
    Way way;
    CylMergeMode mode; /* of inputs taken in turn */
    CylPair pair;      /* of exactly two */
    double scale;      /* applied at the end to what was taken in turn, 1 for none */
    int32_t axis;      /* concat: counted from the last one */
} Merge;

static CylStatus check_concat(const CylModel *model, CylLayer *layer, Merge *merge) {
    const CylValue *y = &model->values[layer->y];
    int64_t whole[CYL_MAX_RANK] = {0}, sizes[CYL_MAX_RANK], total = 0;
    int32_t rank = cyl_sizes_of(y, y->time, whole);
    if (merge->axis >= rank) {
        return CYL_E_OPTION;
    }
    bool along_time = y->has_time && merge->axis == rank - 1;
    for (int32_t i = 0; i < layer->input_count; i++) {
        const CylValue *x = &model->values[layer->inputs[i]];
        if (x->has_time != y->has_time || cyl_sizes_of(x, x->time, sizes) != rank) {
            return CYL_E_VALUE;
        }
        for (int32_t a = 0; a < rank; a++) {
            if (a != merge->axis && sizes[a] != whole[a]) {
                return CYL_E_VALUE;
            }
        }
        if (along_time && !x->time) {
            return CYL_E_VALUE;
        }
        total += sizes[merge->axis];
    }
    if (along_time) {
        layer->time_kind = CYL_TIME_FIXED;
        layer->mixes_times = true;
    }
    return total == whole[merge->axis] ? CYL_OK : CYL_E_VALUE;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const names[] = {
        "concat", "sum",       "ave",  "mul",        "sub",     "max",           "min",      "div", /* as `modes` */
        "pow",    "mod",       "fmod", "floor_div",  "atan2",   "hypot",         "copysign",        /* as CylPair */
        "equal",  "not_equal", "less", "less_equal", "greater", "greater_equal", "and",      "or",  "xor", NULL};
    static const CylMergeMode modes[] = {CYL_MERGE_COPY, CYL_MERGE_SUM, CYL_MERGE_SUM, CYL_MERGE_MUL,
                                         CYL_MERGE_SUB,  CYL_MERGE_MAX, CYL_MERGE_MIN, CYL_MERGE_DIV};
    const int in_turn = sizeof modes / sizeof *modes;
    Merge *merge = layer->data;
    int mode;
    int32_t axis;
    CYL_TRY(cyl_spec_choice(spec, "mode", names, &mode));
    CYL_TRY(cyl_spec_whole(spec, "axis", -CYL_MAX_RANK, -1, &axis));
    merge->way = mode == 0 ? MERGE_CONCAT : mode < in_turn ? MERGE_IN_TURN : MERGE_PAIR;
    merge->mode = mode < in_turn ? modes[mode] : CYL_MERGE_COPY;
    merge->pair = (CylPair)(mode < in_turn ? 0 : mode - in_turn);
    merge->scale = mode == 2 ? 1.0 / spec->input_count : 1.0;
    merge->axis = -1 - axis;
    if (merge->way == MERGE_PAIR && spec->input_count != 2) {
        return CYL_E_VALUE;
    }
    for (int32_t i = 0; i < spec->input_count; i++) {
        char role[16] = "x";
        if (i > 0) {
            snprintf(role, sizeof role, "x%d", (int)i);
        }
        /* a file stores inputs in alphabetic order, "x10" before "x2" */
        layer->inputs[i] = cyl_spec_input(spec, role);
        if (layer->inputs[i] < 0) {
            return CYL_E_VALUE;
        }
    }
    const int32_t each = merge->way == MERGE_PAIR ? cyl_pair_work(merge->pair) : 1;
    layer->work = (int64_t)model->values[layer->y].features * each;
    return merge->way == MERGE_CONCAT ? check_concat(model, layer, merge) : cyl_check_broadcast(model, layer);
}

/* Concatenates one row. The axes before the concatenated one are the outer loop; those after it are copied with it. */
static void concat_row(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, int64_t step,
                       int64_t steps) {
    const Merge *merge = layer->data;
    int64_t sizes[CYL_MAX_RANK];
    char *y = cyl_step_at(workspace, layer->y, row, step);
    size_t real = model->kernels->real_size;
    int64_t whole[CYL_MAX_RANK], inner = 1, outer = 1;
    int32_t rank = cyl_sizes_of(&model->values[layer->y], steps, whole);
    for (int32_t a = 0; a < rank; a++) {
        inner *= a < merge->axis ? whole[a] : 1;
        outer *= a > merge->axis ? whole[a] : 1;
    }
    int64_t offset = 0;
    for (int32_t i = 0; i < layer->input_count; i++) {
        int32_t value = layer->inputs[i];
        bool along_time = model->values[value].has_time && merge->axis == rank - 1;
        cyl_sizes_of(&model->values[value], along_time ? cyl_steps(workspace, value) : steps, sizes);
        int64_t part = sizes[merge->axis] * inner;
        const char *x = cyl_step_at(workspace, value, row, step);
        for (int64_t o = 0; o < outer; o++) {
            memcpy(cyl_at(model, y, o * whole[merge->axis] * inner + offset), cyl_at(model, x, o * part),
                   (size_t)part * real);
        }
        offset += part;
    }
}

/* y = y (op) x, or y = x at first */
static void take(const CylModel *model, int mode, const char *const *x, const int64_t *steps, char *y, int64_t size) {
    model->kernels->merge(mode, x[0], steps[0] ? 1 : 0, y, size, 1.0);
}

/* what is read at once: one input after the other, or both of a pair */
static int32_t passes(const CylLayer *layer) {
    const Merge *merge = layer->data;
    return merge->way == MERGE_CONCAT ? 0 : merge->way == MERGE_PAIR ? 1 : layer->input_count;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    (void)model;
    return cyl_broadcast_bind(layer, workspace, memory, passes(layer));
}

static void resolve(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace) {
    const Merge *merge = layer->data;
    CylBroadcast *b = workspace->states[layer->index].bound;
    for (int32_t i = 0; i < passes(layer); i++) {
        b[i] = (CylBroadcast){.model = model, .elementwise = take, .count = 1};
        b[i].function = (int)(i == 0 ? CYL_MERGE_COPY : merge->mode);
        if (merge->way == MERGE_PAIR) {
            b[i] =
                (CylBroadcast){.model = model, .elementwise = cyl_pair_run, .function = (int)merge->pair, .count = 2};
        }
        cyl_broadcast_resolve(layer, workspace, i, &b[i]);
    }
}

/* Numbers that are combined at once, few enough to stay in the first cache while all inputs are added. */
enum { COMBINED_NUMBERS = 4096 };

static void combine(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, int64_t step,
                    int64_t steps) {
    const Merge *merge = layer->data;
    const CylBroadcast *b = workspace->states[layer->index].bound;
    for (int32_t i = 0; i < layer->input_count; i++) {
        cyl_broadcast_steps(&b[i], row, step, steps);
    }
    if (merge->scale != 1.0) {
        char *y = cyl_step_at(workspace, layer->y, row, step);
        model->kernels->merge(CYL_MERGE_SCALE, y, 1, y, steps * model->values[layer->y].features, merge->scale);
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Merge *merge = layer->data;
    if (merge->way == MERGE_PAIR) {
        cyl_broadcast_run(layer, workspace->states[layer->index].bound, workspace, team);
        return;
    }
    const CylValue *value = &model->values[layer->y];
    const bool is_concat = merge->way == MERGE_CONCAT;
    int64_t steps = cyl_steps(workspace, layer->y), rank = value->rank + value->has_time;
    /* Concatenation goes step by step, unless it is along time; the other modes take several steps at once. */
    bool of_rows = is_concat && value->has_time && merge->axis == rank - 1;
    int64_t pieces = of_rows ? 1 : steps, most = COMBINED_NUMBERS / value->features;
    CylItems items;
    int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * steps / pieces);
    for (int64_t count; cyl_goes_on(&items, j); j += count) {
        count = 1;
        if (is_concat) {
            concat_row(model, layer, workspace, j / pieces, j % pieces, of_rows ? steps : 1);
        } else {
            count = most < 1 ? 1 : most;
            count = count > items.end - j ? items.end - j : count;
            count = count > pieces - j % pieces ? pieces - j % pieces : count;
            combine(model, layer, workspace, j / pieces, j % pieces, count);
        }
    }
}

const CylLayerKind cyl_layer_merge = {
    .data_size = sizeof(Merge), .prepare = prepare, .bind = bind, .resolve = resolve, .run = run};
