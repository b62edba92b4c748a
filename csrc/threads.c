/*
 * Threads: the only file that knows OpenMP.
 *
 * One parallel region per call; inside it the threads meet at our own barrier, which spins for a bounded time and
 * then sleeps. After fork the child runs serially, because libgomp's threads do not survive it and the next
 * parallel region would wait for them for ever.
 */
#define _POSIX_C_SOURCE 200809L

#include "internal.h"

#include <stdatomic.h>
#include <time.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(_WIN32)
#include <windows.h>
#else
#include <pthread.h>
#include <sched.h>
#endif

/* A thread waits awake for this long before it sleeps: on a busy machine being woken can take a whole scheduler tick
   of 4 ms, which a step of microseconds would pay at every barrier. */
#define CYL_SPIN_NANOSECONDS 2000000
#define CYL_SPINS_PER_LOOK 64

struct CylBarrier {
    _Alignas(CYL_ALIGNMENT) atomic_int arrived;
    _Alignas(CYL_ALIGNMENT) atomic_uint generation;
    _Alignas(CYL_ALIGNMENT) atomic_int sleepers;
#if !defined(_WIN32)
    pthread_mutex_t mutex;
    pthread_cond_t wake;
#endif
};

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* where there are more threads than cores, the one waited for may need this core */
static void let_others_run(void) {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

static int64_t nanoseconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int cyl_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

#ifdef _OPENMP

static atomic_bool is_forked_child;

#if !defined(_WIN32)
static void after_fork(void) { atomic_store(&is_forked_child, true); }
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void watch_fork(void) { pthread_atfork(NULL, NULL, after_fork); }
#endif

static void barrier_start(CylBarrier *barrier) {
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->generation, 0);
    atomic_init(&barrier->sleepers, 0);
#if !defined(_WIN32)
    pthread_mutex_init(&barrier->mutex, NULL);
    pthread_cond_init(&barrier->wake, NULL);
#endif
}

static void barrier_end(CylBarrier *barrier) {
#if !defined(_WIN32)
    pthread_cond_destroy(&barrier->wake);
    pthread_mutex_destroy(&barrier->mutex);
#else
    (void)barrier;
#endif
}

void cyl_parallel(void (*fn)(void *context, const CylTeam *team), void *context, int threads) {
#if !defined(_WIN32)
    pthread_once(&fork_once, watch_fork);
#endif
    if (threads <= 1 || atomic_load(&is_forked_child)) {
        CylTeam alone = {0, 1, NULL};
        fn(context, &alone);
        return;
    }
    CylBarrier barrier;
    barrier_start(&barrier);
#pragma omp parallel num_threads(threads)
    {
        /* the runtime may give fewer threads than were asked for */
        CylTeam team = {omp_get_thread_num(), omp_get_num_threads(), &barrier};
        CylIeee saved = cyl_ieee_enter();
        fn(context, &team);
        cyl_ieee_leave(saved);
    }
    barrier_end(&barrier);
}

#else

void cyl_parallel(void (*fn)(void *context, const CylTeam *team), void *context, int threads) {
    (void)threads;
    CylTeam alone = {0, 1, NULL};
    fn(context, &alone);
}

#endif

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
            pause_briefly();
        }
        let_others_run();
        start = start ? start : nanoseconds();
    } while (nanoseconds() - start < CYL_SPIN_NANOSECONDS);
    sleep_until_passed(barrier, generation);
}
