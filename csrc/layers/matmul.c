/*
 * Matmul: y = a b of the last two axes of two values, or of either transposed; the axes before them line up from the
 * last on, and one of size 1, or one that is not there, is repeated. The time may be one of these, or the rows of a, or
 * the columns of a transposed and the rows of b, which are summed over.
 *
 * y[i][j] is the sum over k of a[i][k] b[k][j], by fused multiply-adds: one chain, k ascending (add_scaled); or, where
 * the k of both lie side by side, 16 chains (dot). Which of the two depends on the shapes and options alone.
 */
#include "cylstm.h"
#include "layers/layers.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "platform/memory.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

/* the axes of a value, time included: those before the last two, and the last two */
typedef struct {
    int32_t leading;
    int64_t sizes[CYL_MAX_RANK]; /* 0 for an unknown time */
    int64_t rows, columns;
} Shape;

typedef struct {
    int32_t a, b; /* values */
    bool transposes_a, transposes_b;
    bool is_swapped;  /* a is x1, and b is x */
    int64_t gathered; /* numbers of a column of a, where it is gathered before it is multiplied; else 0 */
} Matmul;

/* CYL_E_VALUE if there are less than two axes */
static CylStatus shape_of(const CylValue *value, int64_t steps, Shape *shape) {
    int64_t sizes[CYL_MAX_RANK];
    int32_t rank = 0;
    if (value->has_time) {
        sizes[rank++] = steps;
    }
    for (int32_t i = 0; i < value->rank; i++) {
        sizes[rank++] = value->shape[i];
    }
    if (rank < 2) {
        return CYL_E_VALUE;
    }
    shape->leading = rank - 2;
    memcpy(shape->sizes, sizes, (size_t)shape->leading * sizeof *sizes);
    shape->rows = sizes[rank - 2];
    shape->columns = sizes[rank - 1];
    return CYL_OK;
}

static void transpose(Shape *shape) {
    int64_t rows = shape->rows;
    shape->rows = shape->columns;
    shape->columns = rows;
}

/* size of leading axis `axis` of `leading`, as which a value is repeated */
static int64_t leading_size(const Shape *shape, int32_t leading, int32_t axis) {
    int32_t at = axis - (leading - shape->leading);
    return at < 0 ? 1 : shape->sizes[at];
}

static CylStatus check_shapes(const Shape *a, const Shape *b, const Shape *y) {
    if (a->columns != b->rows || y->rows != a->rows || y->columns != b->columns || y->columns < 1 ||
        y->leading != (a->leading > b->leading ? a->leading : b->leading) || (y->leading && y->rows < 1)) {
        return CYL_E_VALUE;
    }
    for (int32_t i = 0; i < y->leading; i++) {
        int64_t of_a = leading_size(a, y->leading, i), of_b = leading_size(b, y->leading, i);
        bool fits = of_a == of_b || of_a == 1 || of_b == 1;
        if (!fits || y->sizes[i] != (of_a == 1 ? of_b : of_a) || (i > 0 && y->sizes[i] < 1)) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    Matmul *matmul = layer->data;
    matmul->a = layer->x;
    matmul->b = cyl_spec_input(spec, "x1");
    CYL_TRY(cyl_spec_flag(spec, "transpose_x", &matmul->transposes_a));
    CYL_TRY(cyl_spec_flag(spec, "transpose_x1", &matmul->transposes_b));
    if (matmul->b < 0) {
        return CYL_E_VALUE;
    }
    const CylValue *x = &model->values[layer->x], *other = &model->values[matmul->b], *y = &model->values[layer->y];
    Shape a, b, of_y;
    CYL_TRY(shape_of(x, x->time, &a));
    CYL_TRY(shape_of(other, other->time, &b));
    CYL_TRY(shape_of(y, y->time, &of_y));
    if (matmul->transposes_a) {
        transpose(&a);
    }
    if (matmul->transposes_b) {
        transpose(&b);
    }
    CYL_TRY(check_shapes(&a, &b, &of_y));
    if (b.columns == 1 && matmul->transposes_a) {
        /* y' = b' a' of the transposed: the rows of a' lie side by side, and y is the same numbers */
        matmul->a = matmul->b;
        matmul->b = layer->x;
        matmul->transposes_a = matmul->transposes_b = false;
        matmul->is_swapped = true;
        a = (Shape){.columns = a.columns};
    } else if (b.columns == 1) {
        matmul->transposes_b = true; /* one column is one row */
    }
    matmul->gathered = matmul->transposes_a && matmul->transposes_b ? a.columns : 0;
    bool x_is_open = x->has_time && !x->time, other_is_open = other->has_time && !other->time;
    bool y_is_open = y->has_time && !y->time;
    layer->time_kind = y_is_open ? CYL_TIME_KEPT : CYL_TIME_FIXED;
    layer->time_from = x_is_open ? layer->x : cyl_spec_input(spec, "x1");
    layer->mixes_times = !(x_is_open && other_is_open); /* two of any length have the same */
    layer->is_whole = (x_is_open || other_is_open) && !y_is_open;
    layer->work = y->features * (a.columns ? a.columns : 64);
    return CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Matmul *matmul = layer->data;
    size_t used = 0;
    CylLayerState state = {0};
    state.scratch = cyl_place(memory, &used, workspace->threads, (uint64_t)cyl_state_stride(matmul->gathered),
                              model->kernels->real_size);
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* where in a value its matrix lies that belongs to matrix `index` of y's */
static int64_t matrix_at(const Shape *shape, const Shape *y, int64_t index) {
    int64_t at = 0, stride = shape->rows * shape->columns;
    for (int32_t i = y->leading - 1; i >= 0; i--) {
        int64_t size = leading_size(shape, y->leading, i);
        at += size > 1 ? index % y->sizes[i] * stride : 0;
        stride *= size;
        index /= y->sizes[i];
    }
    return at;
}

/* one row of y (columns); a (depth), its numbers `stride` apart; b (depth, columns) or, transposed, (columns, depth) */
static void multiply_row(const CylModel *model, const Matmul *matmul, const char *a, int64_t stride, const char *b,
                         int64_t depth, int64_t columns, char *line, char *y) {
    if (!matmul->transposes_b) {
        memset(y, 0, (size_t)columns * model->kernels->real_size);
        for (int64_t k = 0; k < depth; k++) {
            model->kernels->add_scaled(cyl_at(model, b, k * columns), cyl_get(model, a, k * stride), y, columns);
        }
        return;
    }
    for (int64_t k = 0; matmul->gathered && k < depth; k++) {
        cyl_set(model, line, k, cyl_get(model, a, k * stride));
    }
    for (int64_t j = 0; j < columns; j++) {
        cyl_set(model, y, j, model->kernels->dot(matmul->gathered ? line : a, cyl_at(model, b, j * depth), depth));
    }
    model->kernels->flush(y, y, columns);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Matmul *matmul = layer->data;
    Shape a = {0}, b = {0}, y = {0};
    shape_of(&model->values[matmul->a], cyl_steps(workspace, matmul->a), &a);
    shape_of(&model->values[matmul->b], cyl_steps(workspace, matmul->b), &b);
    shape_of(&model->values[layer->y], cyl_steps(workspace, layer->y), &y);
    if (matmul->is_swapped) {
        transpose(&y);
        a.columns *= a.rows; /* one row, however it lies */
        a.rows = 1;
    }
    char *line =
        cyl_at(model, workspace->states[layer->index].scratch, team->thread * cyl_state_stride(matmul->gathered));
    int64_t depth = matmul->transposes_a ? a.rows : a.columns, count = y.rows;
    for (int32_t i = 0; i < y.leading; i++) {
        count *= y.sizes[i];
    }
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * count, depth * y.columns);
         cyl_goes_on(&items, j); j++) {
        int64_t row = j / count, matrix = j % count / y.rows, i = j % y.rows;
        const char *of_a = cyl_at(model, cyl_step_at(workspace, matmul->a, row, 0), matrix_at(&a, &y, matrix));
        const char *of_b = cyl_at(model, cyl_step_at(workspace, matmul->b, row, 0), matrix_at(&b, &y, matrix));
        char *to = cyl_at(model, cyl_step_at(workspace, layer->y, row, 0), j % count * y.columns);
        multiply_row(model, matmul, cyl_at(model, of_a, matmul->transposes_a ? i : i * a.columns),
                     matmul->transposes_a ? a.columns : 1, of_b, depth, y.columns, line, to);
    }
}

const CylLayerKind cyl_layer_matmul = {.data_size = sizeof(Matmul), .prepare = prepare, .bind = bind, .run = run};
