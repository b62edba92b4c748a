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
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/convolution.h"
#include "layers/layers.h"
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

/* the numbers of a thread's copies, or of the one row of zeros where there are none */
static uint64_t scratch_of(const Conv *conv) {
    return conv->is_copied ? cyl_size_mul(copied_of(conv, conv->output_columns), (uint64_t)conv->rows.reach)
                           : (uint64_t)conv->row_size;
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

/* A relu that follows ends the product, which gives the same bits: of what the subnormal rule leaves it makes nothing
   that the rule would change. */
static CylStatus finish(const CylModel *model, CylLayer *layer) {
    (void)model;
    Conv *conv = layer->data;
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
    state.bound = cyl_place(memory, &used, workspace->threads, (uint64_t)conv->convolution.kernel_rows, sizeof(void *));
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

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Conv *conv = layer->data;
    const CylConvolution *convolution = &conv->convolution;
    const bool is_framed = conv->is_framed;
    CylLayerState *state = &workspace->states[layer->index];
    const int64_t steps = cyl_steps(workspace, layer->x), channels = convolution->channels;
    const int64_t outputs = is_framed ? conv->output_rows : cyl_steps(workspace, layer->y);
    const int64_t frames = is_framed ? steps : 1, all = workspace->rows * frames * outputs;
    /* parts of rows only where there are too few rows for the threads; 0 rows of a piece that ends no window */
    int64_t parts = all > 0 && all < team->threads ? (team->threads + all - 1) / all : 1;
    parts = parts < conv->output_columns ? parts : conv->output_columns;
    const int64_t width = (conv->output_columns + parts - 1) / parts;
    const void **taps = (const void **)state->bound + (int64_t)team->thread * convolution->kernel_rows;
    char *scratch =
        cyl_at(model, state->scratch, team->thread * (int64_t)scratch_of(conv)); /* a row of zeros at first */
    const CylWindows windows = {taps, convolution->kernel_rows, convolution->kernel_columns,
                                conv->columns.dilation * channels, conv->columns.stride * channels};
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
    for (int64_t j = cyl_items(&items, workspace, team, all * parts, width * cyl_convolution_work(convolution));
         cyl_goes_on(&items, j); j++) {
        const int64_t n = j / parts / outputs, row = n / frames, frame = n % frames, r = j / parts % outputs;
        const int64_t begin = j % parts * width, first = r * conv->rows.stride;
        const int64_t end = begin + width < conv->output_columns ? begin + width : conv->output_columns;
        if (begin >= end) {
            continue;
        }
        image.x = cyl_step_at(workspace, layer->x, row, frame);
        image.kept = cyl_kept_row(model, layer, workspace, row);
        if (conv->is_copied) {
            if (copies.image != n || copies.begin != begin) {
                begin_copies(model, conv, &copies, n, begin, end);
            }
            copy_rows(model, conv, &image, &copies, first, first + conv->rows.reach);
        }
        for (int32_t i = 0; i < convolution->kernel_rows; i++) {
            const int64_t tap = first + (int64_t)i * conv->rows.dilation;
            const char *from = conv->is_copied ? NULL : row_of(model, conv, &image, tap - image.before);
            taps[i] = conv->is_copied ? cyl_at(model, copies.data, tap % conv->rows.reach * copies.row_size)
                      : from          ? cyl_at(model, from, begin * windows.stride)
                                      : scratch;
        }
        char *y = cyl_step_at(workspace, layer->y, row, frame);
        y = cyl_at(model, y, (r * conv->output_columns + begin) * convolution->filters);
        cyl_convolve(model, convolution, &windows, y, convolution->filters, end - begin);
        for (const CylLayer *next = conv->follower; next; next = next->follower) {
            next->kind->follow(model, next, y, (end - begin) * convolution->filters);
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
    .prepare = prepare, .finish = finish, .bind = bind, .run = run, .is_followed = true};
