/* Looking up what a spec says of a layer. */
#include "model/spec.h"

#include "model/activations.h"
#include "model/status.h"

#include <string.h>

const CylTensor *cyl_spec_tensor(const CylLayerSpec *spec, const char *role) {
    for (int32_t i = 0; i < spec->tensor_count; i++) {
        if (strcmp(spec->tensors[i].role, role) == 0) {
            return &spec->tensors[i];
        }
    }
    return NULL;
}

static int32_t find_port(const CylPort *ports, int32_t count, const char *role) {
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(ports[i].role, role) == 0) {
            return ports[i].value;
        }
    }
    return -1;
}

int32_t cyl_spec_input(const CylLayerSpec *spec, const char *role) {
    return find_port(spec->inputs, spec->input_count, role);
}

int32_t cyl_spec_output(const CylLayerSpec *spec, const char *role) {
    return find_port(spec->outputs, spec->output_count, role);
}

CylStatus cyl_check_tensor(const CylTensor *tensor, int64_t rows, int64_t columns) {
    if (!tensor || tensor->rank != (columns < 0 ? 1 : 2) || tensor->shape[0] != rows ||
        (columns >= 0 && tensor->shape[1] != columns)) {
        return CYL_E_TENSOR;
    }
    return CYL_OK;
}

CylStatus cyl_check_optional(const CylTensor *tensor, int64_t rows, int64_t columns) {
    return tensor ? cyl_check_tensor(tensor, rows, columns) : CYL_OK;
}

/* ---- options ---- */

static const CylOption *find_option(const CylLayerSpec *spec, const char *name) {
    for (int32_t i = 0; i < spec->option_count; i++) {
        if (strcmp(spec->options[i].name, name) == 0) {
            return &spec->options[i];
        }
    }
    return NULL;
}

bool cyl_spec_has_option(const CylLayerSpec *spec, const char *name) { return find_option(spec, name) != NULL; }

CylStatus cyl_spec_real(const CylLayerSpec *spec, const char *name, double *number) {
    const CylOption *option = find_option(spec, name);
    if (!option || option->text) {
        return CYL_E_OPTION;
    }
    *number = option->number;
    return CYL_OK;
}

CylStatus cyl_spec_number(const CylLayerSpec *spec, const char *name, double least, double *number) {
    double found;
    CYL_TRY(cyl_spec_real(spec, name, &found));
    if (!(found >= least) || found > 1e30) {
        return CYL_E_OPTION;
    }
    *number = found;
    return CYL_OK;
}

CylStatus cyl_spec_whole(const CylLayerSpec *spec, const char *name, int32_t least, int32_t most, int32_t *number) {
    double found;
    CYL_TRY(cyl_spec_real(spec, name, &found));
    if (!(found >= least && found <= most) || found != (int32_t)found) {
        return CYL_E_OPTION;
    }
    *number = (int32_t)found;
    return CYL_OK;
}

CylStatus cyl_spec_flag(const CylLayerSpec *spec, const char *name, bool *flag) {
    double found;
    CYL_TRY(cyl_spec_real(spec, name, &found));
    *flag = found != 0.0;
    return CYL_OK;
}

CylStatus cyl_spec_text(const CylLayerSpec *spec, const char *name, const char **text) {
    const CylOption *option = find_option(spec, name);
    if (!option || !option->text) {
        return CYL_E_OPTION;
    }
    *text = option->text;
    return CYL_OK;
}

CylStatus cyl_spec_choice(const CylLayerSpec *spec, const char *name, const char *const *choices, int *index) {
    const char *text;
    CYL_TRY(cyl_spec_text(spec, name, &text));
    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *index = i;
            return CYL_OK;
        }
    }
    return CYL_E_OPTION;
}

CylStatus cyl_spec_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation) {
    char name[64];
    const size_t length = strlen(slot);
    if (length + sizeof "_alpha" > sizeof name) {
        return CYL_E_OPTION;
    }
    memcpy(name, slot, length);
    memcpy(name + length, "_alpha", sizeof "_alpha");
    const CylOption *alpha = find_option(spec, name);
    memcpy(name + length, "_beta", sizeof "_beta");
    const CylOption *beta = find_option(spec, name);
    const char *function;
    CYL_TRY(cyl_spec_text(spec, slot, &function));
    const int id = cyl_activation_from_name(function);
    if (id < 0) {
        return CYL_E_OPTION;
    }
    *activation = (CylActivationSpec){(CylActivation)id, alpha ? alpha->number : 0.0, beta ? beta->number : 0.0};
    return CYL_OK;
}

CylStatus cyl_spec_gate_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation) {
    CYL_TRY(cyl_spec_activation(spec, slot, activation));
    return activation->id == CYL_ACT_SOFTMAX ? CYL_E_OPTION : CYL_OK;
}
