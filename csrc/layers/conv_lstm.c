/*
 * ConvLSTM (Shi et al., 2015) in one or two dimensions, as Keras computes it.
 *
 * [i f g o] = W * x + R * h + b, where * is a cross-correlation over the spatial axes: W with strides, dilation and
 * padding "valid" or "same"; R with stride 1 and padding "same"
 * c = f*c + i*g, h = o*output_activation(c) at every position, as in lstm.c
 *
 * At one position of the output the gates are one product over the taps that fall inside the image, in ascending
 * order: taps of the padding are skipped, never multiplied. Positions are the items that threads share.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "layers/lstm.h"
#include "model/activations.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/recurrent.h"
#include "run/workspace.h"

#define MAX_TAPS 1024

/* one axis of a cross-correlation */
typedef struct {
    int32_t input, output;                    /* positions */
    int32_t kernel, stride, dilation, before; /* before: positions of padding in front */
} Axis;

typedef struct {
    CylLstm lstm;    /* first: the scheduler's CylRecurrent, the gates over [taps of x, taps of h], the activations */
    Axis x[2], h[2]; /* rows and columns; in one dimension there is one row */
    int32_t channels, filters;
} ConvLstm;

/* Adds an operand for each tap of output position (row, column) that falls inside the image; returns their number. */
static int32_t add_taps(const CylModel *model, const Axis *axes, int32_t row, int32_t column, const void *image,
                        int64_t stride, int32_t channels, int32_t first, CylOperand *operands) {
    int32_t count = 0;
    for (int32_t i = 0; i < axes[0].kernel; i++) {
        int32_t at_row = row * axes[0].stride + i * axes[0].dilation - axes[0].before;
        for (int32_t j = 0; j < axes[1].kernel; j++) {
            int32_t at_column = column * axes[1].stride + j * axes[1].dilation - axes[1].before;
            if (at_row < 0 || at_row >= axes[0].input || at_column < 0 || at_column >= axes[1].input) {
                continue;
            }
            int64_t offset = ((int64_t)at_row * axes[1].input + at_column) * channels;
            operands[count++] = (CylOperand){cyl_at(model, image, offset), stride,
                                             first + (i * axes[1].kernel + j) * channels, channels};
        }
    }
    return count;
}

static void positions(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end) {
    const ConvLstm *conv = layer->data;
    const CylMatrix *m = &conv->lstm.gates;
    CylOperand operands[MAX_TAPS];
    int32_t columns = conv->h[1].output, hidden_first = conv->x[0].kernel * conv->x[1].kernel * conv->channels;
    for (int32_t p = begin; p < end; p++) {
        int32_t row = p / columns, column = p % columns;
        int32_t count = add_taps(model, conv->x, row, column, step->operands[0].x, step->operands[0].stride,
                                 conv->channels, 0, operands);
        count += add_taps(model, conv->h, row, column, step->h_previous, step->h_stride, conv->filters, hidden_first,
                          operands + count);
        int64_t at = (int64_t)p * conv->filters;
        CylStep here = *step;
        here.acc = cyl_at(model, step->acc, p * m->row_size);
        here.h_previous = cyl_at(model, step->h_previous, at);
        here.h_next = cyl_at(model, step->h_next, at);
        here.c = cyl_at(model, step->c, at);
        here.y = step->y ? cyl_at(model, step->y, at) : NULL;
        CylStepTrace trace;
        if (step->trace) {
            trace = *step->trace;
            trace.pre = trace.pre ? cyl_at(model, trace.pre, at) : NULL;
            trace.gates = trace.gates ? cyl_at(model, trace.gates, at) : NULL;
            trace.cell = trace.cell ? cyl_at(model, trace.cell, at) : NULL;
            here.trace = &trace;
        }
        cyl_product(model, m, operands, count, here.rows, here.acc, here.acc_stride, false, false, 0, m->blocks);
        model->kernels->lstm_cell(&conv->lstm, &here, 0, m->blocks);
    }
}

/* Reads the input size, kernel, stride and dilation of one axis from the options `names`, and derives the rest. */
static CylStatus read_axis(const CylLayerSpec *spec, const char *const names[4], bool is_same, Axis *x, Axis *h) {
    int32_t *numbers[4] = {&x->input, &x->kernel, &x->stride, &x->dilation};
    for (int i = 0; i < 4; i++) {
        CYL_TRY(cyl_spec_whole(spec, names[i], 1, 1000000, numbers[i]));
    }
    int64_t reach = (int64_t)(x->kernel - 1) * x->dilation + 1;
    if (is_same) {
        x->output = (x->input + x->stride - 1) / x->stride;
        int64_t total = (int64_t)(x->output - 1) * x->stride + reach - x->input;
        x->before = (int32_t)(total > 0 ? total / 2 : 0);
    } else {
        if (reach > x->input) {
            return CYL_E_OPTION;
        }
        x->output = (int32_t)((x->input - reach) / x->stride + 1);
    }
    *h = (Axis){x->output, x->output, x->kernel, 1, 1, (x->kernel - 1) / 2};
    return CYL_OK;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    static const char *const rows[4] = {"input_rows", "kernel_rows", "stride_rows", "dilation_rows"};
    static const char *const columns[4] = {"input_columns", "kernel_columns", "stride_columns", "dilation_columns"};
    const CylTensor *ih = cyl_spec_tensor(spec, "weight_ih"), *hh = cyl_spec_tensor(spec, "weight_hh");
    const CylTensor *bias = cyl_spec_tensor(spec, "bias");
    static const char *const paddings[] = {"valid", "same", NULL};
    ConvLstm *conv = layer->data;
    CylLstm *lstm = &conv->lstm;
    int padding;
    CYL_TRY(cyl_spec_gate_activation(spec, "activation", &lstm->activation));
    CYL_TRY(cyl_spec_gate_activation(spec, "recurrent_activation", &lstm->recurrent_activation));
    lstm->output_activation = lstm->activation;
    lstm->at_f = 1;
    lstm->at_g = 2;
    lstm->at_o = 3;
    CYL_TRY(cyl_spec_choice(spec, "conv_padding", paddings, &padding));
    CYL_TRY(read_axis(spec, rows, padding == 1, &conv->x[0], &conv->h[0]));
    CYL_TRY(read_axis(spec, columns, padding == 1, &conv->x[1], &conv->h[1]));
    int64_t taps = (int64_t)conv->x[0].kernel * conv->x[1].kernel;
    if (2 * taps > MAX_TAPS) {
        return CYL_E_OPTION;
    }
    if (!ih || !hh || ih->rank != 2 || hh->rank != 2 || ih->shape[0] % 4 != 0 || ih->shape[1] % taps != 0) {
        return CYL_E_TENSOR;
    }
    int64_t filters = ih->shape[0] / 4, channels = ih->shape[1] / taps;
    CYL_TRY(cyl_check_tensor(hh, 4 * filters, taps * filters));
    CYL_TRY(cyl_check_optional(bias, 4 * filters, -1));
    conv->filters = (int32_t)filters;
    conv->channels = (int32_t)channels;
    const CylPart parts[2] = {{"weight_ih", 0}, {"weight_hh", 0}};
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, &lstm->gates, (int32_t)filters, 4, parts, 2, "bias"));
    int64_t outputs = (int64_t)conv->h[0].output * conv->h[1].output;
    int64_t inputs = (int64_t)conv->x[0].input * conv->x[1].input;
    if (filters > (1 << 28) / outputs || channels > (1 << 28) / inputs) {
        return CYL_E_VALUE;
    }
    CylRecurrent *r = &lstm->recurrent;
    r->hidden_size = r->output_size = (int32_t)(outputs * filters);
    r->input_size = (int32_t)(inputs * channels);
    r->state_count = 2;
    r->gate_count = 4;
    r->positions = outputs;
    r->is_spatial = true;
    r->input_matrix = &lstm->gates;
    r->phases[0] = (CylPhase){positions, (int32_t)outputs, true};
    r->phase_count = 1;
    layer->work = 4 * outputs * filters * taps * (channels + filters);
    return cyl_recurrent_prepare(model, layer, spec, r);
}

const CylLayerKind cyl_layer_conv_lstm = {.data_size = sizeof(ConvLstm),
                                          .prepare = prepare,
                                          .bind = cyl_recurrent_bind,
                                          .resolve = cyl_recurrent_resolve,
                                          .run = cyl_recurrent_run};
