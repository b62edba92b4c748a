/* Building a model: its values and layers, and finishing it. */
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/plan.h"
#include "model/recurrent.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/weight_types.h"
#include "platform/blas.h"
#include "platform/ieee.h"
#include "platform/memory.h"

#include <stdlib.h>
#include <string.h>

static bool has_products(const CylBlas *blas, CylEngine engine) {
    return blas && (engine == CYL_ENGINE_BLAS32 ? blas->sgemv && blas->sgemm : blas->dgemv && blas->dgemm);
}

CylStatus cyl_model_create(CylEngine engine, CylIsa isa, const CylBlas *blas, CylModel **model) {
    *model = NULL;
    if ((unsigned)engine > CYL_ENGINE_BLAS64) {
        return CYL_E_ARGUMENT;
    }
    if (engine != CYL_ENGINE_BLAS64 && !cyl_isa_available(isa)) {
        return CYL_E_ISA;
    }
    if (engine != CYL_ENGINE_PACKED && !has_products(blas, engine)) {
        return CYL_E_BLAS;
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

/* Frees all that a layer owns; it may have been prepared in part only. */
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
    CylValue value = {
        .kind = kind, .axis = -1, .slot = -1, .output = -1, .time_of = -1, .limit = INT32_MAX, .features = 1};
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

CylStatus cyl_model_share_time(CylModel *model, int32_t value, int32_t of) {
    if (model->is_finished || value < 0 || of < 0 || value >= model->value_count || of >= model->value_count ||
        value == of) {
        return CYL_E_ARGUMENT;
    }
    const CylValue *other = &model->values[of];
    if (!model->values[value].has_time || model->values[value].time || !other->has_time || other->time) {
        return CYL_E_VALUE;
    }
    model->values[value].time_of = of;
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

static CylStatus check_ports(const CylModel *model, const CylPort *ports, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        if (ports[i].value < 0 || ports[i].value >= model->value_count) {
            return CYL_E_VALUE;
        }
        /* masks and indices are not real numbers, so only roles that are meant for them may have them; indices that
           the network computes are real numbers */
        CylValueKind kind = model->values[ports[i].value].kind;
        if ((kind == CYL_MASK) != (strncmp(ports[i].role, "mask", 4) == 0) ||
            (kind == CYL_INDEX && strcmp(ports[i].role, "indices") != 0)) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
}

/* Checks that every size fits in 32 bits, so that layers may multiply two of them in 64; and that no tensor is there
   twice, since its numbers would be taken for those of the first, which has another shape. */
static CylStatus check_tensors(const CylLayerSpec *spec) {
    for (int32_t i = 0; i < spec->tensor_count; i++) {
        const CylTensor *tensor = &spec->tensors[i];
        if (tensor->rank < 1 || tensor->rank > CYL_MAX_RANK || cyl_spec_tensor(spec, tensor->role) != tensor) {
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

/* Adds the states of a prepared layer to those of the model. */
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

/* Returns the indices of the ports' values; NULL if there is no memory. */
static int32_t *copy_ports(const CylPort *ports, int32_t count) {
    int32_t *values = cyl_alloc(count > 0 ? count : 1, sizeof *values);
    for (int32_t i = 0; values && i < count; i++) {
        values[i] = ports[i].value;
    }
    return values;
}

/* Packs those tensors of the last layer whose numbers are in the spec; one that the layer does not use is ignored. */
static CylStatus write_given(CylModel *model, const CylLayerSpec *spec) {
    for (int32_t t = 0; t < spec->tensor_count && !spec->arrays; t++) {
        const CylTensor *tensor = &spec->tensors[t];
        if (tensor->data) {
            CylStatus status =
                cyl_model_write_tensor(model, model->layer_count - 1, tensor->role, 0, tensor->shape[0], tensor->data);
            if (status == CYL_E_RANGE) {
                return status;
            }
        }
    }
    return CYL_OK;
}

/* whether a tensor is packed in the type that a spec asks for; real numbers all tensors have */
static bool has_type(const CylModel *model, const CylLayer *layer, const CylTensor *tensor) {
    const int type = cyl_weight_type_from_name(tensor->type, model->kernels->real_size);
    bool is_found = type == CYL_WEIGHTS_REAL;
    for (int32_t p = 0; p < layer->place_count; p++) {
        const CylPlace *place = &layer->places[p];
        is_found = is_found || (strcmp(place->role, tensor->role) == 0 && (int)place->type == type);
    }
    return is_found;
}

/* whether these packed weights have been counted, as those of an earlier layer */
static bool is_counted(const CylModel *model, const CylLayer *layer, const CylArray *array) {
    for (int32_t n = 0; layer->keeps_arrays && n < layer->index; n++) {
        const CylLayer *other = &model->layers[n];
        for (int32_t i = 0; i < other->array_count; i++) {
            if (other->arrays[i].data == array->data) {
                return true;
            }
        }
    }
    return false;
}

static int64_t bytes_of(const CylModel *model, const CylArray *array) {
    const size_t real_size = model->kernels->real_size;
    int type = 0;
    while (strcmp(cyl_weight_array_type((CylWeightType)type, real_size), array->type) != 0) {
        type++;
    }
    return array->size * (int64_t)cyl_weight_size((CylWeightType)type, real_size);
}

/* Fills in what a spec says of a layer of any kind. */
static CylLayer make_layer(const CylModel *model, const CylLayerKind *kind, const CylLayerSpec *spec) {
    CylLayer layer = {.kind = kind,
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
    if (layer.x < 0) {
        layer.x = cyl_spec_input(spec, "indices");
    }
    if (layer.x < 0 && (kind->only_masks || kind->reads_mask_alone)) {
        layer.x = layer.mask;
    }
    layer.time_from = layer.x;
    return layer;
}

/* whether the layer writes what a port says: what it does not know would stay as the memory was */
static bool writes(const CylLayer *layer, const CylPort *port) {
    const bool is_state = strcmp(port->role, "h") == 0 || strcmp(port->role, "c") == 0;
    return is_state ? layer->recurrent && (port->value == layer->states_out[0] || port->value == layer->states_out[1])
                    : strcmp(port->role, "y") == 0 || strcmp(port->role, "mask") == 0 ||
                          (strcmp(port->role, "indices") == 0 && layer->kind == cyl_layer_kind("topk"));
}

static CylStatus prepare_layer(CylModel *model, CylLayer *layer, const CylLayerSpec *spec) {
    if (!layer->inputs || !layer->outputs) {
        return CYL_E_MEMORY;
    }
    if ((layer->x < 0 && !layer->kind->reads_nothing) ||
        (layer->kind->only_masks ? layer->mask_out < 0 : layer->y < 0)) {
        return CYL_E_VALUE;
    }
    if (layer->kind->data_size > 0) {
        layer->data = cyl_alloc(1, layer->kind->data_size);
        if (!layer->data) {
            return CYL_E_MEMORY;
        }
    }
    CYL_TRY(layer->kind->prepare(model, layer, spec));
    if (spec->arrays && layer->array_count != spec->array_count) {
        return CYL_E_LAYOUT;
    }
    for (int32_t i = 0; i < spec->tensor_count; i++) {
        if (!has_type(model, layer, &spec->tensors[i])) {
            return CYL_E_OPTION;
        }
    }
    for (int32_t i = 0; i < spec->output_count; i++) {
        if (!writes(layer, &spec->outputs[i])) {
            return CYL_E_VALUE;
        }
    }
    return layer->recurrent || layer->history_size ? add_states(model, layer) : CYL_OK;
}

CylStatus cyl_model_add_layer(CylModel *model, const CylLayerSpec *spec) {
    if (model->is_finished || (spec->arrays && !model->kernels->is_packed)) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(check_ports(model, spec->inputs, spec->input_count));
    CYL_TRY(check_ports(model, spec->outputs, spec->output_count));
    CYL_TRY(check_tensors(spec));
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
    *layer = make_layer(model, kind, spec);
    const int32_t states = model->state_count, layers = model->layer_count;
    CylStatus status = prepare_layer(model, layer, spec);
    if (status == CYL_OK) {
        model->layer_count++;
        status = write_given(model, spec);
    }
    if (status != CYL_OK) { /* the model is as it was */
        model->layer_count = layers;
        model->state_count = states;
        layer_free(layer);
        return status;
    }
    for (int32_t i = 0; i < layer->array_count; i++) {
        if (!is_counted(model, layer, &layer->arrays[i])) {
            model->bytes += bytes_of(model, &layer->arrays[i]);
        }
    }
    for (int32_t i = 0; i < spec->input_count; i++) {
        CylValue *value = &model->values[spec->inputs[i].value];
        value->may_be_raw = layer->flushes_x && (value->may_be_raw || !value->feeds_layer);
        value->is_read = true;
        value->feeds_layer = true;
    }
    if (!layer->recurrent && layer->y >= 0) {
        model->values[layer->y].is_read = true; /* these layers write their output whether or not it is used */
    }
    model->work += layer->work;
    return CYL_OK;
}

/* Lets each layer derive what it needs from its weights, unless it has done so in an earlier attempt. */
static CylStatus finish_layers(CylModel *model) {
    for (int32_t n = 0; n < model->layer_count; n++) {
        CylLayer *layer = &model->layers[n];
        if (!layer->kind->finish || layer->derived) {
            continue;
        }
        const CylStatus status = layer->kind->finish(model, layer);
        if (status != CYL_OK) {
            cyl_aligned_free(layer->derived);
            layer->derived = NULL;
            return status;
        }
    }
    return CYL_OK;
}

static CylStatus plan_and_finish(CylModel *model) {
    if (!model->inputs || !model->masks || !model->outputs) {
        return CYL_E_MEMORY;
    }
    CYL_TRY(cyl_model_plan(model));
    const CylIeee saved = cyl_ieee_enter();
    const CylStatus status = finish_layers(model);
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
    const CylStatus status = plan_and_finish(model);
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
int64_t cyl_model_settles(const CylModel *model) { return model->settles; }
int32_t cyl_model_kept_count(const CylModel *model) {
    int32_t count = 0, layer;
    while (cyl_model_kept_size(model, count, &layer) >= 0) {
        count++;
    }
    return count;
}
int32_t cyl_model_kept_size(const CylModel *model, int32_t index, int32_t *layer) {
    for (int32_t n = 0, k = 0; n < model->layer_count; n++) {
        if (model->layers[n].kept_size > 0 && k++ == index) {
            *layer = n;
            return model->layers[n].kept_size;
        }
    }
    return -1;
}
int64_t cyl_model_work(const CylModel *model) { return model->work; }
int64_t cyl_model_bytes(const CylModel *model) { return model->bytes; }
int32_t cyl_model_state_count(const CylModel *model) { return model->state_count; }
int32_t cyl_model_state_size(const CylModel *model, int32_t index) {
    return index >= 0 && index < model->state_count ? model->state_sizes[index] : -1;
}
