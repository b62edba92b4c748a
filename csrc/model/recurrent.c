/* What all recurrent layers have in common before they run: their options and states. */
#include "model/recurrent.h"

#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/status.h"

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
    return is_apart ? cyl_matrix_prepare(model, layer, spec, hidden_gates, units, gate_count, parts + 1, 1, NULL)
                    : CYL_OK;
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
    return CYL_OK;
}
