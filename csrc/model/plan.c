/* Planning: how the layers of a model run follows from how they are connected. */
#include "model/plan.h"

#include "model/axes.h"
#include "model/model.h"
#include "model/recurrent.h"
#include "model/status.h"
#include "platform/memory.h"
#include "platform/tuning.h"

/* Marks a value as given from here on; CYL_E_VALUE if there is no such value or it was given before. */
static CylStatus give(CylModel *model, int32_t value) {
    if (value < 0 || value >= model->value_count || model->values[value].is_given) {
        return CYL_E_VALUE;
    }
    model->values[value].is_given = true;
    return CYL_OK;
}

/* Sets the axis of each input and of its mask. */
static CylStatus plan_inputs(CylModel *model) {
    for (int32_t v = 0; v < model->value_count; v++) {
        CylValue *value = &model->values[v];
        value->axis = value->output = value->slot = -1;
        value->is_given = value->is_chunked = value->is_late = value->is_passed = false;
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
        if (value->time_of >= 0) {
            const CylValue *other = &model->values[value->time_of];
            if (!other->is_given || other->axis < 0 || other->time) {
                return CYL_E_VALUE; /* no input, or one that stands behind */
            }
            value->axis = other->axis;
        }
        if (mask >= 0) {
            model->values[mask].axis = value->axis;
            model->values[mask].slot = i;
            model->values[mask].is_chunked = value->is_chunked;
        }
    }
    return CYL_OK;
}

/* Sets the axis of a value with time that a layer writes. */
static CylStatus plan_output_axis(CylModel *model, const CylLayer *layer, CylValue *value) {
    const int32_t from = layer->time_from >= 0 ? model->values[layer->time_from].axis : -1;
    if (layer->time_kind == CYL_TIME_FIXED) {
        CYL_TRY(cyl_axis_constant(model, value->time, &value->axis));
    } else if (from < 0) {
        return CYL_E_VALUE;
    } else if (layer->time_kind == CYL_TIME_RULED) {
        CYL_TRY(cyl_axis_derive(model, from, layer->rule, &value->axis));
        if (layer->next_rule.divide > 0) {
            CYL_TRY(cyl_axis_derive(model, value->axis, layer->next_rule, &value->axis));
        }
    } else {
        value->axis = from;
    }
    if (model->axes[value->axis].constant != value->time) {
        return CYL_E_VALUE;
    }
    value->is_chunked = !value->time;
    return CYL_OK;
}

/* Checks that each value that a layer reads is given before it, and that no other layer writes what it writes. */
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
        /* a layer that broadcasts repeats a value with one step, or one whose axes all line up with axes after y's time
         */
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
        if (value->has_time) {
            CYL_TRY(plan_output_axis(model, layer, value));
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

/* Finds the smallest number of steps of the inputs after which every strided axis has a whole number of steps too, and
   the multiple of it after which all axes have settled. */
static CylStatus plan_steps(CylModel *model) {
    int64_t settles = 0;
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
        model->step_multiple = model->step_multiple / cyl_common_divisor(model->step_multiple, divide) * divide;
        if (model->step_multiple > (1 << 24)) {
            return CYL_E_OPTION;
        }
        const int64_t least = cyl_axis_settles(model, a);
        settles = least > settles ? least : settles;
    }
    model->settles = (settles + model->step_multiple - 1) / model->step_multiple * model->step_multiple;
    return CYL_OK;
}

/* Plans how far x may be ahead of a y that has the steps of another value, which must never have more than x has behind
   those that are left out in front. */
static CylStatus plan_lead(const CylModel *model, CylLayer *layer) {
    int64_t least, most;
    CYL_TRY(cyl_axis_lead(model, model->values[layer->x].axis, model->values[layer->y].axis, &least, &most));
    layer->reach = most + layer->pads_before + 1;
    return least + layer->pads_before < 0 ? CYL_E_VALUE : CYL_OK;
}

/* Plans what a layer keeps of x for the windows that reach into earlier pieces: nothing where each lies within a piece,
   however many came before. */
static void plan_kept(CylModel *model, CylLayer *layer) {
    const int64_t most = 1 << 28, stride = layer->rule.divide, kept = layer->reach - 1;
    layer->kept_size = 0;
    if (!layer->is_chunked || layer->is_whole || layer->reach < 2) {
        return;
    }
    const CylValue *x = &model->values[layer->x];
    const int64_t settled = cyl_axis_after(model, x->axis, model->settles);
    if (layer->needs_multiple > 1) {
        model->is_chunkable = false;
        model->can_stream = model->can_stream && settled % layer->needs_multiple == 0;
        return; /* each window lies within a piece */
    }
    const bool is_within = !layer->pads_before && layer->reach <= stride && settled >= 0 && settled % stride == 0;
    if (is_within || layer->history_size) {
        return;
    }
    if (settled < 0 || kept > most / x->features) {
        model->is_chunkable = model->can_stream = false;
        return;
    }
    layer->kept_size = (int32_t)(kept * x->features);
}

/* Returns whether both layers are recurrent and run for the same pieces, and the second reads nothing that the first
   writes, except the value `read`. */
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

/* Returns whether the second layer can follow the first at a distance of one step, and gains by it: the weights of each
   fit the second cache of a core (each layer has half of the threads; divided among all of them, the weights would need
   half of that), and neither layer waits long for the other. */
static bool is_fed(const CylLayer *first, const CylLayer *second) {
    const int64_t weights = CYL_FED_WEIGHTS;
    return is_pair(first, second, first->y) && second->x == first->y &&
           first->recurrent->is_reverse == second->recurrent->is_reverse && first->work <= weights &&
           second->work <= weights && first->work <= 2 * second->work && second->work <= 2 * first->work;
}

/* Finds the layers that run beside each other. What one of them needs must then be kept while the other runs. */
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

/* the only layer that reads a value which is not an output of the model; NULL if there are none or several */
static CylLayer *only_reader(CylModel *model, int32_t value) {
    CylLayer *found = NULL;
    for (int32_t n = 0; n < model->layer_count; n++) {
        CylLayer *layer = &model->layers[n];
        for (int32_t i = 0; i < layer->input_count; i++) {
            if (layer->inputs[i] != value) {
                continue;
            }
            if (found) {
                return NULL;
            }
            found = layer;
        }
    }
    return model->values[value].output < 0 ? found : NULL;
}

/* Finds the layers that follow others: what lies between them is never stored. */
static void plan_followers(CylModel *model) {
    for (int32_t n = 0; n < model->layer_count; n++) {
        CylLayer *layer = &model->layers[n], *last = layer, *next;
        if (!layer->kind->may_take) {
            continue;
        }
        while ((next = only_reader(model, last->outputs[0])) && next->input_count == 1 && next->output_count == 1 &&
               layer->kind->may_take(model, layer, next)) {
            model->values[last->outputs[0]].is_passed = true;
            last->follower = next;
            next->is_follower = true;
            last = next;
        }
        layer->y = last->outputs[0];
        if (last != layer) {
            model->values[layer->y].first_layer = n;
        }
    }
}

CylStatus cyl_model_plan(CylModel *model) {
    CYL_TRY(plan_inputs(model));
    for (int32_t i = 0; i < model->layer_count; i++) { /* as they are if this is not the first attempt */
        CylLayer *layer = &model->layers[i];
        layer->follower = NULL;
        layer->is_follower = false;
        layer->y = layer->kind->may_take ? layer->outputs[0] : layer->y;
    }
    int32_t chunked = 0, constant = 0; /* inputs without time, which each call of a stream has as a whole */
    model->input_reals = 0;
    model->has_pairs = model->has_fed_pairs = model->has_indices = false;
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        chunked += value->is_chunked;
        constant += !value->has_time;
        model->has_indices |= value->kind == CYL_INDEX;
        model->input_reals += value->kind == CYL_INDEX ? 0 : value->features * (value->time ? value->time : 1);
    }
    model->is_chunkable = chunked == 1;
    model->can_stream = chunked > 0 && chunked + constant == model->input_count;
    for (int32_t i = 0; i < model->layer_count; i++) {
        CYL_TRY(plan_layer(model, &model->layers[i]));
    }
    model->is_timeless = true;
    for (int32_t i = 0; i < model->input_count; i++) {
        model->is_timeless = model->is_timeless && !model->values[model->inputs[i]].has_time;
    }
    model->can_stream = model->can_stream || model->is_timeless;
    CYL_TRY(plan_steps(model));
    for (int32_t i = 0; i < model->layer_count; i++) {
        if (model->layers[i].is_led) {
            CYL_TRY(plan_lead(model, &model->layers[i]));
        }
        plan_kept(model, &model->layers[i]);
    }
    for (int32_t i = 0; i < model->layer_count; i++) {
        const bool in_pieces = model->is_chunkable || model->can_stream;
        model->layers[i].kept_size = in_pieces ? model->layers[i].kept_size : 0;
    }
    plan_pairs(model);
    CYL_TRY(plan_outputs(model));
    plan_followers(model);
    return CYL_OK;
}
