/* The last steps of what a layer reads, kept for the windows that reach into earlier pieces (kept.c). */
#ifndef CYL_KEPT_H
#define CYL_KEPT_H

#include "cylstm.h"
#include "model/model.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdint.h>

/* how many steps of x are kept: what the layer carries as a state, or keeps for the pieces of one sequence */
int64_t cyl_kept_steps(const CylModel *model, const CylLayer *layer);
/* where the window of the first output of this run begins, counted from the first step of x in this run */
int64_t cyl_first_window(const CylLayer *layer, const CylWorkspace *workspace);
/* whether the steps of this run have to be kept for another one */
bool cyl_has_later_run(const CylLayer *layer, const CylWorkspace *workspace);
/* Copies a row of x in this run behind its kept steps, to real (kept + steps, features); and keeps the last of both. */
void cyl_kept_join(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row, void *to);
/* Keeps the last steps of a row alone. */
void cyl_kept_take(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, int64_t row);
/* What a layer reads of x in this run, by all threads: with `is_joined` its scratch, where the kept steps lie before
   those of x, which the view begins with; else x, and its last steps are kept where another run may need them. */
CylView cyl_kept_read(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team,
                      bool is_joined);
/* the kept steps of a row */
char *cyl_kept_row(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, int64_t row);
/* Places those of all rows in the memory of `bind`, as the state h[0]. */
void *cyl_kept_place(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, char *memory,
                     size_t *used);
/* The same, and as the layer's scratch room for all rows joined and `more` steps. */
size_t cyl_kept_bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory, int64_t more,
                     CylLayerState *state);

#endif
