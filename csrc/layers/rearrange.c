/*
 * Layers that only move numbers: each axis of the result takes its numbers from one axis of x.
 *
 * Number i of an axis comes from number (i*step + start) / divide of x's axis; where that lies outside x it is what the
 * padding says. reshape: the same numbers in the same order. permute: the axes in another order. slice: start and step.
 * pad: start negative. upsample: divide. repeat_vector: an axis that x has not, of step 0.
 */
#include "cylstm.h"
#include "layers/layers.h"
#include "layers/rearrange.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/kept.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef enum { FILL_ZERO = 0, FILL_REFLECT, FILL_REPLICATE, FILL_CIRCULAR } Fill;

typedef struct {
    int32_t rank;               /* of the result, time included */
    int32_t from[CYL_MAX_RANK]; /* axis of x */
    int64_t step[CYL_MAX_RANK], start[CYL_MAX_RANK], divide[CYL_MAX_RANK];
    bool starts_at_end[CYL_MAX_RANK]; /* start counts from the end of x's axis */
    Fill fill;
    bool is_cropped; /* a part of the time, up to a number of steps before its end, which later pieces may have */
} Map;

/* Reads a whole number of at least `least`. */
static CylStatus read_whole(const CylLayerSpec *spec, const char *name, int32_t least, int64_t *number) {
    int32_t found;
    CYL_TRY(cyl_spec_whole(spec, name, least, 1 << 24, &found));
    *number = found;
    return CYL_OK;
}

/* sizes of all axes of a value, time first; returns their number */
static int32_t sizes_of(const CylValue *value, int64_t steps, int64_t *sizes) {
    int32_t rank = 0;
    if (value->has_time) {
        sizes[rank++] = steps;
    }
    for (int32_t i = 0; i < value->rank; i++) {
        sizes[rank++] = value->shape[i];
    }
    return rank;
}

/* Makes the layer's map the identity of y's rank. */
static CylStatus start(const CylModel *model, CylLayer *layer) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Map *map = layer->data;
    layer->work = 1;
    map->rank = y->rank + y->has_time;
    for (int32_t i = 0; i < map->rank; i++) {
        map->from[i] = i;
        map->step[i] = map->divide[i] = 1;
    }
    return x->kind == CYL_INDEX || x->kind == CYL_MASK ? CYL_E_VALUE : CYL_OK;
}

/* Reads an axis; x and y must have the same rank and agree in all other axes. */
static CylStatus read_axis(const CylModel *model, const CylLayer *layer, const CylLayerSpec *spec, int32_t *axis) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    int64_t a[CYL_MAX_RANK], b[CYL_MAX_RANK];
    int32_t given, rank = sizes_of(x, x->time, a);
    CYL_TRY(cyl_spec_whole(spec, "axis", 0, rank - 1, &given));
    if (x->has_time != y->has_time || sizes_of(y, y->time, b) != rank) {
        return CYL_E_VALUE;
    }
    *axis = given;
    for (int32_t i = 0; i < rank; i++) {
        if (i != *axis && a[i] != b[i]) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
}

static bool is_time(const CylModel *model, const CylLayer *layer, int32_t axis) {
    return model->values[layer->x].has_time && axis == 0;
}

/* sets the rule of the time axis, or checks the size of another */
static CylStatus finish_axis(const CylModel *model, CylLayer *layer, int32_t axis, CylTimeRule rule) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (is_time(model, layer, axis)) {
        layer->time_kind = CYL_TIME_RULED;
        layer->rule = rule;
        return CYL_OK;
    }
    int32_t at = axis - x->has_time;
    int64_t sum = x->shape[at] + rule.add;
    return sum >= rule.divide && sum / rule.divide * rule.multiply == y->shape[at] ? CYL_OK : CYL_E_VALUE;
}

static CylStatus prepare_reshape(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    (void)spec;
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    CYL_TRY(start(model, layer));
    if (x->has_time && y->has_time && x->features == y->features && x->time == y->time) {
        return CYL_OK; /* reshaped step by step */
    }
    if (x->has_time && y->has_time && !x->time && !y->time && y->features && x->features % y->features == 0) {
        layer->time_kind = CYL_TIME_RULED; /* every step becomes several */
        layer->rule = (CylTimeRule){0, 1, x->features / y->features};
        return CYL_OK;
    }
    int64_t in = x->features * (x->has_time ? x->time : 1), out = y->features * (y->has_time ? y->time : 1);
    layer->time_kind = CYL_TIME_FIXED;
    return in == out && in ? CYL_OK : CYL_E_VALUE;
}

static void run_reshape(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    int64_t size = model->values[layer->x].features * cyl_steps(workspace, layer->x), begin, end;
    cyl_share(team, workspace->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        memcpy(cyl_step_at(workspace, layer->y, row, 0), cyl_step_at(workspace, layer->x, row, 0),
               (size_t)size * model->kernels->real_size);
    }
}

static CylStatus prepare_permute(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Map *map = layer->data;
    const char *order;
    CYL_TRY(start(model, layer));
    CYL_TRY(cyl_spec_text(spec, "order", &order));
    int64_t a[CYL_MAX_RANK], b[CYL_MAX_RANK];
    int32_t rank = sizes_of(x, x->time, a);
    bool used[CYL_MAX_RANK] = {false};
    if (strlen(order) != (size_t)rank) {
        return CYL_E_OPTION;
    }
    if (sizes_of(y, y->time, b) != rank || x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    for (int32_t i = 0; i < rank; i++) {
        int32_t from = order[i] - '0';
        if (from < 0 || from >= rank || used[from]) {
            return CYL_E_OPTION;
        }
        if (a[from] != b[i]) {
            return CYL_E_VALUE;
        }
        used[from] = true;
        map->from[i] = from;
    }
    if (x->has_time && map->from[0] != 0) {
        if (!x->time) {
            return CYL_E_VALUE;
        }
        layer->time_kind = CYL_TIME_FIXED;
    }
    return CYL_OK;
}

/* Takes `count` numbers `step` apart from `start`, which counts from the end if it is negative. A count of 0 takes all
   of them, up to `before_end` numbers before the end. */
static CylStatus prepare_slice(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Map *map = layer->data;
    int32_t axis;
    int64_t begin, count, step, before_end;
    CYL_TRY(start(model, layer));
    CYL_TRY(read_axis(model, layer, spec, &axis));
    CYL_TRY(read_whole(spec, "start", -(1 << 24), &begin));
    CYL_TRY(read_whole(spec, "count", 0, &count));
    CYL_TRY(read_whole(spec, "step", 1, &step));
    CYL_TRY(read_whole(spec, "before_end", 0, &before_end));
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    map->start[axis] = begin;
    map->starts_at_end[axis] = begin < 0;
    map->step[axis] = step;
    layer->is_whole = is_time(model, layer, axis) && count;
    if (!count && is_time(model, layer, axis)) {
        map->is_cropped = true;
        layer->reach = before_end + 1;
        layer->pads_before = -begin;
    }
    if (!count) {
        return begin < 0 ? CYL_E_OPTION
                         : finish_axis(model, layer, axis, (CylTimeRule){step - 1 - begin - before_end, step, 1});
    }
    /* A fixed count: all numbers must exist, whatever the number of steps. */
    bool of_time = is_time(model, layer, axis);
    int64_t size = of_time ? x->time : x->shape[axis - x->has_time];
    int64_t given = of_time ? y->time : y->shape[axis - x->has_time];
    bool is_any = !size && count == 1 && (begin == 0 || begin == -1);
    int64_t first = begin < 0 ? size + begin : begin;
    if (given != count || before_end || (!is_any && (first < 0 || first + (count - 1) * step >= size))) {
        return CYL_E_VALUE;
    }
    layer->time_kind = of_time ? CYL_TIME_FIXED : CYL_TIME_KEPT;
    return CYL_OK;
}

/* Takes as many steps of x as x1 has, from `start` on. */
static CylStatus prepare_slice_like(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Map *map = layer->data;
    CYL_TRY(start(model, layer));
    CYL_TRY(read_whole(spec, "start", 0, &map->start[0]));
    layer->time_from = cyl_spec_input(spec, "x1");
    if (layer->time_from < 0) {
        return CYL_E_VALUE;
    }
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    const CylValue *like = &model->values[layer->time_from];
    int64_t a[CYL_MAX_RANK], b[CYL_MAX_RANK];
    const int32_t rank = sizes_of(x, 0, a);
    if (!x->has_time || !y->has_time || !like->has_time || like->kind != CYL_SEQUENCE || sizes_of(y, 0, b) != rank ||
        memcmp(a, b, (size_t)rank * sizeof *a) != 0) {
        return CYL_E_VALUE;
    }
    map->is_cropped = layer->is_led = layer->mixes_times = true;
    layer->rule = (CylTimeRule){0, 1, 1};
    layer->pads_before = -map->start[0];
    return CYL_OK;
}

static CylStatus prepare_pad(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const fills[] = {"zero", "reflect", "replicate", "circular", NULL};
    Map *map = layer->data;
    int32_t axis;
    int64_t before, after;
    int found;
    CYL_TRY(start(model, layer));
    CYL_TRY(read_axis(model, layer, spec, &axis));
    CYL_TRY(read_whole(spec, "before", 0, &before));
    CYL_TRY(read_whole(spec, "after", 0, &after));
    CYL_TRY(cyl_spec_choice(spec, "mode", fills, &found));
    const CylValue *x = &model->values[layer->x];
    int64_t size = is_time(model, layer, axis) ? x->time : x->shape[axis - x->has_time];
    int64_t most = before > after ? before : after;
    if ((found == FILL_REFLECT || found == FILL_CIRCULAR) && most > size - (found == FILL_REFLECT)) {
        return CYL_E_OPTION;
    }
    map->fill = (Fill)found;
    map->start[axis] = -before;
    layer->is_whole = is_time(model, layer, axis) && (before || after);
    return finish_axis(model, layer, axis, (CylTimeRule){before + after, 1, 1});
}

static CylStatus prepare_upsample(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Map *map = layer->data;
    int32_t axis;
    int64_t size;
    CYL_TRY(start(model, layer));
    CYL_TRY(read_axis(model, layer, spec, &axis));
    CYL_TRY(read_whole(spec, "size", 1, &size));
    map->divide[axis] = size;
    return finish_axis(model, layer, axis, (CylTimeRule){0, 1, size});
}

static CylStatus prepare_repeat(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    Map *map = layer->data;
    int64_t count;
    CYL_TRY(start(model, layer));
    CYL_TRY(read_whole(spec, "count", 1, &count));
    if (x->has_time || !y->has_time || y->time != count || x->features != y->features || x->rank != y->rank) {
        return CYL_E_VALUE;
    }
    map->step[0] = 0;
    map->from[0] = -1;
    for (int32_t i = 1; i < map->rank; i++) {
        map->from[i] = i - 1;
    }
    layer->time_kind = CYL_TIME_FIXED;
    return CYL_OK;
}

/* where number i of axis `axis` lies in x, of `size` numbers there; -1 for a zero */
static int64_t place_of(const Map *map, int32_t axis, int64_t i, int64_t size) {
    int64_t start = map->start[axis] + (map->starts_at_end[axis] ? size : 0), at = i * map->step[axis] + start;
    if (at >= 0 && map->divide[axis] > 1) {
        at /= map->divide[axis];
    }
    if (at >= 0 && at < size) {
        return at;
    }
    switch (map->fill) {
    case FILL_REFLECT:
        return at < 0 ? -at : 2 * (size - 1) - at;
    case FILL_REPLICATE:
        return at < 0 ? 0 : size - 1;
    case FILL_CIRCULAR:
        return at < 0 ? at + size : at - size;
    default:
        return -1;
    }
}

typedef struct {
    const CylModel *model;
    const Map *map;
    int64_t x_sizes[CYL_MAX_RANK], x_strides[CYL_MAX_RANK], y_sizes[CYL_MAX_RANK], y_strides[CYL_MAX_RANK];
    int32_t plain; /* axes from this one on are copied as they are */
} Move;

#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (FourPlaces){__VA_ARGS__})
#endif

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourPlaces __attribute__((vector_size(16)));

static inline Four load_four(const float *x) {
    Four four;
    memcpy(&four, x, sizeof four);
    return four;
}

static inline void store_four(float *y, Four four) { memcpy(y, &four, sizeof four); }

/* y[j*count + i] = x[j + i*inner], 4 x 4 of them */
static inline void transpose_block(const float *x, int64_t inner, float *y, int64_t count) {
    const Four x0 = load_four(x), x1 = load_four(x + inner), x2 = load_four(x + 2 * inner);
    const Four x3 = load_four(x + 3 * inner);
    const Four low0 = SHUFFLED(x0, x1, 0, 4, 1, 5), low2 = SHUFFLED(x2, x3, 0, 4, 1, 5);
    const Four high0 = SHUFFLED(x0, x1, 2, 6, 3, 7), high2 = SHUFFLED(x2, x3, 2, 6, 3, 7);
    store_four(y, SHUFFLED(low0, low2, 0, 1, 4, 5));
    store_four(y + count, SHUFFLED(low0, low2, 2, 3, 6, 7));
    store_four(y + 2 * count, SHUFFLED(high0, high2, 0, 1, 4, 5));
    store_four(y + 3 * count, SHUFFLED(high0, high2, 2, 3, 6, 7));
}
#undef SHUFFLED

/* y[j][i] = x[j + i*inner], of (rows, count) */
static void transpose(const float *x, int64_t inner, float *y, int64_t rows, int64_t count) {
    const int64_t blocks = rows / 4 * 4, columns = count / 4 * 4;
    for (int64_t j = 0; j < blocks; j += 4) {
        for (int64_t i = 0; i < columns; i += 4) {
            transpose_block(x + j + i * inner, inner, y + j * count + i, count);
        }
    }
    for (int64_t j = 0; j < rows; j++) {
        for (int64_t i = j < blocks ? columns : 0; i < count; i++) {
            y[j * count + i] = x[j + i * inner];
        }
    }
}

/* y[j][i] = x[j*outer + i*inner], of (rows, count) */
static void gather(const CylModel *model, const char *x, int64_t outer, int64_t inner, char *y, int64_t rows,
                   int64_t count) {
    if (model->kernels->real_size == sizeof(float) && outer == 1 && count >= 4) {
        transpose((const float *)x, inner, (float *)y, rows, count);
    } else if (model->kernels->real_size == sizeof(float)) {
        for (int64_t j = 0; j < rows; j++) {
            for (int64_t i = 0; i < count; i++) {
                ((float *)y)[j * count + i] = ((const float *)x)[j * outer + i * inner];
            }
        }
    } else {
        for (int64_t j = 0; j < rows; j++) {
            for (int64_t i = 0; i < count; i++) {
                ((double *)y)[j * count + i] = ((const double *)x)[j * outer + i * inner];
            }
        }
    }
}

void cyl_transpose(const CylModel *model, const char *x, int64_t rows, int64_t columns, char *y) {
    gather(model, x, 1, columns, y, columns, rows);
}

bool cyl_is_transposition(const CylLayer *layer) {
    const Map *map = layer->data;
    return layer->kind == &cyl_layer_permute && layer->time_kind == CYL_TIME_KEPT && map->rank == 3 &&
           map->from[0] == 0 && map->from[1] == 2;
}

bool cyl_is_in_place(const CylModel *model, const CylLayer *layer) {
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    return layer->kind == &cyl_layer_reshape && x->axis == y->axis && x->features == y->features;
}

/* The first number of x that an axis of the result takes if it takes all of them one after the other, else -1. */
static int64_t run_of(const Move *m, int32_t axis) {
    const int32_t from = m->map->from[axis];
    if (from < 0 || m->map->divide[axis] != 1 || m->map->step[axis] != 1) {
        return -1;
    }
    /* The place grows by at most 1 from one number to the next. So if the last place is count - 1 after the first, they
       follow each other. */
    const int64_t count = m->y_sizes[axis], first = place_of(m->map, axis, 0, m->x_sizes[from]);
    return first >= 0 && place_of(m->map, axis, count - 1, m->x_sizes[from]) - first == count - 1 ? first : -1;
}

static void move(const Move *m, int32_t axis, const char *x, char *y) {
    size_t real = m->model->kernels->real_size;
    if (axis == m->plain) {
        int64_t size = axis == m->map->rank ? 1 : m->y_sizes[axis] * m->y_strides[axis];
        memcpy(y, x, (size_t)size * real);
        return;
    }
    int32_t from = m->map->from[axis];
    const int64_t first = axis + 2 >= m->plain ? run_of(m, axis) : -1;
    if (first >= 0 && axis + 1 == m->plain) {
        const char *at = cyl_at(m->model, x, first * m->x_strides[from]);
        if (m->x_strides[from] == m->y_strides[axis]) {
            memcpy(y, at, (size_t)(m->y_sizes[axis] * m->y_strides[axis]) * real);
            return;
        }
        if (m->y_strides[axis] == 1) {
            gather(m->model, at, 0, m->x_strides[from], y, 1, m->y_sizes[axis]);
            return;
        }
    } else if (first >= 0 && m->y_strides[axis + 1] == 1) {
        const int64_t next = run_of(m, axis + 1);
        const int64_t outer = m->x_strides[from], inner = next >= 0 ? m->x_strides[m->map->from[axis + 1]] : 1;
        if (inner != 1) {
            gather(m->model, cyl_at(m->model, x, first * outer + next * inner), outer, inner, y, m->y_sizes[axis],
                   m->y_sizes[axis + 1]);
            return;
        }
    }
    for (int64_t i = 0; i < m->y_sizes[axis]; i++) {
        int64_t at = from < 0 ? 0 : place_of(m->map, axis, i, m->x_sizes[from]);
        char *to = cyl_at(m->model, y, i * m->y_strides[axis]);
        if (at < 0) {
            memset(to, 0, (size_t)m->y_strides[axis] * real);
        } else {
            move(m, axis + 1, from < 0 ? x : cyl_at(m->model, x, at * m->x_strides[from]), to);
        }
    }
}

static void strides_of(const int64_t *sizes, int32_t rank, int64_t *strides) {
    int64_t stride = 1;
    for (int32_t i = rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= sizes[i];
    }
}

static size_t bind_slice(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    CylLayerState state = {0};
    const size_t used =
        ((const Map *)layer->data)->is_cropped ? cyl_kept_bind(model, layer, workspace, memory, 0, &state) : 0;
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    Map cropped;
    const Map *map = layer->data;
    CylView from = workspace->views[layer->x];
    int64_t kept = 0; /* steps in front of those of this piece */
    if (map->is_cropped) {
        const int64_t first = cyl_first_window(layer, workspace);
        kept = first < 0 && cyl_steps(workspace, layer->y) > 0 ? cyl_kept_steps(model, layer) : 0;
        from = cyl_kept_read(model, layer, workspace, team, kept > 0);
        from.data = cyl_at(model, from.data, -kept * model->values[layer->x].features);
        cropped = *map;
        cropped.start[0] = first + kept;
        map = &cropped;
    }
    Move m = {.model = model, .map = map};
    int32_t x_rank = sizes_of(&model->values[layer->x], cyl_steps(workspace, layer->x) + kept, m.x_sizes);
    int32_t y_rank = sizes_of(&model->values[layer->y], cyl_steps(workspace, layer->y), m.y_sizes);
    strides_of(m.x_sizes, x_rank, m.x_strides);
    strides_of(m.y_sizes, y_rank, m.y_strides);
    m.plain = y_rank;
    while (m.plain > 0) {
        int32_t axis = m.plain - 1, from = map->from[axis];
        if (from < 0 || from != x_rank - (y_rank - axis) || map->start[axis] || map->step[axis] != 1 ||
            map->divide[axis] != 1 || m.x_sizes[from] != m.y_sizes[axis]) {
            break;
        }
        m.plain--;
    }
    /* threads share the rows and the numbers of the first axis */
    int64_t outer = m.plain == 0 ? 1 : m.y_sizes[0];
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * outer, m.plain == 0 ? 1 : m.y_strides[0]);
         cyl_goes_on(&items, j); j++) {
        const char *x = cyl_at(model, from.data, j / outer * from.row_stride);
        char *y = cyl_step_at(workspace, layer->y, j / outer, 0);
        if (m.plain == 0) {
            move(&m, 0, x, y);
            continue;
        }
        int64_t i = j % outer;
        int32_t axis = map->from[0];
        int64_t at = axis < 0 ? 0 : place_of(map, 0, i, m.x_sizes[axis]);
        char *to = cyl_at(model, y, i * m.y_strides[0]);
        if (at < 0) {
            memset(to, 0, (size_t)m.y_strides[0] * model->kernels->real_size);
        } else {
            move(&m, 1, axis < 0 ? x : cyl_at(model, x, at * m.x_strides[axis]), to);
        }
    }
}

const CylLayerKind cyl_layer_reshape = {.data_size = sizeof(Map), .prepare = prepare_reshape, .run = run_reshape};
const CylLayerKind cyl_layer_permute = {.data_size = sizeof(Map), .prepare = prepare_permute, .run = run};
const CylLayerKind cyl_layer_slice = {
    .data_size = sizeof(Map), .prepare = prepare_slice, .bind = bind_slice, .run = run};
const CylLayerKind cyl_layer_slice_like = {
    .data_size = sizeof(Map), .prepare = prepare_slice_like, .bind = bind_slice, .run = run};
const CylLayerKind cyl_layer_pad = {.data_size = sizeof(Map), .prepare = prepare_pad, .run = run};
const CylLayerKind cyl_layer_upsample = {.data_size = sizeof(Map), .prepare = prepare_upsample, .run = run};
const CylLayerKind cyl_layer_repeat_vector = {.data_size = sizeof(Map), .prepare = prepare_repeat, .run = run};
