/*
 * Our own threads: a pool that all callers of the process share.
 *
 * A worker that has finished stays awake for CYL_SPIN_NANOSECONDS, so that calls that follow each other find it, and
 * then sleeps. A call takes the workers that are awake and free, and never depends on one that is not: to wake a
 * thread takes some 30 us on an idle machine and 4 ms and more on a busy one, a step a few microseconds. It wakes
 * sleepers for the calls to come if calls come often, and waits for them for a small part of its own time. How many
 * threads take part is no matter of the result.
 *
 * No thread exists before the first parallel call. A forked child starts with none and makes its own.
 */
#ifdef CYL_HAVE_POOL

#define _GNU_SOURCE /* sched_getcpu, pthread_setaffinity_np */

#include "platform/ieee.h"
#include "threads/barrier.h"
#include "threads/late.h"
#include "threads/team.h"
#include "platform/waiting.h"

#include <signal.h>
#include <stdbool.h>

#define STACK_BYTES (512 * 1024)

typedef enum {
    ASLEEP, /* waits for `wake` */
    WAKING, /* woken or just made, not on a core yet */
    AWAKE,  /* spins, free */
    TAKEN,  /* a call has taken it and says what there is to do */
    RUNNING
} WorkerState;

typedef struct {
    _Alignas(CYL_ALIGNMENT) atomic_int state; /* WorkerState */
    CylTask *task;
    void *context;
    CylTeam team;
    atomic_int *unfinished; /* of the call's workers; in the frame of the call, which may be gone once it is 0 */
    pthread_mutex_t mutex;  /* of sleeping and waking */
    pthread_cond_t wake;
    pthread_t thread;
} Worker;

/* workers[0..started) have a thread; a forked child starts again at 0 */
static Worker workers[CYL_MAX_THREADS];
static atomic_int started;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static atomic_llong last_call;

static void after_fork(void) {
    atomic_store(&started, 0);
    making = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void watch_fork(void) { pthread_atfork(NULL, NULL, after_fork); }

/* until a call starts this worker or its time awake is over */
static bool is_started_while_awake(Worker *worker) {
    int64_t start = 0;
    do {
        for (int spin = 0; spin < CYL_SPINS_PER_LOOK; spin++) {
            if (atomic_load_explicit(&worker->state, memory_order_acquire) == RUNNING) {
                return true;
            }
            cyl_pause();
        }
    } while (cyl_keeps_waiting(&start));
    return false;
}

static void sleep_until_woken(Worker *worker) {
    pthread_mutex_lock(&worker->mutex);
    int awake = AWAKE;
    if (atomic_compare_exchange_strong(&worker->state, &awake, ASLEEP)) {
        while (atomic_load(&worker->state) == ASLEEP) {
            pthread_cond_wait(&worker->wake, &worker->mutex);
        }
        atomic_store(&worker->state, AWAKE);
    } /* else a call took it in the meantime */
    pthread_mutex_unlock(&worker->mutex);
}

static void *run_worker(void *argument) {
    Worker *worker = argument;
    atomic_store(&worker->state, AWAKE);
    for (;;) {
        if (!is_started_while_awake(worker)) {
            sleep_until_woken(worker);
            continue;
        }
        CylIeee saved = cyl_ieee_enter();
        worker->task(worker->context, &worker->team);
        cyl_ieee_leave(saved);
        /* Free before the call knows, so that its next one finds this worker awake; from then on another call may take
           it and write its fields, and the last touch of this call's memory is the count. */
        atomic_int *unfinished = worker->unfinished;
        atomic_store_explicit(&worker->state, AWAKE, memory_order_release);
        atomic_fetch_sub_explicit(unfinished, 1, memory_order_release);
    }
    return NULL;
}

/* Linux likes to wake a thread on the core of the one that wakes it, where it waits for a tick of the scheduler: 7 ms
   in the place of 30 us, measured. */
static void keep_off_this_core(pthread_t thread) {
#ifdef __linux__
    cpu_set_t cores;
    int core = sched_getcpu();
    if (core >= 0 && core < CPU_SETSIZE && sched_getaffinity(0, sizeof cores, &cores) == 0) {
        CPU_CLR((size_t)core, &cores);
        if (CPU_COUNT(&cores) > 0) {
            pthread_setaffinity_np(thread, sizeof cores, &cores);
        }
    }
#else
    (void)thread;
#endif
}

static bool make_worker(int index) {
    Worker *worker = &workers[index];
    atomic_init(&worker->state, WAKING);
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->wake, NULL);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* the application's signals are for its own threads */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_made = pthread_create(&worker->thread, &attributes, run_worker, worker) == 0;
    if (is_made) {
        keep_off_this_core(worker->thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return is_made;
}

static void make_workers(int wanted) {
    if (atomic_load_explicit(&started, memory_order_acquire) >= wanted) {
        return;
    }
    pthread_once(&fork_once, watch_fork);
    pthread_mutex_lock(&making);
    for (int index = atomic_load(&started); index < wanted && make_worker(index); index++) {
        atomic_store_explicit(&started, index + 1, memory_order_release);
    }
    pthread_mutex_unlock(&making);
}

/* takes up to `wanted` workers that are awake and free */
static int take_workers(Worker **taken, int wanted) {
    int count = 0, present = atomic_load_explicit(&started, memory_order_acquire);
    for (int index = 0; index < present && count < wanted; index++) {
        int awake = AWAKE;
        if (atomic_load_explicit(&workers[index].state, memory_order_relaxed) == AWAKE &&
            atomic_compare_exchange_strong(&workers[index].state, &awake, TAKEN)) {
            taken[count++] = &workers[index];
        }
    }
    return count;
}

/* wakes up to `wanted` workers that sleep; whether any is on its way now */
static bool wake_workers(int wanted) {
    int present = atomic_load_explicit(&started, memory_order_acquire);
    bool any = false;
    for (int index = 0; index < present && wanted > 0; index++) {
        Worker *worker = &workers[index];
        int state = atomic_load_explicit(&worker->state, memory_order_relaxed);
        if (state == ASLEEP) {
            pthread_mutex_lock(&worker->mutex);
            if (atomic_compare_exchange_strong(&worker->state, &state, WAKING)) {
                keep_off_this_core(worker->thread);
                pthread_cond_signal(&worker->wake);
            }
            pthread_mutex_unlock(&worker->mutex);
        }
        if (state == ASLEEP || state == WAKING || state == AWAKE) {
            any = true;
            wanted--;
        }
    }
    return any;
}

/* the workers of a call that does `work` multiply-adds */
static int gather_workers(Worker **taken, int wanted, double work) {
    make_workers(wanted);
    int count = take_workers(taken, wanted);
    int64_t now = cyl_nanoseconds(), before = atomic_exchange(&last_call, now);
    double patience = work / CYL_WORK_PER_NANOSECOND * CYL_PATIENCE;
    int64_t patient = patience < CYL_LEAST_PATIENCE_NANOSECONDS ? 0 : patience < 1e9 ? (int64_t)patience : 1000000000;
    int64_t least = cyl_least_patience();
    patient = patient < least ? least : patient;
    if (count == wanted || (patient == 0 && now - before > CYL_SPIN_NANOSECONDS)) {
        return count;
    }
    /* those that are busy for other calls are not waited for */
    while (wake_workers(wanted - count) && cyl_nanoseconds() - now < patient) {
        cyl_let_others_run();
        count += take_workers(taken + count, wanted - count);
    }
    return count;
}

/* For this call's workers alone: what they do next, for other calls, is no matter. */
static void wait_for_none(const atomic_int *unfinished, CylLate *late) {
    int64_t start = 0;
    for (;;) {
        for (int spin = 0; spin < CYL_SPINS_PER_LOOK; spin++) {
            if (atomic_load_explicit(unfinished, memory_order_acquire) == 0) {
                if (start != 0) {
                    cyl_late_waited(late, start, cyl_nanoseconds());
                }
                return;
            }
            cyl_pause();
        }
        cyl_keeps_waiting(&start);
    }
}

void cyl_pool_parallel(CylTask *task, void *context, int threads, double work) {
    Worker *taken[CYL_MAX_THREADS];
    threads = threads > CYL_MAX_THREADS ? CYL_MAX_THREADS : threads;
    int count = gather_workers(taken, threads - 1, work);
    if (count == 0) {
        CylTeam alone = {.threads = 1};
        task(context, &alone);
        return;
    }
    CylBarrier barriers[CYL_TEAM_BARRIERS];
    cyl_barriers_start(barriers);
    CylLate late;
    cyl_late_start(&late, count + 1, work);
    atomic_int unfinished;
    atomic_init(&unfinished, count);
    for (int i = 0; i < count; i++) {
        taken[i]->task = task;
        taken[i]->context = context;
        CylTeam *own = &taken[i]->team;
        *own = (CylTeam){.thread = i + 1, .threads = count + 1, .barrier = barriers, .late = &late, .own = own};
        taken[i]->unfinished = &unfinished;
        atomic_store_explicit(&taken[i]->state, RUNNING, memory_order_release);
    }
    CylTeam team = {.threads = count + 1, .barrier = barriers, .late = &late, .own = &team};
    task(context, &team);
    wait_for_none(&unfinished, &late);
    cyl_late_end(&late);
    cyl_barriers_end(barriers);
}

#else
typedef int cyl_without_pool; /* C forbids an empty file */
#endif
