/* Running a model: whole calls (cyl_predict, and those of window.c) and streams, in pieces of rows and of time. */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "run/recurrent.h"
#include "platform/ieee.h"
#include "platform/memory.h"
#include "run/idle.h"
#include "run/predict.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* rows that one workspace takes at once */
#define CYL_TILE_ROWS 48
/* fewer steps are better run one layer after the other */
#define CYL_FED_STEPS 8
/* numbers of an input that are loaded between two looks whether a call is to end */
#define LOADED_AT_ONCE (1 << 18)
/* and the multiply-adds of the layers that run between two looks */
#define WORK_OF_NODES 4e6

static bool is_sequence_input(const CylModel *model, int32_t input) {
    return model->values[model->inputs[input]].has_time;
}

/* steps of a value in the whole call */
static int64_t steps_of_call(const CylModel *model, const CylCall *call, const CylValue *value) {
    return value->axis < 0                    ? 1
           : value->axis < model->input_count ? call->times[value->axis]
                                              : cyl_axis_length(model, value->axis, call->times);
}

/* Points the views at steps [first_step, first_step + steps) of rows [first_row, first_row + rows) of the call. */
static void bind_views(CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows, int64_t first_step,
                       int64_t steps) {
    const CylModel *model = w->model;
    w->rows = rows;
    w->first_row = first_row;
    w->first_step = first_step;
    memcpy(w->views, w->own, (size_t)model->value_count * sizeof *w->views);
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        bool in_pieces = w->in_pieces && value->is_chunked;
        int64_t time = value->has_time ? call->times[i] : 1, skipped = in_pieces ? first_step : 0;
        w->times[i] = in_pieces ? steps : time;
        const uint8_t *mask = call->masks ? call->masks[i] : NULL;
        w->masks[i] = mask ? mask + skipped : NULL;
        w->mask_strides[i] = time;
        w->views[model->inputs[i]].row_stride = w->times[i] * value->features;
        if (value->kind == CYL_INDEX) { /* read where they are, in the rows of the call */
            const int32_t *indices = call->inputs[i];
            w->views[model->inputs[i]].data = (char *)(uintptr_t)(indices + skipped * value->features);
            w->views[model->inputs[i]].row_stride = time * value->features;
        }
    }
    for (int32_t a = model->input_count; a < model->axis_count; a++) {
        w->times[a] = cyl_axis_length(model, a, w->times);
    }
    for (int32_t v = 0; v < model->value_count && model->slot_count > model->input_count; v++) {
        int32_t slot = model->values[v].slot;
        if (slot >= model->input_count) {
            w->masks[slot] = w->own_masks[slot];
            w->mask_strides[slot] = w->times[model->values[v].axis];
        }
    }
    for (int32_t o = 0; o < model->output_count; o++) {
        const int32_t v = model->outputs[o];
        const CylValue *value = &model->values[v];
        int64_t time = steps_of_call(model, call, value);
        int64_t skipped =
            value->is_chunked && first_step > 0 ? cyl_axis_steps_before(model, value->axis, first_step) : 0;
        w->views[v].step_stride = value->features;
        w->views[v].row_stride = time * value->features;
        w->views[v].data = cyl_at(model, call->outputs[o], (first_row * time + skipped) * value->features);
    }
}

/* inputs on entry: copied, with the subnormal rule */
static void load_inputs(CylWorkspace *w, const CylCall *call, int64_t first_step, const CylTeam *team) {
    const CylModel *model = w->model;
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylView *view = &w->views[model->inputs[i]];
        const CylValue *value = &model->values[model->inputs[i]];
        if (!view->data || value->kind == CYL_INDEX || (!value->is_chunked && !w->is_first_chunk)) {
            continue;
        }
        int64_t features = value->features, begin, end;
        int64_t time = is_sequence_input(model, i) ? call->times[i] : 1;
        int64_t steps = w->times[i], skipped = w->in_pieces && value->is_chunked ? first_step : 0;
        cyl_share(team, w->rows, &begin, &end);
        for (int64_t row = begin; row < end; row++) {
            int64_t from = (cyl_call_row(w, row) * time + skipped) * features, count = steps * features;
            int64_t at_once = w->stop && count > LOADED_AT_ONCE ? LOADED_AT_ONCE : count;
            for (int64_t first = 0; first < count && !(first > 0 && cyl_stop_look(w->stop)); first += at_once) {
                model->kernels->flush(cyl_at(model, call->inputs[i], from + first),
                                      cyl_at(model, view->data, row * view->row_stride + first),
                                      count - first < at_once ? count - first : at_once);
            }
        }
    }
}

/* steps of the inputs that pieces are taken of: of the one there is if they are, else the most of any */
static int64_t longest_input(const CylModel *model, const CylCall *call) {
    int64_t longest = 1;
    for (int32_t i = 0; i < model->input_count; i++) {
        bool counts = model->values[model->inputs[i]].is_chunked;
        longest = counts && call->times[i] > longest ? call->times[i] : longest;
    }
    return longest;
}

static double work_of(const CylModel *model, const CylCall *call, int64_t rows) {
    int64_t longest = 1;
    for (int32_t i = 0; i < model->input_count; i++) {
        longest = is_sequence_input(model, i) && call->times[i] > longest ? call->times[i] : longest;
    }
    return (double)model->work * (double)rows * (double)longest;
}

/* Whether the thread that calls loads the inputs alone, before the others begin: a barrier costs more. */
static bool loads_alone(const CylModel *model, int64_t rows, int64_t steps) {
    const int64_t reals = 4096;
    return rows * steps * model->input_reals <= reals;
}

/* the most steps that are run at once, of `total` */
static int64_t steps_at_once(const CylWorkspace *w, int64_t total) {
    const CylModel *model = w->model;
    int64_t steps = total;
    for (int32_t i = 0; w->in_pieces && total > 1 && i < model->input_count; i++) {
        bool is_less = model->values[model->inputs[i]].is_chunked && w->capacities[i] < steps;
        steps = is_less ? w->capacities[i] : steps;
    }
    return steps;
}

/* the first chunk, by the calling thread before the team starts */
static void begin_rows(CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows) {
    const CylTeam alone = {.threads = 1};
    int64_t total = longest_input(w->model, call), steps = steps_at_once(w, total);
    bind_views(w, call, first_row, rows, 0, steps);
    w->is_first_chunk = true;
    w->is_last_chunk = steps == total;
    if (loads_alone(w->model, rows, steps)) {
        load_inputs(w, call, 0, &alone);
    }
}

/* A layer and the next, each by half of the team: its threads need not meet the others at every step. A layer that the
   other feeds follows it as close as it can: a wavefront over the layers. */
static void run_pair(CylWorkspace *w, const CylLayer *layer, const CylTeam *team) {
    CylTeam half;
    const int which = cyl_team_half(team, &half);
    half.gives_to = layer->feeds_next && which == 0 ? &w->handover : NULL;
    half.takes_from = layer->feeds_next && which == 1 ? &w->handover : NULL;
    layer += which;
    layer->kind->run(w->model, layer, w, &half);
    if (w->stop) { /* the thread that made the call must not wait at a barrier while it could ask */
        if (which == 1 && half.thread == 0) {
            atomic_store_explicit(&w->second_halves, 1, memory_order_release);
        }
        if (team->thread == 0) {
            cyl_stop_wait(w->stop, &w->second_halves, 1);
            atomic_store_explicit(&w->second_halves, 0, memory_order_relaxed);
        }
    }
    if (half.takes_from && half.thread == 0) {
        atomic_store_explicit(&w->handover.given, 0, memory_order_relaxed);
    }
    cyl_barrier(team);
}

/* whether a layer and the next run in halves of the team */
static bool runs_in_halves(const CylWorkspace *w, const CylLayer *layer, const CylTeam *team) {
    return team->threads % 2 == 0 &&
           (layer->runs_beside_next ||
            (layer->feeds_next && w->times[w->model->values[layer->x].axis] >= CYL_FED_STEPS));
}

/* whether all of the team leave the call, between two layers or pieces */
static bool leaves(CylWorkspace *w, CylStop *stop, const CylTeam *team) {
    if (team->thread == 0) {
        w->is_stopped = cyl_stop_look(stop);
    }
    cyl_barrier(team);
    return w->is_stopped;
}

/* multiply-adds of a layer in this piece, and the numbers that it writes */
static double work_of_layer(const CylWorkspace *w, const CylLayer *layer) {
    const CylModel *model = w->model;
    double each = (double)layer->work + (layer->y >= 0 ? model->values[layer->y].features : 0);
    return each * (double)w->rows * (double)cyl_steps(w, layer->x);
}

/* The rows that begin_rows has begun, by all of the team. Returns how many steps were run: less than all if `stop`,
   which may be NULL, ended the call. */
static int64_t run_rows(CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows, const CylTeam *team,
                        CylStop *stop) {
    const CylModel *model = w->model;
    int64_t total = longest_input(model, call), chunk = steps_at_once(w, total);
    double work = 0.0;
    for (int64_t first_step = 0; first_step < total; first_step += chunk) {
        int64_t steps = total - first_step < chunk ? total - first_step : chunk;
        bool is_last_chunk = first_step + steps >= total;
        if (first_step > 0) {
            if (stop && leaves(w, stop, team)) {
                return first_step;
            }
            if (team->thread == 0) {
                bind_views(w, call, first_row, rows, first_step, steps);
                w->is_first_chunk = false;
                w->is_last_chunk = is_last_chunk;
            }
            cyl_barrier(team);
        }
        if (first_step > 0 || !loads_alone(model, rows, steps)) {
            load_inputs(w, call, first_step, team);
            cyl_barrier(team);
        }
        for (int32_t n = 0; n < model->layer_count; n++) {
            const CylLayer *layer = &model->layers[n];
            if (!layer->is_chunked && !(layer->is_late ? is_last_chunk : first_step == 0)) {
                continue;
            }
            if (w->stop && work > WORK_OF_NODES) {
                work = 0.0;
                if (leaves(w, w->stop, team)) {
                    return first_step;
                }
            }
            work += w->stop ? work_of_layer(w, layer) : 0.0;
            if (runs_in_halves(w, layer, team)) {
                run_pair(w, layer, team);
                n++;
            } else {
                layer->kind->run(model, layer, w, team);
            }
        }
    }
    return total;
}

/* ---- whole calls ---- */

typedef struct {
    const CylModel *model;
    const CylCall *call;
    CylWorkspace **workspaces;
    CylStop *stop; /* or NULL */
    int64_t tile_rows, tiles;
    atomic_llong next_tile, tiles_done;
} Prediction;

static void start_rows(CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows) {
    const CylModel *model = w->model;
    cyl_workspace_reset(w);
    w->rows = rows;
    for (int32_t s = 0; call->initial_state && s < model->state_count; s++) {
        if (call->initial_state[s]) {
            cyl_workspace_set_state(w, s, cyl_at(model, call->initial_state[s], first_row * model->state_sizes[s]));
        }
    }
}

static void finish_rows(const CylWorkspace *w, const CylCall *call, int64_t first_row) {
    const CylModel *model = w->model;
    for (int32_t s = 0; call->final_state && s < model->state_count; s++) {
        if (call->final_state[s]) {
            cyl_workspace_get_state(w, s, cyl_at(model, call->final_state[s], first_row * model->state_sizes[s]));
        }
    }
}

/* each thread takes tiles of rows until none is left */
static void predict_apart(void *context, const CylTeam *team) {
    Prediction *p = context;
    CylTeam alone = {.threads = 1};
    CylWorkspace *w = p->workspaces[team->thread];
    while (!p->stop || !cyl_stop_look(p->stop)) {
        int64_t first = atomic_fetch_add(&p->next_tile, 1) * p->tile_rows;
        if (first >= p->call->rows) {
            break;
        }
        int64_t rows = p->call->rows - first < p->tile_rows ? p->call->rows - first : p->tile_rows;
        start_rows(w, p->call, first, rows);
        begin_rows(w, p->call, first, rows);
        run_rows(w, p->call, first, rows, &alone, p->stop);
        finish_rows(w, p->call, first);
        atomic_fetch_add_explicit(&p->tiles_done, 1, memory_order_release);
    }
    if (p->stop && team->thread == 0) {
        cyl_stop_wait(p->stop, &p->tiles_done, p->tiles);
    }
}

/* all threads share the rows and divide the blocks of every layer */
static void predict_together(void *context, const CylTeam *team) {
    Prediction *p = context;
    CylWorkspace *w = p->workspaces[0];
    run_rows(w, p->call, 0, p->call->rows, team, p->stop);
    if (team->thread == 0) {
        finish_rows(w, p->call, 0);
    }
}

bool cyl_has_indices(const CylModel *model, const CylCall *call, const uint8_t *active) {
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        if (value->kind != CYL_INDEX) {
            continue;
        }
        int64_t count = value->has_time ? call->times[i] * value->features : value->features;
        for (int64_t row = 0; row < call->rows; row++) {
            const int32_t *indices = (const int32_t *)call->inputs[i] + row * count;
            for (int64_t k = 0; k < count && (!active || active[row]); k++) {
                if (indices[k] < 0 || indices[k] >= value->limit) {
                    return false;
                }
            }
        }
    }
    return true;
}

static CylStatus check_times(const CylModel *model, const int64_t *times) {
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        if (value->has_time && (times[i] < 1 || (value->time && times[i] != value->time))) {
            return CYL_E_ARGUMENT;
        }
        if (value->has_time && times[i] > CYL_LONGEST) {
            return CYL_E_MEMORY;
        }
    }
    for (int32_t a = model->input_count; a < model->axis_count; a++) {
        int64_t length = cyl_axis_length(model, a, times);
        if (length < 1) {
            return length < 0 ? CYL_E_MEMORY : CYL_E_TIME;
        }
    }
    return CYL_OK;
}

static CylStatus check_call(const CylModel *model, const CylCall *call, const uint8_t *active) {
    if (!model->is_finished || call->rows < 1 || call->threads < 1 || call->threads > CYL_MAX_THREADS) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = check_times(model, call->times);
    if (status == CYL_E_ARGUMENT || status == CYL_E_MEMORY || call->rows > CYL_LONGEST) {
        return status == CYL_E_ARGUMENT ? status : CYL_E_MEMORY;
    }
    return cyl_has_indices(model, call, active) ? status : CYL_E_INDEX;
}

CylDivision cyl_divide_rows(int64_t rows, int threads) {
    if (rows < threads) {
        return (CylDivision){false, 1, rows};
    }
    int64_t share = (rows + threads - 1) / threads;
    int64_t tiles_each = (share + CYL_TILE_ROWS - 1) / CYL_TILE_ROWS;
    int64_t tile_rows = (share + tiles_each - 1) / tiles_each;
    int64_t tiles = (rows + tile_rows - 1) / tile_rows;
    return (CylDivision){true, (int64_t)threads < tiles ? threads : (int)tiles, tile_rows};
}

CylStatus cyl_predict_in(const CylModel *model, const CylCall *call, CylDivision division, CylWorkspace **workspaces) {
    CylStop asked;
    Prediction p = {.model = model,
                    .call = call,
                    .workspaces = workspaces,
                    .stop = cyl_stop_start(&asked, call),
                    .tile_rows = division.rows,
                    .tiles = (call->rows + division.rows - 1) / division.rows};
    int threads = !division.apart ? call->threads : division.workspaces < p.tiles ? division.workspaces : (int)p.tiles;
    for (int i = 0; i < division.workspaces; i++) {
        workspaces[i]->stop = p.stop;
    }
    CylIeee saved = cyl_ieee_enter();
    if (!division.apart) {
        start_rows(workspaces[0], call, 0, call->rows);
        begin_rows(workspaces[0], call, 0, call->rows);
    }
    cyl_parallel(model, division.apart ? predict_apart : predict_together, &p, threads,
                 work_of(model, call, call->rows));
    cyl_ieee_leave(saved);
    for (int i = 0; i < division.workspaces; i++) {
        workspaces[i]->stop = NULL;
    }
    if (!cyl_stop_is_requested(p.stop)) {
        return CYL_OK;
    }
    atomic_store(&workspaces[0]->handover.given, 0); /* what the halves of a team left */
    atomic_store(&workspaces[0]->second_halves, 0);
    return CYL_E_STOPPED;
}

/* an idle workspace that fits, or a new one */
static CylStatus take_workspace(const CylModel *model, const CylCall *call, CylDivision division,
                                CylWorkspace **workspace) {
    int threads = division.apart ? 1 : call->threads;
    *workspace = cyl_idle_take(model->idle, division.rows, call->times, threads);
    return *workspace
               ? CYL_OK
               : cyl_workspace_create(model, division.rows, call->times, model->is_chunkable, threads, workspace);
}

CylStatus cyl_predict(const CylModel *model, const CylCall *call) {
    CylStatus status = check_call(model, call, NULL);
    if (status != CYL_OK) {
        return status;
    }
    CylDivision division = cyl_divide_rows(call->rows, call->threads);
    CylWorkspace *all[CYL_MAX_THREADS];
    int made = 0;
    while (made < division.workspaces && status == CYL_OK) {
        status = take_workspace(model, call, division, &all[made]);
        made += status == CYL_OK;
    }
    if (status == CYL_OK) {
        status = cyl_predict_in(model, call, division, all);
    }
    /* the one that was taken first is found first again */
    while (made > 0) {
        cyl_idle_keep(model->idle, all[--made]);
    }
    return status;
}

CylStatus cyl_model_run_bytes(const CylModel *model, const int64_t *times, int64_t *bytes) {
    if (!model->is_finished) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = times ? check_times(model, times) : model->can_stream ? CYL_OK : CYL_E_STREAM;
    CylWorkspace *workspace = NULL;
    if (status == CYL_OK) {
        status = cyl_workspace_create(model, 1, times, !times || model->is_chunkable, 1, &workspace);
    }
    *bytes = workspace ? (int64_t)workspace->bytes : 0;
    cyl_workspace_free(workspace);
    return status;
}

int cyl_model_worthwhile_threads(const CylModel *model, int64_t rows, int64_t time, int threads) {
    /* in multiply-adds, of which one core does some 50 per nanosecond from its own cache. Threads that run rows apart
       meet at the end of the call, those that share rows (one row, or a stream's) at every step. */
    const double rows_apart = 1e5, rows_shared = 32e3;
    double step = (double)model->work * (double)rows, call = step * (double)time;
    double apart = call / rows_apart < (double)rows ? call / rows_apart : (double)rows;
    double shared = step / rows_shared;
    double useful = apart > shared ? apart : shared;
    const double in_halves = 2.0 * rows_apart, fed = 15.0 * rows_apart; /* a fed half waits for every step */
    if (useful < 2.0 &&
        ((model->has_pairs && call >= in_halves) || (model->has_fed_pairs && time >= CYL_FED_STEPS && call >= fed))) {
        useful = 2.0;
    }
    return useful < 2.0 ? 1 : useful < (double)threads ? (int)useful : threads;
}

/* ---- streams ---- */

struct CylStream {
    CylWorkspace *workspace;
    int threads;
    uint8_t *active;  /* (rows): of the current run, whatever becomes of the caller's */
    int64_t *order;   /* (rows): see CylWorkspace, of the current run; after the active rows come the others */
    int64_t *steps;   /* (rows): taken since the start */
    uint8_t *carried; /* (layers): see cyl_stream_carry; NULL: all states go on */
    atomic_flag busy;
};

typedef struct {
    CylStream *stream;
    const CylCall *call;
    CylStop *stop; /* or NULL */
    int64_t steps; /* that were run */
} StreamRun;

static CylStatus enter(CylStream *stream) {
    return atomic_flag_test_and_set_explicit(&stream->busy, memory_order_acquire) ? CYL_E_BUSY : CYL_OK;
}
static void leave(CylStream *stream) { atomic_flag_clear_explicit(&stream->busy, memory_order_release); }

CylStatus cyl_stream_create(const CylModel *model, int64_t rows, int threads, CylStream **stream) {
    *stream = NULL;
    if (!model->is_finished || rows < 1 || threads < 1 || threads > CYL_MAX_THREADS) {
        return CYL_E_ARGUMENT;
    }
    if (!model->can_stream) {
        return CYL_E_STREAM;
    }
    if (rows > CYL_LONGEST) {
        return CYL_E_MEMORY;
    }
    CylStream *s = calloc(1, sizeof *s);
    if (!s) {
        return CYL_E_MEMORY;
    }
    atomic_flag_clear(&s->busy);
    s->threads = threads;
    CylStatus status = cyl_workspace_create(model, rows, NULL, true, threads, &s->workspace);
    if (status != CYL_OK) {
        free(s);
        return status;
    }
    s->active = cyl_alloc(rows, sizeof *s->active);
    s->order = cyl_alloc(rows, sizeof *s->order);
    s->steps = cyl_alloc(rows, sizeof *s->steps);
    if (!s->active || !s->order || !s->steps) {
        cyl_stream_free(s);
        return CYL_E_MEMORY;
    }
    s->workspace->rows = rows;
    s->workspace->is_stream = true;
    *stream = s;
    return CYL_OK;
}

void cyl_stream_free(CylStream *stream) {
    if (stream) {
        cyl_workspace_free(stream->workspace);
        free(stream->active);
        free(stream->order);
        free(stream->carried);
        free(stream->steps);
        free(stream);
    }
}

CylStatus cyl_stream_carry(CylStream *stream, const uint8_t *carried) {
    size_t count = (size_t)stream->workspace->model->layer_count;
    uint8_t *copy = malloc(count);
    CylStatus status = copy ? enter(stream) : CYL_E_MEMORY;
    if (status != CYL_OK) {
        free(copy);
        return status;
    }
    memcpy(copy, carried, count);
    free(stream->carried);
    stream->carried = copy;
    leave(stream);
    return CYL_OK;
}

static void stream_run(void *context, const CylTeam *team) {
    StreamRun *run = context;
    CylWorkspace *w = run->stream->workspace;
    int64_t steps = run_rows(w, run->call, 0, w->rows, team, run->stop);
    if (team->thread == 0) {
        run->steps = steps;
    }
}

/* ---- some rows of a stream: they change places with others, so that a run finds them side by side ---- */

/* fills `order`, the active rows first, moving as few as possible; returns their number */
static int64_t order_rows(CylStream *stream, const uint8_t *active) {
    int64_t rows = stream->workspace->rows_capacity, *order = stream->order, count = 0;
    for (int64_t row = 0; row < rows; row++) {
        stream->active[row] = active[row] != 0;
        count += stream->active[row];
        order[row] = row;
    }
    int64_t next = count; /* where to look for active rows that stand behind the first `count` */
    for (int64_t row = 0; row < count; row++) {
        if (!stream->active[row]) {
            while (!stream->active[next]) {
                next++;
            }
            order[row] = next;
            order[next++] = row;
        }
    }
    return count;
}

/* exchanges the first `count` rows with those that `order` says; done twice, all stand where they stood */
static void swap_rows(CylStream *stream, int64_t count) {
    for (int64_t row = 0; row < count; row++) {
        if (stream->order[row] != row) {
            cyl_workspace_swap_rows(stream->workspace, row, stream->order[row]);
        }
    }
}

/* the run left the outputs of the first `count` rows side by side: each to its row, and zeros to the others */
static void spread_outputs(const CylStream *stream, const CylCall *call, int64_t count) {
    const CylModel *model = stream->workspace->model;
    for (int32_t o = 0; o < model->output_count; o++) {
        const CylValue *value = &model->values[model->outputs[o]];
        int64_t time = steps_of_call(model, call, value);
        size_t bytes = (size_t)(time * value->features) * model->kernels->real_size;
        char *rows = call->outputs[o];
        for (int64_t row = 0; row < count; row++) {
            if (stream->order[row] != row) {
                memcpy(rows + (size_t)stream->order[row] * bytes, rows + (size_t)row * bytes, bytes);
            }
        }
        for (int64_t row = count; row < call->rows; row++) {
            memset(rows + (size_t)stream->order[row] * bytes, 0, bytes);
        }
    }
}

/* returns how many steps were run */
static int64_t run_on_team(CylStream *stream, const CylCall *call, CylStop *stop) {
    const CylModel *model = stream->workspace->model;
    int64_t rows = stream->workspace->rows;
    StreamRun run = {stream, call, stop, 0};
    CylIeee saved = cyl_ieee_enter();
    begin_rows(stream->workspace, call, 0, rows);
    cyl_parallel(model, stream_run, &run, call->threads < stream->threads ? call->threads : stream->threads,
                 work_of(model, call, rows));
    cyl_ieee_leave(saved);
    return run.steps;
}

static int64_t run_active(CylStream *stream, const CylCall *call, int64_t count, CylStop *stop) {
    CylWorkspace *w = stream->workspace;
    int64_t steps = 0;
    if (count > 0) {
        swap_rows(stream, count);
        cyl_workspace_leave_rows(w, count);
        w->order = stream->order;
        steps = run_on_team(stream, call, stop);
        w->order = NULL;
        cyl_workspace_rejoin_rows(w);
        swap_rows(stream, count);
    }
    spread_outputs(stream, call, count);
    return steps;
}

CylStatus cyl_stream_run(CylStream *stream, const CylCall *call) { return cyl_stream_run_active(stream, call, NULL); }

CylStatus cyl_stream_run_active(CylStream *stream, const CylCall *call, const uint8_t *active) {
    const CylModel *model = stream->workspace->model;
    CylStatus status = check_call(model, call, active);
    if (status == CYL_OK && call->rows != stream->workspace->rows_capacity) {
        status = CYL_E_ARGUMENT;
    }
    for (int32_t i = 0; status == CYL_OK && i < model->input_count; i++) {
        bool is_whole = model->step_multiple == 1 || call->times[i] % model->step_multiple == 0;
        bool is_right = call->times[i] == call->times[0] && is_whole;
        status = is_right ? CYL_OK : CYL_E_TIME;
    }
    if (status == CYL_OK) {
        status = enter(stream);
    }
    if (status != CYL_OK) {
        return status;
    }
    CylStop asked, *stop = cyl_stop_start(&asked, call);
    if (stream->carried) {
        cyl_workspace_forget(stream->workspace, stream->carried, active);
    }
    int64_t count = active ? order_rows(stream, active) : call->rows;
    bool is_all = count == call->rows;
    int64_t steps = is_all ? run_on_team(stream, call, stop) : run_active(stream, call, count, stop);
    for (int64_t row = 0; row < call->rows; row++) {
        if (is_all || stream->active[row]) {
            stream->steps[row] += steps;
        }
    }
    leave(stream);
    return cyl_stop_is_requested(stop) ? CYL_E_STOPPED : CYL_OK;
}

CylStatus cyl_stream_reset(CylStream *stream) {
    CylStatus status = enter(stream);
    if (status == CYL_OK) {
        cyl_workspace_reset(stream->workspace);
        memset(stream->steps, 0, (size_t)stream->workspace->rows_capacity * sizeof *stream->steps);
        leave(stream);
    }
    return status;
}

static bool are_rows(const CylStream *stream, const int64_t *rows, int64_t count) {
    for (int64_t n = 0; n < count; n++) {
        if (rows[n] < 0 || rows[n] >= stream->workspace->rows_capacity) {
            return false;
        }
    }
    return count >= 0;
}

CylStatus cyl_stream_reset_rows(CylStream *stream, const int64_t *rows, int64_t count) {
    CylStatus status = are_rows(stream, rows, count) ? enter(stream) : CYL_E_ARGUMENT;
    if (status == CYL_OK) {
        for (int64_t n = 0; n < count; n++) {
            cyl_workspace_reset_row(stream->workspace, rows[n]);
            stream->steps[rows[n]] = 0;
        }
        leave(stream);
    }
    return status;
}

CylStatus cyl_stream_copy_rows(CylStream *to, const int64_t *to_rows, CylStream *from, const int64_t *from_rows,
                               int64_t count) {
    if (to == from || to->workspace->model != from->workspace->model || !are_rows(to, to_rows, count) ||
        !are_rows(from, from_rows, count)) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = enter(to);
    if (status != CYL_OK) {
        return status;
    }
    status = enter(from);
    if (status == CYL_OK) {
        for (int64_t n = 0; n < count; n++) {
            cyl_workspace_copy_row(to->workspace, to_rows[n], from->workspace, from_rows[n]);
            to->steps[to_rows[n]] = from->steps[from_rows[n]];
        }
        leave(from);
    }
    leave(to);
    return status;
}

CylStatus cyl_stream_trace(CylStream *stream, int32_t layer, const CylTrace *trace) {
    const CylModel *model = stream->workspace->model;
    if (layer < 0 || layer >= model->layer_count || !model->layers[layer].recurrent || (trace && trace->steps < 1)) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = enter(stream);
    if (status == CYL_OK) {
        stream->workspace->states[layer].trace = trace ? *trace : (CylTrace){.steps = 0};
        leave(stream);
    }
    return status;
}

CylStatus cyl_stream_get_steps(CylStream *stream, int64_t *steps) {
    CylStatus status = enter(stream);
    if (status == CYL_OK) {
        memcpy(steps, stream->steps, (size_t)stream->workspace->rows_capacity * sizeof *steps);
        leave(stream);
    }
    return status;
}

/* the flags of every recurrent layer that say whether a step has counted: (layers with state, rows); and the steps of
   every row, of eight bytes each on every machine, the lowest first */
static int64_t copy_flags(CylStream *stream, uint8_t *out, const uint8_t *in) {
    const CylWorkspace *w = stream->workspace;
    int64_t used = 0;
    for (int32_t n = 0; n < w->model->layer_count; n++) {
        if (w->model->layers[n].recurrent) {
            if (out) {
                memcpy(out + used, w->states[n].seen, (size_t)w->rows_capacity);
            } else if (in) {
                for (int64_t row = 0; row < w->rows_capacity; row++) {
                    w->states[n].seen[row] = in[used + row] != 0;
                }
            }
            used += w->rows_capacity;
        }
    }
    for (int64_t row = 0; row < w->rows_capacity; row++, used += 8) {
        uint64_t steps = out ? (uint64_t)stream->steps[row] : 0;
        for (int byte = 0; byte < 8; byte++) {
            if (out) {
                out[used + byte] = (uint8_t)(steps >> (8 * byte));
            } else if (in) {
                steps |= (uint64_t)in[used + byte] << (8 * byte);
            }
        }
        if (in) {
            stream->steps[row] = steps > CYL_MOST_STEPS ? CYL_MOST_STEPS : (int64_t)steps;
        }
    }
    return used;
}

int64_t cyl_stream_flags_size(const CylStream *stream) { return copy_flags((CylStream *)stream, NULL, NULL); }

CylStatus cyl_stream_save(CylStream *stream, void *const *states, uint8_t *flags) {
    CylStatus status = enter(stream);
    if (status != CYL_OK) {
        return status;
    }
    for (int32_t s = 0; states && s < stream->workspace->model->state_count; s++) {
        if (states[s]) {
            cyl_workspace_get_state(stream->workspace, s, states[s]);
        }
    }
    copy_flags(stream, flags, NULL);
    leave(stream);
    return CYL_OK;
}

CylStatus cyl_stream_restore(CylStream *stream, const void *const *states, const uint8_t *flags) {
    CylStatus status = enter(stream);
    if (status != CYL_OK) {
        return status;
    }
    CylIeee saved = cyl_ieee_enter();
    for (int32_t s = 0; states && s < stream->workspace->model->state_count; s++) {
        if (states[s]) {
            cyl_workspace_set_state(stream->workspace, s, states[s]);
        }
    }
    cyl_ieee_leave(saved);
    copy_flags(stream, NULL, flags);
    leave(stream);
    return CYL_OK;
}
