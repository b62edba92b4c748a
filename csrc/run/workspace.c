/* The memory of one run over some rows: values, states and scratch, allocated at once. */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "run/recurrent.h"
#include "platform/memory.h"
#include "platform/tuning.h"
#include "run/workspace.h"

#include <stdlib.h>
#include <string.h>

/* A piece of the arena that is in use until a layer has run. */
typedef struct {
    size_t begin, end;
    int32_t last_layer;
} Region;

/* the first gap of `bytes` among the regions still in use when `layer` runs; `regions` are sorted by their begin */
static size_t take_region(Region *regions, int32_t *count, size_t bytes, int32_t layer, int32_t last_layer) {
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        if (regions[i].last_layer >= layer) {
            regions[kept++] = regions[i];
        }
    }
    size_t begin = 0;
    int32_t at = 0;
    while (at < kept && regions[at].begin < cyl_size_add(begin, bytes)) {
        begin = regions[at].end > begin ? regions[at].end : begin;
        at++;
    }
    memmove(regions + at + 1, regions + at, (size_t)(kept - at) * sizeof *regions);
    regions[at] = (Region){begin, cyl_size_add(begin, bytes), last_layer};
    *count = kept + 1;
    return begin;
}

static size_t value_bytes(const CylWorkspace *w, const CylValue *value) {
    size_t used = 0;
    int64_t steps = value->axis >= 0 ? w->capacities[value->axis] : 1;
    cyl_place(NULL, &used, w->rows_capacity, cyl_size_mul((uint64_t)steps, (uint64_t)value->features),
              w->model->kernels->real_size);
    return used;
}

/* whether a value has memory in the arena */
static bool is_stored(const CylValue *value) {
    return value->kind != CYL_MASK && value->kind != CYL_INDEX && value->output < 0 && value->is_read &&
           value->is_given && !value->is_constant && !value->is_passed;
}

/* Places the values: one may take the place of another that no later layer reads. What is carried from one piece of a
   sequence to the next is kept. Returns the bytes of the arena. */
static size_t place_values(CylWorkspace *w, char *memory, Region *regions) {
    const CylModel *model = w->model;
    bool in_pieces = model->is_chunkable || (model->can_stream && !model->is_timeless);
    size_t arena = 0;
    int32_t count = 0;
    for (int32_t v = 0; v < model->value_count; v++) {
        w->own[v] = (CylView){NULL, model->values[v].features, model->values[v].features};
    }
    for (int32_t layer = -1; layer < model->layer_count; layer++) {
        for (int32_t v = 0; v < model->value_count; v++) {
            const CylValue *value = &model->values[v];
            bool is_kept = in_pieces && !value->is_chunked;
            if (!is_stored(value) || (is_kept ? -1 : value->first_layer) != layer) {
                continue;
            }
            int64_t steps = value->axis >= 0 ? w->capacities[value->axis] : 1;
            int32_t last_layer = is_kept ? INT32_MAX : value->last_layer;
            size_t bytes = value_bytes(w, value), begin = take_region(regions, &count, bytes, layer, last_layer);
            if (memory) {
                w->own[v].row_stride = steps * value->features;
                w->own[v].data = memory + begin;
            }
            size_t end = cyl_size_add(begin, bytes);
            arena = end > arena ? end : arena;
        }
    }
    return arena;
}

/* places all but the values; with memory NULL only counts the bytes, which may reach CYL_SIZE_LIMIT */
static size_t place(CylWorkspace *w, char *memory) {
    const CylModel *model = w->model;
    size_t used = 0;
    for (int32_t v = 0; v < model->value_count; v++) {
        const CylValue *value = &model->values[v];
        if (value->slot >= model->input_count) {
            int64_t steps = w->capacities[value->axis];
            w->own_masks[value->slot] = cyl_place(memory, &used, w->rows_capacity, (uint64_t)steps, 1);
        }
    }
    for (int32_t n = 0; n < model->layer_count; n++) {
        if (model->layers[n].kind->bind) {
            used = cyl_size_add(
                used, model->layers[n].kind->bind(model, &model->layers[n], w, memory ? memory + used : NULL));
        }
    }
    return used;
}

/* an array of `bytes` within the workspace's block; with block NULL only counts */
static void *take(char *block, size_t *used, size_t count, size_t bytes) {
    void *at = block ? block + *used : NULL;
    *used = cyl_size_add(*used, cyl_size_round(cyl_size_mul(count, bytes), 8));
    return at;
}

/* The arrays that the workspace counts by inputs, axes, values and layers, and the regions to plan with: one block.
   Returns its bytes. */
static size_t take_arrays(CylWorkspace *w, char *block, Region **regions) {
    const CylModel *model = w->model;
    size_t axes = (size_t)model->axis_count, slots = (size_t)model->slot_count, values = (size_t)model->value_count;
    size_t inputs = (size_t)model->input_count, layers = (size_t)model->layer_count;
    size_t used = 0;
    w->times = take(block, &used, axes, sizeof *w->times);
    w->begins = take(block, &used, axes, sizeof *w->begins);
    w->call_begins = take(block, &used, axes, sizeof *w->call_begins);
    w->call_ends = take(block, &used, axes, sizeof *w->call_ends);
    w->capacities = take(block, &used, axes, sizeof *w->capacities);
    w->masks = take(block, &used, slots, sizeof *w->masks);
    w->mask_strides = take(block, &used, slots, sizeof *w->mask_strides);
    w->own_masks = take(block, &used, slots, sizeof *w->own_masks);
    w->views = take(block, &used, values, sizeof *w->views);
    w->own = take(block, &used, values, sizeof *w->own);
    w->states = take(block, &used, layers, sizeof *w->states);
    w->call_times = take(block, &used, inputs, sizeof *w->call_times);
    w->sources = take(block, &used, inputs, sizeof *w->sources);
    w->targets = take(block, &used, (size_t)model->output_count, sizeof *w->targets);
    w->plan = take(block, &used, layers, sizeof *w->plan);
    *regions = take(block, &used, values + 1, sizeof **regions);
    return used;
}

/* The steps that a stream takes at once. It can end between them only, so they are not more than some 10 ms of work,
   but for a step of a large network and many rows. */
static int64_t stream_steps(const CylModel *model, int64_t rows) {
    const int64_t most = CYL_STREAM_PIECE_WORK, multiple = model->step_multiple;
    int64_t steps = cyl_chunk_steps(model, rows, INT64_MAX), few = most / rows / (model->work > 1 ? model->work : 1);
    few = few < multiple ? multiple : few / multiple * multiple;
    return few < steps ? few : steps;
}

/* the steps that an axis has at most, of an input with room for `capacities`; -1 for more than any */
static int64_t most_steps(const CylWorkspace *w, int32_t axis) {
    const CylModel *model = w->model;
    const int32_t input = model->axes[axis].input;
    const int64_t first = cyl_axis_length(model, axis, w->capacities);
    const int64_t later =
        w->in_pieces && input >= 0 ? cyl_axis_gain(model, axis, model->settles, w->capacities[input]) : first;
    return first < 0 || later < 0 ? -1 : first > later ? first : later;
}

/* Room for all steps of an input, or for a piece of them. CYL_E_MEMORY if an axis made of it is longer than any. */
static CylStatus plan_capacities(CylWorkspace *w, const int64_t *times) {
    const CylModel *model = w->model;
    w->time_capacity = 1;
    for (int32_t a = 0; a < model->axis_count; a++) {
        bool is_input = a < model->input_count && model->axes[a].input >= 0;
        int64_t steps = !is_input ? most_steps(w, a) : times ? times[a] : stream_steps(model, w->rows_capacity);
        if (steps < 1) {
            return CYL_E_MEMORY;
        }
        w->capacities[a] = is_input && w->in_pieces ? cyl_chunk_steps(model, w->rows_capacity, steps) : steps;
        w->time_capacity = w->capacities[a] > w->time_capacity ? w->capacities[a] : w->time_capacity;
    }
    return CYL_OK;
}

CylStatus cyl_workspace_create(const CylModel *model, int64_t rows, const int64_t *times, bool in_pieces, int threads,
                               CylWorkspace **out) {
    *out = NULL;
    CylWorkspace *w = calloc(1, sizeof *w);
    if (!w) {
        return CYL_E_MEMORY;
    }
    w->model = model;
    w->rows_capacity = rows;
    w->threads = threads;
    w->in_pieces = in_pieces;
    Region *regions;
    size_t arrays = take_arrays(w, NULL, &regions);
    w->arrays = cyl_alloc(1, arrays);
    if (!w->arrays) {
        cyl_workspace_free(w);
        return CYL_E_MEMORY;
    }
    take_arrays(w, w->arrays, &regions);
    const bool is_planned = plan_capacities(w, times) == CYL_OK;
    const size_t arena = is_planned ? place_values(w, NULL, regions) : CYL_SIZE_LIMIT;
    const size_t bytes = is_planned ? place(w, NULL) : CYL_SIZE_LIMIT;
    w->bytes = cyl_size_add(cyl_size_add(sizeof *w + arrays, arena), bytes);
    /* calls find in their values what earlier ones left, too */
    w->memory = w->bytes < CYL_SIZE_LIMIT ? cyl_aligned_alloc(bytes) : NULL;
    w->arena = !w->memory ? NULL : times ? cyl_aligned_alloc_unset(arena) : cyl_aligned_alloc(arena);
    if (!w->arena) {
        cyl_workspace_free(w);
        return CYL_E_MEMORY;
    }
    place_values(w, w->arena, regions);
    place(w, w->memory);
    *out = w;
    return CYL_OK;
}

void cyl_workspace_free(CylWorkspace *w) {
    if (!w) {
        return;
    }
    free(w->arrays);
    cyl_aligned_free(w->arena);
    cyl_aligned_free(w->memory);
    free(w);
}

bool cyl_workspace_fits(const CylWorkspace *w, int64_t rows, const int64_t *times, int threads) {
    const CylModel *model = w->model;
    if (w->rows_capacity != rows || w->threads != threads) {
        return false;
    }
    for (int32_t i = 0; i < model->input_count; i++) {
        int64_t room = w->capacities[i];
        /* layers that see all steps at once count on exactly these; pieces may be shorter than there is room for */
        bool is_enough =
            times[i] == room || (w->in_pieces && (times[i] < room || cyl_chunk_steps(model, rows, times[i]) <= room));
        if (model->axes[i].input >= 0 && !is_enough) {
            return false;
        }
    }
    return true;
}

/* bytes from one row to the next of h, or the history, and of c; 0 for a state that the layer does not have */
static size_t h_bytes(const CylModel *model, const CylLayer *layer) {
    int32_t size = layer->recurrent      ? layer->recurrent->output_size
                   : layer->history_size ? layer->history_size
                                         : layer->kept_size;
    return (size_t)cyl_state_stride(size) * model->kernels->real_size;
}
static size_t c_bytes(const CylModel *model, const CylLayer *layer) {
    bool has_c = layer->recurrent->state_count > 1;
    return has_c ? (size_t)cyl_state_stride(layer->recurrent->hidden_size) * model->kernels->real_size : 0;
}

static char *h_row(const CylModel *model, const CylLayer *layer, const CylLayerState *state, int64_t row) {
    return (char *)state->h[state->current] + (size_t)row * h_bytes(model, layer);
}
static char *c_row(const CylModel *model, const CylLayer *layer, const CylLayerState *state, int64_t row) {
    return (char *)state->c + (size_t)row * c_bytes(model, layer);
}

void cyl_layer_state_reset(const CylModel *model, const CylLayer *layer, CylLayerState *state, int64_t first,
                           int64_t count) {
    memset(h_row(model, layer, state, first), 0, (size_t)count * h_bytes(model, layer));
    memset(c_row(model, layer, state, first), 0, (size_t)count * c_bytes(model, layer));
    memset(state->seen + first, 0, (size_t)count);
}

static void reset_layer(CylWorkspace *w, int32_t index, int64_t first, int64_t count) {
    const CylLayer *layer = &w->model->layers[index];
    CylLayerState *state = &w->states[index];
    if (layer->recurrent) {
        cyl_layer_state_reset(w->model, layer, state, first, count);
    } else if (h_bytes(w->model, layer) > 0) {
        memset(h_row(w->model, layer, state, first), 0, (size_t)count * h_bytes(w->model, layer));
    }
}

static void reset_rows(CylWorkspace *w, int64_t first, int64_t count) {
    for (int32_t n = 0; n < w->model->layer_count; n++) {
        reset_layer(w, n, first, count);
    }
}

void cyl_workspace_reset(CylWorkspace *w) { reset_rows(w, 0, w->rows_capacity); }

void cyl_workspace_reset_row(CylWorkspace *w, int64_t row) { reset_rows(w, row, 1); }

void cyl_workspace_forget(CylWorkspace *w, const uint8_t *carried, const uint8_t *active) {
    for (int64_t row = 0; row < w->rows_capacity; row++) {
        for (int32_t n = 0; n < w->model->layer_count && (!active || active[row]); n++) {
            if (!carried[n]) {
                reset_layer(w, n, row, 1);
            } else if (w->model->layers[n].recurrent) {
                w->states[n].seen[row] = 0;
            }
        }
    }
}

/* rows are whole groups of 16 reals, so the pieces are of one size, which the compiler makes plain moves of */
static void swap_row(char *a, char *b, size_t bytes) {
    char kept[CYL_ALIGNMENT];
    for (size_t at = 0; at < bytes; at += sizeof kept) {
        memcpy(kept, a + at, sizeof kept);
        memcpy(a + at, b + at, sizeof kept);
        memcpy(b + at, kept, sizeof kept);
    }
}

void cyl_workspace_swap_rows(CylWorkspace *w, int64_t a, int64_t b) {
    const CylModel *model = w->model;
    for (int32_t n = 0; n < model->layer_count; n++) {
        const CylLayer *layer = &model->layers[n];
        CylLayerState *state = &w->states[n];
        if (h_bytes(model, layer) > 0) {
            swap_row(h_row(model, layer, state, a), h_row(model, layer, state, b), h_bytes(model, layer));
        }
        if (layer->recurrent) {
            swap_row(c_row(model, layer, state, a), c_row(model, layer, state, b), c_bytes(model, layer));
            uint8_t seen = state->seen[a];
            state->seen[a] = state->seen[b];
            state->seen[b] = seen;
        }
    }
}

void cyl_workspace_leave_rows(CylWorkspace *w) {
    for (int32_t n = 0; n < w->model->layer_count; n++) {
        w->states[n].resting = w->states[n].current;
    }
}

void cyl_workspace_rejoin_rows(CylWorkspace *w) {
    for (int32_t n = 0; n < w->model->layer_count; n++) {
        const CylLayer *layer = &w->model->layers[n];
        CylLayerState *state = &w->states[n];
        if (layer->recurrent && state->current != state->resting) {
            memcpy(state->h[state->resting], state->h[state->current], (size_t)w->rows * h_bytes(w->model, layer));
            state->current = state->resting;
        }
    }
}

/* the first layer from layer n on of which something is remembered; the number of layers if there is none */
static int32_t next_kept(const CylModel *model, int32_t n) {
    while (n < model->layer_count && h_bytes(model, &model->layers[n]) == 0) {
        n++;
    }
    return n;
}

bool cyl_workspace_is_alike(const CylWorkspace *w, const CylWorkspace *other) {
    const CylModel *a = w->model, *b = other->model;
    int32_t n = next_kept(a, 0), k = next_kept(b, 0);
    for (; n < a->layer_count && k < b->layer_count; n = next_kept(a, n + 1), k = next_kept(b, k + 1)) {
        const CylLayer *one = &a->layers[n], *two = &b->layers[k];
        if (one->kind != two->kind || h_bytes(a, one) != h_bytes(b, two) ||
            (one->recurrent && c_bytes(a, one) != c_bytes(b, two))) {
            return false;
        }
    }
    return n == a->layer_count && k == b->layer_count && w->rows_capacity == other->rows_capacity &&
           a->settles == b->settles;
}

void cyl_workspace_trace(CylWorkspace *w, const CylLayerTrace *traces, int32_t count) {
    for (int32_t n = 0; n < count; n++) {
        w->states[traces[n].layer].trace = traces[n].to;
    }
}

void cyl_workspace_untrace(CylWorkspace *w, const CylLayerTrace *traces, int32_t count) {
    for (int32_t n = 0; n < count; n++) {
        w->states[traces[n].layer].trace = (CylTrace){.steps = 0};
    }
}

void cyl_workspace_copy_row(CylWorkspace *to, int64_t to_row, const CylWorkspace *from, int64_t from_row) {
    const CylModel *model = to->model;
    int32_t n = next_kept(model, 0), k = next_kept(from->model, 0);
    for (; n < model->layer_count; n = next_kept(model, n + 1), k = next_kept(from->model, k + 1)) {
        const CylLayer *layer = &model->layers[n], *other = &from->model->layers[k];
        const CylLayerState *source = &from->states[k];
        CylLayerState *state = &to->states[n];
        memcpy(h_row(model, layer, state, to_row), h_row(from->model, other, source, from_row), h_bytes(model, layer));
        if (layer->recurrent) {
            memcpy(c_row(model, layer, state, to_row), c_row(from->model, other, source, from_row),
                   c_bytes(model, layer));
            state->seen[to_row] = source->seen[from_row];
        }
    }
}

/* the rows of state array `index`, their width and stride in reals */
static char *state_rows(const CylWorkspace *w, int32_t index, int64_t *size, int64_t *stride) {
    const CylModel *model = w->model;
    *size = model->state_sizes[index];
    *stride = cyl_state_stride(*size);
    for (int32_t n = 0; n < model->layer_count; n++) {
        const CylLayer *layer = &model->layers[n];
        if (layer->history_size && index == layer->first_state) {
            return w->states[n].h[0];
        }
        if (layer->recurrent && index >= layer->first_state &&
            index < layer->first_state + layer->recurrent->state_count) {
            const CylLayerState *state = &w->states[n];
            return index == layer->first_state ? state->h[state->current] : state->c;
        }
    }
    return NULL;
}

void cyl_workspace_set_state(CylWorkspace *w, int32_t index, int64_t rows, const void *from, int64_t row_stride) {
    int64_t size, stride;
    char *states = state_rows(w, index, &size, &stride);
    for (int64_t row = 0; row < rows; row++) {
        w->model->kernels->flush(cyl_at(w->model, from, row * row_stride), cyl_at(w->model, states, row * stride),
                                 size);
    }
}

void cyl_workspace_get_state(const CylWorkspace *w, int32_t index, int64_t rows, void *to) {
    int64_t size, stride;
    const char *states = state_rows(w, index, &size, &stride);
    for (int64_t row = 0; row < rows; row++) {
        memcpy(cyl_at(w->model, to, row * size), cyl_at(w->model, states, row * stride),
               (size_t)size * w->model->kernels->real_size);
    }
}

void cyl_workspace_set_kept(CylWorkspace *w, const CylLayer *layer, int64_t rows, const void *from) {
    for (int64_t row = 0; row < rows; row++) {
        w->model->kernels->flush(cyl_at(w->model, from, row * layer->kept_size),
                                 h_row(w->model, layer, &w->states[layer->index], row), layer->kept_size);
    }
}

void cyl_workspace_get_kept(const CylWorkspace *w, const CylLayer *layer, int64_t rows, void *to) {
    for (int64_t row = 0; row < rows; row++) {
        memcpy(cyl_at(w->model, to, row * layer->kept_size), h_row(w->model, layer, &w->states[layer->index], row),
               (size_t)layer->kept_size * w->model->kernels->real_size);
    }
}

int64_t cyl_chunk_steps(const CylModel *model, int64_t rows, int64_t time) {
    if ((!model->is_chunkable && !model->can_stream) || model->is_timeless) {
        return time;
    }
    int64_t widest = 1;
    for (int32_t v = 0; v < model->value_count; v++) {
        widest = model->values[v].features > widest ? model->values[v].features : widest;
    }
    int64_t steps = CYL_PIECE_REALS / rows / widest, multiple = model->step_multiple;
    steps = steps < CYL_PIECE_LEAST_STEPS ? CYL_PIECE_LEAST_STEPS : steps;
    steps = (steps + multiple - 1) / multiple * multiple;
    return steps < time ? steps : time;
}
