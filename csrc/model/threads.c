/* Whose threads run the calls of a model, with a BLAS held at one thread in each. */
#include "model/model.h"
#include "platform/blas.h"
#include "threads/team.h"

void cyl_model_set_threads(CylModel *model, CylThreads threads) {
    model->threads = threads;
    cyl_threads_watch_fork(); /* now, not at the first call: another user of the runtime may come first */
}

/* a task on a thread that holds its own number of a BLAS's threads */
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
    if (threads <= 1) {
        const CylTeam alone = {.threads = 1};
        task(context, &alone);
    } else {
        cyl_team_run(model->threads, task, context, threads, work);
    }
}

void cyl_parallel(const CylModel *model, CylTask *task, void *context, int threads, double work) {
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
