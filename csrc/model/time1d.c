/* Windows over time, of convolutions and pooling: kernel, stride, dilation and padding, and what they make of time. */
#include "cylstm.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"

CylStatus cyl_time1d_read(const CylLayerSpec *spec, CylLayer *layer, int32_t kernel, CylTime1d *time) {
    static const char *const paddings[] = {"valid", "same", "causal", "explicit", NULL};
    const int32_t most = 1 << 20;
    int found;
    bool has_ceil = false;
    CYL_TRY(cyl_spec_choice(spec, "padding", paddings, &found));
    CYL_TRY(cyl_spec_whole(spec, "stride", 1, most, &time->stride));
    CYL_TRY(cyl_spec_whole(spec, "dilation", 1, most, &time->dilation));
    CYL_TRY(cyl_spec_whole(spec, "pad_before", 0, most, &time->before));
    CYL_TRY(cyl_spec_whole(spec, "pad_after", 0, most, &time->after));
    if (cyl_spec_has_option(spec, "ceil_mode")) {
        CYL_TRY(cyl_spec_flag(spec, "ceil_mode", &has_ceil));
    }
    if (found != CYL_PAD_EXPLICIT && (time->before || time->after)) {
        return CYL_E_OPTION;
    }
    time->padding = (CylPadding)found;
    time->kernel = kernel;
    time->reach = (int64_t)(kernel - 1) * time->dilation + 1;
    time->counted_after = time->after;
    if (time->reach > (1 << 24)) {
        return CYL_E_OPTION;
    }
    if (has_ceil) {
        /* one more window for the steps left over, allowed only where it always begins within the input */
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
    /* A window that lies within its stride needs no earlier steps, and a causal one carries them; all others need the
       whole sequence. */
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
