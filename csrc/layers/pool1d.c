/*
 * Pooling along one axis, which is called time here: the maximum or the average of windows of `pool` steps. Steps of
 * the padding never win a maximum; they count in an average if `counts_padding`. Sums are taken in ascending order of
 * time. With a dilation a window may have steps of the padding alone: its maximum is -infinity, and its average 0, or
 * NaN where the padding does not count.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/along.h"
#include "layers/layers.h"
#include "layers/pool1d.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"
#include "run/kept.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>

typedef struct {
    CylTime1d time;
    CylAlong along;
    int64_t outputs; /* along the axis, if its size is known in advance */
    bool is_max, counts_padding;
} Pool;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const modes[] = {"average", "max", NULL};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Pool *pool = layer->data;
    int mode;
    int32_t size;
    CYL_TRY(cyl_spec_choice(spec, "mode", modes, &mode));
    CYL_TRY(cyl_spec_flag(spec, "count_include_pad", &pool->counts_padding));
    CYL_TRY(cyl_spec_whole(spec, "pool", 1, 1000000, &size));
    pool->is_max = mode == 1;
    CYL_TRY(cyl_along_read(model, layer, spec, &pool->along));
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE) {
        return CYL_E_VALUE;
    }
    CYL_TRY(cyl_time1d_read(spec, layer, size, &pool->time));
    const CylTime1d *time = &pool->time;
    if (time->padding == CYL_PAD_CAUSAL || time->before > time->reach / 2 ||
        time->after > time->reach / 2 + time->stride) {
        return CYL_E_OPTION;
    }
    layer->is_whole = layer->is_whole || time->before > 0; /* which steps of a window count depends on where it is */
    layer->work = x->features;
    /* the last window of ceil_mode has to begin within the input, whatever the number of steps */
    const int64_t steps = pool->along.over_time ? x->time : pool->along.size, sum = steps + layer->rule.add;
    pool->outputs = sum > 0 ? sum / layer->rule.divide : 0;
    const bool begins_within =
        steps ? (pool->outputs - 1) * time->stride - time->before < steps : time->stride <= time->reach - time->before;
    if (time->after > time->counted_after && !begins_within) {
        return CYL_E_OPTION;
    }
    if (!pool->along.over_time) {
        layer->time_kind = CYL_TIME_KEPT;
        layer->is_whole = false;
        layer->reach = layer->pads_before = layer->needs_multiple = 0;
    }
    const int64_t outputs = pool->along.over_time ? 1 : pool->outputs;
    return y->features == pool->along.outer * outputs * pool->along.inner ? CYL_OK : CYL_E_VALUE;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    CylLayerState state = {0};
    const size_t used = cyl_kept_bind(model, layer, workspace, memory, 0, &state);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* a window that begins at step `start` of x, which has the steps [first, steps) */
static void pool_step(const CylModel *model, const Pool *pool, const char *x, int64_t first, int64_t steps,
                      int64_t start, void *y, int64_t features) {
    const CylKernels *kernels = model->kernels;
    int64_t count = 0, padded = 0;
    for (int32_t k = 0; k < pool->time.kernel; k++) {
        int64_t t = start + (int64_t)k * pool->time.dilation;
        if (t < first || t >= steps) {
            /* The padding may count in an average. What ceil_mode adds to the last window lies beyond the padding and
               never counts. */
            padded += t < first || pool->time.padding == CYL_PAD_SAME || t < steps + pool->time.counted_after;
            continue;
        }
        int mode = !count ? CYL_MERGE_COPY : pool->is_max ? CYL_MERGE_MAX : CYL_MERGE_SUM;
        kernels->merge(mode, cyl_at(model, x, t * features), 1, y, features, 1.0);
        count++;
    }
    for (int64_t n = 0; n < features && !count; n++) {
        cyl_set(model, y, n, pool->is_max ? -(double)INFINITY : 0.0);
    }
    if (!pool->is_max) {
        const CylReal divisor = cyl_real(model, (double)(count + (pool->counts_padding ? padded : 0)));
        kernels->merge(CYL_MERGE_DIV, &divisor, 0, y, features, 1.0);
    }
}

int32_t cyl_pool_maxima(const CylLayer *layer, int32_t *axis) {
    const Pool *pool = layer->data;
    const CylTime1d *time = &pool->time;
    *axis = pool->along.axis;
    const bool is_side_by_side = time->dilation == 1 && time->stride == time->kernel && !time->before && !time->after &&
                                 time->padding != CYL_PAD_SAME;
    return pool->is_max && is_side_by_side ? time->kernel : 0;
}

/* how many of `count` windows, the first of which begins at step `start`, end before step `steps`; 0 if none */
static int64_t windows_within(const CylTime1d *time, int64_t start, int64_t steps, int64_t count) {
    const int64_t room = steps - start - time->reach, within = room < 0 ? 0 : room / time->stride + 1;
    return within < count ? within : count;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Pool *pool = layer->data;
    const CylAlong *along = &pool->along;
    const int64_t pieces = cyl_along_pieces(along, layer, workspace) * along->outer;
    const int64_t size = cyl_along_size(along, layer, workspace), inner = along->inner;
    const int64_t outputs = along->over_time ? cyl_steps(workspace, layer->y) : pool->outputs;
    const int64_t begun = workspace->begins[model->values[layer->x].axis], kept = cyl_kept_steps(model, layer);
    int64_t before, after, window;
    cyl_time1d_pads(&pool->time, size, &before, &after);
    window = along->over_time ? cyl_first_window(layer, workspace) : -before;
    window -= along->over_time && pool->time.padding == CYL_PAD_SAME ? before : 0;
    const bool is_joined = kept > 0 && window < 0 && outputs > 0;
    const int64_t earliest = !is_joined ? 0 : begun < kept ? -begun : -kept;
    const CylView from = cyl_kept_read(model, layer, workspace, team, is_joined);
    CylItems items;
    int64_t j = cyl_items(&items, workspace, team, workspace->rows * pieces * outputs, inner * pool->time.kernel);
    for (int64_t count; cyl_goes_on(&items, j); j += count) {
        const int64_t row = j / outputs / pieces, piece = j / outputs % pieces, t = j % outputs;
        const int64_t start = window + t * pool->time.stride;
        const char *x = cyl_at(model, from.data, row * from.row_stride + piece * size * inner);
        char *y = cyl_at(model, cyl_step_at(workspace, layer->y, row, 0), (piece * outputs + t) * inner);
        count = outputs - t < items.end - j ? outputs - t : items.end - j;
        count = pool->is_max && start >= earliest ? windows_within(&pool->time, start, size, count) : 0;
        if (count > 0) {
            const void *taps = cyl_at(model, x, start * inner);
            const CylWindows windows = {&taps, 1, pool->time.kernel, pool->time.dilation * inner,
                                        pool->time.stride * inner};
            model->kernels->largest(&windows, count, y, inner);
        } else {
            pool_step(model, pool, x, earliest, size, start, y, inner);
            count = 1;
        }
    }
}

const CylLayerKind cyl_layer_pool1d = {.data_size = sizeof(Pool), .prepare = prepare, .bind = bind, .run = run};
