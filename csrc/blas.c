/* Holding a BLAS library's own threads at one while ours run. */
#include "internal.h"

#include <stdatomic.h>

/* calls now inside, over all models; the first saves the library's setting, the last restores it */
static atomic_flag guard = ATOMIC_FLAG_INIT;
static int inside;
static int saved_threads;

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&guard, memory_order_acquire)) {
    }
}
static void unlock(void) { atomic_flag_clear_explicit(&guard, memory_order_release); }

static bool can_hold(const CylModel *model) {
    return !model->kernels->is_packed && model->blas.set_threads && model->blas.get_threads;
}

void cyl_blas_hold(const CylModel *model) {
    if (!can_hold(model)) {
        return;
    }
    lock();
    if (inside++ == 0) {
        saved_threads = ((int (*)(void))model->blas.get_threads)();
        if (saved_threads != 1) {
            ((void (*)(int))model->blas.set_threads)(1);
        }
    }
    unlock();
}

void cyl_blas_release(const CylModel *model) {
    if (!can_hold(model)) {
        return;
    }
    lock();
    if (--inside == 0 && saved_threads != 1) {
        ((void (*)(int))model->blas.set_threads)(saved_threads);
    }
    unlock();
}
