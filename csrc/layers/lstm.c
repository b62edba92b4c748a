/*
 * LSTM (Hochreiter & Schmidhuber, 1997), with forget gate (Gers, Schmidhuber & Cummins, 2000) and, as options:
 * no forget gate; the forget gate as 1 - input gate or the other way round (Greff et al., 2017); peepholes (Gers,
 * Schraudolph & Schmidhuber, 2002); projection (Sak et al., 2014); clips; layer normalisation (Ba et al., 2016).
 *
 * [i f g o] = W x + R h + b
 * i, f = recurrent_activation(. + p*c), g = activation(.)
 * c = f*c + i*g
 * o = recurrent_activation(. + p_o*c) with the new c
 * h = o*output_activation(c); with a projection, h = P (o*output_activation(c))
 * With layer normalisation: [i f g o] = LN(W x) + LN(R h) + b and h = o*output_activation(LN(c)).
 *
 * Phases: product and cell of the same blocks in one. A projection waits for every block of the cell, because its
 * product needs them all; a normalisation waits for every block of what it takes the mean of.
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

static void gates_and_cell(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                           int32_t end) {
    const CylLstm *lstm = layer->data;
    cyl_gates_product(model, &lstm->gates, &lstm->hidden_gates, step, begin, end);
    model->kernels->lstm_cell(lstm, step, begin, end);
}

/* scratch per row: [o*activation(c) (hidden), accumulators of the projection] */
static void projection(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end) {
    const CylLstm *lstm = layer->data;
    const CylMatrix *p = &lstm->projection;
    CylOperand cell = {step->scratch, step->scratch_stride, 0, lstm->recurrent.hidden_size};
    void *acc = cyl_at(model, step->scratch, cyl_state_stride(lstm->recurrent.hidden_size));
    cyl_product(model, p, &cell, 1, step->rows, acc, step->scratch_stride, false, step->descending, begin, end);
    model->kernels->state_output(p, step, acc, step->scratch_stride, begin, end);
}

/* layer normalisation; scratch per row: [o before its activation (hidden), new c (hidden), accumulators of R h] */
static void separate_products(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                              int32_t end) {
    const CylLstm *lstm = layer->data;
    const CylRecurrent *r = &lstm->recurrent;
    if (!step->continued) {
        cyl_product(model, &lstm->gates, &step->operands[0], 1, step->rows, step->acc, step->acc_stride, false,
                    step->descending, begin, end);
    }
    void *acc = cyl_at(model, step->scratch, 2 * cyl_state_stride(r->hidden_size));
    cyl_product(model, &lstm->hidden_gates, &step->operands[1], 1, step->rows, acc, step->scratch_stride, false,
                step->descending, begin, end);
}

static void normalised_gates(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                             int32_t end) {
    model->kernels->lstm_norm_gates(layer->data, step, begin, end);
}

static void normalised_cell(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                            int32_t end) {
    model->kernels->lstm_norm_cell(layer->data, step, begin, end);
}

/* which gates there are, and where */
static CylStatus read_gates(const CylLayerSpec *spec, CylLstm *lstm, int32_t *gates) {
    static const char *const couplings[] = {"", "f=1-i", "i=1-f", NULL};
    bool has_forget;
    int coupled;
    CYL_TRY(cyl_spec_flag(spec, "forget_gate", &has_forget));
    CYL_TRY(cyl_spec_choice(spec, "coupled", couplings, &coupled));
    if (coupled && !has_forget) {
        return CYL_E_OPTION;
    }
    lstm->coupling = coupled == 1   ? CYL_GATES_F_FROM_I
                     : coupled == 2 ? CYL_GATES_I_FROM_F
                     : has_forget   ? CYL_GATES_FREE
                                    : CYL_GATES_NO_FORGET;
    const bool has_i = lstm->coupling != CYL_GATES_I_FROM_F;
    const bool has_f = lstm->coupling == CYL_GATES_FREE || lstm->coupling == CYL_GATES_I_FROM_F;
    int32_t at = 0;
    lstm->at_i = has_i ? at++ : -1;
    lstm->at_f = has_f ? at++ : -1;
    lstm->at_g = at++;
    lstm->at_o = at++;
    *gates = at;
    return CYL_OK;
}

static CylStatus read_options(const CylLayerSpec *spec, CylLstm *lstm) {
    static const char *const norms[] = {"", "output", "carried", NULL};
    int norm;
    CYL_TRY(cyl_spec_gate_activation(spec, "activation", &lstm->activation));
    CYL_TRY(cyl_spec_gate_activation(spec, "recurrent_activation", &lstm->recurrent_activation));
    CYL_TRY(cyl_spec_gate_activation(spec, "output_activation", &lstm->output_activation));
    CYL_TRY(cyl_spec_choice(spec, "layer_norm", norms, &norm));
    lstm->is_normalised = norm > 0;
    lstm->carries_normalised_cell = norm == 2;
    CYL_TRY(cyl_spec_number(spec, "epsilon", 0.0, &lstm->epsilon));
    CYL_TRY(cyl_spec_number(spec, "cell_clip", 0.0, &lstm->cell_clip));
    return cyl_spec_number(spec, "gate_clip", 0.0, &lstm->gate_clip);
}

static CylStatus prepare_peepholes(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, int64_t hidden) {
    static const char *const roles[3] = {"peephole_i", "peephole_f", "peephole_o"};
    CylLstm *lstm = layer->data;
    const bool has_gate[3] = {lstm->at_i >= 0, lstm->at_f >= 0, true};
    const int64_t stride = cyl_state_stride(hidden);
    for (int i = 0; i < 3; i++) {
        const CylTensor *tensor = cyl_spec_tensor(spec, roles[i]);
        if (!tensor) {
            continue;
        }
        if (!has_gate[i]) {
            return CYL_E_TENSOR;
        }
        CYL_TRY(cyl_check_tensor(tensor, hidden, -1));
        if (!lstm->peepholes) {
            CYL_TRY(cyl_array_prepare(model, layer, spec, 3 * stride, &lstm->peepholes));
        }
        CYL_TRY(cyl_vector_place(layer, tensor, roles[i], cyl_at(model, lstm->peepholes, i * stride)));
    }
    return CYL_OK;
}

/* gain and shift of W x or R h, rows of accumulators of m */
static CylStatus prepare_norm(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, const char *gain,
                              const char *shift, const CylMatrix *m, CylNorm *norm) {
    const int64_t size = (int64_t)m->gates * m->units;
    CYL_TRY(cyl_check_tensor(cyl_spec_tensor(spec, gain), size, -1));
    CYL_TRY(cyl_check_tensor(cyl_spec_tensor(spec, shift), size, -1));
    CYL_TRY(cyl_row_prepare(model, layer, spec, m, gain, &norm->gain));
    return cyl_row_prepare(model, layer, spec, m, shift, &norm->shift);
}

static CylStatus prepare_normalised(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, int64_t hidden,
                                    int32_t gates) {
    static const CylPart x = {"weight_ih", 0}, h = {"weight_hh", 0};
    CylLstm *lstm = layer->data;
    CylMatrix *m = &lstm->gates;
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, m, (int32_t)hidden, gates, &x, 1, NULL));
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, &lstm->hidden_gates, (int32_t)hidden, gates, &h, 1, NULL));
    CYL_TRY(cyl_row_prepare(model, layer, spec, m, "bias", &lstm->bias));
    CYL_TRY(prepare_norm(model, layer, spec, "norm_ih_gain", "norm_ih_shift", m, &lstm->input_norm));
    CYL_TRY(prepare_norm(model, layer, spec, "norm_hh_gain", "norm_hh_shift", m, &lstm->hidden_norm));
    CYL_TRY(cyl_vector_prepare(model, layer, spec, "norm_c_gain", hidden, &lstm->cell_norm.gain));
    CYL_TRY(cyl_vector_prepare(model, layer, spec, "norm_c_shift", hidden, &lstm->cell_norm.shift));
    CylRecurrent *r = &lstm->recurrent;
    r->scratch_size = 2 * cyl_state_stride(hidden) + m->row_size;
    r->phases[0] = (CylPhase){separate_products, m->blocks, true};
    r->phases[1] = (CylPhase){normalised_gates, m->blocks, true};
    r->phases[2] = (CylPhase){normalised_cell, m->blocks, true};
    r->phase_count = 3;
    return CYL_OK;
}

static CylStatus prepare_plain(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, int64_t hidden,
                               int32_t gates, const CylTensor *hr) {
    static const CylPart part = {"weight_hr", 0};
    CylLstm *lstm = layer->data;
    CylRecurrent *r = &lstm->recurrent;
    CYL_TRY(cyl_gates_prepare(model, layer, spec, &lstm->gates, &lstm->hidden_gates, (int32_t)hidden, gates));
    r->phases[0] = (CylPhase){gates_and_cell, lstm->gates.blocks, true};
    r->phase_count = 1;
    if (!hr) {
        return CYL_OK;
    }
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, &lstm->projection, (int32_t)hr->shape[0], 1, &part, 1, NULL));
    r->scratch_size = cyl_state_stride(hidden) + lstm->projection.row_size;
    r->phases[1] = (CylPhase){projection, lstm->projection.blocks, true};
    r->phase_count = 2;
    return CYL_OK;
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *ih = cyl_spec_tensor(spec, "weight_ih"), *hh = cyl_spec_tensor(spec, "weight_hh");
    const CylTensor *bias = cyl_spec_tensor(spec, "bias"), *hr = cyl_spec_tensor(spec, "weight_hr");
    CylLstm *lstm = layer->data;
    int32_t gates;
    CYL_TRY(read_gates(spec, lstm, &gates));
    CYL_TRY(read_options(spec, lstm));
    if (!ih || !hh || ih->rank != 2 || hh->rank != 2 || ih->shape[0] % gates != 0) {
        return CYL_E_TENSOR;
    }
    const int64_t hidden = ih->shape[0] / gates, input = ih->shape[1], output = hr ? hr->shape[0] : hidden;
    if ((hr && lstm->is_normalised) || hh->shape[0] != gates * hidden) {
        return CYL_E_TENSOR;
    }
    CYL_TRY(cyl_recurrent_read_mask(model, spec, output, hh->shape[1], &lstm->recurrent));
    CYL_TRY(cyl_check_optional(hr, output, hidden));
    CYL_TRY(cyl_check_optional(bias, gates * hidden, -1));
    CYL_TRY(lstm->is_normalised ? prepare_normalised(model, layer, spec, hidden, gates)
                                : prepare_plain(model, layer, spec, hidden, gates, hr));
    CYL_TRY(prepare_peepholes(model, layer, spec, hidden));
    CylRecurrent *r = &lstm->recurrent;
    r->hidden_size = (int32_t)hidden;
    r->input_size = (int32_t)input;
    r->output_size = (int32_t)output;
    r->state_count = 2;
    r->gate_count = 4;
    r->input_matrix = &lstm->gates;
    layer->work = gates * hidden * (input + hh->shape[1]) + (hr ? output * hidden : 0);
    return cyl_recurrent_prepare(model, layer, spec, r);
}

const CylLayerKind cyl_layer_lstm = {.data_size = sizeof(CylLstm),
                                     .prepare = prepare,
                                     .bind = cyl_recurrent_bind,
                                     .resolve = cyl_recurrent_resolve,
                                     .run = cyl_recurrent_run};
