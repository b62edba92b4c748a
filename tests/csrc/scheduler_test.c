/*
 * The scheduler of recurrent layers, and the layers around it: the numbers of the equations in double precision, and
 * the same bits on every instruction set, on any number of threads, for a whole sequence and a stream, for a batch
 * and its rows alone.
 */
#include "cylstm.h"
#include "run/workspace.h"
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* relative to the largest magnitude of an array */
#define TOLERANCE 2e-6
/* a norm divides the rounding of small sums by their small spread */
#define TOLERANCE_NORMALISED 2e-5

/* chunks of a stream, in turn */
static const int64_t SINGLE[] = {1}, ODD[] = {3, 1, 7, 5, 2, 29};

static uint64_t hash_of_all;
/* the bits of all results, the same on every machine; it changes with the tests below, never with the machine */
#define EXPECTED_HASH 0xe2119288ec38d4f8u

typedef struct {
    bool can_stream;  /* one input, nothing reversed, no state handed over */
    bool has_vector;  /* which a stream of masked chunks gives for each chunk */
    double tolerance; /* 0 for TOLERANCE */
} Kind;

/* everything that is promised of one network and its data; scalar code is slow, so it is asked for */
static void check_network(const Network *network, const Data *data, const Kind *kind, bool with_scalar,
                          const char *name) {
    static int number;
    if (!check_is_due(number++)) {
        return;
    }
    GO_ON();
    Result truth = reference(network, data);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Result whole = predict(network, model, data, 1);
    hash_of_all = result_hash(&whole, hash_of_all);
    double error = result_error(&whole, &truth), tolerance = kind->tolerance > 0.0 ? kind->tolerance : TOLERANCE;
    for (int32_t n = 0; n < network->layer_count; n++) {
        tolerance = network->layers[n].kind == LSTM_NORMALISED ? TOLERANCE_NORMALISED : tolerance;
    }
    CHECK(error <= tolerance, "%s: error %g", name, error);

    for (int isa = with_scalar ? CYL_ISA_SCALAR : CYL_ISA_SCALAR + 1; isa < CYL_ISA_COUNT; isa++) {
        if (cyl_isa_available((CylIsa)isa) && isa != (int)cyl_isa_best()) {
            CylModel *other = network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa);
            Result same = predict(network, other, data, 1);
            CHECK(result_same(&same, &whole), "%s: %s differs from %s by %g", name, cyl_isa_name((CylIsa)isa),
                  cyl_isa_name(cyl_isa_best()), result_error(&same, &whole));
            result_free(&same);
            cyl_model_free(other);
        }
    }
    /* more threads than rows share the blocks; more than blocks, and some have none */
    const int threads_of[] = {2, data->rows == 3 ? 4 : data->rows == 4 ? 5 : 3, 5};
    for (int i = 0; i < (data->times[0] > 100 ? 2 : 3); i++) {
        const int threads = threads_of[i];
        Result same = predict(network, model, data, threads);
        CHECK(result_same(&same, &whole), "%s: %d threads differ by %g", name, threads, result_error(&same, &whole));
        result_free(&same);
    }
    for (int64_t row = 0; data->rows > 1 && row < data->rows; row += row % 29 ? 1 : 28) {
        Result alone = predict_row(network, model, data, row, row % 2 ? 1 : 2),
               within = result_row(&whole, data->rows, row);
        CHECK(result_same(&alone, &within), "%s: row %d alone differs by %g", name, (int)row,
              result_error(&alone, &within));
        result_free(&alone);
        result_free(&within);
    }
    if (kind->can_stream && !(kind->has_vector && data->masks[0])) {
        Result steps = stream(network, model, data, SINGLE, 1, 1);
        CHECK(result_same(&steps, &whole), "%s: step by step differs by %g", name, result_error(&steps, &whole));
        Result chunks = stream(network, model, data, ODD, sizeof ODD / sizeof *ODD, 3);
        CHECK(result_same(&chunks, &whole), "%s: odd chunks on 3 threads differ by %g", name,
              result_error(&chunks, &whole));
        result_free(&steps);
        result_free(&chunks);
    }
    result_free(&whole);
    cyl_model_free(model);
    result_free(&truth);
}

/* A model keeps the memory of its calls for the next: nothing of one may be left in another. */
static void calls_in_any_order_are_those_of_a_fresh_model(void) {
    static const int64_t times[] = {9, 900, 1, 40}, rows[] = {3, 60, 1};
    random_seed(21);
    RecurrentOptions options = PLAIN, padded = PLAIN;
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 70, &options.mask), y[3];
    padded.mask = options.mask;
    padded.repeats_padding = true;
    y[0] = network_recurrent(network, LSTM_PROJECTED, x, 26, &padded, NULL, NULL);
    y[1] = network_recurrent(network, GRU_BEFORE, x, 18, &options, NULL, NULL);
    y[2] = network_recurrent(network, LSTM_NORMALISED, x, 18, &options, NULL, NULL);
    int32_t z = network_dense(network, network_merge(network, "ave", y, 3), 50, "tanh");
    network_output(network, network_recurrent(network, LSTM_PEEPHOLES, z, 20, &options, NULL, NULL));
    network_output(network, network_last(network, z, options.mask));
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    for (int c = 0; c < 48; c++) {
        int turn = c % 24;
        if (!check_is_due(c)) {
            continue;
        }
        GO_ON();
        Data *data = data_create(network, rows[turn / 8], &times[turn % 4], turn / 4 % 2);
        CylModel *fresh = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        Result wanted = predict(network, fresh, data, 1), found = predict(network, model, data, 1 + c % 3);
        CHECK(result_same(&found, &wanted), "call %d: %d rows, %d steps, %d threads differ by %g", c, (int)data->rows,
              (int)data->times[0], 1 + c % 3, result_error(&found, &wanted));
        result_free(&wanted);
        result_free(&found);
        cyl_model_free(fresh);
        data_free(data);
    }
    cyl_model_free(model);
    network_free(network);
}

static const int32_t SIZES[][2] = {{2, 1}, {1, 3}, {5, 17}, {40, 33}, {7, 50}, {20, 70}}; /* input, hidden */
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static void recurrent_layers_of_all_sizes_are_right_and_bit_identical(void) {
    static const int64_t rows[] = {1, 3, 60}, times[] = {1, 7, 40};
    for (int k = 0; k < RECURRENT_KINDS; k++) {
        for (int s = 0; s < SIZE_COUNT; s++) {
            for (int c = 0; c < 9; c++) {
                random_seed((uint64_t)(k * 100 + s * 10 + c));
                Network *network = network_create();
                int32_t x = network_input(network, CYL_SEQUENCE, SIZES[s][0], NULL), h, last;
                network_output(network, network_recurrent(network, (RecurrentKind)k, x, SIZES[s][1], NULL, &h, &last));
                network_output(network, h);
                Data *data = data_create(network, rows[c / 3], &times[c % 3], false);
                char name[100];
                snprintf(name, sizeof name, "%s, input %d, hidden %d, %d rows, %d steps", RECURRENT_NAMES[k],
                         (int)SIZES[s][0], (int)SIZES[s][1], (int)data->rows, (int)data->times[0]);
                check_network(network, data, &(Kind){.can_stream = true}, data->rows * data->times[0] <= 280, name);
                data_free(data);
                network_free(network);
            }
        }
    }
}

static void masks_leave_states_and_pad_outputs(void) {
    static const int64_t rows[] = {1, 7, 60};
    int64_t time = 19;
    for (int c = 0; c < RECURRENT_KINDS * 4 * 3; c++) {
        RecurrentKind kind = (RecurrentKind)(c % RECURRENT_KINDS);
        random_seed((uint64_t)c);
        RecurrentOptions options = PLAIN;
        options.is_reverse = c / RECURRENT_KINDS & 1;
        options.repeats_padding = c / RECURRENT_KINDS & 2;
        Network *network = network_create();
        /* a few rows of a large input: its products are taken for several steps at once */
        int64_t row_count = rows[c / RECURRENT_KINDS / 4];
        int32_t x = network_input(network, CYL_SEQUENCE, row_count < 8 ? 100 : 5, &options.mask);
        int32_t y = network_recurrent(network, kind, x, 19, &options, NULL, NULL);
        network_output(network, y);
        network_output(network, network_last(network, y, options.mask));
        Data *data = data_create(network, row_count, &time, true);
        char name[100];
        snprintf(name, sizeof name, "%s, %d rows, %s padding%s", RECURRENT_NAMES[kind], (int)data->rows,
                 options.repeats_padding ? "repeated" : "zero", options.is_reverse ? ", reverse" : "");
        check_network(network, data, &(Kind){.can_stream = !options.is_reverse, .has_vector = true}, data->rows < 60,
                      name);
        data_free(data);
        network_free(network);
    }
}

/* without Last, whose result is each chunk's own, a masked stream gives what the whole sequence gives */
static void masks_of_a_stream_are_those_of_its_chunks(void) {
    int64_t time = 23;
    for (int c = 0; c < RECURRENT_KINDS * 2; c++) {
        random_seed((uint64_t)c);
        RecurrentOptions options = PLAIN;
        options.repeats_padding = c / RECURRENT_KINDS;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 3, &options.mask);
        int32_t y = network_recurrent(network, (RecurrentKind)(c % RECURRENT_KINDS), x, 21, &options, NULL, NULL);
        y = network_recurrent(network, (RecurrentKind)((c + 1) % RECURRENT_KINDS), y, 6, &options, NULL, NULL);
        network_output(network, y);
        Data *data = data_create(network, 12, &time, true);
        check_network(network, data, &(Kind){.can_stream = true}, true, RECURRENT_NAMES[c % RECURRENT_KINDS]);
        data_free(data);
        network_free(network);
    }
}

static void a_mask_of_ones_changes_nothing(void) {
    for (int k = 0; k < RECURRENT_KINDS; k++) {
        int64_t time = 9;
        RecurrentOptions options = PLAIN;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 3, &options.mask);
        network_output(network, network_recurrent(network, (RecurrentKind)k, x, 18, &options, NULL, NULL));
        Data *data = data_create(network, 4, &time, true);
        memset(data->masks[0], 1, 4 * 9);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        Result masked = predict(network, model, data, 1);
        free(data->masks[0]);
        data->masks[0] = NULL;
        Result plain = predict(network, model, data, 1);
        CHECK(result_same(&masked, &plain), "%s: %g", RECURRENT_NAMES[k], result_error(&masked, &plain));
        result_free(&masked);
        result_free(&plain);
        cyl_model_free(model);
        data_free(data);
        network_free(network);
    }
}

static void layers_in_a_row_and_sequences_longer_than_a_chunk_are_right(void) {
    for (int c = 0; c < RECURRENT_KINDS * 2; c++) {
        random_seed((uint64_t)c);
        RecurrentOptions options = PLAIN;
        bool has_mask = c / RECURRENT_KINDS;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 6, has_mask ? &options.mask : NULL);
        int32_t y = network_recurrent(network, (RecurrentKind)(c % RECURRENT_KINDS), x, 37, &options, NULL, NULL);
        y = network_dense(network, y, 90, "relu");
        y = network_recurrent(network, (RecurrentKind)((c + 2) % RECURRENT_KINDS), y, 9, &options, NULL, NULL);
        y = network_dense(network, y, 11, "softmax");
        network_output(network, y);
        int32_t last = network_last(network, y, options.mask);
        network_output(network, last);
        network_output(network, network_dense(network, last, 3, "sigmoid"));
        int64_t rows = 4, time = 280; /* the fourth row's mask ends before the last chunk */
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        CHECK(2 * cyl_chunk_steps(model, rows, time) < time, "a chunk has %d steps",
              (int)cyl_chunk_steps(model, rows, time));
        cyl_model_free(model);
        Data *data = data_create(network, rows, &time, has_mask);
        check_network(network, data, &(Kind){.can_stream = true, .has_vector = true}, c == 1,
                      RECURRENT_NAMES[c % RECURRENT_KINDS]);
        data_free(data);
        network_free(network);
    }
}

/* with half of the threads each, the second behind the first */
static void a_layer_follows_the_one_that_feeds_it(void) {
    for (int c = 0; c < RECURRENT_KINDS * 4; c++) {
        random_seed((uint64_t)c);
        RecurrentKind kind = (RecurrentKind)(c % RECURRENT_KINDS);
        RecurrentOptions options = PLAIN;
        bool has_mask = c / RECURRENT_KINDS % 2, is_reverse = c / RECURRENT_KINDS / 2;
        options.is_reverse = is_reverse;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 21, has_mask ? &options.mask : NULL), h[3], y[3];
        y[0] = network_recurrent(network, kind, x, 37, &options, &h[0], NULL);
        y[1] = network_recurrent(network, kind, y[0], 25, &options, &h[1], NULL);
        y[2] = network_recurrent(network, kind, y[1], 18, &options, &h[2], NULL);
        network_output(network, h[c % 2]);
        if (c % 3 < 2) {
            network_output(network, y[c % 3]);
        }
        network_output(network, y[2]);
        int64_t rows = c % 4 ? 3 : 1, time = 70;
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        CHECK(model->layers[0].feeds_next && !model->layers[1].feeds_next,
              "the first layer and the second are no pair");
        cyl_model_free(model);
        Data *data = data_create(network, rows, &time, has_mask);
        check_network(network, data, &(Kind){.can_stream = !is_reverse, .has_vector = true}, false,
                      RECURRENT_NAMES[kind]);
        data_free(data);
        network_free(network);
    }
}

static void two_directions_are_merged(void) {
    static const char *const modes[] = {"concat", "sum", "mul", "ave"};
    static const int64_t rows[] = {1, 3, 50}, times[] = {1, 33, 150};
    for (int c = 0; c < 4 * 9; c++) {
        random_seed((uint64_t)c);
        if (rows[c / 4 % 3] * times[c / 12] > 2000) {
            continue;
        }
        RecurrentKind kind = (RecurrentKind)((c + c / 4) % RECURRENT_KINDS);
        RecurrentOptions options = PLAIN;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 4, &options.mask), y[3];
        y[0] = network_recurrent(network, kind, x, 20, &options, NULL, NULL);
        options.is_reverse = true;
        y[1] = network_recurrent(network, kind, x, 20, &options, NULL, NULL);
        y[2] = y[0];
        int32_t merged = network_merge(network, modes[c % 4], y, 2 + c % 2);
        network_output(network, merged);
        int32_t last = network_last(network, merged, options.mask);
        network_output(network, network_dense(network, last, 5, "tanh"));
        Data *data = data_create(network, rows[c / 4 % 3], &times[c / 12], c / 4 % 2);
        char name[100];
        snprintf(name, sizeof name, "%s, %s, %d rows, %d steps", RECURRENT_NAMES[kind], modes[c % 4], (int)data->rows,
                 (int)data->times[0]);
        check_network(network, data, &(Kind){.can_stream = false}, times[c / 12] < 150, name);
        data_free(data);
        network_free(network);
    }
}

/* threads divide what reads the final states; of two inputs in turn, since what is left of one must not fit the other
 */
static void readers_of_final_states_wait_for_them(void) {
    const int64_t time = 3;
    for (int k = 0; k < RECURRENT_KINDS; k++) {
        GO_ON();
        random_seed((uint64_t)k);
        Network *network = network_create();
        bool is_lstm = state_count_of((RecurrentKind)k) == 2;
        int32_t x = network_input(network, CYL_SEQUENCE, 8, NULL), h, c;
        network_recurrent(network, (RecurrentKind)k, x, 192, NULL, &h, is_lstm ? &c : NULL);
        network_output(network, network_dense(network, h, 512, "linear"));
        if (is_lstm) {
            network_output(network, network_dense(network, c, 512, "linear"));
        }
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        Data *data[2];
        Result wanted[2];
        for (int i = 0; i < 2; i++) {
            data[i] = data_create(network, 1, &time, false);
            wanted[i] = predict(network, model, data[i], 1);
            Result truth = reference(network, data[i]);
            double error = result_error(&wanted[i], &truth);
            CHECK(error <= (k == LSTM_NORMALISED ? TOLERANCE_NORMALISED : TOLERANCE), "%s: error %g",
                  RECURRENT_NAMES[k], error);
            result_free(&truth);
        }
        for (int call = 0; call < 60; call++) {
            Result found = predict(network, model, data[call % 2], 2);
            CHECK(result_same(&found, &wanted[call % 2]), "%s: call %d differs by %g", RECURRENT_NAMES[k], call,
                  result_error(&found, &wanted[call % 2]));
            result_free(&found);
        }
        for (int i = 0; i < 2; i++) {
            result_free(&wanted[i]);
            data_free(data[i]);
        }
        cyl_model_free(model);
        network_free(network);
    }
}

/* an encoder's states start a decoder whose sequence has another length, and vectors join at the end */
static void states_go_from_one_layer_to_another(void) {
    for (int c = 0; c < RECURRENT_KINDS * 3; c++) {
        static const int64_t rows[] = {1, 4, 55}, times[] = {13, 1, 29};
        random_seed((uint64_t)c);
        RecurrentKind kind = (RecurrentKind)(c % RECURRENT_KINDS);
        bool is_lstm = state_count_of(kind) == 2;
        RecurrentOptions options = PLAIN, decoder = PLAIN;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 4, &options.mask);
        int32_t target = network_input(network, CYL_SEQUENCE, 3, NULL);
        int32_t extra = network_input(network, CYL_VECTOR, 7, NULL), cell = -1;
        network_recurrent(network, kind, x, 18, &options, &decoder.h0, is_lstm ? &cell : NULL);
        decoder.c0 = cell;
        int32_t h, y = network_recurrent(network, kind, target, 18, &decoder, &h, NULL);
        network_output(network, network_dense(network, y, 3, "linear"));
        int32_t joined[] = {h, extra, decoder.h0};
        int32_t all = network_merge(network, "concat", joined, 3);
        network_output(network, network_dense(network, all, 2, "sigmoid"));
        network_output(network, decoder.h0);
        int64_t both[] = {times[c / RECURRENT_KINDS], times[(c / RECURRENT_KINDS + 1) % 3], 1};
        Data *data = data_create(network, rows[(c + c / RECURRENT_KINDS) % 3], both, c % 2);
        char name[100];
        snprintf(name, sizeof name, "%s, %d rows, %d and %d steps", RECURRENT_NAMES[kind], (int)data->rows,
                 (int)both[0], (int)both[1]);
        check_network(network, data, &(Kind){.can_stream = false}, true, name);
        data_free(data);
        network_free(network);
    }
}

static void every_activation_is_right_as_a_gate_and_as_a_layer(void) {
    for (int a = 0; a < ACTIVATION_COUNT; a++) {
        for (int k = 0; k < RECURRENT_KINDS; k++) {
            random_seed((uint64_t)(a * RECURRENT_KINDS + k));
            RecurrentOptions options = PLAIN;
            options.activation = ACTIVATIONS[a].name;
            /* the other bounded, so that states stay of one size */
            options.recurrent_activation = k % 2 ? "hard_sigmoid" : "sigmoid";
            /* its numbers grow, and what a projection adds up nearly cancels */
            bool is_exponential = strcmp(ACTIVATIONS[a].name, "exponential") == 0;
            options.scale = is_exponential ? 0.03f : 0.1f;
            Network *network = network_create();
            int32_t x = network_input(network, CYL_SEQUENCE, 9, NULL);
            int32_t y = network_recurrent(network, (RecurrentKind)k, x, 19, &options, NULL, NULL);
            options.activation = "softsign";
            options.recurrent_activation = ACTIVATIONS[a].name;
            int32_t z = network_recurrent(network, (RecurrentKind)k, x, 7, &options, NULL, NULL);
            Layer *layer = network_layer(network, "activation");
            int32_t activated = network_value(network, CYL_SEQUENCE, network->features[y]);
            network->axes[activated] = 0;
            layer_input(layer, "x", y);
            layer_output(layer, "y", activated);
            layer_activation(layer, "activation", ACTIVATIONS[a].name);
            network_output(network, z);
            network_output(network, activated);
            network_output(network, network_dense(network, activated, 70, ACTIVATIONS[a].name));
            int64_t time = 6;
            Data *data = data_create(network, 2, &time, false);
            char name[100];
            snprintf(name, sizeof name, "%s, %s", ACTIVATIONS[a].name, RECURRENT_NAMES[k]);
            check_network(network, data, &(Kind){.can_stream = true, .tolerance = is_exponential ? 1e-5 : 0.0}, true,
                          name);
            data_free(data);
            network_free(network);
        }
    }
}

static void the_blas_engine_is_right(void) {
    const struct {
        CylEngine engine;
        CylIsa isa;
        double tolerance;
    } engines[] = {{CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, 5e-6},
                   {CYL_ENGINE_BLAS32, cyl_isa_best(), 5e-6},
                   {CYL_ENGINE_BLAS64, CYL_ISA_SCALAR, 1e-13}};
    for (int c = 0; c < RECURRENT_KINDS * SIZE_COUNT; c++) {
        if (!check_is_due(c)) {
            continue;
        }
        random_seed((uint64_t)c);
        RecurrentOptions options = PLAIN;
        RecurrentKind kind = (RecurrentKind)(c % RECURRENT_KINDS);
        options.is_reverse = c / 8 % 2;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, SIZES[c / RECURRENT_KINDS][0], &options.mask), y[2];
        y[0] = network_recurrent(network, kind, x, SIZES[c / RECURRENT_KINDS][1], &options, NULL, NULL);
        y[1] = network_dense(network, x, network->features[y[0]], "gelu");
        network_output(network, network_dense(network, network_merge(network, "mul", y, 2), 5, "softmax"));
        int64_t rows = 1 + c % 3 * 7, time = 21;
        Data *data = data_create(network, rows, &time, c % 2);
        Result truth = reference(network, data);
        for (int e = 0; e < 3; e++) {
            CylModel *model = network_model(network, engines[e].engine, engines[e].isa);
            for (int threads = 1; threads <= 3; threads++) {
                Result result = predict(network, model, data, threads);
                double error = result_error(&result, &truth);
                CHECK(error <= engines[e].tolerance, "%s, hidden %d, %d threads: error %g", RECURRENT_NAMES[kind],
                      (int)SIZES[c / RECURRENT_KINDS][1], threads, error);
                result_free(&result);
            }
            cyl_model_free(model);
        }
        result_free(&truth);
        data_free(data);
        network_free(network);
    }
}

static void convolutional_lstms_are_right(void) {
    static const int64_t rows[] = {1, 3, 20}, times[] = {1, 9, 70};
    for (int c = 0; c < 2 * 9; c++) {
        random_seed((uint64_t)c);
        RecurrentOptions options = PLAIN;
        options.repeats_padding = c % 4 > 1;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 3 * 5 * 2, &options.mask);
        int32_t y = network_conv_lstm(network, x, 3, 5, 17, c % 2, &options);
        network_output(network, y);
        options.is_reverse = c > 9;
        /* the output's image: 3 x 3 positions with padding "same", else 2 x 2 */
        int32_t side = c % 2 ? 3 : 2;
        if (side == 3) {
            network_output(network, network_conv_lstm(network, y, side, side, 3, true, &options));
        }
        Data *data = data_create(network, rows[c / 6], &times[c / 2 % 3], c % 3 == 0);
        char name[100];
        snprintf(name, sizeof name, "ConvLSTM, padding %s, %d rows, %d steps", c % 2 ? "same" : "valid",
                 (int)data->rows, (int)data->times[0]);
        check_network(network, data, &(Kind){.can_stream = !options.is_reverse || side == 2}, data->rows < 20, name);
        data_free(data);
        network_free(network);
    }
}

static void a_stream_can_be_reset_and_copied(void) {
    int64_t rows = 5, time = 4;
    RecurrentOptions options = PLAIN;
    options.repeats_padding = true;
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 3, &options.mask);
    int32_t y = network_recurrent(network, LSTM_PROJECTED, x, 18, &options, NULL, NULL);
    network_output(network, network_recurrent(network, GRU_BEFORE, y, 7, &options, NULL, NULL));
    Data *data = data_create(network, rows, &time, true);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    CylStream *first, *second;
    CHECK(cyl_stream_create(model, rows, 1, &first) == CYL_OK && cyl_stream_create(model, rows, 2, &second) == CYL_OK,
          "streams");
    float before[5 * 4 * 7], again[5 * 4 * 7], copied[5 * 4 * 7];
    const void *input = data->inputs[0];
    const uint8_t *mask = data->masks[0];
    void *output = before;
    CylCall call = {.rows = rows, .times = &time, .inputs = &input, .masks = &mask, .outputs = &output, .threads = 1};
    CHECK(cyl_stream_run(first, &call) == CYL_OK, "run");
    float saved[3][5 * 18];
    void *states[3] = {saved[0], saved[1], saved[2]};
    uint8_t flags[128];
    CHECK(network->state_count == 3 && cyl_stream_flags_size(first) == (2 + 8) * rows, "sizes");
    CHECK(cyl_stream_save(first, &(CylStreamState){.states = states, .flags = flags}) == CYL_OK, "save");
    CHECK(cyl_stream_restore(second, &(CylStreamState){.states = states, .flags = flags}) == CYL_OK, "restore");
    output = again;
    CHECK(cyl_stream_run(first, &call) == CYL_OK, "run");
    output = copied;
    CHECK(cyl_stream_run(second, &call) == CYL_OK, "run");
    CHECK(memcmp(again, copied, sizeof again) == 0, "a copied stream goes on as the first");
    CHECK(memcmp(again, before, sizeof again) != 0, "a stream goes on");
    CHECK(cyl_stream_reset(first) == CYL_OK && cyl_stream_run(first, &call) == CYL_OK, "reset");
    output = again;
    CHECK(cyl_stream_reset(first) == CYL_OK && cyl_stream_run(first, &call) == CYL_OK, "reset");
    CHECK(memcmp(again, before, sizeof again) == 0, "a reset stream starts anew");
    cyl_stream_free(first);
    cyl_stream_free(second);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* ---- rows of a stream ---- */

enum { STREAM_ROWS = 7, MOST_STEPS = 5, WIDEST = 64 };

/* a sequence, the last step of it and a final state, of one recurrent layer of the kind among others */
static Network *streaming_network(int kind, const RecurrentOptions *masked, int32_t *mask) {
    Network *network = network_create();
    RecurrentOptions options = *masked;
    int32_t x = network_input(network, CYL_SEQUENCE, 6, mask), y;
    options.mask = mask ? *mask : -1;
    if (kind == CONV_LSTM) {
        y = network_conv_lstm(network, x, 3, 2, 5, true, &options);
    } else {
        int32_t h;
        y = network_recurrent(network, (RecurrentKind)kind, network_dense(network, x, 5, "relu"), 19, &options, &h,
                              NULL);
        network_output(network, h);
    }
    int32_t both = network_merge(network, "concat", (int32_t[]){y, y}, 2);
    network_output(network, network_dense(network, both, 3, "softmax"));
    network_output(network, network_last(network, y, options.mask));
    return network;
}

/* one call of a stream of these rows; outputs are (rows, time, WIDEST) at most each, filled with NaN before */
static CylStatus run_steps(CylStream *stream, const Network *network, int64_t rows, int64_t time, const float *x,
                           const uint8_t *mask, const uint8_t *active, float *const *outputs) {
    void *written[MOST_ENDS];
    const void *input = x;
    for (int32_t o = 0; o < network->output_count; o++) {
        written[o] = outputs[o];
        for (int64_t n = 0; n < rows * time * WIDEST; n++) {
            outputs[o][n] = NAN;
        }
    }
    CylCall call = {.rows = rows, .times = &time, .inputs = &input, .masks = &mask, .outputs = written, .threads = 3};
    return cyl_stream_run_active(stream, &call, active);
}

static void rows_of_a_stream_run_reset_and_move_as_streams_of_their_own(void) {
    enum { SIZE = STREAM_ROWS * MOST_STEPS * WIDEST };
    float *many_y[MOST_ENDS], *one_y[MOST_ENDS], *zeros = need(SIZE * sizeof *zeros);
    for (int o = 0; o < MOST_ENDS; o++) {
        many_y[o] = need(SIZE * sizeof *many_y[o]);
        one_y[o] = need(SIZE * sizeof *one_y[o]);
    }
    memset(zeros, 0, SIZE * sizeof *zeros);
    for (int c = 0; c < 4 * (RECURRENT_KINDS + 1); c++) {
        int kind = c / 4;
        random_seed((uint64_t)c);
        RecurrentOptions options = PLAIN;
        options.repeats_padding = kind % 2 != 0;
        int32_t mask_value;
        Network *network = streaming_network(kind, &options, c % 2 ? &mask_value : NULL);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        CylStream *many, *ones[STREAM_ROWS];
        uint8_t flags[9 * STREAM_ROWS], flag[9];
        CHECK(cyl_stream_create(model, STREAM_ROWS, c % 4 < 2 ? 1 : 3, &many) == CYL_OK, "many");
        for (int64_t row = 0; row < STREAM_ROWS; row++) {
            CHECK(cyl_stream_create(model, 1, 1, &ones[row]) == CYL_OK, "one");
        }
        for (int turn = 0; turn < 40; turn++) {
            int64_t time = turn % 3 ? 1 : 1 + random_bits() % MOST_STEPS;
            float x[STREAM_ROWS * MOST_STEPS * 6];
            uint8_t mask[STREAM_ROWS * MOST_STEPS], active[STREAM_ROWS];
            uint32_t rows_active = turn % 8 == 5 ? 0 : turn % 8 == 6 ? UINT32_MAX : random_bits();
            for (int64_t row = 0; row < STREAM_ROWS; row++) {
                active[row] = rows_active >> row & 1 ? (uint8_t)(1 + random_bits() % 255) : 0;
                for (int64_t n = 0; n < time * 6; n++) {
                    x[row * time * 6 + n] = active[row] ? random_float(1.0f) : NAN;
                }
                bool any_counts = random_bits() % 2;
                for (int64_t t = 0; t < time; t++) {
                    mask[row * time + t] = any_counts && random_bits() % 3 > 0;
                }
            }
            CHECK(run_steps(many, network, STREAM_ROWS, time, x, c % 2 ? mask : NULL, active, many_y) == CYL_OK, "run");
            for (int64_t row = 0; row < STREAM_ROWS; row++) {
                const uint8_t *own_mask = c % 2 ? mask + row * time : NULL;
                if (active[row]) {
                    CHECK(run_steps(ones[row], network, 1, time, x + row * time * 6, own_mask, NULL, one_y) == CYL_OK,
                          "run");
                }
                for (int32_t o = 0; o < network->output_count; o++) {
                    bool is_sequence = network->kinds[network->outputs[o]] == CYL_SEQUENCE;
                    int64_t size = network->features[network->outputs[o]] * (is_sequence ? time : 1);
                    CHECK(memcmp(many_y[o] + row * size, active[row] ? one_y[o] : zeros,
                                 (size_t)size * sizeof **many_y) == 0,
                          "case %d, turn %d, row %d, output %d", c, turn, (int)row, (int)o);
                }
            }
            /* now and then a row starts again, or goes on as another */
            int64_t row = random_bits() % STREAM_ROWS, other = random_bits() % STREAM_ROWS, zero = 0;
            if (turn % 5 == 2) {
                CHECK(cyl_stream_reset_rows(many, &row, 1) == CYL_OK && cyl_stream_reset(ones[row]) == CYL_OK, "reset");
            } else if (turn % 5 == 4 && row != other) {
                CHECK(cyl_stream_copy_rows(many, &row, ones[other], &zero, 1) == CYL_OK &&
                          cyl_stream_copy_rows(ones[row], &zero, many, &other, 1) == CYL_OK,
                      "copy");
                CHECK(cyl_stream_save(many, &(CylStreamState){.flags = flags}) == CYL_OK && flags[row] == flags[other],
                      "flags of a copy");
            }
        }
        CHECK(cyl_stream_save(many, &(CylStreamState){.flags = flags}) == CYL_OK, "flags");
        for (int64_t row = 0; row < STREAM_ROWS; row++) {
            for (int32_t s = 0; s < network->state_count; s++) {
                size_t bytes = (size_t)network->state_sizes[s] * sizeof(float);
                CHECK(get_state(many, s, many_y[0]) == CYL_OK && get_state(ones[row], s, one_y[0]) == CYL_OK &&
                          memcmp((char *)many_y[0] + (size_t)row * bytes, one_y[0], bytes) == 0,
                      "case %d, row %d, state %d", c, (int)row, (int)s);
            }
            CHECK(cyl_stream_save(ones[row], &(CylStreamState){.flags = flag}) == CYL_OK && flag[0] == flags[row],
                  "flag of row %d", (int)row);
            cyl_stream_free(ones[row]);
        }
        cyl_stream_free(many);
        cyl_model_free(model);
        network_free(network);
    }
    for (int o = 0; o < MOST_ENDS; o++) {
        free(many_y[o]);
        free(one_y[o]);
    }
    free(zeros);
}

/* ONNX's rule for rows without any step is one of whole sequences: a stream may still meet a step that counts */
static void a_stream_keeps_its_states_until_a_step_counts(void) {
    int64_t rows = 3, time = 4;
    RecurrentOptions options = PLAIN;
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 3, &options.mask), h;
    network_output(network, network_recurrent(network, LSTM, x, 18, &options, &h, NULL));
    network_output(network, h);
    for (int32_t o = 0; o < network->layers[0].spec.option_count; o++) {
        if (strcmp(network->layers[0].options[o].name, "empty_state") == 0) {
            network->layers[0].options[o].text = "zero";
        }
    }
    Data *data = data_create(network, rows, &time, true);
    static const uint8_t mask[12] = {0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0};
    memcpy(data->masks[0], mask, sizeof mask);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    Result whole = predict(network, model, data, 1);
    Result steps = stream(network, model, data, SINGLE, 1, 1), chunks = stream(network, model, data, ODD, 2, 2);
    CHECK(result_same(&steps, &chunks), "steps and chunks");
    for (int array = 0; array < whole.count; array++) {
        /* rows 0 and 1 have a step that counts; the states of row 2 only are the stream's own */
        size_t bytes = whole.sizes[array] * sizeof(float) / 3, same = array < 2 ? 3 * bytes : 2 * bytes;
        CHECK(memcmp(whole.arrays[array], steps.arrays[array], same) == 0, "array %d", array);
    }
    for (int s = 0; s < 2; s++) {
        const float *predicted = (const float *)whole.arrays[2 + s] + 2 * 18, *kept = data->states[s] + 2 * 18;
        for (int n = 0; n < 18; n++) {
            CHECK(predicted[n] == 0.0f, "state %d of a whole sequence without steps", s);
        }
        CHECK(memcmp((const float *)steps.arrays[2 + s] + 2 * 18, kept, 18 * sizeof *kept) == 0, "state %d", s);
    }
    result_free(&whole);
    result_free(&steps);
    result_free(&chunks);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(recurrent_layers_of_all_sizes_are_right_and_bit_identical);
    RUN(masks_leave_states_and_pad_outputs);
    RUN(masks_of_a_stream_are_those_of_its_chunks);
    RUN(calls_in_any_order_are_those_of_a_fresh_model);
    RUN(a_mask_of_ones_changes_nothing);
    RUN(layers_in_a_row_and_sequences_longer_than_a_chunk_are_right);
    RUN(two_directions_are_merged);
    RUN(readers_of_final_states_wait_for_them);
    RUN(states_go_from_one_layer_to_another);
    RUN(every_activation_is_right_as_a_gate_and_as_a_layer);
    RUN(convolutional_lstms_are_right);
    RUN(the_blas_engine_is_right);
    RUN(a_stream_can_be_reset_and_copied);
    RUN(rows_of_a_stream_run_reset_and_move_as_streams_of_their_own);
    RUN(a_stream_keeps_its_states_until_a_step_counts);
    RUN(a_layer_follows_the_one_that_feeds_it);
    CHECK(!check_is_due(1) || hash_of_all == EXPECTED_HASH, "the bits of all results are %#llx",
          (unsigned long long)hash_of_all);
    return check_result();
}
