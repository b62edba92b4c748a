/*
 * The scheduler of recurrent layers: a step is a list of phases with barriers between.
 *
 * Each thread owns the same items of a phase for the whole sequence, so that its share of the weights stays in its
 * own cache. The input half of a block of steps is one product over time, done before the steps that continue its
 * accumulators: the same chain of multiply-adds, hence the same bits as a step done alone.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/axes.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/spec.h"
#include "platform/memory.h"
#include "run/recurrent.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

/* weights of an input matrix (256 KB) that fill a good part of a second cache: reading more of them drives out the
   recurrent ones, so that it is done less often */
#define LARGE_INPUT 65536

/* How many steps' input halves are computed at once: enough columns to reuse each weight that is read. A batch has
   its columns already, and a small input matrix stays in the first cache. A gemm, which packs the weights anew at each
   call, wants more columns, and costs less than many gemv for a small matrix too. */
static int64_t block_steps(const CylModel *model, const CylRecurrent *recurrent, int64_t rows, int64_t time) {
    const bool is_packed = model->kernels->is_packed;
    const int64_t weights = (int64_t)recurrent->input_size * recurrent->input_matrix->row_size;
    const int64_t columns = !is_packed ? 128 : weights <= LARGE_INPUT ? 24 : 96;
    const int64_t small = is_packed ? 4096 : 0, batch = is_packed ? 8 : 16;
    if (rows >= batch || weights <= small || time == 1 || recurrent->positions > 1) {
        return 1;
    }
    int64_t steps = columns / rows;
    return steps < time ? steps : time;
}

size_t cyl_recurrent_bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const CylRecurrent *recurrent = layer->recurrent;
    size_t real = model->kernels->real_size, used = 0;
    int64_t rows = workspace->rows_capacity;
    CylLayerState state = {0};
    state.block_steps = block_steps(model, recurrent, rows, workspace->time_capacity);
    uint64_t h_size = (uint64_t)cyl_state_stride(recurrent->output_size);
    uint64_t c_size = recurrent->state_count > 1 ? (uint64_t)cyl_state_stride(recurrent->hidden_size) : 0;
    uint64_t acc_rows = (uint64_t)(state.block_steps * recurrent->positions);
    state.h[0] = cyl_place(memory, &used, rows, h_size, real);
    state.h[1] = cyl_place(memory, &used, rows, h_size, real);
    state.c = cyl_place(memory, &used, rows, c_size, real);
    state.acc =
        cyl_place(memory, &used, rows, cyl_size_mul(acc_rows, (uint64_t)recurrent->input_matrix->row_size), real);
    state.scratch = cyl_place(memory, &used, rows, (uint64_t)recurrent->scratch_size, real);
    state.codes = cyl_place(memory, &used, rows, (uint64_t)workspace->time_capacity, 1);
    state.seen = cyl_place(memory, &used, rows, 1, 1);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* codes[t][row] for every step; `seen` is brought up to date */
static void code_steps(const CylLayer *layer, const CylWorkspace *workspace, int64_t time) {
    CylLayerState *state = &workspace->states[layer->index];
    const CylRecurrent *recurrent = layer->recurrent;
    int32_t slot = workspace->model->values[layer->mask].slot;
    for (int64_t n = 0; n < time; n++) {
        int64_t t = recurrent->is_reverse ? time - 1 - n : n;
        for (int64_t row = 0; row < workspace->rows; row++) {
            bool used = cyl_mask_row(workspace, slot, row)[t] != 0;
            uint8_t *code = &state->codes[t * workspace->rows + row];
            state->seen[row] |= used;
            *code = used                                             ? CYL_CODE_USE
                    : recurrent->repeats_padding && state->seen[row] ? CYL_CODE_REPEAT
                                                                     : CYL_CODE_ZERO;
        }
    }
}

static bool has_connected_states(const CylLayer *layer) { return layer->states_in[0] >= 0 || layer->states_in[1] >= 0; }

static void load_states(const CylLayer *layer, CylWorkspace *workspace) {
    for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
        if (layer->states_in[i] >= 0) {
            cyl_workspace_set_state(workspace, layer->first_state + i, workspace->views[layer->states_in[i]].data);
        }
    }
}

/*
 * Rows without any step that counts: final states 0, as ONNX Runtime has it for sequences of length 0. In a stream
 * only the values that other layers read: a later step may still be valid, and until the first valid one the state
 * must stay the initial state.
 */
static void zero_empty_rows(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace) {
    CylLayerState *state = &workspace->states[layer->index];
    for (int64_t row = 0; row < workspace->rows; row++) {
        if (state->seen[row]) {
            continue;
        }
        if (!workspace->is_stream) {
            cyl_layer_state_reset(model, layer, state, row, 1);
        }
        for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
            const CylView *view = layer->states_out[i] >= 0 ? &workspace->views[layer->states_out[i]] : NULL;
            if (view && view->data) {
                memset(cyl_at(model, view->data, row * view->row_stride), 0,
                       (size_t)model->state_sizes[layer->first_state + i] * model->kernels->real_size);
            }
        }
    }
}

static bool stores_states(const CylModel *model, const CylLayer *layer) {
    for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
        if (layer->states_out[i] >= 0 && model->values[layer->states_out[i]].is_read) {
            return true;
        }
    }
    return false;
}

static void store_states(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace) {
    for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
        int32_t value = layer->states_out[i];
        if (value >= 0 && model->values[value].is_read) {
            cyl_workspace_get_state(workspace, layer->first_state + i, workspace->views[value].data);
        }
    }
}

/* input_products where the halves are known */
static void take_halves(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, int64_t start,
                        int64_t count, int32_t begin, int32_t end) {
    const CylMatrix *m = layer->recurrent->input_matrix;
    const CylLayerState *state = &workspace->states[layer->index];
    const CylHalves *halves = state->halves;
    int64_t piece = layer->is_chunked ? workspace->first_step : 0;
    int64_t from = cyl_block_offset(m, begin), to = end == m->blocks ? m->row_size : cyl_block_offset(m, end);
    for (int64_t row = 0; row < workspace->rows && begin < end; row++) {
        int64_t kept_row = halves->rows[cyl_call_row(workspace, row)];
        int64_t place = (halves->oldest[kept_row] + piece + start) % halves->steps;
        for (int64_t n = 0; n < count; n++) {
            memcpy(cyl_at(model, state->acc, (row * state->block_steps + n) * m->row_size + from),
                   cyl_at(model, halves->acc, (kept_row * halves->steps + place) * m->row_size + from),
                   (size_t)(to - from) * model->kernels->real_size);
            place = place + 1 < halves->steps ? place + 1 : 0;
        }
    }
}

/* the input halves of steps [first, first + count) of the order of processing, for this thread's blocks; their
   accumulators are in the order of time */
static void input_products(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace, int64_t time,
                           int64_t first, int64_t count, int32_t begin, int32_t end) {
    const CylRecurrent *recurrent = layer->recurrent;
    const CylMatrix *m = recurrent->input_matrix;
    const CylLayerState *state = &workspace->states[layer->index];
    const CylView *x = &workspace->views[layer->x];
    int64_t start = recurrent->is_reverse ? time - first - count : first;
    if (state->halves) {
        take_halves(model, layer, workspace, start, count, begin, end);
        return;
    }
    for (int64_t row = 0; row < workspace->rows; row++) {
        CylOperand operand = {cyl_at(model, x->data, row * x->row_stride + start * x->step_stride), x->step_stride, 0,
                              recurrent->input_size};
        void *acc = cyl_at(model, state->acc, row * state->block_steps * m->row_size);
        cyl_product(model, m, &operand, 1, count, acc, m->row_size, false, false, begin, end);
    }
}

/* Steps [0, *until) are done: whether there are more, and then up to where before the next look. */
static bool goes_on(const CylWorkspace *workspace, CylLayerState *state, const CylTeam *team, int64_t time,
                    int64_t pace, int64_t *until) {
    if (*until == time) {
        return false;
    }
    if (team->thread == 0) {
        state->is_stopped = cyl_stop_look(workspace->stop);
    }
    cyl_barrier(team);
    if (state->is_stopped) {
        cyl_give_steps(team, time); /* who takes them must not wait, and will not use them */
        return false;
    }
    *until = time - *until < pace ? time : *until + pace;
    return true;
}

/* where step t of this run is traced; NULL where it is not */
static const CylStepTrace *trace_step(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace,
                                      int64_t t, CylStepTrace *trace) {
    const CylTrace *to = &workspace->states[layer->index].trace;
    const CylRecurrent *recurrent = layer->recurrent;
    const int32_t axis = model->values[layer->x].axis;
    t += layer->is_chunked ? cyl_axis_steps_before(model, axis, workspace->first_step) : 0;
    if (t >= to->steps) {
        return NULL;
    }
    const int64_t units = recurrent->hidden_size, gates = units * recurrent->gate_count;
    const int64_t step = workspace->first_row * to->steps + t;
    *trace = (CylStepTrace){.pre = to->pre ? cyl_at(model, to->pre, step * gates) : NULL,
                            .gates = to->gates ? cyl_at(model, to->gates, step * gates) : NULL,
                            .cell = to->cell ? cyl_at(model, to->cell, step * units) : NULL,
                            .row_stride = to->steps * gates,
                            .gate_stride = units,
                            .cell_stride = to->steps * units,
                            .order = workspace->order};
    return trace;
}

void cyl_recurrent_run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const CylRecurrent *recurrent = layer->recurrent;
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    CylLayerState *state = &workspace->states[layer->index];
    int64_t time = workspace->times[model->values[layer->x].axis];
    bool is_masked = cyl_mask_slot(workspace, layer->mask) >= 0;
    if (team->thread == 0) {
        load_states(layer, workspace);
        if (is_masked) {
            code_steps(layer, workspace, time);
        } else {
            memset(state->seen, 1, (size_t)workspace->rows);
        }
    }
    /* a step is short: meet only where the others read what the first thread prepared */
    if (is_masked || has_connected_states(layer)) {
        cyl_barrier(team);
    }
    int64_t acc_size = recurrent->input_matrix->row_size * recurrent->positions;
    CylStep step = {.rows = workspace->rows,
                    .x_stride = x->row_stride,
                    .h_stride = cyl_state_stride(recurrent->output_size),
                    .c = state->c,
                    .c_stride = cyl_state_stride(recurrent->hidden_size),
                    .acc_stride = acc_size * state->block_steps,
                    .scratch = state->scratch,
                    .scratch_stride = recurrent->scratch_size,
                    .y_stride = y->row_stride};
    CylStepTrace trace;
    int current = state->current;
    bool backward = state->backward;
    int64_t begin, end, first = 0, count = 0;
    const int64_t pace = workspace->stop ? cyl_stop_pace(layer->work * workspace->rows) : time;
    int64_t until = pace < time ? pace : time;
    for (int64_t n = 0; n < until || goes_on(workspace, state, team, time, pace, &until); n++) {
        if (n == first + count) {
            first = n;
            count = time - n < state->block_steps ? time - n : state->block_steps;
            count = cyl_take_steps(team, n, count);
            step.continued =
                count > 1 || state->halves; /* one step whose half is not known reads all weights in one pass */
            if (step.continued) {
                cyl_share(team, recurrent->input_matrix->blocks, &begin, &end);
                input_products(model, layer, workspace, time, n, count, (int32_t)begin, (int32_t)end);
            }
        }
        int64_t t = recurrent->is_reverse ? time - 1 - n : n, in_block = n - first;
        step.x = cyl_at(model, x->data, t * x->step_stride);
        step.backward = backward;
        step.h_previous = state->h[current];
        step.h_next = state->h[1 - current];
        step.acc = cyl_at(model, state->acc, (recurrent->is_reverse ? count - 1 - in_block : in_block) * acc_size);
        step.codes = is_masked ? state->codes + t * workspace->rows : NULL;
        step.y = y->data ? cyl_at(model, y->data, t * y->step_stride) : NULL;
        step.trace = state->trace.steps ? trace_step(model, layer, workspace, t, &trace) : NULL;
        for (int32_t p = 0; p < recurrent->phase_count; p++) {
            const CylPhase *phase = &recurrent->phases[p];
            cyl_share(team, phase->items, &begin, &end);
            phase->run(model, layer, &step, (int32_t)begin, (int32_t)end);
            if (phase->barrier_after) {
                cyl_barrier(team);
            }
        }
        cyl_give_steps(team, n + 1);
        current = 1 - current;
        backward = !backward;
    }
    if (team->thread == 0) {
        state->current = current;
        state->backward = backward;
        store_states(model, layer, workspace);
        if (recurrent->zeroes_empty && (workspace->is_last_chunk || !layer->is_chunked)) {
            zero_empty_rows(model, layer, workspace);
        }
    }
    if (stores_states(model, layer)) {
        cyl_barrier(team);
    }
}
