/*
 * Convolution over rows and columns, channels last, in groups (depthwise where a group has one channel):
 * y[r][q][f] = activation(b[f] + sum over taps (i, j) and channels c of the group of W[f][i][j][c] *
 * x[r*stride_rows + i*dilation_rows - before][q*stride_columns + j*dilation_columns - left][c]), a cross-correlation
 * with zeros outside x, one chain of multiply-adds over the taps in row-major order.
 *
 * The rows are the time of a sequence (rows, columns, channels), or the first axis of each of its frames (time, rows,
 * columns, channels). Where the rows are time, a causal convolution carries those before as its state, and others keep
 * them, so that a sequence may come in pieces.
 *
 * Threads share the rows of the output, or parts of rows. Windows are read where x lies, or, if some reach into the
 * padding of the columns or the filters are as many vectors of channels, from copies of the rows: each is copied once,
 * when the first window needs it, over one that no window needs any more. What is copied is copied with the subnormal
 * rule, so that an input need not be looked through before.
 *
 * What follows is computed as soon as the rows are there that it needs, which lie in the first cache, so that what lies
 * between is never stored as a whole: a pooling that takes maxima of windows side by side, of rows, of columns or of
 * both, if each window lies within a piece; and the exchange of columns and filters.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/convolution.h"
#include "layers/layers.h"
#include "layers/pool1d.h"
#include "layers/rearrange.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"
#include "platform/memory.h"
#include "platform/tuning.h"
#include "run/kept.h"
#include "run/stop.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <string.h>

typedef struct {
    CylConvolution convolution; /* first */
    CylTime1d rows, columns;
    bool is_framed;                                  /* the rows are not the time */
    bool is_copied;                                  /* windows are read from copies of rows */
    CylActivationSpec activation;                    /* its own: that of the convolution may be a follower's */
    const CylLayer *follower;                        /* the first one that is left to follow */
    const CylLayer *pool, *pooled;                   /* the first pooling, and the first layer behind one; NULL */
    const CylLayer *moved;                           /* the first layer that moves numbers; NULL */
    bool is_turned;                                  /* y has columns and filters exchanged */
    int32_t pool_rows, pool_columns;                 /* of a window; 1 and 1 without a pooling */
    int32_t input_rows, output_rows;                 /* 0 where the rows are the time */
    int32_t input_columns, output_columns, row_size; /* row_size: the numbers of a row of x */
} Conv;

/* one row of the batch, or one frame of it */
typedef struct {
    const char *x, *kept; /* kept: the `kept_rows` rows before x */
    int64_t rows, kept_rows;
    int64_t before; /* rows from the beginning of the first window to x */
} Image;

/* A thread's copies of the rows of an image, from its first window on: row r is copy r % reach of the rows. Each has
   the columns that some outputs side by side reach over. */
typedef struct {
    char *data;                 /* real (reach, row_size) */
    int64_t row_size;           /* reals */
    int64_t zeros, from, count; /* columns before those of x, the first of those, and how many they are */
    int64_t image, begin, next; /* whose rows they are, for outputs from which column on, and the row to come */
} Copies;

/* the rows or columns of x that `count` windows side by side reach over */
static int64_t reach_of(const CylTime1d *windows, int64_t count) {
    return (count - 1) * windows->stride + windows->reach;
}

/* the numbers of a copy of the columns of so many outputs: no power of two apart, since a cache has few places for
   rows that are */
static uint64_t copied_of(const Conv *conv, int64_t outputs) {
    const uint64_t columns = (uint64_t)reach_of(&conv->columns, outputs);
    const uint64_t size = cyl_size_mul(columns, (uint64_t)conv->convolution.channels);
    return size % 1024 ? size : cyl_size_add(size, 16);
}

/* the numbers of a row of outputs, before a pooling */
static int64_t line_of(const Conv *conv) { return (int64_t)conv->output_columns * conv->convolution.filters; }

/* the numbers of a thread's copies, or of the one row of zeros where there are none */
static uint64_t copies_of(const Conv *conv) {
    return conv->is_copied ? cyl_size_mul(copied_of(conv, conv->output_columns), (uint64_t)conv->rows.reach)
                           : (uint64_t)conv->row_size;
}

/* the numbers of a thread's scratch: those, the rows of a pooling's window, and a row that is turned */
static uint64_t scratch_of(const Conv *conv) {
    const uint64_t lines = (uint64_t)(conv->pool ? conv->pool_rows : 0) + (uint64_t)conv->is_turned;
    return cyl_size_add(copies_of(conv), cyl_size_mul((uint64_t)line_of(conv), lines));
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const CylWindowNames rows = {"stride_rows", "dilation_rows", "padding", "pad_before", "pad_after"};
    static const CylWindowNames columns = {"stride_columns", "dilation_columns", NULL, "pad_left", "pad_right"};
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    const bool is_framed = !(x->kind == CYL_SEQUENCE && x->rank == 2);
    if (x->kind == CYL_INDEX || x->kind == CYL_MASK || x->rank != 2 + is_framed || y->rank != x->rank ||
        x->has_time != y->has_time) {
        return CYL_E_VALUE;
    }
    CYL_TRY(cyl_convolution_prepare(model, layer, spec, sizeof(Conv), 2));
    Conv *conv = layer->data;
    CYL_TRY(cyl_window_read(spec, &rows, conv->convolution.kernel_rows, &conv->rows));
    CYL_TRY(cyl_window_read(spec, &columns, conv->convolution.kernel_columns, &conv->columns));
    conv->is_framed = is_framed;
    conv->activation = conv->convolution.activation;
    conv->input_columns = x->shape[x->rank - 2];
    conv->output_columns = y->shape[y->rank - 2];
    conv->row_size = conv->input_columns * conv->convolution.channels;
    if (cyl_time1d_windows(&conv->columns, conv->input_columns) != conv->output_columns) {
        return CYL_E_VALUE;
    }
    const bool is_inside =
        conv->columns.before == 0 && reach_of(&conv->columns, conv->output_columns) <= conv->input_columns;
    conv->is_copied = !is_inside || conv->convolution.is_depthwise;
    layer->work = cyl_convolution_work(&conv->convolution) * conv->output_columns;
    if (is_framed) {
        conv->input_rows = x->shape[0];
        conv->output_rows = y->shape[0];
        layer->work *= conv->output_rows;
        layer->flushes_x = conv->is_copied;
        return cyl_time1d_windows(&conv->rows, conv->input_rows) == conv->output_rows ? CYL_OK : CYL_E_VALUE;
    }
    layer->work = layer->work / conv->rows.stride + 1;
    cyl_time1d_set_rule(layer, &conv->rows);
    const int64_t history = conv->rows.padding == CYL_PAD_CAUSAL ? (conv->rows.reach - 1) * conv->row_size : 0;
    layer->history_size = (int32_t)history;
    layer->flushes_x = conv->is_copied && !history;
    return history > (1 << 28) ? CYL_E_OPTION : CYL_OK;
}

/* what a layer behind a convolution does with its rows */
typedef enum { OTHER = 0, NUMBER_BY_NUMBER, POOLS_ROWS, POOLS_COLUMNS, TURNS, RESHAPES } Role;

/* The role of a layer; of a pooling the size of its windows, which lie side by side. */
static Role role_of(const CylModel *model, const CylLayer *layer, const CylLayer *next, int32_t *size) {
    const CylValue *y = &model->values[layer->outputs[0]], *values = model->values;
    const int32_t rows = y->rank - 3 + y->has_time; /* the axis of the rows */
    int32_t axis = -1;
    if (next->kind->may_follow) {
        const bool is_one_axis = values[next->inputs[0]].axis == values[next->outputs[0]].axis;
        return is_one_axis && next->kind->may_follow(next) ? NUMBER_BY_NUMBER : OTHER;
    }
    if (next->kind == &cyl_layer_pool1d) {
        *size = cyl_pool_maxima(next, &axis);
        /* each window lies within a piece, and its rows in the first cache */
        const bool is_short = *size > 0 && !next->kept_size && (axis != rows || *size <= 8);
        return !is_short ? OTHER : axis == rows ? POOLS_ROWS : axis == rows + 1 ? POOLS_COLUMNS : OTHER;
    }
    if (next->kind == &cyl_layer_permute) {
        return cyl_is_transposition(next) && !((const Conv *)layer->data)->is_framed ? TURNS : OTHER;
    }
    return next->kind == &cyl_layer_reshape && cyl_is_in_place(model, next) ? RESHAPES : OTHER;
}

/* Behind each other: layers number by number, a pooling of rows and one of columns, layers number by number, columns
   and filters the other way round, and other axes for the same numbers. */
static bool may_take(const CylModel *model, const CylLayer *layer, const CylLayer *next) {
    int32_t size;
    const Role role = role_of(model, layer, next, &size);
    bool is_pooled = false, is_changed = false;
    if (role == OTHER) {
        return false;
    }
    for (const CylLayer *other = layer->follower; other; other = other->follower) {
        const Role before = role_of(model, layer, other, &size);
        if (before >= TURNS && role <= before) {
            return false;
        }
        is_changed = is_changed || (is_pooled && before == NUMBER_BY_NUMBER);
        is_pooled = is_pooled || before == POOLS_ROWS || before == POOLS_COLUMNS;
        if ((role == POOLS_ROWS || role == POOLS_COLUMNS) && (before == role || is_changed)) {
            return false;
        }
    }
    return true;
}

/* A relu that follows ends the product, which gives the same bits: of what the subnormal rule leaves it makes nothing
   that the rule would change. */
static CylStatus finish(const CylModel *model, CylLayer *layer) {
    Conv *conv = layer->data;
    int32_t size;
    conv->pool = conv->pooled = conv->moved = NULL;
    conv->pool_rows = conv->pool_columns = 1;
    conv->is_turned = false;
    for (const CylLayer *next = layer->follower; next; next = next->follower) {
        const Role role = role_of(model, layer, next, &size);
        if (role == POOLS_ROWS || role == POOLS_COLUMNS) {
            conv->pool = conv->pool ? conv->pool : next;
            conv->pooled = next->follower;
            *(role == POOLS_ROWS ? &conv->pool_rows : &conv->pool_columns) = size;
        } else if (role >= TURNS) {
            conv->moved = conv->moved ? conv->moved : next;
            conv->is_turned = conv->is_turned || role == TURNS;
        }
    }
    conv->follower = layer->follower;
    conv->convolution.activation = conv->activation;
    if (conv->activation.id == CYL_ACT_LINEAR && conv->follower && conv->follower->kind == &cyl_layer_activation) {
        const CylActivationSpec *next = conv->follower->data;
        if (next->id == CYL_ACT_RELU) {
            conv->convolution.activation = *next;
            conv->follower = conv->follower->follower;
        }
    }
    return CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Conv *conv = layer->data;
    size_t used = 0, real = model->kernels->real_size;
    CylLayerState state = {0};
    state.h[0] = cyl_kept_place(model, layer, workspace, memory, &used);
    state.scratch = cyl_place(memory, &used, workspace->threads, scratch_of(conv), real);
    const uint64_t taps = (uint64_t)conv->convolution.kernel_rows + (uint64_t)conv->pool_rows;
    state.bound = cyl_place(memory, &used, workspace->threads, taps, sizeof(void *));
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* row `at` of an image, NULL for one of zeros */
static const char *row_of(const CylModel *model, const Conv *conv, const Image *image, int64_t at) {
    if (at >= 0 && at < image->rows) {
        return cyl_at(model, image->x, at * conv->row_size);
    }
    const bool is_kept = at < 0 && at >= -image->kept_rows;
    return is_kept ? cyl_at(model, image->kept, (image->kept_rows + at) * conv->row_size) : NULL;
}

/* Begins the copies of an image, for the outputs of the columns [begin, end). */
static void begin_copies(const CylModel *model, const Conv *conv, Copies *copies, int64_t image, int64_t begin,
                         int64_t end) {
    const int64_t left = begin * conv->columns.stride - conv->columns.before;
    const int64_t right = left + reach_of(&conv->columns, end - begin), most = conv->input_columns;
    copies->row_size = (int64_t)copied_of(conv, end - begin);
    copies->from = left > 0 ? left : 0;
    copies->zeros = copies->from - left;
    copies->count = (right < most ? right : most) - copies->from;
    copies->image = image;
    copies->next = 0;
    if (copies->begin == begin) {
        return; /* the padding is there */
    }
    copies->begin = begin;
    memset(copies->data, 0, (size_t)(conv->rows.reach * copies->row_size) * model->kernels->real_size);
}

/* Copies the rows up to `end` that are not there yet, from row `first` on. */
static void copy_rows(const CylModel *model, const Conv *conv, const Image *image, Copies *copies, int64_t first,
                      int64_t end) {
    const int64_t channels = conv->convolution.channels, size = copies->count * channels;
    if (copies->count <= 0) {
        return; /* all in the padding */
    }
    for (int64_t row = copies->next > first ? copies->next : first; row < end; row++) {
        char *to = cyl_at(model, copies->data, row % conv->rows.reach * copies->row_size + copies->zeros * channels);
        const char *from = row_of(model, conv, image, row - image->before);
        if (from) {
            model->kernels->flush(cyl_at(model, from, copies->from * channels), to, size);
        } else {
            memset(to, 0, (size_t)size * model->kernels->real_size);
        }
    }
    copies->next = end;
}

/* `count` numbers that begin and end with a last axis, by the followers from `first` to before `end` */
static void follow(const CylModel *model, const CylLayer *first, const CylLayer *end, char *y, int64_t count) {
    for (const CylLayer *next = first; next != end; next = next->follower) {
        next->kind->follow(model, next, y, count);
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Conv *conv = layer->data;
    const CylConvolution *convolution = &conv->convolution;
    const bool is_framed = conv->is_framed;
    CylLayerState *state = &workspace->states[layer->index];
    const int64_t steps = cyl_steps(workspace, layer->x), channels = convolution->channels;
    const int64_t filters = convolution->filters, pool_rows = conv->pool_rows, pool_columns = conv->pool_columns;
    /* of y; the rows and columns that fill no window of a pooling are not computed */
    const int64_t outputs = (is_framed ? conv->output_rows : cyl_steps(workspace, layer->outputs[0])) / pool_rows;
    const int64_t output_columns = conv->output_columns / pool_columns * pool_columns;
    const int64_t frames = is_framed ? steps : 1, all = workspace->rows * frames * outputs;
    /* parts of rows only where there are too few rows for the threads; 0 rows of a piece that ends no window */
    int64_t parts = all > 0 && all < team->threads && !conv->is_turned ? (team->threads + all - 1) / all : 1;
    parts = parts < output_columns / pool_columns ? parts : output_columns / pool_columns;
    const int64_t width = (output_columns / pool_columns + parts - 1) / parts * pool_columns;
    const void **taps = (const void **)state->bound + (int64_t)team->thread * (convolution->kernel_rows + pool_rows);
    const void **lines = taps + convolution->kernel_rows;
    char *scratch =
        cyl_at(model, state->scratch, team->thread * (int64_t)scratch_of(conv)); /* a row of zeros at first */
    const CylWindows windows = {taps, convolution->kernel_rows, convolution->kernel_columns,
                                conv->columns.dilation * channels, conv->columns.stride * channels};
    const CylWindows pooled = {lines, conv->pool_rows, conv->pool_columns, filters, pool_columns * filters};
    char *turned = cyl_at(model, scratch, (int64_t)copies_of(conv));
    char *line = cyl_at(model, turned, conv->is_turned ? line_of(conv) : 0);
    for (int64_t k = 0; k < pool_rows; k++) {
        lines[k] = cyl_at(model, line, k * line_of(conv));
    }
    Copies copies = {.data = scratch, .image = -1, .begin = -1};
    Image image = {.rows = is_framed ? conv->input_rows : steps,
                   .kept_rows = is_framed ? 0 : cyl_kept_steps(model, layer)};
    int64_t after;
    cyl_time1d_pads(&conv->rows, image.rows, &image.before, &after);
    if (!is_framed) {
        /* the padding of "same" depends on the number of rows, and then all of it is here */
        image.before = (conv->rows.padding == CYL_PAD_SAME ? image.before : 0) - cyl_first_window(layer, workspace);
    }
    CylItems items;
    const int64_t work = width * cyl_convolution_work(convolution) * pool_rows;
    for (int64_t j = cyl_items(&items, workspace, team, all * parts, work); cyl_goes_on(&items, j); j++) {
        const int64_t n = j / parts / outputs, row = n / frames, frame = n % frames, r = j / parts % outputs;
        const int64_t begin = j % parts * width;
        const int64_t end = begin + width < output_columns ? begin + width : output_columns;
        if (begin >= end) {
            continue;
        }
        image.x = cyl_step_at(workspace, layer->x, row, frame);
        image.kept = cyl_kept_row(model, layer, workspace, row);
        if (conv->is_copied && (copies.image != n || copies.begin != begin)) {
            begin_copies(model, conv, &copies, n, begin, end);
        }
        char *y = cyl_step_at(workspace, layer->y, row, frame);
        y = cyl_at(model, y, (r * output_columns + begin) / pool_columns * filters);
        char *whole = conv->is_turned ? turned : y;
        for (int64_t k = 0; k < pool_rows; k++) {
            const int64_t first = (r * pool_rows + k) * conv->rows.stride;
            if (conv->is_copied) {
                copy_rows(model, conv, &image, &copies, first, first + conv->rows.reach);
            }
            for (int32_t i = 0; i < convolution->kernel_rows; i++) {
                const int64_t tap = first + (int64_t)i * conv->rows.dilation;
                const char *from = conv->is_copied ? NULL : row_of(model, conv, &image, tap - image.before);
                taps[i] = conv->is_copied ? cyl_at(model, copies.data, tap % conv->rows.reach * copies.row_size)
                          : from          ? cyl_at(model, from, begin * windows.stride)
                                          : scratch;
            }
            char *to = conv->pool ? cyl_at(model, line, k * line_of(conv)) : whole;
            cyl_convolve(model, convolution, &windows, to, filters, end - begin);
            follow(model, conv->follower, conv->pool ? conv->pool : conv->moved, to, (end - begin) * filters);
        }
        const int64_t count = (end - begin) / pool_columns;
        if (conv->pool) {
            model->kernels->largest(&pooled, count, whole, filters);
            follow(model, conv->pooled, conv->moved, whole, count * filters);
        }
        if (conv->is_turned) {
            cyl_transpose(model, turned, count, filters, y);
        }
    }
    if (image.kept_rows > 0 && cyl_has_later_run(layer, workspace)) {
        int64_t begin, end;
        cyl_barrier(team); /* all have read what was kept */
        cyl_share(team, workspace->rows, &begin, &end);
        for (int64_t row = begin; row < end; row++) {
            cyl_kept_take(model, layer, workspace, row);
        }
    }
}

const CylLayerKind cyl_layer_conv2d = {
    .prepare = prepare, .finish = finish, .bind = bind, .run = run, .may_take = may_take};
