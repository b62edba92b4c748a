/*
 * Layers over one axis, wherever it is.
 *
 * reduce makes one number of each line along it; over time a mask may say which steps count. sum, mean, max and min
 * are taken in ascending order, in the engine's type, and the mean of none is NaN. The others are taken in double:
 * prod; norm, the root of the sum of squares; any and all, 1 or 0, of numbers that are not 0; var, the sum of
 * (x - mean)^2 divided by the count less `correction`, or by 0 where that is below it; argmax and argmin, the place of
 * the first that no other exceeds, NaN exceeding every number; logsumexp, m + ln sum e^(x - m), m the maximum.
 *
 * softmax, y = e^x / sum e^x, or ln of it.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/along.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>
#include <string.h>

/* The first four are merged step by step, those up to ARGMIN folded in double. */
typedef enum { SUM = 0, MEAN, MAX, MIN, PROD, NORM, ANY, ALL, VAR, ARGMAX, ARGMIN, LOGSUMEXP } Mode;

typedef struct {
    CylAlong along;
    Mode mode;         /* of reduce */
    double correction; /* of VAR */
    bool is_log;       /* of softmax */
} Reduce;

/* whether steps that a mask leaves out may be skipped: the mode has a number for none */
static bool takes_mask(Mode mode) { return mode == SUM || mode == MEAN || (mode >= PROD && mode <= VAR); }

static CylStatus prepare_reduce(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const names[] = {"sum", "mean", "max",    "min",    "prod",      "norm", "any",
                                        "all", "var",  "argmax", "argmin", "logsumexp", NULL};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Reduce *reduce = layer->data;
    int mode;
    CYL_TRY(cyl_spec_choice(spec, "mode", names, &mode));
    CYL_TRY(cyl_along_read(model, layer, spec, &reduce->along));
    reduce->mode = (Mode)mode;
    if (reduce->mode == VAR) {
        CYL_TRY(cyl_spec_number(spec, "correction", 0.0, &reduce->correction));
    }
    const bool over_time = reduce->along.over_time;
    if (layer->mask >= 0 && (!over_time || !takes_mask(reduce->mode))) {
        return CYL_E_VALUE;
    }
    /* the result has the axes that are left; if they include no time, the first of several becomes its time */
    bool keeps_time = x->has_time && !over_time;
    int64_t left = reduce->along.outer * reduce->along.inner;
    int64_t given = y->features * (y->has_time && !keeps_time ? y->time : 1);
    if (left != given || (keeps_time && !y->has_time)) {
        return CYL_E_VALUE;
    }
    layer->time_kind = keeps_time ? CYL_TIME_KEPT : CYL_TIME_FIXED;
    layer->is_whole = over_time;
    layer->work = (reduce->mode < PROD ? 1 : 8) * (int64_t)x->features;
    return CYL_OK;
}

/* where the result of a piece of one row begins */
static char *result_at(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, int64_t row,
                       int64_t piece) {
    const Reduce *reduce = layer->data;
    bool has_steps = model->values[layer->x].has_time && !reduce->along.over_time;
    return cyl_step_at(workspace, layer->y, row, has_steps ? piece : 0);
}

/* sum, mean, max, min */
static void run_merged(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    static const CylMergeMode modes[] = {CYL_MERGE_SUM, CYL_MERGE_SUM, CYL_MERGE_MAX, CYL_MERGE_MIN};
    const Reduce *reduce = layer->data;
    int32_t slot = cyl_mask_slot(workspace, layer->mask);
    int64_t steps = cyl_steps(workspace, layer->x), pieces = cyl_along_pieces(&reduce->along, layer, workspace);
    int64_t size = cyl_along_size(&reduce->along, layer, workspace), inner = reduce->along.inner;
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * steps / pieces);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / pieces;
        const uint8_t *mask = slot >= 0 ? cyl_mask_row(workspace, slot, row) : NULL;
        const char *x = cyl_step_at(workspace, layer->x, row, j % pieces);
        char *y = result_at(model, layer, workspace, row, j % pieces);
        for (int64_t o = 0; o < reduce->along.outer; o++) {
            char *to = cyl_at(model, y, o * inner);
            int64_t count = 0;
            for (int64_t i = 0; i < size; i++) {
                if (mask && !mask[i]) {
                    continue;
                }
                model->kernels->merge(count++ ? modes[reduce->mode] : CYL_MERGE_COPY,
                                      cyl_at(model, x, (o * size + i) * inner), 1, to, inner, 1.0);
            }
            if (!count) {
                memset(to, 0, (size_t)inner * model->kernels->real_size);
            }
            if (reduce->mode == MEAN) {
                const CylReal divisor = cyl_real(model, (double)count);
                model->kernels->merge(CYL_MERGE_DIV, &divisor, 0, to, inner, 1.0);
            }
        }
    }
}

typedef struct {
    double found[CYL_LINES];
    double other[CYL_LINES]; /* VAR: the means; ARGMAX and ARGMIN: the numbers whose places are found */
} Fold;

/* Takes number i of each line, `a`. */
static void fold_one(Mode mode, Fold *fold, const double *a, int32_t lines, int64_t i) {
    double *found = fold->found, *other = fold->other;
    switch (mode) {
    case SUM: /* for the mean of VAR */
        for (int32_t n = 0; n < lines; n++) {
            found[n] += a[n];
        }
        break;
    case PROD:
        for (int32_t n = 0; n < lines; n++) {
            found[n] *= a[n];
        }
        break;
    case ANY:
        for (int32_t n = 0; n < lines; n++) {
            found[n] = a[n] != 0.0 ? 1.0 : found[n];
        }
        break;
    case ALL:
        for (int32_t n = 0; n < lines; n++) {
            found[n] = a[n] != 0.0 ? found[n] : 0.0;
        }
        break;
    case ARGMAX:
    case ARGMIN:
        for (int32_t n = 0; n < lines; n++) {
            bool exceeds = mode == ARGMAX ? a[n] > other[n] : a[n] < other[n];
            if (i == 0 || exceeds || (a[n] != a[n] && other[n] == other[n])) {
                found[n] = (double)i;
                other[n] = a[n];
            }
        }
        break;
    default: /* the squares of NORM, or about the mean of VAR */
        for (int32_t n = 0; n < lines; n++) {
            double distance = mode == VAR ? a[n] - other[n] : a[n];
            found[n] += distance * distance;
        }
    }
}

/* Folds all numbers of some lines, from the ones at `at` of x on; returns how many count. */
static int64_t fold_lines(const CylModel *model, Mode mode, const char *x, const uint8_t *mask, const int64_t *at,
                          int32_t lines, int64_t size, int64_t inner, Fold *fold) {
    int64_t count = 0;
    for (int32_t n = 0; n < lines; n++) {
        fold->found[n] = mode == PROD || mode == ALL ? 1.0 : 0.0;
    }
    for (int64_t i = 0; i < size; i++) {
        double a[CYL_LINES];
        if (mask && !mask[i]) {
            continue;
        }
        for (int32_t n = 0; n < lines; n++) {
            a[n] = cyl_get(model, x, at[n] + i * inner);
        }
        fold_one(mode, fold, a, lines, i);
        count++;
    }
    return count;
}

static void run_folded(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *reduce = layer->data;
    const CylAlong *along = &reduce->along;
    int32_t slot = cyl_mask_slot(workspace, layer->mask);
    int64_t pieces = cyl_along_pieces(along, layer, workspace), size = cyl_along_size(along, layer, workspace);
    CylItems items;
    for (int64_t j = cyl_along_items(&items, along, layer, workspace, team); cyl_goes_on(&items, j); j++) {
        const CylLines lines = cyl_along_lines(along, pieces, j);
        const uint8_t *mask = slot >= 0 ? cyl_mask_row(workspace, slot, lines.row) : NULL;
        const char *x = cyl_step_at(workspace, layer->x, lines.row, lines.piece);
        char *y = result_at(model, layer, workspace, lines.row, lines.piece);
        int64_t at[CYL_LINES], count;
        double divisor = 1.0;
        Fold fold;
        for (int32_t n = 0; n < lines.count; n++) {
            at[n] = cyl_along_first(along, size, lines.first + n);
        }
        if (reduce->mode == VAR) {
            count = fold_lines(model, SUM, x, mask, at, lines.count, size, along->inner, &fold);
            for (int32_t n = 0; n < lines.count; n++) {
                fold.other[n] = fold.found[n] / (double)count;
            }
            divisor = (double)count > reduce->correction ? (double)count - reduce->correction : 0.0;
        }
        fold_lines(model, reduce->mode, x, mask, at, lines.count, size, along->inner, &fold);
        for (int32_t n = 0; n < lines.count; n++) {
            double found = reduce->mode == NORM ? sqrt(fold.found[n]) : fold.found[n] / divisor;
            cyl_set_flushed(model, y, lines.first + n, found);
        }
    }
}

/* the scratch of a thread: one line */
static size_t bind_line(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Reduce *reduce = layer->data;
    size_t used = 0;
    CylLayerState state = {0};
    int64_t stride = cyl_state_stride(cyl_along_longest(model, &reduce->along, layer, workspace));
    state.scratch = cyl_place(memory, &used, workspace->threads, (uint64_t)stride, model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static char *line_of(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *reduce = layer->data;
    int64_t stride = cyl_state_stride(cyl_along_longest(model, &reduce->along, layer, workspace));
    return cyl_at(model, workspace->states[layer->index].scratch, team->thread * stride);
}

static size_t bind_reduce(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Reduce *reduce = layer->data;
    return reduce->mode == LOGSUMEXP ? bind_line(model, layer, workspace, memory) : 0;
}

/* m + ln sum e^(x - m): the logarithm of the softmax is, at the maximum m, less what is added to m */
static double log_sum_exp(const CylModel *model, char *line, int64_t size) {
    double most = cyl_get(model, line, 0);
    int64_t place = 0;
    for (int64_t i = 1; i < size; i++) {
        double a = cyl_get(model, line, i);
        if (a > most || a != a) {
            most = a;
            place = i;
        }
    }
    if (most - most != 0.0) {
        return most; /* NaN, or an infinity, which the others change no more */
    }
    model->kernels->log_softmax(line, line, size);
    return most - cyl_get(model, line, place);
}

static void run_logsumexp(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *reduce = layer->data;
    const CylAlong *along = &reduce->along;
    int64_t pieces = cyl_along_pieces(along, layer, workspace), size = cyl_along_size(along, layer, workspace);
    char *line = line_of(model, layer, workspace, team);
    CylItems items;
    for (int64_t j = cyl_along_items(&items, along, layer, workspace, team); cyl_goes_on(&items, j); j++) {
        const CylLines lines = cyl_along_lines(along, pieces, j);
        const char *x = cyl_step_at(workspace, layer->x, lines.row, lines.piece);
        char *y = result_at(model, layer, workspace, lines.row, lines.piece);
        for (int32_t n = 0; n < lines.count; n++) {
            int64_t first = cyl_along_first(along, size, lines.first + n);
            for (int64_t i = 0; i < size; i++) {
                cyl_set(model, line, i, cyl_get(model, x, first + i * along->inner));
            }
            cyl_set_flushed(model, y, lines.first + n, log_sum_exp(model, line, size));
        }
    }
}

static void run_reduce(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *reduce = layer->data;
    if (reduce->mode == LOGSUMEXP) {
        run_logsumexp(model, layer, workspace, team);
    } else if (reduce->mode >= PROD) {
        run_folded(model, layer, workspace, team);
    } else {
        run_merged(model, layer, workspace, team);
    }
}

static CylStatus prepare_softmax(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Reduce *softmax = layer->data;
    CYL_TRY(cyl_spec_flag(spec, "log", &softmax->is_log));
    CYL_TRY(cyl_along_read(model, layer, spec, &softmax->along));
    if (x->features != y->features || x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    layer->is_whole = softmax->along.over_time;
    layer->work = 8 * (int64_t)x->features;
    return CYL_OK;
}

static void run_softmax(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Reduce *softmax = layer->data;
    const CylActivationSpec spec = {CYL_ACT_SOFTMAX, 0.0, 0.0};
    size_t real = model->kernels->real_size;
    int64_t steps = cyl_steps(workspace, layer->x), pieces = cyl_along_pieces(&softmax->along, layer, workspace);
    int64_t size = cyl_along_size(&softmax->along, layer, workspace), inner = softmax->along.inner;
    char *line = line_of(model, layer, workspace, team);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces, layer->work * steps / pieces);
         cyl_goes_on(&items, j); j++) {
        const char *x = cyl_step_at(workspace, layer->x, j / pieces, j % pieces);
        char *y = cyl_step_at(workspace, layer->y, j / pieces, j % pieces);
        for (int64_t at = 0; at < softmax->along.outer * inner; at++) {
            int64_t first = cyl_along_first(&softmax->along, size, at);
            const char *from = inner == 1 ? cyl_at(model, x, first) : line;
            char *to = inner == 1 ? cyl_at(model, y, first) : line;
            for (int64_t i = 0; i < size && inner != 1; i++) {
                memcpy(cyl_at(model, line, i), cyl_at(model, x, first + i * inner), real);
            }
            if (softmax->is_log) {
                model->kernels->log_softmax(from, to, size);
            } else {
                model->kernels->activate(&spec, from, to, size, false);
            }
            for (int64_t i = 0; i < size && inner != 1; i++) {
                memcpy(cyl_at(model, y, first + i * inner), cyl_at(model, line, i), real);
            }
        }
        if (model->values[layer->y].feeds_layer) {
            model->kernels->flush(y, y, softmax->along.outer * size * inner);
        }
    }
}

const CylLayerKind cyl_layer_reduce = {
    .data_size = sizeof(Reduce), .prepare = prepare_reduce, .bind = bind_reduce, .run = run_reduce};
const CylLayerKind cyl_layer_softmax = {
    .data_size = sizeof(Reduce), .prepare = prepare_softmax, .bind = bind_line, .run = run_softmax};
