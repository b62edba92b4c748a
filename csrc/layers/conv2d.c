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
 * Threads share bands of rows of the output, or parts of rows. Windows are read where x lies, or, if some reach into
 * the padding, from a copy of all that the band reads. A depthwise convolution takes little more time than such a copy:
 * its bands are single rows, of which only the first and the last columns are computed from copies.
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
    int32_t input_rows, output_rows;                 /* 0 where the rows are the time */
    int32_t input_columns, output_columns, row_size; /* row_size: the numbers of a row of x */
    int32_t inner_begin, inner_end; /* the columns of the output whose windows lie within those of x; none: both 0 */
    int32_t band;                   /* the most rows of a band */
} Conv;

/* one row of the batch, or one frame of it */
typedef struct {
    const char *x, *kept; /* kept: the `kept_rows` rows before x */
    char *y;
    int64_t rows, kept_rows;
    int64_t before; /* rows from the beginning of the first window to x */
} Image;

/* outputs that are computed together: rows and columns of the output */
typedef struct {
    int64_t row, rows, column, columns;
} Block;

/* the rows or columns of x that `count` windows side by side reach over */
static int64_t reach_of(const CylTime1d *windows, int64_t count) {
    return (count - 1) * windows->stride + windows->reach;
}

/* the numbers of the copy of a block, at most */
static uint64_t copied_of(const Conv *conv) {
    const uint64_t columns = (uint64_t)reach_of(&conv->columns, conv->output_columns);
    const uint64_t row = cyl_size_mul(columns, (uint64_t)conv->convolution.channels);
    return cyl_size_mul((uint64_t)reach_of(&conv->rows, conv->band), row);
}

/* Finds the columns of the output whose windows lie within x. */
static void find_inner(Conv *conv) {
    const CylTime1d *columns = &conv->columns;
    const int64_t begin = (columns->before + columns->stride - 1) / columns->stride;
    const int64_t last = conv->input_columns + columns->before - columns->reach;
    const int64_t end = last < 0 ? 0 : last / columns->stride + 1;
    const int64_t most = conv->output_columns;
    if (begin < end && begin < most) {
        conv->inner_begin = (int32_t)begin;
        conv->inner_end = (int32_t)(end < most ? end : most);
    }
}

/* Sets how many rows of the output a band has: their copy stays in a cache, and they are not more than one look. */
static void find_band(Conv *conv) {
    const int64_t row = cyl_convolution_work(&conv->convolution) * conv->output_columns;
    const int64_t most = conv->convolution.is_depthwise ? 1 : CYL_WORK_OF_A_LOOK / row;
    conv->band = most < 1 ? 1 : most < CYL_CONV_ROWS ? (int32_t)most : CYL_CONV_ROWS;
    while (conv->band > 1 && copied_of(conv) > CYL_CONV_COPIED) {
        conv->band--;
    }
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
    conv->input_columns = x->shape[x->rank - 2];
    conv->output_columns = y->shape[y->rank - 2];
    conv->row_size = conv->input_columns * conv->convolution.channels;
    if (cyl_time1d_windows(&conv->columns, conv->input_columns) != conv->output_columns) {
        return CYL_E_VALUE;
    }
    find_inner(conv);
    find_band(conv);
    layer->work = cyl_convolution_work(&conv->convolution) * conv->output_columns;
    if (is_framed) {
        conv->input_rows = x->shape[0];
        conv->output_rows = y->shape[0];
        layer->work *= conv->output_rows;
        return cyl_time1d_windows(&conv->rows, conv->input_rows) == conv->output_rows ? CYL_OK : CYL_E_VALUE;
    }
    layer->work = layer->work / conv->rows.stride + 1;
    cyl_time1d_set_rule(layer, &conv->rows);
    const int64_t history = conv->rows.padding == CYL_PAD_CAUSAL ? (conv->rows.reach - 1) * conv->row_size : 0;
    layer->history_size = (int32_t)history;
    return history > (1 << 28) ? CYL_E_OPTION : CYL_OK;
}

static size_t bind(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory) {
    const Conv *conv = layer->data;
    size_t used = 0, real = model->kernels->real_size;
    CylLayerState state = {0};
    state.h[0] = cyl_kept_place(model, layer, workspace, memory, &used);
    state.scratch = cyl_place(memory, &used, workspace->threads, copied_of(conv), real);
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

/* Copies `rows` rows of an image from row `first` on, and of each `columns` columns from column `left` on, with zeros
   outside of it. */
static void copy_region(const CylModel *model, const Conv *conv, const Image *image, int64_t first, int64_t rows,
                        int64_t left, int64_t columns, char *to) {
    const size_t pixel = (size_t)conv->convolution.channels * model->kernels->real_size;
    const int64_t end = left + columns < conv->input_columns ? left + columns : conv->input_columns;
    const int64_t begin = left > 0 ? left : 0, inside = end > begin ? end - begin : 0;
    const int64_t zeros = inside ? begin - left : columns;
    for (int64_t i = 0; i < rows; i++, to += (size_t)columns * pixel) {
        const char *from = row_of(model, conv, image, first + i);
        if (!from) {
            memset(to, 0, (size_t)columns * pixel);
            continue;
        }
        memset(to, 0, (size_t)zeros * pixel);
        memcpy(to + (size_t)zeros * pixel, from + (size_t)begin * pixel, (size_t)inside * pixel);
        memset(to + (size_t)(zeros + inside) * pixel, 0, (size_t)(columns - zeros - inside) * pixel);
    }
}

/* the outputs of a block; taps: (kernel_rows); copy: room for what it reads */
static void run_block(const CylModel *model, const Conv *conv, const Image *image, const Block *block,
                      const void **taps, char *copy) {
    const CylConvolution *convolution = &conv->convolution;
    const int64_t channels = convolution->channels, filters = convolution->filters;
    const int64_t first = block->row * conv->rows.stride - image->before, rows = reach_of(&conv->rows, block->rows);
    const int64_t left = block->column * conv->columns.stride - conv->columns.before;
    const int64_t columns = reach_of(&conv->columns, block->columns);
    const bool is_inside =
        first >= 0 && first + rows <= image->rows && left >= 0 && left + columns <= conv->input_columns;
    const char *from = copy;
    int64_t row_size = columns * channels;
    if (is_inside) {
        row_size = conv->row_size;
        from = cyl_at(model, image->x, first * row_size + left * channels);
    } else {
        copy_region(model, conv, image, first, rows, left, columns, copy);
    }
    const CylWindows windows = {taps, convolution->kernel_rows, convolution->kernel_columns,
                                conv->columns.dilation * channels, conv->columns.stride * channels};
    for (int64_t r = 0; r < block->rows; r++) {
        for (int32_t i = 0; i < convolution->kernel_rows; i++) {
            taps[i] = cyl_at(model, from, (r * conv->rows.stride + (int64_t)i * conv->rows.dilation) * row_size);
        }
        const int64_t at = (block->row + r) * conv->output_columns + block->column;
        cyl_convolve(model, convolution, &windows, cyl_at(model, image->y, at * filters), filters, block->columns);
    }
}

/* columns [begin, end) of one row of a depthwise convolution: apart those whose windows are read where they are */
static void run_row(const CylModel *model, const Conv *conv, const Image *image, int64_t row, int64_t begin,
                    int64_t end, const void **taps, char *copy) {
    const int64_t cuts[] = {begin, conv->inner_begin, conv->inner_end, end};
    for (int part = 0; part < 3; part++) {
        const int64_t from = cuts[part] > begin ? cuts[part] : begin, to = cuts[part + 1] < end ? cuts[part + 1] : end;
        if (from < to) {
            run_block(model, conv, image, &(Block){row, 1, from, to - from}, taps, copy);
        }
    }
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Conv *conv = layer->data;
    const bool is_framed = conv->is_framed;
    CylLayerState *state = &workspace->states[layer->index];
    const int64_t steps = cyl_steps(workspace, layer->x);
    const int64_t outputs = is_framed ? conv->output_rows : cyl_steps(workspace, layer->y);
    const int64_t frames = is_framed ? steps : 1, images = workspace->rows * frames;
    const int64_t bands = (outputs + conv->band - 1) / conv->band;
    /* parts of rows only where there are too few bands for the threads */
    const int64_t all = images * bands; /* 0 for a piece that ends no window */
    int64_t parts = all > 0 && all < team->threads ? (team->threads + all - 1) / all : 1;
    parts = parts < conv->output_columns ? parts : conv->output_columns;
    const int64_t width = (conv->output_columns + parts - 1) / parts;
    const void **taps = (const void **)state->bound + (int64_t)team->thread * conv->convolution.kernel_rows;
    char *copy = cyl_at(model, state->scratch, team->thread * (int64_t)copied_of(conv));
    Image image = {.rows = is_framed ? conv->input_rows : steps,
                   .kept_rows = is_framed ? 0 : cyl_kept_steps(model, layer)};
    int64_t after;
    cyl_time1d_pads(&conv->rows, image.rows, &image.before, &after);
    if (!is_framed && conv->rows.padding != CYL_PAD_SAME) {
        image.before = -cyl_first_window(layer, workspace);
    }
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, all * parts,
                               conv->band * width * cyl_convolution_work(&conv->convolution));
         cyl_goes_on(&items, j); j++) {
        const int64_t n = j / parts / bands, row = n / frames, frame = n % frames;
        const int64_t first = j / parts % bands * conv->band, begin = j % parts * width;
        const int64_t end = begin + width < conv->output_columns ? begin + width : conv->output_columns;
        image.x = cyl_step_at(workspace, layer->x, row, frame);
        image.y = cyl_step_at(workspace, layer->y, row, frame);
        image.kept = cyl_kept_row(model, layer, workspace, row);
        if (conv->convolution.is_depthwise) {
            run_row(model, conv, &image, first, begin, end, taps, copy);
        } else if (begin < end) {
            const int64_t rows = outputs - first < conv->band ? outputs - first : conv->band;
            run_block(model, conv, &image, &(Block){first, rows, begin, end - begin}, taps, copy);
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

const CylLayerKind cyl_layer_conv2d = {.prepare = prepare, .bind = bind, .run = run};
