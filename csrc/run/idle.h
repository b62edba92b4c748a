/* Workspaces between calls: any number of threads at once (idle.c). */
#ifndef CYL_IDLE_H
#define CYL_IDLE_H

#include "run/workspace.h"

#include <stdint.h>

/* cyl_idle_create and cyl_idle_free are in model/model.h */
/* one that fits, with all that it remembers of another call; NULL if there is none */
CylWorkspace *cyl_idle_take(CylIdle *idle, int64_t rows, const int64_t *times, int threads);
/* keeps it or frees it */
void cyl_idle_keep(CylIdle *idle, CylWorkspace *workspace);

#endif
