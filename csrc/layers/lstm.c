/*
 * LSTM with forget gate (Gers, Schmidhuber & Cummins, 2000), with an optional projection (Sak et al., 2014).
 *
 * [i f g o] = W x + R h + b
 * i, f, o = recurrent_activation(.), g = activation(.)
 * c = f*c + i*g
 * h = o*activation(c); with a projection, h = P (o*activation(c))
 *
 * Phases: product and cell of the same blocks in one; then, with a projection, the product with P, which needs
 * every block of the cell and therefore waits.
 */
#include "../internal.h"

#include <stdlib.h>

static void gates_and_cell(const CylModel *model, const CylNode *node, const CylStep *step, int32_t begin,
                           int32_t end) {
    const CylLstm *lstm = node->data;
    const CylRecurrent *r = &lstm->recurrent;
    CylOperand x = {step->x, step->x_stride, 0, r->input_size};
    CylOperand h = {step->h_previous, step->h_stride, r->input_size, r->output_size};
    CylOperand both[2] = {x, h};
    const CylOperand *operands = step->continued ? &both[1] : both;
    model->kernels->product(model, &lstm->gates, operands, step->continued ? 1 : 2, step->rows, step->acc,
                            step->acc_stride, step->continued, begin, end);
    model->kernels->lstm_cell(lstm, step, begin, end);
}

/* scratch per row: [o*activation(c) (hidden), accumulators of the projection] */
static void projection(const CylModel *model, const CylNode *node, const CylStep *step, int32_t begin, int32_t end) {
    const CylLstm *lstm = node->data;
    const CylMatrix *p = &lstm->projection;
    CylOperand cell = {step->scratch, step->scratch_stride, 0, lstm->recurrent.hidden_size};
    void *acc = cyl_at(model, step->scratch, cyl_state_stride(lstm->recurrent.hidden_size));
    model->kernels->product(model, p, &cell, 1, step->rows, acc, step->scratch_stride, false, begin, end);
    model->kernels->state_output(p, step, acc, step->scratch_stride, begin, end);
}

static CylStatus prepare(CylModel *model, CylNode *node, const CylNodeSpec *spec) {
    const CylTensor *ih = cyl_spec_tensor(spec, "weight_ih"), *hh = cyl_spec_tensor(spec, "weight_hh");
    const CylTensor *bias = cyl_spec_tensor(spec, "bias"), *hr = cyl_spec_tensor(spec, "weight_hr");
    if (!ih || !hh || ih->rank != 2 || hh->rank != 2 || ih->shape[0] % 4 != 0) {
        return CYL_E_TENSOR;
    }
    int64_t hidden = ih->shape[0] / 4, input = ih->shape[1], output = hh->shape[1];
    if (cyl_check_tensor(hh, 4 * hidden, output) || (!hr && output != hidden) ||
        (hr && cyl_check_tensor(hr, output, hidden)) || (bias && cyl_check_tensor(bias, 4 * hidden, -1))) {
        return CYL_E_TENSOR;
    }
    CylLstm *lstm = calloc(1, sizeof *lstm);
    if (!lstm) {
        return CYL_E_MEMORY;
    }
    node->data = lstm;
    CylStatus status = cyl_spec_activation(spec, "activation", &lstm->activation);
    if (status == CYL_OK) {
        status = cyl_spec_activation(spec, "recurrent_activation", &lstm->recurrent_activation);
    }
    if (status == CYL_OK &&
        (lstm->activation.id == CYL_ACT_SOFTMAX || lstm->recurrent_activation.id == CYL_ACT_SOFTMAX)) {
        status = CYL_E_OPTION;
    }
    if (status != CYL_OK) {
        return status;
    }
    CylPart parts[2] = {{ih->data, (int32_t)input}, {hh->data, (int32_t)output}};
    status = cyl_matrix_pack(model, &lstm->gates, (int32_t)hidden, 4, parts, 2, bias ? bias->data : NULL);
    if (status == CYL_OK && hr) {
        CylPart part = {hr->data, (int32_t)hidden};
        status = cyl_matrix_pack(model, &lstm->projection, (int32_t)output, 1, &part, 1, NULL);
    }
    if (status != CYL_OK) {
        return status;
    }
    CylRecurrent *r = &lstm->recurrent;
    r->hidden_size = (int32_t)hidden;
    r->input_size = (int32_t)input;
    r->output_size = (int32_t)output;
    r->state_count = 2;
    r->input_matrix = &lstm->gates;
    r->phases[0] = (CylPhase){gates_and_cell, lstm->gates.blocks, true};
    r->phase_count = 1;
    if (hr) {
        r->scratch_size = cyl_state_stride(hidden) + lstm->projection.row_size;
        r->phases[1] = (CylPhase){projection, lstm->projection.blocks, true};
        r->phase_count = 2;
    }
    node->work = 4 * hidden * (input + output) + (hr ? output * hidden : 0);
    model->bytes += lstm->gates.bytes + lstm->projection.bytes;
    return cyl_recurrent_prepare(model, node, spec, r);
}

static void release(CylNode *node) {
    CylLstm *lstm = node->data;
    cyl_matrix_free(&lstm->gates);
    cyl_matrix_free(&lstm->projection);
}

const CylLayer cyl_layer_lstm = {"lstm", prepare, release, cyl_recurrent_bind, cyl_recurrent_run};
