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
#include "platform/tuning.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

/* How many steps' input halves are computed at once: enough columns to reuse each weight that is read. A batch has
   its columns already, and a small input matrix stays in the first cache. A gemm, which packs the weights anew at each
   call, wants more columns, and costs less than many gemv for a small matrix too. */
static int64_t block_steps(const CylModel *model, const CylRecurrent *recurrent, int64_t rows, int64_t time) {
    const bool is_packed = model->kernels->is_packed;
    const int64_t weights = (int64_t)recurrent->input_size * recurrent->input_matrix->row_size;
    const int64_t columns = !is_packed                   ? CYL_BLOCK_COLUMNS_GEMM
                            : weights <= CYL_LARGE_INPUT ? CYL_BLOCK_COLUMNS
                                                         : CYL_BLOCK_COLUMNS_LARGE;
    const int64_t small = is_packed ? CYL_BLOCK_LEAST_WEIGHTS : 0;
    const int64_t batch = is_packed ? CYL_BLOCK_MOST_ROWS : CYL_BLOCK_MOST_ROWS_GEMM;
    if (rows >= batch || weights <= small || time == 1 || recurrent->is_spatial) {
        return 1;
    }
    int64_t steps = columns / rows;
    return steps < time ? steps : time;
}

/* a phase and the items of it that one thread runs */
typedef struct {
    void (*run)(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end);
    int32_t begin, end;
    bool barrier_after;
} Part;

/* What the runs on pieces of one shape have in common. Distances in bytes, in the order of processing, which may be
   from the last step to the first. */
typedef struct {
    const CylView *x, *y, *h_masks; /* whose data may be the call's, and new in each call; h_masks may be NULL */
    int64_t time;
    int64_t x_first, x_next, y_first, y_next, acc_next, codes_first, codes_next;
    int32_t slot; /* of its mask, which a call may have or not; -1: it never has one */
    bool is_connected, zeroes_empty;
    bool in_blocks;             /* the input halves of several steps are computed, or taken, before them */
    bool is_single;             /* one step of one row, which has no masked state and no initial states */
    CylStep step;               /* with all that the steps have in common */
    Part parts[CYL_MAX_PHASES]; /* of a thread that is alone */
} Bound;

static bool stores_states(const CylModel *model, const CylLayer *layer) {
    for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
        if (layer->states_out[i] >= 0 && model->values[layer->states_out[i]].is_read) {
            return true;
        }
    }
    return false;
}

static int64_t masked_stride(const CylRecurrent *recurrent) {
    return cyl_state_stride((int64_t)recurrent->h_copies * recurrent->output_size);
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
    if (recurrent->h_copies) {
        state.masked = cyl_place(memory, &used, rows, (uint64_t)masked_stride(recurrent), real);
    }
    state.stores_states = stores_states(model, layer);
    state.bound = cyl_place(memory, &used, 1, 1, sizeof(Bound));
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* codes[t][row] for every step; `seen` is brought up to date */
static CYL_SELDOM void code_steps(const CylLayer *layer, const CylWorkspace *workspace, int64_t time) {
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

static CYL_SELDOM void load_states(const CylLayer *layer, CylWorkspace *workspace) {
    for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
        if (layer->states_in[i] >= 0) {
            const CylView *view = &workspace->views[layer->states_in[i]];
            cyl_workspace_set_state(workspace, layer->first_state + i, workspace->rows, view->data, view->row_stride);
        }
    }
}

/*
 * Rows without any step that counts: final states 0, as ONNX Runtime has it for sequences of length 0. In a stream
 * only the values that other layers read: a later step may still be valid, and until the first valid one the state
 * must stay the initial state.
 */
static CYL_SELDOM void zero_empty_rows(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace) {
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

static CYL_SELDOM void store_states(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace) {
    for (int32_t i = 0; i < layer->recurrent->state_count; i++) {
        int32_t value = layer->states_out[i];
        if (value >= 0 && model->values[value].is_read) {
            cyl_workspace_get_state(workspace, layer->first_state + i, workspace->rows, workspace->views[value].data);
        }
    }
}

static CYL_SELDOM void divide_phases(const CylRecurrent *recurrent, const CylTeam *team, Part *parts) {
    for (int32_t p = 0; p < recurrent->phase_count; p++) {
        const CylPhase *phase = &recurrent->phases[p];
        int64_t begin, end;
        cyl_share(team, phase->items, &begin, &end);
        parts[p] = (Part){phase->run, (int32_t)begin, (int32_t)end, phase->barrier_after};
    }
}

/* the recurrent product reads what the first phase leaves, not the state */
static CYL_SELDOM void resolve_mask(const CylLayer *layer, const CylWorkspace *workspace, Bound *bound) {
    const CylRecurrent *recurrent = layer->recurrent;
    bound->h_masks = &workspace->views[recurrent->h_mask];
    bound->is_single = false;
    bound->step.h_masks_stride = bound->h_masks->row_stride;
    bound->step.masked = workspace->states[layer->index].masked;
    bound->step.masked_stride = bound->step.operands[1].stride = masked_stride(recurrent);
    bound->step.operands[1].count = recurrent->h_copies * recurrent->output_size;
}

void cyl_recurrent_resolve(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace) {
    const CylRecurrent *recurrent = layer->recurrent;
    CylLayerState *state = &workspace->states[layer->index];
    const CylView *x = &workspace->views[layer->x], *y = &workspace->views[layer->y];
    const bool in_blocks = state->block_steps > 1 || state->halves;
    const bool is_connected = layer->states_in[0] >= 0 || layer->states_in[1] >= 0;
    const int64_t real = (int64_t)model->kernels->real_size, time = cyl_steps(workspace, layer->x);
    const int64_t direction = recurrent->is_reverse ? -1 : 1, first = recurrent->is_reverse ? time - 1 : 0;
    const int64_t acc_size = recurrent->input_matrix->row_size * recurrent->positions;
    const bool has_both = recurrent->input_matrix->columns > recurrent->input_size; /* one matrix for x and h */
    Bound *bound = state->bound;
    *bound = (Bound){.x = x,
                     .y = y,
                     .time = time,
                     .x_first = first * x->step_stride * real,
                     .x_next = direction * x->step_stride * real,
                     .y_first = first * y->step_stride * real,
                     .y_next = direction * y->step_stride * real,
                     .acc_next = in_blocks ? direction * acc_size * real : 0,
                     .codes_first = first * workspace->rows,
                     .codes_next = direction * workspace->rows,
                     .slot = layer->mask >= 0 ? model->values[layer->mask].slot : -1,
                     .is_connected = is_connected,
                     .zeroes_empty = recurrent->zeroes_empty && cyl_ends_call(workspace, layer->x),
                     .in_blocks = in_blocks,
                     .is_single = time == 1 && workspace->rows == 1 && !in_blocks && !is_connected,
                     .step = {.rows = workspace->rows,
                              .operands = {{.stride = x->row_stride, .count = recurrent->input_size},
                                           {.stride = cyl_state_stride(recurrent->output_size),
                                            .first = has_both ? recurrent->input_size : 0,
                                            .count = recurrent->output_size}},
                              .h_stride = cyl_state_stride(recurrent->output_size),
                              .c = state->c,
                              .c_stride = cyl_state_stride(recurrent->hidden_size),
                              .acc = state->acc,
                              .acc_stride = acc_size * state->block_steps,
                              .scratch = state->scratch,
                              .scratch_stride = recurrent->scratch_size,
                              .y_stride = y->row_stride}};
    if (recurrent->h_copies) {
        resolve_mask(layer, workspace, bound);
    }
    divide_phases(recurrent, &(CylTeam){.threads = 1}, bound->parts);
    state->has_end = state->stores_states || bound->zeroes_empty;
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
static CYL_SELDOM void input_products(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace,
                                      const CylTeam *team, int64_t first, int64_t count) {
    const CylRecurrent *recurrent = layer->recurrent;
    const CylMatrix *m = recurrent->input_matrix;
    const CylLayerState *state = &workspace->states[layer->index];
    const CylView *x = &workspace->views[layer->x];
    const int64_t time = ((const Bound *)state->bound)->time;
    const int64_t start = recurrent->is_reverse ? time - first - count : first;
    int64_t begin, end;
    cyl_share(team, m->blocks, &begin, &end);
    if (state->halves) {
        take_halves(model, layer, workspace, start, count, (int32_t)begin, (int32_t)end);
        return;
    }
    for (int64_t row = 0; row < workspace->rows; row++) {
        CylOperand operand = {cyl_at(model, x->data, row * x->row_stride + start * x->step_stride), x->step_stride, 0,
                              recurrent->input_size};
        void *acc = cyl_at(model, state->acc, row * state->block_steps * m->row_size);
        cyl_product(model, m, &operand, 1, count, acc, m->row_size, false, false, (int32_t)begin, (int32_t)end);
    }
}

/* Steps [0, *until) are done: whether there are more, and then up to where before the next look. */
static CYL_SELDOM bool goes_on(const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team, int64_t *until) {
    CylLayerState *state = &workspace->states[layer->index];
    const int64_t time = ((const Bound *)state->bound)->time;
    if (team->thread == 0) {
        state->is_stopped = cyl_stop_look(workspace->stop);
    }
    cyl_barrier(team);
    if (state->is_stopped) {
        cyl_give_steps(team, time); /* who takes them must not wait, and will not use them */
        return false;
    }
    const int64_t pace = cyl_stop_pace(layer->work * workspace->rows);
    *until = time - *until < pace ? time : *until + pace;
    return true;
}

/* The input halves of the steps from the n-th on, for as many as are there and are computed at once: their number. */
static CYL_SELDOM int64_t begin_block(const CylModel *model, const CylLayer *layer, const CylWorkspace *workspace,
                                      const CylTeam *team, CylStep *step, int64_t n) {
    const CylLayerState *state = &workspace->states[layer->index];
    const Bound *bound = state->bound;
    int64_t count = bound->time - n < state->block_steps ? bound->time - n : state->block_steps;
    count = cyl_take_steps(team, n, count);
    step->acc = layer->recurrent->is_reverse ? (char *)state->acc - (count - 1) * bound->acc_next : state->acc;
    /* one step whose half is not known reads all weights in one pass */
    step->continued = count > 1 || state->halves;
    if (step->continued) {
        input_products(model, layer, workspace, team, n, count);
    }
    return count;
}

/* where each gate of `units` units lies in a row, -1 where it is left out; returns the reals of a row */
static int64_t place_gates(const void *array, int32_t gate_count, uint8_t skips, int64_t units, int64_t *at) {
    int64_t used = 0;
    for (int32_t g = 0; g < CYL_MAX_GATES; g++) {
        const bool is_there = array && g < gate_count && !(skips >> g & 1);
        at[g] = is_there ? used : -1;
        used += is_there ? units : 0;
    }
    return used;
}

/* where step n, in the order of processing, is traced; NULL where it is not */
static CYL_SELDOM const CylStepTrace *trace_step(const CylModel *model, const CylLayer *layer,
                                                 const CylWorkspace *workspace, int64_t n, CylStepTrace *trace) {
    const CylLayerState *state = &workspace->states[layer->index];
    const CylTrace *to = &state->trace;
    const CylRecurrent *recurrent = layer->recurrent;
    const int32_t axis = model->values[layer->x].axis;
    int64_t t = recurrent->is_reverse ? ((const Bound *)state->bound)->time - 1 - n : n;
    t += workspace->begins[axis] - workspace->call_begins[axis];
    if (t >= to->steps) {
        return NULL;
    }
    const int64_t units = recurrent->hidden_size, step = workspace->first_row * to->steps + t;
    const int32_t count = recurrent->gate_count;
    const int64_t pre = place_gates(to->pre, count, to->pre_skips, units, trace->pre_at);
    const int64_t gates = place_gates(to->gates, count, to->gates_skips, units, trace->gates_at);
    trace->pre = pre ? cyl_at(model, to->pre, step * pre) : NULL;
    trace->gates = gates ? cyl_at(model, to->gates, step * gates) : NULL;
    trace->cell = to->cell ? cyl_at(model, to->cell, step * units) : NULL;
    trace->pre_stride = to->steps * pre;
    trace->gates_stride = to->steps * gates;
    trace->cell_stride = to->steps * units;
    trace->order = workspace->order;
    return trace;
}

/* A step. The threads meet where the next phase reads what others wrote. After the last phase of the last step nobody
   in the layer does, and the team meets at the layer's end anyway. */
static inline void run_phases(const CylModel *model, const CylLayer *layer, const CylStep *step, const CylTeam *team,
                              const Part *parts) {
    const Part *const last = parts + layer->recurrent->phase_count - 1;
    for (const Part *part = parts;; part++) {
        part->run(model, layer, step, part->begin, part->end);
        if (part == last) {
            return;
        }
        if (part->barrier_after) {
            cyl_barrier(team);
        }
    }
}

/* Runs the steps of a piece. Returns how many: fewer than all if the call is to end. */
static inline int64_t run_steps(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                                const CylTeam *team, const Bound *bound, CylStep *step, const Part *parts) {
    const bool in_blocks = bound->in_blocks || team->takes_from;
    const bool is_traced = workspace->states[layer->index].trace.steps > 0;
    CylStepTrace trace;
    const int64_t time = bound->time;
    int64_t until = workspace->stop ? cyl_stop_pace(layer->work * step->rows) : time, block_end = 0;
    until = until < time ? until : time;
    for (int64_t n = 0;;) {
        if (in_blocks && n == block_end) {
            block_end += begin_block(model, layer, workspace, team, step, n);
        }
        step->trace = is_traced ? trace_step(model, layer, workspace, n, &trace) : NULL;
        n++;
        run_phases(model, layer, step, team, parts);
        if (n < time || team->gives_to) {
            cyl_barrier(team);
            cyl_give_steps(team, n);
        }
        if (n < time && cyl_checkpoint(team)) {
            if (team->has_left) {
                return n;
            }
            parts = bound->parts; /* all of them */
        }
        if (n == until && (n == time || !goes_on(layer, workspace, team, &until))) {
            return n;
        }
        void *h = step->h_next;
        step->h_next = (void *)(uintptr_t)step->h_previous;
        step->h_previous = h;
        step->operands[1].x = step->masked ? step->masked : h;
        step->descending = !step->descending;
        step->acc = (char *)step->acc + bound->acc_next;
        step->operands[0].x = (const char *)step->operands[0].x + bound->x_next;
        step->y = step->y ? (char *)step->y + bound->y_next : NULL;
        step->codes = step->codes ? step->codes + bound->codes_next : NULL;
    }
}

/* before the first step, by the first thread */
static CYL_SELDOM void begin_run(const CylLayer *layer, CylWorkspace *workspace, bool is_masked) {
    CylLayerState *state = &workspace->states[layer->index];
    const Bound *bound = state->bound;
    if (bound->is_connected) {
        load_states(layer, workspace);
    }
    if (is_masked) {
        code_steps(layer, workspace, bound->time);
    } else {
        memset(state->seen, 1, (size_t)workspace->rows);
    }
}

/* the first step's places */
static inline void begin_step(const CylLayerState *state, const Bound *bound, CylStep *step) {
    step->operands[0].x = bound->x->data + bound->x_first;
    step->y = bound->y->data ? bound->y->data + bound->y_first : NULL;
    step->operands[1].x = step->h_previous = state->h[state->current];
    step->h_next = state->h[1 - state->current];
    step->descending = state->descending;
    step->trace = NULL;
}

static CYL_SELDOM void run_piece(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace,
                                 const CylTeam *team) {
    CylLayerState *state = &workspace->states[layer->index];
    Bound *bound = state->bound;
    const bool is_masked = bound->slot >= 0 && workspace->masks[bound->slot];
    if (team->thread == 0) {
        begin_run(layer, workspace, is_masked);
    }
    /* a step is short: meet only where the others read what the first thread prepared */
    if (is_masked || bound->is_connected) {
        cyl_barrier(team);
    }
    CylStep own_step, *step = &bound->step;
    Part own_parts[CYL_MAX_PHASES], *parts = bound->parts;
    if (team->threads > 1) {
        own_step = bound->step;
        step = &own_step;
        divide_phases(layer->recurrent, team, own_parts);
        parts = own_parts;
    }
    begin_step(state, bound, step);
    if (bound->h_masks) {
        step->operands[1].x = step->masked;
        step->h_masks = bound->h_masks->data;
    }
    step->codes = is_masked ? state->codes + bound->codes_first : NULL;
    const int64_t taken = run_steps(model, layer, workspace, team, bound, step, parts);
    if (team->thread == 0) {
        state->taken = taken;
    }
}

void cyl_recurrent_run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    static const CylTeam alone = {.threads = 1};
    CylLayerState *state = &workspace->states[layer->index];
    Bound *bound = state->bound;
    const bool is_alone = team->threads == 1 && !team->takes_from && !team->gives_to;
    const bool is_masked = bound->slot >= 0 && workspace->masks[bound->slot];
    if (!bound->is_single || !is_alone || is_masked || workspace->stop || state->trace.steps > 0) {
        run_piece(model, layer, workspace, team);
        return;
    }
    state->seen[0] = 1;
    state->taken = 1;
    bound->step.codes = NULL;
    begin_step(state, bound, &bound->step);
    run_phases(model, layer, &bound->step, &alone, bound->parts);
}

void cyl_recurrent_end(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace) {
    const CylLayerState *state = &workspace->states[layer->index];
    if (state->stores_states) {
        store_states(model, layer, workspace);
    }
    if (((const Bound *)state->bound)->zeroes_empty) {
        zero_empty_rows(model, layer, workspace);
    }
}
