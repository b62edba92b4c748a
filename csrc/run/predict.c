/* Whole calls: cyl_predict, and the predictions of windows. Rows are divided among threads, or all threads share them.
 */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "model/status.h"
#include "run/call.h"
#include "run/idle.h"
#include "run/pieces.h"
#include "run/predict.h"
#include "run/stop.h"
#include "platform/tuning.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdatomic.h>

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
    if (!cyl_is_bound(w, call, first_row, rows)) {
        cyl_bind_rows(w, call, first_row, rows);
    }
    cyl_workspace_reset(w);
    for (int32_t s = 0; call->initial_state && s < model->state_count; s++) {
        if (call->initial_state[s]) {
            const int64_t size = model->state_sizes[s];
            cyl_workspace_set_state(w, s, w->rows, cyl_at(model, call->initial_state[s], first_row * size), size);
        }
    }
}

static void finish_rows(const CylWorkspace *w, const CylCall *call, int64_t first_row) {
    const CylModel *model = w->model;
    for (int32_t s = 0; call->final_state && s < model->state_count; s++) {
        if (call->final_state[s]) {
            cyl_workspace_get_state(w, s, w->rows,
                                    cyl_at(model, call->final_state[s], first_row * model->state_sizes[s]));
        }
    }
}

/* each thread takes tiles of rows until none is left */
static void predict_apart(void *context, const CylTeam *team) {
    Prediction *p = context;
    CylWorkspace *w = p->workspaces[team->thread];
    while (!p->stop || !cyl_stop_look(p->stop)) {
        int64_t first = atomic_fetch_add(&p->next_tile, 1) * p->tile_rows;
        if (first >= p->call->rows) {
            break;
        }
        int64_t rows = p->call->rows - first < p->tile_rows ? p->call->rows - first : p->tile_rows;
        start_rows(w, p->call, first, rows);
        cyl_run_rows(w, p->call, p->stop);
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
    cyl_run_rows_on_team(w, p->call, team, p->stop);
    if (team->thread == 0) {
        finish_rows(w, p->call, 0);
    }
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
        if (call->traces) {
            cyl_workspace_trace(workspaces[i], call->traces, call->trace_count);
        }
    }
    CylIeee saved = cyl_ieee_enter();
    if (!division.apart) {
        start_rows(workspaces[0], call, 0, call->rows);
        cyl_begin_rows(workspaces[0], call);
    }
    cyl_parallel(model, division.apart ? predict_apart : predict_together, &p, threads, cyl_call_work(model, call));
    cyl_ieee_leave(saved);
    for (int i = 0; i < division.workspaces; i++) {
        workspaces[i]->stop = NULL;
        if (call->traces) {
            cyl_workspace_untrace(workspaces[i], call->traces, call->trace_count);
        }
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
    CYL_TRY(cyl_check_call(model, call));
    CYL_TRY(cyl_check_traces(model, call));
    CylDivision division = cyl_divide_rows(call->rows, call->threads);
    CylWorkspace *all[CYL_MAX_THREADS];
    CylStatus status = CYL_OK;
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

CylStatus cyl_model_steps(const CylModel *model, const int64_t *times, int32_t output, int64_t *steps) {
    *steps = 1;
    if (!model->is_finished || output < 0 || output >= model->output_count) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(cyl_check_times(model, times));
    const int32_t axis = model->values[model->outputs[output]].axis;
    if (axis >= 0) {
        *steps = cyl_axis_length(model, axis, times);
    }
    return CYL_OK;
}

CylStatus cyl_model_run_bytes(const CylModel *model, const int64_t *times, int64_t *bytes) {
    *bytes = 0;
    if (!model->is_finished) {
        return CYL_E_ARGUMENT;
    }
    if (!times && !model->can_stream) {
        return CYL_E_STREAM;
    }
    if (times) {
        CYL_TRY(cyl_check_times(model, times));
    }
    CylWorkspace *workspace;
    CYL_TRY(cyl_workspace_create(model, 1, times, !times || model->is_chunkable, 1, &workspace));
    *bytes = (int64_t)workspace->bytes;
    cyl_workspace_free(workspace);
    return CYL_OK;
}

int cyl_model_worthwhile_threads(const CylModel *model, int64_t rows, int64_t time, int threads) {
    double step = (double)model->work * (double)rows, call = step * (double)time;
    double apart = call / CYL_WORK_ROWS_APART < (double)rows ? call / CYL_WORK_ROWS_APART : (double)rows;
    double shared = step / CYL_WORK_ROWS_SHARED;
    double useful = apart > shared ? apart : shared;
    if (useful < 2.0 && ((model->has_pairs && call >= CYL_WORK_IN_HALVES) ||
                         (model->has_fed_pairs && time >= CYL_FED_STEPS && call >= CYL_WORK_FED))) {
        useful = 2.0;
    }
    return useful < 2.0 ? 1 : useful < (double)threads ? (int)useful : threads;
}
