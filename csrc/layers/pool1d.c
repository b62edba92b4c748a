/*
 * Pooling over time: the maximum or the average of windows of `pool` steps. Steps of the padding never win a maximum;
 * they count in an average if `counts_padding`. Sums are taken in ascending order of time.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

typedef struct {
    CylTime1d time;
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
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || x->features != y->features) {
        return CYL_E_VALUE;
    }
    CYL_TRY(cyl_time1d_read(spec, layer, size, &pool->time));
    const CylTime1d *time = &pool->time;
    if (time->padding == CYL_PAD_CAUSAL || time->before > time->reach / 2 ||
        time->after > time->reach / 2 + time->stride) {
        return CYL_E_OPTION;
    }
    layer->work = x->features;
    return CYL_OK;
}

static void pool_step(const CylModel *model, const Pool *pool, const char *x, int64_t steps, int64_t first,
                      int64_t before, void *y, int64_t features) {
    const CylKernels *kernels = model->kernels;
    int64_t count = 0, padded = 0, start = first * pool->time.stride - before;
    for (int32_t k = 0; k < pool->time.kernel; k++) {
        int64_t t = start + (int64_t)k * pool->time.dilation;
        if (t < 0 || t >= steps) {
            /* The padding may count in an average. What ceil_mode adds to the last window lies beyond the padding and
               never counts. */
            padded += t < 0 || t < steps + pool->time.counted_after;
            continue;
        }
        int mode = !count ? CYL_MERGE_COPY : pool->is_max ? CYL_MERGE_MAX : CYL_MERGE_SUM;
        kernels->merge(mode, cyl_at(model, x, t * features), 1, y, features, 1.0);
        count++;
    }
    if (!pool->is_max) {
        const CylReal divisor = cyl_real(model, (double)(count + (pool->counts_padding ? padded : 0)));
        kernels->merge(CYL_MERGE_DIV, &divisor, 0, y, features, 1.0);
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Pool *pool = layer->data;
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    int64_t steps = cyl_steps(workspace, layer->x), outputs = cyl_steps(workspace, layer->y), before, after;
    cyl_time1d_pads(&pool->time, steps, &before, &after);
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * outputs, layer->work * pool->time.kernel);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / outputs, t = j % outputs;
        pool_step(model, pool, cyl_at(model, x->data, row * x->row_stride), steps, t, before,
                  cyl_at(model, y->data, row * y->row_stride + t * y->step_stride), model->values[layer->x].features);
    }
}

const CylLayerKind cyl_layer_pool1d = {.data_size = sizeof(Pool), .prepare = prepare, .run = run};
