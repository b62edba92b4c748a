/*
 * The cells of recurrent layers: from accumulated gates to the next states, 16 units at a time.
 *
 * Every state is stored with the subnormal rule (v_flush). A row whose step does not count keeps its states; its
 * output is zero or the previous output, as its code says.
 */

/* units [unit, unit + lanes) of a block, `at` their place within each gate of the block */
#define EACH_GROUP(m, begin, end)                                                                                      \
    for (int32_t block = (begin); block < (end); block++)                                                              \
        for (int32_t width = cyl_block_width((m), block), at = 0, unit = block * (m)->width,                           \
                     lanes = lanes_left((m)->units, unit);                                                             \
             at < width && lanes > 0; at += 16, unit += 16, lanes = lanes_left((m)->units, unit))

static inline int32_t lanes_left(int32_t units, int32_t unit) { return units - unit < 16 ? units - unit : 16; }

static inline V load_lanes(const REAL *p, int32_t lanes) { return lanes == 16 ? v_load(p) : v_load_part(p, lanes); }

static inline void store_lanes(REAL *p, V a, int32_t lanes) {
    if (lanes == 16) {
        v_store(p, a);
    } else {
        v_store_part(p, a, lanes);
    }
}

static inline __attribute__((always_inline)) V gate(const CylActivationSpec *spec, const int id, V x) {
    return v_activate(id, x, (REAL)spec->alpha, (REAL)spec->beta);
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

/*
 * i, f, o = recurrent_activation(.), g = activation(.)
 * c = f*c + i*g
 * h = o*activation(c)
 */
static inline __attribute__((always_inline)) void lstm_cell_body(const CylLstm *lstm, const CylStep *step,
                                                                 int32_t begin, int32_t end, const int recurrent_id,
                                                                 const int id) {
    const CylMatrix *m = &lstm->gates;
    const CylActivationSpec *f1 = &lstm->recurrent_activation, *f2 = &lstm->activation;
    const bool is_projected = lstm->projection.units > 0;
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *acc = (const REAL *)step->acc + row * step->acc_stride;
        REAL *c_row = (REAL *)step->c + row * step->c_stride;
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE;
        EACH_GROUP(m, begin, end) {
            if (!is_used) {
                if (!is_projected) {
                    V kept = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
                    store_output(step, row, unit, lanes, kept, padded_output(step, row, kept));
                }
                continue;
            }
            const REAL *gates = acc + cyl_block_offset(m, block) + at;
            V i = gate(f1, recurrent_id, v_load(gates));
            V f = gate(f1, recurrent_id, v_load(gates + width));
            V g = v_flush(gate(f2, id, v_load(gates + 2 * width)));
            V o = gate(f1, recurrent_id, v_load(gates + 3 * width));
            V c = v_flush(v_fma(v_flush(f), load_lanes(c_row + unit, lanes), v_mul(v_flush(i), g)));
            V h = v_flush(v_mul(v_flush(o), v_flush(gate(f2, id, c))));
            store_lanes(c_row + unit, c, lanes);
            if (is_projected) {
                store_lanes((REAL *)step->scratch + row * step->scratch_stride + unit, h, lanes);
            } else {
                store_output(step, row, unit, lanes, h, h);
            }
        }
    }
}

static void lstm_cell(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end) {
    int recurrent_id = lstm->recurrent_activation.id, id = lstm->activation.id;
    if (recurrent_id == CYL_ACT_SIGMOID && id == CYL_ACT_TANH) {
        lstm_cell_body(lstm, step, begin, end, CYL_ACT_SIGMOID, CYL_ACT_TANH);
    } else {
        lstm_cell_body(lstm, step, begin, end, recurrent_id, id);
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

/*
 * GRU, reset-before, first half. x gates in acc, h gates (r z) in the scratch behind [z, r*h]:
 * r, z = recurrent_activation(x part + h part); scratch = [z, r*h]
 */
static void gru_gates(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end) {
    const CylMatrix *x = &gru->input, *m = &gru->gates;
    const CylActivationSpec *f1 = &gru->recurrent_activation;
    const int64_t stride = cyl_state_stride(m->units);
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *acc = (const REAL *)step->acc + row * step->acc_stride;
        REAL *scratch = (REAL *)step->scratch + row * step->scratch_stride;
        EACH_GROUP(m, begin, end) {
            const REAL *xs = acc + cyl_block_offset(x, block) + at;
            const REAL *hs = scratch + 2 * stride + cyl_block_offset(m, block) + at;
            V h = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
            V r = gate(f1, f1->id, v_add(v_load(xs), v_load(hs)));
            V z = gate(f1, f1->id, v_add(v_load(xs + width), v_load(hs + width)));
            store_lanes(scratch + unit, v_flush(z), lanes);
            store_lanes(scratch + stride + unit, v_flush(v_mul(v_flush(r), h)), lanes);
        }
    }
}

/*
 * GRU, the new state: h = z*h + (1 - z)*n
 * reset-after:  r, z = recurrent_activation(x part + h part), n = activation(x part + r * h part)
 * reset-before: z from the first half, n = activation(x part + product over r*h)
 */
static inline __attribute__((always_inline)) void gru_cell_body(const CylGru *gru, const CylStep *step, int32_t begin,
                                                                int32_t end, const int recurrent_id, const int id) {
    const CylMatrix *x = &gru->input;
    const CylMatrix *m = gru->is_reset_after ? &gru->gates : &gru->candidate;
    const CylActivationSpec *f1 = &gru->recurrent_activation, *f2 = &gru->activation;
    const int64_t stride = cyl_state_stride(m->units);
    for (int64_t row = 0; row < step->rows; row++) {
        const REAL *acc = (const REAL *)step->acc + row * step->acc_stride;
        const REAL *scratch = (const REAL *)step->scratch + row * step->scratch_stride;
        const REAL *products = gru->is_reset_after ? scratch : scratch + 2 * stride + gru->gates.row_size;
        const bool is_used = !step->codes || step->codes[row] == CYL_CODE_USE;
        EACH_GROUP(x, begin, end) {
            V h = load_lanes((const REAL *)step->h_previous + row * step->h_stride + unit, lanes);
            if (!is_used) {
                store_output(step, row, unit, lanes, h, padded_output(step, row, h));
                continue;
            }
            const REAL *xs = acc + cyl_block_offset(x, block) + at;
            V z, n;
            if (gru->is_reset_after) {
                const REAL *hs = products + cyl_block_offset(m, block) + at;
                V r = gate(f1, recurrent_id, v_add(v_load(xs), v_load(hs)));
                z = v_flush(gate(f1, recurrent_id, v_add(v_load(xs + width), v_load(hs + width))));
                n = v_fma(v_flush(r), v_flush(v_load(hs + 2 * width)), v_load(xs + 2 * width));
            } else {
                z = load_lanes(scratch + unit, lanes);
                /* the candidate has one gate: its rows are the units themselves */
                n = v_add(v_load(xs + 2 * width), v_load(products + unit));
            }
            n = v_flush(gate(f2, id, n));
            V rest = v_flush(v_sub(v_set1((REAL)1), z));
            h = v_flush(v_fma(z, h, v_mul(rest, n)));
            store_output(step, row, unit, lanes, h, h);
        }
    }
}

static void gru_cell(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end) {
    int recurrent_id = gru->recurrent_activation.id, id = gru->activation.id;
    if (recurrent_id == CYL_ACT_SIGMOID && id == CYL_ACT_TANH) {
        gru_cell_body(gru, step, begin, end, CYL_ACT_SIGMOID, CYL_ACT_TANH);
    } else {
        gru_cell_body(gru, step, begin, end, recurrent_id, id);
    }
}
