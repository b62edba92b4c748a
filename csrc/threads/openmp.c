/*
 * OpenMP's threads: a library of its own, without anything else of ours, that is loaded when they are first used.
 *
 * It names no OpenMP runtime. What GCC makes of the region calls the three functions of the runtime that are defined
 * here, and these go to the runtime that was bound: the one that the process has already, under whatever name its file
 * goes (packages bring renamed copies of libgomp along), else the system's. So a process has one pool of OpenMP
 * threads, and nothing that is installed needs a runtime to be there. With CYL_OPENMP_LINKED, for programs in C, the
 * runtime is linked in the usual way.
 */
#include "threads/openmp.h"

#include <omp.h>

void cyl_openmp_region(void (*part)(void *context, int thread, int threads), void *context, int threads) {
#pragma omp parallel num_threads(threads)
    /* the runtime may give fewer threads than were asked for */
    part(context, omp_get_thread_num(), omp_get_num_threads());
}

#ifndef CYL_OPENMP_LINKED

static CylOpenmpRuntime runtime;

void cyl_openmp_use(const CylOpenmpRuntime *found) { runtime = *found; }

void GOMP_parallel(void (*outlined)(void *), void *data, unsigned threads, unsigned flags) {
    runtime.parallel(outlined, data, threads, flags);
}
int omp_get_thread_num(void) { return runtime.thread_num(); }
int omp_get_num_threads(void) { return runtime.num_threads(); }

#endif
