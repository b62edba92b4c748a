/*
 * The barrier at which the threads of one call meet: it spins for a bounded time and then sleeps.
 *
 * Who the threads are is chosen when building: our own pool (threads_pool.c, CYL_THREADS_POOL), OpenMP's
 * (threads_openmp.c, CYL_THREADS_OPENMP), or with neither of the two the calling thread alone.
 */
#define _POSIX_C_SOURCE 200809L

#include "barrier.h"
#include "threads.h"

#if !defined(CYL_THREADS_POOL) && !defined(CYL_THREADS_OPENMP)

const char *cyl_threads_name(void) { return "none"; }

void cyl_threads_patience(int64_t nanoseconds) { (void)nanoseconds; }

void cyl_parallel(void (*fn)(void *context, const CylTeam *team), void *context, int threads, double work) {
    (void)threads;
    (void)work;
    CylTeam alone = {.threads = 1};
    fn(context, &alone);
}

#endif

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
                      .barrier = team->barrier + 1 + which};
    return which;
}

int64_t cyl_take_steps(const CylTeam *half, int64_t taken, int64_t most) {
    CylHandover *handover = half->takes_from;
    if (!handover) {
        return most;
    }
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

void cyl_give_steps(const CylTeam *half, int64_t given) {
    if (half->gives_to && half->thread == 0) {
        atomic_store_explicit(&half->gives_to->given, given, memory_order_release);
    }
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

void cyl_barrier(const CylTeam *team) {
    if (team->threads == 1) {
        return;
    }
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
    do {
        for (int spin = 0; spin < CYL_SPINS_PER_LOOK; spin++) {
            if (atomic_load_explicit(&barrier->generation, memory_order_acquire) != generation) {
                return;
            }
            cyl_pause();
        }
    } while (cyl_keeps_waiting(&start));
    sleep_until_passed(barrier, generation);
}
