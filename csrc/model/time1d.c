/* Windows over time, of convolutions and pooling: kernel, stride, dilation and padding, and what they make of time. */
#include "cylstm.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "model/time1d.h"

CylStatus cyl_window_read(const CylLayerSpec *spec, const CylWindowNames *names, int32_t kernel, CylTime1d *window) {
    static const char *const paddings[] = {"valid", "same", "causal", "explicit", NULL};
    const int32_t most = 1 << 20;
    int found = CYL_PAD_EXPLICIT;
    if (names->padding) {
        CYL_TRY(cyl_spec_choice(spec, names->padding, paddings, &found));
    }
    CYL_TRY(cyl_spec_whole(spec, names->stride, 1, most, &window->stride));
    CYL_TRY(cyl_spec_whole(spec, names->dilation, 1, most, &window->dilation));
    CYL_TRY(cyl_spec_whole(spec, names->before, 0, most, &window->before));
    CYL_TRY(cyl_spec_whole(spec, names->after, 0, most, &window->after));
    if (found != CYL_PAD_EXPLICIT && (window->before || window->after)) {
        return CYL_E_OPTION;
    }
    window->padding = (CylPadding)found;
    window->kernel = kernel;
    window->reach = (int64_t)(kernel - 1) * window->dilation + 1;
    window->counted_after = window->after;
    return window->reach > (1 << 24) ? CYL_E_OPTION : CYL_OK;
}

void cyl_time1d_set_rule(CylLayer *layer, const CylTime1d *time) {
    bool is_same = time->padding == CYL_PAD_SAME, is_causal = time->padding == CYL_PAD_CAUSAL;
    int64_t pads = (int64_t)time->before + time->after;
    layer->time_kind = CYL_TIME_RULED;
    layer->rule = is_same || is_causal ? (CylTimeRule){time->stride - 1, time->stride, 1}
                                       : (CylTimeRule){pads - time->reach + time->stride, time->stride, 1};
    layer->reach = time->reach;
    layer->pads_before = is_causal ? time->reach - 1 : time->before;
    /* "same" and ceil_mode pad a sequence that is no multiple of the stride, by its length; others need what follows
       where padding does */
    const bool has_ceil = time->after > time->counted_after;
    if (is_same || has_ceil) {
        layer->is_whole = time->reach > time->stride || time->before || time->counted_after;
        layer->needs_multiple = time->reach > 1 ? time->stride : 1;
    } else {
        layer->is_whole = time->after > 0 || layer->pads_before >= time->reach;
    }
}

CylStatus cyl_time1d_read(const CylLayerSpec *spec, CylLayer *layer, int32_t kernel, CylTime1d *time) {
    static const CylWindowNames names = {"stride", "dilation", "padding", "pad_before", "pad_after"};
    bool has_ceil = false;
    CYL_TRY(cyl_window_read(spec, &names, kernel, time));
    if (cyl_spec_has_option(spec, "ceil_mode")) {
        CYL_TRY(cyl_spec_flag(spec, "ceil_mode", &has_ceil));
    }
    if (has_ceil) {
        /* one more window for the steps left over; whether it begins within the input is for the layer to check */
        if (time->padding == CYL_PAD_SAME || time->padding == CYL_PAD_CAUSAL) {
            return CYL_E_OPTION;
        }
        time->after += time->stride - 1;
    }
    cyl_time1d_set_rule(layer, time);
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

int64_t cyl_time1d_windows(const CylTime1d *time, int64_t steps) {
    int64_t before, after;
    cyl_time1d_pads(time, steps, &before, &after);
    int64_t padded = before + steps + after;
    return padded < time->reach ? 0 : (padded - time->reach) / time->stride + 1;
}
