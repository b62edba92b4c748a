/*
 * The threads of one call: whose they are, and the barrier at which they meet, which spins for a bounded time and then
 * sleeps.
 *
 * A call runs on the threads of our own pool (pool.c; without CYL_HAVE_POOL on the calling thread alone), or on
 * OpenMP's. These are in a library of their own (openmp.c), so that only a process that uses
 * them loads an OpenMP runtime; until that library is bound, and in a forked child, which libgomp's threads do not
 * survive (its next parallel region would wait for them for ever), the pool runs the calls.
 */
#define _POSIX_C_SOURCE 200809L

#include "platform/ieee.h"
#include "threads/barrier.h"
#include "threads/late.h"
#include "threads/team.h"
#include "platform/waiting.h"

#include <stdbool.h>

#ifdef CYL_HAVE_POOL
const char *cyl_threads_name(void) { return "pool"; }
#else
const char *cyl_threads_name(void) { return "none"; }

void cyl_pool_parallel(CylTask *task, void *context, int threads, double work) {
    (void)threads;
    (void)work;
    CylTeam alone = {.threads = 1};
    task(context, &alone);
}
#endif

/* ---- OpenMP ---- */

static _Atomic(CylRegion *) openmp_region;
static atomic_bool is_forked_child;

#if !defined(_WIN32)
static void after_fork(void) { atomic_store(&is_forked_child, true); }
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void watch_fork(void) { pthread_atfork(NULL, NULL, after_fork); }
#endif

void cyl_openmp_bind(CylRegion *region) { atomic_store(&openmp_region, region); }

void cyl_threads_watch_fork(void) {
#if !defined(_WIN32)
    pthread_once(&fork_once, watch_fork);
#endif
}

typedef struct {
    CylTask *task;
    void *context;
    CylBarrier *barriers;
    CylLate *late;
} Region;

static void run_in_region(void *context, int thread, int threads) {
    const Region *region = context;
    CylTeam team = {
        .thread = thread, .threads = threads, .barrier = region->barriers, .late = region->late, .own = &team};
    CylIeee saved = cyl_ieee_enter();
    region->task(region->context, &team);
    cyl_ieee_leave(saved);
}

/* ---- one call ---- */

void cyl_team_run(CylThreads whose, CylTask *task, void *context, int threads, double work) {
    CylRegion *openmp = whose == CYL_THREADS_OPENMP ? atomic_load(&openmp_region) : NULL;
    if (!openmp || atomic_load(&is_forked_child)) {
        cyl_pool_parallel(task, context, threads, work);
        return;
    }
    CylBarrier barriers[CYL_TEAM_BARRIERS];
    CylLate late;
    Region region = {task, context, barriers, &late};
    cyl_barriers_start(barriers);
    cyl_late_start(&late, threads, work);
    openmp(run_in_region, &region, threads);
    cyl_late_end(&late);
    cyl_barriers_end(barriers);
}

/* ---- where the threads of a call meet ---- */

void cyl_barriers_start(CylBarrier *barriers) {
    for (int i = 0; i < CYL_TEAM_BARRIERS; i++) {
        CylBarrier *barrier = &barriers[i];
        atomic_init(&barrier->arrived, 0);
        atomic_init(&barrier->generation, 0);
        atomic_init(&barrier->sleepers, 0);
#if !defined(_WIN32)
        pthread_mutex_init(&barrier->mutex, NULL);
        pthread_cond_init(&barrier->wake, NULL);
#endif
    }
}

void cyl_barriers_end(CylBarrier *barriers) {
#if !defined(_WIN32)
    for (int i = 0; i < CYL_TEAM_BARRIERS; i++) {
        pthread_cond_destroy(&barriers[i].wake);
        pthread_mutex_destroy(&barriers[i].mutex);
    }
#else
    (void)barriers;
#endif
}

int cyl_team_half(const CylTeam *team, CylTeam *half) {
    int first = team->threads / 2, which = team->thread >= first;
    *half = (CylTeam){.thread = which ? team->thread - first : team->thread,
                      .threads = which ? team->threads - first : first,
                      .barrier = team->barrier + 1 + which,
                      .late = which ? NULL : team->late};
    return which;
}

int64_t cyl_wait_for_steps(const CylTeam *half, int64_t taken, int64_t most) {
    CylHandover *handover = half->takes_from;
    if (half->thread == 0) {
        int64_t given, start = 0;
        int spin = 0;
        /* always awake: the other half is at work on what is waited for */
        while ((given = atomic_load_explicit(&handover->given, memory_order_acquire)) <= taken) {
            cyl_pause();
            if (++spin % CYL_SPINS_PER_LOOK == 0) {
                cyl_keeps_waiting(&start);
            }
        }
        handover->taken = given - taken < most ? given - taken : most;
    }
    cyl_barrier(half);
    return handover->taken;
}

/* the slow half of waiting: asleep until the generation changes */
static void sleep_until_passed(CylBarrier *barrier, unsigned generation) {
#if defined(_WIN32)
    while (atomic_load(&barrier->generation) == generation) {
        SwitchToThread();
    }
#else
    pthread_mutex_lock(&barrier->mutex);
    atomic_fetch_add(&barrier->sleepers, 1);
    while (atomic_load(&barrier->generation) == generation) {
        pthread_cond_wait(&barrier->wake, &barrier->mutex);
    }
    atomic_fetch_sub(&barrier->sleepers, 1);
    pthread_mutex_unlock(&barrier->mutex);
#endif
}

/* the fast half; `*start` stays 0 where it took no time */
static bool is_passed_while_awake(const CylBarrier *barrier, unsigned generation, int64_t *start) {
    do {
        for (int spin = 0; spin < CYL_SPINS_PER_LOOK; spin++) {
            if (atomic_load_explicit(&barrier->generation, memory_order_acquire) != generation) {
                return true;
            }
            cyl_pause();
        }
    } while (cyl_keeps_waiting(start));
    return false;
}

void cyl_meet(const CylTeam *team) {
    CylBarrier *barrier = team->barrier;
    unsigned generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == team->threads - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        /* sequentially consistent, as is the sleeper's count: one of the two sees the other */
        atomic_store(&barrier->generation, generation + 1);
        if (atomic_load(&barrier->sleepers) > 0) {
#if !defined(_WIN32)
            pthread_mutex_lock(&barrier->mutex);
            pthread_cond_broadcast(&barrier->wake);
            pthread_mutex_unlock(&barrier->mutex);
#endif
        }
        return;
    }
    int64_t start = 0;
    const bool is_passed = is_passed_while_awake(barrier, generation, &start);
    if (!is_passed) {
        sleep_until_passed(barrier, generation);
    }
    if (start != 0 && team->thread == 0 && team->late) {
        cyl_late_waited(team->late, start, cyl_nanoseconds());
    }
}
