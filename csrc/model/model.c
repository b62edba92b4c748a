/* Building a model: values, layers, and what follows from how they are wired. */
#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/activations.h"
#include "model/axes.h"
#include "model/model.h"
#include "run/recurrent.h"
#include "model/pack.h"
#include "model/spec.h"
#include "platform/blas.h"
#include "platform/ieee.h"
#include "platform/memory.h"
#include "run/idle.h"

#include <stdlib.h>
#include <string.h>

CylStatus cyl_model_create(CylEngine engine, CylIsa isa, const CylBlas *blas, CylModel **model) {
    *model = NULL;
    if ((unsigned)engine > CYL_ENGINE_BLAS64) {
        return CYL_E_ARGUMENT;
    }
    if (engine != CYL_ENGINE_BLAS64 && !cyl_isa_available(isa)) {
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
    m->idle = cyl_idle_create();
    if (!m->idle) {
        free(m);
        return CYL_E_MEMORY;
    }
    m->engine = engine;
    m->kernels = cyl_kernels_of(engine, isa);
    if (blas) {
        m->blas = *blas;
    }
    cyl_model_set_threads(m, engine == CYL_ENGINE_PACKED ? CYL_THREADS_POOL : CYL_THREADS_OPENMP);
    if (engine != CYL_ENGINE_PACKED) {
        cyl_blas_watch_fork();
    }
    *model = m;
    return CYL_OK;
}

static void layer_free(CylLayer *layer) {
    cyl_arrays_free(layer);
    cyl_aligned_free(layer->derived);
    free(layer->data);
    free(layer->inputs);
    free(layer->outputs);
}

void cyl_model_free(CylModel *model) {
    if (!model) {
        return;
    }
    cyl_idle_free(model->idle);
    for (int32_t i = 0; i < model->layer_count; i++) {
        layer_free(&model->layers[i]);
    }
    free(model->layers);
    free(model->axes);
    free(model->values);
    free(model->inputs);
    free(model->masks);
    free(model->outputs);
    free(model->state_sizes);
    free(model);
}

CylStatus cyl_model_add_tensor(CylModel *model, CylValueKind kind, const int32_t *shape, int32_t rank, int32_t *index) {
    if (model->is_finished || (unsigned)kind > CYL_INDEX || rank < 1 || rank > CYL_MAX_RANK) {
        return CYL_E_ARGUMENT;
    }
    CylValue value = {.kind = kind, .axis = -1, .slot = -1, .output = -1, .limit = INT32_MAX, .features = 1};
    value.has_time = kind == CYL_SEQUENCE || kind == CYL_MASK || kind == CYL_INDEX;
    if (value.has_time && (shape[0] < 0 || (rank == 1 && kind == CYL_SEQUENCE) || (rank > 1 && kind == CYL_MASK))) {
        return CYL_E_ARGUMENT;
    }
    value.time = value.has_time ? shape[0] : 0;
    for (int32_t i = value.has_time ? 1 : 0; i < rank; i++) {
        if (shape[i] < 1 || shape[i] > (1 << 28) / value.features) {
            return CYL_E_ARGUMENT;
        }
        value.features *= shape[i];
        value.shape[value.rank++] = shape[i];
    }
    CylValue *grown = cyl_resize(model->values, (int64_t)model->value_count + 1, sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    model->values = grown;
    grown[model->value_count] = value;
    *index = model->value_count++;
    return CYL_OK;
}

CylStatus cyl_model_add_value(CylModel *model, CylValueKind kind, int32_t features, int32_t *index) {
    int32_t shape[2] = {0, features};
    bool has_time = kind == CYL_SEQUENCE || kind == CYL_MASK || kind == CYL_INDEX;
    if (features < 1) {
        return CYL_E_ARGUMENT;
    }
    return cyl_model_add_tensor(model, kind, has_time ? shape : shape + 1, has_time && kind != CYL_MASK ? 2 : 1, index);
}

const CylTensor *cyl_spec_tensor(const CylLayerSpec *spec, const char *role) {
    for (int32_t i = 0; i < spec->tensor_count; i++) {
        if (strcmp(spec->tensors[i].role, role) == 0) {
            return &spec->tensors[i];
        }
    }
    return NULL;
}

const CylOption *cyl_spec_option(const CylLayerSpec *spec, const char *name) {
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

int32_t cyl_spec_input(const CylLayerSpec *spec, const char *role) {
    return find_port(spec->inputs, spec->input_count, role);
}

int32_t cyl_spec_output(const CylLayerSpec *spec, const char *role) {
    return find_port(spec->outputs, spec->output_count, role);
}

CylStatus cyl_spec_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation) {
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

CylStatus cyl_spec_number(const CylLayerSpec *spec, const char *name, double least, double *number) {
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
        /* masks and indices are no real numbers: only what is made for them may read them */
        CylValueKind kind = model->values[ports[i].value].kind;
        if ((kind == CYL_MASK) != (strncmp(ports[i].role, "mask", 4) == 0) ||
            (kind == CYL_INDEX) != (strcmp(ports[i].role, "indices") == 0)) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
}

/* sizes that layers may multiply and narrow to 32 bits */
static CylStatus check_sizes(const CylLayerSpec *spec) {
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

/* makes room for the states of a prepared layer */
static CylStatus add_states(CylModel *model, CylLayer *layer) {
    int32_t sizes[CYL_MAX_STATES] = {layer->history_size, 0}, count = 1;
    if (layer->recurrent) {
        sizes[0] = layer->recurrent->output_size;
        sizes[1] = layer->recurrent->hidden_size;
        count = layer->recurrent->state_count;
    }
    int32_t *state_sizes = cyl_resize(model->state_sizes, (int64_t)model->state_count + count, sizeof *state_sizes);
    if (!state_sizes) {
        return CYL_E_MEMORY;
    }
    model->state_sizes = state_sizes;
    layer->first_state = model->state_count;
    memcpy(state_sizes + model->state_count, sizes, (size_t)count * sizeof *sizes);
    model->state_count += count;
    return CYL_OK;
}

/* the values of ports; NULL if there is no memory */
static int32_t *copy_ports(const CylPort *ports, int32_t count) {
    int32_t *values = cyl_alloc(count > 0 ? count : 1, sizeof *values);
    for (int32_t i = 0; values && i < count; i++) {
        values[i] = ports[i].value;
    }
    return values;
}

/* packs the tensors of the last layer whose numbers are in the spec; one that the layer has no place for is ignored */
static void write_given(CylModel *model, const CylLayerSpec *spec) {
    for (int32_t t = 0; t < spec->tensor_count && !spec->arrays; t++) {
        const CylTensor *tensor = &spec->tensors[t];
        if (tensor->data) {
            cyl_model_write_tensor(model, model->layer_count - 1, tensor->role, 0, tensor->shape[0], tensor->data);
        }
    }
}

CylStatus cyl_model_add_layer(CylModel *model, const CylLayerSpec *spec) {
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
    const CylLayerKind *kind = cyl_layer_kind(spec->kind);
    if (!kind) {
        return CYL_E_LAYER;
    }
    CylLayer *grown = cyl_resize(model->layers, (int64_t)model->layer_count + 1, sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    model->layers = grown;
    CylLayer *layer = &grown[model->layer_count];
    *layer = (CylLayer){.kind = kind,
                        .index = model->layer_count,
                        .x = cyl_spec_input(spec, "x"),
                        .y = cyl_spec_output(spec, "y"),
                        .mask = cyl_spec_input(spec, "mask"),
                        .mask_out = cyl_spec_output(spec, "mask"),
                        .states_in = {-1, -1},
                        .states_out = {-1, -1},
                        .first_state = -1,
                        .keeps_arrays = spec->arrays != NULL,
                        .inputs = copy_ports(spec->inputs, spec->input_count),
                        .outputs = copy_ports(spec->outputs, spec->output_count),
                        .input_count = spec->input_count,
                        .output_count = spec->output_count};
    if (layer->x < 0) {
        layer->x = cyl_spec_input(spec, "indices");
    }
    if (layer->x < 0 && layer->mask_out >= 0) {
        layer->x = layer->mask;
    }
    layer->time_from = layer->x;
    status = !layer->inputs || !layer->outputs                       ? CYL_E_MEMORY
             : layer->x < 0 || (layer->y < 0 && layer->mask_out < 0) ? CYL_E_VALUE
                                                                     : kind->prepare(model, layer, spec);
    if (status == CYL_OK && spec->arrays && layer->array_count != spec->array_count) {
        status = CYL_E_LAYOUT;
    }
    if (status == CYL_OK && (layer->recurrent || layer->history_size)) {
        status = add_states(model, layer);
    }
    if (status != CYL_OK) {
        layer_free(layer);
        return status;
    }
    model->layer_count++;
    write_given(model, spec);
    for (int32_t i = 0; i < layer->array_count; i++) {
        model->bytes += layer->arrays[i].size * (int64_t)model->kernels->real_size;
    }
    for (int32_t i = 0; i < spec->input_count; i++) {
        model->values[spec->inputs[i].value].is_read = true;
        model->values[spec->inputs[i].value].feeds_layer = true;
    }
    if (!layer->recurrent && layer->y >= 0) {
        model->values[layer->y].is_read = true; /* these layers write their output whether or not it is used */
    }
    model->work += layer->work;
    return CYL_OK;
}

/* marks a value as given from here on; CYL_E_VALUE if there is none, or it was given before */
static CylStatus give(CylModel *model, int32_t value) {
    if (value < 0 || value >= model->value_count || model->values[value].is_given) {
        return CYL_E_VALUE;
    }
    model->values[value].is_given = true;
    return CYL_OK;
}

/* the axis of each input, and of its mask */
static CylStatus plan_inputs(CylModel *model) {
    for (int32_t v = 0; v < model->value_count; v++) {
        CylValue *value = &model->values[v];
        value->axis = value->output = value->slot = -1;
        value->is_given = value->is_chunked = value->is_late = false;
        value->first_layer = value->last_layer = -1;
    }
    model->axes = cyl_alloc(model->input_count, sizeof *model->axes);
    if (!model->axes) {
        return CYL_E_MEMORY;
    }
    model->axis_count = model->slot_count = model->input_count;
    for (int32_t i = 0; i < model->input_count; i++) {
        int32_t input = model->inputs[i], mask = model->masks[i];
        if (give(model, input) != CYL_OK || model->values[input].kind == CYL_MASK || mask < -1) {
            return CYL_E_VALUE;
        }
        if (mask >= 0 && (give(model, mask) != CYL_OK || model->values[mask].kind != CYL_MASK ||
                          !model->values[input].has_time || model->values[mask].time != model->values[input].time)) {
            return CYL_E_VALUE;
        }
        CylValue *value = &model->values[input];
        int64_t constant = value->has_time ? value->time : 1;
        model->axes[i] = (CylTimeAxis){.input = constant ? -1 : i, .constant = constant};
        if (value->has_time) {
            value->axis = i;
            value->is_chunked = !value->time;
        }
        if (mask >= 0) {
            model->values[mask].axis = model->values[mask].slot = i;
            model->values[mask].is_chunked = value->is_chunked;
        }
    }
    return CYL_OK;
}

/* the axis of what a layer writes */
static CylStatus plan_output_axis(CylModel *model, const CylLayer *layer, CylValue *value) {
    int32_t from = model->values[layer->time_from].axis;
    CylStatus status = CYL_OK;
    if (layer->time_kind == CYL_TIME_FIXED) {
        status = cyl_axis_constant(model, value->time, &value->axis);
    } else if (from < 0) {
        status = CYL_E_VALUE;
    } else if (layer->time_kind == CYL_TIME_RULED) {
        status = cyl_axis_derive(model, from, layer->rule, &value->axis);
    } else {
        value->axis = from;
    }
    if (status == CYL_OK && model->axes[value->axis].constant != value->time) {
        status = CYL_E_VALUE;
    }
    value->is_chunked = status == CYL_OK && !value->time;
    return status;
}

/* what a layer reads is there before it; what it writes nobody else writes */
static CylStatus plan_layer(CylModel *model, CylLayer *layer) {
    bool reads_chunked = false, reads_late = false, writes_chunked = false;
    for (int32_t i = 0; i < layer->input_count; i++) {
        CylValue *value = &model->values[layer->inputs[i]];
        if (!value->is_given) {
            return CYL_E_VALUE;
        }
        value->last_layer = layer->index;
        reads_chunked = reads_chunked || value->is_chunked;
        reads_late = reads_late || value->is_late;
        /* of a broadcast, what has one step or has the axes behind the time alone */
        bool is_lower = layer->y >= 0 && value->rank < model->values[layer->y].rank;
        bool is_repeated = layer->repeats_time && (value->time == 1 || is_lower);
        if (value->has_time && !layer->mixes_times && !is_repeated &&
            !cyl_axis_same(model, value->axis, model->values[layer->time_from].axis)) {
            return CYL_E_VALUE;
        }
    }
    if (layer->mask >= 0 && !cyl_axis_same(model, model->values[layer->mask].axis, model->values[layer->x].axis)) {
        return CYL_E_VALUE;
    }
    for (int32_t i = 0; i < layer->output_count; i++) {
        CylValue *value = &model->values[layer->outputs[i]];
        if (give(model, layer->outputs[i]) != CYL_OK) {
            return CYL_E_VALUE;
        }
        value->first_layer = value->last_layer = layer->index;
        if (value->kind == CYL_INDEX) {
            return CYL_E_VALUE;
        }
        if (value->kind == CYL_MASK) {
            value->slot = model->slot_count++;
        }
        CylStatus status = value->has_time ? plan_output_axis(model, layer, value) : CYL_OK;
        if (status != CYL_OK) {
            return status;
        }
        writes_chunked = writes_chunked || value->is_chunked;
        value->is_late = !value->is_chunked && (reads_chunked || reads_late);
    }
    layer->is_chunked = reads_chunked || writes_chunked;
    layer->is_late = reads_late && !layer->is_chunked;
    if (layer->is_chunked && (layer->is_whole || reads_late)) {
        model->is_chunkable = model->can_stream = false;
    }
    if (layer->recurrent && (layer->recurrent->is_reverse || layer->states_in[0] >= 0 || layer->states_in[1] >= 0)) {
        model->is_chunkable = model->can_stream = false;
    }
    if (layer->recurrent || layer->history_size) {
        model->can_stream = model->can_stream && layer->is_chunked;
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

static int64_t common_multiple(int64_t a, int64_t b) {
    int64_t p = a, q = b;
    while (q) {
        int64_t rest = p % q;
        p = q;
        q = rest;
    }
    return a / p * b;
}

/* the steps of the inputs after which every strided axis has whole steps too */
static CylStatus plan_steps(CylModel *model) {
    model->step_multiple = 1;
    for (int32_t a = 0; a < model->axis_count; a++) {
        const CylTimeAxis *axis = &model->axes[a];
        int64_t divide = 1;
        for (int32_t r = 0; r < axis->rule_count; r++) {
            divide *= axis->rules[r].divide;
            if (divide > (1 << 24)) {
                return CYL_E_OPTION;
            }
        }
        model->step_multiple = common_multiple(model->step_multiple, divide);
        if (model->step_multiple > (1 << 24)) {
            return CYL_E_OPTION;
        }
    }
    return CYL_OK;
}

/* two recurrent layers, run for the same pieces, of which the second reads nothing but `read` of what the first writes
 */
static bool is_pair(const CylLayer *first, const CylLayer *second, int32_t read) {
    if (!first->recurrent || !second->recurrent || first->is_chunked != second->is_chunked ||
        first->is_late != second->is_late) {
        return false;
    }
    for (int32_t i = 0; i < first->output_count; i++) {
        for (int32_t j = 0; j < second->input_count; j++) {
            if (first->outputs[i] == second->inputs[j] && first->outputs[i] != read) {
                return false;
            }
        }
    }
    return true;
}

/* Whether the second of a pair can follow the first at a distance of a step, and it pays: a core's second cache holds
   the weights of either (divided, larger layers would need half of that), and neither waits long for the other. */
static bool is_fed(const CylLayer *first, const CylLayer *second) {
    const int64_t weights = 128 * 1024;
    return is_pair(first, second, first->y) && second->x == first->y &&
           first->recurrent->is_reverse == second->recurrent->is_reverse && first->work <= weights &&
           second->work <= weights && first->work <= 2 * second->work && second->work <= 2 * first->work;
}

/* finds the layers that run beside each other: what either needs is needed while the other runs */
static void plan_pairs(CylModel *model) {
    for (int32_t i = 0; i + 1 < model->layer_count; i++) {
        CylLayer *layer = &model->layers[i];
        const CylLayer *next = layer + 1, *before = i > 0 ? layer - 1 : NULL;
        const bool is_taken = before && (before->runs_beside_next || before->feeds_next);
        layer->runs_beside_next = !is_taken && is_pair(layer, next, -1) && layer->work == next->work;
        layer->feeds_next = !is_taken && !layer->runs_beside_next && is_fed(layer, next);
        model->has_pairs |= layer->runs_beside_next;
        model->has_fed_pairs |= layer->feeds_next;
        for (int32_t v = 0; (layer->runs_beside_next || layer->feeds_next) && v < model->value_count; v++) {
            CylValue *value = &model->values[v];
            value->first_layer -= value->first_layer == i + 1;
            value->last_layer += value->last_layer == i;
        }
    }
}

/* time axes, and whether pieces of a sequence can be run one after the other */
static CylStatus plan(CylModel *model) {
    CylStatus status = plan_inputs(model);
    int32_t chunked = 0;
    model->input_reals = 0;
    model->has_pairs = model->has_fed_pairs = false;
    for (int32_t i = 0; status == CYL_OK && i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        chunked += value->is_chunked;
        model->input_reals += value->kind == CYL_INDEX ? 0 : value->features * (value->time ? value->time : 1);
    }
    model->is_chunkable = chunked == 1;
    model->can_stream = chunked == model->input_count;
    for (int32_t i = 0; status == CYL_OK && i < model->layer_count; i++) {
        status = plan_layer(model, &model->layers[i]);
    }
    status = status == CYL_OK ? plan_steps(model) : status;
    if (status == CYL_OK) {
        plan_pairs(model);
    }
    return status == CYL_OK ? plan_outputs(model) : status;
}

static CylStatus finish_layers(CylModel *model) {
    CylIeee saved = cyl_ieee_enter();
    CylStatus status = CYL_OK;
    for (int32_t n = 0; status == CYL_OK && n < model->layer_count; n++) {
        CylLayer *layer = &model->layers[n];
        if (layer->kind->finish && !layer->derived) {
            status = layer->kind->finish(model, layer);
        }
        if (status != CYL_OK) {
            cyl_aligned_free(layer->derived);
            layer->derived = NULL;
        }
    }
    cyl_ieee_leave(saved);
    return status;
}

static int32_t *copy_indices(const int32_t *indices, int32_t count) {
    int32_t *copy = cyl_alloc(count > 0 ? count : 1, sizeof *copy);
    if (copy && count > 0) {
        memcpy(copy, indices, (size_t)count * sizeof *copy);
    }
    return copy;
}

CylStatus cyl_model_finish(CylModel *model, const int32_t *inputs, const int32_t *masks, int32_t input_count,
                           const int32_t *outputs, int32_t output_count) {
    if (model->is_finished || input_count < 1 || output_count < 1 || model->layer_count < 1) {
        return CYL_E_ARGUMENT;
    }
    model->inputs = copy_indices(inputs, input_count);
    model->masks = copy_indices(masks, input_count);
    model->outputs = copy_indices(outputs, output_count);
    model->input_count = input_count;
    model->output_count = output_count;
    CylStatus status = model->inputs && model->masks && model->outputs ? plan(model) : CYL_E_MEMORY;
    if (status == CYL_OK) {
        status = finish_layers(model);
    }
    model->is_finished = status == CYL_OK;
    if (status != CYL_OK) {
        free(model->inputs);
        free(model->masks);
        free(model->outputs);
        free(model->axes);
        model->inputs = model->masks = model->outputs = NULL;
        model->axes = NULL;
    }
    return status;
}

size_t cyl_model_real_size(const CylModel *model) { return model->kernels->real_size; }
int64_t cyl_model_step_multiple(const CylModel *model) { return model->step_multiple; }
int64_t cyl_model_work(const CylModel *model) { return model->work; }
int64_t cyl_model_bytes(const CylModel *model) { return model->bytes; }
int32_t cyl_model_state_count(const CylModel *model) { return model->state_count; }
int32_t cyl_model_state_size(const CylModel *model, int32_t index) {
    return index >= 0 && index < model->state_count ? model->state_sizes[index] : -1;
}
