/*
 * Cumulate: y[i] = x[0] (op) x[1] (op) ... (op) x[i] along one axis, or without x[i] (exclusive), or from the end on
 * (reverse). The op is +, *, the maximum or the minimum, NaN being both.
 *
 * The running number is a double, rounded where it is stored in y. Over a time of any length it is the layer's state,
 * so that a sequence may come in pieces.
 */
#include "cylstm.h"
#include "layers/along.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <math.h>
#include <string.h>

typedef enum { SUM = 0, PROD, MAX, MIN } Mode;

typedef struct {
    CylAlong along;
    Mode mode;
    bool is_reverse, is_exclusive;
} Cumulate;

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const modes[] = {"sum", "prod", "max", "min", NULL};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Cumulate *cumulate = layer->data;
    int mode;
    CYL_TRY(cyl_spec_choice(spec, "mode", modes, &mode));
    CYL_TRY(cyl_spec_flag(spec, "reverse", &cumulate->is_reverse));
    CYL_TRY(cyl_spec_flag(spec, "exclusive", &cumulate->is_exclusive));
    CYL_TRY(cyl_along_read(model, layer, spec, &cumulate->along));
    cumulate->mode = (Mode)mode;
    if (x->features != y->features || x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    const bool over_time = cumulate->along.over_time;
    layer->is_whole = over_time && cumulate->is_reverse;
    layer->work = 4 * (int64_t)x->features;
    if (over_time && !x->time && !cumulate->is_reverse) {
        if (x->features > (1 << 28) / 3) {
            return CYL_E_VALUE;
        }
        layer->history_size = 3 * x->features;
    }
    return CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    size_t used = 0;
    CylLayerState state = {0};
    state.h[0] = cyl_place(memory, &used, workspace->rows_capacity, (uint64_t)cyl_state_stride(layer->history_size),
                           model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* the number that changes no other */
static double neutral(Mode mode) {
    static const double numbers[] = {0.0, 1.0, -INFINITY, INFINITY};
    return numbers[mode];
}

static uint64_t bits_of(double a) {
    uint64_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

/*
 * The state of a running number is its 64 bits, as three whole numbers of 22, 21 and 21 bits, `size` apart, which
 * float holds exactly. Those of the neutral number are 0, the state before the first step. A state that a user set may
 * hold anything: what is no such number counts as 0.
 */
static const int PART_BITS = 21;

static double read_state(const CylModel *model, const char *state, int64_t at, int64_t size, Mode mode) {
    uint64_t bits = 0;
    for (int part = 0; part < 3; part++) {
        double number = cyl_get(model, state, part * size + at);
        bits = bits << PART_BITS | (number >= 0.0 && number < 0x1p22 ? (uint64_t)number : 0);
    }
    bits ^= bits_of(neutral(mode));
    double running;
    memcpy(&running, &bits, sizeof running);
    return running;
}

static void write_state(const CylModel *model, char *state, int64_t at, int64_t size, Mode mode, double running) {
    const uint64_t bits = bits_of(running) ^ bits_of(neutral(mode)), low = (1u << PART_BITS) - 1;
    cyl_set(model, state, at, (double)(bits >> 2 * PART_BITS));
    cyl_set(model, state, size + at, (double)(bits >> PART_BITS & low));
    cyl_set(model, state, 2 * size + at, (double)(bits & low));
}

static double next(Mode mode, double running, double a) {
    switch (mode) {
    case SUM:
        return running + a;
    case PROD:
        return running * a;
    case MAX:
        return a > running || a != a ? a : running;
    default:
        return a < running || a != a ? a : running;
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Cumulate *cumulate = layer->data;
    const CylAlong *along = &cumulate->along;
    const Mode mode = cumulate->mode;
    int64_t pieces = cyl_along_pieces(along, layer, workspace), size = cyl_along_size(along, layer, workspace);
    CylItems items;
    for (int64_t j = cyl_along_items(&items, along, layer, workspace, team); cyl_goes_on(&items, j); j++) {
        const CylLines lines = cyl_along_lines(along, pieces, j);
        const char *x = cyl_step_at(workspace, layer->x, lines.row, lines.piece);
        char *y = cyl_step_at(workspace, layer->y, lines.row, lines.piece);
        char *state = NULL;
        if (layer->history_size) {
            state =
                cyl_at(model, workspace->states[layer->index].h[0], lines.row * cyl_state_stride(layer->history_size));
        }
        double running[CYL_LINES];
        int64_t first[CYL_LINES];
        for (int32_t n = 0; n < lines.count; n++) {
            first[n] = cyl_along_first(along, size, lines.first + n);
            running[n] = state ? read_state(model, state, lines.first + n, along->inner, mode) : neutral(mode);
        }
        for (int64_t i = 0; i < size; i++) {
            int64_t place = (cumulate->is_reverse ? size - 1 - i : i) * along->inner;
            for (int32_t n = 0; n < lines.count; n++) {
                const double before = running[n];
                running[n] = next(mode, before, cyl_get(model, x, first[n] + place));
                cyl_set_flushed(model, y, first[n] + place, cumulate->is_exclusive ? before : running[n]);
            }
        }
        for (int32_t n = 0; n < lines.count && state; n++) {
            write_state(model, state, lines.first + n, along->inner, mode, running[n]);
        }
    }
}

const CylLayerKind cyl_layer_cumulate = {.data_size = sizeof(Cumulate), .prepare = prepare, .bind = bind, .run = run};
