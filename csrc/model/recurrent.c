/* What all recurrent layers have in common before they run: their options and states. */
#include "model/recurrent.h"

#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"

#include <string.h>

static CylStatus read_options(const CylLayerSpec *spec, CylRecurrent *recurrent) {
    static const char *const paddings[] = {"zero", "repeat", NULL}, *const empties[] = {"initial", "zero", NULL};
    int padding, empty;
    CYL_TRY(cyl_spec_flag(spec, "reverse", &recurrent->is_reverse));
    CYL_TRY(cyl_spec_choice(spec, "padding", paddings, &padding));
    CYL_TRY(cyl_spec_choice(spec, "empty_state", empties, &empty));
    recurrent->repeats_padding = padding == 1;
    recurrent->zeroes_empty = empty == 1;
    return CYL_OK;
}

/* a value that a state is read from or written to; -1 for none */
static CylStatus check_state(const CylModel *model, int32_t value, int32_t size) {
    if (value >= 0 && (model->values[value].features != size || model->values[value].kind == CYL_SEQUENCE)) {
        return CYL_E_VALUE;
    }
    return CYL_OK;
}

CylStatus cyl_recurrent_read_mask(const CylModel *model, const CylLayerSpec *spec, int64_t output, int64_t columns,
                                  CylRecurrent *recurrent) {
    const int32_t value = cyl_spec_input(spec, "h_mask");
    if (value < 0) {
        return columns == output ? CYL_OK : CYL_E_TENSOR;
    }
    if (output < 1 || model->values[value].has_time || model->values[value].features != columns ||
        columns % output != 0) {
        return CYL_E_VALUE;
    }
    recurrent->h_mask = value;
    recurrent->h_copies = (int32_t)(columns / output);
    return CYL_OK;
}

void cyl_recurrent_mask(const CylModel *model, const CylLayer *layer, const CylStep *step, const void *h,
                        int64_t stride, int32_t begin, int32_t end) {
    const CylRecurrent *recurrent = layer->recurrent;
    const int64_t from = (int64_t)begin * 16, size = recurrent->output_size;
    const int64_t count = ((int64_t)end * 16 < size ? (int64_t)end * 16 : size) - from;
    for (int64_t row = 0; row < step->rows && count > 0; row++) {
        const void *h_row = cyl_at(model, h, row * stride + from);
        for (int32_t copy = 0; copy < recurrent->h_copies; copy++) {
            const int64_t at = copy * size + from;
            void *masked = cyl_at(model, step->masked, row * step->masked_stride + at);
            memcpy(masked, h_row, (size_t)count * model->kernels->real_size);
            model->kernels->merge(CYL_MERGE_MUL, cyl_at(model, step->h_masks, row * step->h_masks_stride + at), 1,
                                  masked, count, 1.0);
        }
    }
}

static void mask_state(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end) {
    cyl_recurrent_mask(model, layer, step, step->h_previous, step->h_stride, begin, end);
}

/* a phase before all others, which leaves what the recurrent product reads */
static CylStatus add_mask_phase(CylRecurrent *recurrent) {
    if (recurrent->phase_count == CYL_MAX_PHASES) {
        return CYL_E_OPTION;
    }
    memmove(recurrent->phases + 1, recurrent->phases, (size_t)recurrent->phase_count * sizeof *recurrent->phases);
    recurrent->phases[0] = (CylPhase){mask_state, cyl_recurrent_mask_blocks(recurrent->output_size), true};
    recurrent->phase_count++;
    return CYL_OK;
}

CylStatus cyl_gates_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *gates,
                            CylMatrix *hidden_gates, int32_t units, int32_t gate_count) {
    static const CylPart parts[2] = {{"weight_ih", 0}, {"weight_hh", 0}};
    const size_t real_size = model->kernels->real_size;
    const int of_x = cyl_weight_type_from_name(cyl_spec_tensor(spec, "weight_ih")->type, real_size);
    const int of_h = cyl_weight_type_from_name(cyl_spec_tensor(spec, "weight_hh")->type, real_size);
    if (of_x < 0 || of_h < 0) {
        return CYL_E_OPTION;
    }
    const bool is_apart = of_x != of_h || cyl_weight_formats[of_x].has_scales;
    CYL_TRY(cyl_matrix_prepare(model, layer, spec, gates, units, gate_count, parts, is_apart ? 1 : 2, "bias"));
    if (!is_apart) {
        return CYL_OK;
    }
    gates->next = of_x == of_h ? hidden_gates : NULL;
    return cyl_matrix_prepare(model, layer, spec, hidden_gates, units, gate_count, parts + 1, 1, NULL);
}

CylStatus cyl_recurrent_prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylRecurrent *recurrent) {
    static const char *const in_roles[CYL_MAX_STATES] = {"h0", "c0"}, *const out_roles[CYL_MAX_STATES] = {"h", "c"};
    const int32_t sizes[CYL_MAX_STATES] = {recurrent->output_size, recurrent->hidden_size};
    CYL_TRY(read_options(spec, recurrent));
    recurrent->positions = recurrent->positions > 1 ? recurrent->positions : 1;
    layer->recurrent = recurrent;
    for (int32_t i = 0; i < recurrent->state_count; i++) {
        layer->states_in[i] = cyl_spec_input(spec, in_roles[i]);
        layer->states_out[i] = cyl_spec_output(spec, out_roles[i]);
        CYL_TRY(check_state(model, layer->states_in[i], sizes[i]));
        CYL_TRY(check_state(model, layer->states_out[i], sizes[i]));
    }
    const CylValue *x = &model->values[layer->x], *y = &model->values[layer->y];
    if (x->kind != CYL_SEQUENCE || y->kind != CYL_SEQUENCE || x->features != recurrent->input_size ||
        y->features != recurrent->output_size || (layer->mask >= 0 && model->values[layer->mask].kind != CYL_MASK)) {
        return CYL_E_VALUE;
    }
    if (!recurrent->h_copies) {
        return cyl_spec_input(spec, "h_mask") < 0 ? CYL_OK : CYL_E_VALUE;
    }
    return add_mask_phase(recurrent);
}
