/*
 * A call that its caller ends: all threads leave it, the next call gives the bits of any other, and a stream goes on
 * from the steps that it says it has taken. Here the caller is asked at every look.
 */
#include "cylstm.h"
#include "run/stop.h"
#include "check.h"
#include "network.h"

#include <fenv.h>
#include <stdlib.h>
#include <string.h>

/* its address is that of the thread */
static _Thread_local char this_thread;

typedef struct {
    const char *caller;
    int64_t asked, most; /* the answer to question `most` ends the call */
} Caller;

static int should_stop(void *context) {
    Caller *caller = context;
    CHECK(&this_thread == caller->caller, "asked on another thread");
    CHECK(caller->asked < caller->most, "asked again");
    return ++caller->asked == caller->most;
}

/* the features of which 8 steps are a piece */
enum { WIDE = 1500 };

enum { CHUNKED = 0, BESIDE, FED, WHOLE, NETWORKS };
static const char *const NAMES[NETWORKS] = {"pieces", "two directions", "one feeds the other", "attention"};

static Network *create(int what) {
    random_seed(31);
    RecurrentOptions options = PLAIN, other = PLAIN;
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, what == CHUNKED ? WIDE : 24, &options.mask), y[2];
    if (what == CHUNKED) {
        y[0] = network_recurrent(network, LSTM_PROJECTED, x, 33, &options, NULL, NULL);
        y[0] =
            network_recurrent(network, GRU_BEFORE, network_dense(network, y[0], 40, "relu"), 29, &options, NULL, NULL);
        network_output(network, network_dense(network, y[0], 5, "softmax"));
        return network;
    }
    other.mask = options.mask;
    other.is_reverse = true;
    if (what == BESIDE) {
        y[0] = network_recurrent(network, LSTM, x, 33, &options, NULL, NULL);
        y[1] = network_recurrent(network, LSTM, x, 33, &other, NULL, NULL);
        y[0] = network_merge(network, "concat", y, 2);
    } else if (what == FED) {
        y[0] = network_recurrent(network, GRU_AFTER, x, 33, &other, NULL, NULL);
        y[0] = network_recurrent(network, GRU_AFTER, y[0], 20, &other, NULL, NULL); /* the faster one waits */
    } else {
        y[0] = network_recurrent(network, RNN, x, 12, &options, NULL, NULL);
        y[1] = network_value(network, CYL_SEQUENCE, 12);
        network->axes[y[1]] = 0;
        Layer *layer = network_layer(network, "attention");
        layer_input(layer, "x", y[0]);
        layer_input(layer, "key", y[0]);
        layer_input(layer, "value", y[0]);
        layer_output(layer, "y", y[1]);
        layer_text(layer, "score", "dot");
        layer_text(layer, "masked", "penalty");
        layer_number(layer, "causal", 0.0);
        layer_number(layer, "scale", 1.0);
        layer_number(layer, "factor", 1.0);
        layer_number(layer, "heads", 2.0);
        y[0] = y[1];
    }
    network_output(network, network_dense(network, y[0], 5, "softmax"));
    return network;
}

static int blas_threads = 4;
static int get_threads(void) { return blas_threads; }
static void set_threads(int threads) { blas_threads = threads; }

/* the network with a BLAS that says how many threads it has */
static CylModel *build(const Network *network, CylEngine engine) {
    CylModel *model;
    CylBlas blas = plain_blas();
    blas.get_threads = (uintptr_t)get_threads;
    blas.set_threads = (uintptr_t)set_threads;
    CylStatus status = cyl_model_create(engine, cyl_isa_best(), &blas, &model);
    for (int32_t v = 0; status == CYL_OK && v < network->value_count; v++) {
        int32_t index;
        status = cyl_model_add_value(model, network->kinds[v], network->features[v], &index);
    }
    for (int32_t n = 0; status == CYL_OK && n < network->layer_count; n++) {
        status = cyl_model_add_layer(model, &network->layers[n].spec);
    }
    if (status == CYL_OK) {
        status = cyl_model_finish(model, network->inputs, network->masks, 1, network->outputs, 1);
    }
    CHECK(status == CYL_OK, "%s", cyl_status_text(status));
    return model;
}

enum { TIME = 40, OUTPUTS = 5, MOST_ROWS = 7 };

static void check_calls(const Network *network, CylEngine engine, int64_t rows, int threads, const char *name) {
    static int number;
    if (!check_is_due(number++)) {
        return;
    }
    const int64_t time = TIME;
    CylModel *model = build(network, engine);
    Data *data = data_create(network, rows, &time, rows > 1);
    float *wanted = need((size_t)rows * TIME * OUTPUTS * sizeof *wanted), *y = need((size_t)rows * TIME * OUTPUTS * 4);
    void *output = wanted;
    Caller caller = {&this_thread, 0, INT64_MAX};
    CylCall call = {.rows = rows,
                    .times = &time,
                    .inputs = (const void *const *)data->inputs,
                    .masks = (const uint8_t *const *)data->masks,
                    .outputs = &output,
                    .initial_state = (const void *const *)data->states,
                    .threads = threads};
    CHECK(cyl_predict(model, &call) == CYL_OK, "%s", name);
    output = y;
    const CylCall plain = call;
    call.should_stop = should_stop;
    call.stop_context = &caller;
    memset(y, 0, (size_t)rows * TIME * OUTPUTS * 4);
    CHECK(cyl_predict(model, &call) == CYL_OK && caller.asked > 0, "%s: not ended", name);
    CHECK(memcmp(y, wanted, (size_t)rows * TIME * OUTPUTS * 4) == 0, "%s: the same numbers where it goes on", name);
    int64_t all = caller.asked, stopped = 0;
    /* how often it is asked depends on the threads that were free */
    for (caller.most = 1; caller.most < all; caller.most += 1 + caller.most / 2) {
        caller.asked = 0;
        fesetround(FE_DOWNWARD);
        CylStatus status = cyl_predict(model, &call);
        CHECK(fegetround() == FE_DOWNWARD, "%s: the mode of the floating-point unit", name);
        fesetround(FE_TONEAREST);
        CHECK(status == (caller.asked == caller.most ? CYL_E_STOPPED : CYL_OK), "%s: %s", name,
              cyl_status_text(status));
        stopped += status == CYL_E_STOPPED;
        CHECK(blas_threads == 4, "%s: the BLAS has %d threads", name, blas_threads);
        memset(y, 0, (size_t)rows * TIME * OUTPUTS * 4);
        CHECK(cyl_predict(model, &plain) == CYL_OK, "%s: the next call", name);
        CHECK(memcmp(y, wanted, (size_t)rows * TIME * OUTPUTS * 4) == 0, "%s: the next call's numbers", name);
    }
    /* of rows apart the others may have taken all before this thread */
    bool is_apart = threads > 1 && rows >= threads;
    CHECK(stopped > 2 || is_apart, "%s: %d of %d questions", name, (int)stopped, (int)all);
    free(wanted);
    free(y);
    data_free(data);
    cyl_model_free(model);
}

static void a_call_ends_and_the_next_one_gives_the_same_bits(void) {
    static const int64_t rows_of[] = {1, 3, MOST_ROWS};
    for (int what = 0; what < NETWORKS; what++) {
        Network *network = create(what);
        for (int r = 0; r < 3; r++) {
            for (int threads = 1; threads <= 4; threads += threads == 2 ? 2 : 1) {
                check_calls(network, CYL_ENGINE_PACKED, rows_of[r], threads, NAMES[what]);
            }
        }
        check_calls(network, CYL_ENGINE_BLAS32, 3, 2, NAMES[what]);
        check_calls(network, CYL_ENGINE_BLAS32, 1, 2, NAMES[what]);
        network_free(network);
    }
}

/* copies steps [first, first + count) of (rows, TIME, size) to or from (rows, count, size) */
static void copy_steps(float *all, float *some, int64_t rows, int64_t first, int64_t count, int64_t size, bool back) {
    for (int64_t row = 0; row < rows; row++) {
        float *a = all + (row * TIME + first) * size, *b = some + row * count * size;
        memcpy(back ? a : b, back ? b : a, (size_t)(count * size) * sizeof *a);
    }
}

static CylStatus run_steps(CylStream *stream, const Data *data, float *y, int64_t first, int threads, Caller *caller,
                           const uint8_t *active) {
    const int64_t time = TIME - first, features = WIDE;
    float *x = need((size_t)(data->rows * time * features) * sizeof *x);
    float *part = need((size_t)(data->rows * time * OUTPUTS) * sizeof *part);
    copy_steps(data->inputs[0], x, data->rows, first, time, features, false);
    const void *input = x;
    void *output = part;
    CylCall call = {.rows = data->rows,
                    .times = &time,
                    .inputs = &input,
                    .outputs = &output,
                    .threads = threads,
                    .should_stop = caller ? should_stop : NULL,
                    .stop_context = caller};
    CylStatus status = cyl_stream_run_active(stream, &call, active);
    copy_steps(y, part, data->rows, first, time, OUTPUTS, true);
    free(x);
    free(part);
    return status;
}

static void a_stream_goes_on_from_the_steps_that_it_has_taken(void) {
    enum { ROWS = 3 };
    static const uint8_t some[ROWS] = {1, 0, 1};
    Network *network = create(CHUNKED);
    CylModel *model = build(network, CYL_ENGINE_PACKED);
    const int64_t time = TIME;
    Data *data = data_create(network, ROWS, &time, false);
    size_t size = (size_t)ROWS * TIME * OUTPUTS;
    float *wanted = need(size * sizeof *wanted), *y = need(size * sizeof *y), state[2][ROWS * 64];
    for (int turn = 0; turn < 6; turn++) {
        int threads = 1 + turn % 3;
        const uint8_t *active = turn < 3 ? NULL : some;
        CylStream *stream, *other;
        CHECK(cyl_stream_create(model, ROWS, threads, &stream) == CYL_OK, "stream");
        CHECK(run_steps(stream, data, wanted, 0, threads, NULL, active) == CYL_OK, "all at once");
        int64_t steps[ROWS], stops = 0;
        CHECK(cyl_stream_get_steps(stream, steps) == CYL_OK && steps[0] == TIME && steps[2] == TIME &&
                  steps[1] == (active ? 0 : TIME),
              "all steps");
        CHECK(cyl_stream_create(model, ROWS, threads, &other) == CYL_OK, "stream");
        memset(y, 0, size * sizeof *y);
        Caller caller = {&this_thread, 0, 1};
        int64_t first = 0, before = 0;
        while (run_steps(other, data, y, first, threads, &caller, active) == CYL_E_STOPPED) {
            CHECK(cyl_stream_get_steps(other, steps) == CYL_OK && steps[0] == steps[2], "equal");
            CHECK(steps[0] > before && steps[0] < TIME && steps[1] == (active ? 0 : steps[0]), "%d steps, then %d",
                  (int)before, (int)steps[0]);
            first = before = steps[0];
            caller.asked = 0;
            stops++;
        }
        CHECK(stops == 4, "stopped %d times", (int)stops);
        CHECK(memcmp(y, wanted, size * sizeof *y) == 0, "turn %d: the numbers of one call", turn);
        for (int32_t s = 0; s < cyl_model_state_count(model); s++) {
            size_t bytes = (size_t)(ROWS * cyl_model_state_size(model, s)) * sizeof(float);
            CHECK(get_state(stream, s, state[0]) == CYL_OK, "state");
            CHECK(get_state(other, s, state[1]) == CYL_OK, "state");
            CHECK(memcmp(state[0], state[1], bytes) == 0, "turn %d: state %d", turn, (int)s);
        }
        cyl_stream_free(stream);
        cyl_stream_free(other);
    }
    free(wanted);
    free(y);
    data_free(data);
    cyl_model_free(model);
    network_free(network);
}

static void steps_go_with_their_rows(void) {
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 3, NULL);
    network_output(network, network_recurrent(network, LSTM, x, 4, &PLAIN, NULL, NULL));
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    CylStream *stream, *other;
    CHECK(cyl_stream_create(model, 3, 1, &stream) == CYL_OK && cyl_stream_create(model, 2, 1, &other) == CYL_OK,
          "streams");
    float x_data[3 * 5 * 3] = {0}, y_data[3 * 5 * 4];
    const void *input = x_data;
    void *output = y_data;
    int64_t time = 5, steps[3], none[2];
    CylCall call = {.rows = 3, .times = &time, .inputs = &input, .outputs = &output, .threads = 1};
    static const uint8_t last[3] = {0, 0, 1};
    CHECK(cyl_stream_run(stream, &call) == CYL_OK && cyl_stream_run_active(stream, &call, last) == CYL_OK, "run");
    CHECK(cyl_stream_get_steps(stream, steps) == CYL_OK, "steps");
    CHECK(steps[0] == 5 && steps[1] == 5 && steps[2] == 10, "%d %d %d", (int)steps[0], (int)steps[1], (int)steps[2]);
    const int64_t to[] = {1, 0}, from[] = {2, 0}, one = 1;
    CHECK(cyl_stream_copy_rows(other, to, stream, from, 2) == CYL_OK, "copy");
    CHECK(cyl_stream_get_steps(other, none) == CYL_OK && none[0] == 5 && none[1] == 10, "copied");
    CHECK(cyl_stream_reset_rows(stream, &one, 1) == CYL_OK && cyl_stream_get_steps(stream, steps) == CYL_OK, "reset");
    CHECK(steps[0] == 5 && steps[1] == 0 && steps[2] == 10, "one row at its start");
    /* with what is kept beside the states */
    uint8_t flags[64];
    CylStream *kept;
    CHECK(cyl_stream_create(model, 3, 1, &kept) == CYL_OK, "stream");
    CHECK(cyl_stream_flags_size(stream) == 3 + 3 * 8, "%d bytes", (int)cyl_stream_flags_size(stream));
    CHECK(cyl_stream_save(stream, &(CylStreamState){.flags = flags}) == CYL_OK &&
              cyl_stream_restore(kept, &(CylStreamState){.flags = flags}) == CYL_OK,
          "flags");
    CHECK(cyl_stream_get_steps(kept, steps) == CYL_OK && steps[0] == 5 && steps[1] == 0 && steps[2] == 10, "kept");
    CHECK(flags[3] == 5 && flags[4] == 0 && flags[3 + 8] == 0 && flags[3 + 16] == 10, "the lowest byte first");
    CHECK(cyl_stream_reset(stream) == CYL_OK && cyl_stream_get_steps(stream, steps) == CYL_OK, "reset");
    CHECK(!steps[0] && !steps[1] && !steps[2], "all at their start");
    cyl_stream_free(kept);
    cyl_stream_free(stream);
    cyl_stream_free(other);
    cyl_model_free(model);
    network_free(network);
}

/* without cyl_stop_ask_always; of two halves of a team one must not wait for what the other leaves undone */
static void a_long_call_asks_before_its_end(void) {
    const int64_t time = 200000;
    float *x = need((size_t)time * 24 * sizeof *x), *y = need((size_t)time * OUTPUTS * sizeof *y);
    memset(x, 0, (size_t)time * 24 * sizeof *x);
    const void *input = x;
    void *output = y;
    for (int turn = 0; turn < 10; turn++) {
        Network *network = create(turn % 2 ? FED : BESIDE);
        CylModel *model = build(network, CYL_ENGINE_PACKED);
        for (int threads = 1; threads <= 2; threads++) {
            Caller caller = {&this_thread, 0, 1};
            CylCall call = {.rows = 1,
                            .times = &time,
                            .inputs = &input,
                            .outputs = &output,
                            .threads = threads,
                            .should_stop = should_stop,
                            .stop_context = &caller};
            CHECK(cyl_predict(model, &call) == CYL_E_STOPPED && caller.asked == 1, "%d threads", threads);
        }
        cyl_model_free(model);
        network_free(network);
    }
    free(x);
    free(y);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(a_long_call_asks_before_its_end);
    cyl_stop_ask_always(true);
    RUN(a_call_ends_and_the_next_one_gives_the_same_bits);
    RUN(a_stream_goes_on_from_the_steps_that_it_has_taken);
    RUN(steps_go_with_their_rows);
    return check_result();
}
