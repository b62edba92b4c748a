/* Windows over time, of convolutions and pooling: kernel, stride, dilation and padding, and what they make of time. */
#include "cylstm.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/time1d.h"

#include <string.h>

static CylStatus read_whole(const CylLayerSpec *spec, const char *name, double least, int32_t *number) {
    double value;
    if (cyl_spec_number(spec, name, least, &value) || value > (1 << 20) || value != (int32_t)value) {
        return CYL_E_OPTION;
    }
    *number = (int32_t)value;
    return CYL_OK;
}

CylStatus cyl_time1d_read(const CylLayerSpec *spec, CylLayer *layer, int32_t kernel, CylTime1d *time) {
    static const char *const names[] = {"valid", "same", "causal", "explicit"};
    const CylOption *padding = cyl_spec_option(spec, "padding"), *ceil = cyl_spec_option(spec, "ceil_mode");
    if (!padding || !padding->text || read_whole(spec, "stride", 1.0, &time->stride) ||
        read_whole(spec, "dilation", 1.0, &time->dilation) || read_whole(spec, "pad_before", 0.0, &time->before) ||
        read_whole(spec, "pad_after", 0.0, &time->after) || (ceil && ceil->text)) {
        return CYL_E_OPTION;
    }
    int32_t found = -1;
    for (int32_t i = 0; i < 4; i++) {
        found = strcmp(padding->text, names[i]) == 0 ? i : found;
    }
    if (found < 0 || (found != CYL_PAD_EXPLICIT && (time->before || time->after))) {
        return CYL_E_OPTION;
    }
    time->padding = (CylPadding)found;
    time->kernel = kernel;
    time->reach = (int64_t)(kernel - 1) * time->dilation + 1;
    time->counted_after = time->after;
    if (time->reach > (1 << 24)) {
        return CYL_E_OPTION;
    }
    if (ceil && ceil->number != 0.0) {
        /* a window more, for the steps left; only where it always begins inside */
        if (time->stride > time->reach - time->before || found == CYL_PAD_SAME || found == CYL_PAD_CAUSAL) {
            return CYL_E_OPTION;
        }
        time->after += time->stride - 1;
    }
    layer->time_kind = CYL_TIME_RULED;
    int64_t pads = (int64_t)time->before + time->after;
    layer->rule = found == CYL_PAD_SAME || found == CYL_PAD_CAUSAL
                      ? (CylTimeRule){time->stride - 1, time->stride, 1}
                      : (CylTimeRule){pads - time->reach + time->stride, time->stride, 1};
    /* a window within each stride needs no other steps; causal ones are carried */
    bool is_apart = !pads && found != CYL_PAD_SAME && time->reach <= time->stride;
    layer->is_whole = !is_apart && found != CYL_PAD_CAUSAL && !(found == CYL_PAD_SAME && time->reach == 1);
    return CYL_OK;
}

void cyl_time1d_pads(const CylTime1d *time, int64_t steps, int64_t *before, int64_t *after) {
    *before = time->before;
    *after = time->after;
    if (time->padding == CYL_PAD_CAUSAL) {
        *before = time->reach - 1;
    } else if (time->padding == CYL_PAD_SAME) {
        int64_t outputs = (steps + time->stride - 1) / time->stride;
        int64_t total = (outputs - 1) * time->stride + time->reach - steps;
        total = total > 0 ? total : 0;
        *before = total / 2;
        *after = total - total / 2;
    }
}
