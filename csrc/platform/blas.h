/* Holding a BLAS at one thread, and forks away from its products (blas.c). */
#ifndef CYL_BLAS_H
#define CYL_BLAS_H

#include "cylstm.h"

#include <stdbool.h>

/* Around a call, by the thread that makes it, and without effect unless the library has one number of threads for the
   whole process. */
void cyl_blas_hold(const CylBlas *blas);
void cyl_blas_release(const CylBlas *blas);
/* Around each thread's part of a call if the library has a number for each thread: cyl_blas_release_here takes what
   cyl_blas_hold_here returns. */
bool cyl_blas_has_local_threads(const CylBlas *blas);
int cyl_blas_hold_here(const CylBlas *blas);
void cyl_blas_release_here(const CylBlas *blas, int saved);
/* Around a product, within the call: cyl_blas_leave takes what cyl_blas_enter returns. */
int cyl_blas_enter(void);
void cyl_blas_leave(int count);
/* From now on no fork falls into a product, and a child finds the libraries as they are without us. */
void cyl_blas_watch_fork(void);

#endif
