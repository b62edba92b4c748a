/* Running a workspace over pieces of a call's rows and time (pieces.c). */
#ifndef CYL_PIECES_H
#define CYL_PIECES_H

#include "cylstm.h"
#include "model/model.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdint.h>

/* Binds the workspace to the shape of rows [first_row, first_row + rows) of the call and their first steps. */
void cyl_bind_rows(CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows);
/* whether it is bound to that shape already */
static inline bool cyl_is_bound(const CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows) {
    if (w->bound.rows != rows || w->bound.first_row != first_row || w->bound.first_step != 0 ||
        w->bound.taken != w->taken) {
        return false;
    }
    for (int32_t i = 0, inputs = w->model->input_count; i < inputs; i++) {
        if (w->call_times[i] != call->times[i]) {
            return false;
        }
    }
    return true;
}

/* Runs the rows that the workspace is bound to, on this thread. Returns how many steps were run: fewer than all if
   `stop`, which may be NULL, ended the call. */
int64_t cyl_run_rows(CylWorkspace *w, const CylCall *call, CylStop *stop);
/* The same on a team: this first, by the thread that makes the call, before its team starts, */
void cyl_begin_rows(CylWorkspace *w, const CylCall *call);
/* and then this by every thread. */
int64_t cyl_run_rows_on_team(CylWorkspace *w, const CylCall *call, const CylTeam *team, CylStop *stop);

#endif
