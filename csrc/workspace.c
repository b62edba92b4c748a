/* The memory of one run over some rows: values, states and scratch, allocated at once. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* places everything; with memory NULL only counts the bytes */
static size_t place(CylWorkspace *w, char *memory) {
    const CylModel *model = w->model;
    size_t used = 0, real = model->kernels->real_size;
    for (int32_t v = 0; v < model->value_count; v++) {
        const CylValue *value = &model->values[v];
        w->own[v] = (CylView){NULL, value->features, value->features};
        if (value->kind == CYL_MASK || value->output >= 0 || !value->is_read) {
            continue;
        }
        int64_t steps = value->kind == CYL_SEQUENCE ? w->time_capacity : 1;
        w->own[v].row_stride = steps * value->features;
        w->own[v].data = cyl_place(memory, &used, (size_t)(w->rows_capacity * w->own[v].row_stride) * real);
    }
    for (int32_t n = 0; n < model->node_count; n++) {
        if (model->nodes[n].layer->bind) {
            used += model->nodes[n].layer->bind(model, &model->nodes[n], w, memory ? memory + used : NULL);
        }
    }
    return used;
}

CylStatus cyl_workspace_create(const CylModel *model, int64_t rows, int64_t time, int threads, CylWorkspace **out) {
    *out = NULL;
    CylWorkspace *w = calloc(1, sizeof *w);
    if (!w) {
        return CYL_E_MEMORY;
    }
    w->model = model;
    w->rows_capacity = rows;
    w->time_capacity = time;
    w->threads = threads;
    size_t inputs = (size_t)model->input_count, values = (size_t)model->value_count;
    w->times = calloc(inputs, sizeof *w->times);
    w->masks = calloc(inputs, sizeof *w->masks);
    w->mask_strides = calloc(inputs, sizeof *w->mask_strides);
    w->views = calloc(values, sizeof *w->views);
    w->own = calloc(values, sizeof *w->own);
    w->states = calloc((size_t)model->node_count, sizeof *w->states);
    if (!w->times || !w->masks || !w->mask_strides || !w->views || !w->own || !w->states) {
        cyl_workspace_free(w);
        return CYL_E_MEMORY;
    }
    /* sizes that could overflow are far beyond what a machine holds */
    double estimate = 0.0;
    for (int32_t v = 0; v < model->value_count; v++) {
        estimate += (double)rows * (double)time * model->values[v].features * 8.0;
    }
    if (estimate > 1e15) {
        cyl_workspace_free(w);
        return CYL_E_MEMORY;
    }
    w->memory = cyl_aligned_alloc(place(w, NULL));
    if (!w->memory) {
        cyl_workspace_free(w);
        return CYL_E_MEMORY;
    }
    place(w, w->memory);
    *out = w;
    return CYL_OK;
}

void cyl_workspace_free(CylWorkspace *w) {
    if (!w) {
        return;
    }
    free(w->times);
    free(w->masks);
    free(w->mask_strides);
    free(w->views);
    free(w->own);
    free(w->states);
    cyl_aligned_free(w->memory);
    free(w);
}

/* bytes from one row to the next of h and c; 0 for a state that the node does not have */
static size_t h_bytes(const CylModel *model, const CylNode *node) {
    return (size_t)cyl_state_stride(node->recurrent->output_size) * model->kernels->real_size;
}
static size_t c_bytes(const CylModel *model, const CylNode *node) {
    bool has_c = node->recurrent->state_count > 1;
    return has_c ? (size_t)cyl_state_stride(node->recurrent->hidden_size) * model->kernels->real_size : 0;
}

static char *h_row(const CylModel *model, const CylNode *node, const CylNodeState *state, int64_t row) {
    return (char *)state->h[state->current] + (size_t)row * h_bytes(model, node);
}
static char *c_row(const CylModel *model, const CylNode *node, const CylNodeState *state, int64_t row) {
    return (char *)state->c + (size_t)row * c_bytes(model, node);
}

void cyl_node_state_reset(const CylModel *model, const CylNode *node, CylNodeState *state, int64_t first,
                          int64_t count) {
    memset(h_row(model, node, state, first), 0, (size_t)count * h_bytes(model, node));
    memset(c_row(model, node, state, first), 0, (size_t)count * c_bytes(model, node));
    memset(state->seen + first, 0, (size_t)count);
}

static void reset_rows(CylWorkspace *w, int64_t first, int64_t count) {
    for (int32_t n = 0; n < w->model->node_count; n++) {
        if (w->model->nodes[n].recurrent) {
            cyl_node_state_reset(w->model, &w->model->nodes[n], &w->states[n], first, count);
        }
    }
}

void cyl_workspace_reset(CylWorkspace *w) { reset_rows(w, 0, w->rows_capacity); }

void cyl_workspace_reset_row(CylWorkspace *w, int64_t row) { reset_rows(w, row, 1); }

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
    for (int32_t n = 0; n < model->node_count; n++) {
        const CylNode *node = &model->nodes[n];
        CylNodeState *state = &w->states[n];
        if (node->recurrent) {
            swap_row(h_row(model, node, state, a), h_row(model, node, state, b), h_bytes(model, node));
            swap_row(c_row(model, node, state, a), c_row(model, node, state, b), c_bytes(model, node));
            uint8_t seen = state->seen[a];
            state->seen[a] = state->seen[b];
            state->seen[b] = seen;
        }
    }
}

void cyl_workspace_leave_rows(CylWorkspace *w, int64_t count) {
    w->rows = count;
    for (int32_t n = 0; n < w->model->node_count; n++) {
        w->states[n].resting = w->states[n].current;
    }
}

void cyl_workspace_rejoin_rows(CylWorkspace *w) {
    for (int32_t n = 0; n < w->model->node_count; n++) {
        const CylNode *node = &w->model->nodes[n];
        CylNodeState *state = &w->states[n];
        if (node->recurrent && state->current != state->resting) {
            memcpy(state->h[state->resting], state->h[state->current], (size_t)w->rows * h_bytes(w->model, node));
            state->current = state->resting;
        }
    }
    w->rows = w->rows_capacity;
}

void cyl_workspace_copy_row(CylWorkspace *to, int64_t to_row, const CylWorkspace *from, int64_t from_row) {
    const CylModel *model = to->model;
    for (int32_t n = 0; n < model->node_count; n++) {
        const CylNode *node = &model->nodes[n];
        const CylNodeState *source = &from->states[n];
        CylNodeState *state = &to->states[n];
        if (node->recurrent) {
            memcpy(h_row(model, node, state, to_row), h_row(model, node, source, from_row), h_bytes(model, node));
            memcpy(c_row(model, node, state, to_row), c_row(model, node, source, from_row), c_bytes(model, node));
            state->seen[to_row] = source->seen[from_row];
        }
    }
}

/* the rows of state array `index`, their width and stride in reals */
static char *state_rows(const CylWorkspace *w, int32_t index, int64_t *size, int64_t *stride) {
    const CylModel *model = w->model;
    *size = model->state_sizes[index];
    *stride = cyl_state_stride(*size);
    for (int32_t n = 0; n < model->node_count; n++) {
        const CylNode *node = &model->nodes[n];
        if (node->recurrent && index >= node->first_state && index < node->first_state + node->recurrent->state_count) {
            const CylNodeState *state = &w->states[n];
            return index == node->first_state ? state->h[state->current] : state->c;
        }
    }
    return NULL;
}

void cyl_workspace_set_state(CylWorkspace *w, int32_t index, const void *from) {
    int64_t size, stride;
    char *rows = state_rows(w, index, &size, &stride);
    for (int64_t row = 0; row < w->rows; row++) {
        w->model->kernels->flush(cyl_at(w->model, from, row * size), cyl_at(w->model, rows, row * stride), size);
    }
}

void cyl_workspace_get_state(const CylWorkspace *w, int32_t index, void *to) {
    int64_t size, stride;
    const char *rows = state_rows(w, index, &size, &stride);
    for (int64_t row = 0; row < w->rows; row++) {
        memcpy(cyl_at(w->model, to, row * size), cyl_at(w->model, rows, row * stride),
               (size_t)size * w->model->kernels->real_size);
    }
}

int64_t cyl_chunk_steps(const CylModel *model, int64_t rows, int64_t time) {
    if (!model->is_chunkable) {
        return time;
    }
    /* a chunk's values should stay in the second cache */
    const int64_t reals = 32768, least = 8;
    int64_t widest = 1;
    for (int32_t v = 0; v < model->value_count; v++) {
        widest = model->values[v].features > widest ? model->values[v].features : widest;
    }
    int64_t steps = reals / rows / widest;
    steps = steps < least ? least : steps;
    return steps < time ? steps : time;
}
