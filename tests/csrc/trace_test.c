/* Traces: the gates and cells of every recurrent layer beside the equations in double, and no change in what it gives.
 */
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 5, TIME = 11, KINDS = RECURRENT_KINDS + 1 }; /* also ConvLSTM */

static const char *name_of(int kind) { return kind < RECURRENT_KINDS ? RECURRENT_NAMES[kind] : "ConvLSTM"; }

/* x, a recurrent layer (layer 0), and a dense one behind it */
static Network *one_layer(int kind, int32_t units, const char *activation) {
    Network *network = network_create();
    RecurrentOptions options = PLAIN;
    options.activation = activation;
    int32_t y;
    if (kind < RECURRENT_KINDS) {
        int32_t x = network_input(network, CYL_SEQUENCE, units + 3, &options.mask);
        y = network_recurrent(network, (RecurrentKind)kind, x, units, &options, NULL, NULL);
    } else {
        int32_t x = network_input(network, CYL_SEQUENCE, 3 * 4 * 2, &options.mask);
        y = network_conv_lstm(network, x, 3, 4, units, true, &options);
    }
    network_output(network, network_dense(network, y, 4, "linear"));
    return network;
}

static int gates_of(int kind) {
    return kind < RECURRENT_KINDS && state_count_of((RecurrentKind)kind) == 1 ? kind == RNN ? 1 : 3 : 4;
}
static bool has_cell(int kind) { return gates_of(kind) == 4; }
static int32_t units_of(const Network *network, int kind) { return network->state_sizes[has_cell(kind) ? 1 : 0]; }

/* from zero states, as a stream begins */
static Data *data_from_zero(const Network *network, int64_t rows, int64_t steps, bool has_masks) {
    Data *data = data_create(network, rows, (int64_t[]){steps, steps, steps, steps}, has_masks);
    for (int32_t s = 0; s < network->state_count; s++) {
        memset(data->states[s], 0, (size_t)(rows * network->state_sizes[s]) * sizeof(float));
    }
    return data;
}

/* numbers that stand where nothing was written */
static void *unwritten(int64_t count, size_t real_size) {
    char *numbers = need((size_t)count * real_size);
    for (int64_t i = 0; i < count; i++) {
        double mark = -77.0;
        float short_mark = -77.0f;
        memcpy(numbers + (size_t)i * real_size, real_size == sizeof mark ? (void *)&mark : (void *)&short_mark,
               real_size);
    }
    return numbers;
}

static double at(const void *numbers, int64_t i, size_t real_size) {
    return real_size == sizeof(double) ? ((const double *)numbers)[i] : (double)((const float *)numbers)[i];
}

typedef struct {
    CylTrace trace;
    int64_t sizes[3];
} Traced;

static Traced traced_create(int64_t steps, int gates, int32_t units, bool with_cell, size_t real_size) {
    Traced t = {{.steps = steps}, {ROWS * steps * gates * units, ROWS * steps * gates * units, 0}};
    t.trace.pre = unwritten(t.sizes[0], real_size);
    t.trace.gates = unwritten(t.sizes[1], real_size);
    if (with_cell) {
        t.sizes[2] = ROWS * steps * units;
        t.trace.cell = unwritten(t.sizes[2], real_size);
    }
    return t;
}

static void traced_free(Traced *t) {
    free(t->trace.pre);
    free(t->trace.gates);
    free(t->trace.cell);
}

static void run_stream(const CylModel *model, const CylCall *call, const uint8_t *active) {
    CylStream *stream;
    CHECK(cyl_stream_create(model, ROWS, call->threads, &stream) == CYL_OK, "stream");
    CHECK(cyl_stream_run_active(stream, call, active) == CYL_OK, "run");
    cyl_stream_free(stream);
}

/* in one call, and then once more without the trace: nothing may be written then */
static void run_predict(const CylModel *model, CylCall *call, const CylTrace *trace) {
    CHECK(cyl_predict(model, call) == CYL_OK, "predict");
    call->traces = NULL;
    if (trace && trace->gates) {
        float *gates = trace->gates, first = gates[0];
        gates[0] = -5.0f;
        CHECK(cyl_predict(model, call) == CYL_OK && gates[0] == -5.0f, "a call without a trace writes one");
        gates[0] = first;
    }
}

/* runs all steps with this trace, of a stream or in one call; returns the output */
static void *run(const Network *network, const CylModel *model, const Data *data, const CylTrace *trace,
                 const uint8_t *active, int threads, bool is_stream) {
    const size_t real = cyl_model_real_size(model);
    const int32_t features = network->features[network->inputs[0]], outputs = network->features[network->outputs[0]];
    const int64_t count = ROWS * TIME * features, times[1] = {TIME};
    void *y = need((size_t)(ROWS * TIME * outputs) * real);
    double *wide = need((size_t)count * sizeof *wide);
    for (int64_t i = 0; i < count; i++) {
        wide[i] = (double)data->inputs[0][i];
    }
    const void *x = real == sizeof(double) ? (const void *)wide : data->inputs[0];
    const uint8_t *masks[1] = {data->masks[0]};
    const CylLayerTrace traces[1] = {{0, trace ? *trace : (CylTrace){.steps = 0}}};
    CylCall call = {.rows = ROWS,
                    .times = times,
                    .inputs = &x,
                    .masks = masks,
                    .outputs = &y,
                    .threads = threads,
                    .traces = trace ? traces : NULL,
                    .trace_count = 1};
    if (is_stream) {
        run_stream(model, &call, active);
    } else {
        run_predict(model, &call, trace);
    }
    free(wide);
    return y;
}

static void compare(const void *found, const double *expected, int64_t count, size_t real, const char *what, int kind,
                    int isa) {
    for (int64_t i = 0; i < count; i++) {
        double number = at(found, i, real), wanted = expected[i];
        bool is_right =
            isnan(wanted) ? number == -77.0 : fabs(number - wanted) <= (real == sizeof(double) ? 1e-9 : 2e-5);
        CHECK(is_right, "%s of %s, %s, at %d: %g, not %g", what, name_of(kind), cyl_isa_name((CylIsa)isa), (int)i,
              number, wanted);
    }
}

/* the reference's trace, NaN where nothing is computed */
static ReferenceTrace *expected_trace(const Network *network, const Data *data, int gates, int32_t units,
                                      bool with_cell) {
    ReferenceTrace *traces = need(MOST_NODES * sizeof *traces);
    const int64_t count = (int64_t)ROWS * TIME * gates * units;
    traces[0].pre = need((size_t)count * sizeof(double));
    traces[0].gates = need((size_t)count * sizeof(double));
    traces[0].cell = need((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        traces[0].pre[i] = traces[0].gates[i] = traces[0].cell[i] = (double)NAN;
    }
    if (!with_cell) {
        free(traces[0].cell);
        traces[0].cell = NULL;
    }
    Result result = reference_traced(network, data, traces);
    result_free(&result);
    return traces;
}

static void expected_free(ReferenceTrace *traces) {
    free(traces[0].pre);
    free(traces[0].gates);
    free(traces[0].cell);
    free(traces);
}

static void check_layer(int kind, int32_t units, const char *activation) {
    Network *network = one_layer(kind, units, activation);
    Data *data = data_from_zero(network, ROWS, TIME, true);
    const int gates = gates_of(kind);
    const int32_t size = units_of(network, kind);
    ReferenceTrace *expected = expected_trace(network, data, gates, size, has_cell(kind));
    for (int engine = CYL_ENGINE_PACKED; engine <= CYL_ENGINE_BLAS64; engine++) {
        for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
            if (!cyl_isa_available((CylIsa)isa) || (engine == CYL_ENGINE_BLAS64 && isa != CYL_ISA_SCALAR)) {
                continue;
            }
            CylModel *model = network_model(network, (CylEngine)engine, (CylIsa)isa);
            const size_t real = cyl_model_real_size(model);
            const size_t bytes = (size_t)(ROWS * TIME) * 4 * real;
            void *plain = run(network, model, data, NULL, NULL, 1, true);
            for (int way = 0; way < 4; way++) {
                const int threads = 1 + way / 2;
                Traced t = traced_create(TIME, gates, size, has_cell(kind), real);
                void *y = run(network, model, data, &t.trace, NULL, threads, way % 2 == 0);
                CHECK(memcmp(y, plain, bytes) == 0, "%s on %s gives other bits when traced", name_of(kind),
                      cyl_isa_name((CylIsa)isa));
                compare(t.trace.pre, expected->pre, t.sizes[0], real, "pre-activations", kind, isa);
                compare(t.trace.gates, expected->gates, t.sizes[1], real, "gates", kind, isa);
                if (has_cell(kind)) {
                    compare(t.trace.cell, expected->cell, t.sizes[2], real, "cells", kind, isa);
                }
                traced_free(&t);
                free(y);
            }
            free(plain);
            cyl_model_free(model);
        }
    }
    expected_free(expected);
    data_free(data);
    network_free(network);
}

static void gates_and_cells_are_those_of_the_equations(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        static const int32_t units[] = {3, 19, 70};
        for (int u = 0; u < 3 - (kind == RECURRENT_KINDS); u++) {
            GO_ON();
            check_layer(kind, units[u], NULL);
        }
        check_layer(kind, 9, "softsign");
    }
}

/* two rows rest: nothing is written for them, and the others find their places */
static void rows_that_rest_are_not_traced(void) {
    static const uint8_t active[ROWS] = {0, 1, 0, 1, 1};
    for (int kind = 0; kind < KINDS; kind++) {
        Network *network = one_layer(kind, 19, NULL);
        Data *data = data_from_zero(network, ROWS, TIME, true);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        const int gates = gates_of(kind);
        const int32_t size = units_of(network, kind);
        ReferenceTrace *expected = expected_trace(network, data, gates, size, has_cell(kind));
        const int64_t per_row = (int64_t)TIME * gates * size;
        for (int64_t i = 0; i < ROWS * per_row; i++) {
            if (!active[i / per_row]) {
                expected->pre[i] = expected->gates[i] = (double)NAN;
            }
        }
        Traced t = traced_create(TIME, gates, size, has_cell(kind), sizeof(float));
        free(run(network, model, data, &t.trace, active, 1, true));
        compare(t.trace.pre, expected->pre, t.sizes[0], sizeof(float), "pre-activations", kind, 0);
        compare(t.trace.gates, expected->gates, t.sizes[1], sizeof(float), "gates", kind, 0);
        traced_free(&t);
        expected_free(expected);
        cyl_model_free(model);
        data_free(data);
        network_free(network);
    }
}

/* arrays of more steps than a call has, and of fewer; and only one of the three */
static void arrays_may_have_room_for_other_steps_and_be_left_out(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        Network *network = one_layer(kind, 19, NULL);
        Data *data = data_from_zero(network, ROWS, TIME, true);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        const int gates = gates_of(kind);
        const int32_t size = units_of(network, kind);
        ReferenceTrace *expected = expected_trace(network, data, gates, size, has_cell(kind));
        for (int64_t steps = TIME - 4; steps <= TIME + 2; steps += 6) {
            for (int left_out = 0; left_out < 3; left_out++) {
                Traced t = traced_create(steps, gates, size, has_cell(kind), sizeof(float));
                CylTrace trace = t.trace;
                trace.pre = left_out == 0 ? NULL : trace.pre;
                trace.gates = left_out == 1 ? NULL : trace.gates;
                trace.cell = left_out == 2 ? NULL : trace.cell;
                free(run(network, model, data, &trace, NULL, 1, left_out % 2 == 0));
                for (int64_t row = 0; row < ROWS; row++) {
                    for (int64_t step = 0; step < steps; step++) {
                        for (int64_t j = 0; j < gates * size; j++) {
                            int64_t in = (row * steps + step) * gates * size + j,
                                    from = (row * TIME + step) * gates * size + j;
                            double wanted = step < TIME ? expected->gates[from] : (double)NAN;
                            double found = at(t.trace.gates, in, sizeof(float));
                            bool is_written = left_out != 1 && !isnan(wanted);
                            CHECK(is_written ? fabs(found - wanted) <= 2e-5 : found == -77.0,
                                  "%s, step %d of %d: %g, not %g", name_of(kind), (int)step, (int)steps, found, wanted);
                        }
                    }
                }
                traced_free(&t);
            }
        }
        expected_free(expected);
        cyl_model_free(model);
        data_free(data);
        network_free(network);
    }
}

/* the gates that are asked for lie side by side */
static void gates_may_be_left_out(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        Network *network = one_layer(kind, 19, NULL);
        Data *data = data_from_zero(network, ROWS, TIME, true);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        const int gates = gates_of(kind);
        const int32_t size = units_of(network, kind);
        Traced whole = traced_create(TIME, gates, size, has_cell(kind), sizeof(float));
        free(run(network, model, data, &whole.trace, NULL, 1, true));
        for (uint8_t skips = 1; skips < 1 << gates; skips++) {
            Traced t = traced_create(TIME, gates, size, has_cell(kind), sizeof(float));
            t.trace.pre_skips = skips;
            t.trace.gates_skips = (uint8_t)(~skips & ((1 << gates) - 1));
            free(run(network, model, data, &t.trace, NULL, 1, skips % 2 == 0));
            int64_t used[2] = {0, 0};
            for (int64_t i = 0; i < ROWS * TIME; i++) {
                for (int g = 0; g < gates; g++) {
                    const int is_gate = skips >> g & 1; /* else before its activation */
                    const float *found = (const float *)(is_gate ? t.trace.gates : t.trace.pre) + used[is_gate];
                    const float *wanted = (const float *)(is_gate ? whole.trace.gates : whole.trace.pre);
                    CHECK(memcmp(found, wanted + (i * gates + g) * size, (size_t)size * sizeof(float)) == 0,
                          "%s, gates %d, step %d, gate %d", name_of(kind), skips, (int)i, g);
                    used[is_gate] += size;
                }
            }
            for (int a = 0; a < 2; a++) {
                const float *rest = a ? t.trace.gates : t.trace.pre;
                for (int64_t i = used[a]; i < t.sizes[a]; i++) {
                    CHECK(rest[i] == -77.0f, "%s writes beyond its gates", name_of(kind));
                }
            }
            traced_free(&t);
        }
        traced_free(&whole);
        cyl_model_free(model);
        data_free(data);
        network_free(network);
    }
}

/* a stream has room for pieces of a sequence; the steps of a long call go on from one to the next */
static void the_pieces_of_a_long_call_follow_each_other(void) {
    enum { LONG = 3000, UNITS = 40 };
    Network *network = one_layer(LSTM, UNITS, NULL);
    Data *data = data_from_zero(network, 1, LONG, false);
    ReferenceTrace traces[MOST_NODES] = {{need(LONG * 4 * UNITS * sizeof(double)),
                                          need(LONG * 4 * UNITS * sizeof(double)),
                                          need(LONG * UNITS * sizeof(double))}};
    Result result = reference_traced(network, data, traces);
    result_free(&result);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    CylStream *stream;
    CHECK(cyl_stream_create(model, 1, 1, &stream) == CYL_OK, "stream");
    float *gates = need(LONG * 4 * UNITS * sizeof *gates), *cell = need(LONG * UNITS * sizeof *cell);
    float *y = need(LONG * 4 * sizeof *y);
    CylTrace trace = {.gates = gates, .cell = cell, .steps = LONG};
    const void *x = data->inputs[0];
    void *out = y;
    CylCall call = {.rows = 1, .times = (int64_t[]){LONG}, .inputs = &x, .outputs = &out, .threads = 1};
    call.traces = &(CylLayerTrace){0, trace};
    call.trace_count = 1;
    CHECK(cyl_stream_run(stream, &call) == CYL_OK, "run");
    for (int64_t i = 0; i < LONG * 4 * UNITS; i++) {
        CHECK(fabs((double)gates[i] - traces[0].gates[i]) <= 2e-5, "gate %d", (int)i);
    }
    for (int64_t i = 0; i < LONG * UNITS; i++) {
        CHECK(fabs((double)cell[i] - traces[0].cell[i]) <= 2e-5, "cell %d", (int)i);
    }
    /* a later run writes none */
    memset(gates, 0, LONG * 4 * UNITS * sizeof *gates);
    call.traces = NULL;
    CHECK(cyl_stream_run(stream, &call) == CYL_OK, "run");
    for (int64_t i = 0; i < LONG * 4 * UNITS; i++) {
        CHECK(gates[i] == 0.0f, "gate %d is written", (int)i);
    }
    /* layer 1 is dense and has no cells, and there is no other; nor may there be no room */
    for (int32_t layer = -1; layer <= 3; layer++) {
        const CylLayerTrace wrong[1] = {{layer % 3, {.gates = gates, .cell = cell, .steps = layer < 3 ? LONG : 0}}};
        const CylStatus expected = layer == 0 ? CYL_OK : CYL_E_ARGUMENT;
        call.traces = wrong;
        CHECK(cyl_predict(model, &call) == expected, "predict, layer %d", (int)layer);
        CHECK(cyl_stream_run(stream, &call) == expected, "a stream, layer %d", (int)layer);
    }
    cyl_stream_free(stream);
    cyl_model_free(model);
    free(gates);
    free(cell);
    free(y);
    free(traces[0].pre);
    free(traces[0].gates);
    free(traces[0].cell);
    data_free(data);
    network_free(network);
}

/* a single step of one row has a way of its own through the layer, which keeps its plan from call to call */
static void a_single_step_after_a_trace_writes_no_gates(void) {
    enum { UNITS = 5 };
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 3, NULL);
    network_output(network, network_recurrent(network, LSTM, x, UNITS, &PLAIN, NULL, NULL));
    Data *data = data_from_zero(network, 1, 1, false);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    CylStream *stream;
    CHECK(cyl_stream_create(model, 1, 1, &stream) == CYL_OK, "stream");
    float gates[4 * UNITS] = {0.0f}, y[UNITS];
    const CylLayerTrace traces[1] = {{0, {.gates = gates, .steps = 1}}};
    const void *in = data->inputs[0];
    void *out = y;
    CylCall call = {.rows = 1, .times = (int64_t[]){1}, .inputs = &in, .outputs = &out, .threads = 1};
    call.traces = traces;
    call.trace_count = 1;
    CHECK(cyl_stream_run(stream, &call) == CYL_OK, "run");
    for (int i = 0; i < 4 * UNITS; i++) {
        CHECK(gates[i] != 0.0f, "gate %d", i);
    }
    memset(gates, 0, sizeof gates);
    call.traces = NULL;
    CHECK(cyl_stream_run(stream, &call) == CYL_OK, "run");
    for (int i = 0; i < 4 * UNITS; i++) {
        CHECK(gates[i] == 0.0f, "gate %d is written", i);
    }
    cyl_stream_free(stream);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

/* steps of a stream, every third of them run on another: the same bits as without, and what both compute is the same */
static void a_stream_goes_on_from_what_another_has_run(void) {
    enum { STEPS = 9, UNITS = 19 };
    static const uint8_t active[ROWS] = {1, 0, 1, 1, 0};
    for (int kind = 0; kind < RECURRENT_KINDS; kind++) {
        Network *network = network_create();
        int32_t in = network_input(network, CYL_SEQUENCE, 7, NULL);
        int32_t result = network_recurrent(network, (RecurrentKind)kind, in, UNITS, &PLAIN, NULL, NULL);
        network_output(network, network_dense(network, result, 4, "linear"));
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        network_output(network, result);
        CylModel *wider = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        network_free(network);
        const int gates = gates_of(kind);
        const int32_t size = has_cell(kind) && cyl_model_state_count(model) > 1 ? cyl_model_state_size(model, 1)
                                                                                : cyl_model_state_size(model, 0);
        CylStream *stream, *plain, *other;
        CHECK(cyl_stream_create(model, ROWS, 1, &stream) == CYL_OK, "stream");
        CHECK(cyl_stream_create(model, ROWS, 1, &plain) == CYL_OK, "stream");
        CHECK(cyl_stream_create(wider, ROWS, 1, &other) == CYL_OK, "stream");
        float x[ROWS * 7], y[ROWS * 4], wanted[ROWS * 4];
        float *h = need(ROWS * UNITS * sizeof *h), *traced = need((size_t)(ROWS * gates * size) * sizeof *traced);
        const CylLayerTrace traces[1] = {{0, {.gates = traced, .steps = 1}}};
        for (int step = 0; step < STEPS; step++) {
            const uint8_t *rows = step % 4 == 3 ? active : NULL;
            for (int i = 0; i < ROWS * 7; i++) {
                x[i] = (float)((i * 37 + step * 11) % 23) / 11.0f - 1.0f;
            }
            CylCall call = {.rows = ROWS,
                            .times = (int64_t[]){1},
                            .inputs = (const void *[]){x},
                            .outputs = (void *[]){wanted},
                            .threads = 1};
            CHECK(cyl_stream_run_active(plain, &call, rows) == CYL_OK, "run");
            call.outputs = (void *[]){y, h};
            if (step % 3 == 0) {
                memset(traced, 0, (size_t)(ROWS * gates * size) * sizeof *traced);
                call.traces = traces;
                call.trace_count = 1;
                CHECK(cyl_stream_run_on(stream, other, &call, rows) == CYL_OK, "run on another");
                for (int64_t i = 0; i < ROWS * gates * size; i++) {
                    CHECK((traced[i] != 0.0f) == (!rows || rows[i / (gates * size)]), "%s, gate %d", name_of(kind),
                          (int)i);
                }
            } else {
                CHECK(cyl_stream_run_active(stream, &call, rows) == CYL_OK, "run");
            }
            CHECK(memcmp(y, wanted, sizeof y) == 0, "%s gives other bits at step %d", name_of(kind), step);
        }
        int64_t steps[2][ROWS];
        CHECK(cyl_stream_get_steps(stream, steps[0]) == CYL_OK && cyl_stream_get_steps(plain, steps[1]) == CYL_OK,
              "steps");
        CHECK(memcmp(steps[0], steps[1], sizeof steps[0]) == 0, "other steps");
        CylCall call = {.rows = ROWS, .times = (int64_t[]){1}, .inputs = (const void *[]){x}, .threads = 1};
        CHECK(cyl_stream_run_on(stream, stream, &call, NULL) == CYL_E_ARGUMENT, "on itself");
        CylStream *fewer;
        CHECK(cyl_stream_create(wider, ROWS - 1, 1, &fewer) == CYL_OK, "stream");
        CHECK(cyl_stream_run_on(stream, fewer, &call, NULL) == CYL_E_ARGUMENT, "of other rows");
        cyl_stream_free(fewer);
        cyl_stream_free(stream);
        cyl_stream_free(plain);
        cyl_stream_free(other);
        free(h);
        free(traced);
        cyl_model_free(model);
        cyl_model_free(wider);
    }
}

/* steps of a window on another: the same bits as without, and of whole windows the gates of a prediction of them */
static void a_window_is_traced_as_the_prediction_of_its_steps(void) {
    enum { STEPS = 7, WINDOW = 3, UNITS = 19, FEATURES = 24, GATES = WINDOW * 4 * UNITS };
    Network *network = network_create();
    int32_t in = network_input(network, CYL_SEQUENCE, FEATURES, NULL);
    int32_t result = network_recurrent(network, LSTM, in, UNITS, &PLAIN, NULL, NULL);
    network_output(network, network_dense(network, result, 4, "linear"));
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    network_output(network, result);
    CylModel *wider = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
    network_free(network);
    CylWindow *window, *plain, *other, *longer;
    CHECK(cyl_window_create(model, ROWS, WINDOW, 1, &window) == CYL_OK, "window");
    CHECK(cyl_window_create(model, ROWS, WINDOW, 1, &plain) == CYL_OK, "window");
    CHECK(cyl_window_create(wider, ROWS, WINDOW, 1, &other) == CYL_OK, "window");
    CHECK(cyl_window_create(wider, ROWS, WINDOW + 1, 1, &longer) == CYL_OK, "window");
    float *x = need(ROWS * STEPS * FEATURES * sizeof *x), *last = need(ROWS * WINDOW * FEATURES * sizeof *last);
    float *step = need(ROWS * FEATURES * sizeof *step), *h = need(ROWS * WINDOW * UNITS * sizeof *h);
    float *gates = need(ROWS * GATES * sizeof *gates), *wanted_gates = need(ROWS * GATES * sizeof *gates);
    float y[ROWS * WINDOW * 4], wanted[ROWS * WINDOW * 4];
    for (int i = 0; i < ROWS * STEPS * FEATURES; i++) {
        x[i] = (float)((i * 37) % 101) / 50.0f - 1.0f;
    }
    for (int t = 0; t < STEPS; t++) {
        const uint8_t active[ROWS] = {1, t != 1, 1, 1, t != 5}; /* row 1 is whole a step later, row 4 rests once */
        for (int row = 0; row < ROWS; row++) {
            memcpy(step + row * FEATURES, x + (row * STEPS + t) * FEATURES, FEATURES * sizeof *x);
        }
        CylCall call = {.rows = ROWS,
                        .times = (int64_t[]){1},
                        .inputs = (const void *[]){step},
                        .outputs = (void *[]){wanted},
                        .threads = 1};
        CHECK(cyl_window_run(plain, &call, active) == CYL_OK, "run");
        call.outputs = (void *[]){y, h};
        CHECK(cyl_window_run_on(window, longer, &call, active) == CYL_E_ARGUMENT, "on a longer one");
        const CylLayerTrace traces[1] = {{0, {.gates = gates, .steps = WINDOW}}};
        call.traces = traces;
        call.trace_count = 1;
        CHECK(cyl_window_run_on(window, other, &call, active) == CYL_OK, "run on another");
        CHECK(memcmp(y, wanted, sizeof y) == 0, "other bits at step %d", t);
        for (int row = 0; row < ROWS; row++) {
            bool is_whole = active[row] && t >= (row == 1 ? WINDOW : WINDOW - 1);
            for (int k = 0; k < GATES; k++) {
                CHECK(isnan(gates[row * GATES + k]) == !is_whole, "step %d, row %d, gate %d", t, row, k);
            }
        }
    }
    for (int row = 0; row < ROWS; row++) { /* of row 4 step 5 is missing */
        const float *from = x + (row * STEPS + STEPS - WINDOW) * FEATURES;
        memcpy(last + row * WINDOW * FEATURES, from, WINDOW * FEATURES * sizeof *x);
        if (row == 4) {
            memcpy(last + row * WINDOW * FEATURES, from - FEATURES, 2 * FEATURES * sizeof *x);
        }
    }
    const CylLayerTrace traces[1] = {{0, {.gates = wanted_gates, .steps = WINDOW}}};
    CylCall call = {.rows = ROWS,
                    .times = (int64_t[]){WINDOW},
                    .inputs = (const void *[]){last},
                    .outputs = (void *[]){wanted},
                    .threads = 1,
                    .traces = traces,
                    .trace_count = 1};
    CHECK(cyl_predict(model, &call) == CYL_OK, "predict");
    CHECK(memcmp(y, wanted, sizeof y) == 0, "other bits than the prediction");
    CHECK(memcmp(gates, wanted_gates, ROWS * GATES * sizeof *gates) == 0, "other gates than the prediction");
    cyl_window_free(window);
    cyl_window_free(plain);
    cyl_window_free(other);
    cyl_window_free(longer);
    float *arrays[] = {x, last, step, h, gates, wanted_gates};
    for (int i = 0; i < 6; i++) {
        free(arrays[i]);
    }
    cyl_model_free(model);
    cyl_model_free(wider);
}

int main(void) {
    RUN(gates_and_cells_are_those_of_the_equations);
    RUN(rows_that_rest_are_not_traced);
    RUN(arrays_may_have_room_for_other_steps_and_be_left_out);
    RUN(gates_may_be_left_out);
    RUN(the_pieces_of_a_long_call_follow_each_other);
    RUN(a_single_step_after_a_trace_writes_no_gates);
    RUN(a_stream_goes_on_from_what_another_has_run);
    RUN(a_window_is_traced_as_the_prediction_of_its_steps);
    return check_result();
}
