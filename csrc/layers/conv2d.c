/*
 * Convolution over rows and columns, channels last, in groups (depthwise where a group has one channel):
 * y[r][q][f] = activation(b[f] + sum over taps (i, j) and channels c of the group of W[f][i][j][c] *
 * x[r*stride_rows + i*dilation_rows - before][q*stride_columns + j*dilation_columns - left][c]), a cross-correlation
 * with zeros outside x, one chain of multiply-adds over the taps in row-major order.
 *
 * The rows are the time of a sequence (rows, columns, channels), or the first axis of each of its frames (time, rows,
 * columns, channels). Outputs side by side, a block, are computed at once. Their windows are read where x lies; those
 * that reach beyond it, into the padding, from a copy of what they read. Where the rows are time, a causal convolution
 * carries those before as its state, so that a sequence may come in pieces.
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
} Conv;

/* what one call of `run` reads */
typedef struct {
    const Conv *conv;
    int64_t rows, before; /* rows of an image, and of its padding */
    const void **taps;    /* of this thread, (kernel_rows) */
    char *copy;           /* of this thread: a block's windows, (kernel_rows, copied_columns, channels) */
} Reader;

/* the columns that the windows of `count` outputs side by side reach over */
static int64_t columns_of(const Conv *conv, int64_t count) {
    return (count - 1) * conv->columns.stride + conv->columns.reach;
}

/* the outputs that are computed at once */
static int32_t block_of(const Conv *conv) {
    return conv->output_columns < CYL_CONV_COLUMNS ? conv->output_columns : CYL_CONV_COLUMNS;
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
    const int32_t kernel_rows = conv->convolution.kernel_rows;
    size_t used = 0, real = model->kernels->real_size;
    const uint64_t copied = cyl_size_mul((uint64_t)kernel_rows, (uint64_t)columns_of(conv, block_of(conv)));
    const int64_t acc = cyl_convolution_scratch(&conv->convolution);
    CylLayerState state = {0};
    state.h[0] =
        cyl_place(memory, &used, workspace->rows_capacity, (uint64_t)cyl_state_stride(layer->history_size), real);
    state.acc = cyl_place(memory, &used, workspace->threads, (uint64_t)acc, real);
    state.scratch =
        cyl_place(memory, &used, workspace->threads, cyl_size_mul(copied, (uint64_t)conv->convolution.channels), real);
    state.bound = cyl_place(memory, &used, workspace->threads, (uint64_t)kernel_rows, sizeof(void *));
    if (memory) {
        workspace->states[layer->index] = state;
    }
    return used;
}

/* Points the taps at the windows of outputs [first, first + count) of output row `row` of an image, or at a copy of
   what they read. `history`: the rows before the image, NULL for zeros. */
static void point_taps(const CylModel *model, const Reader *reader, const char *image, const char *history, int64_t row,
                       int64_t first, int64_t count) {
    const Conv *conv = reader->conv;
    const int64_t channels = conv->convolution.channels, span = columns_of(conv, count);
    const int64_t left = first * conv->columns.stride - conv->columns.before;
    const int64_t skipped = left < 0 ? -left : 0; /* columns of padding */
    int64_t inside = conv->input_columns - (left + skipped);
    inside = inside < 0 ? 0 : inside;
    inside = inside < span - skipped ? inside : span - skipped;
    const size_t real = model->kernels->real_size, pixel = (size_t)channels * real;
    for (int32_t i = 0; i < conv->convolution.kernel_rows; i++) {
        const int64_t at = row * conv->rows.stride + (int64_t)i * conv->rows.dilation - reader->before;
        const char *source = NULL;
        if (at >= 0 && at < reader->rows) {
            source = cyl_at(model, image, at * conv->row_size);
        } else if (at < 0 && history) {
            source = cyl_at(model, history, (reader->before + at) * conv->row_size);
        }
        if (source && inside == span) {
            reader->taps[i] = source + left * (int64_t)pixel;
            continue;
        }
        char *to = reader->copy + (size_t)(i * span) * pixel;
        reader->taps[i] = to;
        if (!source || inside <= 0) {
            memset(to, 0, (size_t)span * pixel);
            continue;
        }
        memset(to, 0, (size_t)skipped * pixel);
        memcpy(to + (size_t)skipped * pixel, source + (left + skipped) * (int64_t)pixel, (size_t)inside * pixel);
        memset(to + (size_t)(skipped + inside) * pixel, 0, (size_t)(span - skipped - inside) * pixel);
    }
}

/* keeps the last rows of a row of the batch as its new history */
static void keep_history(const CylModel *model, const Conv *conv, const char *x, int64_t rows, char *history) {
    const size_t row_size = (size_t)conv->row_size * model->kernels->real_size;
    const int64_t kept = conv->rows.reach - 1, old = rows < kept ? kept - rows : 0;
    memmove(history, history + (size_t)(kept - old) * row_size, (size_t)old * row_size);
    memcpy(history + (size_t)old * row_size, x + (size_t)(rows - (kept - old)) * row_size,
           (size_t)(kept - old) * row_size);
}

static void run(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team) {
    const Conv *conv = layer->data;
    const CylConvolution *convolution = &conv->convolution;
    CylLayerState *state = &workspace->states[layer->index];
    const bool is_framed = conv->is_framed;
    const int64_t steps = cyl_steps(workspace, layer->x), block = block_of(conv), channels = convolution->channels;
    const int64_t frames = is_framed ? steps : 1, history_stride = cyl_state_stride(layer->history_size);
    const int64_t outputs = is_framed ? conv->output_rows : cyl_steps(workspace, layer->y);
    const int64_t blocks = (conv->output_columns + block - 1) / block,
                  y_row = (int64_t)conv->output_columns * convolution->filters;
    const int64_t copied = convolution->kernel_rows * columns_of(conv, block) * channels;
    void *acc = cyl_at(model, state->acc, team->thread * cyl_convolution_scratch(convolution));
    Reader reader = {.conv = conv,
                     .rows = is_framed ? conv->input_rows : steps,
                     .taps = (const void **)state->bound + (int64_t)team->thread * convolution->kernel_rows,
                     .copy = cyl_at(model, state->scratch, team->thread * copied)};
    int64_t after;
    cyl_time1d_pads(&conv->rows, reader.rows, &reader.before, &after);
    const CylWindows windows = {reader.taps, convolution->kernel_rows, convolution->kernel_columns,
                                conv->columns.dilation * channels, conv->columns.stride * channels};
    CylItems items;
    for (int64_t j = cyl_items(&items, workspace, team, workspace->rows * frames * outputs * blocks,
                               block * cyl_convolution_work(convolution));
         cyl_goes_on(&items, j); j++) {
        const int64_t first = j % blocks * block, row = j / blocks % outputs, image = j / blocks / outputs;
        const int64_t count = conv->output_columns - first < block ? conv->output_columns - first : block;
        const int64_t of = image / frames, frame = image % frames;
        const char *history = layer->history_size ? cyl_at(model, state->h[0], of * history_stride) : NULL;
        point_taps(model, &reader, cyl_step_at(workspace, layer->x, of, frame), history, row, first, count);
        char *y = is_framed ? cyl_at(model, cyl_step_at(workspace, layer->y, of, frame), row * y_row)
                            : cyl_step_at(workspace, layer->y, of, row);
        cyl_convolve(model, convolution, &windows, acc, cyl_at(model, y, first * convolution->filters),
                     convolution->filters, count);
    }
    if (layer->history_size) {
        int64_t begin, end;
        cyl_barrier(team); /* all have read the history */
        cyl_share(team, workspace->rows, &begin, &end);
        for (int64_t of = begin; of < end; of++) {
            keep_history(model, conv, cyl_step_at(workspace, layer->x, of, 0), steps,
                         cyl_at(model, state->h[0], of * history_stride));
        }
    }
}

const CylLayerKind cyl_layer_conv2d = {.prepare = prepare, .bind = bind, .run = run};
