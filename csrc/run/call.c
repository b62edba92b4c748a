/* What a call asks for, and whether it can be had. */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "platform/memory.h"
#include "model/status.h"
#include "run/call.h"

CylStatus cyl_check_input_times(const CylModel *model, const int64_t *times) {
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        if (value->has_time && (times[i] < 1 || (value->time && times[i] != value->time))) {
            return CYL_E_ARGUMENT;
        }
        if (value->time_of >= 0 && times[i] != times[value->axis]) {
            return CYL_E_ARGUMENT;
        }
        if (value->has_time && times[i] > CYL_LONGEST) {
            return CYL_E_MEMORY;
        }
    }
    return CYL_OK;
}

CylStatus cyl_check_times(const CylModel *model, const int64_t *times) {
    CYL_TRY(cyl_check_input_times(model, times));
    for (int32_t a = model->input_count; a < model->axis_count; a++) {
        int64_t length = cyl_axis_length(model, a, times);
        if (length < 1) {
            return length < 0 ? CYL_E_MEMORY : CYL_E_TIME;
        }
    }
    return CYL_OK;
}

CylStatus cyl_check_indices(const CylModel *model, const CylCall *call, const uint8_t *active) {
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        if (value->kind != CYL_INDEX) {
            continue;
        }
        int64_t count = value->has_time ? call->times[i] * value->features : value->features;
        for (int64_t row = 0; row < call->rows; row++) {
            const int32_t *indices = (const int32_t *)call->inputs[i] + row * count;
            for (int64_t k = 0; k < count && (!active || active[row]); k++) {
                if (indices[k] < 0 || indices[k] >= value->limit) {
                    return CYL_E_INDEX;
                }
            }
        }
    }
    return CYL_OK;
}

CylStatus cyl_check_call(const CylModel *model, const CylCall *call) {
    if (!model->is_finished || call->rows < 1 || call->threads < 1 || call->threads > CYL_MAX_THREADS) {
        return CYL_E_ARGUMENT;
    }
    CylStatus status = cyl_check_times(model, call->times);
    if (status == CYL_E_ARGUMENT || status == CYL_E_MEMORY) {
        return status;
    }
    if (call->rows > CYL_LONGEST) {
        return CYL_E_MEMORY;
    }
    CYL_TRY(cyl_check_indices(model, call, NULL));
    return status;
}

CylStatus cyl_check_traces(const CylModel *model, const CylCall *call) {
    for (int32_t n = 0; call->traces && n < call->trace_count; n++) {
        const CylLayerTrace *trace = &call->traces[n];
        if (trace->layer < 0 || trace->layer >= model->layer_count || !model->layers[trace->layer].recurrent ||
            trace->to.steps < 1) {
            return CYL_E_ARGUMENT;
        }
    }
    return CYL_OK;
}

int64_t cyl_call_steps(const CylModel *model, const CylCall *call, const CylValue *value, int64_t taken) {
    const int32_t input = value->axis >= 0 ? model->axes[value->axis].input : -1;
    return value->axis < 0 ? 1
           : value->axis < model->input_count
               ? call->times[value->axis]
               : cyl_axis_gain(model, value->axis, taken, input < 0 ? 0 : call->times[input]);
}

double cyl_call_work(const CylModel *model, const CylCall *call) {
    int64_t longest = 1;
    for (int32_t i = 0; i < model->input_count; i++) {
        bool counts = model->values[model->inputs[i]].has_time;
        longest = counts && call->times[i] > longest ? call->times[i] : longest;
    }
    return (double)model->work * (double)call->rows * (double)longest;
}
