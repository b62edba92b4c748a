/*
 * Running a workspace over a call: some of its rows at once, and a long sequence piece by piece.
 *
 * What a piece needs is resolved before it runs: which layers run, in one list, where each value lies, and what each
 * layer reads and writes that has something to resolve. A piece of the same shape as the one before it, which each step
 * of a stream is, finds all that done; only the addresses of the call's own arrays are new.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/axes.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "run/call.h"
#include "run/pieces.h"
#include "run/recurrent.h"
#include "run/stop.h"
#include "platform/tuning.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdatomic.h>
#include <string.h>

/* The steps that pieces are taken of: those of the input that is chunked, or the most of several. */
static int64_t longest_input(const CylModel *model, const CylCall *call) {
    int64_t longest = 1;
    for (int32_t i = 0; i < model->input_count; i++) {
        bool counts = model->values[model->inputs[i]].is_chunked;
        longest = counts && call->times[i] > longest ? call->times[i] : longest;
    }
    return longest;
}

/* the most steps that are run at once, of `total` */
static int64_t steps_at_once(const CylWorkspace *w, int64_t total) {
    const CylModel *model = w->model;
    int64_t steps = total;
    for (int32_t i = 0; w->in_pieces && total > 1 && i < model->input_count; i++) {
        bool is_less = model->values[model->inputs[i]].is_chunked && w->capacities[i] < steps;
        steps = is_less ? w->capacities[i] : steps;
    }
    return steps;
}

/* ---- binding: what depends on the shape of a piece alone ---- */

static void bind_input(CylWorkspace *w, const CylCall *call, const CylPiece *piece, int32_t i) {
    const int32_t v = w->model->inputs[i];
    const CylValue *value = &w->model->values[v];
    const bool in_pieces = w->in_pieces && value->is_chunked;
    const int64_t time = value->has_time ? call->times[i] : 1, skipped = in_pieces ? piece->first_step : 0;
    const int64_t item = (int64_t)(value->kind == CYL_INDEX ? sizeof(int32_t) : w->model->kernels->real_size);
    w->times[i] = in_pieces ? piece->steps : time;
    w->mask_strides[i] = time;
    const bool is_raw = value->may_be_raw && !w->is_stream; /* a stream shows what it keeps of an input */
    w->views[v].row_stride = (value->kind == CYL_INDEX ? time : w->times[i]) * value->features;
    w->sources[i] = (CylSource){.view = &w->views[v],
                                .own = w->own[v].data,
                                .skipped = skipped,
                                .offset = skipped * value->features * item,
                                .row_stride = time * value->features * item,
                                .count = w->times[i] * value->features,
                                .is_loaded = w->own[v].data && (value->is_chunked || piece->first_step == 0),
                                .may_stay = (w->loads_alone || w->threads == 1 || is_raw) &&
                                            (piece->rows == 1 || w->times[i] == time) &&
                                            (value->is_chunked || piece->steps == piece->total),
                                .is_raw = is_raw};
}

static void bind_output(CylWorkspace *w, const CylCall *call, const CylPiece *piece, int32_t o) {
    const CylModel *model = w->model;
    const int32_t v = model->outputs[o];
    const CylValue *value = &model->values[v];
    const int64_t time = cyl_call_steps(model, call, value, w->taken);
    const int64_t skipped = value->is_chunked ? w->begins[value->axis] - w->call_begins[value->axis] : 0;
    w->views[v].step_stride = value->features;
    w->views[v].row_stride = time * value->features;
    w->targets[o].view = &w->views[v];
    w->targets[o].offset = (piece->first_row * time + skipped) * value->features * (int64_t)model->kernels->real_size;
}

/* whether a chunked layer has steps in this piece: too few may have come for an axis to have any */
static bool has_steps(const CylWorkspace *w, const CylLayer *layer) {
    bool reads_chunked = false;
    for (int32_t i = 0; i < layer->input_count; i++) {
        const CylValue *value = &w->model->values[layer->inputs[i]];
        if (value->is_chunked && w->times[value->axis] > 0) {
            return true;
        }
        reads_chunked = reads_chunked || value->is_chunked;
    }
    return !reads_chunked;
}

/* Sets where each axis is: before this piece, and in the call. */
static void place_axes(CylWorkspace *w, const CylCall *call, const CylPiece *piece) {
    const CylModel *model = w->model;
    for (int32_t a = 0; a < model->axis_count; a++) {
        const int32_t input = model->axes[a].input;
        w->begins[a] = w->call_begins[a] = 0;
        if (input < 0) {
            w->call_ends[a] = model->axes[a].constant;
        } else {
            w->begins[a] = cyl_axis_after(model, a, piece->taken + piece->first_step);
            w->call_begins[a] = cyl_axis_after(model, a, piece->taken);
            w->call_ends[a] = cyl_axis_after(model, a, piece->taken + call->times[input]);
        }
        if (a >= model->input_count) {
            w->times[a] = cyl_axis_gain(model, a, piece->taken + piece->first_step, input < 0 ? 0 : w->times[input]);
        }
    }
}

/* the layers that run in this piece: those without a piece's time before the first one, or, if they need the end of the
   sequence, after the last one */
static void plan_layers(CylWorkspace *w) {
    w->planned = 0;
    for (int32_t n = 0; n < w->model->layer_count; n++) {
        const CylLayer *layer = &w->model->layers[n];
        if (layer->is_follower || (layer->y >= 0 && cyl_is_shared(&w->model->values[layer->y]))) {
            continue; /* its numbers are there, or come with another layer's */
        }
        if (layer->is_chunked ? has_steps(w, layer) : layer->is_late ? w->is_last_chunk : w->is_first_chunk) {
            w->plan[w->planned++] = (CylPlanned){layer, layer->kind->run, &w->states[n]};
        }
    }
}

static CYL_SELDOM void bind(CylWorkspace *w, const CylCall *call, const CylPiece *piece) {
    const CylModel *model = w->model;
    w->bound = *piece;
    w->loads_alone = piece->rows * piece->steps * model->input_reals <= CYL_LOADED_ALONE;
    w->rows = piece->rows;
    w->first_row = piece->first_row;
    w->first_step = piece->first_step;
    w->is_first_chunk = piece->first_step == 0;
    w->is_last_chunk = piece->first_step + piece->steps >= piece->total;
    memcpy(w->views, w->own, (size_t)model->value_count * sizeof *w->views);
    memcpy(w->call_times, call->times, (size_t)model->input_count * sizeof *w->call_times);
    for (int32_t i = 0; i < model->input_count; i++) {
        bind_input(w, call, piece, i);
    }
    place_axes(w, call, piece);
    for (int32_t v = 0; v < model->value_count && model->slot_count > model->input_count; v++) {
        int32_t slot = model->values[v].slot;
        if (slot >= model->input_count) {
            w->masks[slot] = w->own_masks[slot];
            w->mask_strides[slot] = w->times[model->values[v].axis];
        }
    }
    for (int32_t o = 0; o < model->output_count; o++) {
        bind_output(w, call, piece, o);
    }
    plan_layers(w);
    for (int32_t n = 0; n < w->planned; n++) {
        const CylLayer *layer = w->plan[n].layer;
        if (layer->kind->resolve) {
            layer->kind->resolve(model, layer, w);
        }
    }
    w->is_short = model->input_count == 1 && model->output_count == 1 && piece->first_row == 0 &&
                  piece->steps == piece->total && w->loads_alone && w->sources[0].is_loaded && w->sources[0].may_stay;
}

void cyl_bind_rows(CylWorkspace *w, const CylCall *call, int64_t first_row, int64_t rows) {
    int64_t total = longest_input(w->model, call);
    bind(w, call, &(CylPiece){first_row, rows, 0, steps_at_once(w, total), total, w->taken});
}

/* ---- the arrays of the call ---- */

/* Whether the subnormal rule changes any of these numbers: -0, or one below the threshold that is not +0. */
static inline bool has_tiny(const CylModel *model, const char *numbers, int64_t count) {
    typedef int32_t Four __attribute__((vector_size(16)));
    const int32_t threshold = 0x2b800000, magnitude = INT32_MAX; /* the bits of CYL_TINY, and all but the sign */
    if (model->kernels->real_size != sizeof(float)) {
        return false;
    }
    int32_t any = 0;
    if (count >= 4) {
        Four found = {0};
        for (; count >= 4; count -= 4, numbers += sizeof found) {
            Four bits;
            memcpy(&bits, numbers, sizeof bits);
            found |= ((bits & magnitude) < threshold) & (bits != 0);
        }
        any = found[0] | found[1] | found[2] | found[3];
    }
    for (; count > 0; count--, numbers += sizeof(float)) {
        int32_t bits;
        memcpy(&bits, numbers, sizeof bits);
        any |= ((bits & magnitude) < threshold) & (bits != 0);
    }
    return any != 0;
}

/* rows [begin, end) of an input into the workspace, with the subnormal rule */
static CYL_SELDOM void load_rows(CylWorkspace *w, const char *array, const CylSource *source, int64_t begin,
                                 int64_t end) {
    const CylModel *model = w->model;
    const int64_t count = source->count;
    for (int64_t row = begin; row < end; row++) {
        const char *from = array + cyl_call_row(w, row) * source->row_stride + source->offset;
        int64_t at_once = w->stop && count > CYL_LOADED_AT_ONCE ? CYL_LOADED_AT_ONCE : count;
        for (int64_t first = 0; first < count && !(first > 0 && cyl_stop_look(w->stop)); first += at_once) {
            model->kernels->flush(cyl_at(model, from, first), cyl_at(model, source->own, row * count + first),
                                  count - first < at_once ? count - first : at_once);
        }
    }
}

/* all inputs, of which each thread loads some rows */
static CYL_SELDOM void load_shared(CylWorkspace *w, const CylCall *call, const CylTeam *team) {
    int64_t begin, end;
    cyl_share(team, w->rows, &begin, &end);
    for (int32_t i = 0; i < w->model->input_count; i++) {
        if (w->sources[i].is_loaded && w->sources[i].view->data == w->sources[i].own) {
            load_rows(w, call->inputs[i], &w->sources[i], begin, end);
        }
    }
}

static CYL_SELDOM void point_at_masks(CylWorkspace *w, const CylCall *call) {
    for (int32_t i = 0; i < w->model->input_count; i++) {
        const uint8_t *mask = call->masks ? call->masks[i] : NULL;
        w->masks[i] = mask ? mask + w->sources[i].skipped : NULL;
    }
    w->has_masks = call->masks != NULL;
}

/* has_tiny for many numbers; if the call is to end it does not matter */
static CYL_SELDOM bool finds_tiny(const CylWorkspace *w, const char *numbers, int64_t count) {
    const int64_t at_once = w->stop ? CYL_LOADED_AT_ONCE : count;
    for (int64_t first = 0; first < count && !(first > 0 && cyl_stop_look(w->stop)); first += at_once) {
        if (w->model->kernels->has_tiny(cyl_at(w->model, numbers, first),
                                        count - first < at_once ? count - first : at_once)) {
            return true;
        }
    }
    return false;
}

/* The piece's places in the arrays of this call. A thread that loads the inputs alone looks whether the subnormal rule
   leaves all numbers as they are, unless the layers that read them do, and then they are read where they are: looking
   takes less time than copying, and a kernel that reads what was just written waits. */
static inline __attribute__((always_inline)) void begin_piece(CylWorkspace *w, const CylCall *call) {
    const CylModel *model = w->model;
    const CylSource *source = w->sources, *const last_source = source + model->input_count;
    const CylTarget *target = w->targets, *const last_target = target + model->output_count;
    const void *const *arrays = call->inputs;
    for (; source < last_source; source++, arrays++) {
        char *from = (char *)(uintptr_t)*arrays + source->offset;
        if (!source->is_loaded) {
            source->view->data = source->own ? source->own : from; /* indices: in the rows of the call */
            continue;
        }
        char *rows = from + w->first_row * source->row_stride;
        const int64_t count = w->rows * source->count;
        if (source->may_stay && !w->order &&
            (source->is_raw || !(w->loads_alone ? has_tiny(model, rows, count) : finds_tiny(w, rows, count)))) {
            source->view->data = rows;
            continue;
        }
        source->view->data = source->own;
        if (w->loads_alone) {
            load_rows(w, *arrays, source, 0, w->rows);
        }
    }
    if (w->has_masks || call->masks) {
        point_at_masks(w, call);
    }
    for (void *const *outputs = call->outputs; target < last_target; target++, outputs++) {
        target->view->data = (char *)*outputs + target->offset;
    }
}

/* ---- running the layers of a piece ---- */

/* what comes after a layer's run, by the first thread */
static inline void end_layer(CylWorkspace *w, const CylLayer *layer, CylLayerState *state) {
    if (state->taken & 1) {
        state->current = 1 - state->current;
        state->descending = !state->descending;
    }
    if (state->has_end) {
        cyl_recurrent_end(w->model, layer, w);
    }
}

/* All of the team meet where a layer ends, or layers that ran beside each other. What is known only then is written by
   the first thread, and may be read afterwards. */
static inline void end_layers(CylWorkspace *w, const CylLayer *layers, int32_t count, const CylTeam *team) {
    bool is_read = false;
    cyl_barrier(team);
    for (const CylLayer *layer = layers; layer < layers + count; layer++) {
        CylLayerState *state = &w->states[layer->index];
        is_read |= state->stores_states;
        if (team->thread == 0) { /* which may be about to bind the next piece */
            end_layer(w, layer, state);
        }
    }
    if (is_read) {
        cyl_barrier(team);
    }
}

/* A layer and the next, each by half of the team: its threads need not meet the others at every step. A layer that the
   other feeds follows it as close as it can: a wavefront over the layers. */
static CYL_SELDOM void run_pair(CylWorkspace *w, const CylLayer *layer, const CylTeam *team) {
    CylTeam half;
    const int which = cyl_team_half(team, &half);
    half.gives_to = layer->feeds_next && which == 0 ? &w->handover : NULL;
    half.takes_from = layer->feeds_next && which == 1 ? &w->handover : NULL;
    layer[which].kind->run(w->model, &layer[which], w, &half);
    if (w->stop) { /* the thread that made the call must not wait at a barrier while it could ask */
        if (which == 1 && half.thread == 0) {
            atomic_store_explicit(&w->second_halves, 1, memory_order_release);
        }
        if (team->thread == 0) {
            cyl_stop_wait(w->stop, &w->second_halves, 1);
            atomic_store_explicit(&w->second_halves, 0, memory_order_relaxed);
        }
    }
    if (half.takes_from && half.thread == 0) {
        atomic_store_explicit(&w->handover.given, 0, memory_order_relaxed);
    }
    end_layers(w, layer, 2, team);
}

/* whether a layer and the next run in halves of the team */
static inline bool runs_in_halves(const CylWorkspace *w, const CylLayer *layer, const CylTeam *team) {
    return team->threads > 1 && team->threads % 2 == 0 &&
           ((layer->runs_beside_next && cyl_steps(w, layer[1].x) > 0) ||
            (layer->feeds_next && cyl_steps(w, layer->x) >= CYL_FED_STEPS));
}

/* whether all of the team leave the call, between two layers or pieces */
static CYL_SELDOM bool leaves(CylWorkspace *w, CylStop *stop, const CylTeam *team) {
    if (team->thread == 0) {
        w->is_stopped = cyl_stop_look(stop);
    }
    cyl_barrier(team);
    return w->is_stopped;
}

/* multiply-adds of a layer in this piece, and the numbers that it writes */
static double work_of_layer(const CylWorkspace *w, const CylLayer *layer) {
    const CylModel *model = w->model;
    double each = (double)layer->work + (layer->y >= 0 ? model->values[layer->y].features : 0);
    return each * (double)w->rows * (double)cyl_steps(w, layer->x >= 0 ? layer->x : layer->y);
}

/* Whether the call is to end before this layer, which is looked after so much work: `*work` of it since the last look.
 */
static CYL_SELDOM bool ends_before(CylWorkspace *w, const CylLayer *layer, const CylTeam *team, double *work) {
    if (*work > CYL_WORK_BETWEEN_LAYERS) {
        *work = 0.0;
        if (leaves(w, w->stop, team)) {
            return true;
        }
    }
    *work += work_of_layer(w, layer);
    return false;
}

/* The layers of a piece, one after the other. Returns false if the call is to end. */
static inline __attribute__((always_inline)) bool run_layers(CylWorkspace *w, const CylTeam *team) {
    const int32_t planned = w->planned;
    double work = 0.0;
    if (planned == 0) {
        cyl_barrier(team); /* nobody may still read what the first thread binds anew */
    }
    for (int32_t n = 0; n < planned; n++) {
        const CylLayer *layer = w->plan[n].layer;
        if (w->stop && ends_before(w, layer, team, &work)) {
            return false;
        }
        if (runs_in_halves(w, layer, team)) {
            run_pair(w, layer, team);
            n++;
        } else {
            layer->kind->run(w->model, layer, w, team);
            if (team->has_left) {
                return false;
            }
            end_layers(w, layer, 1, team);
        }
        if (cyl_checkpoint(team) && team->has_left) {
            return false;
        }
    }
    return true;
}

/* the next piece, by the first thread */
static CYL_SELDOM void next_piece(CylWorkspace *w, const CylCall *call, int64_t done, int64_t steps) {
    bind(w, call, &(CylPiece){w->first_row, w->rows, done, steps, w->bound.total, w->taken});
    begin_piece(w, call);
}

static inline __attribute__((always_inline)) int64_t run_pieces(CylWorkspace *w, const CylCall *call,
                                                                const CylTeam *team, CylStop *stop) {
    const int64_t total = w->bound.total, at_once = w->bound.steps;
    for (int64_t done = 0;;) {
        if (!w->loads_alone) {
            load_shared(w, call, team);
            cyl_barrier(team);
        }
        if (!run_layers(w, team)) {
            return done;
        }
        done += at_once;
        if (done >= total) {
            return total;
        }
        if (stop && leaves(w, stop, team)) {
            return done;
        }
        if (team->thread == 0) {
            const int64_t steps = total - done < at_once ? total - done : at_once;
            next_piece(w, call, done, steps);
        }
        cyl_barrier(team);
    }
}

void cyl_begin_rows(CylWorkspace *w, const CylCall *call) { begin_piece(w, call); }

int64_t cyl_run_rows_on_team(CylWorkspace *w, const CylCall *call, const CylTeam *team, CylStop *stop) {
    return run_pieces(w, call, team, stop);
}

/* the same of a piece that `is_short`, by a thread that is alone and asks nothing */
static inline __attribute__((always_inline)) void run_short(CylWorkspace *w, const CylCall *call, const CylTeam *team) {
    const CylModel *model = w->model;
    const CylSource *source = w->sources;
    char *x = (char *)(uintptr_t)call->inputs[0];
    source->view->data = x;
    w->targets->view->data = call->outputs[0];
    if (has_tiny(model, x, w->rows * source->count)) {
        source->view->data = source->own;
        load_rows(w, x, source, 0, w->rows);
    }
    const CylPlanned *const last = w->plan + w->planned;
    for (const CylPlanned *planned = w->plan; planned < last; planned++) {
        planned->run(model, planned->layer, w, team);
        end_layer(w, planned->layer, planned->state);
    }
}

int64_t cyl_run_rows(CylWorkspace *w, const CylCall *call, CylStop *stop) {
    static const CylTeam alone = {.threads = 1};
    if (w->is_short && !stop && !w->order && !w->has_masks && !call->masks) {
        run_short(w, call, &alone);
        return w->bound.total;
    }
    begin_piece(w, call);
    return run_pieces(w, call, &alone, stop);
}
