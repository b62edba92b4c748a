/*
 * What the kinds of convolutions share. Filters come in groups, each of which reads its share of the channels; where a
 * group has one channel (depthwise) the filters are vectors, else each group is a matrix of (filters, taps * channels),
 * taps in row-major order, each with its channels.
 *
 * A sum is one chain of multiply-adds, over the taps and within them over the channels, ascending. How many taps are
 * one operand of a product, and how many outputs are computed at once, changes nothing in it.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/convolution.h"
#include "model/activations.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"

#include <stdlib.h>

/* operands that are passed to one product */
#define OPERANDS_AT_ONCE 32

/* depthwise: taps (taps, filters), so that the filters of one tap lie side by side */
static CylStatus prepare_taps(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylConvolution *conv) {
    const int64_t taps = (int64_t)conv->kernel_rows * conv->kernel_columns;
    CYL_TRY(cyl_array_prepare(model, layer, spec, taps * conv->filters, &conv->taps));
    CYL_TRY(cyl_tensor_place(
        layer,
        (CylPlace){
            .role = "weight", .rows = conv->filters, .columns = taps, .is_transposed = true, .data = conv->taps}));
    return cyl_spec_tensor(spec, "bias")
               ? cyl_vector_prepare(model, layer, spec, "bias", conv->filters, &conv->bias)
               : cyl_array_prepare(model, layer, spec, cyl_state_stride(conv->filters), &conv->bias);
}

CylStatus cyl_group_prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *m, int32_t units,
                            int64_t first_row) {
    const CylPart part = {"weight", first_row};
    const int type = cyl_weight_type_from_name(cyl_spec_tensor(spec, "weight")->type, model->kernels->real_size);
    if (type >= 0 && cyl_weight_formats[type].has_scales) {
        return CYL_E_OPTION; /* the taps of a window are several operands, and these types have one scale for all */
    }
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, m, units, 1, &part, 1, NULL));
    if (!cyl_spec_tensor(spec, "bias")) {
        return CYL_OK;
    }
    return cyl_tensor_place(layer, (CylPlace){.role = "bias",
                                              .first_row = first_row,
                                              .rows = units,
                                              .columns = 1,
                                              .matrix = m,
                                              .is_row = true,
                                              .data = m->bias});
}

CylStatus cyl_convolution_prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, size_t size,
                                  int32_t axes) {
    const CylTensor *weight = cyl_spec_tensor(spec, "weight"), *bias = cyl_spec_tensor(spec, "bias");
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    int32_t groups, channels = x->shape[x->rank - 1], filters = y->shape[y->rank - 1];
    CYL_TRY(cyl_spec_whole(spec, "groups", 1, 1000000, &groups));
    const bool is_depthwise = groups > 1 && groups == channels;
    const size_t at = (size + _Alignof(CylMatrix) - 1) / _Alignof(CylMatrix) * _Alignof(CylMatrix);
    CylConvolution *conv = calloc(1, at + (is_depthwise ? 0 : (size_t)groups * sizeof(CylMatrix)));
    if (!conv) {
        return CYL_E_MEMORY;
    }
    layer->data = conv;
    CYL_TRY(cyl_spec_activation(spec, "activation", &conv->activation));
    conv->is_depthwise = is_depthwise;
    conv->groups = groups;
    conv->channels = channels;
    conv->filters = filters;
    conv->matrices = is_depthwise ? NULL : (CylMatrix *)((char *)conv + at);
    if (channels % groups || filters % groups) {
        return CYL_E_VALUE;
    }
    if (!weight || weight->rank != axes + 2 || weight->shape[0] != filters ||
        weight->shape[axes + 1] != channels / groups || weight->shape[axes] > (1 << 20) ||
        (axes > 1 && weight->shape[1] > (1 << 20) / weight->shape[2])) {
        return CYL_E_TENSOR;
    }
    conv->kernel_rows = axes > 1 ? (int32_t)weight->shape[1] : 1;
    conv->kernel_columns = (int32_t)weight->shape[axes];
    CYL_TRY(cyl_check_optional(bias, filters, -1));
    if (is_depthwise) {
        return prepare_taps(model, layer, spec, conv);
    }
    const int32_t units = filters / groups;
    for (int32_t g = 0; g < groups; g++) {
        CYL_TRY(cyl_group_prepare(model, layer, spec, &conv->matrices[g], units, (int64_t)g * units));
    }
    return CYL_OK;
}

int64_t cyl_convolution_work(const CylConvolution *conv) {
    return (int64_t)conv->kernel_rows * conv->kernel_columns * (conv->channels / conv->groups) * conv->filters;
}

static void convolve_group(const CylModel *model, const CylConvolution *conv, int32_t group, const CylWindows *windows,
                           char *y, int64_t y_stride, int64_t n) {
    const CylMatrix *m = &conv->matrices[group];
    const int32_t channels = conv->channels / conv->groups, row_numbers = windows->kernel_columns * channels;
    /* taps that lie side by side are one operand; a BLAS wants columns that do not overlap */
    const bool is_joined =
        windows->tap_stride == channels && (model->kernels->is_packed || windows->stride >= row_numbers);
    const int32_t per_row = is_joined ? 1 : windows->kernel_columns, count = is_joined ? row_numbers : channels;
    const int32_t operand_count = windows->kernel_rows * per_row;
    CylOperand operands[OPERANDS_AT_ONCE];
    for (int32_t first = 0, most; first < operand_count; first += most) {
        most = operand_count - first < OPERANDS_AT_ONCE ? operand_count - first : OPERANDS_AT_ONCE;
        for (int32_t k = 0; k < most; k++) {
            const int32_t row = (first + k) / per_row, column = (first + k) % per_row;
            const int64_t at = (int64_t)group * channels + column * windows->tap_stride;
            operands[k] =
                (CylOperand){cyl_at(model, windows->rows[row], at), windows->stride, (first + k) * count, count};
        }
        model->kernels->product_output[m->type](model, m, operands, most, n,
                                                first + most < operand_count ? NULL : &conv->activation, first > 0, y,
                                                y_stride);
    }
}

void cyl_convolve(const CylModel *model, const CylConvolution *conv, const CylWindows *windows, char *y,
                  int64_t y_stride, int64_t n) {
    const int32_t units = conv->filters / conv->groups;
    if (conv->is_depthwise) {
        model->kernels->depthwise(&conv->activation, conv->taps, conv->bias, windows, units, n, y, y_stride,
                                  conv->filters);
    } else {
        for (int32_t g = 0; g < conv->groups; g++) {
            convolve_group(model, conv, g, windows, cyl_at(model, y, (int64_t)g * units), y_stride, n);
        }
    }
    for (int64_t j = 0; j < n && conv->activation.id == CYL_ACT_SOFTMAX; j++) {
        void *output = cyl_at(model, y, j * y_stride);
        model->kernels->activate(&conv->activation, output, output, conv->filters, true);
    }
}
