/*
 * Simple recurrent network (Elman, 1990): h = activation(W x + R h + b).
 */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "layers/layers.h"
#include "layers/rnn.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/recurrent.h"

static void gate_and_cell(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin,
                          int32_t end) {
    const CylRnn *rnn = layer->data;
    cyl_gates_product(model, &rnn->gates, &rnn->hidden_gates, step, begin, end);
    model->kernels->rnn_cell(rnn, step, begin, end);
}

static CylStatus prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    const CylTensor *ih = cyl_spec_tensor(spec, "weight_ih"), *hh = cyl_spec_tensor(spec, "weight_hh");
    const CylTensor *bias = cyl_spec_tensor(spec, "bias");
    if (!ih || ih->rank != 2) {
        return CYL_E_TENSOR;
    }
    const int64_t hidden = ih->shape[0], input = ih->shape[1];
    CylRnn *rnn = layer->data;
    if (!hh || hh->rank != 2 || hh->shape[0] != hidden) {
        return CYL_E_TENSOR;
    }
    CYL_TRY(cyl_recurrent_read_mask(model, spec, hidden, hh->shape[1], &rnn->recurrent));
    CYL_TRY(cyl_check_optional(bias, hidden, -1));
    CYL_TRY(cyl_spec_gate_activation(spec, "activation", &rnn->activation));
    CYL_TRY(cyl_spec_number(spec, "gate_clip", 0.0, &rnn->gate_clip));
    CYL_TRY(cyl_gates_prepare(model, layer, spec, &rnn->gates, &rnn->hidden_gates, (int32_t)hidden, 1));
    CylRecurrent *r = &rnn->recurrent;
    r->hidden_size = r->output_size = (int32_t)hidden;
    r->input_size = (int32_t)input;
    r->state_count = 1;
    r->gate_count = 1;
    r->input_matrix = &rnn->gates;
    r->phases[0] = (CylPhase){gate_and_cell, rnn->gates.blocks, true};
    r->phase_count = 1;
    layer->work = hidden * (input + hh->shape[1]);
    return cyl_recurrent_prepare(model, layer, spec, r);
}

const CylLayerKind cyl_layer_rnn = {.data_size = sizeof(CylRnn),
                                    .prepare = prepare,
                                    .bind = cyl_recurrent_bind,
                                    .resolve = cyl_recurrent_resolve,
                                    .run = cyl_recurrent_run};
