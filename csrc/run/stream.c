/* Streams: a workspace whose states go on from one call to the next. */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/memory.h"
#include "model/status.h"
#include "run/call.h"
#include "run/pieces.h"
#include "run/rows.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct CylStream {
    CylRows rows; /* first */
    CylWorkspace *workspace;
    int threads;
    uint8_t *active;  /* (rows): of the current run, whatever becomes of the caller's */
    int64_t *order;   /* (rows): see CylWorkspace, of the current run; after the active rows come the others */
    int64_t *steps;   /* (rows): taken since the start */
    int64_t *taken;   /* (rows): the same, but no more than what the model settles after, and part of the state */
    uint8_t *carried; /* (layers): see cyl_stream_carry; NULL: all states go on */
    bool is_plain;    /* no step depends on how many came before it, or on indices that may be wrong */
};

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
    atomic_flag_clear(&s->rows.busy);
    s->rows.count = rows;
    s->threads = threads;
    CylStatus status = cyl_workspace_create(model, rows, NULL, true, threads, &s->workspace);
    if (status != CYL_OK) {
        free(s);
        return status;
    }
    s->active = cyl_alloc(rows, sizeof *s->active);
    s->order = cyl_alloc(rows, sizeof *s->order);
    s->steps = cyl_alloc(rows, sizeof *s->steps);
    s->taken = cyl_alloc(rows, sizeof *s->taken);
    if (!s->active || !s->order || !s->steps || !s->taken) {
        cyl_stream_free(s);
        return CYL_E_MEMORY;
    }
    s->workspace->is_stream = true;
    s->is_plain = model->settles == 0 && !model->has_indices;
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
        free(stream->taken);
        free(stream);
    }
}

CylStatus cyl_stream_carry(CylStream *stream, const uint8_t *carried) {
    size_t count = (size_t)stream->workspace->model->layer_count;
    uint8_t *copy = malloc(count);
    CylStatus status = copy ? cyl_enter(&stream->rows) : CYL_E_MEMORY;
    if (status != CYL_OK) {
        free(copy);
        return status;
    }
    memcpy(copy, carried, count);
    free(stream->carried);
    stream->carried = copy;
    stream->is_plain = false;
    cyl_leave(&stream->rows);
    return CYL_OK;
}

/* ---- some rows of a stream: they change places with others, so that a run finds them side by side ---- */

/* fills `order`, the active rows first, moving as few as possible; returns their number */
static CYL_SELDOM int64_t order_rows(CylStream *stream, const uint8_t *active) {
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
        int64_t time = cyl_call_steps(model, call, value, stream->workspace->taken);
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

/* ---- running ---- */

typedef struct {
    CylStream *stream;
    const CylCall *call;
    CylStop *stop; /* or NULL */
    int64_t steps; /* that were run */
} StreamRun;

static void run_team(void *context, const CylTeam *team) {
    StreamRun *run = context;
    int64_t steps = cyl_run_rows_on_team(run->stream->workspace, run->call, team, run->stop);
    if (team->thread == 0) {
        run->steps = steps;
    }
}

static CYL_SELDOM int64_t run_on_team(CylStream *stream, const CylCall *call, CylStop *stop, int threads) {
    CylWorkspace *w = stream->workspace;
    StreamRun run = {stream, call, stop, 0};
    cyl_begin_rows(w, call);
    cyl_parallel(w->model, run_team, &run, threads, cyl_call_work(w->model, call));
    return run.steps;
}

/* the rows that the workspace is bound to; returns how many steps were run */
static inline __attribute__((always_inline)) int64_t run_rows(CylStream *stream, const CylCall *call, CylStop *stop) {
    CylWorkspace *w = stream->workspace;
    const int threads = call->threads < stream->threads ? call->threads : stream->threads;
    const CylIeee saved = cyl_ieee_enter();
    const int64_t steps = threads == 1 && w->model->kernels->is_packed ? cyl_run_rows(w, call, stop)
                                                                       : run_on_team(stream, call, stop, threads);
    cyl_ieee_leave(saved);
    return steps;
}

/* the first `count` rows in the stream's order alone */
static CYL_SELDOM int64_t run_active_rows(CylStream *stream, const CylCall *call, int64_t count, CylStop *stop) {
    CylWorkspace *w = stream->workspace;
    int64_t steps = 0;
    if (count > 0) {
        swap_rows(stream, count);
        cyl_workspace_leave_rows(w);
        w->order = stream->order;
        steps = run_rows(stream, call, stop);
        w->order = NULL;
        cyl_workspace_rejoin_rows(w);
        swap_rows(stream, count);
    }
    spread_outputs(stream, call, count);
    return steps;
}

/* whether the model can take this number of steps, after `taken` of them: all together in an axis too, if each call is
   one of its own */
static CylStatus check_steps(const CylModel *model, const CylCall *call, int64_t taken, bool is_alone) {
    int64_t steps = 0; /* of the inputs with time */
    CYL_TRY(is_alone ? cyl_check_times(model, call->times) : cyl_check_input_times(model, call->times));
    for (int32_t i = 0; i < model->input_count; i++) {
        if (model->values[model->inputs[i]].has_time) {
            steps = steps ? steps : call->times[i];
            if (call->times[i] != steps || steps % model->step_multiple != 0) {
                return CYL_E_TIME;
            }
        }
    }
    for (int32_t a = 0; a < model->axis_count; a++) {
        if (cyl_axis_gain(model, a, taken, steps) < 0) {
            return CYL_E_MEMORY;
        }
    }
    return CYL_OK;
}

/* Sets how many steps the rows of a run have taken, which has to be the same of all: their windows are. */
static CYL_SELDOM CylStatus take_rows(CylStream *stream, int64_t rows, int64_t count, bool is_settled) {
    CylWorkspace *w = stream->workspace;
    const int64_t settles = w->model->settles;
    if (stream->carried || settles == 0) {
        return CYL_OK;
    }
    int64_t taken = settles, found = 0; /* settled too where no row is active */
    for (int64_t row = 0; row < rows; row++) {
        if (count == rows || stream->active[row]) {
            if (found++ && stream->taken[row] != taken) {
                return CYL_E_TIME;
            }
            taken = stream->taken[row];
        }
    }
    if (is_settled && taken < settles) {
        return CYL_E_TIME;
    }
    w->taken = taken;
    return CYL_OK;
}

/* Counts the steps of the rows of a run, as far as they matter. */
static CYL_SELDOM void count_taken(CylStream *stream, int64_t rows, bool is_all, int64_t steps) {
    const int64_t settles = stream->workspace->model->settles;
    for (int64_t row = 0; row < rows && settles > 0; row++) {
        const int64_t taken = stream->taken[row] + (is_all || stream->active[row] ? steps : 0);
        stream->taken[row] = taken < settles ? taken : settles;
    }
}

/* binds the workspace to the first `count` rows, if the model can take the call's number of steps */
static CYL_SELDOM CylStatus bind_rows(CylStream *stream, const CylCall *call, int64_t count) {
    CYL_TRY(check_steps(stream->workspace->model, call, stream->workspace->taken, stream->carried != NULL));
    cyl_bind_rows(stream->workspace, call, 0, count);
    return CYL_OK;
}

/* once the workspace is bound: the indices of the rows of a run are looked at, and what does not go on is forgotten */
static CYL_SELDOM CylStatus begin_rows(CylStream *stream, const CylCall *call, const uint8_t *active) {
    CYL_TRY(cyl_check_indices(stream->workspace->model, call, active));
    if (stream->carried) {
        cyl_workspace_forget(stream->workspace, stream->carried, active);
    }
    return CYL_OK;
}

static inline __attribute__((always_inline)) CylStatus run(CylStream *stream, const CylCall *call,
                                                           const uint8_t *active, bool is_settled) {
    CylWorkspace *w = stream->workspace;
    const int64_t count = active ? order_rows(stream, active) : call->rows;
    const bool is_plain = stream->is_plain;
    if (!is_plain) {
        CYL_TRY(take_rows(stream, call->rows, count, is_settled));
    }
    if (!cyl_is_bound(w, call, 0, count)) {
        CYL_TRY(bind_rows(stream, call, count));
    }
    if (!is_plain) {
        CYL_TRY(begin_rows(stream, call, active));
    }
    CylStop asked, *stop = cyl_stop_start(&asked, call);
    const bool is_all = count == call->rows;
    const int64_t steps = is_all ? run_rows(stream, call, stop) : run_active_rows(stream, call, count, stop);
    for (int64_t row = 0; row < call->rows; row++) {
        stream->steps[row] += is_all || stream->active[row] ? steps : 0;
    }
    if (!is_plain) {
        count_taken(stream, call->rows, is_all, steps);
    }
    return cyl_stop_is_requested(stop) ? CYL_E_STOPPED : CYL_OK;
}

/* `run`, whose layers write their traces */
static CYL_SELDOM CylStatus run_traced(CylStream *stream, const CylCall *call, const uint8_t *active) {
    CYL_TRY(cyl_check_traces(stream->workspace->model, call));
    cyl_workspace_trace(stream->workspace, call->traces, call->trace_count);
    CylStatus status = run(stream, call, active, false);
    cyl_workspace_untrace(stream->workspace, call->traces, call->trace_count);
    return status;
}

static inline bool can_run(const CylStream *stream, const CylCall *call) {
    return call->rows == stream->rows.count && call->threads >= 1 && call->threads <= CYL_MAX_THREADS;
}

static inline CylStatus enter_and_run(CylStream *stream, const CylCall *call, const uint8_t *active, bool is_settled) {
    if (!can_run(stream, call)) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(cyl_enter(&stream->rows));
    CylStatus status = call->traces ? run_traced(stream, call, active) : run(stream, call, active, is_settled);
    cyl_leave(&stream->rows);
    return status;
}

CylStatus cyl_stream_run(CylStream *stream, const CylCall *call) { return enter_and_run(stream, call, NULL, false); }

CylStatus cyl_stream_run_active(CylStream *stream, const CylCall *call, const uint8_t *active) {
    return enter_and_run(stream, call, active, false);
}

CylStatus cyl_stream_run_settled(CylStream *stream, const CylCall *call, const uint8_t *active) {
    return enter_and_run(stream, call, active, true);
}

/* ---- rows ---- */

static void reset_row(CylRows *rows, int64_t row) {
    CylStream *stream = (CylStream *)rows;
    cyl_workspace_reset_row(stream->workspace, row);
    stream->steps[row] = stream->taken[row] = 0;
}

static void copy_row(CylRows *to, int64_t to_row, const CylRows *from, int64_t from_row) {
    CylStream *stream = (CylStream *)to;
    const CylStream *other = (const CylStream *)from;
    cyl_workspace_copy_row(stream->workspace, to_row, other->workspace, from_row);
    stream->steps[to_row] = other->steps[from_row];
    stream->taken[to_row] = other->taken[from_row];
}

CylStatus cyl_stream_reset(CylStream *stream) {
    CYL_TRY(cyl_enter(&stream->rows));
    for (int64_t row = 0; row < stream->rows.count; row++) {
        reset_row(&stream->rows, row);
    }
    cyl_leave(&stream->rows);
    return CYL_OK;
}

CylStatus cyl_stream_reset_rows(CylStream *stream, const int64_t *rows, int64_t count) {
    return cyl_rows_reset(&stream->rows, rows, count, reset_row);
}

CylStatus cyl_stream_copy_rows(CylStream *to, const int64_t *to_rows, CylStream *from, const int64_t *from_rows,
                               int64_t count) {
    if (to->workspace->model != from->workspace->model) {
        return CYL_E_ARGUMENT;
    }
    return cyl_rows_copy(&to->rows, to_rows, &from->rows, from_rows, count, copy_row);
}

static void copy_all(CylStream *to, const CylStream *from) {
    for (int64_t row = 0; row < to->rows.count; row++) {
        copy_row(&to->rows, row, &from->rows, row);
    }
}

CylStatus cyl_stream_run_on(CylStream *stream, CylStream *other, const CylCall *call, const uint8_t *active) {
    if (!can_run(stream, call) || stream == other || !cyl_workspace_is_alike(stream->workspace, other->workspace)) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(cyl_enter(&stream->rows));
    CylStatus status = cyl_enter(&other->rows);
    if (status == CYL_OK) {
        copy_all(other, stream);
        status = call->traces ? run_traced(other, call, active) : run(other, call, active, false);
        if (status == CYL_OK || status == CYL_E_STOPPED) {
            copy_all(stream, other);
        }
        cyl_leave(&other->rows);
    }
    cyl_leave(&stream->rows);
    return status;
}

/* ---- what a stream remembers ---- */

CylStatus cyl_stream_get_steps(CylStream *stream, int64_t *steps) {
    CYL_TRY(cyl_enter(&stream->rows));
    memcpy(steps, stream->steps, (size_t)stream->rows.count * sizeof *steps);
    cyl_leave(&stream->rows);
    return CYL_OK;
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

CylStatus cyl_stream_save(CylStream *stream, const CylStreamState *state) {
    CYL_TRY(cyl_enter(&stream->rows));
    const CylModel *model = stream->workspace->model;
    for (int32_t s = 0; state->states && s < model->state_count; s++) {
        if (state->states[s]) {
            cyl_workspace_get_state(stream->workspace, s, stream->rows.count, state->states[s]);
        }
    }
    for (int32_t n = 0, k = 0; state->kept && n < model->layer_count; n++) {
        if (model->layers[n].kept_size > 0) {
            cyl_workspace_get_kept(stream->workspace, &model->layers[n], stream->rows.count, state->kept[k++]);
        }
    }
    if (state->taken) {
        memcpy(state->taken, stream->taken, (size_t)stream->rows.count * sizeof *state->taken);
    }
    copy_flags(stream, state->flags, NULL);
    cyl_leave(&stream->rows);
    return CYL_OK;
}

CylStatus cyl_stream_restore(CylStream *stream, const CylStreamState *state) {
    const CylModel *model = stream->workspace->model;
    for (int64_t row = 0; state->taken && row < stream->rows.count; row++) {
        const int64_t taken = state->taken[row];
        if (taken < 0 || taken > model->settles || taken % model->step_multiple != 0) {
            return CYL_E_ARGUMENT;
        }
    }
    CYL_TRY(cyl_enter(&stream->rows));
    CylIeee saved = cyl_ieee_enter();
    for (int32_t s = 0; state->states && s < model->state_count; s++) {
        if (state->states[s]) {
            cyl_workspace_set_state(stream->workspace, s, stream->rows.count, state->states[s], model->state_sizes[s]);
        }
    }
    for (int32_t n = 0, k = 0; state->kept && n < model->layer_count; n++) {
        if (model->layers[n].kept_size > 0) {
            cyl_workspace_set_kept(stream->workspace, &model->layers[n], stream->rows.count, state->kept[k++]);
        }
    }
    cyl_ieee_leave(saved);
    if (state->taken) {
        memcpy(stream->taken, state->taken, (size_t)stream->rows.count * sizeof *stream->taken);
    }
    copy_flags(stream, NULL, state->flags);
    cyl_leave(&stream->rows);
    return CYL_OK;
}

CylStatus cyl_stream_get_taken(CylStream *stream, int64_t *taken) {
    CYL_TRY(cyl_enter(&stream->rows));
    memcpy(taken, stream->taken, (size_t)stream->rows.count * sizeof *taken);
    cyl_leave(&stream->rows);
    return CYL_OK;
}
