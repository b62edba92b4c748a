/* Running a call of a model on the threads it asks for, while its BLAS uses one thread in each of them. */
#include "model/model.h"
#include "platform/blas.h"
#include "threads/late.h"
#include "threads/team.h"

#include <stdbool.h>

void cyl_model_set_threads(CylModel *model, CylThreads threads) {
    model->threads = threads;
    /* now rather than at the first call, because another library may use the runtime before */
    cyl_threads_watch_fork();
}

/* a task around which each thread sets the number of the BLAS's threads for itself */
typedef struct {
    const CylBlas *blas;
    CylTask *task;
    void *context;
} Held;

static void run_held(void *context, const CylTeam *team) {
    const Held *held = context;
    const int saved = cyl_blas_hold_here(held->blas);
    held->task(held->context, team);
    cyl_blas_release_here(held->blas, saved);
}

static void run(const CylModel *model, CylTask *task, void *context, int threads, double work) {
    threads = threads > 1 && cyl_takes_one_thread() ? 1 : threads;
    const bool counts = threads > 1 || work >= CYL_WORK_COUNTED;
    threads = counts ? cyl_threads_enter(threads) : 1;
    if (threads == 1) {
        const CylTeam alone = {.threads = 1};
        task(context, &alone);
    } else {
        cyl_team_run(model->threads, task, context, threads, work);
    }
    if (counts) {
        cyl_threads_leave(threads);
    }
}

void cyl_parallel_on_team(const CylModel *model, CylTask *task, void *context, int threads, double work) {
    if (model->kernels->is_packed) {
        run(model, task, context, threads, work);
        return;
    }
    Held held = {&model->blas, task, context};
    cyl_blas_hold(&model->blas);
    if (cyl_blas_has_local_threads(&model->blas)) {
        run(model, run_held, &held, threads, work);
    } else {
        run(model, task, context, threads, work);
    }
    cyl_blas_release(&model->blas);
}
