/*
 * Windows: the last steps of each row are kept, and every new step is the prediction of them from a zero state.
 *
 * Recurrent layers that read an input of some features go over it anew at every step, but W x of a step does not
 * change: it is computed when the step comes and kept beside it, and the prediction runs the recurrent halves alone
 * (recurrent.c). The same chain of multiply-adds, hence the same bits.
 *
 * Each row has a ring of its own, because rows may rest while others go on. The prediction is a call of cyl_predict_in
 * on the windows that are whole, put into the order of time, in workspaces that stay with the window.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/axes.h"
#include "model/matrix.h"
#include "model/model.h"
#include "run/recurrent.h"
#include "platform/ieee.h"
#include "platform/memory.h"
#include "model/status.h"
#include "run/call.h"
#include "run/predict.h"
#include "run/rows.h"
#include "platform/tuning.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* of one input */
typedef struct {
    char *steps;    /* (rows, window, step): each row a ring; without time (rows, 1, step) */
    char *in_order; /* the same of the rows of the current run, the oldest step first */
    int64_t count;  /* steps of a row's ring */
    size_t bytes;   /* of one step */
} Ring;

/* of a layer that reads an input */
typedef struct {
    const CylLayer *layer;
    int32_t input; /* index in the model's inputs */
    CylHalves halves;
} Kept;

struct CylWindow {
    CylRows rows; /* first */
    const CylModel *model;
    int threads;
    int64_t steps;
    Ring *rings;         /* (inputs) */
    const void **inputs; /* (inputs): `in_order` of each */
    int64_t *times;      /* (inputs): steps of each in a prediction */
    int64_t *oldest;     /* (rows): where a row's ring begins */
    int64_t *counts;     /* (rows): how many steps have come, those included that it no longer keeps */
    int64_t *order;      /* (rows): the rows of the current run, ascending */
    uint8_t *active;     /* (rows): of the current run, whatever becomes of the caller's */
    Kept *kept;          /* (kept_count) */
    int32_t kept_count;
    void *x;   /* real (rows, features): the active rows' current step, of the widest input */
    void *acc; /* real (rows, row_size): and its half, of the widest layer */
    CylDivision division;
    CylWorkspace **workspaces;
    char *memory; /* where the arrays above lie */
};

/* The input that a recurrent layer reads and whose halves are kept, -1 for none: those of a few features take no longer
   to compute than to fetch. */
static int32_t kept_input(const CylModel *model, const CylLayer *layer) {
    if (!layer->recurrent || layer->recurrent->is_spatial || layer->recurrent->input_size < CYL_KEPT_LEAST_FEATURES) {
        return -1;
    }
    for (int32_t i = 0; i < model->input_count; i++) {
        if (layer->x == model->inputs[i]) {
            return i;
        }
    }
    return -1;
}

/* the halves of all layers that keep theirs, and room to compute those of one step */
static void place_halves(CylWindow *w, char *memory, size_t *used) {
    const CylModel *model = w->model;
    size_t real = model->kernels->real_size;
    uint64_t widest = 0, longest = 0;
    Kept *kept = cyl_place(memory, used, model->layer_count, 1, sizeof *kept);
    w->kept = kept;
    w->kept_count = 0;
    for (int32_t n = 0; n < model->layer_count; n++) {
        const CylLayer *layer = &model->layers[n];
        int32_t input = kept_input(model, layer);
        if (input < 0) {
            continue;
        }
        uint64_t features = (uint64_t)layer->recurrent->input_size;
        uint64_t row = (uint64_t)layer->recurrent->input_matrix->row_size;
        char *acc = cyl_place(memory, used, w->rows.count, cyl_size_mul((uint64_t)w->steps, row), real);
        if (memory) {
            kept[w->kept_count] = (Kept){layer, input, {acc, w->steps, w->order, w->oldest}};
        }
        w->kept_count++;
        widest = features > widest ? features : widest;
        longest = row > longest ? row : longest;
    }
    w->x = cyl_place(memory, used, w->rows.count, widest, real);
    w->acc = cyl_place(memory, used, w->rows.count, longest, real);
}

/* places all arrays; with memory NULL only counts the bytes, which may reach CYL_SIZE_LIMIT */
static size_t place(CylWindow *w, char *memory) {
    const CylModel *model = w->model;
    size_t used = 0;
    Ring *rings = cyl_place(memory, &used, model->input_count, 1, sizeof *rings);
    w->inputs = cyl_place(memory, &used, model->input_count, 1, sizeof *w->inputs);
    w->times = cyl_place(memory, &used, model->input_count, 1, sizeof *w->times);
    w->oldest = cyl_place(memory, &used, w->rows.count, 1, sizeof *w->oldest);
    w->counts = cyl_place(memory, &used, w->rows.count, 1, sizeof *w->counts);
    w->order = cyl_place(memory, &used, w->rows.count, 1, sizeof *w->order);
    w->active = cyl_place(memory, &used, w->rows.count, 1, sizeof *w->active);
    w->workspaces = cyl_place(memory, &used, w->division.workspaces, 1, sizeof(CylWorkspace *));
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        size_t item = value->kind == CYL_INDEX ? sizeof(int32_t) : model->kernels->real_size;
        Ring ring = {.count = value->has_time ? w->steps : 1, .bytes = (size_t)value->features * item};
        ring.steps = cyl_place(memory, &used, w->rows.count, (uint64_t)ring.count, ring.bytes);
        ring.in_order = cyl_place(memory, &used, w->rows.count, (uint64_t)ring.count, ring.bytes);
        if (memory) {
            rings[i] = ring;
            w->inputs[i] = ring.in_order;
            w->times[i] = ring.count;
        }
    }
    w->rings = rings;
    place_halves(w, memory, &used);
    return used;
}

/* whether each input with time can have so many steps, and at least one has time */
static CylStatus check_steps(const CylModel *model, int64_t steps) {
    bool has_time = false;
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        if (value->has_time && value->time && value->time != steps) {
            return CYL_E_ARGUMENT;
        }
        has_time |= value->has_time;
    }
    return has_time ? CYL_OK : CYL_E_STREAM;
}

CylStatus cyl_window_create(const CylModel *model, int64_t rows, int64_t steps, int threads, CylWindow **window) {
    *window = NULL;
    if (!model->is_finished || rows < 1 || steps < 1 || threads < 1 || threads > CYL_MAX_THREADS) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = check_steps(model, steps);
    if (status != CYL_OK) {
        return status;
    }
    if (rows > CYL_LONGEST || steps > CYL_LONGEST) {
        return CYL_E_MEMORY;
    }
    CylWindow *w = calloc(1, sizeof *w);
    if (!w) {
        return CYL_E_MEMORY;
    }
    atomic_flag_clear(&w->rows.busy);
    w->model = model;
    w->rows.count = rows;
    w->steps = steps;
    w->threads = threads;
    w->division = cyl_divide_rows(rows, threads);
    w->memory = cyl_aligned_alloc(place(w, NULL));
    if (!w->memory) {
        free(w);
        return CYL_E_MEMORY;
    }
    place(w, w->memory);
    for (int32_t a = model->input_count; a < model->axis_count && status == CYL_OK; a++) {
        int64_t length = cyl_axis_length(model, a, w->times);
        status = length < 0 ? CYL_E_MEMORY : length < 1 ? CYL_E_TIME : CYL_OK;
    }
    for (int i = 0; i < w->division.workspaces && status == CYL_OK; i++) {
        status = cyl_workspace_create(model, w->division.rows, w->times, model->is_chunkable,
                                      w->division.apart ? 1 : threads, &w->workspaces[i]);
        for (int32_t k = 0; k < w->kept_count && status == CYL_OK; k++) {
            w->workspaces[i]->states[w->kept[k].layer->index].halves = &w->kept[k].halves;
        }
    }
    if (status != CYL_OK) {
        cyl_window_free(w);
        return status;
    }
    *window = w;
    return CYL_OK;
}

void cyl_window_free(CylWindow *window) {
    if (window) {
        for (int i = 0; i < window->division.workspaces; i++) {
            cyl_workspace_free(window->workspaces[i]);
        }
        cyl_aligned_free(window->memory);
        free(window);
    }
}

/* new steps of a call, which its inputs with time must agree on; 0 if they do not */
static int64_t new_steps(const CylModel *model, const CylCall *call) {
    int64_t steps = 0;
    for (int32_t i = 0; i < model->input_count; i++) {
        if (model->values[model->inputs[i]].has_time) {
            if (call->times[i] < 1 || (steps && call->times[i] != steps)) {
                return 0;
            }
            steps = call->times[i];
        }
    }
    return steps;
}

/* the halves of one step of a layer, for the `count` active rows in `order` */
static void take_halves(CylWindow *w, const CylCall *call, const Kept *kept, int64_t step, int64_t steps,
                        int64_t count) {
    const CylModel *model = w->model;
    const CylMatrix *m = kept->layer->recurrent->input_matrix;
    int64_t features = kept->layer->recurrent->input_size;
    for (int64_t n = 0; n < count; n++) {
        model->kernels->flush(cyl_at(model, call->inputs[kept->input], (w->order[n] * steps + step) * features),
                              cyl_at(model, w->x, n * features), features);
    }
    CylOperand x = {w->x, features, 0, (int32_t)features};
    cyl_product(model, m, &x, 1, count, w->acc, m->row_size, false, false, 0, m->blocks);
    for (int64_t n = 0; n < count; n++) {
        int64_t at = w->order[n] * w->steps + w->oldest[w->order[n]];
        memcpy(cyl_at(model, kept->halves.acc, at * m->row_size), cyl_at(model, w->acc, n * m->row_size),
               (size_t)m->row_size * model->kernels->real_size);
    }
}

/* step `step` of the call's `steps` takes the place of the oldest one of the `count` active rows in `order` */
static void take_step(CylWindow *w, const CylCall *call, int64_t step, int64_t steps, int64_t count) {
    const CylModel *model = w->model;
    for (int32_t k = 0; k < w->kept_count; k++) {
        take_halves(w, call, &w->kept[k], step, steps, count);
    }
    for (int64_t n = 0; n < count; n++) {
        int64_t row = w->order[n];
        for (int32_t i = 0; i < model->input_count; i++) {
            const Ring *ring = &w->rings[i];
            int64_t from = model->values[model->inputs[i]].has_time ? row * steps + step : row;
            memcpy(ring->steps + (size_t)(row * ring->count + w->oldest[row] % ring->count) * ring->bytes,
                   (const char *)call->inputs[i] + (size_t)from * ring->bytes, ring->bytes);
        }
        w->oldest[row] = w->oldest[row] + 1 < w->steps ? w->oldest[row] + 1 : 0;
    }
}

/* the steps of a call that a ring can hold, of the `count` active rows in `order` */
typedef struct {
    CylWindow *window;
    const CylCall *call;
    int64_t steps, count;
} Taking;

static void take_last_steps(void *context, const CylTeam *team) {
    const Taking *taking = context;
    int64_t steps = taking->steps, kept = taking->window->steps;
    for (int64_t step = steps > kept ? steps - kept : 0; step < steps && team->thread == 0; step++) {
        take_step(taking->window, taking->call, step, steps, taking->count);
    }
}

/* the steps of the call, of the active rows */
static void take_steps(CylWindow *w, const CylCall *call, int64_t steps) {
    Taking taking = {w, call, steps, 0};
    for (int64_t row = 0; row < w->rows.count; row++) {
        if (w->active[row]) {
            w->order[taking.count++] = row;
            w->counts[row] += steps;
        }
    }
    if (taking.count > 0) {
        CylIeee saved = cyl_ieee_enter();
        cyl_parallel(w->model, take_last_steps, &taking, 1, 0.0);
        cyl_ieee_leave(saved);
    }
}

/* a row's ring of each input, the oldest step first */
static void put_in_order(const CylWindow *w, const Ring *ring, int64_t row, char *to) {
    int64_t first = w->oldest[row] % ring->count;
    const char *from = ring->steps + (size_t)(row * ring->count) * ring->bytes;
    size_t before = (size_t)first * ring->bytes, after = (size_t)(ring->count - first) * ring->bytes;
    memcpy(to, from + before, after);
    memcpy(to + after, from, before);
}

/* the active rows whose windows are whole, side by side in `in_order`; returns their number */
static int64_t gather(CylWindow *w) {
    int64_t count = 0;
    for (int64_t row = 0; row < w->rows.count; row++) {
        if (!w->active[row] || w->counts[row] < w->steps) {
            continue;
        }
        for (int32_t i = 0; i < w->model->input_count; i++) {
            const Ring *ring = &w->rings[i];
            put_in_order(w, ring, row, ring->in_order + (size_t)(count * ring->count) * ring->bytes);
        }
        w->order[count++] = row;
    }
    return count;
}

static void fill(const CylModel *model, char *to, int64_t reals, double number) {
    for (int64_t k = 0; k < reals; k++) {
        if (model->kernels->real_size == sizeof(float)) {
            ((float *)(void *)to)[k] = (float)number;
        } else {
            ((double *)(void *)to)[k] = number;
        }
    }
}

/* the run left the outputs of `count` rows side by side: each to its row, NaN where a window is not whole yet, and
   zeros where a row rests. From the last row on, because no row moves to a lower place. */
static void spread(const CylWindow *w, const CylCall *call, int64_t count) {
    const CylModel *model = w->model;
    for (int32_t o = 0; o < model->output_count; o++) {
        const CylValue *value = &model->values[model->outputs[o]];
        int64_t steps = value->axis >= 0 ? cyl_axis_length(model, value->axis, w->times) : 1;
        int64_t reals = steps * value->features, next = count;
        for (int64_t row = w->rows.count - 1; row >= 0; row--) {
            char *to = cyl_at(model, call->outputs[o], row * reals);
            if (next > 0 && w->order[next - 1] == row) {
                next--;
                if (next != row) {
                    memcpy(to, cyl_at(model, call->outputs[o], next * reals),
                           (size_t)reals * model->kernels->real_size);
                }
            } else {
                fill(model, to, reals, w->active[row] ? (double)NAN : 0.0);
            }
        }
    }
}

/* the same of what layers wrote, NaN for all but the `count` rows */
static CYL_SELDOM void spread_traces(const CylWindow *w, const CylCall *call, int64_t count) {
    const size_t real = w->model->kernels->real_size;
    for (int32_t n = 0; n < call->trace_count; n++) {
        const CylTrace *to = &call->traces[n].to;
        const CylRecurrent *recurrent = w->model->layers[call->traces[n].layer].recurrent;
        const int64_t cells = to->steps * recurrent->hidden_size;
        char *const arrays[] = {to->pre, to->gates, to->cell};
        const int64_t sizes[] = {cells * cyl_traced_gates(to->pre, recurrent->gate_count, to->pre_skips),
                                 cells * cyl_traced_gates(to->gates, recurrent->gate_count, to->gates_skips), cells};
        for (int a = 0; a < 3; a++) {
            int64_t next = count;
            for (int64_t row = w->rows.count - 1; row >= 0 && arrays[a]; row--) {
                char *at = arrays[a] + (size_t)(row * sizes[a]) * real;
                if (next == 0 || w->order[next - 1] != row) {
                    fill(w->model, at, sizes[a], (double)NAN);
                } else if (--next != row) {
                    memcpy(at, arrays[a] + (size_t)(next * sizes[a]) * real, (size_t)sizes[a] * real);
                }
            }
        }
    }
}

static CylStatus run(CylWindow *window, const CylCall *call, const uint8_t *active, int64_t steps) {
    const CylModel *model = window->model;
    for (int64_t row = 0; row < window->rows.count; row++) {
        window->active[row] = !active || active[row] != 0;
    }
    take_steps(window, call, steps);
    CylStatus status = CYL_OK;
    int64_t count = gather(window);
    if (count > 0) {
        CylCall whole = {.rows = count,
                         .times = window->times,
                         .inputs = window->inputs,
                         .outputs = call->outputs,
                         .threads = call->threads < window->threads ? call->threads : window->threads,
                         .should_stop = call->should_stop,
                         .stop_context = call->stop_context,
                         .traces = call->traces,
                         .trace_count = call->trace_count};
        status = cyl_predict_in(model, &whole, window->division, window->workspaces);
    }
    spread(window, call, count);
    if (call->traces) {
        spread_traces(window, call, count);
    }
    return status;
}

/* whether the call can be run; sets its number of new steps */
static CylStatus check_run(const CylWindow *window, const CylCall *call, const uint8_t *active, int64_t *steps) {
    *steps = new_steps(window->model, call);
    if (call->rows != window->rows.count || call->threads < 1 || call->threads > CYL_MAX_THREADS || *steps < 1) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(cyl_check_indices(window->model, call, active));
    return cyl_check_traces(window->model, call);
}

CylStatus cyl_window_run(CylWindow *window, const CylCall *call, const uint8_t *active) {
    int64_t steps;
    CYL_TRY(check_run(window, call, active, &steps));
    CYL_TRY(cyl_enter(&window->rows));
    CylStatus status = run(window, call, active, steps);
    cyl_leave(&window->rows);
    return status;
}

/* nothing of a row is looked at before its window is whole again */
static void reset_row(CylRows *rows, int64_t row) { ((CylWindow *)rows)->counts[row] = 0; }

CylStatus cyl_window_reset(CylWindow *window) {
    CYL_TRY(cyl_enter(&window->rows));
    for (int64_t row = 0; row < window->rows.count; row++) {
        reset_row(&window->rows, row);
    }
    cyl_leave(&window->rows);
    return CYL_OK;
}

CylStatus cyl_window_reset_rows(CylWindow *window, const int64_t *rows, int64_t count) {
    return cyl_rows_reset(&window->rows, rows, count, reset_row);
}

static void copy_row(CylRows *to_rows, int64_t to_row, const CylRows *from_rows, int64_t from_row) {
    CylWindow *to = (CylWindow *)to_rows;
    const CylWindow *from = (const CylWindow *)from_rows;
    for (int32_t i = 0; i < to->model->input_count; i++) {
        size_t bytes = (size_t)to->rings[i].count * to->rings[i].bytes;
        memcpy(to->rings[i].steps + (size_t)to_row * bytes, from->rings[i].steps + (size_t)from_row * bytes, bytes);
    }
    for (int32_t k = 0; k < to->kept_count; k++) {
        int64_t reals = to->steps * to->kept[k].layer->recurrent->input_matrix->row_size;
        memcpy(cyl_at(to->model, to->kept[k].halves.acc, to_row * reals),
               cyl_at(from->model, from->kept[k].halves.acc, from_row * reals),
               (size_t)reals * to->model->kernels->real_size);
    }
    to->oldest[to_row] = from->oldest[from_row];
    to->counts[to_row] = from->counts[from_row];
}

CylStatus cyl_window_copy_rows(CylWindow *to, const int64_t *to_rows, CylWindow *from, const int64_t *from_rows,
                               int64_t count) {
    if (to->model != from->model || to->steps != from->steps) {
        return CYL_E_ARGUMENT;
    }
    return cyl_rows_copy(&to->rows, to_rows, &from->rows, from_rows, count, copy_row);
}

static void copy_all(CylWindow *to, const CylWindow *from) {
    for (int64_t row = 0; row < to->rows.count; row++) {
        copy_row(&to->rows, row, &from->rows, row);
    }
}

/* whether all that one keeps of a row has a place of its size in the other */
static bool are_alike(const CylWindow *a, const CylWindow *b) {
    bool alike = a != b && a->steps == b->steps && a->rows.count == b->rows.count && a->kept_count == b->kept_count &&
                 a->model->input_count == b->model->input_count &&
                 a->model->kernels->real_size == b->model->kernels->real_size;
    for (int32_t i = 0; alike && i < a->model->input_count; i++) {
        alike = a->rings[i].count == b->rings[i].count && a->rings[i].bytes == b->rings[i].bytes;
    }
    for (int32_t k = 0; alike && k < a->kept_count; k++) {
        alike = a->kept[k].input == b->kept[k].input && a->kept[k].layer->recurrent->input_matrix->row_size ==
                                                            b->kept[k].layer->recurrent->input_matrix->row_size;
    }
    return alike;
}

CylStatus cyl_window_run_on(CylWindow *window, CylWindow *other, const CylCall *call, const uint8_t *active) {
    int64_t steps;
    if (!are_alike(window, other)) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(check_run(other, call, active, &steps));
    CYL_TRY(cyl_enter(&window->rows));
    CylStatus status = cyl_enter(&other->rows);
    if (status == CYL_OK) {
        copy_all(other, window);
        status = run(other, call, active, steps);
        copy_all(window, other);
        cyl_leave(&other->rows);
    }
    cyl_leave(&window->rows);
    return status;
}

CylStatus cyl_window_get(CylWindow *window, void *const *inputs, int64_t *counts) {
    CYL_TRY(cyl_enter(&window->rows));
    for (int32_t i = 0; inputs && i < window->model->input_count; i++) {
        const Ring *ring = &window->rings[i];
        for (int64_t row = 0; row < window->rows.count; row++) {
            put_in_order(window, ring, row, (char *)inputs[i] + (size_t)(row * ring->count) * ring->bytes);
        }
    }
    memcpy(counts, window->counts, (size_t)window->rows.count * sizeof *counts);
    cyl_leave(&window->rows);
    return CYL_OK;
}

CylStatus cyl_window_set(CylWindow *window, const void *const *inputs, const int64_t *counts) {
    const CylCall call = {.rows = window->rows.count, .times = window->times, .inputs = inputs, .threads = 1};
    for (int64_t row = 0; row < window->rows.count; row++) {
        if (counts[row] < 0 || counts[row] > CYL_MOST_STEPS) {
            return CYL_E_ARGUMENT;
        }
    }
    CYL_TRY(cyl_check_indices(window->model, &call, NULL));
    CYL_TRY(cyl_enter(&window->rows));
    memset(window->active, 1, (size_t)window->rows.count);
    memset(window->counts, 0, (size_t)window->rows.count * sizeof *counts);
    take_steps(window, &call, window->steps);
    memcpy(window->counts, counts, (size_t)window->rows.count * sizeof *counts);
    cyl_leave(&window->rows);
    return CYL_OK;
}
