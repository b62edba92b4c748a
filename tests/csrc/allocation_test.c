/*
 * Memory: a step of a stream and a prediction like the one before allocate none; where an allocation fails, the caller
 * is told and nothing leaks.
 *
 * The linker hands every call of malloc, calloc, realloc and free in this program and the library to the functions
 * below (--wrap); what the system allocates to make a thread is not seen.
 */
#include "check.h"
#include "network.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static atomic_long calls;  /* of any of the four */
static atomic_long held;   /* pieces of memory not yet freed */
static atomic_long bytes;  /* of them */
static atomic_long grants; /* allocations until one fails; negative: none fails */

static bool is_granted(void) {
    atomic_fetch_add(&calls, 1);
    return atomic_load(&grants) < 0 || atomic_fetch_sub(&grants, 1) > 0;
}

static void *hold(void *memory) {
    atomic_fetch_add(&held, memory != NULL);
    atomic_fetch_add(&bytes, (long)malloc_usable_size(memory));
    return memory;
}
static void let_go(void *memory) {
    atomic_fetch_sub(&held, memory != NULL);
    atomic_fetch_sub(&bytes, (long)malloc_usable_size(memory));
}

void *__wrap_malloc(size_t size) { return hold(is_granted() ? __real_malloc(size) : NULL); }
void *__wrap_calloc(size_t count, size_t size) { return hold(is_granted() ? __real_calloc(count, size) : NULL); }
void *__wrap_realloc(void *memory, size_t size) {
    if (!is_granted()) {
        return NULL;
    }
    let_go(memory);
    return hold(__real_realloc(memory, size));
}
void __wrap_free(void *memory) {
    atomic_fetch_add(&calls, 1);
    let_go(memory);
    __real_free(memory);
}

static Network *every_layer(void) {
    random_seed(3);
    RecurrentOptions options = PLAIN;
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 5, &options.mask), y[3];
    y[0] = network_recurrent(network, LSTM_PROJECTED, x, 26, &options, NULL, NULL);
    y[1] = network_recurrent(network, GRU_BEFORE, x, 18, &options, NULL, NULL);
    y[2] = network_recurrent(network, GRU_AFTER, x, 18, &options, NULL, NULL);
    int32_t z = network_dense(network, network_merge(network, "ave", y, 3), 18, "gelu");
    network_output(network, network_recurrent(network, LSTM, z, 7, &options, NULL, NULL));
    network_output(network, network_dense(network, network_last(network, z, options.mask), 5, "softmax"));
    Layer *layer = network_layer(network, "activation");
    int32_t activated = network_value(network, CYL_VECTOR, 5);
    layer_input(layer, "x", network->outputs[1]);
    layer_output(layer, "y", activated);
    layer_activation(layer, "activation", "tanh");
    network_output(network, activated);
    return network;
}

enum { ROWS = 3, TIME = 300 };

static void a_stream_allocates_nothing_after_its_creation(void) {
    Network *network = every_layer();
    int64_t longest = TIME;
    Data *data = data_create(network, ROWS, &longest, true);
    float *y = need(ROWS * TIME * 7 * sizeof *y), vector[ROWS * 5], activated[ROWS * 5], state[ROWS * 26];
    void *outputs[3] = {y, vector, activated};
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        if (!cyl_isa_available((CylIsa)isa)) {
            continue;
        }
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa);
        for (int threads = 1; threads <= 2; threads++) {
            CylStream *stream;
            CHECK(cyl_stream_create(model, ROWS, threads, &stream) == CYL_OK, "stream");
            /* single steps, some, and more than a chunk */
            static const int64_t times[] = {1, 1, 7, TIME, 1};
            for (int c = 0; c < 5; c++) {
                for (int has_mask = 0; has_mask < 2; has_mask++) {
                    const uint8_t *mask = has_mask ? data->masks[0] : NULL;
                    CylCall call = {.rows = ROWS,
                                    .times = &times[c],
                                    .inputs = (const void *const *)data->inputs,
                                    .masks = &mask,
                                    .outputs = outputs,
                                    .threads = threads};
                    long before = atomic_load(&calls);
                    CylStatus status = cyl_stream_run(stream, &call);
                    long after = atomic_load(&calls);
                    CHECK(status == CYL_OK, "%s", cyl_status_text(status));
                    CHECK(after == before, "%s, %d threads, %d steps: %ld allocations", cyl_isa_name((CylIsa)isa),
                          threads, (int)times[c], after - before);
                }
            }
            static const uint8_t active[ROWS] = {0, 1, 1}, none[ROWS] = {0};
            static const int64_t some[] = {2, 0};
            CylCall call = {.rows = ROWS,
                            .times = &longest,
                            .inputs = (const void *const *)data->inputs,
                            .outputs = outputs,
                            .threads = threads};
            CylStream *other;
            CHECK(cyl_stream_create(model, ROWS, 1, &other) == CYL_OK, "stream");
            long before = atomic_load(&calls);
            CHECK(cyl_stream_run_active(stream, &call, active) == CYL_OK &&
                      cyl_stream_run_active(stream, &call, none) == CYL_OK &&
                      cyl_stream_reset_rows(stream, some, 2) == CYL_OK &&
                      cyl_stream_copy_rows(stream, some, other, some, 2) == CYL_OK,
                  "some rows");
            CHECK(atomic_load(&calls) == before, "some rows of a stream allocate");
            cyl_stream_free(other);
            before = atomic_load(&calls);
            CHECK(get_state(stream, 0, state) == CYL_OK && set_state(stream, 0, state) == CYL_OK &&
                      cyl_stream_reset(stream) == CYL_OK,
                  "states");
            CHECK(atomic_load(&calls) == before, "states of a stream allocate");
            cyl_stream_free(stream);
        }
        cyl_model_free(model);
    }
    free(y);
    data_free(data);
    network_free(network);
}

static void a_window_allocates_nothing_after_its_creation(void) {
    enum { WINDOW = 12 };
    Network *network = every_layer();
    int64_t time = TIME;
    Data *data = data_create(network, ROWS, &time, false);
    float *y = need(ROWS * WINDOW * 7 * sizeof *y), vector[ROWS * 5], activated[ROWS * 5];
    float *saved = need(ROWS * WINDOW * (size_t)network->features[network->inputs[0]] * sizeof *saved);
    void *outputs[3] = {y, vector, activated}, *to[] = {saved};
    const void *from[] = {saved};
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    for (int threads = 1; threads <= 5; threads += 2) {
        CylWindow *window, *other;
        CHECK(cyl_window_create(model, ROWS, WINDOW, threads, &window) == CYL_OK, "window");
        CHECK(cyl_window_create(model, ROWS, WINDOW, 1, &other) == CYL_OK, "window");
        static const int64_t times[] = {1, WINDOW, TIME, 1}, some[] = {2, 0};
        static const uint8_t active[ROWS] = {0, 1, 1};
        int64_t counts[ROWS];
        for (int c = 0; c < 4; c++) {
            CylCall call = {.rows = ROWS,
                            .times = &times[c],
                            .inputs = (const void *const *)data->inputs,
                            .outputs = outputs,
                            .threads = threads};
            CHECK(cyl_window_run(window, &call, NULL) == CYL_OK, "run"); /* the threads are made */
            long before = atomic_load(&calls);
            CHECK(cyl_window_run(window, &call, NULL) == CYL_OK && cyl_window_run(window, &call, active) == CYL_OK &&
                      cyl_window_reset_rows(window, some, 1) == CYL_OK &&
                      cyl_window_copy_rows(window, some, other, some, 1) == CYL_OK &&
                      cyl_window_get(window, to, counts) == CYL_OK && cyl_window_set(window, from, counts) == CYL_OK,
                  "%d steps", (int)times[c]);
            CHECK(atomic_load(&calls) == before, "%d steps on %d threads allocate", (int)times[c], threads);
        }
        cyl_window_free(window);
        cyl_window_free(other);
    }
    cyl_model_free(model);
    free(saved);
    free(y);
    data_free(data);
    network_free(network);
}

/* two sequences of their own times, one of them read backward: neither can be run in pieces */
static Network *two_sequences(void) {
    random_seed(4);
    RecurrentOptions options[2] = {PLAIN, PLAIN};
    Network *network = network_create();
    int32_t x[2], last[2];
    for (int i = 0; i < 2; i++) {
        x[i] = network_input(network, CYL_SEQUENCE, 5, &options[i].mask);
        options[i].is_reverse = i == 1;
        last[i] =
            network_last(network, network_recurrent(network, LSTM, x[i], 18, &options[i], NULL, NULL), options[i].mask);
    }
    network_output(network, network_merge(network, "ave", last, 2));
    return network;
}

/* a call of the sizes of `data`, whose results are lost */
typedef struct {
    Result result;
    CylCall call;
} Calling;

/* the call points into `c` */
static void prepare_call(Calling *c, const Network *network, const CylModel *model, const Data *data, int threads) {
    c->result = predict(network, model, data, threads);
    c->call = (CylCall){.rows = data->rows,
                        .times = data->times,
                        .inputs = (const void *const *)data->inputs,
                        .masks = (const uint8_t *const *)data->masks,
                        .outputs = c->result.arrays,
                        .initial_state = (const void *const *)data->states,
                        .final_state = c->result.arrays + network->output_count,
                        .threads = threads};
}

static void a_prediction_like_the_one_before_allocates_nothing(void) {
    /* one chunk, several, many rows in tiles; threads that take rows each, and that share the rows */
    static const struct {
        int64_t rows, times[2];
        int threads;
    } cases[] = {{3, {1, 1}, 1}, {3, {7, 9}, 1}, {3, {1000, 3}, 1}, {100, {5, 4}, 1},
                 {3, {7, 9}, 2}, {1, {7, 9}, 2}, {1, {2000, 9}, 2}, {100, {5, 4}, 2}};
    for (int n = 0; n < 2; n++) {
        Network *network = n ? two_sequences() : every_layer();
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            for (int has_mask = 0; has_mask < 2; has_mask++) {
                Data *data = data_create(network, cases[i].rows, cases[i].times, has_mask);
                Calling c;
                prepare_call(&c, network, model, data, cases[i].threads);
                long before = atomic_load(&calls);
                CylStatus status = cyl_predict(model, &c.call);
                CHECK(status == CYL_OK, "%s", cyl_status_text(status));
                CHECK(atomic_load(&calls) == before, "network %d, %d rows, %d steps, %d threads: %ld allocations", n,
                      (int)cases[i].rows, (int)cases[i].times[0], cases[i].threads, atomic_load(&calls) - before);
                result_free(&c.result);
                data_free(data);
            }
        }
        cyl_model_free(model);
        network_free(network);
    }
}

static void a_shorter_sequence_takes_the_memory_of_a_longer_one(void) {
    Network *network = every_layer();
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    static const int64_t times[] = {200, 150, 1, 199};
    for (int t = 0; t < 4; t++) {
        Data *data = data_create(network, ROWS, &times[t], true);
        long before = atomic_load(&held);
        Calling c;
        prepare_call(&c, network, model, data, 1);
        long kept = atomic_load(&held) - before - c.result.count;
        CHECK(t == 0 ? kept > 0 : kept == 0, "%d steps keep %ld pieces of memory", (int)times[t], kept);
        result_free(&c.result);
        data_free(data);
    }
    cyl_model_free(model);
    network_free(network);
}

static void what_a_model_keeps_between_calls_is_bounded(void) {
    Network *network = two_sequences();
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    const long before = atomic_load(&held), bytes_before = atomic_load(&bytes);
    /* half a megabyte for each row and more: one workspace, then each of two, is too large to keep */
    const int64_t long_times[2] = {5000, 5000}, times[2] = {100, 300};
    for (int threads = 1; threads <= 2; threads++) {
        Data *data = data_create(network, 20, long_times, false);
        long held_before = atomic_load(&held);
        Calling c;
        prepare_call(&c, network, model, data, threads);
        CHECK(atomic_load(&held) - c.result.count == held_before, "a large call keeps its memory");
        result_free(&c.result);
        data_free(data);
    }
    /* more sizes than there is room for */
    for (int64_t rows = 1; rows <= 48; rows++) {
        if (!check_is_due((int)rows)) {
            continue;
        }
        Data *data = data_create(network, rows, times, false);
        Calling c;
        prepare_call(&c, network, model, data, 2);
        result_free(&c.result);
        data_free(data);
        long kept = atomic_load(&held) - before, kept_bytes = atomic_load(&bytes) - bytes_before;
        /* of each run itself, its arrays, its states and its values */
        CHECK(kept > 0 && kept <= 16 * 4 && kept_bytes <= (4 << 20) + 16 * 1024, "%d rows: %ld pieces of %ld bytes",
              (int)rows, kept, kept_bytes);
    }
    cyl_model_free(model);
    network_free(network);
}

/* builds, streams, predicts and moves a window; the first status that is not CYL_OK */
static CylStatus live_a_life(const Network *network, const CylCall *call) {
    CylModel *model = NULL;
    CylStream *stream = NULL;
    CylWindow *window = NULL;
    int32_t index;
    CylStatus status = cyl_model_create(CYL_ENGINE_PACKED, cyl_isa_best(), NULL, &model);
    for (int32_t v = 0; status == CYL_OK && v < network->value_count; v++) {
        status = cyl_model_add_value(model, network->kinds[v], network->features[v], &index);
    }
    for (int32_t n = 0; status == CYL_OK && n < network->layer_count; n++) {
        status = cyl_model_add_layer(model, &network->layers[n].spec);
    }
    if (status == CYL_OK) {
        status = cyl_model_finish(model, network->inputs, network->masks, network->input_count, network->outputs,
                                  network->output_count);
    }
    if (status == CYL_OK) {
        status = cyl_stream_create(model, ROWS, 1, &stream);
    }
    if (status == CYL_OK) {
        status = cyl_stream_run(stream, call);
    }
    if (status == CYL_OK) {
        status = cyl_predict(model, call);
    }
    if (status == CYL_OK) {
        status = cyl_window_create(model, ROWS, call->times[0], 2, &window);
    }
    if (status == CYL_OK) {
        status = cyl_window_run(window, call, NULL);
    }
    cyl_window_free(window);
    cyl_stream_free(stream);
    cyl_model_free(model);
    return status;
}

static void failed_allocations_are_told_and_leak_nothing(void) {
    Network *network = every_layer();
    int64_t time = 4;
    Data *data = data_create(network, ROWS, &time, false);
    float y[ROWS * 4 * 7], vector[ROWS * 5], activated[ROWS * 5];
    void *outputs[3] = {y, vector, activated};
    CylCall call = {.rows = ROWS,
                    .times = &time,
                    .inputs = (const void *const *)data->inputs,
                    .outputs = outputs,
                    .threads = 3}; /* three rows on three threads: three workspaces */
    CHECK(live_a_life(network, &call) == CYL_OK, "with all the memory");
    int failures = 0;
    CylStatus status = CYL_E_MEMORY;
    for (; status != CYL_OK && failures < 1000; failures++) {
        long before = atomic_load(&held);
        atomic_store(&grants, failures);
        status = live_a_life(network, &call);
        atomic_store(&grants, -1);
        CHECK(status == CYL_OK || status == CYL_E_MEMORY, "allocation %d fails: %s", failures, cyl_status_text(status));
        CHECK(atomic_load(&held) == before, "allocation %d fails: %ld pieces of memory are lost", failures,
              atomic_load(&held) - before);
    }
    CHECK(failures > 50, "only %d allocations in a life", failures);
    data_free(data);
    network_free(network);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    atomic_store(&grants, -1);
    RUN(a_stream_allocates_nothing_after_its_creation);
    RUN(a_window_allocates_nothing_after_its_creation);
    RUN(a_prediction_like_the_one_before_allocates_nothing);
    RUN(a_shorter_sequence_takes_the_memory_of_a_longer_one);
    RUN(what_a_model_keeps_between_calls_is_bounded);
    RUN(failed_allocations_are_told_and_leak_nothing);
    return check_result();
}
