/*
 * GRU (Cho et al., 2014), with the reset gate before or after the recurrent product of the candidate.
 *
 * r, z = recurrent_activation(W x + b + R h + b_h)
 * reset-after:  n = activation(W_n x + b_n + r*(R_n h + b_hn))      (PyTorch; Keras reset_after=True)
 * reset-before: n = activation(W_n x + b_n + R_n (r*h))             (Keras reset_after=False)
 * h = z*h + (1 - z)*n
 *
 * The x half and the h half of each gate are two chains, added once at the end.
 * Phases: reset-after has one; reset-before has the gates, a barrier, and the candidate, whose product needs every
 * unit of r*h.
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/layers.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/recurrent.h"
#include "run/workspace.h"

static void input_half(const CylModel *model, const CylGru *gru, const CylStep *step, int32_t begin, int32_t end) {
    if (!step->continued) {
        cyl_product(model, &gru->input, &step->operands[0], 1, step->rows, step->acc, step->acc_stride, false,
                    step->descending, begin, end);
    }
}

static void reset_after(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end) {
    const CylGru *gru = layer->data;
    input_half(model, gru, step, begin, end);
    cyl_product(model, &gru->gates, &step->operands[1], 1, step->rows, step->scratch, step->scratch_stride, false,
                step->descending, begin, end);
    model->kernels->gru_cell(gru, step, begin, end);
}

/* scratch per row: [z (hidden), r*h (hidden), accumulators of the gates, accumulators of the candidate] */
static void reset_before_gates(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                               int32_t end) {
    const CylGru *gru = layer->data;
    input_half(model, gru, step, begin, end);
    void *acc = cyl_at(model, step->scratch, 2 * cyl_state_stride(gru->recurrent.hidden_size));
    cyl_product(model, &gru->gates, &step->operands[1], 1, step->rows, acc, step->scratch_stride, false,
                step->descending, begin, end);
    model->kernels->gru_gates(gru, step, begin, end);
}

/* with masks of h: those of r*h, which the candidate's product reads */
static void mask_reset(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end) {
    const void *reset = cyl_at(model, step->scratch, cyl_state_stride(layer->recurrent->hidden_size));
    cyl_recurrent_mask(model, layer, step, reset, step->scratch_stride, begin, end);
}

static void reset_before_candidate(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                                   int32_t end) {
    const CylGru *gru = layer->data;
    int64_t stride = cyl_state_stride(gru->recurrent.hidden_size);
    CylOperand reset = {cyl_at(model, step->scratch, stride), step->scratch_stride, 0, gru->recurrent.hidden_size};
    if (step->masked) {
        reset = (CylOperand){step->masked, step->masked_stride, 0, gru->candidate.columns};
    }
    void *acc = cyl_at(model, step->scratch, 2 * stride + gru->gates.row_size);
    /* a block of the candidate, which has one gate, is as wide as four blocks of the gates */
    int32_t ratio = gru->candidate.width / gru->input.width;
    int32_t first = begin * ratio, last = end * ratio;
    last = last < gru->input.blocks ? last : gru->input.blocks;
    cyl_product(model, &gru->candidate, &reset, 1, step->rows, acc, step->scratch_stride, false, step->descending,
                begin, end);
    model->kernels->gru_cell(gru, step, first, last);
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *ih = cyl_spec_tensor(spec, "weight_ih"), *hh = cyl_spec_tensor(spec, "weight_hh");
    const CylTensor *bias_ih = cyl_spec_tensor(spec, "bias_ih"), *bias_hh = cyl_spec_tensor(spec, "bias_hh");
    if (!ih || !hh || ih->rank != 2 || hh->rank != 2 || ih->shape[0] % 3 != 0) {
        return CYL_E_TENSOR;
    }
    const int64_t hidden = ih->shape[0] / 3, input = ih->shape[1];
    CylGru *gru = layer->data;
    if (hh->shape[0] != 3 * hidden) {
        return CYL_E_TENSOR;
    }
    CYL_TRY(cyl_recurrent_read_mask(model, spec, hidden, hh->shape[1], &gru->recurrent));
    CYL_TRY(cyl_check_optional(bias_ih, 3 * hidden, -1));
    CYL_TRY(cyl_check_optional(bias_hh, 3 * hidden, -1));
    CYL_TRY(cyl_spec_flag(spec, "reset_after", &gru->is_reset_after));
    if (!gru->is_reset_after && bias_hh) {
        return CYL_E_OPTION;
    }
    CYL_TRY(cyl_spec_gate_activation(spec, "activation", &gru->activation));
    CYL_TRY(cyl_spec_gate_activation(spec, "recurrent_activation", &gru->recurrent_activation));
    CYL_TRY(cyl_spec_number(spec, "gate_clip", 0.0, &gru->gate_clip));
    const CylPart x = {"weight_ih", 0}, h = {"weight_hh", 0}, n = {"weight_hh", 2 * hidden};
    const int32_t h_gates = gru->is_reset_after ? 3 : 2;
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, &gru->input, (int32_t)hidden, 3, &x, 1, "bias_ih"));
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, &gru->gates, (int32_t)hidden, h_gates, &h, 1, "bias_hh"));
    if (!gru->is_reset_after) {
        CYL_TRY(cyl_matrix_prepare(model, layer, spec, &gru->candidate, (int32_t)hidden, 1, &n, 1, NULL));
    }
    CylRecurrent *r = &gru->recurrent;
    r->hidden_size = r->output_size = (int32_t)hidden;
    r->input_size = (int32_t)input;
    r->state_count = 1;
    r->gate_count = 3;
    r->input_matrix = &gru->input;
    if (gru->is_reset_after) {
        r->scratch_size = gru->gates.row_size;
        r->phases[0] = (CylPhase){reset_after, gru->gates.blocks, true};
        r->phase_count = 1;
    } else {
        r->scratch_size = 2 * cyl_state_stride(hidden) + gru->gates.row_size + gru->candidate.row_size;
        r->phases[0] = (CylPhase){reset_before_gates, gru->gates.blocks, true};
        r->phase_count = 1;
        if (r->h_copies) {
            r->phases[r->phase_count++] = (CylPhase){mask_reset, cyl_recurrent_mask_blocks(hidden), true};
        }
        r->phases[r->phase_count++] = (CylPhase){reset_before_candidate, gru->candidate.blocks, true};
    }
    layer->work = 3 * hidden * (input + hh->shape[1]);
    return cyl_recurrent_prepare(model, layer, spec, r);
}

const CylLayerKind cyl_layer_gru = {.data_size = sizeof(CylGru),
                                    .prepare = prepare,
                                    .bind = cyl_recurrent_bind,
                                    .resolve = cyl_recurrent_resolve,
                                    .run = cyl_recurrent_run};
