/* Building a model: values, nodes, and what follows from how they are wired. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static const CylLayer *const layers[] = {&cyl_layer_lstm,      &cyl_layer_gru,   &cyl_layer_rnn,
                                         &cyl_layer_conv_lstm, &cyl_layer_dense, &cyl_layer_activation,
                                         &cyl_layer_last,      &cyl_layer_merge, &cyl_layer_reverse};

CylStatus cyl_model_create(CylEngine engine, CylIsa isa, const CylBlas *blas, CylModel **model) {
    *model = NULL;
    if ((unsigned)engine > CYL_ENGINE_BLAS64) {
        return CYL_E_ARGUMENT;
    }
    if (engine == CYL_ENGINE_PACKED && !cyl_isa_available(isa)) {
        return CYL_E_ISA;
    }
    if (engine != CYL_ENGINE_PACKED) {
        bool has_functions =
            blas && (engine == CYL_ENGINE_BLAS32 ? blas->sgemv && blas->sgemm : blas->dgemv && blas->dgemm);
        if (!has_functions) {
            return CYL_E_BLAS;
        }
    }
    CylModel *m = calloc(1, sizeof *m);
    if (!m) {
        return CYL_E_MEMORY;
    }
    m->engine = engine;
    m->kernels = cyl_kernels_of(engine, isa);
    if (blas) {
        m->blas = *blas;
    }
    *model = m;
    return CYL_OK;
}

static void node_free(CylNode *node) {
    cyl_arrays_free(node);
    free(node->data);
    free((void *)node->inputs);
}

void cyl_model_free(CylModel *model) {
    if (!model) {
        return;
    }
    for (int32_t i = 0; i < model->node_count; i++) {
        node_free(&model->nodes[i]);
    }
    free(model->nodes);
    free(model->values);
    free(model->inputs);
    free(model->masks);
    free(model->outputs);
    free(model->state_sizes);
    free(model);
}

CylStatus cyl_model_add_value(CylModel *model, CylKind kind, int32_t features, int32_t *index) {
    if (model->is_finished || features < 1 || (unsigned)kind > CYL_STATE) {
        return CYL_E_ARGUMENT;
    }
    CylValue *grown = realloc(model->values, (size_t)(model->value_count + 1) * sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    model->values = grown;
    grown[model->value_count] = (CylValue){kind, features, -1, -1, false, false, false};
    *index = model->value_count++;
    return CYL_OK;
}

const CylTensor *cyl_spec_tensor(const CylNodeSpec *spec, const char *role) {
    for (int32_t i = 0; i < spec->tensor_count; i++) {
        if (strcmp(spec->tensors[i].role, role) == 0) {
            return &spec->tensors[i];
        }
    }
    return NULL;
}

const CylOption *cyl_spec_option(const CylNodeSpec *spec, const char *name) {
    for (int32_t i = 0; i < spec->option_count; i++) {
        if (strcmp(spec->options[i].name, name) == 0) {
            return &spec->options[i];
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

int32_t cyl_spec_input(const CylNodeSpec *spec, const char *role) {
    return find_port(spec->inputs, spec->input_count, role);
}

int32_t cyl_spec_output(const CylNodeSpec *spec, const char *role) {
    return find_port(spec->outputs, spec->output_count, role);
}

CylStatus cyl_spec_activation(const CylNodeSpec *spec, const char *slot, CylActivationSpec *activation) {
    char name[64];
    size_t length = strlen(slot);
    if (length + sizeof "_alpha" > sizeof name) {
        return CYL_E_OPTION;
    }
    const CylOption *function = cyl_spec_option(spec, slot);
    memcpy(name, slot, length);
    memcpy(name + length, "_alpha", sizeof "_alpha");
    const CylOption *alpha = cyl_spec_option(spec, name);
    memcpy(name + length, "_beta", sizeof "_beta");
    const CylOption *beta = cyl_spec_option(spec, name);
    if (!function || !function->text) {
        return CYL_E_OPTION;
    }
    int id = cyl_activation_from_name(function->text);
    if (id < 0) {
        return CYL_E_OPTION;
    }
    *activation = (CylActivationSpec){(CylActivation)id, alpha ? alpha->number : 0.0, beta ? beta->number : 0.0};
    return CYL_OK;
}

CylStatus cyl_spec_number(const CylNodeSpec *spec, const char *name, double least, double *number) {
    const CylOption *option = cyl_spec_option(spec, name);
    if (!option || option->text || !(option->number >= least) || option->number > 1e30) {
        return CYL_E_OPTION;
    }
    *number = option->number;
    return CYL_OK;
}

CylStatus cyl_check_tensor(const CylTensor *tensor, int64_t rows, int64_t columns) {
    if (!tensor || tensor->rank != (columns < 0 ? 1 : 2) || tensor->shape[0] != rows ||
        (columns >= 0 && tensor->shape[1] != columns)) {
        return CYL_E_TENSOR;
    }
    return CYL_OK;
}

static CylStatus check_ports(const CylModel *model, const CylPort *ports, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        if (ports[i].value < 0 || ports[i].value >= model->value_count) {
            return CYL_E_VALUE;
        }
        /* a mask has no memory of its own: only what is made for it may read it */
        bool is_mask = model->values[ports[i].value].kind == CYL_MASK;
        if (is_mask != (strcmp(ports[i].role, "mask") == 0)) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
}

/* sizes that layers may multiply and narrow to 32 bits */
static CylStatus check_sizes(const CylNodeSpec *spec) {
    for (int32_t i = 0; i < spec->tensor_count; i++) {
        const CylTensor *tensor = &spec->tensors[i];
        if (tensor->rank < 1 || tensor->rank > 4) {
            return CYL_E_TENSOR;
        }
        for (int32_t axis = 0; axis < tensor->rank; axis++) {
            if (tensor->shape[axis] < 1 || tensor->shape[axis] > INT32_MAX) {
                return CYL_E_TENSOR;
            }
        }
    }
    return CYL_OK;
}

/* makes room for the states of a prepared node */
static CylStatus add_states(CylModel *model, CylNode *node) {
    int32_t sizes[CYL_MAX_STATES] = {node->recurrent->output_size, node->recurrent->hidden_size};
    int32_t count = node->recurrent->state_count;
    int32_t *state_sizes = realloc(model->state_sizes, (size_t)(model->state_count + count) * sizeof *state_sizes);
    if (!state_sizes) {
        return CYL_E_MEMORY;
    }
    model->state_sizes = state_sizes;
    node->first_state = model->state_count;
    memcpy(state_sizes + model->state_count, sizes, (size_t)count * sizeof *sizes);
    model->state_count += count;
    return CYL_OK;
}

/* packs the tensors of the last node whose numbers are in the spec; one that the layer has no place for is ignored */
static void write_given(CylModel *model, const CylNodeSpec *spec) {
    for (int32_t t = 0; t < spec->tensor_count && !spec->arrays; t++) {
        const CylTensor *tensor = &spec->tensors[t];
        if (tensor->data) {
            cyl_model_write_tensor(model, model->node_count - 1, tensor->role, 0, tensor->shape[0], tensor->data);
        }
    }
}

CylStatus cyl_model_add_node(CylModel *model, const CylNodeSpec *spec) {
    if (model->is_finished || (spec->arrays && !model->kernels->is_packed)) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = check_ports(model, spec->inputs, spec->input_count);
    if (status == CYL_OK) {
        status = check_ports(model, spec->outputs, spec->output_count);
    }
    if (status == CYL_OK) {
        status = check_sizes(spec);
    }
    if (status != CYL_OK) {
        return status;
    }
    const CylLayer *layer = NULL;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        if (strcmp(layers[i]->op, spec->op) == 0) {
            layer = layers[i];
        }
    }
    if (!layer) {
        return CYL_E_OPERATION;
    }
    CylNode *grown = realloc(model->nodes, (size_t)(model->node_count + 1) * sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    model->nodes = grown;
    CylNode *node = &grown[model->node_count];
    *node = (CylNode){.layer = layer,
                      .index = model->node_count,
                      .x = cyl_spec_input(spec, "x"),
                      .y = cyl_spec_output(spec, "y"),
                      .mask = cyl_spec_input(spec, "mask"),
                      .states_in = {-1, -1},
                      .states_out = {-1, -1},
                      .first_state = -1,
                      .keeps_arrays = spec->arrays != NULL};
    if (node->x < 0 || node->y < 0) {
        return CYL_E_VALUE;
    }
    status = layer->prepare(model, node, spec);
    if (status == CYL_OK && spec->arrays && node->array_count != spec->array_count) {
        status = CYL_E_LAYOUT;
    }
    if (status == CYL_OK && node->recurrent) {
        status = add_states(model, node);
    }
    if (status != CYL_OK) {
        node_free(node);
        return status;
    }
    model->node_count++;
    write_given(model, spec);
    for (int32_t i = 0; i < node->array_count; i++) {
        model->bytes += node->arrays[i].size * (int64_t)model->kernels->real_size;
    }
    for (int32_t i = 0; i < spec->input_count; i++) {
        model->values[spec->inputs[i].value].is_read = true;
        model->values[spec->inputs[i].value].feeds_node = true;
    }
    if (!node->recurrent) {
        model->values[node->y].is_read = true; /* these layers write their output whether or not it is used */
    }
    model->work += node->work;
    return CYL_OK;
}

static bool is_sequence(const CylModel *model, int32_t value) {
    return value >= 0 && model->values[value].kind == CYL_SEQUENCE;
}

/* marks a value as given from here on; CYL_E_VALUE if there is none, or it was given before */
static CylStatus give(CylModel *model, int32_t value) {
    if (value < 0 || value >= model->value_count || model->values[value].is_given) {
        return CYL_E_VALUE;
    }
    model->values[value].is_given = true;
    return CYL_OK;
}

static CylStatus plan_inputs(CylModel *model) {
    for (int32_t v = 0; v < model->value_count; v++) {
        model->values[v].axis = model->values[v].output = -1;
        model->values[v].is_given = false;
    }
    for (int32_t i = 0; i < model->input_count; i++) {
        int32_t input = model->inputs[i], mask = model->masks[i];
        if (give(model, input) != CYL_OK || model->values[input].kind == CYL_MASK || mask < -1) {
            return CYL_E_VALUE;
        }
        if (mask >= 0 && (give(model, mask) != CYL_OK || model->values[mask].kind != CYL_MASK)) {
            return CYL_E_VALUE;
        }
        if (is_sequence(model, input)) {
            model->values[input].axis = i;
        }
        if (mask >= 0) {
            model->values[mask].axis = i;
        }
    }
    return CYL_OK;
}

/* what a node reads is there before it, and of one length; what it writes nobody else writes */
static CylStatus plan_node(CylModel *model, CylNode *node) {
    const int32_t reads[] = {node->x, node->mask, node->states_in[0], node->states_in[1]};
    for (int32_t i = 0; i < 4 + node->input_count; i++) {
        int32_t value = i < 4 ? reads[i] : node->inputs[i - 4];
        if (value >= 0 && !model->values[value].is_given) {
            return CYL_E_VALUE;
        }
    }
    int32_t axis = model->values[node->x].axis;
    if (node->mask >= 0 && model->values[node->mask].axis != axis) {
        return CYL_E_VALUE;
    }
    if (is_sequence(model, node->y)) {
        if (axis < 0) {
            return CYL_E_VALUE;
        }
        model->values[node->y].axis = axis;
        for (int32_t i = 0; i < node->input_count; i++) {
            if (model->values[node->inputs[i]].axis != axis) {
                return CYL_E_VALUE;
            }
        }
    }
    const int32_t writes[] = {node->y, node->states_out[0], node->states_out[1]};
    for (int32_t i = 0; i < 3; i++) {
        if (writes[i] >= 0 && give(model, writes[i]) != CYL_OK) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
}

static CylStatus plan_outputs(CylModel *model) {
    for (int32_t i = 0; i < model->output_count; i++) {
        int32_t output = model->outputs[i];
        if (output < 0 || output >= model->value_count) {
            return CYL_E_VALUE;
        }
        CylValue *value = &model->values[output];
        if (value->output >= 0 || !value->is_given || value->kind == CYL_MASK) {
            return CYL_E_VALUE;
        }
        for (int32_t j = 0; j < model->input_count; j++) {
            if (model->inputs[j] == output) {
                return CYL_E_VALUE;
            }
        }
        value->output = i;
        value->is_read = true;
    }
    return CYL_OK;
}

/* two recurrent nodes of equal cost of which the second does not read what the first writes */
static bool is_pair(const CylNode *first, const CylNode *second) {
    if (!first->recurrent || !second->recurrent || first->work != second->work) {
        return false;
    }
    const int32_t writes[] = {first->y, first->states_out[0], first->states_out[1]};
    const int32_t reads[] = {second->x, second->mask, second->states_in[0], second->states_in[1]};
    for (int32_t i = 0; i < 3; i++) {
        for (int32_t j = 0; j < 4; j++) {
            if (writes[i] >= 0 && writes[i] == reads[j]) {
                return false;
            }
        }
    }
    return true;
}

/* time axes, and whether pieces of a sequence can be run one after the other */
static CylStatus plan(CylModel *model) {
    CylStatus status = plan_inputs(model);
    int32_t sequences = 0;
    for (int32_t i = 0; status == CYL_OK && i < model->input_count; i++) {
        sequences += is_sequence(model, model->inputs[i]);
        model->input_reals += model->values[model->inputs[i]].features;
    }
    model->is_chunkable = sequences == 1;
    model->can_stream = sequences == model->input_count;
    for (int32_t i = 0; status == CYL_OK && i < model->node_count; i++) {
        CylNode *node = &model->nodes[i];
        status = plan_node(model, node);
        node->is_per_sequence = !is_sequence(model, node->x) && !is_sequence(model, node->y);
        if (node->layer == &cyl_layer_reverse) {
            model->is_chunkable = model->can_stream = false;
        }
        if (node->recurrent && (node->recurrent->is_reverse || node->states_in[0] >= 0 || node->states_in[1] >= 0)) {
            model->is_chunkable = model->can_stream = false;
        }
    }
    for (int32_t i = 0; status == CYL_OK && i + 1 < model->node_count; i++) {
        CylNode *node = &model->nodes[i];
        node->runs_beside_next = is_pair(node, node + 1) && !(i > 0 && (node - 1)->runs_beside_next);
        model->has_pairs |= node->runs_beside_next;
    }
    return status == CYL_OK ? plan_outputs(model) : status;
}

static int32_t *copy_indices(const int32_t *indices, int32_t count) {
    int32_t *copy = malloc((size_t)(count ? count : 1) * sizeof *copy);
    if (copy && count) {
        memcpy(copy, indices, (size_t)count * sizeof *copy);
    }
    return copy;
}

CylStatus cyl_model_finish(CylModel *model, const int32_t *inputs, const int32_t *masks, int32_t input_count,
                           const int32_t *outputs, int32_t output_count) {
    if (model->is_finished || input_count < 1 || output_count < 1 || model->node_count < 1) {
        return CYL_E_ARGUMENT;
    }
    model->inputs = copy_indices(inputs, input_count);
    model->masks = copy_indices(masks, input_count);
    model->outputs = copy_indices(outputs, output_count);
    model->input_count = input_count;
    model->output_count = output_count;
    CylStatus status = model->inputs && model->masks && model->outputs ? plan(model) : CYL_E_MEMORY;
    model->is_finished = status == CYL_OK;
    if (status != CYL_OK) {
        free(model->inputs);
        free(model->masks);
        free(model->outputs);
        model->inputs = model->masks = model->outputs = NULL;
    }
    return status;
}

size_t cyl_model_real_size(const CylModel *model) { return model->kernels->real_size; }
int64_t cyl_model_work(const CylModel *model) { return model->work; }
int64_t cyl_model_bytes(const CylModel *model) { return model->bytes; }
int32_t cyl_model_state_count(const CylModel *model) { return model->state_count; }
int32_t cyl_model_state_size(const CylModel *model, int32_t index) {
    return index >= 0 && index < model->state_count ? model->state_sizes[index] : -1;
}
