/* Workspaces between calls: any number of threads at once (idle.c). */
#ifndef CYL_IDLE_H
#define CYL_IDLE_H

#include "run/workspace.h"

#include <stdint.h>

typedef struct CylIdle CylIdle;

CylIdle *cyl_idle_create(void); /* NULL if there is no memory */
void cyl_idle_free(CylIdle *idle);
/* one that fits, with all that it remembers of another call; NULL if there is none */
CylWorkspace *cyl_idle_take(CylIdle *idle, int64_t rows, const int64_t *times, int threads);
/* keeps it or frees it */
void cyl_idle_keep(CylIdle *idle, CylWorkspace *workspace);

#endif
