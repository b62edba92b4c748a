/*
 * Topk: the k largest or smallest numbers along one axis in their order, and their places there as numbers. Of equal
 * ones the first comes first; NaN counts as larger than every number.
 */
#include "cylstm.h"
#include "layers/along.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    CylAlong along;
    int32_t k; /* 0 for all */
    bool is_largest;
    int32_t places; /* the value of them, -1 for none */
} Topk;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Topk *topk = layer->data;
    CYL_TRY(cyl_along_read(model, layer, spec, &topk->along));
    CYL_TRY(cyl_spec_whole(spec, "k", 0, 1 << 28, &topk->k));
    CYL_TRY(cyl_spec_flag(spec, "largest", &topk->is_largest));
    const bool over_time = topk->along.over_time;
    int64_t lines = topk->along.outer * topk->along.inner, size = over_time ? x->time : topk->along.size;
    topk->places = cyl_spec_output(spec, "indices");
    bool fits = x->has_time == y->has_time;
    if (!topk->k) {
        fits = fits && x->features == y->features && x->time == y->time;
    } else {
        fits = fits && topk->k <= size && (over_time ? y->features * y->time : y->features) == lines * topk->k;
    }
    if (topk->places >= 0) {
        const CylValue *places = &model->values[topk->places];
        fits = fits && places->features == y->features && places->has_time == y->has_time && places->time == y->time;
    }
    if (!fits) {
        return CYL_E_VALUE;
    }
    if (topk->places >= 0) {
        model->values[topk->places].is_read = true; /* they are written whether or not they are used */
    }
    layer->time_kind = over_time && topk->k ? CYL_TIME_FIXED : CYL_TIME_KEPT;
    layer->is_whole = over_time;
    layer->work = 64 * (int64_t)x->features;
    return CYL_OK;
}

/* of each thread: the numbers of a line, double (longest), and two orders of its places, int32 (2, longest) */
static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Topk *topk = layer->data;
    size_t used = 0;
    CylLayerState state = {0};
    uint64_t longest = (uint64_t)cyl_along_longest(model, &topk->along, layer, workspace);
    state.scratch = cyl_place(memory, &used, workspace->threads, longest, 2 * sizeof(double));
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static bool comes_before(double a, double b, bool is_largest) {
    if (is_largest) {
        return a > b || (a != a && b == b);
    }
    return a < b || (a == a && b != b);
}

/* Sorts the places of a line's numbers, by merging ever longer runs; returns which of the two orders they are in. */
static const int32_t *sort(const double *line, int64_t size, bool is_largest, int32_t *order, int32_t *other) {
    for (int64_t i = 0; i < size; i++) {
        order[i] = (int32_t)i;
    }
    for (int64_t width = 1; width < size; width *= 2) {
        for (int64_t begin = 0; begin < size; begin += 2 * width) {
            int64_t middle = begin + width < size ? begin + width : size;
            int64_t end = begin + 2 * width < size ? begin + 2 * width : size;
            for (int64_t to = begin, a = begin, b = middle; to < end; to++) {
                bool is_second = a == middle || (b < end && comes_before(line[order[b]], line[order[a]], is_largest));
                other[to] = order[is_second ? b++ : a++];
            }
        }
        int32_t *sorted = other;
        other = order;
        order = sorted;
    }
    return order;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Topk *topk = layer->data;
    const CylAlong *along = &topk->along;
    int64_t pieces = cyl_along_pieces(along, layer, workspace), size = cyl_along_size(along, layer, workspace);
    int64_t longest = cyl_along_longest(model, along, layer, workspace), k = topk->k ? topk->k : size;
    double *line = (double *)workspace->states[layer->index].scratch + team->thread * 2 * longest;
    int32_t *order = (int32_t *)(void *)(line + longest);
    CylItems items;
    for (int64_t j = cyl_along_items(&items, along, layer, workspace, team); cyl_goes_on(&items, j); j++) {
        const CylLines lines = cyl_along_lines(along, pieces, j);
        const char *x = cyl_step_at(workspace, layer->x, lines.row, lines.piece);
        char *y = cyl_step_at(workspace, layer->y, lines.row, lines.piece);
        char *places = topk->places >= 0 ? cyl_step_at(workspace, topk->places, lines.row, lines.piece) : NULL;
        for (int64_t n = lines.first; n < lines.first + lines.count; n++) {
            int64_t from = cyl_along_first(along, size, n), to = cyl_along_first(along, k, n);
            for (int64_t i = 0; i < size; i++) {
                line[i] = cyl_get(model, x, from + i * along->inner);
            }
            const int32_t *sorted = sort(line, size, topk->is_largest, order, order + longest);
            for (int64_t i = 0; i < k; i++) {
                cyl_set(model, y, to + i * along->inner, line[sorted[i]]);
                if (places) {
                    cyl_set(model, places, to + i * along->inner, (double)sorted[i]);
                }
            }
        }
    }
}

const CylLayerKind cyl_layer_topk = {.data_size = sizeof(Topk), .prepare = prepare, .bind = bind, .run = run};
