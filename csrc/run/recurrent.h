/* The scheduler of recurrent layers (recurrent.c). */
#ifndef CYL_RECURRENT_H
#define CYL_RECURRENT_H

#include "cylstm.h"
#include "model/model.h"
#include "model/recurrent.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stddef.h>

size_t cyl_recurrent_bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory);
/* what the layer's runs on pieces of one shape have in common, once the views of that shape are bound */
void cyl_recurrent_resolve(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace);
void cyl_recurrent_run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team);
/* What the end of a layer that `has_end` makes known: by the first thread, when all of the team have run it. */
void cyl_recurrent_end(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace);

#endif
