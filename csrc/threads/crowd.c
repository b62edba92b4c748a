/*
 * Calls that run at once: a call takes the cores that the others leave.
 *
 * The threads of a team meet at barriers, so that all of them wait for one that has lost its core: a call that takes
 * several threads just before 31 others come lasts for seconds. So after a moment with as many calls as cores, calls
 * take one thread each for a while. How many threads take part is no matter of the result.
 */
#define _GNU_SOURCE /* sched_getaffinity */

#include "platform/waiting.h"
#include "threads/team.h"

#include <stdatomic.h>

#if defined(__linux__)
#include <sched.h>
#elif !defined(_WIN32)
#include <unistd.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

/* calls that are counted, and their threads */
static atomic_int calls_running, threads_running;
/* when there were as many calls as cores; 0: never */
static atomic_llong crowded;
static atomic_llong patience_of_tests;

void cyl_threads_patience(int64_t nanoseconds) { atomic_store(&patience_of_tests, nanoseconds); }
int64_t cyl_least_patience(void) { return atomic_load_explicit(&patience_of_tests, memory_order_relaxed); }

#if !defined(_WIN32)
/* the other threads' calls do not go on in a child */
static void after_fork(void) {
    atomic_store(&calls_running, 0);
    atomic_store(&threads_running, 0);
    atomic_store(&crowded, 0);
}
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void watch_fork(void) { pthread_atfork(NULL, NULL, after_fork); }
#endif

/* that this process may use; asked each time, since it may change */
static int usable_cores(void) {
#if defined(__linux__)
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : CYL_MAX_THREADS;
#elif defined(_SC_NPROCESSORS_ONLN)
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 && cores < CYL_MAX_THREADS ? (int)cores : CYL_MAX_THREADS;
#else
    return CYL_MAX_THREADS;
#endif
}

/* whether there are, with so many other calls, as many calls as cores, or were a moment ago */
static int is_crowded(int calls, int cores) {
    const int64_t now = cyl_nanoseconds();
    if (calls >= cores) {
        atomic_store(&crowded, now);
    }
    const int64_t last = atomic_load(&crowded);
    return last != 0 && now - last < CYL_CROWD_NANOSECONDS;
}

int cyl_threads_are_taken(void) {
    const int calls = atomic_load_explicit(&calls_running, memory_order_relaxed);
    if ((calls == 0 && atomic_load_explicit(&crowded, memory_order_relaxed) == 0) || cyl_least_patience() != 0) {
        return 0;
    }
    /* the cores are counted where there are calls to compare them with */
    return is_crowded(calls, calls ? usable_cores() : CYL_MAX_THREADS);
}

/* of `threads` threads of a call that comes when so many other calls run, on so many threads */
static int left_by_others(int threads, int calls, int others) {
    const int cores = usable_cores(), left = cores - others;
    if (is_crowded(calls, cores)) {
        return 1;
    }
    /* a call by itself has what it asks for, also if that is more than there are cores */
    return others <= 0 || left >= threads ? threads : left < 1 ? 1 : left;
}

int cyl_threads_enter(int threads) {
#if !defined(_WIN32)
    pthread_once(&fork_once, watch_fork);
#endif
    const int calls = atomic_fetch_add(&calls_running, 1), others = atomic_fetch_add(&threads_running, 1);
    if (threads > 1 && cyl_least_patience() == 0) {
        threads = left_by_others(threads, calls, others);
    }
    atomic_fetch_add(&threads_running, threads - 1);
    return threads;
}

void cyl_threads_leave(int threads) {
    atomic_fetch_sub(&threads_running, threads);
    atomic_fetch_sub(&calls_running, 1);
}
