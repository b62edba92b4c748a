/*
 * Threads that are not ours: many that share one model, calls that want the same workers, two that want one stream, a
 * child after fork; and the threads of a BLAS library.
 */
#define _DEFAULT_SOURCE /* usleep */
#define _POSIX_C_SOURCE 200809L

#include "cylstm.h"
#include "model/model.h"
#include "platform/waiting.h"
#include "threads/team.h"
#include "check.h"
#include "network.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>

static Network *some_layers(Data **data, int64_t rows, int64_t time) {
    random_seed(11);
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 9, NULL);
    int32_t y = network_recurrent(network, LSTM_PROJECTED, x, 52, NULL, NULL, NULL);
    y = network_recurrent(network, GRU_BEFORE, y, 40, NULL, NULL, NULL);
    y = network_recurrent(network, GRU_AFTER, y, 37, NULL, NULL, NULL);
    network_output(network, network_dense(network, y, 70, "softmax"));
    *data = data_create(network, rows, &time, false);
    return network;
}

/* ---- fork ---- */

/* what the child says by its exit status */
enum { CHILD_RIGHT = 7, CHILD_WRONG = 8 };

static void child_predicts(const Network *network, const CylModel *model, const Data *data, const Result *wanted,
                           CylStream *running) {
    static const int64_t steps[] = {2, 1};
    alarm(20); /* a child that hangs is killed, and its status tells */
    Result whole = predict(network, model, data, 3), parts = stream(network, model, data, steps, 2, 2);
    CylModel *second = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Result again = predict(network, second, data, 2);
    float *y = need((size_t)(data->rows * 70) * sizeof *y);
    int64_t one = 1;
    const void *input = data->inputs[0];
    void *output = y;
    CylCall call = {.rows = data->rows, .times = &one, .inputs = &input, .outputs = &output, .threads = 2};
    CylStatus status = cyl_stream_run(running, &call);
    bool right =
        result_same(&whole, wanted) && result_same(&parts, wanted) && result_same(&again, wanted) && status == CYL_OK;
    _exit(right ? CHILD_RIGHT : CHILD_WRONG);
}

static void a_child_predicts_after_fork(void) {
    Data *data;
    Network *network = some_layers(&data, 2, 40);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    CylStream *running;
    CHECK(cyl_stream_create(model, 2, 2, &running) == CYL_OK, "stream");
    Result wanted = predict(network, model, data, 3); /* now there are threads */
    for (int generation = 0; generation < 3; generation++) {
        pid_t child = fork();
        if (child == 0) {
            child_predicts(network, model, data, &wanted, running);
        }
        int status = 0;
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "a child");
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "the child hangs");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_RIGHT, "the child's status is %#x", (unsigned)status);
        /* the parent still has its threads */
        Result again = predict(network, model, data, 3);
        CHECK(result_same(&again, &wanted), "the parent after fork: %g", result_error(&again, &wanted));
        result_free(&again);
    }
    result_free(&wanted);
    cyl_stream_free(running);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* ---- calls that want the same worker ---- */

typedef struct {
    const CylModel *model;
    atomic_bool short_waits, long_runs, short_is_over, is_late;
} Meeting;

static bool wait_until(atomic_bool *flag) {
    for (int turn = 0; turn < 3000 && !atomic_load(flag); turn++) {
        usleep(1000);
    }
    return atomic_load(flag);
}

/* its worker is done at once; the caller's own part ends when the worker is at work for the other call */
static void short_part(void *context, const CylTeam *team) {
    Meeting *meeting = context;
    if (team->thread == 0 && team->threads > 1) {
        atomic_store(&meeting->short_waits, true);
        wait_until(&meeting->long_runs);
    }
}

/* a worker's part lasts until the short call has returned */
static void long_part(void *context, const CylTeam *team) {
    Meeting *meeting = context;
    if (team->thread == 1) {
        atomic_store(&meeting->long_runs, true);
        if (!wait_until(&meeting->short_is_over)) {
            atomic_store(&meeting->is_late, true);
        }
    }
}

static void *call_long(void *context) {
    Meeting *meeting = context;
    wait_until(&meeting->short_waits);
    while (!atomic_load(&meeting->long_runs) && !atomic_load(&meeting->short_is_over)) {
        cyl_parallel(meeting->model, long_part, meeting, 2, 1.0);
    }
    return NULL;
}

static void a_call_waits_for_its_own_part_of_a_workers_time_alone(void) {
    Data *data;
    Network *network = some_layers(&data, 1, 1);
    Meeting meeting = {.model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best())};
    pthread_t other;
    CHECK(pthread_create(&other, NULL, call_long, &meeting) == 0, "thread");
    while (!atomic_load(&meeting.short_waits)) {
        cyl_parallel(meeting.model, short_part, &meeting, 2, 1.0);
    }
    atomic_store(&meeting.short_is_over, true);
    pthread_join(other, NULL);
    CHECK(atomic_load(&meeting.long_runs), "the long call got no worker");
    CHECK(!atomic_load(&meeting.is_late), "the short call waited for the worker of the long one");
    cyl_model_free((CylModel *)meeting.model);
    data_free(data);
    network_free(network);
}

/* ---- calls that find the cores busy ---- */

typedef struct {
    const CylModel *model;
    atomic_int inside;
    atomic_bool may_end;
    int threads; /* of the call of `count_part` */
} Crowd;

static void stay_part(void *context, const CylTeam *team) {
    Crowd *crowd = context;
    (void)team;
    atomic_fetch_add(&crowd->inside, 1);
    wait_until(&crowd->may_end);
}

static void count_part(void *context, const CylTeam *team) {
    Crowd *crowd = context;
    if (team->thread == 0) {
        crowd->threads = team->threads;
    }
}

static void *call_and_stay(void *context) {
    Crowd *crowd = context;
    cyl_parallel(crowd->model, stay_part, crowd, 1, CYL_WORK_COUNTED);
    return NULL;
}

/* of a call that may use two and waits up to a second for the other one */
static int threads_of_call(Crowd *crowd) {
    cyl_parallel(crowd->model, count_part, crowd, 2, 1e12);
    return crowd->threads;
}

/* whether calls get two threads again after a while */
static bool gets_two(Crowd *crowd) {
    for (int turn = 0; turn < 100; turn++) {
        if (threads_of_call(crowd) == 2) {
            return true;
        }
        usleep(50000);
    }
    return false;
}

static void a_call_takes_one_thread_while_others_use_the_cores(void) {
    Data *data;
    Network *network = some_layers(&data, 1, 1);
    Crowd crowd = {.model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best())};
    enum { MOST_CORES = 256 };
    pthread_t others[MOST_CORES];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int count = cores > 0 && cores < MOST_CORES ? (int)cores : MOST_CORES;
    CHECK(threads_of_call(&crowd) == 2, "a call alone");
    for (int i = 0; i < count; i++) {
        CHECK(pthread_create(&others[i], NULL, call_and_stay, &crowd) == 0, "thread %d", i);
    }
    for (int turn = 0; turn < 3000 && atomic_load(&crowd.inside) < count; turn++) {
        usleep(1000);
    }
    CHECK(threads_of_call(&crowd) == 2, "tests mean the threads that they ask for");
    CHECK(!cyl_threads_are_taken(), "tests mean the threads that they ask for");
    cyl_threads_patience(0);
    CHECK(cyl_threads_are_taken(), "%d callers", count);
    if (!getenv("EMULATED")) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            _exit(gets_two(&crowd) ? CHILD_RIGHT : CHILD_WRONG); /* the others do not run there */
        }
        int status = 0;
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "a child");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_RIGHT, "the child's status is %#x", (unsigned)status);
    }
    int64_t start = cyl_nanoseconds();
    CHECK(threads_of_call(&crowd) == 1, "%d threads beside %d callers", crowd.threads, count);
    atomic_store(&crowd.may_end, true);
    for (int i = 0; i < count; i++) {
        pthread_join(others[i], NULL);
    }
    bool takes_one = cyl_threads_are_taken() && threads_of_call(&crowd) == 1;
    CHECK(takes_one || cyl_nanoseconds() - start > CYL_CROWD_NANOSECONDS, "the cores were busy just now");
    CHECK(gets_two(&crowd), "the calls that are over still count");
    CHECK(!cyl_threads_are_taken(), "the calls that are over still count");
    cyl_threads_patience(INT64_MAX);
    cyl_model_free((CylModel *)crowd.model);
    data_free(data);
    network_free(network);
}

/* ---- threads that lose their cores ---- */

enum { CHECKPOINTS = 100 };

/* a call whose second thread loses its core before each checkpoint */
typedef struct {
    int threads;
    atomic_int met, alone; /* checkpoints at which the first thread had company, and had none any more */
    bool sleeps;
} Late;

static void pass_checkpoints(void *context, const CylTeam *team) {
    Late *late = context;
    if (team->thread == 0) {
        late->threads = team->threads;
    }
    for (int n = 0; n < CHECKPOINTS; n++) {
        if (late->sleeps && team->thread == 1) {
            usleep(5000);
        }
        if (team->thread == 0) {
            atomic_fetch_add(team->threads > 1 ? &late->met : &late->alone, 1);
        }
        cyl_barrier(team);
        if (cyl_checkpoint(team) && team->has_left) {
            return;
        }
    }
}

static void threads_that_lose_their_cores_leave_the_call_and_later_ones(void) {
    Data *data;
    Network *network = some_layers(&data, 1, 1);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Late late = {.sleeps = true};
    cyl_parallel(model, pass_checkpoints, &late, 2, 1e6);
    CHECK(late.threads == 2 && late.alone == 0, "tests mean the threads that they ask for");
    cyl_threads_patience(0);
    int most = 0, turns = 0, calls = 0;
    for (bool is_alone = false; !is_alone && turns < 1000; turns++) {
        late = (Late){.sleeps = true};
        cyl_parallel(model, pass_checkpoints, &late, 2, 1e6);
        is_alone = calls > 0 && late.threads == 1;
        calls += late.threads == 2;
        most = late.threads == 2 && late.met > most ? late.met : most;
        CHECK(late.met + late.alone == CHECKPOINTS, "%d and %d", late.met, late.alone);
    }
    /* after one of 5 ms, or a few where this machine is as busy */
    CHECK(calls > 0 && turns < 1000, "all of %d calls took two threads", turns);
    CHECK(most < CHECKPOINTS / 2, "the first thread waited at %d checkpoints", most);
    /* where there is nothing to wait for any more, calls take both again */
    late = (Late){0};
    for (int turn = 0; turn < 10000 && late.threads < 2; turn++) {
        usleep(1000);
        cyl_parallel(model, pass_checkpoints, &late, 2, 1e6);
    }
    CHECK(late.threads == 2, "calls take one thread for ever");
    cyl_threads_patience(INT64_MAX);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

static void a_call_that_threads_leave_has_the_same_bits(void) {
    Data *data;
    Network *network = some_layers(&data, 2, 20);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Result wanted = predict(network, model, data, 1);
    for (int64_t checkpoints = 1; checkpoints < 90; checkpoints++) {
        cyl_threads_leave_after(checkpoints);
        for (int threads = 3; threads <= 5; threads++) {
            Result found = predict(network, model, data, threads);
            CHECK(result_same(&found, &wanted), "%d threads leave after %d", threads, (int)checkpoints);
            result_free(&found);
        }
    }
    cyl_threads_leave_after(0);
    result_free(&wanted);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* ---- the threads of a BLAS library ---- */

enum { BLAS_THREADS = 6 };

static atomic_int blas_number = BLAS_THREADS;
static _Thread_local int blas_own_number = BLAS_THREADS;
static atomic_int blas_wrong; /* products with more than one thread */
static atomic_bool is_blas_slow;
static atomic_int blas_inside; /* threads inside the library: what locks there would be are held */

/* slow, so that a fork falls in the middle of it */
static void set_number(int number) {
    usleep(50);
    atomic_store(&blas_number, number);
}
static int get_number(void) { return atomic_load(&blas_number); }
static void set_own_number(int number) { blas_own_number = number; }
static int get_own_number(void) { return blas_own_number; }
static int exchange_own_number(int number) {
    int before = blas_own_number;
    blas_own_number = number;
    return before;
}

static bool is_number_local;
static void (*plain_gemv)(int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
static void (*plain_gemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                          int);

/* what each product begins with */
static void enter_library(void) {
    atomic_fetch_add(&blas_inside, 1);
    if (atomic_load(&is_blas_slow)) {
        usleep(20);
    }
    if ((is_number_local ? get_own_number() : get_number()) != 1) {
        atomic_fetch_add(&blas_wrong, 1);
    }
}
static void counting_gemv(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                          int incx, float beta, float *y, int incy) {
    enter_library();
    plain_gemv(order, trans, m, n, alpha, a, lda, x, incx, beta, y, incy);
    atomic_fetch_sub(&blas_inside, 1);
}
static void counting_gemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a,
                          int lda, const float *b, int ldb, float beta, float *c, int ldc) {
    enter_library();
    plain_gemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    atomic_fetch_sub(&blas_inside, 1);
}

typedef enum { GLOBAL_NUMBER = 0, OWN_NUMBER, EXCHANGED_NUMBER, NUMBER_KINDS } NumberKind;

static CylBlas counting_blas(NumberKind kind) {
    CylBlas blas = plain_blas();
    plain_gemv =
        (void (*)(int, int, int, int, float, const float *, int, const float *, int, float, float *, int))blas.sgemv;
    plain_gemm = (void (*)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                           int))blas.sgemm;
    blas.sgemv = (uintptr_t)counting_gemv;
    blas.sgemm = (uintptr_t)counting_gemm;
    is_number_local = kind != GLOBAL_NUMBER;
    blas.set_threads = kind == GLOBAL_NUMBER ? (uintptr_t)set_number : (uintptr_t)set_own_number;
    blas.get_threads = kind == GLOBAL_NUMBER ? (uintptr_t)get_number : (uintptr_t)get_own_number;
    blas.exchange_threads = kind == EXCHANGED_NUMBER ? (uintptr_t)exchange_own_number : 0;
    blas.threads_are_local = kind == OWN_NUMBER;
    return blas;
}

static void every_thread_of_a_call_runs_the_blas_on_one_thread(void) {
    static const int64_t steps[] = {3, 1};
    for (int kind = 0; kind < NUMBER_KINDS; kind++) {
        Data *data;
        Network *network = some_layers(&data, 3, 20);
        CylBlas blas = counting_blas((NumberKind)kind);
        CylModel *model = network_model_with(network, CYL_ENGINE_BLAS32, cyl_isa_best(), &blas);
        for (int threads = 1; threads <= 4; threads++) {
            Result whole = predict(network, model, data, threads);
            Result parts = stream(network, model, data, steps, 2, threads);
            CHECK(atomic_load(&blas_wrong) == 0, "kind %d, %d threads: %d products", kind, threads,
                  atomic_load(&blas_wrong));
            CHECK(get_number() == BLAS_THREADS && get_own_number() == BLAS_THREADS, "kind %d: %d and %d afterwards",
                  kind, get_number(), get_own_number());
            result_free(&whole);
            result_free(&parts);
        }
        cyl_model_free(model);
        data_free(data);
        network_free(network);
    }
}

typedef struct {
    const CylModel *model;
    CylCall call;
    CylStatus status;
    atomic_bool has_predicted, is_over;
} Busy;

/* After its first call it allocates nothing: a child of a process in which a thread is inside AddressSanitizer's
   allocator could wait there for ever. */
static void *predict_until_over(void *context) {
    Busy *busy = context;
    while (!atomic_load(&busy->is_over)) {
        busy->status = cyl_predict(busy->model, &busy->call);
        atomic_store(&busy->has_predicted, true);
    }
    return NULL;
}

/* what the children of a process in which other threads are inside the BLAS say */
static void a_child_gets_the_blas_as_it_is_without_us(void) {
    Data *data;
    Network *network = some_layers(&data, 1, 4);
    CylBlas blas = counting_blas(GLOBAL_NUMBER);
    CylModel *model = network_model_with(network, CYL_ENGINE_BLAS32, cyl_isa_best(), &blas);
    Result wanted = predict(network, model, data, 1);
    atomic_store(&is_blas_slow, true);
    Busy busy[2];
    Result results[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        results[i] = predict(network, model, data, 1);
        busy[i] = (Busy){.model = model,
                         .call = {.rows = data->rows,
                                  .times = data->times,
                                  .inputs = (const void *const *)data->inputs,
                                  .masks = (const uint8_t *const *)data->masks,
                                  .outputs = results[i].arrays,
                                  .initial_state = (const void *const *)data->states,
                                  .final_state = results[i].arrays + network->output_count,
                                  .threads = 1}};
        CHECK(pthread_create(&threads[i], NULL, predict_until_over, &busy[i]) == 0, "thread %d", i);
    }
    while (!atomic_load(&busy[0].has_predicted) || !atomic_load(&busy[1].has_predicted)) {
        usleep(100);
    }
    for (int n = 0; n < 40; n++) {
        usleep(100);
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            bool is_as_it_was = get_number() == BLAS_THREADS && atomic_load(&blas_inside) == 0;
            Result again = predict(network, model, data, 1);
            bool is_right = is_as_it_was && get_number() == BLAS_THREADS && result_same(&again, &wanted);
            _exit(is_right ? CHILD_RIGHT : CHILD_WRONG);
        }
        int status = 0;
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "a child");
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "child %d hangs", n);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_RIGHT, "child %d: status %#x", n, (unsigned)status);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&busy[i].is_over, true);
        pthread_join(threads[i], NULL);
        CHECK(busy[i].status == CYL_OK && result_same(&results[i], &wanted), "thread %d", i);
        result_free(&results[i]);
    }
    CHECK(get_number() == BLAS_THREADS && atomic_load(&blas_wrong) == 0, "the parent: %d threads, %d products",
          get_number(), atomic_load(&blas_wrong));
    result_free(&wanted);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* ---- threads that share a model ---- */

enum { SHARERS = 8, ROUNDS = 6 };

typedef struct {
    const Network *network;
    const CylModel *model;
    const Data *data;
    const Result *wanted;
    int index;
} Sharer;

static void *share(void *context) {
    const Sharer *s = context;
    const int64_t steps[] = {1 + s->index % 3, 2};
    for (int round = 0; round < ROUNDS; round++) {
        int threads = 1 + (s->index + round) % 3;
        Result result = round % 2 ? stream(s->network, s->model, s->data, steps, 2, threads)
                                  : predict(s->network, s->model, s->data, threads);
        CHECK(result_same(&result, s->wanted), "thread %d, round %d differs by %g", s->index, round,
              result_error(&result, s->wanted));
        result_free(&result);
    }
    return NULL;
}

static void threads_share_a_model_each_with_its_stream(void) {
    Data *data;
    Network *network = some_layers(&data, 2, 25);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Result wanted = predict(network, model, data, 1);
    pthread_t threads[SHARERS];
    Sharer sharers[SHARERS];
    for (int i = 0; i < SHARERS; i++) {
        sharers[i] = (Sharer){network, model, data, &wanted, i};
        CHECK(pthread_create(&threads[i], NULL, share, &sharers[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < SHARERS; i++) {
        pthread_join(threads[i], NULL);
    }
    result_free(&wanted);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* ---- two threads on one stream ---- */

typedef struct {
    CylStream *stream;
    const Data *data;
    atomic_int turns, busy, others; /* runs that went through, that were refused, and other statuses */
    atomic_bool is_over;
} Contest;

enum { MOST_TURNS = 200, CONTEST_TIME = 60 };

static void *contend(void *context) {
    Contest *contest = context;
    float *y = need((size_t)(contest->data->rows * CONTEST_TIME * 70) * sizeof *y);
    int64_t time = CONTEST_TIME;
    const void *input = contest->data->inputs[0];
    void *output = y;
    CylCall call = {.rows = contest->data->rows, .times = &time, .inputs = &input, .outputs = &output, .threads = 1};
    while (!atomic_load(&contest->is_over)) {
        CylStatus status = cyl_stream_run(contest->stream, &call);
        if (status == CYL_OK) {
            int turns = atomic_fetch_add(&contest->turns, 1) + 1;
            if (turns >= MOST_TURNS || (turns >= 10 && atomic_load(&contest->busy))) {
                atomic_store(&contest->is_over, true);
            }
        } else {
            atomic_fetch_add(status == CYL_E_BUSY ? &contest->busy : &contest->others, 1);
            sched_yield();
        }
    }
    free(y);
    return NULL;
}

static void two_threads_on_one_stream_take_turns_or_are_refused(void) {
    Data *data;
    Network *network = some_layers(&data, 3, CONTEST_TIME);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Contest contest = {.data = data};
    CHECK(cyl_stream_create(model, 3, 2, &contest.stream) == CYL_OK, "stream");
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, contend, &contest) == 0, "thread %d", i);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&contest.busy) > 0, "nobody was refused in %d turns", atomic_load(&contest.turns));
    CHECK(atomic_load(&contest.others) == 0, "other statuses");
    /* every turn ran the same steps: the states are those of as many turns alone */
    CylStream *alone;
    CHECK(cyl_stream_create(model, 3, 1, &alone) == CYL_OK, "stream");
    float *y = need((size_t)(3 * CONTEST_TIME * 70) * sizeof *y);
    int64_t time = CONTEST_TIME;
    const void *input = data->inputs[0];
    void *output = y;
    CylCall call = {.rows = 3, .times = &time, .inputs = &input, .outputs = &output, .threads = 1};
    for (int turn = 0; turn < atomic_load(&contest.turns); turn++) {
        CHECK(cyl_stream_run(alone, &call) == CYL_OK, "turn %d", turn);
    }
    for (int32_t s = 0; s < network->state_count; s++) {
        float *a = need((size_t)(3 * network->state_sizes[s]) * sizeof *a);
        float *b = need((size_t)(3 * network->state_sizes[s]) * sizeof *b);
        CHECK(get_state(contest.stream, s, a) == CYL_OK && get_state(alone, s, b) == CYL_OK, "state %d", (int)s);
        CHECK(memcmp(a, b, (size_t)(3 * network->state_sizes[s]) * sizeof *a) == 0, "state %d differs", (int)s);
        free(a);
        free(b);
    }
    free(y);
    cyl_stream_free(alone);
    cyl_stream_free(contest.stream);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* ---- one thread restores a stream's states while another saves them ---- */

enum { SAVES = 200000, SAVED_ROWS = 3, SAVED_REALS = SAVED_ROWS * 70 };

typedef struct {
    CylStream *stream;
    const Network *network;
    atomic_bool is_over;
} Rewriting;

static void *rewrite(void *context) {
    Rewriting *rewriting = context;
    float all[SAVED_REALS];
    void *states[MOST_STATES] = {NULL};
    uint8_t flags[(MOST_NODES + 8) * SAVED_ROWS];
    for (uint8_t turn = 0; !atomic_load(&rewriting->is_over); turn = !turn) {
        for (int i = 0; i < SAVED_REALS; i++) {
            all[i] = 0.25f + turn;
        }
        memset(flags, turn, sizeof flags);
        for (int32_t s = 0; s < rewriting->network->state_count; s++) {
            states[s] = all;
        }
        CylStatus status = cyl_stream_restore(rewriting->stream, &(CylStreamState){.states = states, .flags = flags});
        CHECK(status == CYL_OK || status == CYL_E_BUSY, "restore");
    }
    return NULL;
}

static void states_that_are_saved_are_of_one_moment(void) {
    Data *data;
    Network *network = some_layers(&data, SAVED_ROWS, CONTEST_TIME);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Rewriting rewriting = {.network = network};
    CHECK(cyl_stream_create(model, SAVED_ROWS, 1, &rewriting.stream) == CYL_OK, "stream");
    float *saved[MOST_STATES];
    void *states[MOST_STATES] = {NULL};
    for (int32_t s = 0; s < network->state_count; s++) {
        CHECK(SAVED_ROWS * network->state_sizes[s] <= SAVED_REALS, "state %d", (int)s);
        states[s] = saved[s] = need(SAVED_REALS * sizeof **saved);
    }
    uint8_t flags[(MOST_NODES + 8) * SAVED_ROWS];
    int64_t flags_size = cyl_stream_flags_size(rewriting.stream);
    CHECK(flags_size > 0 && flags_size <= (int64_t)sizeof flags, "flags");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, rewrite, &rewriting) == 0, "thread");
    int torn = 0, found = 0, saves = getenv("EMULATED") ? SAVES / 100 : SAVES;
    for (int turn = 0; turn < saves; turn++) {
        if (cyl_stream_save(rewriting.stream, &(CylStreamState){.states = states, .flags = flags}) != CYL_OK ||
            saved[0][0] == 0.0f) {
            sched_yield();
            continue;
        }
        found++;
        for (int32_t s = 0; s < network->state_count; s++) {
            for (int64_t i = 0; i < SAVED_ROWS * network->state_sizes[s]; i++) {
                torn += saved[s][i] != saved[0][0];
            }
        }
        for (int64_t i = 0; i < flags_size; i++) {
            torn += (float)flags[i] + 0.25f != saved[0][0];
        }
    }
    atomic_store(&rewriting.is_over, true);
    pthread_join(thread, NULL);
    CHECK(found > 0 && torn == 0, "%d of %d states were of two moments", torn, found);
    for (int32_t s = 0; s < network->state_count; s++) {
        free(saved[s]);
    }
    cyl_stream_free(rewriting.stream);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(a_call_waits_for_its_own_part_of_a_workers_time_alone); /* first: the pool has one worker only */
    RUN(a_call_takes_one_thread_while_others_use_the_cores);
    RUN(threads_that_lose_their_cores_leave_the_call_and_later_ones);
    RUN(a_call_that_threads_leave_has_the_same_bits);
    RUN(every_thread_of_a_call_runs_the_blas_on_one_thread);
    /* qemu-user itself fails (cpu_exec: assertion failed) where a forked child makes threads */
    if (!getenv("EMULATED")) {
        RUN(a_child_predicts_after_fork);
        RUN(a_child_gets_the_blas_as_it_is_without_us);
    }
    RUN(threads_share_a_model_each_with_its_stream);
    RUN(two_threads_on_one_stream_take_turns_or_are_refused);
    RUN(states_that_are_saved_are_of_one_moment);
    return check_result();
}
