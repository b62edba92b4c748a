/*
 * The cells of recurrent layers: from accumulated gates to the next states, 16 units at a time.
 *
 * Every state is stored with the subnormal rule (v_flush). A row whose step does not count keeps its states; its
 * output is zero or the previous output, as its code says.
 */

static inline int32_t lanes_left(int32_t units, int32_t unit) { return units - unit < 16 ? units - unit : 16; }

static inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/* units [unit, unit + lanes) of a block, `at` their place within each gate of the block; one loop, so that the
   constants of the functions stay in registers */
#define EACH_GROUP(m, begin, end)                                                                                      \
    for (int32_t unit = (begin) * (m)->width, last = smaller((m)->units, (end) * (m)->width), block, at, width, lanes; \
         unit < last && (block = unit / (m)->width, at = unit % (m)->width, width = cyl_block_width((m), block),       \
                        lanes = lanes_left((m)->units, unit), (void)block, (void)at, (void)width, true);               \
         unit += 16)

/* `a` in the first lanes, 0 in the others */
static inline V load_lanes_of(REAL a, int32_t lanes) {
    REAL lane[16];
    v_store(lane, v_set1(a));
    return load_lanes(lane, lanes);
}

/* activation(x) with the subnormal rule */
static inline __attribute__((always_inline)) V gate(const CylActivationSpec *spec, const int id, V x) {
    return v_activate_flushed(id, x, (REAL)spec->alpha, (REAL)spec->beta);
}

/* the output of a row whose step does not count */
static inline V padded_output(const CylStep *step, int64_t row, V h) {
    return step->codes[row] == CYL_CODE_REPEAT ? h : v_zero();
}

/* h and y of one group */
static inline void store_output(const CylStep *step, int64_t row, int32_t unit, int32_t lanes, V h, V y) {
    store_lanes((REAL *)step->h_next + row * step->h_stride + unit, h, lanes);
    if (step->y) {
        store_lanes((REAL *)step->y + row * step->y_stride + unit, y, lanes);
    }
}

/* where one row of a step is traced; NULL for what is not asked for */
typedef struct {
    REAL *pre, *gates, *cell;
    const CylStepTrace *step;
} RowTrace;

/* of a row whose step counts */
static inline RowTrace trace_of(const CylStepTrace *trace, int64_t row) {
    const int64_t at = trace->order ? trace->order[row] : row;
    return (RowTrace){trace->pre ? (REAL *)trace->pre + at * trace->pre_stride : NULL,
                      trace->gates ? (REAL *)trace->gates + at * trace->gates_stride : NULL,
                      trace->cell ? (REAL *)trace->cell + at * trace->cell_stride : NULL, trace};
}

/* one gate of a group before and after its activation, and the cell, where they are asked for */
static inline void trace_pre(const RowTrace *trace, int gate, int32_t unit, int32_t lanes, V a) {
    if (trace->step->pre_at[gate] >= 0) {
        store_lanes(trace->pre + trace->step->pre_at[gate] + unit, a, lanes);
    }
}
static inline void trace_gate(const RowTrace *trace, int gate, int32_t unit, int32_t lanes, V a) {
    if (trace->step->gates_at[gate] >= 0) {
        store_lanes(trace->gates + trace->step->gates_at[gate] + unit, a, lanes);
    }
}
static inline void trace_cell(const RowTrace *trace, int32_t unit, int32_t lanes, V a) {
    if (trace->cell) {
        store_lanes(trace->cell + unit, a, lanes);
    }
}

/* a limited to [-limit, limit]; NaN stays */
static inline V clip(V a, REAL limit) { return limit > 0 ? v_max(v_set1(-limit), v_min(v_set1(limit), a)) : a; }

/* the gates of an LSTM in the order of a trace */
enum { GATE_I, GATE_F, GATE_G, GATE_O };

/* one gate of an LSTM's group: pre-activation, peephole at `state`, clip, activation, subnormal rule */
static inline V lstm_gate(const CylLstm *lstm, V a, int which, int32_t unit, int32_t lanes, V state,
                          const CylActivationSpec *activation, const RowTrace *trace) {
    if (lstm->peepholes && which != GATE_G) {
        const int peephole = which == GATE_O ? 2 : which;
        const REAL *weights = (const REAL *)lstm->peepholes + peephole * cyl_state_stride(lstm->gates.units) + unit;
        a = v_fma(v_load(weights), state, a);
    }
    V value = gate(activation, activation->id, clip(a, (REAL)lstm->gate_clip));
    if (trace) {
        trace_pre(trace, which, unit, lanes, a);
        trace_gate(trace, which, unit, lanes, value);
    }
    return value;
}

/* the gates i, f, g of a group, and the new cell; `a(at)` is the pre-activation of a gate */
#define LSTM_NEW_CELL(a)                                                                                               \
    V i = v_set1(1), f = v_set1(1);                                                                                    \
    if (lstm->at_i >= 0) {                                                                                             \
        i = lstm_gate(lstm, a(lstm->at_i), GATE_I, unit, lanes, c, f1, trace);                                         \
    }                                                                                                                  \
    if (lstm->at_f >= 0) {                                                                                             \
        f = lstm_gate(lstm, a(lstm->at_f), GATE_F, unit, lanes, c, f1, trace);                                         \
    }                                                                                                                  \
    if (lstm->coupling == CYL_GATES_F_FROM_I) {                                                                        \
        f = v_flush(v_sub(v_set1(1), i));                                                                              \
    } else if (lstm->coupling == CYL_GATES_I_FROM_F) {                                                                 \
        i = v_flush(v_sub(v_set1(1), f));                                                                              \
    }                                                                                                                  \
    V g = lstm_gate(lstm, a(lstm->at_g), GATE_G, unit, lanes, c, f2, trace);                                           \
    c = clip(v_flush(v_fma(f, c, v_mul(i, g))), (REAL)lstm->cell_clip);                                                \
    if (trace) { /* also those that follow from others */                                                              \
        trace_gate(trace, GATE_I, unit, lanes, i);                                                                     \
        trace_gate(trace, GATE_F, unit, lanes, f);                                                                     \
        trace_cell(trace, unit, lanes, c);                                                                             \
    }

/*
 * i, f = recurrent_activation(. + p_i*c, . + p_f*c), or one of them 1 minus the other, or f = 1
 * g = activation(.)
 * c = f*c + i*g, clipped
 * o = recurrent_activation(. + p_o*c) with the new c
 * h = o*output_activation(c)
 *
 * Two passes over a row, because a group's chain of operations to h is longer than what a CPU looks ahead: the gates of
 * several groups run at once, and so do their outputs. Between the passes o and c lie where the group's accumulators
 * were, of which each group has at least two vectors (CYL_ROW_PADDING).
 */
static inline __attribute__((always_inline)) void lstm_cell_body(const CylLstm *lstm, const CylStep *shared,
                                                                 int32_t begin, int32_t end, const bool is_plain,
                                                                 const bool is_traced) {
    const CylMatrix gates_copy = lstm->gates, *m = &gates_copy; /* copies: vector stores may alias what is shared */
    const CylStep step_copy = *shared, *step = &step_copy;
    const CylActivationSpec *f1 = &lstm->recurrent_activation, *f2 = &lstm->activation, *f3 = &lstm->output_activation;
    const bool is_projected = lstm->projection.units > 0;
    for (int64_t row = 0; row < step->rows; row++) {
        REAL *acc = (REAL *)step->acc + row * step->acc_stride, *c_row = (REAL *)step->c + row * step->c_stride;
        if (step->codes && step->codes[row] != CYL_CODE_USE) {
            EACH_GROUP(m, begin, is_projected ? begin : end) {
                V kept = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
                store_output(step, row, unit, lanes, kept, padded_output(step, row, kept));
            }
            continue;
        }
        const RowTrace row_trace = is_traced ? trace_of(step->trace, row) : (RowTrace){0};
        const RowTrace *trace = is_traced ? &row_trace : NULL;
        EACH_GROUP(m, begin, end) {
            REAL *gates = acc + cyl_block_offset(m, block) + at;
            V c = load_lanes(c_row + unit, lanes), o;
            if (is_plain && is_traced) {
                const V before[] = {v_load(gates), v_load(gates + width), v_load(gates + 2 * width),
                                    v_load(gates + 3 * width)};
                V i = gate(f1, CYL_ACT_SIGMOID, before[0]), f = gate(f1, CYL_ACT_SIGMOID, before[1]);
                V g = gate(f2, CYL_ACT_TANH, before[2]);
                o = gate(f1, CYL_ACT_SIGMOID, before[3]);
                c = v_flush(v_fma(f, c, v_mul(i, g)));
                const V after[] = {i, f, g, o};
                for (int which = 0; which < 4; which++) {
                    trace_pre(trace, which, unit, lanes, before[which]);
                    trace_gate(trace, which, unit, lanes, after[which]);
                }
                trace_cell(trace, unit, lanes, c);
            } else if (is_plain) {
                V i = gate(f1, CYL_ACT_SIGMOID, v_load(gates));
                V f = gate(f1, CYL_ACT_SIGMOID, v_load(gates + width));
                V g = gate(f2, CYL_ACT_TANH, v_load(gates + 2 * width));
                o = gate(f1, CYL_ACT_SIGMOID, v_load(gates + 3 * width));
                c = v_flush(v_fma(f, c, v_mul(i, g)));
            } else {
#define PRE_ACTIVATION(at_gate) v_load(gates + (at_gate) * width)
                LSTM_NEW_CELL(PRE_ACTIVATION)
                o = lstm_gate(lstm, PRE_ACTIVATION(lstm->at_o), GATE_O, unit, lanes, c, f1, trace);
#undef PRE_ACTIVATION
            }
            store_lanes(c_row + unit, c, lanes);
            v_store(gates, o);
            v_store(gates + 16, c);
        }
        EACH_GROUP(m, begin, end) {
            const REAL *kept = acc + cyl_block_offset(m, block) + at;
            V o = v_load(kept), c = v_load(kept + 16);
            /* c is +0 or not below the threshold of the subnormal rule, and so is its tanh */
            V h = v_flush(v_mul(o, is_plain ? v_tanh(c) : gate(f3, f3->id, c)));
            if (is_projected) {
                store_lanes((REAL *)step->scratch + row * step->scratch_stride + unit, h, lanes);
            } else {
                store_output(step, row, unit, lanes, h, h);
            }
        }
    }
}

/* apart from the others, whose code and registers it would take */
static CYL_SELDOM __attribute__((noinline)) void lstm_cell_traced(const CylLstm *lstm, const CylStep *step,
                                                                  int32_t begin, int32_t end, bool is_plain) {
    if (is_plain) {
        lstm_cell_body(lstm, step, begin, end, true, true);
    } else {
        lstm_cell_body(lstm, step, begin, end, false, true);
    }
}

static void lstm_cell(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end) {
    bool is_plain = lstm->recurrent_activation.id == CYL_ACT_SIGMOID && lstm->activation.id == CYL_ACT_TANH &&
                    lstm->output_activation.id == CYL_ACT_TANH && lstm->coupling == CYL_GATES_FREE &&
                    !lstm->peepholes && lstm->cell_clip == 0 && lstm->gate_clip == 0;
    if (step->trace) {
        lstm_cell_traced(lstm, step, begin, end, is_plain);
    } else if (is_plain) {
        lstm_cell_body(lstm, step, begin, end, true, false);
    } else {
        lstm_cell_body(lstm, step, begin, end, false, false);
    }
}

/* ---- layer normalisation: every thread takes the statistics of whole rows, in one stated order ---- */

/* the sum of a row's numbers, or of their squared distances from `center`: of the accumulators of m without their
   padding, or of `size` plain reals if m is NULL */
static REAL row_sum(const CylMatrix *m, const REAL *row, int64_t size, REAL center, bool is_squared) {
    V sum = v_zero();
#define ADD_GROUP(p)                                                                                                   \
    V a = load_lanes(p, lanes), d = v_flush(v_sub(a, load_lanes_of(center, lanes)));                                   \
    sum = is_squared ? v_fma(d, d, sum) : v_add(sum, a);
    if (m) {
        EACH_GROUP(m, 0, m->blocks) {
            for (int32_t g = 0; g < m->gates; g++) {
                ADD_GROUP(row + cyl_block_offset(m, block) + (int64_t)g * width + at)
            }
        }
    } else {
        for (int64_t k = 0; k < size; k += 16) {
            int32_t lanes = lanes_left((int32_t)size, (int32_t)k);
            ADD_GROUP(row + k)
        }
    }
#undef ADD_GROUP
    return sum_lanes(sum);
}

typedef struct {
    REAL mean, scale; /* scale: 1/sqrt(variance + epsilon) */
} Statistics;

static Statistics row_statistics(const CylMatrix *m, const REAL *row, int64_t size, double epsilon) {
    REAL mean = row_sum(m, row, size, 0, false) / (REAL)size;
    REAL variance = row_sum(m, row, size, mean, true) / (REAL)size;
    REAL lane[16];
    v_store(lane, v_div(v_set1(1), v_sqrt(v_set1(variance + (REAL)epsilon))));
    return (Statistics){mean, lane[0]};
}

/* gain*(a - mean)*scale + shift */
static inline V normalise(const CylNorm *norm, int64_t index, V a, Statistics s) {
    V centred = v_flush(v_mul(v_flush(v_sub(a, v_set1(s.mean))), v_set1(s.scale)));
    return v_fma(centred, v_load((const REAL *)norm->gain + index), v_load((const REAL *)norm->shift + index));
}

/* scratch per row: see layers/lstm.c. Writes o's pre-activation and the new cell before its norm. */
static CYL_SELDOM void lstm_norm_gates(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end) {
    const CylMatrix *m = &lstm->gates;
    const CylActivationSpec *f1 = &lstm->recurrent_activation, *f2 = &lstm->activation;
    const int64_t stride = cyl_state_stride(m->units), size = (int64_t)m->units * m->gates;
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *x_row = (const REAL *)step->acc + row * step->acc_stride;
        REAL *scratch = (REAL *)step->scratch + row * step->scratch_stride;
        const REAL *h_row = scratch + 2 * stride;
        Statistics of_x = row_statistics(m, x_row, size, lstm->epsilon);
        Statistics of_h = row_statistics(m, h_row, size, lstm->epsilon);
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE, is_traced = step->trace && is_used;
        const RowTrace row_trace = is_traced ? trace_of(step->trace, row) : (RowTrace){0};
        const RowTrace *trace = is_traced ? &row_trace : NULL;
        EACH_GROUP(m, begin, end) {
            int64_t offset = cyl_block_offset(m, block) + at;
            V c = load_lanes((const REAL *)step->c + row * step->c_stride + unit, lanes);
#define PRE_ACTIVATION(at_gate)                                                                                        \
    v_add(v_add(normalise(&lstm->input_norm, offset + (at_gate) * width, v_load(x_row + offset + (at_gate) * width),   \
                          of_x),                                                                                       \
                normalise(&lstm->hidden_norm, offset + (at_gate) * width, v_load(h_row + offset + (at_gate) * width),  \
                          of_h)),                                                                                      \
          v_load((const REAL *)lstm->bias + offset + (at_gate) * width))
            LSTM_NEW_CELL(PRE_ACTIVATION)
            V o = v_flush(PRE_ACTIVATION(lstm->at_o));
#undef PRE_ACTIVATION
            store_lanes(scratch + unit, o, lanes);
            store_lanes(scratch + stride + unit, c, lanes);
        }
    }
}

/* c = LN(c) and h = o*output_activation(c), the carried c being the normalised one or the one before */
static CYL_SELDOM void lstm_norm_cell(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end) {
    const CylMatrix *m = &lstm->gates;
    const CylActivationSpec *f1 = &lstm->recurrent_activation, *f3 = &lstm->output_activation;
    const int64_t stride = cyl_state_stride(m->units);
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *scratch = (const REAL *)step->scratch + row * step->scratch_stride;
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE;
        Statistics of_c = row_statistics(NULL, scratch + stride, m->units, lstm->epsilon);
        const RowTrace row_trace = step->trace ? trace_of(step->trace, row) : (RowTrace){0};
        const RowTrace *trace = step->trace ? &row_trace : NULL;
        EACH_GROUP(m, begin, end) {
            if (!is_used) {
                V kept = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
                store_output(step, row, unit, lanes, kept, padded_output(step, row, kept));
                continue;
            }
            V raw = load_lanes(scratch + stride + unit, lanes);
            V c = v_flush(normalise(&lstm->cell_norm, unit, raw, of_c));
            V o = lstm_gate(lstm, load_lanes(scratch + unit, lanes), GATE_O, unit, lanes, c, f1, trace);
            V h = v_flush(v_mul(o, gate(f3, f3->id, c)));
            store_lanes((REAL *)step->c + row * step->c_stride + unit, lstm->carries_normalised_cell ? c : raw, lanes);
            store_output(step, row, unit, lanes, h, h);
        }
    }
}

/* h = activation(.) */
static inline __attribute__((always_inline)) void rnn_cell_body(const CylRnn *rnn, const CylStep *shared, int32_t begin,
                                                                int32_t end, const int id, const bool is_traced) {
    const CylMatrix gates_copy = rnn->gates, *m = &gates_copy;
    const CylStep step_copy = *shared, *step = &step_copy;
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *acc = (const REAL *)step->acc + row * step->acc_stride;
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE;
        EACH_GROUP(m, begin, end) {
            if (is_used) {
                V a = v_load(acc + cyl_block_offset(m, block) + at);
                V h = gate(&rnn->activation, id, clip(a, (REAL)rnn->gate_clip));
                store_output(step, row, unit, lanes, h, h);
                if (is_traced) {
                    const RowTrace trace = trace_of(step->trace, row);
                    trace_pre(&trace, 0, unit, lanes, a);
                    trace_gate(&trace, 0, unit, lanes, h);
                }
            } else {
                V kept = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
                store_output(step, row, unit, lanes, kept, padded_output(step, row, kept));
            }
        }
    }
}

static CYL_SELDOM __attribute__((noinline)) void rnn_cell_traced(const CylRnn *rnn, const CylStep *step, int32_t begin,
                                                                 int32_t end) {
    if (rnn->activation.id == CYL_ACT_TANH) {
        rnn_cell_body(rnn, step, begin, end, CYL_ACT_TANH, true);
    } else {
        rnn_cell_body(rnn, step, begin, end, rnn->activation.id, true);
    }
}

static void rnn_cell(const CylRnn *rnn, const CylStep *step, int32_t begin, int32_t end) {
    if (step->trace) {
        rnn_cell_traced(rnn, step, begin, end);
    } else if (rnn->activation.id == CYL_ACT_TANH) {
        rnn_cell_body(rnn, step, begin, end, CYL_ACT_TANH, false);
    } else {
        rnn_cell_body(rnn, step, begin, end, rnn->activation.id, false);
    }
}

/* h = what a last product left in acc, units of m's blocks */
static void state_output(const CylMatrix *m, const CylStep *step, const void *acc_data, int64_t acc_stride,
                         int32_t begin, int32_t end) {
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *acc = (const REAL *)acc_data + row * acc_stride;
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE;
        EACH_GROUP(m, begin, end) {
            if (is_used) {
                V h = v_flush(v_load(acc + cyl_block_offset(m, block) + at));
                store_output(step, row, unit, lanes, h, h);
            } else {
                V kept = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
                store_output(step, row, unit, lanes, kept, padded_output(step, row, kept));
            }
        }
    }
}

/* the gates of a GRU in the order of a trace */
enum { GATE_R, GATE_Z, GATE_N };

/* activation(a, clipped), traced where somebody asks */
static inline __attribute__((always_inline)) V gru_gate(const CylActivationSpec *activation, const int id, V a,
                                                        REAL limit, int which, int32_t unit, int32_t lanes,
                                                        const RowTrace *trace) {
    V value = gate(activation, id, clip(a, limit));
    if (trace) {
        trace_pre(trace, which, unit, lanes, a);
        trace_gate(trace, which, unit, lanes, value);
    }
    return value;
}

/*
 * GRU, reset-before, first half. x gates in acc, h gates (r z) in the scratch behind [z, r*h]:
 * r, z = recurrent_activation(x part + h part); scratch = [z, r*h]
 */
static CYL_SELDOM void gru_gates(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end) {
    const CylMatrix *x = &gru->input, *m = &gru->gates;
    const CylActivationSpec *f1 = &gru->recurrent_activation;
    const int64_t stride = cyl_state_stride(m->units);
    const REAL limit = (REAL)gru->gate_clip;
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *acc = (const REAL *)step->acc + row * step->acc_stride;
        REAL *scratch = (REAL *)step->scratch + row * step->scratch_stride;
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE, is_traced = step->trace && is_used;
        const RowTrace row_trace = is_traced ? trace_of(step->trace, row) : (RowTrace){0};
        const RowTrace *trace = is_traced ? &row_trace : NULL;
        EACH_GROUP(m, begin, end) {
            const REAL *xs = acc + cyl_block_offset(x, block) + at;
            const REAL *hs = scratch + 2 * stride + cyl_block_offset(m, block) + at;
            V h = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
            V r = gru_gate(f1, f1->id, v_add(v_load(xs), v_load(hs)), limit, GATE_R, unit, lanes, trace);
            V z =
                gru_gate(f1, f1->id, v_add(v_load(xs + width), v_load(hs + width)), limit, GATE_Z, unit, lanes, trace);
            store_lanes(scratch + unit, z, lanes);
            store_lanes(scratch + stride + unit, v_flush(v_mul(r, h)), lanes);
        }
    }
}

/*
 * GRU, the new state: h = z*h + (1 - z)*n
 * reset-after:  r, z = recurrent_activation(x part + h part), n = activation(x part + r * h part)
 * reset-before: z from the first half, n = activation(x part + product over r*h)
 * Two passes as in an LSTM's cell, with n before its activation and z where the group's accumulators were.
 */
static inline __attribute__((always_inline)) void gru_cell_body(const CylGru *gru, const CylStep *shared, int32_t begin,
                                                                int32_t end, const int recurrent_id, const int id,
                                                                const bool is_traced) {
    const CylMatrix input = gru->input, gates = gru->is_reset_after ? gru->gates : gru->candidate;
    const CylMatrix *x = &input, *m = &gates;
    const CylStep step_copy = *shared, *step = &step_copy;
    const CylActivationSpec *f1 = &gru->recurrent_activation, *f2 = &gru->activation;
    const int64_t stride = cyl_state_stride(m->units), skipped = 2 * stride + gru->gates.row_size;
    const REAL limit = (REAL)gru->gate_clip;
    const bool is_reset_after = gru->is_reset_after;
    for (int64_t row = 0; row < step->rows; row++) {
        REAL *acc = (REAL *)step->acc + row * step->acc_stride;
        const REAL *scratch = (const REAL *)step->scratch + row * step->scratch_stride;
        const REAL *h_row = (const REAL *)step->h_previous + row * step->h_stride;
        if (step->codes && step->codes[row] != CYL_CODE_USE) {
            EACH_GROUP(x, begin, end) {
                V kept = load_lanes(h_row + unit, lanes);
                store_output(step, row, unit, lanes, kept, padded_output(step, row, kept));
            }
            continue;
        }
        const RowTrace row_trace = is_traced ? trace_of(step->trace, row) : (RowTrace){0};
        const RowTrace *trace = is_traced ? &row_trace : NULL;
        EACH_GROUP(x, begin, end) {
            REAL *xs = acc + cyl_block_offset(x, block) + at;
            V z, n;
            if (is_reset_after) {
                const REAL *hs = scratch + cyl_block_offset(m, block) + at;
                V r = gru_gate(f1, recurrent_id, v_add(v_load(xs), v_load(hs)), limit, GATE_R, unit, lanes, trace);
                V a = v_add(v_load(xs + width), v_load(hs + width));
                z = gru_gate(f1, recurrent_id, a, limit, GATE_Z, unit, lanes, trace);
                n = v_fma(r, v_flush(v_load(hs + 2 * width)), v_load(xs + 2 * width));
            } else {
                z = load_lanes(scratch + unit, lanes);
                /* the candidate has one gate: its rows are the units themselves */
                n = v_add(v_load(xs + 2 * width), v_load(scratch + skipped + unit));
            }
            v_store(xs, n);
            v_store(xs + 16, z);
        }
        EACH_GROUP(x, begin, end) {
            const REAL *kept = acc + cyl_block_offset(x, block) + at;
            V n = gru_gate(f2, id, v_load(kept), limit, GATE_N, unit, lanes, trace), z = v_load(kept + 16);
            V rest = v_flush(v_sub(v_set1((REAL)1), z));
            V h = v_flush(v_fma(z, load_lanes(h_row + unit, lanes), v_mul(rest, n)));
            store_output(step, row, unit, lanes, h, h);
        }
    }
}

static CYL_SELDOM __attribute__((noinline)) void gru_cell_traced(const CylGru *gru, const CylStep *step, int32_t begin,
                                                                 int32_t end, bool is_plain) {
    if (is_plain) {
        gru_cell_body(gru, step, begin, end, CYL_ACT_SIGMOID, CYL_ACT_TANH, true);
    } else {
        gru_cell_body(gru, step, begin, end, gru->recurrent_activation.id, gru->activation.id, true);
    }
}

static void gru_cell(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end) {
    int recurrent_id = gru->recurrent_activation.id, id = gru->activation.id;
    const bool is_plain = recurrent_id == CYL_ACT_SIGMOID && id == CYL_ACT_TANH;
    if (step->trace) {
        gru_cell_traced(gru, step, begin, end, is_plain);
    } else if (is_plain) {
        gru_cell_body(gru, step, begin, end, CYL_ACT_SIGMOID, CYL_ACT_TANH, false);
    } else {
        gru_cell_body(gru, step, begin, end, recurrent_id, id, false);
    }
}
