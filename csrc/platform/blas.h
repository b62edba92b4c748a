/* Holding the BLAS at one thread (blas.c). */
#ifndef CYL_BLAS_H
#define CYL_BLAS_H

#include "cylstm.h"
#include "threads/team.h"

#include <stdbool.h>

/* around the call, by the thread that calls: where the library has one number of threads for the whole process */
void cyl_blas_hold(const CylModel *model);
void cyl_blas_release(const CylModel *model);
/* around a product, within the call: cyl_blas_leave takes what cyl_blas_enter returns */
int cyl_blas_enter(void);
void cyl_blas_leave(int count);
/* from now on no fork falls into a product, and a child finds the libraries as they are without us */
void cyl_blas_watch_fork(void);
/* where it has one for each thread, each thread of the call holds its own: this task, with a CylHeld, does it around
   another */
bool cyl_blas_has_local_threads(const CylModel *model);
typedef struct {
    const CylModel *model;
    CylTask *task;
    void *context;
} CylHeld;
void cyl_blas_run_held(void *held, const CylTeam *team);

#endif
