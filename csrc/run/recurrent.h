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
void cyl_recurrent_run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team);

#endif
