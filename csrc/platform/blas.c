/*
 * Holding a BLAS library's own threads at one while ours run, and forks in between.
 *
 * Where the library has a number of threads for each thread, every thread of a call sets its own, and nobody else sees
 * it. Most have one for the whole process (OpenBLAS with its own threads does, whose openblas_set_num_threads_local
 * sets that one too): the first call inside saves it, the last one restores it.
 *
 * A forked child has the forking thread alone: nobody there would restore the number, or release a lock that another
 * thread of ours held inside the library. So a fork waits until none of our threads is inside a product, keeps them
 * from beginning one, and restores the number until the child is there.
 */
#define _POSIX_C_SOURCE 200809L

#include "platform/blas.h"

#include "platform/memory.h"
#include "platform/waiting.h"

#include <stdatomic.h>

#if !defined(_WIN32)
#include <pthread.h>
#endif

/* Numbers are int in most libraries, and BLIS's dim_t; both are passed in one register, of which the former read half.
 */
typedef void Set(intptr_t threads);
typedef intptr_t Get(void);

static void set_threads(uintptr_t set, int threads) { ((Set *)set)(threads); }
static int get_threads(uintptr_t get) { return (int)((Get *)get)(); }

/* ---- one number for each thread ---- */

bool cyl_blas_has_local_threads(const CylBlas *blas) {
    return blas->exchange_threads || (blas->threads_are_local && blas->set_threads && blas->get_threads);
}

static int exchange_threads(uintptr_t exchange, int threads) { return ((int (*)(int))exchange)(threads); }

int cyl_blas_hold_here(const CylBlas *blas) {
    if (blas->exchange_threads) {
        return exchange_threads(blas->exchange_threads, 1);
    }
    const int saved = get_threads(blas->get_threads);
    if (saved != 1) {
        set_threads(blas->set_threads, 1);
    }
    return saved;
}

void cyl_blas_release_here(const CylBlas *blas, int saved) {
    if (blas->exchange_threads) {
        exchange_threads(blas->exchange_threads, saved);
    } else if (saved != 1) {
        set_threads(blas->set_threads, saved);
    }
}

/* ---- one number for the process ---- */

/* The most libraries that can be held at once. Models of any further library leave it as it is. */
#define MOST_LIBRARIES 8

typedef struct {
    uintptr_t set;
    int inside; /* calls that are running now, of all models */
    int saved;  /* the number before the first of them */
} Library;

static Library libraries[MOST_LIBRARIES]; /* under the guard */
static atomic_flag guard = ATOMIC_FLAG_INIT;

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&guard, memory_order_acquire)) {
    }
}
static void unlock(void) { atomic_flag_clear_explicit(&guard, memory_order_release); }

static bool has_global_threads(const CylBlas *blas) {
    return !cyl_blas_has_local_threads(blas) && blas->set_threads && blas->get_threads;
}

/* NULL if there are too many libraries */
static Library *library_of(const CylBlas *blas) {
    for (int l = 0; l < MOST_LIBRARIES; l++) {
        if (libraries[l].set == blas->set_threads || !libraries[l].set) {
            libraries[l].set = blas->set_threads;
            return &libraries[l];
        }
    }
    return NULL;
}

/* Sets the threads of all libraries that calls are using: to one, or to their number before. Called under the guard. */
static void set_all(bool held) {
    for (int l = 0; l < MOST_LIBRARIES; l++) {
        if (libraries[l].inside > 0 && libraries[l].saved != 1) {
            set_threads(libraries[l].set, held ? 1 : libraries[l].saved);
        }
    }
}

void cyl_blas_hold(const CylBlas *blas) {
    if (!has_global_threads(blas)) {
        return;
    }
    lock();
    Library *library = library_of(blas);
    if (library && library->inside++ == 0) {
        library->saved = get_threads(blas->get_threads);
        if (library->saved != 1) {
            set_threads(library->set, 1);
        }
    }
    unlock();
}

void cyl_blas_release(const CylBlas *blas) {
    if (!has_global_threads(blas)) {
        return;
    }
    lock();
    Library *library = library_of(blas);
    /* it is 0 in a child that a signal handler forked during the call */
    if (library && library->inside > 0 && --library->inside == 0 && library->saved != 1) {
        set_threads(library->set, library->saved);
    }
    unlock();
}

/* ---- fork ---- */

/* threads inside a product, counted apart so that they do not share a cache line */
#define COUNTS 16
static struct {
    _Alignas(CYL_ALIGNMENT) atomic_int inside;
} counts[COUNTS];
static atomic_bool is_forking;

int cyl_blas_enter(void) {
    char here;
    /* the stacks of two threads are farther apart than 2^18 bytes */
    int count = (int)((uintptr_t)&here >> 18) & (COUNTS - 1);
    /* sequentially consistent, as is the fork's flag: one of the two sees the other */
    while (atomic_fetch_add(&counts[count].inside, 1), atomic_load(&is_forking)) {
        atomic_fetch_sub(&counts[count].inside, 1);
        while (atomic_load(&is_forking)) {
            cyl_let_others_run();
        }
    }
    return count;
}

void cyl_blas_leave(int count) { atomic_fetch_sub_explicit(&counts[count].inside, 1, memory_order_release); }

#if !defined(_WIN32)

static void before_fork(void) {
    lock();
    atomic_store(&is_forking, true);
    for (int c = 0; c < COUNTS; c++) {
        while (atomic_load(&counts[c].inside) > 0) {
            cyl_let_others_run();
        }
    }
    set_all(false);
}

static void in_parent(void) {
    set_all(true);
    atomic_store(&is_forking, false);
    unlock();
}

/* It calls no function of a library, because a thread that is not ours may have held a lock there. */
static void in_child(void) {
    for (int l = 0; l < MOST_LIBRARIES; l++) {
        libraries[l].inside = 0;
    }
    for (int c = 0; c < COUNTS; c++) { /* another thread may have been between its add and its subtract */
        atomic_store(&counts[c].inside, 0);
    }
    atomic_store(&is_forking, false);
    unlock();
}

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void watch_fork(void) { pthread_atfork(before_fork, in_parent, in_child); }

#endif

void cyl_blas_watch_fork(void) {
#if !defined(_WIN32)
    /* registered after the library's own handlers, so that ours run before them */
    pthread_once(&fork_once, watch_fork);
#endif
}
