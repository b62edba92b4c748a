/*
 * Threads of OpenMP: one parallel region per call. After fork the child runs serially, because libgomp's threads do
 * not survive it and the next region would wait for them for ever.
 */
#ifdef CYL_THREADS_OPENMP

#define _POSIX_C_SOURCE 200809L

#include "barrier.h"

#include <omp.h>

static atomic_bool is_forked_child;

#if !defined(_WIN32)
static void after_fork(void) { atomic_store(&is_forked_child, true); }
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void watch_fork(void) { pthread_atfork(NULL, NULL, after_fork); }
#endif

const char *cyl_threads_name(void) { return "openmp"; }

/* a region begins when all of its threads are there */
void cyl_threads_patience(int64_t nanoseconds) { (void)nanoseconds; }

void cyl_parallel(void (*fn)(void *context, const CylTeam *team), void *context, int threads, double work) {
    (void)work;
#if !defined(_WIN32)
    pthread_once(&fork_once, watch_fork);
#endif
    if (threads <= 1 || atomic_load(&is_forked_child)) {
        CylTeam alone = {.threads = 1};
        fn(context, &alone);
        return;
    }
    CylBarrier barriers[CYL_TEAM_BARRIERS];
    cyl_barriers_start(barriers);
#pragma omp parallel num_threads(threads)
    {
        /* the runtime may give fewer threads than were asked for */
        CylTeam team = {.thread = omp_get_thread_num(), .threads = omp_get_num_threads(), .barrier = barriers};
        CylIeee saved = cyl_ieee_enter();
        fn(context, &team);
        cyl_ieee_leave(saved);
    }
    cyl_barriers_end(barriers);
}

#else
typedef int cyl_without_openmp; /* C forbids an empty file */
#endif
