/* Windows over time, as convolutions and poolings have them (time1d.c). */
#ifndef CYL_TIME1D_H
#define CYL_TIME1D_H

#include "cylstm.h"
#include "model/model.h"
#include "platform/rare.h"

#include <stdint.h>

typedef enum { CYL_PAD_VALID = 0, CYL_PAD_SAME, CYL_PAD_CAUSAL, CYL_PAD_EXPLICIT } CylPadding;

typedef struct {
    CylPadding padding;
    int32_t kernel, stride, dilation, before, after; /* before and after are the explicit padding */
    int32_t counted_after;                           /* the part of `after` that an average may count */
    int64_t reach;                                   /* steps from the first tap to the last, both counted */
} CylTime1d;

/* the names of the options of one axis of windows; `padding` NULL where it is always explicit */
typedef struct {
    const char *stride, *dilation, *padding, *before, *after;
} CylWindowNames;

/* Reads stride, dilation, padding, pad_before, pad_after and ceil_mode (if there), and sets the layer's rule of time.
 */
CYL_RARE CylStatus cyl_time1d_read(const CylLayerSpec *spec, CylLayer *layer, int32_t kernel, CylTime1d *time);
/* The same in two: an axis of any name, which need not be time; and the layer's rule, where it is. */
CYL_RARE CylStatus cyl_window_read(const CylLayerSpec *spec, const CylWindowNames *names, int32_t kernel,
                                   CylTime1d *window);
CYL_RARE void cyl_time1d_set_rule(CylLayer *layer, const CylTime1d *time);
/* Sets the steps of padding before and after an input of `steps` steps. */
void cyl_time1d_pads(const CylTime1d *time, int64_t steps, int64_t *before, int64_t *after);
/* The number of windows of an input of `steps` steps, 0 if it is too short for one. */
int64_t cyl_time1d_windows(const CylTime1d *time, int64_t steps);

#endif
