/* Windows over time, as convolutions and poolings have them (time1d.c). */
#ifndef CYL_TIME1D_H
#define CYL_TIME1D_H

#include "cylstm.h"
#include "model/model.h"

#include <stdint.h>

typedef enum { CYL_PAD_VALID = 0, CYL_PAD_SAME, CYL_PAD_CAUSAL, CYL_PAD_EXPLICIT } CylPadding;

typedef struct {
    CylPadding padding;
    int32_t kernel, stride, dilation, before, after; /* before and after are the explicit padding */
    int32_t counted_after;                           /* the part of `after` that an average may count */
    int64_t reach;                                   /* steps from the first tap to the last, both counted */
} CylTime1d;

/* reads stride, dilation, padding, pad_before, pad_after and ceil_mode (if there), and sets the layer's rule of time */
CylStatus cyl_time1d_read(const CylLayerSpec *spec, CylLayer *layer, int32_t kernel, CylTime1d *time);
/* Sets the steps of padding before and after an input of `steps` steps. */
void cyl_time1d_pads(const CylTime1d *time, int64_t steps, int64_t *before, int64_t *after);

#endif
